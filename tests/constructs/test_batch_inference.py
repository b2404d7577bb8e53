"""BatchInference as a template: quotas, roles, the rule, prices, and what is refused beforehand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sqs as sqs

from support_stack import REGION, make_app, of_type, only, template_of
from support_states import definition, flat
from tokenmill.batch import BatchFiles, BatchInference, BatchQuota, InferenceJobs, InferenceRecords
from tokenmill.bedrock.inference_profile import InferenceProfile
from tokenmill.core.batch_quotas import batch_quota
from tokenmill.core.errors import TokenmillError
from tokenmill.lint import register_packs
from tokenmill.security import FunctionHosting, actions
from tokenmill_runtime import jobs
from tokenmill_runtime.batch_inference_run import Settings

if TYPE_CHECKING:
    from pathlib import Path

NOVA = "amazon.nova-lite-v1:0"
MACHINE = "AWS::StepFunctions::StateMachine"


@pytest.fixture
def stack(tmp_path: Path) -> cdk.Stack:
    return cdk.Stack(make_app(tmp_path), "night", env=cdk.Environment(region=REGION))


def patterns_of(template: dict[str, Any], source: str) -> list[dict[str, Any]]:
    """The patterns of the rules for a service's events."""
    rules = of_type(template, "AWS::Events::Rule").values()
    patterns = [rule["Properties"]["EventPattern"] for rule in rules]
    return [pattern for pattern in patterns if pattern["source"] == [source]]


def document(template: dict[str, Any]) -> dict[str, Any]:
    (function,) = of_type(template, "AWS::Lambda::Function").values()
    text = function["Properties"]["Environment"]["Variables"]["TOKENMILL_BATCH_INFERENCE"]
    found: dict[str, Any] = json.loads(flat(text, {}))
    return found


def statements(template: dict[str, Any], role: str) -> list[dict[str, Any]]:
    return [
        statement
        for policy in of_type(template, "AWS::IAM::Policy").values()
        if any(item["Ref"].startswith(role) for item in policy["Properties"]["Roles"])
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
    ]


def granted(template: dict[str, Any], role: str, action: str) -> str:
    """Return the resources of an action, as text."""
    return json.dumps(
        [item["Resource"] for item in statements(template, role) if action in _listed(item["Action"])]
    )


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def test_the_function_knows_quotas_prices_and_prefix(stack: cdk.Stack) -> None:
    """The model's default quotas, and the price table's batch and standard tiers."""
    job = BatchInference(stack, "Job", model=NOVA)
    told = document(template_of(stack))
    assert (told["minimum_records"], told["part_records"], told["part_bytes"]) == (100, 50_000, 10**9)
    assert (told["model"], told["form"], told["max_tokens"]) == (NOVA, "chat", 1024)
    assert told["prices"]["batch"]["input"] == 0.03
    assert told["prices"]["standard"]["output"] == 0.24
    assert told["price_note"].startswith("LiteLLM")
    assert told["job_prefix"] == f"{job.node.addr[-12:]}-"


def test_two_jobs_of_a_stack_hear_of_their_own_ends(stack: cdk.Stack) -> None:
    """The rule matches the prefix of a construct's job names, so no other function is woken."""
    BatchInference(stack, "One", model=NOVA)
    BatchInference(stack, "Two", model=NOVA)
    patterns = patterns_of(template_of(stack), "aws.bedrock")
    assert [pattern["detail-type"] for pattern in patterns] == [["Batch Inference Job State Change"]] * 2
    prefixes = {pattern["detail"]["batchJobName"][0]["prefix"] for pattern in patterns}
    assert len(prefixes) == 2
    assert patterns[0]["detail"]["status"] == [
        "Completed",
        "PartiallyCompleted",
        "Failed",
        "Stopped",
        "Expired",
    ]


def test_a_stopped_execution_is_heard_of_and_its_jobs_may_be_stopped(stack: cdk.Stack) -> None:
    """One function, called by two rules, that may stop jobs and look at this machine's executions alone."""
    hosting = FunctionHosting(dead_letter_queue=sqs.Queue(stack, "Dead"))
    BatchInference(stack, "One", model=NOVA, hosting=hosting)
    template = template_of(stack)
    (machine,) = of_type(template, MACHINE)
    (pattern,) = patterns_of(template, "aws.states")
    assert pattern["detail-type"] == ["Step Functions Execution Status Change"]
    assert pattern["detail"] == {"stateMachineArn": [{"Ref": machine}], "status": ["ABORTED", "TIMED_OUT"]}
    allowed = {
        json.dumps(item["Properties"]["SourceArn"])
        for item in of_type(template, "AWS::Lambda::Permission").values()
    }
    rules = of_type(template, "AWS::Events::Rule")
    assert allowed == {json.dumps({"Fn::GetAtt": [rule, "Arn"]}) for rule in rules}
    for rule in rules.values():
        assert rule["Properties"]["Targets"][0]["DeadLetterConfig"]
    assert ":model-invocation-job/*" in granted(template, "OneFunction", "bedrock:StopModelInvocationJob")
    looked = granted(template, "OneFunction", "states:DescribeExecution")
    assert f'"Fn::GetAtt": ["{machine}", "Name"]' in looked and ":execution:" in looked


def test_bedrock_gets_a_role_for_the_folder_and_the_model_only(stack: cdk.Stack) -> None:
    """It may be assumed for this account's jobs, and passed to Bedrock and to nobody else."""
    BatchInference(stack, "Job", model=NOVA)
    template = template_of(stack)
    role = next(
        value for key, value in of_type(template, "AWS::IAM::Role").items() if key.startswith("JobJobRole")
    )
    (trust,) = role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "bedrock.amazonaws.com"}
    assert trust["Condition"]["StringEquals"] == {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}
    assert "model-invocation-job/*" in str(trust["Condition"]["ArnLike"])
    files = granted(template, "JobJobRole", "s3:PutObject")
    assert "/output/*" in files and "/input/*" not in files
    assert f"foundation-model/{NOVA}" in granted(template, "JobJobRole", "bedrock:InvokeModel")
    (passing,) = [
        item for item in statements(template, "JobFunctionRole") if item["Action"] == "iam:PassRole"
    ]
    assert passing["Condition"] == {"StringEquals": {"iam:PassedToService": "bedrock.amazonaws.com"}}
    assert "/Parts" in granted(template, "JobFunctionRole", "states:SendTaskSuccess")


@pytest.mark.parametrize(
    ("model", "regions"),
    [(NOVA, {"<own>"}), ("us.amazon.nova-lite-v1:0", {"us-east-1", "us-east-2", "us-west-2"})],
)
def test_jobs_are_submitted_for_the_one_model(stack: cdk.Stack, model: str, regions: set[str]) -> None:
    """No other model of the account, in no other region; only the id of a job is anybody's guess."""
    BatchInference(stack, "Job", model=model)
    (submit,) = (
        item
        for item in statements(template_of(stack), "JobFunctionRole")
        if "bedrock:CreateModelInvocationJob" in _listed(item["Action"])
    )
    arns = [json.dumps(arn) for arn in submit["Resource"]]
    assert [arn for arn in arns if "*" in arn] == [arn for arn in arns if "model-invocation-job/*" in arn]
    models = [arn for arn in arns if "foundation-model" in arn]
    assert all(f"foundation-model/{NOVA}" in arn for arn in models)
    found = {region for arn in models for region in regions if f":{region}::" in arn}
    assert len(models) == len(regions) and found in (regions, set())
    assert any(f"inference-profile/{model}" in arn for arn in arns) is (model != NOVA)


def test_a_profile_is_named_tagged_and_priced_by_its_model(stack: cdk.Stack) -> None:
    """An application profile's ARN goes to Bedrock; its model's price into the report."""
    BatchInference(stack, "Job", model=InferenceProfile(stack, "Model", model=NOVA))
    template = template_of(stack)
    assert document(template)["prices"]["batch"]["output"] == 0.12
    assert "InferenceProfileArn" in document(template)["model"]
    assert "InferenceProfileArn" in granted(template, "JobJobRole", "bedrock:InvokeModel")


def test_what_is_left_out_has_no_member(stack: cdk.Stack) -> None:
    """CDK drops nulls from a document, so the function's settings stand without them."""
    BatchInference(stack, "Job", model=NOVA)
    told = document(template_of(stack))
    assert {"output_key", "deadline_hours"} & told.keys() == set()
    assert Settings(**told).deadline_hours is None


def test_a_price_that_nobody_knows_is_no_number(tmp_path: Path) -> None:
    """A region of the deployment's, a model without a batch price, and prices of one's own."""
    agnostic = cdk.Stack(make_app(tmp_path / "a"), "night")
    job = BatchInference(agnostic, "Job", model=NOVA)
    assert (job.prices.tiers, job.prices.note) == ({}, "the region is not known at synthesis; give prices")
    there = cdk.Stack(make_app(tmp_path / "b"), "night", env=cdk.Environment(region=REGION))
    old = BatchInference(there, "Old", model="amazon.titan-text-lite-v1")
    assert "batch" not in old.prices.tiers
    assert "no batch price of amazon.titan-text-lite-v1 is known" in old.prices.note
    own = {"input": 1.0, "output": 2.0, "batch_input": 0.4, "batch_output": 0.8}
    mine = BatchInference(there, "Mine", model=NOVA, prices=own)
    assert mine.prices.tiers["batch"]["input"] == 0.4


def test_a_job_describes_itself(stack: cdk.Stack) -> None:
    """Tags to find the state machine by, a first state to read what it does."""
    BatchInference(stack, "Job", model=NOVA)
    machine = only(template_of(stack), "AWS::StepFunctions::StateMachine")
    tags = {item["Key"]: item["Value"] for item in machine["Properties"]["Tags"]}
    assert tags == {jobs.JOB_TAG: "batch", jobs.NAME_TAG: "Job", jobs.STACK_TAG: "night"}
    described = jobs.read_description(json.dumps(definition(machine)))
    assert described["kind"] == "batch"
    assert described["about"] == f"{NOVA} over the lines of a file, in Bedrock's batch jobs"


def test_a_part_s_answers_have_room_on_the_disk(stack: cdk.Stack) -> None:
    """They are put into order there, and not in memory."""
    BatchInference(stack, "Job", model=NOVA)
    (function,) = of_type(template_of(stack), "AWS::Lambda::Function").values()
    assert function["Properties"]["EphemeralStorage"] == {"Size": 10_240}


def test_a_customer_s_key_reaches_the_output(stack: cdk.Stack) -> None:
    """Bedrock writes with it, and its role may."""
    files = BatchFiles(encryption_key=kms.Key(stack, "Key"))
    job = BatchInference(stack, "Job", model=NOVA, files=files)
    reader = iam.Role(stack, "Reader", assumed_by=iam.AccountRootPrincipal())
    job.grant_read_output(reader)
    job.grant_start(reader)
    template = template_of(stack)
    assert "Key" in document(template)["output_key"]
    assert "Key" in granted(template, "JobJobRole", "kms:GenerateDataKey")
    assert "/output/*" in granted(template, "Reader", "s3:GetObject")


def test_it_is_clean_under_aws_solutions_and_uses_named_actions(tmp_path: Path) -> None:
    """A consumer's pack stays quiet about what the library makes."""
    app = make_app(tmp_path)
    stack = cdk.Stack(app, "test", env=cdk.Environment(region=REGION))
    BatchInference(stack, "Job", model="us.amazon.nova-lite-v1:0")
    BatchInference(stack, "Named", model=InferenceProfile(stack, "Model", model=NOVA))
    register_packs(app, packs=["AwsSolutions"], cloudformation_validation=False)
    template = template_of(stack)
    report = json.loads((tmp_path / "validation-report.json").read_text(encoding="utf-8"))
    found = [item["ruleName"] for plugin in report["pluginReports"] for item in plugin.get("violations", [])]
    assert found == []
    named = {
        action
        for name, group in vars(actions).items()
        if name.isupper() and isinstance(group, tuple)
        for action in group
    }
    used = {
        action
        for policy in of_type(template, "AWS::IAM::Policy").values()
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        for action in _listed(statement["Action"])
    }
    assert used - named == set() | {action for action in used if action.startswith("xray:")} - named


def test_it_stands_in_a_stack_without_a_region(tmp_path: Path) -> None:
    """Region and account come with the deployment."""
    stack = cdk.Stack(make_app(tmp_path), "night")
    BatchInference(stack, "Job", model=NOVA, hosting=FunctionHosting(log_retention_days=1))
    assert of_type(template_of(stack), "AWS::StepFunctions::StateMachine")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: InferenceJobs(deadline_hours=23), "deadline_hours is 23 and job_hours 24; a batch"),
        (lambda: InferenceJobs(job_hours=23), "job_hours is 23; it must be 24 to 168"),
        (lambda: InferenceJobs(job_hours=48, deadline_hours=30), "may take all of job_hours"),
        (lambda: InferenceJobs(retries=6), "retries is 6; it must be 0 to 5"),
        (lambda: InferenceJobs(retries=1.5), "retries must be a whole number"),
        (lambda: InferenceJobs(part_tokens=0), "part_tokens is 0"),
        (lambda: InferenceJobs(tolerated_failure_percent=101), "it must be 0 to 100"),
        (lambda: InferenceJobs(quota=5), "quota must be a BatchQuota or None, got 5"),
        (lambda: InferenceRecords(form="raw"), "form is 'raw'; allowed are chat, converse"),
        (lambda: InferenceRecords(max_tokens=0), "max_tokens is 0"),
        (lambda: BatchQuota(minimum_records=100, records_per_job=199), "twice its fewest or more"),
        (lambda: BatchQuota(minimum_records=0), "minimum_records is 0"),
        (lambda: BatchQuota(file_gb=0), "file_gb is 0"),
        (lambda: BatchQuota(jobs_at_once=0), "jobs_at_once is 0"),
    ],
)
def test_fails_for_values_out_of_range(make: Any, message: str) -> None:
    """With the value, what is allowed, and for an early deadline what to use instead."""
    with pytest.raises(TokenmillError, match=message):
        make()


class _Units:
    """A model with provisioned units."""

    model_id, handle, fallback_id, metric_dimension = NOVA, "/units/handle", None, NOVA

    def grant_invoke(self, grantee: Any) -> None:
        raise AssertionError("refused before")


def test_fails_for_models_without_batch_inference(stack: cdk.Stack) -> None:
    """Provisioned models, and what a job's modelId does not take; nothing is left behind."""
    with pytest.raises(TokenmillError, match="model has provisioned units, and Bedrock runs no batch"):
        BatchInference(stack, "Job", model=_Units())
    for kind in ("provisioned-model", "prompt-router", "custom-model-deployment"):
        routed = _Units()
        routed.handle, routed.model_id = None, f"arn:aws:bedrock:us-east-1:123456789012:{kind}/abc"
        with pytest.raises(TokenmillError, match=f"no batch inference on a {kind}"):
            BatchInference(stack, "Job", model=routed)
    with pytest.raises(TokenmillError):
        BatchInference(stack, "Job", model="amazon.nova-lite")
    assert stack.node.children == []


def test_quotas_are_a_model_s() -> None:
    """Through a geography's profile as well; others have the defaults."""
    assert batch_quota("us.amazon.nova-lite-v1:0") == batch_quota(NOVA) == BatchQuota()
    assert batch_quota("anthropic.claude-sonnet-4-20250514-v1:0").minimum_records == 100


@pytest.mark.parametrize(
    ("prices", "said"),
    [
        (
            {"input": 1.0, "output": 2.0, "batch_input": 0.5, "batch_output": 1.0},
            "paid for by the token: $0.5 a million in, $1 out",
        ),
        ({"input": 1.0, "output": 2.0}, "paid for by the token; the price is not known ("),
    ],
)
def test_a_run_says_what_it_costs_and_is_asked_for(prices: dict[str, float], said: str) -> None:
    """`tokenmill jobs run` shows the price of a token in a batch job, and asks before it spends."""
    stack = cdk.Stack(cdk.App(), "batch", env=cdk.Environment(region="us-east-1"))
    made = BatchInference(stack, "Batch", model="amazon.nova-lite-v1:0", prices=prices)
    text = stack.resolve(made.state_machine.node.default_child.definition_string)
    assert '\\"paid\\":true' in json.dumps(text)
    assert said in made.prices.in_words
    assert said.split("(")[0] in json.dumps(text)
