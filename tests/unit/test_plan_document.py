"""A plan is written once, read by synth, and knows what it was made from."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support_planner import CALIBRATION
from tokenmill.core.errors import NoPlanError, TokenmillError
from tokenmill.core.plan import Plan, input_hash
from tokenmill.core.workload import Limits, Slo, Workload
from tokenmill.planner.difference import changes

if TYPE_CHECKING:
    from pathlib import Path

INPUTS = {
    "model_id": "a/b",
    "model_config": {"layers": 2},
    "workload": Workload(requests_per_second=1, input_tokens=10, output_tokens=10),
    "slo": Slo(ttft_ms=1000, itl_ms=50),
    "region": "us-east-1",
    "limits": Limits(),
    "backend": "sagemaker",
}


def test_a_plan_survives_its_file(inf2_plan: Plan, tmp_path: Path) -> None:
    """Every value comes back, and the same plan has the same digest."""
    path = tmp_path / "chat.plan.json"
    inf2_plan.write(path)
    again = Plan.read(path)
    assert again == inf2_plan
    assert again.hash == inf2_plan.hash
    assert json.loads(path.read_text())["schema"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_plan_without_candidates_is_not_written(inf2_plan: Plan, tmp_path: Path) -> None:
    """A stack cannot be made of it; the reason is the nearest miss."""
    empty = replace(inf2_plan, candidates=(), nearest_miss="nothing fits")
    with pytest.raises(NoPlanError, match="nothing fits"):
        empty.write(tmp_path / "chat.plan.json")
    assert not list(tmp_path.iterdir())


def test_the_digest_changes_with_any_figure(inf2_plan: Plan) -> None:
    """Templates carry it to say which plan they were made from."""
    first = replace(inf2_plan.candidates[0], itl_ms=1.0)
    assert replace(inf2_plan, candidates=(first,)).hash != inf2_plan.hash
    assert len(inf2_plan.hash) == 16


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "has schema None, this version reads 1"),
        ('{"schema": 2}', "has schema 2, this version reads 1; write it again"),
        ('{"schema": 1}', "lacks stack, backend"),
    ],
)
def test_fails_for_a_file_that_is_no_plan(tmp_path: Path, text: str, message: str) -> None:
    """Path, fault and the command that mends it stand in the message."""
    path = tmp_path / "chat.plan.json"
    path.write_text(text)
    with pytest.raises(TokenmillError, match=message):
        Plan.read(path)
    with pytest.raises(TokenmillError, match="run: tokenmill plan --write"):
        Plan.read(tmp_path / "none.json")


@pytest.mark.parametrize(
    "change",
    [
        {"model_id": "a/c"},
        {"model_config": {"layers": 3}},
        {"workload": Workload(requests_per_second=2, input_tokens=10, output_tokens=10)},
        {"slo": Slo(ttft_ms=1000, itl_ms=50, percentile=99)},
        {"region": "us-west-2"},
        {"limits": Limits(min_copies=2)},
        {"backend": "other"},
    ],
)
def test_the_input_digest_changes_with_each_input(change: dict[str, object]) -> None:
    """Nothing that the user gives is left out."""
    assert input_hash(**(INPUTS | change)) != input_hash(**INPUTS)


loads = st.builds(
    Workload,
    requests_per_second=st.floats(0.1, 100),
    input_tokens=st.integers(1, 9999),
    output_tokens=st.integers(1, 9999),
)


@given(loads, loads)
def test_two_loads_share_a_digest_only_when_they_are_equal(one: Workload, two: Workload) -> None:
    """The digest stands for the inputs, no more and no less."""
    same = input_hash(**(INPUTS | {"workload": one})) == input_hash(**(INPUTS | {"workload": two}))
    assert same == (one == two)


def test_the_order_of_keys_in_config_json_does_not_count() -> None:
    """A reformatted file is the same model."""
    one = input_hash(**(INPUTS | {"model_config": {"a": 1, "b": 2}}))
    two = input_hash(**(INPUTS | {"model_config": {"b": 2, "a": 1}}))
    assert one == two


def test_equal_plans_differ_in_nothing(inf2_plan: Plan) -> None:
    """`--diff` stays quiet."""
    assert changes(inf2_plan, inf2_plan) == ()


def test_a_new_price_is_no_change_of_the_fleet(inf2_plan: Plan) -> None:
    """Cost moves, what runs does not, and the two are told apart."""
    first = replace(inf2_plan.chosen, usd_per_hour=9.0)
    newer = replace(
        inf2_plan, candidates=(first, *inf2_plan.candidates[1:]), versions={"prices": "2030-01-01"}
    )
    found = {change.what: change for change in changes(inf2_plan, newer)}
    assert found["chosen.usd_per_hour"].new == 9.0
    assert found["catalog prices"].new == "2030-01-01"
    assert found["catalog images"].new is None
    assert not any(change.replaces_fleet for change in found.values())


def test_another_instance_type_replaces_the_fleet(inf2_plan: Plan) -> None:
    """So does another number of copies, and a calibration is a changed input."""
    few = inf2_plan.chosen.capacity
    capacity = replace(few, initial=few.initial + 1, maximum=few.maximum + 1)
    other = replace(inf2_plan.chosen, instance_type="ml.g5.xlarge", capacity=capacity)
    newer = replace(inf2_plan, candidates=(other,), input_hash="0" * 64, calibration=CALIBRATION)
    found = {change.what: change for change in changes(inf2_plan, newer)}
    assert found["inputs"].new == "0" * 16
    assert found["chosen.instance_type"].replaces_fleet
    assert found["chosen.capacity.initial"].replaces_fleet
    assert found["candidates lost or gained"].new == ["ml.g5.xlarge"]
    assert (found["calibration"].old, found["calibration"].new) == (None, CALIBRATION.digest[:16])


def test_a_plan_that_loses_every_candidate_says_so(inf2_plan: Plan) -> None:
    """Nothing to compare field by field."""
    empty = replace(inf2_plan, candidates=())
    lost = changes(inf2_plan, empty)[0]
    assert (lost.what, lost.old, lost.new) == ("chosen", inf2_plan.chosen.instance_type, None)
    assert changes(empty, empty) == ()
