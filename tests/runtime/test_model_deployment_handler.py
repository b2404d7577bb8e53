"""The deployment of a custom model: made once, changed in place, adopted, deleted, refused with the cause."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support_bedrock import ACCOUNT, REGION, SCOPE, FakeBedrock, bedrock_server
from tokenmill.local.bedrock import Behaviour
from tokenmill.local.bedrock.custom_models import CustomModel
from tokenmill.local.bedrock.faults import Fault
from tokenmill_runtime import model_deployment
from tokenmill_runtime.custom_resource import Refused
from tokenmill_runtime.model_deployment import ModelDeploymentResource
from tokenmill_runtime.waited_resource import is_complete, on_event

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

STACK = f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/serve/11111111-2222-3333-4444-555555555555"
RESOURCES = {
    model_deployment.RESOURCE_TYPE: ModelDeploymentResource(),
}
MOST_STEPS = 30


class Served:
    """A control plane over HTTP and one client of it, which tries nothing again by itself."""

    def __init__(self, fake: FakeBedrock) -> None:
        self.fake, self.client = fake, fake.client()


@pytest.fixture
def bedrock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A control plane with two custom models and an imported one."""
    with bedrock_server() as fake:
        for name, kind in (("one", "custom-model/imported"), ("two", "custom-model/imported")):
            add_model(fake, name, kind)
        add_model(fake, "open", "imported-model")
        served = Served(fake)
        monkeypatch.setattr(model_deployment, "bedrock", lambda: served.client)
        yield served
        served.client.close()


def add_model(fake: FakeBedrock, name: str, kind: str, *, ready: float = 0.0) -> None:
    arn = model(name, kind)
    made = CustomModel(arn=arn, name=name, base=None, created=fake.control.now(), ready=ready)
    fake.control.custom_models.add(SCOPE, made, None)


def model(name: str, kind: str = "custom-model/imported") -> str:
    return f"arn:aws:bedrock:{REGION}:{ACCOUNT}:{kind}/{name:0<12}"


def event(kind: str, number: int = 1, **properties: Any) -> dict[str, Any]:
    return {
        "RequestType": kind,
        "RequestId": f"00000000-0000-0000-0000-{number:012}",
        "StackId": STACK,
        "LogicalResourceId": "Deployment",
        "ResourceType": model_deployment.RESOURCE_TYPE,
        "ResourceProperties": {"Name": "serve", "ModelArn": model("one"), "Tags": [], **properties},
    }


def drive(served: Served, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Run a request to its end, as the Provider framework does; time passes between the steps."""
    begun = on_event(RESOURCES, asked, None)
    for _ in range(MOST_STEPS):
        answer = is_complete(RESOURCES, {**asked, **begun}, None)
        if answer["IsComplete"]:
            return {"PhysicalResourceId": begun["PhysicalResourceId"], **answer}
        served.fake.clock.pass_(15)
    raise AssertionError(f"not over after {MOST_STEPS} steps")


def update(number: int, made: Mapping[str, Any], old: Mapping[str, Any], **properties: Any) -> dict[str, Any]:
    return {
        **event("Update", number, **properties),
        "PhysicalResourceId": made["PhysicalResourceId"],
        "OldResourceProperties": old["ResourceProperties"],
    }


def delete(number: int, physical_id: str, **properties: Any) -> dict[str, Any]:
    return {**event("Delete", number, **properties), "PhysicalResourceId": physical_id}


def deployments(served: Served) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = served.client.list_custom_model_deployments()["modelDeploymentSummaries"]
    return found


def tags(served: Served, arn: str) -> dict[str, str]:
    found = served.client.list_tags_for_resource(resourceARN=arn)["tags"]
    return {tag["key"]: tag["value"] for tag in found}


def test_a_create_makes_one_deployment_with_tags_that_say_whose_it_is(bedrock: Served) -> None:
    """The ARN is there when it answers; the user's tags stand beside ours."""
    made = drive(bedrock, event("Create", Tags=[{"Key": "team", "Value": "search"}]))
    (found,) = deployments(bedrock)
    assert made["Data"] == {"Arn": found["customModelDeploymentArn"], "ModelArn": model("one")}
    assert found["status"] == "Active"
    assert made["PhysicalResourceId"] == found["customModelDeploymentName"]
    kept = tags(bedrock, found["customModelDeploymentArn"])
    assert (kept["team"], kept["tokenmill:stack"]) == ("search", STACK)
    assert kept["tokenmill:resource"] == made["PhysicalResourceId"]


def test_nothing_is_made_before_the_first_step(bedrock: Served) -> None:
    """A request that is refused at once has nothing to undo."""
    on_event(RESOURCES, event("Create"), None)
    assert deployments(bedrock) == []


@pytest.mark.parametrize("taken", ["ValidationException", "ConflictException"])
@pytest.mark.parametrize("kind", ["throttled", "failed", "failed_after", "dropped", "lost"])
@pytest.mark.parametrize(
    "operation", ["CreateCustomModelDeployment", "GetCustomModelDeployment", "ListTagsForResource"]
)
def test_a_lost_or_failed_call_makes_nothing_twice(
    bedrock: Served, kind: Any, operation: str, taken: Any
) -> None:
    """The name is the lock: what an attempt left is found again, however a taken name is refused."""
    bedrock.fake.control.behaviour = Behaviour(taken_name=taken, token_seconds=0)
    bedrock.fake.faults.add(Fault(kind=kind, operation=operation, times=3))
    drive(bedrock, event("Create"))
    assert len(deployments(bedrock)) == 1


def test_the_same_create_delivered_again_finds_the_first(bedrock: Served) -> None:
    """The answer is the same, and so is the deployment."""
    assert drive(bedrock, event("Create")) == drive(bedrock, event("Create"))
    assert len(deployments(bedrock)) == 1


def test_what_an_earlier_stack_update_left_is_adopted(bedrock: Served) -> None:
    """A create of the same resource by another request takes what is there and brings it to its model."""
    drive(bedrock, event("Create"))
    made = drive(bedrock, event("Create", 2, ModelArn=model("two")))
    (found,) = deployments(bedrock)
    assert (found["modelArn"], made["Data"]["ModelArn"]) == (model("two"), model("two"))


def test_another_model_changes_the_deployment_in_place_and_a_rollback_changes_it_back(
    bedrock: Served,
) -> None:
    """The ARN that callers have never changes."""
    first = event("Create")
    made = drive(bedrock, first)
    second = update(2, made, first, ModelArn=model("two"))
    changed = drive(bedrock, second)
    assert changed["PhysicalResourceId"] == made["PhysicalResourceId"]
    assert changed["Data"] == {"Arn": made["Data"]["Arn"], "ModelArn": model("two")}
    back = drive(bedrock, update(3, changed, second))
    assert back["Data"] == made["Data"]
    assert [found["modelArn"] for found in deployments(bedrock)] == [model("one")]


def test_tags_are_added_and_taken_away(bedrock: Served) -> None:
    """Only those that the template had before are taken away."""
    first = event("Create", Tags=[{"Key": "team", "Value": "search"}])
    made = drive(bedrock, first)
    arn = made["Data"]["Arn"]
    bedrock.client.tag_resource(resourceARN=arn, tags=[{"key": "by-hand", "value": "1"}])
    drive(bedrock, update(2, made, first, Tags=[{"Key": "cost", "Value": "7"}]))
    kept = tags(bedrock, arn)
    assert (kept["cost"], kept["by-hand"]) == ("7", "1")
    assert "team" not in kept
    assert kept["tokenmill:stack"] == STACK


def test_a_delete_removes_it_and_may_be_delivered_again(bedrock: Served) -> None:
    """A deployment that is still being made is deleted when it is."""
    begun = on_event(RESOURCES, event("Create"), None)
    is_complete(RESOURCES, {**event("Create"), **begun}, None)
    for _ in range(2):
        drive(bedrock, delete(2, begun["PhysicalResourceId"]))
        assert deployments(bedrock) == []


def test_a_create_that_was_answered_without_its_name_is_deleted_all_the_same(bedrock: Served) -> None:
    """CloudFormation deletes a failed create by the id that the failure was answered with."""
    asked = event("Create")
    drive(bedrock, asked)
    from tokenmill_runtime.waited_resource import read

    drive(bedrock, delete(2, read(asked).own_id))
    assert deployments(bedrock) == []


def test_a_deployment_of_another_stack_is_neither_changed_nor_deleted(bedrock: Served) -> None:
    """Its tags say whose it is; the message says how to make room."""
    made = drive(bedrock, event("Create"))
    bedrock.client.tag_resource(
        resourceARN=made["Data"]["Arn"], tags=[{"key": "tokenmill:stack", "value": "arn:other"}]
    )
    with pytest.raises(Refused, match="that this stack did not make; delete it with: aws bedrock"):
        drive(bedrock, event("Create", 2))
    drive(bedrock, delete(3, made["PhysicalResourceId"]))
    assert len(deployments(bedrock)) == 1


def test_fails_for_a_model_that_does_not_exist(bedrock: Served) -> None:
    """The service's own words are the cause, and nothing is left."""
    with pytest.raises(Refused, match="cannot be deployed: .* was not found"):
        drive(bedrock, event("Create", ModelArn=model("gone")))
    assert deployments(bedrock) == []


def test_fails_for_a_model_that_is_being_made(bedrock: Served) -> None:
    """A custom model must be Active."""
    add_model(bedrock.fake, "young", "custom-model/imported", ready=bedrock.fake.clock.now + 9999)
    with pytest.raises(Refused, match="is not Active"):
        drive(bedrock, event("Create", ModelArn=model("young")))


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({"ModelArn": model("open", "imported-model")}, "is an imported model, which is called as it is"),
        ({"ModelArn": "amazon.nova-lite-v1:0"}, "it must be the ARN of a custom model"),
        ({"Name": "a" * 41}, "1 to 40 letters"),
        ({"Name": "a--b"}, "single dashes"),
        ({"Name": ""}, "Name is ''"),
    ],
)
def test_fails_at_once_for_what_can_never_be_deployed(
    bedrock: Served, properties: dict[str, str], words: str
) -> None:
    """Before anything is called."""
    with pytest.raises(Refused, match=words):
        on_event(RESOURCES, event("Create", **properties), None)


class Failing:
    """A control plane whose deployments fail, as `GetCustomModelDeployment` says it."""

    def __init__(self, **state: Any) -> None:
        self.state: dict[str, Any] | None = None
        self.after = state
        self.tags: dict[str, str] = {}
        self.deleted = 0

    def get_custom_model_deployment(self, **_: str) -> dict[str, Any]:
        if self.state is None:
            from botocore.exceptions import ClientError

            raise ClientError({"Error": {"Code": "ResourceNotFoundException"}}, "GetCustomModelDeployment")
        return self.state

    def create_custom_model_deployment(self, **given: Any) -> dict[str, Any]:
        self.tags = {tag["key"]: tag["value"] for tag in given["tags"]}
        self.state = {
            "customModelDeploymentArn": "arn",
            "modelDeploymentName": given["modelDeploymentName"],
            "modelArn": given["modelArn"],
            "status": "Active",
            **self.after,
        }
        return {}

    def update_custom_model_deployment(self, **given: Any) -> dict[str, Any]:
        assert self.state is not None
        details = {"modelArn": given["modelArn"], "updateStatus": "UpdateFailed"}
        self.state |= {"updateDetails": details, "failureMessage": "the adapter is of full rank"}
        return {}

    def delete_custom_model_deployment(self, **_: str) -> dict[str, Any]:
        self.state, self.deleted = None, self.deleted + 1
        return {}

    def list_tags_for_resource(self, **_: str) -> dict[str, Any]:
        return {"tags": [{"key": key, "value": value} for key, value in self.tags.items()]}

    def tag_resource(self, **given: Any) -> None:
        self.tags |= {tag["key"]: tag["value"] for tag in given["tags"]}


def turns(asked: Mapping[str, Any]) -> dict[str, Any]:
    begun = on_event(RESOURCES, asked, None)
    for _ in range(MOST_STEPS):
        answer = is_complete(RESOURCES, {**asked, **begun}, None)
        if answer["IsComplete"]:
            return {"PhysicalResourceId": begun["PhysicalResourceId"], **answer}
    raise AssertionError("not over")


def test_a_deployment_that_fails_is_gone_before_the_cause_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """CloudFormation's delete that follows finds nothing, and the next create is not in its way."""
    fake = Failing(status="Failed", failureMessage="no capacity")
    monkeypatch.setattr(model_deployment, "bedrock", lambda: fake)
    with pytest.raises(Refused, match=r"deployment serve-\w+ failed: no capacity"):
        turns(event("Create"))
    assert (fake.state, fake.deleted) == (None, 1)


def test_one_that_failed_for_an_earlier_request_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its failure is not this request's."""
    fake = Failing(status="Failed", failureMessage="no capacity")
    monkeypatch.setattr(model_deployment, "bedrock", lambda: fake)
    begun = on_event(RESOURCES, event("Create"), None)
    is_complete(RESOURCES, {**event("Create"), **begun}, None)
    fake.after = {}
    assert turns(event("Create", 2))["IsComplete"]
    assert fake.deleted == 1


def test_a_change_that_fails_leaves_the_old_model_and_the_rollback_needs_no_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The deployment goes on with what it had."""
    fake = Failing()
    monkeypatch.setattr(model_deployment, "bedrock", lambda: fake)
    first = event("Create")
    made = turns(first)
    second = update(2, made, first, ModelArn=model("two"))
    with pytest.raises(
        Refused, match=r"could not change to .*: the adapter is of full rank; it goes on with"
    ):
        turns(second)
    assert turns(update(3, made, second))["Data"]["ModelArn"] == model("one")
