"""Provisioned throughput of the modelled control plane, asked over HTTP with the real client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from support_bedrock import MODEL, SCOPE, bedrock_server
from tokenmill.local.bedrock import Behaviour, Fault, UnitQuotas

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support_bedrock import FakeBedrock

OTHER = "amazon.nova-micro-v1:0:24k"


@pytest.fixture
def fake() -> Iterator[FakeBedrock]:
    with bedrock_server() as served:
        yield served


@pytest.fixture
def client(fake: FakeBedrock) -> Any:
    return fake.client()


def buy(client: Any, name: str = "units", **more: Any) -> str:
    asked = {"modelUnits": 2, "provisionedModelName": name, "modelId": MODEL, **more}
    return str(client.create_provisioned_model_throughput(**asked)["provisionedModelArn"])


def refused(call: Callable[..., Any], **params: Any) -> tuple[str, int]:
    with pytest.raises(ClientError) as caught:
        call(**params)
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def custom_model(fake: FakeBedrock, name: str) -> str:
    """A custom model of the base model behind MODEL, as a finished job leaves it."""
    client = fake.client()
    client.create_model_customization_job(
        jobName=f"tune-{name}",
        customModelName=name,
        roleArn="arn:aws:iam::123456789012:role/tune",
        baseModelIdentifier="amazon.nova-lite-v1:0:300k",
        trainingDataConfig={"s3Uri": "s3://bucket/train.jsonl"},
        outputDataConfig={"s3Uri": "s3://bucket/out/"},
    )
    fake.clock.pass_(fake.control.behaviour.job_seconds)
    return str(client.get_model_customization_job(jobIdentifier=f"tune-{name}")["outputModelArn"])


def test_units_are_created_served_and_deleted(fake: FakeBedrock, client: Any) -> None:
    """A purchase is Creating, then InService, is found by name and ARN, and is gone after its deletion."""
    arn = buy(client, tags=[{"key": "team", "value": "chat"}])
    shown = client.get_provisioned_model_throughput(provisionedModelId="units")
    assert (shown["status"], shown["provisionedModelArn"], shown["modelUnits"]) == ("Creating", arn, 2)
    assert client.list_tags_for_resource(resourceARN=arn)["tags"] == [{"key": "team", "value": "chat"}]
    fake.clock.pass_(60)
    assert client.get_provisioned_model_throughput(provisionedModelId=arn)["status"] == "InService"
    client.delete_provisioned_model_throughput(provisionedModelId=arn)
    assert refused(client.get_provisioned_model_throughput, provisionedModelId=arn) == (
        "ResourceNotFoundException",
        404,
    )
    assert fake.units == 0


def test_units_being_created_cannot_be_deleted(fake: FakeBedrock, client: Any) -> None:
    """A Delete of what is Creating is a conflict."""
    arn = buy(client)
    assert (
        refused(client.delete_provisioned_model_throughput, provisionedModelId=arn)[0] == "ConflictException"
    )
    assert fake.units == 2


@pytest.mark.parametrize("code", ["ValidationException", "ConflictException"])
def test_a_name_is_taken_once(code: str) -> None:
    """A second purchase under a name is refused, also while a deleted one's name is held."""
    with bedrock_server(behaviour=Behaviour(taken_name=code, held_name_seconds=90)) as fake:
        client = fake.client()
        arn = buy(client)
        again = {"modelUnits": 1, "provisionedModelName": "units", "modelId": OTHER}
        assert refused(client.create_provisioned_model_throughput, **again)[0] == code
        fake.clock.pass_(60)
        client.delete_provisioned_model_throughput(provisionedModelId=arn)
        assert refused(client.create_provisioned_model_throughput, **again)[0] == code
        fake.clock.pass_(91)
        assert buy(client) != arn


def test_a_token_buys_once(fake: FakeBedrock, client: Any) -> None:
    """The same token answers with the same units, whatever else it asks for."""
    arn = buy(client, clientRequestToken="token1")
    assert buy(client, clientRequestToken="token1") == arn
    assert buy(client, "other", clientRequestToken="token1") == arn
    assert fake.units == 2


def test_a_token_outlives_its_units_or_not() -> None:
    """After a deletion a token answers the deleted ARN, or buys anew; both are possible services."""
    for behaviour, units in ((Behaviour(), 0), (Behaviour(token_after_delete="anew"), 2)):
        with bedrock_server(behaviour=behaviour) as fake:
            client = fake.client()
            arn = buy(client, clientRequestToken="token1")
            fake.clock.pass_(60)
            client.delete_provisioned_model_throughput(provisionedModelId=arn)
            assert (buy(client, clientRequestToken="token1") == arn) == (units == 0)
            assert fake.units == units


def test_a_token_may_be_refused_or_forgotten() -> None:
    """Some services mind other members under a token; none remembers it for ever."""
    with bedrock_server(behaviour=Behaviour(token_mismatch="refused", token_seconds=100)) as fake:
        client = fake.client()
        buy(client, clientRequestToken="token1")
        other = {"modelUnits": 1, "provisionedModelName": "other", "modelId": MODEL}
        asked = {**other, "clientRequestToken": "token1"}
        assert refused(client.create_provisioned_model_throughput, **asked)[0] == "ValidationException"
        fake.clock.pass_(101)
        client.create_provisioned_model_throughput(**asked)
        assert fake.units == 3


def test_a_refused_purchase_leaves_its_token_free(fake: FakeBedrock, client: Any) -> None:
    """A token whose request was refused can be used again once the obstacle is gone."""
    fake.control.quotas.base = 1
    asked = {"modelUnits": 2, "provisionedModelName": "units", "modelId": MODEL, "clientRequestToken": "t1"}
    assert refused(client.create_provisioned_model_throughput, **asked)[0] == "ServiceQuotaExceededException"
    fake.control.quotas.base = 2
    client.create_provisioned_model_throughput(**asked)
    assert fake.units == 2


def test_quotas_are_zero_unless_granted() -> None:
    """A new account may buy nothing; units of one kind do not count for another."""
    with bedrock_server(quotas=UnitQuotas(committed=2, per_model=5)) as fake:
        client = fake.client()
        asked = {"modelUnits": 1, "provisionedModelName": "units", "modelId": MODEL}
        create = client.create_provisioned_model_throughput
        assert refused(create, **asked) == ("ServiceQuotaExceededException", 400)
        assert refused(create, **{**asked, "modelUnits": 6})[0] == "ServiceQuotaExceededException"
        buy(client, commitmentDuration="OneMonth")
        again = {**asked, "provisionedModelName": "more", "commitmentDuration": "SixMonths"}
        assert refused(create, **again)[0] == "ServiceQuotaExceededException"


@pytest.mark.parametrize("code", ["ValidationException", "ConflictException"])
def test_a_commitment_cannot_be_deleted_before_its_end(code: str) -> None:
    """Units with a commitment stay for its term, and can be deleted afterwards."""
    with bedrock_server(behaviour=Behaviour(early_delete=code)) as fake:
        client = fake.client()
        arn = buy(client, commitmentDuration="OneMonth")
        fake.clock.pass_(29 * 86_400)
        assert refused(client.delete_provisioned_model_throughput, provisionedModelId=arn)[0] == code
        shown = client.get_provisioned_model_throughput(provisionedModelId=arn)
        term = shown["commitmentExpirationTime"] - shown["creationTime"]
        assert (shown["commitmentDuration"], term.days) == ("OneMonth", 30)
        fake.clock.pass_(86_400)
        client.delete_provisioned_model_throughput(provisionedModelId=arn)
        assert fake.units == 0


@pytest.mark.parametrize(
    ("model", "region", "commitment", "code"),
    [
        ("amazon.no-such-model-v9:0", "us-east-1", None, "ValidationException"),
        (MODEL, "eu-north-1", None, "ValidationException"),
        ("amazon.titan-image-generator-v2:0", "us-east-1", None, "ValidationException"),
        (
            "arn:aws:bedrock:us-east-1:123456789012:custom-model/amazon.nova-lite-v1:0/aaaabbbbcccc",
            "us-east-1",
            None,
            "ResourceNotFoundException",
        ),
    ],
)
def test_models_without_units_are_refused(
    fake: FakeBedrock, model: str, region: str, commitment: str | None, code: str
) -> None:
    """An unknown model, or one without units here or without a commitment, is refused and costs nothing."""
    import boto3

    client = boto3.client(
        "bedrock",
        endpoint_url=fake.url,
        region_name=region,
        aws_access_key_id=SCOPE.account,
        aws_secret_access_key="secret",
    )
    asked = {"modelUnits": 1, "provisionedModelName": "units", "modelId": model}
    assert refused(client.create_provisioned_model_throughput, **asked)[0] == code
    assert fake.units == 0


def test_members_out_of_their_constraints_are_refused(fake: FakeBedrock) -> None:
    """What botocore's model forbids is refused by the service, too, for a client that does not check."""
    client = fake.client(parameter_validation=False)
    for wrong in ({"modelUnits": 0}, {"provisionedModelName": "a--b"}, {"modelUnits": "two"}):
        asked = {"modelUnits": 1, "provisionedModelName": "units", "modelId": MODEL, **wrong}
        assert refused(client.create_provisioned_model_throughput, **asked)[0] == "ValidationException"
    assert fake.units == 0


def test_reads_come_late() -> None:
    """Get and List show a purchase, a tag and a deletion only after their lag; the account has it at once."""
    with bedrock_server(behaviour=Behaviour(get_lag_seconds=10, list_lag_seconds=30)) as fake:
        client = fake.client()
        arn = buy(client)
        get, tags = client.get_provisioned_model_throughput, client.list_tags_for_resource
        assert fake.units == 2
        assert refused(get, provisionedModelId=arn)[0] == "ResourceNotFoundException"
        assert refused(tags, resourceARN=arn)[0] == "ResourceNotFoundException"
        fake.clock.pass_(11)
        client.tag_resource(resourceARN=arn, tags=[{"key": "a", "value": "b"}])
        assert get(provisionedModelId="units")["status"] == "Creating"
        assert tags(resourceARN=arn)["tags"] == []
        assert client.list_provisioned_model_throughputs()["provisionedModelSummaries"] == []
        fake.clock.pass_(60)
        assert tags(resourceARN=arn)["tags"] == [{"key": "a", "value": "b"}]
        client.delete_provisioned_model_throughput(provisionedModelId=arn)
        assert get(provisionedModelId=arn)["status"] == "InService"
        assert len(client.list_provisioned_model_throughputs()["provisionedModelSummaries"]) == 1
        fake.clock.pass_(31)
        assert client.list_provisioned_model_throughputs()["provisionedModelSummaries"] == []


def test_lists_come_in_pages_and_filtered(fake: FakeBedrock, client: Any) -> None:
    """A List gives what it is asked for, newest first, a page at a time."""
    for number in range(5):
        buy(client, f"units{number}", modelUnits=1, modelId=MODEL if number % 2 else OTHER)
        fake.clock.pass_(40)
    asked = client.list_provisioned_model_throughputs

    def names(**params: Any) -> list[str]:
        return [one["provisionedModelName"] for one in asked(**params)["provisionedModelSummaries"]]

    assert names() == ["units4", "units3", "units2", "units1", "units0"]
    first = asked(maxResults=2, sortOrder="Ascending")
    assert [one["provisionedModelName"] for one in first["provisionedModelSummaries"]] == ["units0", "units1"]
    assert names(maxResults=2, sortOrder="Ascending", nextToken=first["nextToken"]) == ["units2", "units3"]
    assert names(statusEquals="Creating") == ["units4"]
    assert names(nameContains="s3") == ["units3"]
    arn = f"arn:aws:bedrock:us-east-1::foundation-model/{MODEL}"
    assert names(modelArnEquals=arn) == ["units3", "units1"]
    created = client.get_provisioned_model_throughput(provisionedModelId="units2")["creationTime"]
    assert names(creationTimeAfter=created) == ["units4", "units3"]
    assert names(creationTimeBefore=created) == ["units1", "units0"]
    assert refused(asked, nextToken="elsewhere")[0] == "ValidationException"


def test_only_the_model_of_a_custom_model_changes(fake: FakeBedrock, client: Any) -> None:
    """The model of base model's units is fixed; a custom model gives way to its kin, and is Updating then."""
    arn = buy(client)
    fake.clock.pass_(60)
    update = client.update_provisioned_model_throughput
    assert refused(update, provisionedModelId=arn, desiredModelId=OTHER)[0] == "ValidationException"
    first, second = custom_model(fake, "one"), custom_model(fake, "two")
    tuned = buy(client, "tuned", modelId=first)
    assert refused(update, provisionedModelId=tuned, desiredModelId=second)[0] == "ValidationException"
    fake.clock.pass_(60)
    update(provisionedModelId=tuned, desiredModelId=second)
    shown = client.get_provisioned_model_throughput(provisionedModelId=tuned)
    assert (shown["status"], shown["modelArn"], shown["desiredModelArn"]) == ("Updating", first, second)
    assert refused(client.delete_custom_model, modelIdentifier=first)[0] == "ConflictException"
    fake.clock.pass_(30)
    shown = client.get_provisioned_model_throughput(provisionedModelId=tuned)
    assert (shown["status"], shown["modelArn"]) == ("InService", second)
    update(provisionedModelId=tuned, desiredProvisionedModelName="renamed")
    assert client.get_provisioned_model_throughput(provisionedModelId="renamed")["modelUnits"] == 2


def test_units_without_capacity_fail(fake: FakeBedrock, client: Any) -> None:
    """A purchase that finds no capacity ends Failed with a message, and still has to be deleted."""
    fake.control.provisioned.without_capacity = {MODEL}
    arn = buy(client)
    fake.clock.pass_(60)
    shown = client.get_provisioned_model_throughput(provisionedModelId=arn)
    assert shown["status"] == "Failed"
    assert "capacity" in shown["failureMessage"]
    assert "failureMessage" not in client.list_provisioned_model_throughputs()["provisionedModelSummaries"][0]
    client.delete_provisioned_model_throughput(provisionedModelId=arn)
    assert fake.owned() == []


def test_tags_are_limited_and_follow_their_units(fake: FakeBedrock, client: Any) -> None:
    """A resource takes fifty tags; one that is gone takes none."""
    arn = buy(client)
    many = [{"key": f"k{number}", "value": ""} for number in range(51)]
    assert refused(client.tag_resource, resourceARN=arn, tags=many)[0] == "TooManyTagsException"
    client.tag_resource(resourceARN=arn, tags=many[:2])
    client.untag_resource(resourceARN=arn, tagKeys=["k0"])
    assert client.list_tags_for_resource(resourceARN=arn)["tags"] == many[1:2]
    elsewhere = arn[:-3] + "zzz"
    assert (
        refused(client.tag_resource, resourceARN=elsewhere, tags=many[:1])[0] == "ResourceNotFoundException"
    )


@pytest.mark.parametrize(
    ("kind", "error", "units"),
    [
        ("throttled", "ThrottlingException", 0),
        ("failed", "InternalServerException", 0),
        ("failed_after", "InternalServerException", 2),
        ("denied", "AccessDeniedException", 0),
        ("dropped", None, 0),
        ("lost", None, 2),
    ],
)
def test_faults_befall_a_call(
    fake: FakeBedrock, client: Any, kind: Any, error: str | None, units: int
) -> None:
    """A fault befalls the call that it waits for, before the service acts or after it."""
    fake.faults.add(Fault(kind=kind, operation="CreateProvisionedModelThroughput"))
    client.list_provisioned_model_throughputs()
    asked = {"modelUnits": 2, "provisionedModelName": "units", "modelId": MODEL}
    if error is None:
        with pytest.raises(ConnectionClosedError):
            client.create_provisioned_model_throughput(**asked)
    else:
        assert refused(client.create_provisioned_model_throughput, **asked)[0] == error
    assert fake.units == units
    assert dict(fake.faults.met) == {(kind, "CreateProvisionedModelThroughput"): 1}
    client.list_provisioned_model_throughputs()


def test_a_lost_answer_is_tried_again_with_its_token(fake: FakeBedrock) -> None:
    """botocore's own retry after a broken connection sends the same token, so that it buys once."""
    import boto3
    from botocore.config import Config

    fake.faults.add(Fault(kind="lost", operation="CreateProvisionedModelThroughput"))
    config = Config(retries={"mode": "standard", "total_max_attempts": 2})
    client = boto3.client("bedrock", endpoint_url=fake.url, config=config)
    buy(client)
    assert fake.units == 2
