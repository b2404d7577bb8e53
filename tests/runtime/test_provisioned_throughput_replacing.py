"""Model units that are replaced, rolled back, kept and taken over, against a model of Bedrock over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support_bedrock import FakeBedrock, bedrock_server
from support_units import STACK, create, finish, properties, request, undeclared
from tokenmill.local.bedrock import Behaviour, Fault
from tokenmill_runtime import provisioned_throughput, units_market
from tokenmill_runtime.custom_resource import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

MAKE = {"Replacement": "MAKE_BEFORE_BREAK"}
BREAK = {"Replacement": "BREAK_BEFORE_MAKE"}
REFUSE = {"Replacement": "REFUSE"}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBedrock]:
    monkeypatch.setattr(units_market, "PAUSES", (0, 0))
    with bedrock_server() as server:
        yield server


def update(
    fake: FakeBedrock, physical_id: str, old: dict[str, Any], new: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Run an update: the id and the event."""
    event = request("Update", properties(**new), physical_id=physical_id, old=properties(**old))
    return finish(fake, event)[0], event


def clean_up(fake: FakeBedrock, gone: str, now: str, **changes: Any) -> None:
    """Delete what an update replaced, as CloudFormation does where the id is another one."""
    if gone != now:
        finish(fake, request("Delete", properties(**changes), physical_id=gone))


def test_make_before_break_owns_both_until_the_cleanup(fake: FakeBedrock) -> None:
    """The old units go with the delete that CloudFormation sends when the deployment is healthy."""
    first = create(fake, **MAKE)
    second, _ = update(fake, first, MAKE, {**MAKE, "ModelUnits": "3"})
    assert second != first and fake.units == 5
    finish(fake, request("Delete", properties(), physical_id=first))
    assert fake.units == 3 and undeclared(fake, second) == []


def test_break_before_make_never_owns_both(fake: FakeBedrock) -> None:
    """The old units are gone before the new ones are asked for, under the id of before."""
    first = create(fake, **BREAK)
    event = request("Update", properties(**BREAK, ModelUnits="3"), physical_id=first, old=properties(**BREAK))
    laid = {**event, **provisioned_throughput.on_event(event, None)}
    assert laid["PhysicalResourceId"] == first
    seen = set()
    while not provisioned_throughput.is_complete(laid, None)["IsComplete"]:
        seen.add(fake.units)
        fake.clock.pass_(15)
    assert seen <= {0, 3} and fake.units == 3


def test_refuse_changes_nothing_and_says_what_to_write(fake: FakeBedrock) -> None:
    """The failure comes before anything else, so that the rollback finds all as it was."""
    first = create(fake, **REFUSE)
    with pytest.raises(
        Refused, match="2 of .* would have to be replaced by 3 .* MAKE_BEFORE_BREAK .*nothing"
    ):
        update(fake, first, REFUSE, {**REFUSE, "ModelUnits": "3"})
    back, _ = update(fake, first, {**REFUSE, "ModelUnits": "3"}, REFUSE)
    assert back == first and fake.units == 2


@pytest.mark.parametrize("how", [MAKE, BREAK])
def test_a_rollback_goes_back_also_where_the_old_template_says_refuse(
    fake: FakeBedrock, how: dict[str, str]
) -> None:
    """A stack must not stay in UPDATE_ROLLBACK_FAILED because it once said REFUSE."""
    first = create(fake, **REFUSE)
    second, _ = update(fake, first, REFUSE, {**how, "ModelUnits": "3"})
    back, _ = update(fake, second, {**how, "ModelUnits": "3"}, REFUSE)
    clean_up(fake, second, back, ModelUnits="3")
    assert fake.units == 2 and undeclared(fake, back) == []


def test_a_rollback_deletes_what_cloudformation_never_heard_of(fake: FakeBedrock) -> None:
    """The update bought and was given up; its rollback comes under the id of before."""
    first = create(fake, **MAKE)
    new = {**MAKE, "ModelUnits": "3"}
    event = request("Update", properties(**new), physical_id=first, old=properties(**MAKE))
    provisioned_throughput.is_complete({**event, **provisioned_throughput.on_event(event, None)}, None)
    assert fake.units == 5
    back, _ = update(fake, first, new, MAKE)
    assert back == first and fake.units == 2


def test_a_rollback_that_only_deletes_the_new_units_leaves_the_old(fake: FakeBedrock) -> None:
    """CloudFormation may point back to the old id by itself."""
    first = create(fake, **MAKE)
    second, _ = update(fake, first, MAKE, {**MAKE, "ModelUnits": "3"})
    finish(fake, request("Delete", properties(ModelUnits="3"), physical_id=second))
    assert fake.units == 2 and undeclared(fake, first) == []


def test_there_and_back_gives_another_id_so_that_late_deletes_miss(fake: FakeBedrock) -> None:
    """Two units, three, two again: a repeated cleanup of the first is not about the last."""
    first = create(fake, **MAKE)
    gone = request("Delete", properties(), physical_id=first)
    second, _ = update(fake, first, MAKE, {**MAKE, "ModelUnits": "3"})
    finish(fake, gone)
    third, _ = update(fake, second, {**MAKE, "ModelUnits": "3"}, MAKE)
    finish(fake, request("Delete", properties(ModelUnits="3"), physical_id=second))
    finish(fake, gone)
    assert third != first and fake.units == 2 and undeclared(fake, third) == []


def test_name_tags_and_protection_change_in_place(fake: FakeBedrock) -> None:
    """No unit is bought or given up for them, and tags that went are gone."""
    first = create(fake)
    (before,) = fake.owned()
    changed = {"Name": "other", "Protected": "true", "Tags": [{"Key": "cost", "Value": "42"}]}
    again, _ = update(fake, first, {}, changed)
    (after,) = fake.owned()
    assert again == first and after.arn == before.arn and after.name.startswith("other-")
    assert "team" not in after.tags and after.tags["cost"] == "42"


def test_an_update_that_finds_its_units_gone_buys_none(fake: FakeBedrock) -> None:
    """It asks for nothing new, and may be late."""
    first = create(fake)
    fake.client().delete_provisioned_model_throughput(provisionedModelId=fake.owned()[0].arn)
    with pytest.raises(Refused, match="are gone, and this update does not ask for others"):
        update(fake, first, {}, {"Name": "other"})
    assert fake.units == 0


def test_units_that_are_being_created_are_waited_for_before_they_are_deleted(fake: FakeBedrock) -> None:
    """Bedrock answers ConflictException until then."""
    event = request("Create", properties())
    begun = provisioned_throughput.on_event(event, None)
    provisioned_throughput.is_complete({**event, **begun}, None)
    gone = request("Delete", properties(), physical_id=begun["PhysicalResourceId"])
    laid = {**gone, **provisioned_throughput.on_event(gone, None)}
    assert not provisioned_throughput.is_complete(laid, None)["IsComplete"]
    fake.clock.pass_(60)
    assert provisioned_throughput.is_complete(laid, None)["IsComplete"]
    assert fake.units == 0


def test_protected_units_stay_tagged_and_the_deletion_succeeds(fake: FakeBedrock) -> None:
    """Twice, as CloudFormation may ask."""
    first = create(fake, Protected="true")
    gone = request("Delete", properties(Protected="true"), physical_id=first)
    finish(fake, gone)
    finish(fake, gone)
    (kept,) = fake.owned()
    assert "tokenmill:retained" in kept.tags


@pytest.mark.parametrize("early", ["ValidationException", "ConflictException"])
def test_committed_units_stay_until_their_term(monkeypatch: pytest.MonkeyPatch, early: Any) -> None:
    """Whatever the service calls its refusal, and whatever our clock says."""
    monkeypatch.setattr(units_market, "PAUSES", (0, 0))
    with bedrock_server(behaviour=Behaviour(early_delete=early)) as fake:
        fake.clock.now = 1_000_000_000.0
        first = create(fake)
        (base,) = fake.owned()
        fake.client().create_provisioned_model_throughput(
            provisionedModelName=f"{base.name}-c",
            modelId=base.model,
            modelUnits=2,
            commitmentDuration="OneMonth",
            tags=[{"key": key, "value": value} for key, value in base.tags.items()],
        )
        fake.clock.pass_(60)
        finish(fake, request("Delete", properties(), physical_id=first))
        (kept,) = fake.owned()
        assert kept.commitment == "OneMonth" and "tokenmill:retained" in kept.tags


def test_a_new_stack_takes_retained_units_over(fake: FakeBedrock) -> None:
    """Same model and number: they are renamed and tagged, and none is bought; then they can go."""
    first = create(fake, Protected="true")
    finish(fake, request("Delete", properties(Protected="true"), physical_id=first))
    (kept,) = fake.owned()
    other = f"{STACK}-of-another-day"
    second, data = finish(fake, request("Create", properties(), StackId=other))
    (adopted,) = fake.owned()
    assert adopted.arn == kept.arn == data["ModelArn"] and adopted.name == data["Name"]
    assert adopted.tags["tokenmill:stack"] == other and "tokenmill:retained" not in adopted.tags
    finish(fake, request("Delete", properties(), physical_id=second, StackId=other))
    assert fake.owned() == []


def test_retained_units_of_another_size_are_left_alone(fake: FakeBedrock) -> None:
    """One unit is not two."""
    first = create(fake, ModelUnits="1", Protected="true")
    finish(fake, request("Delete", properties(ModelUnits="1", Protected="true"), physical_id=first))
    create(fake)
    assert sorted(model.units for model in fake.owned()) == [1, 2]


def test_a_lost_right_to_delete_keeps_the_units_in_sight(fake: FakeBedrock) -> None:
    """They are tagged as retained, and the cause is in the stack's events."""
    first = create(fake)
    fake.faults.add(Fault(kind="denied", operation="DeleteProvisionedModelThroughput"))
    with pytest.raises(Refused, match="may not delete arn:.*which stays and is paid for"):
        finish(fake, request("Delete", properties(), physical_id=first))
    assert undeclared(fake) == [] and fake.units == 2


def test_protected_units_are_not_broken_for_others(fake: FakeBedrock) -> None:
    """BREAK_BEFORE_MAKE would delete them."""
    first = create(fake, **BREAK, Protected="true")
    protected = {**BREAK, "Protected": "true"}
    with pytest.raises(Refused, match="deletes units that are Protected"):
        update(fake, first, protected, {**protected, "ModelUnits": "3"})
    assert fake.units == 2


def test_a_schedule_owns_the_units_and_a_deployment_buys_none(fake: FakeBedrock) -> None:
    """Also where it did before: the old units go with the cleanup."""
    first = create(fake, **REFUSE)
    second, _ = update(fake, first, REFUSE, {**REFUSE, "Scheduled": "true"})
    finish(fake, request("Delete", properties(), physical_id=first))
    assert second != first and fake.units == 0


@pytest.mark.parametrize("lag", [5.0, 45.0])
@pytest.mark.parametrize("how", [MAKE, BREAK])
def test_looks_that_are_behind_end_the_same(
    monkeypatch: pytest.MonkeyPatch, lag: float, how: dict[str, str]
) -> None:
    """Up, cleanup, down, cleanup, delete, with every read so far behind."""
    monkeypatch.setattr(units_market, "PAUSES", (0, 0))
    with bedrock_server(behaviour=Behaviour(get_lag_seconds=lag, list_lag_seconds=lag)) as fake:
        first = create(fake, **how)
        second, _ = update(fake, first, how, {**how, "ModelUnits": "3"})
        clean_up(fake, first, second)
        third, _ = update(fake, second, {**how, "ModelUnits": "3"}, how)
        clean_up(fake, second, third, ModelUnits="3")
        assert fake.units == 2 and undeclared(fake, third) == []
        finish(fake, request("Delete", properties(), physical_id=third))
        assert fake.units == 0
