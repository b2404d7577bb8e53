"""Model units between deployments: hours, tokens, the hourly look, and the bought commitment."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from support_bedrock import MODEL, FakeBedrock, bedrock_server
from support_parameters import Alarms, Executions, Parameters, Stacks
from support_units import STACK, create, properties, undeclared
from tokenmill_runtime import aws, bedrock_resources, units_commit, units_market, units_tasks
from tokenmill_runtime.clock import Clock
from tokenmill_runtime.custom_resource import Refused
from tokenmill_runtime.units_handle import Handles
from tokenmill_runtime.units_ledger import Ledger
from tokenmill_runtime.units_scaling import Rules, Use, decide
from tokenmill_runtime.units_schedule import days_of, is_within
from tokenmill_runtime.units_stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator

HANDLE = "/tokenmill/models/chat"
# A Monday, 09:00 in UTC.
MONDAY = datetime(2027, 1, 18, 9, 0, tzinfo=UTC)
HOURS = {
    "Id": "Office",
    "Start": "08:00",
    "End": "18:00",
    "Days": "MON-FRI",
    "TimeZone": "Etc/UTC",
    "Units": "2",
}
SCALING = {
    "InputTokensPerMinute": "1000",
    "OutputTokensPerMinute": "100",
    "Floor": "1",
    "Ceiling": "3",
    "DailyUsd": "2000",
}


class World:
    """Everything that tasks talk to; `run` runs a task until nothing is left to be done."""

    def __init__(self, fake: FakeBedrock, capsys: pytest.CaptureFixture[str]) -> None:
        self.fake, self._capsys = fake, capsys
        self.parameters, self.alarms = Parameters(), Alarms()
        self.executions, self.stacks = Executions(), Stacks()
        self.physical_id = ""

    @property
    def handle(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.parameters.values[HANDLE])
        return found

    def have(self, **changes: Any) -> dict[str, Any]:
        """Deploy the resource; its properties."""
        asked = {"Handle": HANDLE, "Fallback": MODEL, "HourlyUsd": "10", **changes}
        self.physical_id = create(self.fake, **asked)
        self.stacks.resources["Units"] = ("CREATE_COMPLETE", self.physical_id)
        return properties(**asked)

    def event(self, task: str, asked: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {
            "UnitsTask": task,
            "PhysicalResourceId": self.physical_id,
            "StackId": STACK,
            "LogicalResourceId": "Units",
            "Properties": asked,
            **more,
        }

    def run(self, task: str, asked: dict[str, Any], **more: Any) -> dict[str, float]:
        """The last value of each metric."""
        since = datetime.fromtimestamp(self.fake.clock(), UTC)
        event = {"Waiting": self.event(task, asked, **more), "Since": f"{since:%Y-%m-%dT%H:%M:%SZ}"}
        for _ in range(20):
            if bedrock_resources.handler(event, None) == {"Again": False}:
                break
            self.fake.clock.pass_(15)
        values: dict[str, float] = {}
        for line in self._capsys.readouterr().out.splitlines():
            document = json.loads(line) if line.startswith("{") else {}
            assert document.get("Target", HANDLE) == HANDLE
            values |= {key: value for key, value in document.items() if isinstance(value, int | float)}
        return values


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[World]:
    monkeypatch.setattr(units_market, "PAUSES", (0, 0))
    monkeypatch.setenv("TOKENMILL_LEDGER_PREFIX", "/tokenmill/units")
    monkeypatch.setenv("TOKENMILL_ASK_STACK", "1")
    monkeypatch.setenv("TOKENMILL_WAITER", "arn:aws:states:us-east-1:123456789012:stateMachine:w")
    with bedrock_server() as fake:
        fake.clock.now = MONDAY.timestamp()
        made = World(fake, capsys)
        clock = Clock(wall=fake.clock)
        monkeypatch.setattr(units_tasks, "SYSTEM_CLOCK", clock)
        monkeypatch.setitem(units_tasks.Task.__init__.__kwdefaults__, "clock", clock)
        monkeypatch.setattr(Ledger.__init__, "__kwdefaults__", {"client": lambda: made.parameters})
        monkeypatch.setattr(Handles.__init__, "__kwdefaults__", {"client": lambda: made.parameters})
        monkeypatch.setattr(aws, "cloudwatch", lambda: made.alarms)
        monkeypatch.setattr(aws, "cloudformation", lambda: made.stacks)
        monkeypatch.setattr(aws, "step_functions", lambda: made.executions)
        yield made


def test_hours_own_units_from_their_beginning_to_their_end(world: World) -> None:
    """Bought in the morning, in service for callers, gone in the evening."""
    asked = world.have(Scheduled="true")
    assert world.fake.units == 0 and world.handle["state"] == "overflow"
    world.run("open", asked, Schedule=HOURS)
    assert world.fake.units == 2 and undeclared(world.fake, world.physical_id) == []
    assert world.handle["state"] == "units"
    world.run("open", asked, Schedule=HOURS)
    assert world.fake.units == 2
    world.run("close", asked, Schedule=HOURS)
    assert world.fake.units == 0 and world.handle["state"] == "overflow"


def test_hours_may_end_and_begin_within_the_hour(world: World) -> None:
    """The purchase is another one, not the answer to the first."""
    asked = world.have(Scheduled="true")
    for task in ("open", "close", "open"):
        world.run(task, asked, Schedule=HOURS)
        world.fake.clock.pass_(60)
    assert world.fake.units == 2


def test_a_morning_without_units_is_told_and_tried_again(world: World) -> None:
    """Callers stay on the fallback, the metric says how many are missing, and the watch asks again."""
    asked = world.have(Scheduled="true", Hours=json.dumps([HOURS]))
    world.fake.control.provisioned.without_capacity.add(MODEL)
    assert world.run("open", asked, Schedule=HOURS)["UnitsMissing"] == 2
    assert world.fake.units == 0 and world.handle["state"] == "overflow"
    world.fake.control.provisioned.without_capacity.clear()
    world.fake.clock.pass_(3600)
    assert world.run("watch", asked)["UnitsMissing"] == 0
    assert world.fake.units == 2 and world.handle["state"] == "units"


def test_hours_that_are_over_or_whose_resource_is_gone_buy_nothing(world: World) -> None:
    """A call may come late, also after the stack."""
    asked = world.have(Scheduled="true")
    world.run("open", asked, Schedule={**HOURS, "End": "08:30"})
    assert world.fake.units == 0
    world.run("open", asked, Schedule=HOURS)
    world.stacks.resources.clear()
    world.run("open", asked, Schedule=HOURS)
    assert world.fake.units == 0


def test_a_task_that_must_wait_is_handed_to_the_waiter_once(world: World) -> None:
    """The schedule's own call does not wait for minutes; Lambda's second try of it has the same id."""

    class Context:
        invoked_function_arn = "arn:aws:lambda:us-east-1:123456789012:function:f"
        aws_request_id = "one"

    asked = world.have(Scheduled="true")
    event = world.event("open", asked, Schedule=HOURS)
    for _ in range(2):
        assert bedrock_resources.handler(event, Context()) == {"Again": True}
    (waiting,) = world.executions.started.values()
    assert json.loads(waiting) == {"Function": Context.invoked_function_arn, "Waiting": event}
    Context.aws_request_id = "two"
    bedrock_resources.handler(event, Context())
    assert len(world.executions.started) == 2


@pytest.mark.parametrize(
    ("days", "hour", "zone", "inside"),
    [
        ("MON-FRI", 9, "Etc/UTC", True),
        ("TUE,WED", 9, "Etc/UTC", False),
        ("SAT-MON", 9, "Etc/UTC", True),
        ("MON-FRI", 18, "Etc/UTC", False),
        ("MON-FRI", 8, "Etc/UTC", True),
        ("MON-FRI", 7, "Etc/UTC", False),
        ("MON-FRI", 17, "Europe/Berlin", False),
        ("MON-FRI", 7, "Europe/Berlin", True),
    ],
)
def test_hours_last_by_their_own_clock(days: str, hour: int, zone: str, inside: bool) -> None:
    """From the first minute to before the last, in their time zone."""
    moment = MONDAY.replace(hour=hour).timestamp()
    assert is_within({**HOURS, "Days": days, "TimeZone": zone}, moment) is inside


def test_days_wrap_around_the_week() -> None:
    """As cron reads them."""
    assert days_of("SAT-MON,WED") == {"SAT", "SUN", "MON", "WED"}
    with pytest.raises(ValueError, match="time zone 'Mars/Olympus' is not known"):
        is_within({**HOURS, "TimeZone": "Mars/Olympus"}, MONDAY.timestamp())


RULES = Rules(input_tokens=1000, output_tokens=100, floor=1, ceiling=4, daily_usd=2000, hourly_usd=10)
QUIET = [Use()] * 12


@pytest.mark.parametrize(
    ("owned", "periods", "wanted"),
    [
        (1, QUIET, 1),
        (1, [*QUIET[:11], Use(input_tokens=801)], 2),
        (1, [*QUIET[:11], Use(input_tokens=800)], 1),
        (1, [*QUIET[:11], Use(output_tokens=230)], 3),
        (2, [*QUIET[:11], Use(throttles=1)], 3),
        (3, [Use(input_tokens=2000), *QUIET[:11]], 3),
        (3, QUIET, 1),
        (1, [Use(input_tokens=3000), *QUIET[:11]], 1),
        (1, [*QUIET[:11], Use(input_tokens=90_000)], 4),
        (1, [], 1),
    ],
)
def test_units_follow_the_tokens(owned: int, periods: list[Use], wanted: int) -> None:
    """Up with the latest minutes or a throttle, down after a quiet hour, between floor and ceiling."""
    assert decide(RULES, owned, periods) == wanted


def test_a_days_money_ends_before_the_ceiling() -> None:
    """Eight units cost 1,920 USD a day."""
    busy = [Use(input_tokens=90_000)]
    rules = Rules(input_tokens=1000, output_tokens=100, floor=1, ceiling=20, daily_usd=2000, hourly_usd=10)
    assert decide(rules, 1, busy) == 8


def test_extra_units_are_bought_used_and_given_up(world: World) -> None:
    """In slots of one unit each, beside the resource's own."""
    asked = world.have(ModelUnits="1")
    (base,) = world.fake.owned()
    busy = {MONDAY + timedelta(minutes=minutes): 11_500.0 for minutes in range(0, 60, 5)}
    world.alarms.points[base.arn, "InputTokenCount"] = busy
    world.fake.clock.now = (MONDAY + timedelta(minutes=30)).timestamp()
    world.run("scale", asked, Scaling=SCALING)
    assert sorted(model.units for model in world.fake.owned()) == [1, 1, 1]
    assert undeclared(world.fake, world.physical_id) == []
    assert len(world.handle["models"]) == 3
    world.fake.clock.pass_(3 * 3600)
    world.run("scale", asked, Scaling=SCALING)
    assert [model.arn for model in world.fake.owned()] == [base.arn]
    assert [model["id"] for model in world.handle["models"]] == [base.arn]


def test_the_hourly_look_counts_what_is_owned_and_what_it_costs(world: World) -> None:
    """Two units without a request, at 10 USD an hour each."""
    values = world.run("watch", world.have())
    assert {key: value for key, value in values.items() if key != "_aws"} == {
        "UnitsOwned": 2,
        "UnitsDeclared": 2,
        "UnitsMissing": 0,
        "UnitsRetained": 0,
        "DailyUsd": 480,
        "IdleUnits": 2,
    }


def commit(world: World) -> units_commit.Progress:
    (found,) = units_commit.declared()
    for _ in range(20):
        progress = units_commit.advance(found)
        if progress.done:
            return progress
        world.fake.clock.pass_(15)
    raise AssertionError("not committed")


def test_a_commitment_is_bought_beside_and_takes_over(world: World) -> None:
    """Callers move first; then the uncommitted units go, and the ledger has nothing to say any more."""
    world.have(Commitment="ONE_MONTH")
    assert "is committed until" in commit(world).text
    (left,) = world.fake.owned()
    assert left.commitment == "OneMonth" and left.name.endswith("-c")
    assert [model["id"] for model in world.handle["models"]] == [left.arn]
    assert units_commit.declared() == []


def test_a_commitment_that_was_not_carried_through_is_mended_by_the_look(world: World) -> None:
    """Somebody stopped the command between two steps."""
    asked = world.have(Commitment="ONE_MONTH")
    units_commit.advance(units_commit.declared()[0])
    world.fake.clock.pass_(60)
    assert world.fake.units == 4
    values = world.run("watch", asked)
    assert world.fake.units == 2 and values["UnitsOwned"] == 2 and values["DaysToExpiry"] > 29


def test_nothing_is_committed_for_a_stack_that_is_gone(world: World) -> None:
    """The stack is asked before the purchase."""
    world.have(Commitment="ONE_MONTH")
    world.stacks.resources.clear()
    with pytest.raises(Refused, match="nothing was bought"):
        units_commit.advance(units_commit.declared()[0])
    assert [model.commitment for model in world.fake.owned()] == [None]


def test_what_the_stack_says_counts_only_where_it_may_be_asked(world: World) -> None:
    """Without the right to ask, the other safeguards stand alone."""
    world.have()
    assert Stack(asked=False).still_declares(STACK, "Nothing", "x")
    assert not Stack(asked=True).still_declares(STACK, "Nothing", "x")
    assert Stack(asked=True).still_declares(STACK, "Units", world.physical_id)
