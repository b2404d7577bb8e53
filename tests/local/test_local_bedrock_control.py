"""Models, jobs, deployments and settings of the modelled control plane, asked over HTTP."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from support_bedrock import SCOPE, bedrock_server
from tokenmill.core.errors import TokenmillError
from tokenmill.local.aws_requests import AwsError
from tokenmill.local.bedrock import BedrockControl, Fault
from tokenmill.local.bedrock.http import BedrockServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support_bedrock import FakeBedrock

ROLE = "arn:aws:iam::123456789012:role/jobs"
S3 = {"s3DataSource": {"s3Uri": "s3://bucket/weights/"}}


@pytest.fixture
def fake() -> Iterator[FakeBedrock]:
    with bedrock_server() as served:
        yield served


@pytest.fixture
def client(fake: FakeBedrock) -> Any:
    return fake.client()


@pytest.fixture
def events(fake: FakeBedrock) -> list[tuple[str, str]]:
    heard: list[tuple[str, str]] = []
    fake.control.publish = lambda scope, source, kind, detail, resources: heard.append(
        (kind, detail.get("status", detail.get("jobStatus")))
    )
    return heard


def code(call: Callable[..., Any], **params: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**params)
    return str(caught.value.response["Error"]["Code"])


def import_model(client: Any, name: str = "mine", **more: Any) -> str:
    asked = {"jobName": f"import-{name}", "importedModelName": name, "roleArn": ROLE, "modelDataSource": S3}
    return str(client.create_model_import_job(**asked, **more)["jobArn"])


def tune(client: Any, name: str = "tuned", **more: Any) -> str:
    asked = {
        "jobName": f"tune-{name}",
        "customModelName": name,
        "roleArn": ROLE,
        "baseModelIdentifier": "amazon.nova-lite-v1:0:300k",
        "trainingDataConfig": {"s3Uri": "s3://bucket/train.jsonl"},
        "outputDataConfig": {"s3Uri": "s3://bucket/out/"},
    }
    return str(client.create_model_customization_job(**{**asked, **more})["jobArn"])


def batch(client: Any, name: str = "night", **more: Any) -> str:
    asked = {
        "jobName": name,
        "roleArn": ROLE,
        "modelId": "amazon.nova-lite-v1:0",
        "inputDataConfig": {"s3InputDataConfig": {"s3Uri": "s3://bucket/in.jsonl"}},
        "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": "s3://bucket/out/"}},
    }
    return str(client.create_model_invocation_job(**{**asked, **more})["jobArn"])


def test_an_import_makes_a_model(fake: FakeBedrock, client: Any) -> None:
    """An import job runs, completes, and its model is listed, described and deleted."""
    job = import_model(client, importedModelTags=[{"key": "a", "value": "b"}], clientRequestToken="t1")
    assert import_model(client, clientRequestToken="t1") == job
    assert client.get_model_import_job(jobIdentifier=job)["status"] == "InProgress"
    assert code(import_model, client=client) == "ConflictException"
    fake.clock.pass_(120)
    done = client.get_model_import_job(jobIdentifier="import-mine")
    assert (done["status"], "endTime" in done) == ("Completed", True)
    model = done["importedModelArn"]
    assert client.get_imported_model(modelIdentifier="mine")["modelArn"] == model
    assert client.list_tags_for_resource(resourceARN=model)["tags"] == [{"key": "a", "value": "b"}]
    assert [one["modelName"] for one in client.list_imported_models()["modelSummaries"]] == ["mine"]
    assert client.list_custom_models()["modelSummaries"] == []
    (listed,) = client.list_model_import_jobs(statusEquals="Completed")["modelImportJobSummaries"]
    assert listed["importedModelArn"] == model
    client.delete_imported_model(modelIdentifier=model)
    assert code(client.get_imported_model, modelIdentifier=model) == "ResourceNotFoundException"


def test_a_customization_makes_a_model(fake: FakeBedrock, client: Any, events: list[tuple[str, str]]) -> None:
    """A customization job runs, tells EventBridge of its end, and its model names its base."""
    job = tune(client, hyperParameters={"epochCount": "2"})
    fake.clock.pass_(120)
    fake.control.tick()
    kind = "Model Customization Job State Change"
    assert events == [(kind, "InProgress"), (kind, "Completed")]
    done = client.get_model_customization_job(jobIdentifier=job)
    model = client.get_custom_model(modelIdentifier=done["outputModelArn"])
    assert (model["modelName"], model["modelStatus"]) == ("tuned", "Active")
    assert model["baseModelArn"].endswith("foundation-model/amazon.nova-lite-v1:0")
    (listed,) = client.list_model_customization_jobs(nameContains="tune")["modelCustomizationJobSummaries"]
    assert listed["customModelArn"] == model["modelArn"]
    assert len(client.list_custom_models(isOwned=True)["modelSummaries"]) == 1
    assert client.list_custom_models(isOwned=False)["modelSummaries"] == []


def test_jobs_fail_and_are_stopped(fake: FakeBedrock, client: Any) -> None:
    """A job may fail with a message, or be stopped; what has ended cannot be stopped."""
    fake.control.model_jobs.failing["tune-bad"] = "The training data has no records."
    bad, slow = tune(client, "bad"), tune(client, "slow")
    client.stop_model_customization_job(jobIdentifier=slow)
    assert client.get_model_customization_job(jobIdentifier=slow)["status"] == "Stopping"
    fake.clock.pass_(120)
    assert client.get_model_customization_job(jobIdentifier=slow)["status"] == "Stopped"
    failed = client.get_model_customization_job(jobIdentifier=bad)
    assert (failed["status"], failed["failureMessage"]) == ("Failed", "The training data has no records.")
    assert code(client.stop_model_customization_job, jobIdentifier=bad) == "ConflictException"
    assert client.list_custom_models()["modelSummaries"] == []
    assert code(client.get_model_customization_job, jobIdentifier="none") == "ResourceNotFoundException"


def test_distillation_needs_its_teacher(client: Any) -> None:
    """Distillation and its configuration go together; an unknown base model is refused."""
    assert code(tune, client=client, customizationType="DISTILLATION") == "ValidationException"
    assert code(tune, client=client, baseModelIdentifier="no.such-model") == "ValidationException"
    teacher = {"teacherModelConfig": {"teacherModelIdentifier": "amazon.nova-pro-v1:0"}}
    config = {"distillationConfig": teacher}
    tune(client, customizationType="DISTILLATION", customizationConfig=config)


def test_batch_jobs_go_their_way(fake: FakeBedrock, client: Any, events: list[tuple[str, str]]) -> None:
    """A batch job passes every status, is answered once it is InProgress, and tells EventBridge of each."""
    begun: list[Any] = []
    fake.control.invocation_jobs.background = lambda work: work()
    fake.control.invocation_jobs.run = lambda scope, job: begun.append((scope, job))
    job = batch(client, tags=[{"key": "a", "value": "b"}], timeoutDurationInHours=24)
    assert code(batch, client=client) == "ConflictException"
    fake.clock.pass_(15)
    shown = client.get_model_invocation_job(jobIdentifier=job)
    assert (shown["status"], (shown["jobExpirationTime"] - shown["submitTime"]).days) == ("InProgress", 1)
    ((scope, running),) = begun
    running.progress(total=4, processed=4, success=3, error=1)
    fake.control.invocation_jobs.end(scope, running, "PartiallyCompleted", "1 record has an error")
    fake.control.invocation_jobs.end(scope, running, "Failed")
    shown = client.get_model_invocation_job(jobIdentifier=running.id)
    counts = [shown[f"{name}RecordCount"] for name in ("total", "processed", "success", "error")]
    assert (shown["status"], counts) == ("PartiallyCompleted", [4, 4, 3, 1])
    statuses = ["Submitted", "Validating", "Scheduled", "InProgress", "PartiallyCompleted"]
    assert events == [("Batch Inference Job State Change", status) for status in statuses]
    assert code(client.stop_model_invocation_job, jobIdentifier=job) == "ValidationException"


@pytest.mark.parametrize("valid", [True, False])
def test_a_batch_job_is_scheduled_once_its_input_is_valid(
    fake: FakeBedrock, client: Any, valid: bool
) -> None:
    """A job waits in Validating for whoever looks at its input, and fails from there."""
    jobs, begun, statuses = fake.control.invocation_jobs, list[Any](), list[str]()
    fake.control.publish = lambda scope, source, kind, detail, resources: statuses.append(detail["status"])
    jobs.background = lambda work: work()
    jobs.validate = lambda scope, job: begun.append((scope, job))
    arn = batch(client)
    for _ in range(3):
        fake.clock.pass_(60)
        assert client.get_model_invocation_job(jobIdentifier=arn)["status"] == "Validating"
    ((scope, job),) = begun
    if valid:
        jobs.validated(job, 7)
    else:
        jobs.end(scope, job, "Failed", "line 3 is no record")
    fake.clock.pass_(60)
    shown = client.get_model_invocation_job(jobIdentifier=arn)
    if valid:
        assert (shown["status"], shown["totalRecordCount"]) == ("InProgress", 7)
    else:
        assert (shown["status"], shown["message"]) == ("Failed", "line 3 is no record")
    ending = ["Scheduled", "InProgress"] if valid else ["Failed"]
    assert statuses == ["Submitted", "Validating", *ending]


def test_batch_jobs_expire_and_are_stopped(fake: FakeBedrock, client: Any) -> None:
    """A job that nobody ends expires after its hours; a stopped one passes Stopping."""
    late, stopped = batch(client, "late", timeoutDurationInHours=24), batch(client, "stopped")
    client.stop_model_invocation_job(jobIdentifier=stopped)
    assert client.get_model_invocation_job(jobIdentifier=stopped)["status"] == "Stopping"
    fake.clock.pass_(24 * 3600)
    (expired,) = client.list_model_invocation_jobs(statusEquals="Expired")["invocationJobSummaries"]
    assert expired["jobArn"] == late
    assert client.get_model_invocation_job(jobIdentifier=stopped)["status"] == "Stopped"
    assert code(batch, client=client, name="x", modelId="no.such-model") == "ValidationException"


def test_deployments_are_made_updated_and_deleted(fake: FakeBedrock, client: Any) -> None:
    """A deployment is Creating, then Active, changes its model in place, and holds what it serves."""
    tune(client, "one"), tune(client, "two")
    fake.clock.pass_(120)
    client.list_model_customization_jobs()
    one, two = (client.get_custom_model(modelIdentifier=name)["modelArn"] for name in ("one", "two"))
    create, get = client.create_custom_model_deployment, client.get_custom_model_deployment
    arn = create(modelDeploymentName="chat", modelArn=one, clientRequestToken="t1")[
        "customModelDeploymentArn"
    ]
    again = create(modelDeploymentName="chat", modelArn=one, clientRequestToken="t1")
    assert again["customModelDeploymentArn"] == arn
    assert code(create, modelDeploymentName="chat", modelArn=one) == "ValidationException"
    delete = client.delete_custom_model_deployment
    assert code(delete, customModelDeploymentIdentifier=arn) == "ConflictException"
    update = client.update_custom_model_deployment
    assert code(update, customModelDeploymentIdentifier=arn, modelArn=two) == "ValidationException"
    fake.clock.pass_(60)
    assert get(customModelDeploymentIdentifier="chat")["status"] == "Active"
    update(customModelDeploymentIdentifier=arn, modelArn=two)
    shown = get(customModelDeploymentIdentifier=arn)
    assert (shown["modelArn"], shown["updateDetails"]["updateStatus"]) == (one, "Updating")
    fake.clock.pass_(30)
    shown = get(customModelDeploymentIdentifier=arn)
    assert (shown["modelArn"], shown["updateDetails"]["updateStatus"]) == (two, "UpdateCompleted")
    assert code(client.delete_custom_model, modelIdentifier=two) == "ConflictException"
    (listed,) = client.list_custom_model_deployments(modelArnEquals=two)["modelDeploymentSummaries"]
    assert listed["customModelDeploymentName"] == "chat"
    delete(customModelDeploymentIdentifier=arn)
    assert code(get, customModelDeploymentIdentifier=arn) == "ResourceNotFoundException"
    client.delete_custom_model(modelIdentifier=two)


def test_only_active_custom_models_are_deployed(fake: FakeBedrock, client: Any) -> None:
    """A model that is being created, or is none, cannot be deployed; it has no units either."""
    model = client.create_custom_model(modelName="own", modelSourceConfig=S3)["modelArn"]
    create = client.create_custom_model_deployment
    assert code(create, modelDeploymentName="d", modelArn=model) == "ValidationException"
    assert client.list_custom_models(modelStatus="Creating")["modelSummaries"][0]["modelArn"] == model
    nowhere = model[:-12] + "zzzzzzzzzzzz"
    assert code(create, modelDeploymentName="d", modelArn=nowhere) == "ResourceNotFoundException"
    fake.clock.pass_(60)
    create(modelDeploymentName="d", modelArn=model)
    buy = client.create_provisioned_model_throughput
    asked = {"modelUnits": 1, "provisionedModelName": "units", "modelId": model}
    assert code(buy, **asked) == "ValidationException"


def test_foundation_models_are_listed_with_how_they_are_sold(fake: FakeBedrock, client: Any) -> None:
    """Models have the inference types that the library's lists give them, and access can be missing."""
    listed = client.list_foundation_models()["modelSummaries"]
    sold = client.list_foundation_models(byInferenceType="PROVISIONED", byProvider="amazon")["modelSummaries"]
    assert 0 < len(sold) < len(listed)
    assert "amazon.nova-lite-v1:0" in [one["modelId"] for one in sold]
    (details,) = [client.get_foundation_model(modelIdentifier="amazon.nova-lite-v1:0")["modelDetails"]]
    assert details["inferenceTypesSupported"] == ["ON_DEMAND", "PROVISIONED"]
    available = client.get_foundation_model_availability
    assert available(modelId="amazon.nova-lite-v1:0")["agreementAvailability"]["status"] == "AVAILABLE"
    fake.control.models.without_access.add("amazon.nova-lite-v1:0")
    assert available(modelId="amazon.nova-lite-v1:0")["entitlementAvailability"] == "NOT_AVAILABLE"
    assert code(available, modelId="no.such-model") == "ValidationException"
    assert code(client.get_foundation_model, modelIdentifier="no.such-model") == "ValidationException"


def test_logging_is_one_setting(fake: FakeBedrock, client: Any) -> None:
    """An account has one setting in a region, which the last Put wins and which may be absent."""
    assert "loggingConfig" not in client.get_model_invocation_logging_configuration()
    put = client.put_model_invocation_logging_configuration
    assert code(put, loggingConfig={"textDataDeliveryEnabled": True}) == "ValidationException"
    put(loggingConfig={"s3Config": {"bucketName": "logs"}, "imageDataDeliveryEnabled": False})
    shown = client.get_model_invocation_logging_configuration()["loggingConfig"]
    assert (shown["s3Config"]["bucketName"], shown["imageDataDeliveryEnabled"]) == ("logs", False)
    assert fake.control.logging.of(SCOPE) is not None
    client.delete_model_invocation_logging_configuration()
    assert "loggingConfig" not in client.get_model_invocation_logging_configuration()


def test_an_answer_that_the_model_forbids_is_no_answer() -> None:
    """The fake cannot say what the real service could not: answers are checked against botocore's model."""
    control = BedrockControl()
    control.add_operations({"GetImportedModel": lambda scope, params: {"modelName": "a b"}})
    with pytest.raises(AssertionError, match="GetImportedModel would answer what its model forbids"):
        control.call(SCOPE, "GetImportedModel", {"modelIdentifier": "x"})
    with pytest.raises(AwsError, match="not modelled by the local cloud"):
        control.call(SCOPE, "CreateEvaluationJob", {})


@pytest.mark.parametrize(
    "request_",
    [
        {"kind": "lost"},
        [{"kind": "burning"}],
        ["lost"],
        [{"kind": "lost", "times": -1}],
        [{"kind": "lost", "after": True}],
        [{"kind": "lost", "operation": 1}],
        [{"kind": "lost", "for": 1}],
    ],
)
def test_faults_of_another_form_are_refused(request_: object) -> None:
    """An admin call of another form changes nothing and says which form there is."""
    control = BedrockControl()
    control.faults.add(Fault(kind="lost"))
    with pytest.raises(TokenmillError, match="bedrock_faults takes a list"):
        control.faults.inject(request_)
    assert control.faults.take("ListGuardrails") is not None


def test_injected_faults_replace_and_end(fake: FakeBedrock, client: Any) -> None:
    """An admin call replaces what waits; an empty list ends every fault."""
    fake.faults.inject([{"kind": "throttled", "times": 3, "after": 1, "operation": "ListFoundationModels"}])
    client.list_foundation_models()
    assert code(client.list_foundation_models) == "ThrottlingException"
    fake.faults.inject([])
    client.list_foundation_models()


def test_the_server_knows_who_asks(fake: FakeBedrock) -> None:
    """An unsigned request and one for another service are refused; another service can hang in."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{fake.url}/foundation-models")
    with caught.value as refusal:
        assert refusal.code == 403
    assert code(fake.client("ssm").get_parameter, Name="x") == "UnknownOperationException"
    answer = {"Parameter": {"Name": "x", "Value": "y"}}
    fake.server.others["ssm"] = lambda scope, request: (200, {}, json.dumps(answer).encode())
    assert fake.client("ssm").get_parameter(Name="x")["Parameter"]["Value"] == "y"


def test_the_server_outlives_clients_and_ends_with_its_block() -> None:
    """A client that says nothing or half a request harms nobody, and no connection survives the server."""
    with BedrockServer(BedrockControl()) as server:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as half:
            half.sendall(b"GET /foundation-models\r\n\r\n")
            assert half.recv(100) == b""
        idle = socket.create_connection((host, int(port)))
        idle.sendall(b"GET /foundation-models HTTP/1.1\r\n\r\n")
        assert idle.recv(12) == b"HTTP/1.1 403"
        idle.recv(1000)
    with idle:
        assert idle.recv(100) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)))
