"""Invocation logging: one owner an account and region, and nothing undone that is somebody else's."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from support_bedrock import ACCOUNT, REGION, SCOPE, FakeBedrock, bedrock_server
from tokenmill.local.aws_requests import AwsError
from tokenmill.local.bedrock.faults import Fault
from tokenmill_runtime import aws
from tokenmill_runtime.custom_resource import Refused
from tokenmill_runtime.invocation_logging import RESOURCE_TYPE, InvocationLoggingResource
from tokenmill_runtime.waited_resource import is_complete, on_event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tokenmill.local.aws_requests import Scope
    from tokenmill.local.rest_json import Answer, HttpRequest

NAME = "/tokenmill/bedrock/invocation-logging"
RESOURCES = {RESOURCE_TYPE: InvocationLoggingResource()}
LOGS = {"LogGroup": "calls", "Role": f"arn:aws:iam::{ACCOUNT}:role/logs"}
OTHER = {"s3Config": {"bucketName": "audit"}, "textDataDeliveryEnabled": True}


class Parameters:
    """SSM's parameters over HTTP, as far as the handler uses them.

    `lose` breaks so many answers of puts, and `first` is called before a put is looked at.
    """

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.lose = 0
        self.first: Callable[[], object] = lambda: None

    def answer(self, scope: Scope, request: HttpRequest) -> Answer | None:
        operation = request.headers["x-amz-target"].rpartition(".")[2]
        asked = json.loads(request.body)
        name = asked["Name"]
        if operation == "PutParameter":
            self.first()
            if name in self.values and not asked["Overwrite"]:
                return self._error("ParameterAlreadyExists")
            self.values[name] = asked["Value"]
            if self.lose:
                self.lose -= 1
                return None
            return self._json({"Version": 1})
        if name not in self.values:
            return self._error("ParameterNotFound")
        if operation == "DeleteParameter":
            del self.values[name]
            return self._json({})
        return self._json({"Parameter": {"Name": name, "Value": self.values[name]}})

    def _error(self, code: str) -> Answer:
        return 400, {"content-type": "application/x-amz-json-1.1"}, json.dumps({"__type": code}).encode()

    def _json(self, document: dict[str, Any]) -> Answer:
        return 200, {"content-type": "application/x-amz-json-1.1"}, json.dumps(document).encode()


class Account:
    """Bedrock and SSM of one account and region, and CloudFormation's requests to the handler."""

    def __init__(self, fake: FakeBedrock, parameters: Parameters) -> None:
        self.fake, self.parameters = fake, parameters
        self.client = fake.client()

    @property
    def setting(self) -> dict[str, Any] | None:
        return self.fake.control.logging.of(SCOPE)

    @property
    def group(self) -> str | None:
        return (self.setting or {}).get("cloudWatchConfig", {}).get("logGroupName")

    @property
    def ledger(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.parameters.values[NAME])
        return found

    def ask(self, kind: str, *, stack: str = "one", resource: str = "Logging", **properties: Any) -> Any:
        """Drive a request to its end; a request is the same for the same arguments."""
        event = self.event(kind, stack=stack, resource=resource, **properties)
        begun = on_event(RESOURCES, event, None)
        answer = is_complete(RESOURCES, {**event, **begun}, None)
        return {**answer, "PhysicalResourceId": begun["PhysicalResourceId"]}

    def event(
        self,
        kind: str,
        *,
        stack: str = "one",
        resource: str = "Logging",
        since: float | None = None,
        **given: Any,
    ) -> dict[str, Any]:
        properties = {"Parameter": NAME, "Data": "text", "CloudWatch": LOGS, **given}
        event = {
            "RequestType": kind,
            "RequestId": f"{kind}-{stack}-{resource}-{json.dumps(given, sort_keys=True)}",
            "StackId": f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{stack}/1111",
            "LogicalResourceId": resource,
            "ResourceType": RESOURCE_TYPE,
            "ResponseURL": "",
            "ResourceProperties": properties,
        }
        if kind != "Create":
            event["PhysicalResourceId"] = on_event(RESOURCES, {**event, "RequestType": "Create"}, None)[
                "PhysicalResourceId"
            ]
        return event if since is None else {**event, "Since": since}


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """An account without invocation logging."""
    parameters = Parameters()
    with bedrock_server() as fake:
        fake.server.others["ssm"] = parameters.answer
        made = Account(fake, parameters)
        ssm = fake.client("ssm")
        monkeypatch.setattr(aws, "bedrock", lambda: made.client)
        monkeypatch.setattr(aws, "ssm", lambda: ssm)
        yield made
        made.client.close()
        ssm.close()


def test_a_stack_turns_logging_on_and_off(account: Account) -> None:
    """All five kinds are said, because Bedrock turns those on that are left out."""
    answer = account.ask("Create", S3={"Bucket": "keep", "Prefix": "calls"})
    assert answer["IsComplete"]
    assert answer["Data"] == {"Parameter": NAME}
    assert account.setting == {
        "cloudWatchConfig": {"logGroupName": "calls", "roleArn": LOGS["Role"]},
        "s3Config": {"bucketName": "keep", "keyPrefix": "calls"},
        "textDataDeliveryEnabled": True,
        "imageDataDeliveryEnabled": False,
        "embeddingDataDeliveryEnabled": False,
        "videoDataDeliveryEnabled": False,
        "audioDataDeliveryEnabled": False,
    }
    account.ask("Delete")
    assert account.setting is None
    assert account.parameters.values == {}


def test_large_bodies_go_to_objects(account: Account) -> None:
    """A log event holds 256 KB, a body may be longer."""
    account.ask("Create", CloudWatch={**LOGS, "LargeDataBucket": "large", "LargeDataPrefix": ""})
    assert (account.setting or {})["cloudWatchConfig"]["largeDataDeliveryS3Config"] == {"bucketName": "large"}


def test_a_second_stack_is_refused_by_the_owner_s_name(account: Account) -> None:
    """It changes nothing, and its rollback's delete changes nothing either."""
    account.ask("Create")
    before = (account.setting, dict(account.parameters.values))
    with pytest.raises(Refused) as raised:
        account.ask("Create", stack="two", S3={"Bucket": "mine"})
    assert "stack one owns it (resource Logging)" in str(raised.value)
    assert f"aws ssm delete-parameter --name {NAME}" in str(raised.value)
    account.ask("Delete", stack="two", S3={"Bucket": "mine"})
    assert (account.setting, dict(account.parameters.values)) == before


def test_a_setting_that_no_stack_owns_is_refused(account: Account) -> None:
    """Somebody set it by hand or with another tool; the message says where its logs go."""
    account.client.put_model_invocation_logging_configuration(loggingConfig=OTHER)
    with pytest.raises(Refused) as raised:
        account.ask("Create")
    assert "its logs go to bucket audit; set replace_existing=True" in str(raised.value)
    assert account.parameters.values == {}
    account.ask("Delete")
    assert (account.setting or {})["s3Config"] == OTHER["s3Config"]


def test_what_was_replaced_is_put_back(account: Account) -> None:
    """Deleting the stack leaves the account as the stack found it."""
    account.client.put_model_invocation_logging_configuration(loggingConfig=OTHER)
    before = account.setting
    account.ask("Create", ReplaceExisting="true")
    assert account.group == "calls"
    account.ask("Update", ReplaceExisting="true", Data="text image")
    account.ask("Delete", ReplaceExisting="true")
    assert account.setting == before


def test_what_cannot_be_put_back_is_turned_off(account: Account) -> None:
    """Its bucket may be gone; the stack is deleted all the same, and its own bucket gets no logs."""
    account.client.put_model_invocation_logging_configuration(loggingConfig=OTHER)
    account.ask("Create", ReplaceExisting="true")
    refuse(account, lambda config: "The bucket audit does not exist" if "s3Config" in config else "")
    account.ask("Delete", ReplaceExisting="true")
    assert account.setting is None


def test_what_somebody_set_since_is_left_alone(account: Account) -> None:
    """The stack undoes only what it has set."""
    account.ask("Create")
    account.client.put_model_invocation_logging_configuration(loggingConfig=OTHER)
    account.ask("Delete")
    assert (account.setting or {})["s3Config"] == OTHER["s3Config"]
    assert account.parameters.values == {}


def test_an_update_changes_the_setting_in_place(account: Account) -> None:
    """The physical id stays, so CloudFormation deletes nothing."""
    created = account.ask("Create")["PhysicalResourceId"]
    updated = account.ask("Update", Data="text image", CloudWatch={**LOGS, "LogGroup": "more"})
    assert updated["PhysicalResourceId"] == created
    assert account.group == "more"
    assert (account.setting or {})["imageDataDeliveryEnabled"] is True


def test_a_rolled_back_update_can_be_deleted(account: Account) -> None:
    """After new and old properties the ledger still knows what is set."""
    account.ask("Create")
    account.ask("Update", Data="text image")
    account.ask("Update")
    account.ask("Delete")
    assert account.setting is None


def test_a_resource_may_get_another_name(account: Account) -> None:
    """The new one is made before the old one is deleted, which must not turn logging off."""
    account.ask("Create", resource="Old")
    account.ask("Create", resource="New", CloudWatch={**LOGS, "LogGroup": "new"})
    account.ask("Delete", resource="Old")
    assert account.group == "new"
    account.ask("Delete", resource="New", CloudWatch={**LOGS, "LogGroup": "new"})
    assert account.setting is None
    assert account.parameters.values == {}


def test_a_new_name_that_is_rolled_back_gives_the_old_one_its_setting_again(account: Account) -> None:
    """The old resource gets no request then; its logs go where they went."""
    account.ask("Create", resource="Old")
    account.ask("Create", resource="New", CloudWatch={**LOGS, "LogGroup": "new"})
    account.ask("Delete", resource="New", CloudWatch={**LOGS, "LogGroup": "new"})
    assert account.group == "calls"
    account.ask("Delete", resource="Old")
    assert account.setting is None


@pytest.mark.parametrize("operation", ["Create", "Delete"])
def test_a_repeated_request_changes_nothing_more(account: Account, operation: str) -> None:
    """CloudFormation delivers at least once."""
    account.ask("Create")
    account.ask(operation)
    before = (account.setting, dict(account.parameters.values))
    account.ask(operation)
    assert (account.setting, dict(account.parameters.values)) == before


@pytest.mark.parametrize("fault", ["throttled", "failed", "failed_after", "dropped", "lost"])
def test_a_call_that_fails_for_now_is_made_again(account: Account, fault: Any) -> None:
    """Whether Bedrock acted or not, the next step comes to the same end."""
    account.fake.faults.add(Fault(kind=fault, operation="PutModelInvocationLoggingConfiguration"))
    event = account.event("Create")
    begun = {**event, **on_event(RESOURCES, event, None)}
    assert is_complete(RESOURCES, begun, None) == {"IsComplete": False}
    assert is_complete(RESOURCES, begun, None)["IsComplete"]
    assert account.group == "calls"
    account.ask("Delete")
    assert account.setting is None


def test_a_lost_answer_of_the_owner_s_parameter_is_no_other_owner(account: Account) -> None:
    """The parameter that is there already is this stack's own."""
    account.parameters.lose = 1
    event = account.event("Create")
    begun = {**event, **on_event(RESOURCES, event, None)}
    assert is_complete(RESOURCES, begun, None) == {"IsComplete": False}
    assert is_complete(RESOURCES, begun, None)["IsComplete"]
    assert account.ledger["holders"][0]["resource"] == "Logging"


def test_of_two_stacks_at_once_one_is_refused(account: Account) -> None:
    """Both saw no owner; SSM makes the parameter for one of them."""
    other = {"stack": "arn:aws:cloudformation:x:y:stack/faster/1", "holders": [{"resource": "Calls"}]}
    account.parameters.first = lambda: account.parameters.values.setdefault(NAME, json.dumps(other))
    with pytest.raises(Refused, match="stack faster owns it"):
        account.ask("Create")
    assert account.setting is None


def test_an_update_that_failed_leaves_the_stack_deletable(account: Account) -> None:
    """What was set before the update still stands, and is this stack's."""
    account.ask("Create")
    refuse(account, lambda config: "no" if config["cloudWatchConfig"]["logGroupName"] == "more" else "")
    event = account.event("Update", CloudWatch={**LOGS, "LogGroup": "more"}, since=time.time() - 200)
    begun = {**event, **on_event(RESOURCES, event, None)}
    with pytest.raises(Refused, match="Bedrock does not take the logging destinations: no"):
        is_complete(RESOURCES, begun, None)
    assert account.group == "calls"
    account.ask("Delete", CloudWatch={**LOGS, "LogGroup": "more"})
    assert account.setting is None


def test_a_role_that_bedrock_does_not_see_yet_is_waited_for(account: Account) -> None:
    """IAM takes a while; the request is called again until three minutes are over, then says the cause."""
    sentence = "Failed to validate permissions for log group: calls"
    end = refuse(account, lambda config: sentence)
    now = time.time()
    event = account.event("Create", since=now)
    begun = {**event, **on_event(RESOURCES, event, None)}
    assert is_complete(RESOURCES, begun, None) == {"IsComplete": False}
    with pytest.raises(Refused) as raised:
        is_complete(RESOURCES, {**begun, "Since": now - 200}, None)
    assert sentence in str(raised.value)
    assert account.parameters.values == {}
    end()
    assert is_complete(RESOURCES, begun, None)["IsComplete"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"Data": "text smells"}, "Data is 'text smells'; name at least one of text, image"),
        ({"Data": ""}, "Data is ''; name at least one"),
        ({"CloudWatch": "", "S3": ""}, "neither CloudWatch nor S3 is given"),
    ],
)
def test_fails_for_properties_that_log_nothing(
    account: Account, given: dict[str, Any], sentence: str
) -> None:
    """Refused before anything is asked of AWS."""
    with pytest.raises(Refused) as raised:
        account.ask("Create", **given)
    assert sentence in str(raised.value)
    assert account.parameters.values == {}


def refuse(account: Account, refused: Callable[[dict[str, Any]], str]) -> Callable[[], None]:
    """Let Bedrock refuse settings, by the sentence that it answers; returns what ends it."""
    control = account.fake.control
    usual = control.logging.operations()

    def put(scope: Scope, params: dict[str, Any]) -> dict[str, Any]:
        sentence = refused(params["loggingConfig"])
        if sentence:
            raise AwsError("ValidationException", sentence)
        return usual["PutModelInvocationLoggingConfiguration"](scope, params)

    control.add_operations({"PutModelInvocationLoggingConfiguration": put})
    return lambda: control.add_operations(usual)
