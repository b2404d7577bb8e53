"""What Bedrock's constructs cannot be made of is refused before any child exists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns

from support_stack import REGION, make_app
from support_unit_stack import make_units
from tokenmill import OfficeHours, ServedModel
from tokenmill.batch import BatchFiles, BatchInference
from tokenmill.bedrock import (
    BedrockResources,
    CacheAlarm,
    Guardrail,
    GuardrailPolicies,
    InferenceProfile,
    InvocationLogging,
    LogBucket,
    LogStream,
    ManagedPrompt,
    PromptRouter,
    PromptVariable,
    PromptVariant,
    QuotaAlarms,
    TokenQuota,
    UnitAlarms,
    UnitCapacity,
    UnlistedModel,
    Words,
)
from tokenmill.core.errors import TokenmillError
from tokenmill.customization import (
    FineTuning,
    ImportSource,
    ModelArtifact,
    ModelCustomization,
    ModelDeployment,
    ModelImport,
    TrainingData,
)
from tokenmill.gateway import TokenLimits
from tokenmill.security import FunctionHosting
from tokenmill_runtime.token_work import TokenWorkCoefficients
from tokenmill_runtime.units_schedule import slot_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from constructs import Construct

LITE, US = "amazon.nova-lite-v1:0", "us.amazon.nova-lite-v1:0"
HAIKU = "us.anthropic.claude-3-haiku-20240307-v1:0"
SONNET = "us.anthropic.claude-3-5-sonnet-20240620-v1:0"
POLICIES = GuardrailPolicies(words=Words(words=("a",)))
NOVA = "s3://customer-escrow-111122223333/checkpoint/"
WRONG = (object(), 7, "x", [None], {"a": 1}, b"x", cdk.Fn.ref("Given"))
CUSTOM = "arn:aws:bedrock:us-east-1:{}:custom-model/amazon.nova-lite-v1:0:24k/abcdefghijkl"


def profile(scope: Construct, id: str = "X", **changes: Any) -> InferenceProfile:
    return InferenceProfile(scope, id, **{"model": US, **changes})


def router(scope: Construct, id: str = "X", **changes: Any) -> PromptRouter:
    sound = {"models": [HAIKU, SONNET], "fallback": HAIKU, "quality_difference": 10}
    return PromptRouter(scope, id, **sound | changes)


def guardrail(scope: Construct, id: str = "X", **changes: Any) -> Guardrail:
    return Guardrail(scope, id, **{"policies": POLICIES, **changes})


def quota(scope: Construct, id: str = "X", **changes: Any) -> TokenQuota:
    return TokenQuota(scope, id, **{"models": [LITE], "tokens_per_minute": 1000, **changes})


def prompt(scope: Construct, id: str = "X", **changes: Any) -> ManagedPrompt:
    variants = [PromptVariant(name="a", model=LITE, template="hello {{x}}")]
    variables = [PromptVariable(name="x", max_tokens=5)]
    return ManagedPrompt(
        scope, id, **{"variants": variants, "variables": variables, "max_prompt_tokens": 1000, **changes}
    )


def logging(scope: Construct, id: str = "X", **changes: Any) -> InvocationLogging:
    return InvocationLogging(scope, id, **{"stream": LogStream(), **changes})


def batch(scope: Construct, id: str = "X", **changes: Any) -> BatchInference:
    return BatchInference(scope, id, **{"model": LITE, **changes})


def units(scope: Construct, id: str = "X", **changes: Any) -> Any:
    return make_units(scope, id, **changes)


MAKERS = (profile, router, guardrail, quota, prompt, logging, batch, units)
KINDS: list[tuple[Callable[..., Any], tuple[str, ...]]] = [
    (profile, ("model", "tags", "description", "allow_unlisted")),
    (router, ("models", "fallback", "quality_difference", "allow_unlisted")),
    (guardrail, ("policies", "kept_versions", "encryption_key")),
    (quota, ("models", "load", "alarms")),
    (prompt, ("variants", "variables", "encryption_key", "cache_alarm", "allow_unlisted")),
    (logging, ("stream", "bucket", "data", "replace_existing", "removal_policy")),
    (batch, ("files", "records", "jobs", "prices", "hosting")),
    (units, ("units", "commitment", "replacement", "protected", "alarms", "hourly_usd")),
]


@pytest.mark.parametrize(
    ("make", "name"), [pytest.param(m, n, id=f"{m.__name__}-{n}") for m, names in KINDS for n in names]
)
def test_fails_for_a_value_of_another_kind(stack: cdk.Stack, make: Callable[..., Any], name: str) -> None:
    """Never with an error of jsii, and the stack stays empty."""
    for wrong in WRONG:
        if (name, wrong) in (
            ("description", "x"),
            ("quality_difference", 7),
            ("units", 7),
            ("hourly_usd", 7),
        ):
            continue
        with pytest.raises(TokenmillError):
            make(stack, **{name: wrong})
    assert stack.node.children == []


@pytest.mark.parametrize("make", MAKERS)
def test_fails_for_a_place_where_nothing_can_stand(
    tmp_path: Path, stack: cdk.Stack, make: Callable[..., Any]
) -> None:
    """An app, what is no construct, an id that is taken or none, and China."""
    app = make_app(tmp_path / "app")
    china = cdk.Stack(app, "china", env=cdk.Environment(region="cn-north-1"))
    cdk.CfnOutput(stack, "X", value="taken")
    for scope, id, says in (
        (app, "X", "give a stack"),
        ("stack", "X", "scope is 'stack'"),
        (stack, "X", "a construct called 'X' already"),
        (stack, "", "id must be a text"),
        (china, "X", "cn-north-1 has no Amazon Bedrock"),
    ):
        with pytest.raises(TokenmillError, match=says):
            make(scope, id)
    assert len(stack.node.children) == 1
    assert china.node.children == []


@pytest.mark.parametrize(
    ("make", "region", "says"),
    [
        (guardrail, "af-south-1", "af-south-1 has no AWS::Bedrock::Guardrail"),
        (prompt, "us-west-1", "us-west-1 has no AWS::Bedrock::Prompt"),
        (router, "us-gov-west-1", "no intelligent prompt routers"),
        (profile, "us-gov-west-1", "no application inference profiles"),
    ],
)
def test_fails_in_regions_without_the_type(
    tmp_path: Path, make: Callable[..., Any], region: str, says: str
) -> None:
    """CloudFormation would refuse the template there."""
    stack = cdk.Stack(make_app(tmp_path), "test", env=cdk.Environment(region=region))
    with pytest.raises(TokenmillError, match=says):
        make(stack)
    assert stack.node.children == []


@pytest.fixture
def elsewhere(stack: cdk.Stack) -> cdk.Stack:
    """A stack of the same app in another region."""
    return cdk.Stack(cdk.App.of(stack), "elsewhere", env=cdk.Environment(region="eu-west-1"))


ELSEWHERE: dict[str, Callable[[Any, cdk.Stack], Any]] = {
    "guardrail-key": lambda here, there: guardrail(here, encryption_key=kms.Key(there, "K")),
    "prompt-key": lambda here, there: prompt(here, encryption_key=kms.Key(there, "K")),
    "prompt-topic": lambda here, there: prompt(here, cache_alarm=CacheAlarm(topic=sns.Topic(there, "T"))),
    "quota-topic": lambda here, there: quota(here, alarms=QuotaAlarms(topic=sns.Topic(there, "T"))),
    "units-topic": lambda here, there: units(here, alarms=UnitAlarms(topic=sns.Topic(there, "T"))),
    "log-bucket": lambda here, there: logging(here, bucket=LogBucket(bucket=s3.Bucket(there, "B"))),
    "log-key": lambda here, there: logging(here, stream=LogStream(encryption_key=kms.Key(there, "K"))),
    "batch-bucket": lambda here, there: batch(here, files=BatchFiles(bucket=s3.Bucket(there, "B"))),
    "hosting": lambda here, there: BedrockResources.of(
        here, hosting=FunctionHosting(encryption_key=kms.Key(there, "K"))
    ),
    "fallback": lambda here, there: units(here, fallback=profile(there, model="eu.amazon.nova-lite-v1:0")),
    "fallback-arn": lambda here, _: units(
        here, fallback=f"arn:aws:bedrock:eu-west-1::foundation-model/{LITE}"
    ),
    "units-model": lambda here, _: units(
        here, model=UnlistedModel(CUSTOM.format("111122223333").replace(REGION, "eu-west-1"))
    ),
    "quota-model": lambda here, there: quota(here, models=[profile(there, model="eu.amazon.nova-lite-v1:0")]),
    "batch-model": lambda here, there: batch(here, model=profile(there, model="eu.amazon.nova-lite-v1:0")),
    "package": lambda here, _: ModelImport(
        here,
        "X",
        artifact=ModelArtifact(cdk.Stack(cdk.App.of(here), "artifact"), "A"),
        source=ImportSource.package("arn:aws:sagemaker:eu-west-1:111122223333:model-package/a/1"),
    ),
}


@pytest.mark.parametrize("case", ELSEWHERE)
def test_fails_for_what_is_in_another_region(stack: cdk.Stack, elsewhere: cdk.Stack, case: str) -> None:
    """It would fail in the deployment, or synthesize a reference between regions."""
    with pytest.raises(TokenmillError, match=r"in eu-west-1, (and|but) the stack"):
        ELSEWHERE[case](stack, elsewhere)
    assert stack.node.children == []


def test_fails_for_a_model_of_another_account(tmp_path: Path) -> None:
    """Units are bought of the account's own models, and profiles are called in their own account."""
    app = make_app(tmp_path)
    stack = cdk.Stack(app, "test", env=cdk.Environment(region=REGION, account="111122223333"))
    other = cdk.Stack(app, "other", env=cdk.Environment(region=REGION, account="999922223333"))
    with pytest.raises(TokenmillError, match="is of account 999922223333"):
        units(stack, model=CUSTOM.format("999922223333"))
    with pytest.raises(TokenmillError, match="of account 999922223333"):
        units(stack, fallback=profile(other))
    assert stack.node.children == []


@pytest.mark.parametrize(
    ("fallback", "says"),
    [
        ("arn:aws:bedrock:us-east-1:111122223333:provisioned-model/abc", "fallback has provisioned units"),
        ("arn:aws:s3:::b", "is no ARN of a model"),
        (7, "fallback is 7"),
    ],
)
def test_fails_for_a_fallback_that_is_none(stack: cdk.Stack, fallback: Any, says: str) -> None:
    """Other units may be missing as well."""
    with pytest.raises(TokenmillError, match=says):
        units(stack, fallback=fallback)
    assert stack.node.children == []
    reserve = units(stack, "Reserve")
    with pytest.raises(TokenmillError, match="fallback has provisioned units"):
        units(stack, fallback=reserve)


def test_fails_for_schedules_that_own_units_twice_or_cannot_be_told_apart(stack: cdk.Stack) -> None:
    """Own units would be bought twice; a slot has two digits of an id's digest."""
    made, hours = make_units(stack), OfficeHours(start="08:00", end="18:00")
    made.add_schedule("A/b", hours)
    with pytest.raises(TokenmillError, match="overlap, and both own the resource's own units"):
        made.add_schedule("Noon", OfficeHours(start="11:00", end="12:00", days="WED"))
    with pytest.raises(TokenmillError, match="called 'A--b' already"):
        made.add_schedule("A--b", hours, units=1)
    with pytest.raises(TokenmillError, match="hours is '8-18'"):
        made.add_schedule("Other", "8-18", units=1)
    same = next(f"H{n}" for n in range(2000) if slot_for({"Id": f"H{n}"}) == slot_for({"Id": "A/b"}))
    with pytest.raises(TokenmillError, match="the same short digest"):
        made.add_schedule(same, hours, units=1)
    made.add_schedule("Weekend", OfficeHours(start="08:00", end="18:00", days="SAT,SUN"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"capacity": 7}, "capacity is 7"),
        ({"ceiling": 101}, "ceiling is 101"),
        ({"daily_usd": 1e30}, "daily_usd is 1e[+]30"),
        ({"daily_usd": 1.0}, "over the spend guard"),
    ],
)
def test_fails_for_scaling_beyond_reason(stack: cdk.Stack, changes: dict[str, Any], says: str) -> None:
    """With nothing added to the units."""
    made = make_units(stack)
    before = len(made.node.children)
    capacity = UnitCapacity(input_tokens_per_minute=1.0, output_tokens_per_minute=1.0)
    with pytest.raises(TokenmillError, match=says):
        made.scale_on_tokens(
            **{"capacity": capacity, "floor": 2, "ceiling": 3, "daily_usd": 2000.0} | changes
        )
    assert len(made.node.children) == before


def test_fails_for_a_second_logging_and_a_policy_that_buckets_do_not_have(stack: cdk.Stack) -> None:
    """Invocation logging is one setting; S3 has no snapshots."""
    with pytest.raises(TokenmillError, match="RemovalPolicy.RETAIN, RemovalPolicy.DESTROY"):
        logging(stack, removal_policy=cdk.RemovalPolicy.SNAPSHOT)
    logging(stack, "First")
    with pytest.raises(TokenmillError, match="test/First sets invocation logging already"):
        logging(stack, "Second")


def test_fails_for_models_that_no_batch_job_takes(stack: cdk.Stack) -> None:
    """A router's ARN is a token, so the construct says it."""
    made = router(stack, "Router")
    with pytest.raises(TokenmillError, match="model is a PromptRouter"):
        batch(stack, model=made)
    with pytest.raises(TokenmillError, match="Bedrock's jobs write there"):
        batch(stack, files=BatchFiles(output_prefix="ü"))


def test_fails_for_a_quota_s_models_and_target(stack: cdk.Stack) -> None:
    """A model counted twice, and a dimension that CloudWatch refuses."""
    for changes, says in (
        ({"models": [LITE, LITE]}, "give each once"),
        ({"target": "ü"}, "all of ASCII"),
        ({"target": "a" * 256}, "of 256 characters"),
    ):
        with pytest.raises(TokenmillError, match=says):
            quota(stack, **changes)
    assert stack.node.children == []


def test_fails_for_jobs_of_other_kinds(stack: cdk.Stack) -> None:
    """Artifact, source, data, recipe and key are checked before the job is made."""
    artifact, source = ModelArtifact(stack, "Artifact"), ImportSource.nova(NOVA)
    data = TrainingData(bucket=s3.Bucket(stack, "Data"), training="a.jsonl")
    before = len(stack.node.children)
    sound = {"artifact": artifact, "base_model": "amazon.nova-lite-v1:0:300k", "recipe": FineTuning()}
    for wrong in WRONG:
        for name in ("artifact", "source", "encryption_key", "limit_hours", "hosting"):
            if (name, wrong) != ("limit_hours", 7):
                with pytest.raises(TokenmillError):
                    ModelImport(stack, "X", **{"artifact": artifact, "source": source, name: wrong})
        for name in ("artifact", "base_model", "recipe", "data", "encryption_key"):
            with pytest.raises(TokenmillError):
                ModelCustomization(stack, "X", **sound | {"data": data, name: wrong})
    assert len(stack.node.children) == before


def test_fails_for_a_deployment_s_values(stack: cdk.Stack, elsewhere: cdk.Stack) -> None:
    """A version, a fallback whose rights are known, and tags as AWS takes them."""
    jobs = cdk.Stack(cdk.App.of(stack), "jobs", env=cdk.Environment(region=REGION))
    artifact = ModelArtifact(jobs, "A")
    ModelImport(jobs, "I", artifact=artifact, source=ImportSource.nova(NOVA))
    version = artifact.version("1")
    for changes, says in (
        ({"model": "1"}, "model is '1'; give an ArtifactVersion"),
        ({"fallback": LITE}, "whose rights are known"),
        ({"fallback": profile(elsewhere, "P", model="eu.amazon.nova-lite-v1:0")}, "is in eu-west-1"),
        ({"tags": "x"}, "tags is 'x'"),
        ({"tags": {"aws:x": "y"}}, "no key begins with aws:"),
        ({"tags": {"tokenmill:x": "y"}}, "no key begins with aws:"),
        ({"tags": {"k" * 129: "y"}}, "a key has 1 to 128"),
        ({"tags": {f"k{n}": "y" for n in range(41)}}, "tags has 41 tags"),
    ):
        with pytest.raises(TokenmillError, match=says):
            ModelDeployment(stack, "X", **{"model": version, **changes})
    assert stack.node.children == []


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("arn:aws:s3:::b", "no ARN of what Bedrock answers with"),
        (
            "arn:aws:bedrock:eu-west-1:111122223333:provisioned-model/abc",
            "of eu-west-1, and the gateway calls",
        ),
        ("amazon.nova-light-v1:0", "nearest known: amazon.nova-lite-v1:0"),
        ("eu.amazon.nova-lite-v1:0", "cannot be called from us-east-1"),
    ],
)
def test_fails_for_a_served_model_that_cannot_be_called(stack: cdk.Stack, model: str, says: str) -> None:
    """The gateway checks its models before it is made."""
    work = TokenWorkCoefficients(
        prefill_seconds_per_request=0.0, prefill_seconds_per_token=0.0005, decode_seconds_per_token=0.02
    )
    limits = TokenLimits(context_tokens=1000, max_output_tokens=100)
    with pytest.raises(TokenmillError, match=says):
        ServedModel.on_bedrock(model, name="x", limits=limits, token_work=work).check(stack)
    assert stack.node.children == []


def test_fails_where_the_resources_have_no_place(tmp_path: Path, stack: cdk.Stack) -> None:
    """An app has no function, and a construct of the user's may have taken the name."""
    with pytest.raises(TokenmillError, match="give a stack"):
        BedrockResources.of(make_app(tmp_path / "app"))
    with pytest.raises(TokenmillError, match="hosting is 7"):
        BedrockResources.of(stack, hosting=7)
    cdk.CfnOutput(stack, "TokenmillBedrock", value="taken")
    with pytest.raises(TokenmillError, match="a construct called 'TokenmillBedrock' already"):
        BedrockResources.of(stack)
