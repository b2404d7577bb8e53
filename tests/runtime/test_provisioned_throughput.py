"""Model units through a whole life, against a model of Bedrock's control plane over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support_bedrock import MODEL, FakeBedrock, bedrock_server
from support_units import create, finish, properties, request, sample, undeclared
from tokenmill.local.bedrock import Behaviour, Fault, UnitQuotas
from tokenmill_runtime import provisioned_throughput, units_market, waited_resource
from tokenmill_runtime.custom_resource import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBedrock]:
    monkeypatch.setattr(units_market, "PAUSES", (0, 0))
    with bedrock_server() as server:
        yield server


def calls(fake: FakeBedrock, operation: str) -> int:
    """How often an operation met one of our faults."""
    return sum(times for (_, met), times in fake.faults.met.items() if met == operation)


def test_the_sample_events_run_in_their_order(fake: FakeBedrock) -> None:
    """Create, rename and protect, then three units for two, and back: each with the ids in the files."""
    assert finish(fake, sample("create"))[0] == sample("is_complete_create")["PhysicalResourceId"]
    assert provisioned_throughput.is_complete(sample("is_complete_create"), None)["IsComplete"]
    assert finish(fake, sample("update_in_place"))[0] == sample("cleanup_delete")["PhysicalResourceId"]
    assert [model.name.startswith("chat-renamed-") for model in fake.owned()] == [True]
    changed, _ = finish(fake, sample("update_units"))
    assert changed == sample("is_complete_update_units")["PhysicalResourceId"]
    assert sorted(model.units for model in fake.owned()) == [2, 3]
    back, _ = finish(fake, sample("rollback"))
    assert back == sample("cleanup_delete")["PhysicalResourceId"]
    finish(fake, sample("delete"))
    assert [model.units for model in fake.owned()] == [2]
    finish(fake, sample("cleanup_delete"))
    assert fake.units == 0


def test_returned_data_names_the_units(fake: FakeBedrock) -> None:
    """What templates read: ARN, name, number and state."""
    _, data = finish(fake, sample("create"))
    (bought,) = fake.owned()
    assert data == {"Handle": "", "ModelArn": bought.arn, "Name": bought.name, "Units": 2, "State": "units"}


def test_on_event_changes_nothing(fake: FakeBedrock) -> None:
    """Whoever drops what follows `on_event` has bought nothing."""
    provisioned_throughput.on_event(sample("create"), None)
    assert fake.units == 0


def test_a_purchase_carries_the_tags_that_tell_whose_it_is(fake: FakeBedrock) -> None:
    """Stack, physical id and generation, and the user's own."""
    made = create(fake)
    (bought,) = fake.owned()
    assert bought.tags["tokenmill:resource"] == made
    assert bought.tags["tokenmill:stack"] == sample("create")["StackId"]
    assert bought.tags["team"] == "search"
    assert bought.commitment is None


def test_a_declared_commitment_is_not_bought_by_a_deployment(fake: FakeBedrock) -> None:
    """A rollback could not take it back."""
    create(fake, Commitment="SIX_MONTHS")
    assert [model.commitment for model in fake.owned()] == [None]


@pytest.mark.parametrize("kind", ["lost", "failed_after", "throttled", "failed", "dropped"])
def test_a_purchase_whose_answer_is_lost_is_made_once(fake: FakeBedrock, kind: Any) -> None:
    """The token and the name of the second attempt are those of the first."""
    fake.faults.add(Fault(kind=kind, operation="CreateProvisionedModelThroughput", times=3))
    made = create(fake)
    assert calls(fake, "CreateProvisionedModelThroughput") == 3
    assert fake.units == 2
    assert undeclared(fake, made) == []


@pytest.mark.parametrize("lag", [0.0, 45.0])
def test_what_no_look_shows_yet_is_not_bought_again(monkeypatch: pytest.MonkeyPatch, lag: float) -> None:
    """Reads that are 45 s behind make a purchase longer, and not dearer."""
    monkeypatch.setattr(units_market, "PAUSES", (0, 0))
    with bedrock_server(behaviour=Behaviour(get_lag_seconds=lag, list_lag_seconds=lag)) as fake:
        create(fake)
        assert fake.units == 2


@pytest.mark.parametrize("lag", [0.0, 45.0])
def test_a_deletion_finds_what_a_killed_creation_bought(monkeypatch: pytest.MonkeyPatch, lag: float) -> None:
    """The create is given up right after its purchase; no look shows the units when the delete comes."""
    monkeypatch.setattr(units_market, "PAUSES", (0, 0))
    with bedrock_server(behaviour=Behaviour(get_lag_seconds=lag, list_lag_seconds=lag)) as fake:
        asked = request("Create", properties())
        begun = provisioned_throughput.on_event(asked, None)
        assert not provisioned_throughput.is_complete({**asked, **begun}, None)["IsComplete"]
        assert fake.units == 2
        finish(fake, request("Delete", properties(), physical_id=begun["PhysicalResourceId"]))
        assert fake.units == 0


def test_a_deletion_under_an_id_that_cloudformation_made_up_finds_the_units(fake: FakeBedrock) -> None:
    """A create that never got an answer is deleted under an id that nobody gave."""
    create(fake)
    finish(fake, request("Delete", properties(), physical_id="chat-Units-1ABCDEFGHIJKL"))
    assert fake.units == 0


def test_a_deletion_of_what_never_was_succeeds(fake: FakeBedrock) -> None:
    """Also of properties that no create would have taken."""
    finish(fake, sample("delete"))
    finish(fake, request("Delete", {"Name": "a b", "ModelUnits": "none"}, physical_id="never"))
    assert fake.units == 0


def test_a_creation_that_comes_twice_buys_once(fake: FakeBedrock) -> None:
    """The same request twice, the second after the first was complete."""
    made, _ = finish(fake, sample("create"))
    assert finish(fake, sample("create"))[0] == made
    assert fake.units == 2


def test_a_creation_that_comes_after_its_deletion_buys_nothing(fake: FakeBedrock) -> None:
    """The token stands for units that are gone, and the service sells nothing for it."""
    made, _ = finish(fake, sample("create"))
    finish(fake, request("Delete", properties(), physical_id=made))
    late = {**sample("create"), **provisioned_throughput.on_event(sample("create"), None)}
    for _ in range(5):
        assert not provisioned_throughput.is_complete(late, None)["IsComplete"]
        fake.clock.pass_(60)
    assert fake.units == 0


def test_a_deletion_that_comes_late_leaves_the_units_that_came_after(fake: FakeBedrock) -> None:
    """The same model and number under another birth are not what it is about."""
    first = create(fake)
    gone = request("Delete", properties(), physical_id=first)
    finish(fake, gone)
    second = create(fake)
    finish(fake, gone)
    assert undeclared(fake, second) == [] and fake.units == 2


def test_units_of_somebody_else_are_never_touched(fake: FakeBedrock) -> None:
    """A taken name is refused by the ARN that has it; the delete that follows leaves it alone."""
    made = create(fake)
    name = fake.owned()[0].name
    finish(fake, request("Delete", properties(), physical_id=made))
    foreign = fake.client().create_provisioned_model_throughput(
        provisionedModelName=name, modelId=MODEL, modelUnits=1
    )["provisionedModelArn"]
    asked = request("Create", properties())
    with pytest.raises(Refused, match=rf"is taken by {foreign}, which this stack did not buy"):
        finish(fake, asked)
    finish(fake, request("Delete", properties(), physical_id=made))
    (left,) = fake.owned()
    assert (left.arn, left.name, left.tags) == (foreign, name, {})


def test_units_that_end_failed_are_deleted_and_their_reason_is_told(fake: FakeBedrock) -> None:
    """No capacity is no charge."""
    fake.control.provisioned.without_capacity.add(MODEL)
    with pytest.raises(Refused, match="could not provide the units: There is not enough capacity"):
        create(fake)
    assert fake.owned() == []


def test_quota_zero_says_what_to_request() -> None:
    """Every account begins with none, and the text names the quota."""
    with bedrock_server(quotas=UnitQuotas()) as fake:
        with pytest.raises(
            Refused, match="every account begins with 0; request .*across base models.*nothing"
        ) as no:
            create(fake)
        assert no.value.code == "quota" and fake.units == 0


def test_a_missing_permission_is_named(fake: FakeBedrock) -> None:
    """The action that the role lacks is in the text, and nothing is bought."""
    fake.faults.add(Fault(kind="denied", operation="CreateProvisionedModelThroughput"))
    with pytest.raises(Refused, match="lacks a permission.*bedrock:CreateProvisionedModelThroughput"):
        create(fake)
    assert fake.units == 0


def test_an_unknown_model_is_refused_in_the_services_words(fake: FakeBedrock) -> None:
    """Nothing is bought."""
    with pytest.raises(Refused, match=r"sells no 2 units of no\.such-model-v9"):
        create(fake, ModelId="no.such-model-v9")
    assert fake.units == 0


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"ModelUnits": "0"}, "ModelUnits is '0'; give a whole number of 1 or more"),
        ({"ModelUnits": "1.5"}, "ModelUnits is '1.5'"),
        ({"Name": "a" * 41}, "it must have 1 to 40 letters"),
        ({"Name": "two--dashes"}, "Name is 'two--dashes'"),
        ({"Commitment": None}, "Commitment is None; allowed are NONE, ONE_MONTH, SIX_MONTHS"),
        ({"Replacement": "MAYBE"}, "Replacement is 'MAYBE'"),
        ({"Protected": "yes"}, "Protected is 'yes'; allowed are true, false"),
        ({"HourlyUsd": "-1"}, "HourlyUsd is '-1'"),
        ({"Tags": [{"Key": "aws:x", "Value": ""}]}, "Tags has the key 'aws:x'"),
        ({"ModelId": ""}, "ModelId is ''; give a text"),
    ],
)
def test_bad_properties_are_refused_before_anything_is_asked(changes: dict[str, Any], text: str) -> None:
    """No service has to be there for it."""
    with pytest.raises(Refused, match=text.replace("(", r"\(")):
        provisioned_throughput.on_event(request("Create", properties(**changes)), None)


def test_a_throttling_storm_delays_and_buys_once(fake: FakeBedrock) -> None:
    """Two hundred refusals of every operation in a row."""
    fake.faults.add(Fault(kind="throttled", times=200))
    create(fake)
    assert fake.units == 2


def test_a_storm_at_a_replacing_update_changes_nothing(
    fake: FakeBedrock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`on_event` has to look, tries seven times, and says that it could not."""
    made = create(fake)
    pauses: list[float] = []
    monkeypatch.setattr(waited_resource.time, "sleep", pauses.append)
    event = request("Update", properties(ModelUnits="3"), physical_id=made, old=properties())
    fake.faults.add(Fault(kind="throttled", times=21))
    with pytest.raises(Refused, match="could not begin, and nothing was changed"):
        provisioned_throughput.on_event(event, None)
    assert fake.units == 2 and sum(pauses) == pytest.approx(6.3)
    fake.faults.add(Fault(kind="throttled", times=18))
    assert provisioned_throughput.on_event(event, None)["Replaces"] == made
