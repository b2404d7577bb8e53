"""What Bedrock's local APIs refuse is the caller's error, and what is gone or listed is so everywhere."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from support_local import REGION, ROLE, client
from tokenmill.local.processes import wait_until

if TYPE_CHECKING:
    from tokenmill.local.cloud_process import CloudProcess

SECONDS = 20.0


def refused(call: Any, **params: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**params)
    return str(caught.value.response["Error"]["Code"])


def invocations(cloud: CloudProcess, model_id: str) -> float:
    now = datetime.now(UTC)
    found = client(cloud.endpoint, "cloudwatch").get_metric_statistics(
        Namespace="AWS/Bedrock",
        MetricName="Invocations",
        Dimensions=[{"Name": "ModelId", "Value": model_id}],
        StartTime=now - timedelta(minutes=5),
        EndTime=now + timedelta(minutes=1),
        Period=600,
        Statistics=["Sum"],
    )
    return sum(float(point["Sum"]) for point in found["Datapoints"])


def test_converse_refuses_an_imported_model_without_asking_it(cloud: CloudProcess) -> None:
    """Only InvokeModel reaches an imported model; the refused call is no invocation."""
    control, runtime = client(cloud.endpoint, "bedrock"), client(cloud.endpoint, "bedrock-runtime")
    name = f"mine-{uuid4().hex[:8]}"
    job = control.create_model_import_job(
        jobName=name,
        importedModelName=name,
        roleArn=ROLE,
        modelDataSource={"s3DataSource": {"s3Uri": "s3://weights/mine/"}},
    )["jobArn"]
    look = control.get_model_import_job
    assert wait_until(lambda: look(jobIdentifier=job)["status"] == "Completed", SECONDS)
    arn = look(jobIdentifier=job)["importedModelArn"]
    messages = [{"role": "user", "content": [{"text": "Hi"}]}]
    assert refused(runtime.converse, modelId=arn, messages=messages) == "ValidationException"
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    runtime.invoke_model(modelId=arn, body=json.dumps(body))
    assert invocations(cloud, arn) == 1


def test_a_guardrails_pattern_must_be_one(cloud: CloudProcess) -> None:
    """A pattern that is none is refused when it is made, not in the calls that it guards."""
    bad = {"regexesConfig": [{"name": "open", "pattern": "(", "action": "BLOCK"}]}
    code = refused(
        client(cloud.endpoint, "bedrock").create_guardrail,
        name=f"g-{uuid4().hex[:8]}",
        blockedInputMessaging="NO",
        blockedOutputsMessaging="NO",
        sensitiveInformationPolicyConfig=bad,
    )
    assert code == "ValidationException"


def test_a_deleted_prompt_is_gone_with_its_tags_and_its_token(cloud: CloudProcess) -> None:
    """Tags of what is not there are refused, and the token of a deleted prompt makes a prompt again."""
    agent = client(cloud.endpoint, "bedrock-agent")
    asked = {"name": f"p-{uuid4().hex[:8]}", "clientToken": uuid4().hex + uuid4().hex, "tags": {"a": "b"}}
    first = agent.create_prompt(**asked)
    assert agent.create_prompt(**asked)["id"] == first["id"]
    agent.delete_prompt(promptIdentifier=first["id"])
    assert refused(agent.list_tags_for_resource, resourceArn=first["arn"]) == "ResourceNotFoundException"
    second = agent.create_prompt(**asked)
    assert second["id"] != first["id"]
    assert agent.get_prompt(promptIdentifier=second["id"])["name"] == asked["name"]
    agent.delete_prompt(promptIdentifier=second["id"])


def test_profiles_are_listed_by_type_or_all(cloud: CloudProcess) -> None:
    """The region's system-defined profiles stand beside one's own, each under its type."""
    control = client(cloud.endpoint, "bedrock")
    own = control.create_inference_profile(
        inferenceProfileName=f"own-{uuid4().hex[:8]}",
        modelSource={"copyFrom": f"arn:aws:bedrock:{REGION}::foundation-model/amazon.nova-lite-v1:0"},
    )["inferenceProfileArn"]

    def listed(**asked: str) -> set[str]:
        pages = control.get_paginator("list_inference_profiles").paginate(**asked)
        return {found["inferenceProfileArn"] for page in pages for found in page["inferenceProfileSummaries"]}

    system = listed(typeEquals="SYSTEM_DEFINED")
    assert any(arn.endswith("/us.amazon.nova-lite-v1:0") for arn in system)
    assert not any("/eu." in arn for arn in system)
    assert own in listed(typeEquals="APPLICATION")
    assert listed() == system | listed(typeEquals="APPLICATION")
    found = control.get_inference_profile(inferenceProfileIdentifier="us.amazon.nova-lite-v1:0")
    assert (found["inferenceProfileId"], found["type"]) == ("us.amazon.nova-lite-v1:0", "SYSTEM_DEFINED")
    control.delete_inference_profile(inferenceProfileIdentifier=own)


def test_a_token_of_another_service_is_refused_by_service_quotas(cloud: CloudProcess) -> None:
    """A page's token is the service's own."""
    quotas = client(cloud.endpoint, "service-quotas")
    code = refused(quotas.list_service_quotas, ServiceCode="bedrock", NextToken="another")
    assert code == "InvalidPaginationTokenException"
