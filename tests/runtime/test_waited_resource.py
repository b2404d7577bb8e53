"""Custom resources that wait: drivers, errors, time and answers, whatever the resource is."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError

from support_parameters import Executions
from tokenmill_runtime import aws, bedrock_resources, waited_resource
from tokenmill_runtime.custom_resource import Answer, Refused, Request, TimeBudget
from tokenmill_runtime.waited_resource import handle, is_complete, is_passing, on_event, read

if TYPE_CHECKING:
    from collections.abc import Callable

TYPE = "Custom::TokenmillThing"


def event(kind: str = "Create", **changes: Any) -> dict[str, Any]:
    return {
        "RequestType": kind,
        "RequestId": "request-1",
        "ResponseURL": "https://answers.example/put?X-Amz-Signature=abc",
        "StackId": "arn:stack",
        "LogicalResourceId": "Thing",
        "ResourceType": TYPE,
        "ResourceProperties": {"ServiceToken": "arn:function", "Size": "1"},
        **({} if kind == "Create" else {"PhysicalResourceId": "thing-1"}),
        **({"OldResourceProperties": {"Size": "2"}} if kind == "Update" else {}),
        **changes,
    }


def service_error(code: str, status: int = 400) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": "words"}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Do"
    )


class Thing:
    """A resource whose steps are given; each is an answer, None or an error."""

    def __init__(self, *steps: Answer | Exception | None, begins: Exception | None = None) -> None:
        self.steps, self.begins = list(steps), begins
        self.requests: list[Request] = []

    def begin(self, request: Request) -> str:
        if self.begins is not None:
            raise self.begins
        return "thing-1" if request.kind != "Update" else "thing-2"

    def advance(self, request: Request) -> Answer | None:
        self.requests.append(request)
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step


DONE = Answer(physical_id="thing-1", data={"Size": 1})


def test_on_event_names_and_hands_on_what_an_update_replaces() -> None:
    """What the Provider framework lays over the event has the id of before."""
    assert on_event({TYPE: Thing()}, event(), None) == {"PhysicalResourceId": "thing-1", "Data": {}}
    begun = on_event({TYPE: Thing()}, event("Update"), None)
    assert (begun["PhysicalResourceId"], begun["Replaces"]) == ("thing-2", "thing-1")


def test_is_complete_has_data_only_at_the_end() -> None:
    """The framework refuses Data of what is not complete."""
    thing = Thing(None, DONE)
    assert is_complete({TYPE: thing}, event(), None) == {"IsComplete": False}
    assert is_complete({TYPE: thing}, event(), None) == {"IsComplete": True, "Data": {"Size": 1}}


@pytest.mark.parametrize("laid", [{}, {"PhysicalResourceId": "thing-2", "Replaces": "thing-1"}])
def test_a_step_knows_its_id_with_and_without_what_on_event_returned(laid: dict[str, Any]) -> None:
    """A driver that hands on nothing has the resource begin again."""
    thing = Thing(DONE)
    is_complete({TYPE: thing}, event("Update", **laid), None)
    assert thing.requests[0].physical_id == "thing-2"
    assert thing.requests[0].replaces == laid.get("Replaces")


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (service_error("ThrottlingException", 429), True),
        (service_error("InternalServerException", 500), True),
        (service_error("Anything", 503), True),
        (EndpointConnectionError(endpoint_url="http://x"), True),
        (service_error("ValidationException"), False),
        (service_error("ConflictException"), False),
        (NoCredentialsError(), False),
        (ValueError("x"), False),
    ],
)
def test_only_what_passes_is_tried_again(error: Exception, passing: bool) -> None:
    """Throttles, 5xx and broken connections say nothing about whether the service acted."""
    assert is_passing(error) is passing
    thing = Thing(error)
    if passing:
        assert is_complete({TYPE: thing}, event(), None) == {"IsComplete": False}
    else:
        with pytest.raises(Refused):
            is_complete({TYPE: thing}, event(), None)


def test_a_missing_permission_is_told_at_once_where_nobody_keeps_the_time() -> None:
    """With a waiter the role's policy gets a minute to be known everywhere."""
    denied = service_error("AccessDeniedException", 403)
    with pytest.raises(Refused, match="the function's role lacks a permission: words"):
        is_complete({TYPE: Thing(denied)}, event(), None)
    now = datetime.now(UTC).timestamp()
    assert not is_complete({TYPE: Thing(denied)}, event(Since=now), None)["IsComplete"]
    with pytest.raises(Refused):
        is_complete({TYPE: Thing(denied)}, event(Since=now - 61), None)


@pytest.mark.parametrize("step", [None, service_error("ThrottlingException", 429)])
def test_after_fifty_minutes_a_request_ends(step: Any) -> None:
    """CloudFormation would give up ten minutes later, without a word."""
    late = datetime.now(UTC).timestamp() - 3001
    with pytest.raises(Refused, match="Create of Thing was not over after 50 minutes"):
        is_complete({TYPE: Thing(step)}, event(Since=late), None)


def test_secrets_are_cut_out_of_what_people_read() -> None:
    """A presigned URL in an error would be as good as a password."""
    leaky = Refused("see https://x/?X-Amz-Signature=0123abc and hf_abcdefghijk")
    with pytest.raises(Refused) as refused:
        is_complete({TYPE: Thing(leaky)}, event(), None)
    assert "0123abc" not in str(refused.value) and "hf_" not in str(refused.value)


def test_a_type_that_is_not_there_is_named_with_those_that_are() -> None:
    """In the framework and in the dispatcher."""
    with pytest.raises(Refused, match="no resource 'Custom::Other'; it has Custom::TokenmillThing"):
        on_event({TYPE: Thing()}, event(ResourceType="Custom::Other"), None)
    assert set(bedrock_resources.resources_for("Custom::Other")) == set(bedrock_resources.RESOURCES)


@pytest.mark.parametrize("resource_type", sorted(bedrock_resources.RESOURCES))
def test_every_type_of_the_dispatcher_has_its_class(resource_type: str) -> None:
    """With the two methods that drivers call."""
    made = bedrock_resources.resources_for(resource_type)[resource_type]
    assert callable(made.begin) and callable(made.advance)


def test_tokens_tell_requests_and_purposes_apart_and_nothing_else() -> None:
    """A repeated delivery has the same, also with the id that an answer gave."""
    first = read(event())
    again = read(event(PhysicalResourceId="thing-1"))
    other = read(event(RequestId="request-2"))
    assert first.token("buy") == again.token("buy")
    assert len({first.token("buy"), first.token("sell"), other.token("buy")}) == 3
    assert len(first.token()) == 48 and first.token().isalnum()


def test_time_is_kept_only_where_somebody_keeps_it() -> None:
    """The Provider framework has a time of its own."""
    assert not TimeBudget().over and TimeBudget().spent == 0
    assert TimeBudget(since=0.0, now=lambda: 3000.0).over
    assert not TimeBudget(since=10.0, now=lambda: 5.0).over


class Context:
    invoked_function_arn = "arn:aws:lambda:us-east-1:123456789012:function:f"


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What CloudFormation was answered."""
    given: list[dict[str, Any]] = []
    monkeypatch.setattr(
        waited_resource, "respond", lambda to, **answer: given.append({"to": to.request_id, **answer})
    )
    return given


@pytest.fixture
def executions(monkeypatch: pytest.MonkeyPatch) -> Executions:
    made = Executions()
    monkeypatch.setattr(aws, "step_functions", lambda: made)
    monkeypatch.setenv("TOKENMILL_WAITER", "arn:aws:states:us-east-1:123456789012:stateMachine:w")
    return made


def turn(since: datetime | None = None, kind: str = "Create", **changes: Any) -> dict[str, Any]:
    at = since or datetime.now(UTC)
    return {"Waiting": event(kind, **changes), "Since": at.strftime("%Y-%m-%dT%H:%M:%S.123Z")}


def call(thing: Thing, asked: dict[str, Any]) -> dict[str, Any]:
    """Call the function as the waiter does: what it says, and its answer told where it has one."""
    said = handle({TYPE: thing}, asked, Context())
    assert said is not None
    if "Answer" in said:
        told = {"Waiting": asked["Waiting"], "Answer": json.loads(json.dumps(said["Answer"]))}
        assert handle({}, told, Context()) == {"Again": False}
    return said


def test_a_request_starts_one_execution_and_does_nothing_else(
    executions: Executions, answers: list[dict[str, Any]]
) -> None:
    """Also when it is delivered again: the execution's name is the lock."""
    thing = Thing(DONE)
    for _ in range(2):
        assert handle({TYPE: thing}, event(), Context()) is None
    assert list(executions.started) == ["request-1"] and answers == [] and thing.requests == []
    waiting = json.loads(executions.started["request-1"])
    assert waiting == {"Function": Context.invoked_function_arn, "Waiting": event()}


def test_a_waiter_that_cannot_be_started_is_told_and_a_storm_raised(
    executions: Executions, answers: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lambda calls again for what passes."""

    def failing(code: str, status: int) -> Callable[..., Any]:
        def start(**_: Any) -> Any:
            raise service_error(code, status)

        return start

    monkeypatch.setattr(executions, "start_execution", failing("AccessDeniedException", 403))
    handle({TYPE: Thing()}, event(), Context())
    assert answers[0]["status"] == "FAILED" and "lacks a permission" in answers[0]["reason"]
    monkeypatch.setattr(executions, "start_execution", failing("ThrottlingException", 400))
    with pytest.raises(ClientError):
        handle({TYPE: Thing()}, event(), Context())


def test_the_waiter_calls_until_cloudformation_is_answered(answers: list[dict[str, Any]]) -> None:
    """Throttles and unfinished steps say again; the end says so once."""
    thing = Thing(None, service_error("ThrottlingException", 429), DONE)
    said = [call(thing, turn()) for _ in range(3)]
    assert [one["Again"] for one in said] == [True, True, False]
    assert [(one["status"], one["physical_id"], one["data"]) for one in answers] == [
        ("SUCCESS", "thing-1", {"Size": 1})
    ]


def test_a_beginning_that_passes_is_waited_for_too(answers: list[dict[str, Any]]) -> None:
    """A storm does not fail an update that has to look first."""
    thing = Thing(begins=service_error("ThrottlingException", 429))
    assert call(thing, turn()) == {"Again": True}
    assert answers == []


def test_a_failed_update_is_answered_under_the_id_of_before(answers: list[dict[str, Any]]) -> None:
    """So the rollback is an update of what CloudFormation knows."""
    assert not call(Thing(Refused("no")), turn(kind="Update"))["Again"]
    assert [(one["status"], one["physical_id"], one["reason"]) for one in answers] == [
        ("FAILED", "thing-1", "no")
    ]


def test_a_waiter_whose_time_is_over_answers_the_cause(answers: list[dict[str, Any]]) -> None:
    """The last thing that was seen is in it."""
    since = datetime.now(UTC) - timedelta(seconds=3100)
    thing = Thing(service_error("ThrottlingException", 429))
    assert not call(thing, turn(since))["Again"]
    assert "not over after 50 minutes, and the last call failed" in answers[0]["reason"]


def test_an_answer_is_decided_once_and_told_by_another_call(answers: list[dict[str, Any]]) -> None:
    """A step that ran again after CloudFormation believed its answer could make what nobody waits for."""
    thing = Thing(Refused("no capacity"), DONE)
    said = handle({TYPE: thing}, turn(), Context())
    assert said is not None and said["Answer"]["status"] == "FAILED" and answers == []
    told = {"Waiting": event(), "Answer": said["Answer"]}
    for _ in range(2):
        assert handle({TYPE: thing}, told, Context()) == {"Again": False}
    assert answers[0] == answers[1] and len(thing.requests) == 1


def sent(minutes: float) -> dict[str, str]:
    """A request that CloudFormation sent so many minutes ago."""
    at = datetime.now(UTC) - timedelta(minutes=minutes)
    return {"ResponseURL": f"https://answers.example/put?X-Amz-Date={at:%Y%m%dT%H%M%SZ}&X-Amz-Signature=abc"}


@pytest.mark.parametrize("kind", ["Create", "Update"])
def test_a_request_that_cloudformation_gave_up_does_nothing(answers: list[dict[str, Any]], kind: str) -> None:
    """Lambda keeps an event up to six hours; the stack has gone on, and would pay unknowingly."""
    thing = Thing(DONE, begins=AssertionError("asked"))
    assert not call(thing, turn(kind=kind, **sent(61)))["Again"]
    assert thing.requests == []
    assert answers[0]["status"] == "FAILED" and "sent 61 minutes ago" in answers[0]["reason"]


def test_a_deletion_that_comes_late_has_its_whole_time(answers: list[dict[str, Any]]) -> None:
    """What it is about is to go, whoever waits."""
    thing = Thing(None, DONE)
    assert call(thing, turn(kind="Delete", **sent(200))) == {"Again": True}
    assert not thing.requests[0].budget.over
    assert not call(thing, turn(kind="Delete", **sent(200)))["Again"]


def test_the_time_of_a_request_runs_from_its_sending(answers: list[dict[str, Any]]) -> None:
    """A waiter that began late ends before CloudFormation gives up."""
    assert call(Thing(None), turn(**sent(49))) == {"Again": True}
    assert not call(Thing(None), turn(**sent(51)))["Again"]
    assert "not over after 50 minutes" in answers[0]["reason"]
