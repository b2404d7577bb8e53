"""examples/office_hours_units through the command line: a purchase, an evening, a morning, an overflow."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from support_bedrock_examples import BedrockExamples, noon_zone

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLE, STACK = "office_hours_units", "office-hours-units"
BOUGHT, ON_DEMAND = "in place of amazon.nova-lite-v1:0:24k.", "in place of amazon.nova-lite-v1:0."
OFFICE = 'OfficeHours(start=start, end=end, timezone="Europe/Berlin")'


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BedrockExamples]:
    """The example in a time zone whose hours last now."""
    examples = BedrockExamples(tmp_path_factory.mktemp("hours"))
    now = f'OfficeHours(start="00:01", end="23:59", days="SUN-SAT", timezone="{noon_zone()}")'
    examples.edit(EXAMPLE, (OFFICE, now))
    examples.start(EXAMPLE)
    try:
        yield examples
    finally:
        examples.stop()


@pytest.fixture(scope="module")
def handle(examples: BedrockExamples) -> str:
    [stack] = examples.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"]
    name: str = next(each["OutputValue"] for each in stack["Outputs"] if each["OutputKey"] == "Handle")
    return name


def test_units_are_bought_while_the_hours_last_and_answer(examples: BedrockExamples, handle: str) -> None:
    """Nobody does anything: the watch begins with the deployment, and buys what the hours say."""
    assert examples.handle_becomes(handle, "units"), examples.units()
    assert examples.in_service(1)
    [model] = examples.handle(handle)["models"]
    assert model == {"id": examples.units()[0]["provisionedModelArn"], "units": 1}
    assert examples.comes(lambda: BOUGHT in examples.chat())
    shown = examples.run("status").stdout
    assert "Bedrock model units" in shown
    assert examples.units()[0]["provisionedModelName"] in shown
    assert examples.alarm("UnitsMissing")["StateValue"] != "ALARM"


def test_what_the_units_do_not_process_is_answered_on_demand(examples: BedrockExamples, handle: str) -> None:
    """The second call finds the minute's tokens used up, and goes to the fallback; it is counted."""
    examples.fail(bedrock_capacity={"unit": {"amazon.nova-lite-v1:0": 60}})
    try:
        answers = [examples.chat() for _ in range(2)]
    finally:
        examples.fail(bedrock_capacity={"unit": {"amazon.nova-lite-v1:0": None}})
    assert ON_DEMAND in answers[1], answers
    assert examples.handle(handle)["state"] == "units"
    assert examples.comes(lambda: examples.metric_sum("Overflow") > 0)


def test_in_the_evening_units_go_and_callers_do_not_notice(examples: BedrockExamples, handle: str) -> None:
    examples.fire("OfficeClose")
    assert examples.comes(lambda: not examples.units())
    assert examples.handle(handle)["models"] == []
    assert examples.handle(handle)["state"] == "overflow"
    assert examples.comes(lambda: ON_DEMAND in examples.chat())


def test_an_overflow_that_stays_is_an_alarm(examples: BedrockExamples) -> None:
    """Three of five minutes; the first two are put here, the third is a call's."""
    about = examples.alarm("Overflow")
    for minutes in (1, 2):
        at = datetime.now(UTC) - timedelta(minutes=minutes)
        data = {
            "MetricName": about["MetricName"],
            "Dimensions": about["Dimensions"],
            "Value": 1,
            "Timestamp": at,
        }
        examples.client("cloudwatch").put_metric_data(Namespace=about["Namespace"], MetricData=[data])
    assert ON_DEMAND in examples.chat()
    assert examples.alarm_becomes("Overflow", "ALARM")


def test_a_morning_without_quota_is_served_on_demand_under_an_alarm_until_units_come(
    examples: BedrockExamples, handle: str
) -> None:
    """The alarm stands until the watch, an hour later, has bought them."""
    examples.fail(bedrock_quotas={"base": 0})
    try:
        examples.fire("OfficeOpen")
        assert examples.alarm_becomes("UnitsMissing", "ALARM")
        assert examples.units() == []
        assert ON_DEMAND in examples.chat()
    finally:
        examples.fail(bedrock_quotas={"base": 10})
    examples.fire("Watch")
    assert examples.handle_becomes(handle, "units")
    assert examples.comes(lambda: BOUGHT in examples.chat())
    assert examples.alarm_becomes("UnitsMissing", "OK")


def test_another_number_of_units_gives_the_old_ones_up_first(examples: BedrockExamples, handle: str) -> None:
    """The quota holds the new ones and not both."""
    examples.fail(bedrock_quotas={"base": 2})
    try:
        examples.edit(EXAMPLE, ("units=1,", "units=2,"))
        examples.deployed(EXAMPLE)
        examples.fire("Watch")
        assert examples.comes(lambda: examples.in_service(2)), examples.units()
    finally:
        examples.fail(bedrock_quotas={"base": 10})
    assert examples.handle_becomes(handle, "units")
    assert examples.handle(handle)["models"][0]["units"] == 2


def test_deleting_the_stack_leaves_nothing(examples: BedrockExamples) -> None:
    """No units, no handle, no entry in the ledger, no alarm."""
    examples.destroyed(STACK)
    assert examples.units() == []
    assert examples.parameters("/tokenmill") == {}
    assert examples.client("cloudwatch").describe_alarms()["MetricAlarms"] == []
