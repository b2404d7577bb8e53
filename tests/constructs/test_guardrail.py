"""Guardrails: what is rendered, when a new version is made, who may use it, what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms

from support_stack import REGION, WORK, make_app, of_type, only, plan, statements, template_of
from tokenmill.bedrock import (
    BedrockOptions,
    BlockedMessages,
    ContentFilter,
    DeniedTopic,
    Grounding,
    Guardrail,
    GuardrailMode,
    GuardrailPolicies,
    Harm,
    Latency,
    Pattern,
    PersonalData,
    PromptUse,
    ServiceTier,
    Strength,
    Treatment,
    Words,
)
from tokenmill.core.errors import TokenmillError
from tokenmill.endpoints import LlmEndpoint
from tokenmill.gateway import ApiKeyTable, ChatGateway, ServedModel, TokenLimits
from tokenmill_runtime.gateway_config import GatewayConfig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LIMITS = TokenLimits(context_tokens=8192, max_output_tokens=1024)
RESOURCE = "AWS::Bedrock::Guardrail"
VERSION = "AWS::Bedrock::GuardrailVersion"
WORDS = GuardrailPolicies(words=Words(words=("bomb",)))
ARN = "arn:aws:bedrock:us-east-1:111122223333:guardrail/abc123"


def everything() -> GuardrailPolicies:
    """A policy of each kind."""
    return GuardrailPolicies(
        filters=(
            ContentFilter(harm=Harm.HATE, question=Strength.MEDIUM),
            ContentFilter(harm=Harm.PROMPT_ATTACK, answer=Strength.NONE),
        ),
        topics=(DeniedTopic(name="Stocks", definition="Advice on shares.", examples=("What to buy?",)),),
        words=Words(words=("bomb",), profanity=True),
        personal_data=PersonalData(
            block=("PASSWORD",),
            mask=("EMAIL",),
            patterns=(Pattern(name="account", regex=r"AC-\d{6}", treatment=Treatment.MASK),),
        ),
        grounding=Grounding(grounded=0.7),
        messages=BlockedMessages(question="No.", answer="Withheld."),
    )


def test_every_policy_is_rendered(stack: cdk.Stack) -> None:
    """In CloudFormation's names, with the default strength HIGH."""
    Guardrail(stack, "Guardrail", policies=everything())
    properties = only(template_of(stack), RESOURCE)["Properties"]
    assert properties.pop("Name").startswith("test-Guardrail") or "Guardrail" in properties["Name"]
    assert properties == {
        "BlockedInputMessaging": "No.",
        "BlockedOutputsMessaging": "Withheld.",
        "ContentPolicyConfig": {
            "FiltersConfig": [
                {"Type": "HATE", "InputStrength": "MEDIUM", "OutputStrength": "HIGH"},
                {"Type": "PROMPT_ATTACK", "InputStrength": "HIGH", "OutputStrength": "NONE"},
            ]
        },
        "ContextualGroundingPolicyConfig": {"FiltersConfig": [{"Type": "GROUNDING", "Threshold": 0.7}]},
        "SensitiveInformationPolicyConfig": {
            "PiiEntitiesConfig": [
                {"Type": "PASSWORD", "Action": "BLOCK"},
                {"Type": "EMAIL", "Action": "ANONYMIZE"},
            ],
            "RegexesConfig": [{"Name": "account", "Pattern": r"AC-\d{6}", "Action": "ANONYMIZE"}],
        },
        "TopicPolicyConfig": {
            "TopicsConfig": [
                {
                    "Name": "Stocks",
                    "Definition": "Advice on shares.",
                    "Type": "DENY",
                    "Examples": ["What to buy?"],
                }
            ]
        },
        "WordPolicyConfig": {
            "ManagedWordListsConfig": [{"Type": "PROFANITY"}],
            "WordsConfig": [{"Text": "bomb"}],
        },
    }


def versions(policies: GuardrailPolicies, **options: Any) -> dict[str, str]:
    """Description of each version by logical id."""
    stack = cdk.Stack(cdk.App(), "test", env=cdk.Environment(region=REGION))
    Guardrail(stack, "Guardrail", policies=policies, **options)
    found = of_type(template_of(stack), VERSION)
    return {key: item["Properties"]["Description"] for key, item in found.items()}


def test_a_change_of_the_policies_makes_another_version() -> None:
    """And nothing else does: the same policies keep their version whatever else is in the stack."""
    before, same = versions(WORDS), versions(GuardrailPolicies(words=Words(words=("bomb",))))
    after = versions(GuardrailPolicies(words=Words(words=("bomb", "gun"))))
    assert before == same
    assert len(after) == 1
    assert set(after) & set(before) == set()


def test_a_version_that_others_name_stays_as_it_is() -> None:
    """Its logical id and properties are those that it was made with, so CloudFormation leaves it alone."""
    before = versions(WORDS)
    after = versions(GuardrailPolicies(words=Words(profanity=True)), kept_versions=[WORDS.digest])
    assert set(before) < set(after)
    assert after[next(iter(before))] == before[next(iter(before))]


def test_who_uses_it_may_have_texts_assessed_by_it_alone(stack: cdk.Stack) -> None:
    """And may decrypt with its key, where it has one of its own."""
    key = kms.Key(stack, "Key")
    guardrail = Guardrail(stack, "Guardrail", policies=WORDS, encryption_key=key)
    role = iam.Role(stack, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
    guardrail.grant_apply(role)
    template = template_of(stack)
    granted = {json.dumps(found["Action"]): found["Resource"] for found in statements(template, "Role")}
    (resource,) = of_type(template, RESOURCE)
    assert granted['"bedrock:ApplyGuardrail"'] == {"Fn::GetAtt": [resource, "GuardrailArn"]}
    (key_id,) = of_type(template, "AWS::KMS::Key")
    assert granted['"kms:Decrypt"'] == {"Fn::GetAtt": [key_id, "Arn"]}
    assert only(template, RESOURCE)["Properties"]["KmsKeyArn"] == {"Fn::GetAtt": [key_id, "Arn"]}


def test_metrics_are_those_of_the_version(stack: cdk.Stack) -> None:
    """In Bedrock's own namespace."""
    guardrail = Guardrail(stack, "Guardrail", policies=WORDS)
    for metric, name in (
        (guardrail.metric_interventions(), "InvocationsIntervened"),
        (guardrail.metric_text_units(), "TextUnitCount"),
    ):
        assert (metric.namespace, metric.metric_name) == ("AWS/Bedrock/Guardrails", name)
        assert set(metric.dimensions or {}) == {"GuardrailArn", "GuardrailVersion"}


def documents(stack: cdk.Stack, *models: ServedModel) -> list[dict[str, Any]]:
    """The models of the gateway's document, its references replaced by a text."""
    ChatGateway(stack, "Gateway", models=models, api_keys=ApiKeyTable(stack, "Keys"))
    found = [
        item["Properties"]["Environment"]["Variables"]["TOKENMILL_GATEWAY"]
        for item in of_type(template_of(stack), "AWS::Lambda::Function").values()
        if "TOKENMILL_GATEWAY" in json.dumps(item)
    ]
    text = found[0]
    joined = (
        text
        if isinstance(text, str)
        else "".join(part if isinstance(part, str) else "resolved" for part in text["Fn::Join"][1])
    )
    GatewayConfig.from_environment({"TOKENMILL_GATEWAY": joined})
    models_found: list[dict[str, Any]] = json.loads(joined)["models"]
    return models_found


def test_a_gateway_takes_it_for_bedrock_and_for_sagemaker(stack: cdk.Stack) -> None:
    """Its ARN, version and mode stand in the function's document, and its right in the function's policy."""
    hook = Guardrail(stack, "Guardrail", policies=WORDS).hook(mode=GuardrailMode.ASYNC)
    nova = ServedModel.on_bedrock(
        "amazon.nova-lite-v1:0",
        name="nova",
        limits=LIMITS,
        token_work=WORK,
        options=BedrockOptions(guardrail=hook, service_tier=ServiceTier.FLEX, latency=Latency.OPTIMIZED),
    )
    endpoint = LlmEndpoint.from_component_name(stack, "Llm", endpoint_name="chat", component_name="chat-1")
    own = ServedModel.on_endpoint(
        endpoint, name="own", limits=LIMITS, token_work=WORK, plan_hash=plan().hash, guardrail=hook
    )
    first, second = documents(stack, nova, own)
    use = {
        "id": "resolved",
        "version": "resolved",
        "mode": "async",
        "blocked_input": "This request is against the rules of this service.",
    }
    assert first["guardrail"] == second["guardrail"] == use
    assert first["bedrock"] == {"service_tier": "flex", "latency": "optimized"}
    assert "bedrock" not in second
    granted = statements(template_of(stack), "GatewayFunctionRole")
    assert sum(found["Action"] == "bedrock:ApplyGuardrail" for found in granted) == 1


def test_one_that_stands_elsewhere_is_named_by_arn_and_version(stack: cdk.Stack) -> None:
    """Its messages are not known, so blocked questions end as answers do."""
    guardrail = Guardrail.from_guardrail_arn(ARN, version="3")
    options = BedrockOptions(guardrail=guardrail.hook())
    model = ServedModel.on_bedrock(
        "amazon.nova-lite-v1:0", name="nova", limits=LIMITS, token_work=WORK, options=options
    )
    (document,) = documents(stack, model)
    assert document["guardrail"] == {"id": ARN, "version": "3", "mode": "sync"}
    granted = statements(template_of(stack), "GatewayFunctionRole")
    assert [found["Resource"] for found in granted if found["Action"] == "bedrock:ApplyGuardrail"] == [ARN]


class Prompt:
    """A managed prompt with two variables."""

    prompt_version_arn = "arn:aws:bedrock:us-east-1:111122223333:prompt/PROMPT1:2"
    variables = frozenset({"tone", "question"})

    def grant_use(self, grantee: iam.IGrantable) -> iam.Grant:
        return iam.Grant.add_to_principal(
            grantee=grantee, actions=["bedrock:RenderPrompt"], resource_arns=[self.prompt_version_arn]
        )


def test_a_managed_prompt_stands_for_its_model(stack: cdk.Stack) -> None:
    """The function renders the prompt; the model is called with what the prompt's own grant gives."""
    use = PromptUse(prompt=Prompt(), variables={"tone": "short"}, question="question")
    model = ServedModel.on_bedrock(
        "amazon.nova-lite-v1:0",
        name="nova",
        limits=LIMITS,
        token_work=WORK,
        options=BedrockOptions(prompt=use),
    )
    (document,) = documents(stack, model)
    assert document["bedrock"] == {
        "prompt": {
            "arn": Prompt.prompt_version_arn,
            "variables": {"tone": "short"},
            "question": "question",
        }
    }
    actions = [
        found["Action"]
        for found in statements(template_of(stack), "GatewayFunctionRole")
        if "bedrock" in json.dumps(found["Action"])
    ]
    assert actions == ["bedrock:RenderPrompt"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variables": {}}, "the prompt's variable 'tone' is not filled; give its text in variables, or"),
        ({"variables": {"tone": "a", "mood": "b"}}, "has no variable 'mood'; it has question, tone"),
        (
            {"variables": {"tone": "a", "question": "b"}},
            "question is 'question', which variables fills already",
        ),
    ],
)
def test_a_prompt_s_variables_are_filled_once(changes: dict[str, Any], message: str) -> None:
    """All of them, and no others."""
    with pytest.raises(TokenmillError, match=message):
        PromptUse(**{"prompt": Prompt(), "question": "question", **changes})


def test_a_prompt_and_a_fallback_contradict_each_other() -> None:
    """The prompt names its own model, so nothing could stand in for it."""
    use = PromptUse(prompt=Prompt(), variables={"tone": "a", "question": "b"})
    with pytest.raises(TokenmillError, match="a managed prompt names its own model; leave one out"):
        BedrockOptions(prompt=use, fallback="us.amazon.nova-lite-v1:0")


class Units:
    """A model behind a handle."""

    model_id = "arn:aws:bedrock:us-east-1:111122223333:provisioned-model/abcdefghij01"
    handle = "/tokenmill/handles/units"
    fallback_id = "us.amazon.nova-lite-v1:0"
    metric_dimension = model_id

    def grant_invoke(self, grantee: iam.IGrantable) -> iam.Grant:
        return iam.Grant.add_to_principal(
            grantee=grantee, actions=["ssm:GetParameter"], resource_arns=["arn:aws:ssm:::parameter/x"]
        )


def test_units_are_called_through_their_handle(stack: cdk.Stack) -> None:
    """And are measured under its name, which stays when the units change."""
    options = BedrockOptions(fallback="amazon.nova-lite-v1:0")
    model = ServedModel.on_bedrock(Units(), name="units", limits=LIMITS, token_work=WORK, options=options)
    (document,) = documents(stack, model)
    assert document["target"] == Units.handle
    assert document["bedrock_model_id"] == Units.model_id
    # Their own fallback goes before the one of the options, and only what is called is granted.
    assert document["bedrock"] == {"handle": Units.handle, "fallback_id": Units.fallback_id}
    granted = [found["Action"] for found in statements(template_of(stack), "GatewayFunctionRole")]
    assert "ssm:GetParameter" in granted and not any("bedrock" in json.dumps(found) for found in granted)


def test_a_plain_model_overflows_to_the_fallback_of_its_options(stack: cdk.Stack) -> None:
    """Which is granted too."""
    model = ServedModel.on_bedrock(
        "amazon.nova-lite-v1:0",
        name="nova",
        limits=LIMITS,
        token_work=WORK,
        options=BedrockOptions(fallback="us.amazon.nova-lite-v1:0"),
    )
    (document,) = documents(stack, model)
    assert document["bedrock"] == {"fallback_id": "us.amazon.nova-lite-v1:0"}
    granted = json.dumps(statements(template_of(stack), "GatewayFunctionRole"))
    assert ":inference-profile/us.amazon.nova-lite-v1:0" in granted


def test_units_with_a_managed_prompt_are_refused() -> None:
    """Converse takes one id, and the prompt's would leave the units idle and paid for."""
    use = PromptUse(prompt=Prompt(), variables={"tone": "a", "question": "b"})
    with pytest.raises(TokenmillError, match="has a managed prompt and a handle or a fallback"):
        ServedModel.on_bedrock(
            Units(), name="u", limits=LIMITS, token_work=WORK, options=BedrockOptions(prompt=use)
        )


REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: GuardrailPolicies(), "a guardrail needs one policy at least; give filters, topics"),
    (
        lambda: GuardrailPolicies(filters=(ContentFilter(harm=Harm.HATE),) * 2),
        "filters has HATE more than once; give each once",
    ),
    (lambda: ContentFilter(harm=Harm.PROMPT_ATTACK), "answer of the filter PROMPT_ATTACK is HIGH; only"),
    (
        lambda: ContentFilter(harm=Harm.HATE, question=Strength.NONE, answer=Strength.NONE),
        "the filter HATE has the strength NONE on both sides; leave it out",
    ),
    (lambda: DeniedTopic(name="a/b", definition="x"), "name of a topic is 'a/b'; it must be 1 to 100"),
    (lambda: DeniedTopic(name="a", definition="x" * 201), "definition of the topic 'a' is .* of 201 char"),
    (lambda: DeniedTopic(name="a", definition="x", examples=("e",) * 6), "has 6 examples; at most 5"),
    (lambda: DeniedTopic(name="a", definition="x", examples=("e" * 101,)), "an example of the topic 'a' is"),
    (lambda: Words(), "words is empty and profanity is False; give one of them or leave Words out"),
    (lambda: Words(words=("",)), "a word is ''.*; it must be a text of 1 to 100 characters"),
    (lambda: Words(words=("w",) * 10_001), "words has 10,001 entries; at most 10,000 are taken"),
    (lambda: PersonalData(mask=("MAIL",)), "personal data 'MAIL' is unknown; known are ADDRESS, AGE"),
    (lambda: PersonalData(mask=("AGE",), block=("AGE",)), "AGE is in block and in mask"),
    (lambda: PersonalData(), "block, mask and patterns are empty"),
    (lambda: Pattern(name="a", regex="(", treatment=Treatment.BLOCK), "which is no regular expression"),
    (lambda: Pattern(name="a", regex="a(?=b)", treatment=Treatment.BLOCK), "guardrails take no look-around"),
    (lambda: Grounding(), "grounded and relevant are None; give one of them"),
    (lambda: Grounding(relevant=1), "relevant is 1; it must be 0 to 0.99"),
    (lambda: BlockedMessages(question="a", answer="a"), "question and answer are both 'a'; the gateway"),
    (lambda: BlockedMessages(question="a" * 501), "question is .* of 501 characters; it must be"),
    (lambda: Guardrail.from_guardrail_arn("abc", version="1"), "guardrail_arn is 'abc'; it must be of the"),
    (lambda: Guardrail.from_guardrail_arn(ARN, version="DRAFT"), "guardrail_version is 'DRAFT'; it must be"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_what_bedrock_would_refuse_is_refused_before(make: Callable[[], object], message: str) -> None:
    """With the value, what is allowed and the way out."""
    with pytest.raises(TokenmillError, match=message):
        make()


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        (["v1"], "kept_versions has 'v1'; give eight hex digits, as `digest` of the guardrail gave them"),
        ([WORDS.digest], "which is kept anyway; leave it out"),
        (["00000000", "00000000"], "has 00000000, which is kept anyway"),
        ([f"{number:08x}" for number in range(20)], "has 20 entries; a guardrail has at most 20 versions"),
        ("00000000", "kept_versions is '00000000'; give a list or a tuple of texts"),
    ],
)
def test_kept_versions_are_checked_before_anything_is_made(tmp_path: Path, kept: Any, message: str) -> None:
    """No half guardrail is left in the tree."""
    stack = cdk.Stack(make_app(tmp_path), "test")
    with pytest.raises(TokenmillError, match=message):
        Guardrail(stack, "Guardrail", policies=WORDS, kept_versions=kept)
    assert stack.node.children == []


def test_masking_needs_the_mode_that_waits(stack: cdk.Stack) -> None:
    """What was sent cannot be masked any more."""
    policies = GuardrailPolicies(personal_data=PersonalData(mask=("EMAIL",)))
    guardrail = Guardrail(stack, "Guardrail", policies=policies)
    assert guardrail.hook().mode == GuardrailMode.SYNC
    with pytest.raises(TokenmillError, match="mode is ASYNC, but the guardrail masks personal data"):
        guardrail.hook(mode=GuardrailMode.ASYNC)
