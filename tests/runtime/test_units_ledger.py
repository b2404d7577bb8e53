"""What a deployed function does beside buying: ledger, alarms, handle, quotas and questions to the stack."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support_bedrock import FakeBedrock, bedrock_server
from support_parameters import Alarms, Parameters, Stacks
from support_units import STACK, create, finish, properties, request
from tokenmill_runtime import aws, provisioned_throughput, units_market
from tokenmill_runtime.custom_resource import Refused
from tokenmill_runtime.units_handle import Handles
from tokenmill_runtime.units_ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator

HANDLE = "/tokenmill/models/chat"
TOPIC = "arn:aws:sns:us-east-1:123456789012:money"
WITH_HANDLE = {"Handle": HANDLE, "Fallback": "amazon.nova-lite-v1:0"}


class Cloud:
    """Bedrock over HTTP, and what the function writes beside it."""

    def __init__(self, fake: FakeBedrock) -> None:
        self.fake = fake
        self.parameters, self.alarms, self.stacks = Parameters(), Alarms(), Stacks()

    @property
    def handle(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.parameters.values[HANDLE])
        return found

    def entries(self, kind: str) -> list[dict[str, Any]]:
        return list(Ledger(prefix="/tokenmill/units", client=lambda: self.parameters).entries(kind))


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    monkeypatch.setattr(units_market, "PAUSES", (0, 0))
    monkeypatch.setenv("TOKENMILL_LEDGER_PREFIX", "/tokenmill/units")
    with bedrock_server() as fake:
        made = Cloud(fake)
        monkeypatch.setattr(Ledger.__init__, "__kwdefaults__", {"client": lambda: made.parameters})
        monkeypatch.setattr(Handles.__init__, "__kwdefaults__", {"client": lambda: made.parameters})
        monkeypatch.setattr(aws, "cloudwatch", lambda: made.alarms)
        monkeypatch.setattr(aws, "cloudformation", lambda: made.stacks)
        yield made


def test_retained_units_stand_in_the_ledger_with_cost_and_alarm(cloud: Cloud) -> None:
    """Neither belongs to a stack, and both say what it costs."""
    asked = {"Protected": "true", "HourlyUsd": "10", "AlarmTopic": TOPIC}
    first = create(cloud.fake, **asked)
    finish(cloud.fake, request("Delete", properties(**asked), physical_id=first))
    (entry,) = cloud.entries("retained")
    (kept,) = cloud.fake.owned()
    assert entry["arn"] == kept.arn and entry["units"] == 2 and entry["resource"] == first
    assert (entry["hourly_usd"], entry["daily_usd"], entry["reason"]) == (20.0, 480.0, "it is protected")
    (alarm,) = cloud.alarms.alarms.values()
    assert alarm["AlarmName"] == f"tokenmill-units-{kept.arn.rpartition('/')[2]}"
    assert alarm["AlarmActions"] == [TOPIC] and alarm["TreatMissingData"] == "breaching"
    assert "480.00 USD a day" in alarm["AlarmDescription"]


def test_adoption_takes_entry_and_alarm_away(cloud: Cloud) -> None:
    """What a stack declares again is nobody's leftover."""
    first = create(cloud.fake, Protected="true")
    finish(cloud.fake, request("Delete", properties(Protected="true"), physical_id=first))
    finish(cloud.fake, request("Create", properties(), StackId=f"{STACK}-of-another-day"))
    assert cloud.entries("retained") == [] and cloud.alarms.alarms == {}


def test_a_repeated_deletion_keeps_the_day_of_the_first(cloud: Cloud) -> None:
    """The ledger says since when units are paid for without a stack."""
    first = create(cloud.fake, Protected="true")
    gone = request("Delete", properties(Protected="true"), physical_id=first)
    finish(cloud.fake, gone)
    before = cloud.entries("retained")
    finish(cloud.fake, gone)
    assert cloud.entries("retained") == before


def test_a_declared_commitment_stands_in_the_ledger_until_the_resource_goes(cloud: Cloud) -> None:
    """`tokenmill jobs run commit-units` finds it there."""
    first = create(cloud.fake, Commitment="ONE_MONTH")
    (entry,) = cloud.entries("declared")
    assert (entry["resource"], entry["commitment"], entry["units"]) == (first, "ONE_MONTH", 2)
    finish(cloud.fake, request("Delete", properties(Commitment="ONE_MONTH"), physical_id=first))
    assert cloud.entries("declared") == []


def test_the_handle_names_the_units_and_goes_with_them(cloud: Cloud) -> None:
    """Callers read ARN, units and fallback."""
    first = create(cloud.fake, **WITH_HANDLE)
    (bought,) = cloud.fake.owned()
    assert cloud.handle == {
        "models": [{"id": bought.arn, "units": 2}],
        "fallback": "amazon.nova-lite-v1:0",
        "state": "units",
        "resource": first,
    }
    finish(cloud.fake, request("Delete", properties(**WITH_HANDLE), physical_id=first))
    assert HANDLE not in cloud.parameters.values


def test_make_before_break_switches_callers_before_the_old_units_go(cloud: Cloud) -> None:
    """The cleanup of the old leaves the handle with the new."""
    old, new = properties(**WITH_HANDLE), properties(**WITH_HANDLE, ModelUnits="3")
    first = create(cloud.fake, **WITH_HANDLE)
    second, _ = finish(cloud.fake, request("Update", new, physical_id=first, old=old))
    assert [model["units"] for model in cloud.handle["models"]] == [3]
    finish(cloud.fake, request("Delete", old, physical_id=first))
    assert [model["units"] for model in cloud.handle["models"]] == [3]
    assert cloud.handle["resource"] == second


def test_break_before_make_puts_callers_on_the_fallback_meanwhile(cloud: Cloud) -> None:
    """The handle is on overflow before the old units are gone."""
    how = {**WITH_HANDLE, "Replacement": "BREAK_BEFORE_MAKE"}
    first = create(cloud.fake, **how)
    event = request("Update", properties(**how, ModelUnits="3"), physical_id=first, old=properties(**how))
    laid = {**event, **provisioned_throughput.on_event(event, None)}
    assert not provisioned_throughput.is_complete(laid, None)["IsComplete"]
    assert cloud.handle["state"] == "overflow" and cloud.handle["models"] == []
    finish(cloud.fake, event)
    assert cloud.handle["state"] == "units"


def test_a_late_creation_is_stopped_by_the_stack(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a stack that is being made, changed or rolled back may declare units."""
    monkeypatch.setenv("TOKENMILL_ASK_STACK", "1")
    for status in ("DELETE_COMPLETE", "CREATE_COMPLETE", "ROLLBACK_IN_PROGRESS", "DELETE_IN_PROGRESS"):
        cloud.stacks.status = status
        with pytest.raises(Refused, match="came late; nothing was bought"):
            create(cloud.fake)
    assert cloud.fake.units == 0


def test_a_late_deletion_is_stopped_by_the_stack(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack at rest that has the units deletes none."""
    monkeypatch.setenv("TOKENMILL_ASK_STACK", "1")
    first = create(cloud.fake)
    cloud.stacks.status, cloud.stacks.resources["Units"] = "UPDATE_COMPLETE", ("CREATE_COMPLETE", first)
    gone = request("Delete", properties(), physical_id=first)
    finish(cloud.fake, gone)
    assert cloud.fake.units == 2
    cloud.stacks.status = "DELETE_IN_PROGRESS"
    finish(cloud.fake, gone)
    assert cloud.fake.units == 0


@pytest.mark.parametrize("status", ["UPDATE_COMPLETE", "UPDATE_IN_PROGRESS"])
def test_a_late_deletion_under_an_id_made_up_leaves_what_the_stack_has_now(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    """It is about a create that never got an answer, and another one has made the resource since."""
    monkeypatch.setenv("TOKENMILL_ASK_STACK", "1")
    first = create(cloud.fake)
    cloud.stacks.status, cloud.stacks.resources["Units"] = status, ("CREATE_COMPLETE", first)
    finish(cloud.fake, request("Delete", properties(), physical_id="chat-Units-1A2B3C4D5E6F"))
    assert cloud.fake.units == 2


def test_protected_units_that_were_replaced_go_with_the_cleanup(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protection is for the resource, which lives on under another id."""
    monkeypatch.setenv("TOKENMILL_ASK_STACK", "1")
    first = create(cloud.fake, Protected="true")
    cloud.stacks.resources["Units"] = ("UPDATE_COMPLETE", "Units-0123456789ab-012345-01234567")
    finish(cloud.fake, request("Delete", properties(Protected="true"), physical_id=first))
    assert cloud.fake.units == 0


def test_units_that_are_gone_are_bought_anew_where_the_stack_may_be_asked(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An update that is not late mends what somebody deleted by hand."""
    monkeypatch.setenv("TOKENMILL_ASK_STACK", "1")
    first = create(cloud.fake)
    cloud.fake.client().delete_provisioned_model_throughput(provisionedModelId=cloud.fake.owned()[0].arn)
    event = request("Update", properties(Name="other"), physical_id=first, old=properties())
    assert finish(cloud.fake, event)[0] == first
    assert cloud.fake.units == 2


class Quotas:
    """Service Quotas with one quota."""

    def __init__(self, value: float) -> None:
        self.value = value

    def get_paginator(self, operation: str) -> Quotas:
        assert operation == "list_service_quotas"
        return self

    def paginate(self, **asked: Any) -> list[dict[str, Any]]:
        assert asked == {"ServiceCode": "bedrock"}
        name = "Model units no-commitment Provisioned Throughputs across base models"
        return [{"Quotas": []}, {"Quotas": [{"QuotaName": name, "Value": self.value}]}]


def test_the_quota_is_read_before_anything_is_changed(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make before break takes room for both; break before make gives its own up first."""
    monkeypatch.setenv("TOKENMILL_ASK_QUOTA", "1")
    monkeypatch.setattr(aws, "service_quotas", lambda: Quotas(4))
    first = create(cloud.fake)
    old, new = properties(), properties(ModelUnits="3")
    with pytest.raises(Refused, match="the quota is 4, and 2 are owned"):
        finish(cloud.fake, request("Update", new, physical_id=first, old=old))
    assert cloud.fake.units == 2
    how = {"Replacement": "BREAK_BEFORE_MAKE"}
    finish(cloud.fake, request("Update", {**new, **how}, physical_id=first, old={**old, **how}))
    assert cloud.fake.units == 3


def test_an_update_that_newly_says_refuse_is_refused_and_its_rollback_is_not(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stack tells an update on its way from a rollback, whose properties are those of before."""
    monkeypatch.setenv("TOKENMILL_ASK_STACK", "1")
    make = properties(Replacement="MAKE_BEFORE_BREAK")
    refuse = properties(Replacement="REFUSE", ModelUnits="3")
    first = create(cloud.fake, Replacement="MAKE_BEFORE_BREAK")
    with pytest.raises(Refused, match="Replacement is REFUSE"):
        finish(cloud.fake, request("Update", refuse, physical_id=first, old=make))
    assert cloud.fake.units == 2
    cloud.stacks.status = "UPDATE_ROLLBACK_IN_PROGRESS"
    second, _ = finish(cloud.fake, request("Update", refuse, physical_id=first, old=make))
    assert second != first and cloud.fake.units == 5


def test_callers_leave_what_a_rollback_gives_up_before_it_goes(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failed update had come to its end, and CloudFormation never heard of it."""
    old, new = properties(**WITH_HANDLE), properties(**WITH_HANDLE, ModelUnits="3")
    first = create(cloud.fake, **WITH_HANDLE)
    finish(cloud.fake, request("Update", new, physical_id=first, old=old))
    give_up, named = units_market.Market.give_up, []

    def watched(market: units_market.Market, name_or_arn: str) -> Any:
        named.extend(model["id"] for model in cloud.handle["models"] if model["id"] == name_or_arn)
        return give_up(market, name_or_arn)

    monkeypatch.setattr(units_market.Market, "give_up", watched)
    finish(cloud.fake, request("Update", old, physical_id=first, old=new))
    assert cloud.fake.units == 2 and named == []
    assert [model["units"] for model in cloud.handle["models"]] == [2]


def test_a_handle_never_goes_back_to_units_that_are_gone(cloud: Cloud) -> None:
    """A look that is behind still shows the units that this resource had before."""
    behaviour = cloud.fake.control.behaviour
    behaviour.get_lag_seconds = behaviour.list_lag_seconds = 45.0
    old, new = properties(**WITH_HANDLE), properties(**WITH_HANDLE, ModelUnits="3")
    first = create(cloud.fake, **WITH_HANDLE)
    second, _ = finish(cloud.fake, request("Update", new, physical_id=first, old=old))
    cloud.fake.clock.pass_(600)
    finish(cloud.fake, request("Delete", old, physical_id=first))
    finish(cloud.fake, request("Delete", new, physical_id=second))
    assert cloud.fake.units == 0 and HANDLE not in cloud.parameters.values


def test_a_stack_that_is_deleted_leaves_no_handle_for_what_it_retained(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tag of what was retained a moment ago may not show yet; the stack says that it is not its own."""
    monkeypatch.setenv("TOKENMILL_ASK_STACK", "1")
    kept = {**WITH_HANDLE, "Protected": "true"}
    first = create(cloud.fake, **kept)
    event = request("Update", properties(**kept, ModelUnits="3"), physical_id=first, old=properties(**kept))
    second, _ = finish(cloud.fake, event)
    cloud.fake.clock.pass_(600)
    cloud.fake.control.behaviour.get_lag_seconds = 45.0
    finish(cloud.fake, request("Delete", properties(**kept), physical_id=first))
    cloud.stacks.status = "DELETE_IN_PROGRESS"
    cloud.stacks.resources["Units"] = ("DELETE_IN_PROGRESS", second)
    finish(cloud.fake, request("Delete", properties(**kept, ModelUnits="3"), physical_id=second))
    assert cloud.fake.units == 5 and HANDLE not in cloud.parameters.values


def test_a_handle_that_is_gone_already_does_not_fail_a_deletion(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to an earlier attempt was lost."""
    first = create(cloud.fake, **WITH_HANDLE)
    delete = cloud.parameters.delete_parameter

    def twice(**asked: Any) -> dict[str, Any]:
        delete(**asked)
        return delete(**asked)

    monkeypatch.setattr(cloud.parameters, "delete_parameter", twice)
    finish(cloud.fake, request("Delete", properties(**WITH_HANDLE), physical_id=first))
    assert cloud.fake.units == 0 and HANDLE not in cloud.parameters.values
