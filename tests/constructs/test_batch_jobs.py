"""Batch jobs as templates: types, limits, keys, permissions, and nothing for an auditor to find."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import botocore.session
import pytest
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3

from support_jobs import async_endpoint, inf2
from support_stack import REGION, make_app, of_type, only, template_of
from support_states import definition
from tokenmill.batch import AsyncFanOut, BatchFiles, BatchTransform, FanOut, TransformJob
from tokenmill.batch.transform_types import TRANSFORM_TYPES
from tokenmill.core.errors import TokenmillError
from tokenmill.endpoints import DataCapture, EndpointHosting, ModelSource, PrivateImage
from tokenmill.lint import register_packs
from tokenmill.security import actions

if TYPE_CHECKING:
    from pathlib import Path

MACHINE = "AWS::StepFunctions::StateMachine"
ADDED_BY_CDK = {
    "logs:CreateLogDelivery",
    "logs:DeleteLogDelivery",
    "logs:DescribeLogGroups",
    "logs:DescribeResourcePolicies",
    "logs:GetLogDelivery",
    "logs:ListLogDeliveries",
    "logs:PutResourcePolicy",
    "logs:UpdateLogDelivery",
    "xray:GetSamplingRules",
    "xray:GetSamplingTargets",
    "xray:PutTelemetryRecords",
    "xray:PutTraceSegments",
}
NAMED = {
    action
    for name, group in vars(actions).items()
    if name.isupper() and isinstance(group, tuple)
    for action in group
}


def permissions(template: dict[str, Any], role: str = "") -> dict[str, set[str]]:
    """Return resources, as text, by action, of the roles whose logical ids begin so."""
    found: dict[str, set[str]] = {}
    for policy in of_type(template, "AWS::IAM::Policy").values():
        if not any(item["Ref"].startswith(role) for item in policy["Properties"]["Roles"]):
            continue
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
            names, resources = statement["Action"], statement["Resource"]
            for name in [names] if isinstance(names, str) else names:
                listed = resources if isinstance(resources, list) else [resources]
                found.setdefault(name, set()).update(json.dumps(item) for item in listed)
    return found


def transform(stack: cdk.Stack, **changes: Any) -> BatchTransform:
    return BatchTransform(stack, "Job", **{"serving": inf2(), **changes})


def fan_out(stack: cdk.Stack, **changes: Any) -> AsyncFanOut:
    return AsyncFanOut(stack, "Job", **{"endpoint": async_endpoint(stack), **changes})


def asked(stack: cdk.Stack) -> dict[str, Any]:
    """Return the parameters of CreateTransformJob."""
    document = definition(only(template_of(stack), MACHINE))
    found: dict[str, Any] = document["States"]["Transform"]["Parameters"]
    return found


def test_the_types_are_those_of_sagemaker_s_api() -> None:
    """The list is copied, so that a template needs no service model; here it is held against the model."""
    model = botocore.session.get_session().get_service_model("sagemaker")
    accelerated = ("g", "inf", "p", "trn")
    offered = [
        name for name in model.shape_for("TransformInstanceType").enum if name[3:].startswith(accelerated)
    ]
    assert sorted(TRANSFORM_TYPES) == sorted(offered)


def test_fails_for_a_type_that_batch_transform_does_not_have(stack: cdk.Stack) -> None:
    """Endpoints have it, transform jobs do not: the list and the other way stand in the message."""
    serving = inf2(model="Qwen/Qwen3-8B", instance_type="ml.g7e.2xlarge", tensor_parallel=1)
    with pytest.raises(TokenmillError) as caught:
        transform(stack, serving=serving)
    assert "instance_type is 'ml.g7e.2xlarge', which batch transform does not have" in str(caught.value)
    assert "ml.inf2.8xlarge" in str(caught.value)
    assert "use AsyncFanOut over an AsyncEndpoint" in str(caught.value)
    assert stack.node.children == []


def test_a_model_s_container_has_the_serving_s_variables(stack: cdk.Stack) -> None:
    """Image, variables and role as on an endpoint; the job names the model by its resource."""
    made = transform(stack)
    template = template_of(stack)
    model = only(template, "AWS::SageMaker::Model")["Properties"]
    assert model["PrimaryContainer"]["Environment"]["SM_ON_MODEL"] == "Qwen/Qwen3-8B"
    assert model["PrimaryContainer"]["Environment"]["SM_ON_BATCH_SIZE"] == "8"
    assert made.serving.model == "Qwen/Qwen3-8B"
    assert asked(stack)["ModelName"].endswith("/ModelName")


def test_fails_for_weights_under_a_prefix(stack: cdk.Stack) -> None:
    """ "Currently you cannot use ModelDataSource in conjunction with SageMaker batch transform", says the
    API's own model; and nothing is left behind in the stack."""
    model = botocore.session.get_session().get_service_model("sagemaker")
    told = model.shape_for("ContainerDefinition").members["ModelDataSource"].documentation
    assert "you cannot use <code>ModelDataSource</code> in conjunction with SageMaker batch transform" in told
    weights = s3.Bucket(stack, "Weights")
    source = ModelSource.s3(weights, "qwen3/").as_exported()
    with pytest.raises(TokenmillError, match="batch transform does not load.*AsyncFanOut"):
        transform(stack, source=source)
    assert stack.node.try_find_child("Job") is None


def test_an_isolated_job_has_its_weights_in_the_image(stack: cdk.Stack) -> None:
    """It has no way to the Hub, and batch transform loads none from a bucket."""
    image = PrivateImage(repository=ecr.Repository(stack, "Repository"), tag_or_digest="1")
    source = ModelSource.in_image("/opt/weights", image=image).as_exported()
    transform(stack, source=source, hosting=EndpointHosting(isolated=True))
    model = only(template_of(stack), "AWS::SageMaker::Model")["Properties"]
    assert model["EnableNetworkIsolation"] is True
    assert "ModelDataSource" not in model["PrimaryContainer"]


def test_keys_reach_output_and_volume(stack: cdk.Stack) -> None:
    """The bucket's key encrypts what is written, hosting's key the volume, and the roles may use them."""
    volume, bucket_key = kms.Key(stack, "Volume"), kms.Key(stack, "Objects")
    transform(
        stack,
        files=BatchFiles(encryption_key=bucket_key),
        hosting=EndpointHosting(encryption_key=volume),
    )
    parameters = asked(stack)
    assert "Volume" in parameters["TransformResources"]["VolumeKmsKeyId"]
    assert "Objects" in parameters["TransformOutput"]["KmsKeyId"]
    found = permissions(template_of(stack), "JobRole")
    assert any("Objects" in item for item in found["kms:GenerateDataKey"])
    assert any("Objects" in item for item in found["kms:Encrypt"])
    assert any("Volume" in item for item in found["kms:CreateGrant"])


def test_fails_for_a_key_where_sagemaker_refuses_one(stack: cdk.Stack) -> None:
    """Local NVMe storage is encrypted by its hardware."""
    key = kms.Key(stack, "Key")
    serving = inf2(instance_type="ml.g5.2xlarge", tensor_parallel=1)
    with pytest.raises(TokenmillError, match="ml.g5.2xlarge has local NVMe storage"):
        transform(stack, serving=serving, hosting=EndpointHosting(encryption_key=key))
    assert [child.node.id for child in stack.node.children] == ["Key"]


def test_fails_for_data_capture(stack: cdk.Stack) -> None:
    """Input and output are files already."""
    hosting = EndpointHosting(data_capture=DataCapture(bucket=s3.Bucket(stack, "Captured")))
    with pytest.raises(TokenmillError, match="are in the bucket already; leave data_capture out"):
        transform(stack, hosting=hosting)


@pytest.mark.parametrize(
    ("sequences", "job", "shape"),
    [
        (8, TransformJob(), (8, 6)),
        (64, TransformJob(), (64, 1)),
        (512, TransformJob(), (100, 1)),
        (8, TransformJob(concurrent=4, payload_mb=25), (4, 25)),
        (8, TransformJob(payload_mb=12), (8, 12)),
    ],
)
def test_requests_at_once_times_the_largest_is_what_sagemaker_holds(
    sequences: int, job: TransformJob, shape: tuple[int, int]
) -> None:
    """100 MB together; the batch of the serving decides, and the payload gives way."""
    assert job.shape(inf2(model="acme/tiny", max_sequences=sequences)) == shape


def test_fails_for_more_than_sagemaker_holds() -> None:
    """With both factors and the limit."""
    with pytest.raises(
        TokenmillError, match="concurrent 8 times payload_mb 13 is 104 MB; SageMaker holds 100"
    ):
        TransformJob(payload_mb=13).shape(inf2())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strategy": "Each"}, "strategy is 'Each'; allowed are SingleRecord, MultiRecord"),
        ({"instances": 0}, "instances is 0; it must be 1 to 100"),
        ({"instances": 101}, "instances is 101; it must be 1 to 100"),
        ({"concurrent": 0}, "concurrent is 0; it must be 1 or more"),
        ({"payload_mb": 101}, "payload_mb is 101; it must be 1 to 100"),
        ({"invocation_seconds": 3601}, "invocation_seconds is 3601; it must be 1 to 3,600"),
        ({"retries": 4}, "retries is 4; it must be 0 to 3"),
        ({"limit_hours": 0}, "limit_hours is 0; it must be 1 to 8,760"),
    ],
)
def test_fails_for_jobs_that_sagemaker_refuses(changes: dict[str, Any], message: str) -> None:
    """Value and range stand in the message."""
    with pytest.raises(TokenmillError, match=message):
        TransformJob(**changes)


def test_several_records_go_as_json_lines(stack: cdk.Stack) -> None:
    """A container that takes many lines is told that they are lines."""
    transform(stack, job=TransformJob(strategy="MultiRecord"))
    parameters = asked(stack)
    assert parameters["BatchStrategy"] == "MultiRecord"
    assert parameters["TransformInput"]["ContentType"] == "application/jsonlines"


def test_the_state_machine_runs_transform_jobs_and_nothing_else(stack: cdk.Stack) -> None:
    """Jobs of the library's names, and the rule by which Step Functions hears of their end."""
    transform(stack)
    found = permissions(template_of(stack), "JobMachineRole")
    assert set(found) - ADDED_BY_CDK == {
        "events:DescribeRule",
        "events:PutRule",
        "events:PutTargets",
        "sagemaker:AddTags",
        "sagemaker:CreateTransformJob",
        "sagemaker:DescribeTransformJob",
        "sagemaker:ListTags",
        "sagemaker:StopTransformJob",
    }
    (jobs,) = found["sagemaker:CreateTransformJob"]
    assert ":transform-job/tokenmill-*" in jobs
    (rule,) = found["events:PutRule"]
    assert ":rule/StepFunctionsGetEventsForSageMakerTransformJobsRule" in rule


def test_the_fan_out_s_state_machine_starts_its_own_children(stack: cdk.Stack) -> None:
    """Its function, its list of shards, its own executions."""
    fan_out(stack)
    found = permissions(template_of(stack), "JobMachineRole")
    assert set(found) - ADDED_BY_CDK == {
        "lambda:InvokeFunction",
        "s3:GetObject",
        "states:DescribeExecution",
        "states:RedriveExecution",
        "states:StartExecution",
        "states:StopExecution",
    }
    (machine,) = found["states:StartExecution"]
    assert json.loads(machine) == {"Ref": next(iter(of_type(template_of(stack), MACHINE)))}
    (children,) = found["states:RedriveExecution"]
    assert '"/Shards:*"' in children


def test_the_fan_out_s_function_invokes_and_reads_its_folders(stack: cdk.Stack) -> None:
    """Requests are put, answers and failures read, inputs read, outputs read and written."""
    fan_out(stack)
    found = permissions(template_of(stack), "JobFunctionRole")

    def endings(action: str) -> list[str]:
        return sorted(json.loads(item)["Fn::Join"][1][-1] for item in found[action])

    assert endings("s3:GetObject") == ["/async/answers/*", "/async/failures/*", "/input/*", "/output/*"]
    assert endings("s3:PutObject") == ["/async/requests/*", "/output/*"]
    assert len(found["sagemaker:InvokeEndpointAsync"]) == 1


def test_the_fan_out_s_function_knows_what_the_template_says(stack: cdk.Stack) -> None:
    """Every setting of the document is one that the function reads."""
    from tokenmill_runtime.batch_run import Settings

    requests = FanOut(
        shard_records=7, request_ttl_seconds=60, invocation_seconds=9, tolerated_failure_percent=1.5
    )
    fan_out(stack, requests=requests)
    (function,) = of_type(template_of(stack), "AWS::Lambda::Function").values()
    rendered = function["Properties"]["Environment"]["Variables"]["TOKENMILL_FAN_OUT"]
    text = "".join(part if isinstance(part, str) else "x" for part in rendered["Fn::Join"][1])
    settings = Settings.read({"TOKENMILL_FAN_OUT": text})
    assert (settings.shard_records, settings.request_ttl_seconds) == (7, 60)
    assert (settings.invocation_timeout_seconds, settings.tolerated_failure_percent) == (9, 1.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shard_records": 0}, "shard_records is 0; it must be 1 to 1,000"),
        ({"shards_at_once": 1001}, "shards_at_once is 1001; it must be 1 to 1,000"),
        ({"request_ttl_seconds": 59}, "request_ttl_seconds is 59; it must be 60 to 21,600"),
        ({"invocation_seconds": 3601}, "invocation_seconds is 3601; it must be 1 to 3,600"),
        ({"tolerated_failure_percent": 101}, "tolerated_failure_percent is 101; it must be 0 to 100"),
        (
            {"tolerated_failure_percent": float("nan")},
            "tolerated_failure_percent is nan; it must be 0 to 100",
        ),
    ],
)
def test_fails_for_fan_outs_that_no_service_takes(changes: dict[str, Any], message: str) -> None:
    """Value and range stand in the message."""
    with pytest.raises(TokenmillError, match=message):
        FanOut(**changes)


@pytest.mark.parametrize("kind", [transform, fan_out])
def test_who_starts_a_job_may_start_and_watch_it(stack: cdk.Stack, kind: Any) -> None:
    """Files are grants of their own."""
    job = kind(stack)
    starter = iam.Role(stack, "Starter", assumed_by=iam.AccountRootPrincipal())
    loader = iam.Role(stack, "Loader", assumed_by=iam.AccountRootPrincipal())
    reader = iam.Role(stack, "Reader", assumed_by=iam.AccountRootPrincipal())
    job.grant_start(starter)
    job.grant_upload(loader)
    job.grant_read_output(reader)
    template = template_of(stack)
    assert set(permissions(template, "Starter")) == {"states:DescribeExecution", "states:StartExecution"}
    assert set(permissions(template, "Loader")) == {"s3:AbortMultipartUpload", "s3:PutObject"}
    assert set(permissions(template, "Reader")) == {"s3:GetObject"}
    (folder,) = permissions(template, "Reader")["s3:GetObject"]
    assert "/output/*" in folder


def test_a_given_bucket_and_its_key_are_used(stack: cdk.Stack) -> None:
    """No bucket is made, and every role of the job may use the key."""
    key = kms.Key(stack, "Key")
    bucket = s3.Bucket(stack, "Given", encryption_key=key)
    job = transform(stack, files=BatchFiles(bucket=bucket, input_prefix="in", output_prefix="out"))
    loader = iam.Role(stack, "Loader", assumed_by=iam.AccountRootPrincipal())
    job.grant_upload(loader)
    template = template_of(stack)
    assert len(of_type(template, "AWS::S3::Bucket")) == 1
    assert {"kms:Decrypt", "kms:GenerateDataKey"} <= set(permissions(template, "Loader"))
    assert "/in/*" in str(permissions(template, "JobRole")["s3:GetObject"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_prefix": ""}, "files.input_prefix is ''; give a folder's name as text"),
        ({"output_prefix": "a/"}, "files.output_prefix is 'a/'; give a folder's name as text"),
        ({"input_prefix": "a*"}, "files.input_prefix is 'a[*]'; give a folder's name as text, without [*]"),
        ({"input_prefix": "data", "output_prefix": "data/out"}, "one is inside the other"),
        ({"input_prefix": "data", "output_prefix": "data"}, "give two folders side by side"),
    ],
)
def test_fails_for_folders_that_would_feed_each_other(changes: dict[str, Any], message: str) -> None:
    """What a job wrote must never be another's input."""
    with pytest.raises(TokenmillError, match=message):
        BatchFiles(**changes)


def test_fails_for_a_folder_that_only_the_deployment_knows(stack: cdk.Stack) -> None:
    """The state machine's check is made of it."""
    with pytest.raises(TokenmillError, match="give a folder's name as text"):
        BatchFiles(input_prefix=cdk.Fn.ref("AWS::StackName"))


def test_fails_for_a_key_beside_a_given_bucket(stack: cdk.Stack) -> None:
    """A bucket has its own."""
    with pytest.raises(TokenmillError, match="a given bucket has its own key, so leave encryption_key out"):
        BatchFiles(bucket=s3.Bucket(stack, "Given"), encryption_key=kms.Key(stack, "Key"))


def test_what_no_source_shows_is_told(tmp_path: Path) -> None:
    """SageMaker does not say which driver batch transform's hosts have; idle chips are paid for."""
    app = make_app(tmp_path)
    stack = cdk.Stack(app, "test", env=cdk.Environment(region=REGION))
    transform(stack, serving=inf2(instance_type="ml.inf2.24xlarge"))
    app.synth()
    report = json.loads((tmp_path / "validation-report.json").read_text(encoding="utf-8"))
    found = {item["ruleName"] for plugin in report["pluginReports"] for item in plugin["violations"]}
    assert found == {"Annotation::tokenmill:TransformExperimental", "Annotation::tokenmill:IdleChips"}


def test_jobs_are_clean_under_aws_solutions_and_use_named_actions(tmp_path: Path) -> None:
    """A consumer's pack stays quiet about what the library makes; no action stands outside the list."""
    app = make_app(tmp_path)
    stack = cdk.Stack(app, "test", env=cdk.Environment(region=REGION))
    AsyncFanOut(stack, "FanOut", endpoint=async_endpoint(stack))
    BatchTransform(stack, "Transform", serving=inf2())
    register_packs(app, packs=["AwsSolutions"], cloudformation_validation=False)
    template = template_of(stack)
    report = json.loads((tmp_path / "validation-report.json").read_text(encoding="utf-8"))
    found = {item["ruleName"] for plugin in report["pluginReports"] for item in plugin.get("violations", [])}
    assert found <= {"Annotation::tokenmill:ImageExperimental", "Annotation::tokenmill:TransformExperimental"}
    granted = set(permissions(template))
    assert granted - NAMED - ADDED_BY_CDK == set()
    for machine in of_type(template, MACHINE).values():
        assert machine["Properties"]["LoggingConfiguration"]["Level"] == "ALL"
        assert machine["Properties"]["TracingConfiguration"] == {"Enabled": True}


def test_jobs_stand_in_a_stack_without_a_region(agnostic: cdk.Stack) -> None:
    """Region and account come with the deployment."""
    AsyncFanOut(agnostic, "FanOut", endpoint=async_endpoint(agnostic))
    BatchTransform(agnostic, "Transform", serving=inf2())
    assert len(of_type(template_of(agnostic), MACHINE)) == 2
