"""Which service answers a batch: by price, by deadline, and with a reason for every other."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support_stack import candidate, plan
from tokenmill.batch.transform_types import TRANSFORM_TYPES
from tokenmill.core._codec import encode
from tokenmill.core.batch_plan import BatchOption, BatchPlan, read_batch_plan
from tokenmill.core.batch_settings import ASYNC, BEDROCK_BATCH, KINDS, TRANSFORM, BatchLoad
from tokenmill.core.errors import NoPlanError, TokenmillError
from tokenmill.core.settings import load_batch
from tokenmill.planner.batch_choice import (
    START_HOURS,
    USED_SHARE,
    batch_plan_for,
    bedrock_option,
    choose,
    sagemaker_options,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tokenmill.core.batch_settings import BatchSettings

NOVA = "amazon.nova-lite-v1:0"
SECTION = """
[batch]
region = "us-east-1"
bedrock_model = "amazon.nova-lite-v1:0"
model = "Qwen/Qwen3-8B"
{more}
[batch.run]
records = 100_000
input_tokens = 400
output_tokens = 100
deadline_hours = {hours}
"""


def load(**changes: Any) -> BatchLoad:
    fields = {"records": 100_000, "input_tokens": 400, "output_tokens": 100, "deadline_hours": 30.0}
    return BatchLoad(**{**fields, **changes})


def section(folder: Path, hours: float, more: str = "") -> BatchSettings:
    path = folder / "tokenmill.toml"
    path.write_text(SECTION.format(hours=hours, more=more), encoding="utf-8")
    found = load_batch(path)
    assert found is not None
    return found


def broken(**changes: Any) -> str:
    """A plan file with changes that nobody's program made."""
    document = {"schema": 1, "region": "us-east-1", "load": encode(load()), "input_hash": "h", "options": []}
    return json.dumps({**document, "reason": "r", "serving": None, **changes})


def option(kind: str, **changes: Any) -> BatchOption:
    return BatchOption(kind=kind, runs_on="x", **changes)


@given(hours=st.floats(0.1, 23.99), usd=st.floats(0.001, 0.01))
def test_bedrock_s_batch_is_never_for_a_day_s_deadline(hours: float, usd: float) -> None:
    """However cheap: a job may take 24 hours."""
    prices = {"input": usd, "output": usd, "batch_input": usd, "batch_output": usd}
    found = bedrock_option(NOVA, load(deadline_hours=hours), "us-east-1", prices=prices)
    assert "a job may take 24 hours" in found.refused
    chosen, reason = choose([found, option(TRANSFORM, usd=1000.0, hours=1.0)])
    assert chosen[0].kind == TRANSFORM
    assert "bedrock-batch is out: a job may take 24 hours and the deadline is" in reason


def test_bedrock_s_price_is_the_batch_tier() -> None:
    """100,000 x (400 x 0.03 + 100 x 0.12) US dollars a million."""
    found = bedrock_option(NOVA, load(), "us-east-1")
    assert found.usd == pytest.approx(2.4)
    assert (found.hours, found.refused) == (24.0, "")


def test_a_missing_price_is_said_and_ranks_last() -> None:
    """It may still be all there is."""
    found = bedrock_option("amazon.titan-text-lite-v1", load(), "us-east-1")
    assert found.usd is None and "no batch price" in found.note
    assert choose([found, option(ASYNC, usd=99.0)])[0][0].kind == ASYNC
    (only,), reason = choose([found])
    assert only is found and "at a price that is not known" in reason
    unknown = bedrock_option("amazon.nothing-v1:0", load(), "us-east-1")
    assert unknown.usd is None and "no price of Bedrock model" in unknown.note


def test_prices_of_one_s_own_count(tmp_path: Path) -> None:
    """In the choice, and in the digest of what it was made from."""
    usual = section(tmp_path, 30)
    prices = "[batch.token_prices]\ninput = 9.0\noutput = 9.0\nbatch_input = 5.0\nbatch_output = 5.0\n"
    dear = section(tmp_path, 30, prices)
    assert dear.token_prices == {"input": 9.0, "output": 9.0, "batch_input": 5.0, "batch_output": 5.0}
    assert dear.input_hash != usual.input_hash
    made = batch_plan_for(dear, transform_types=TRANSFORM_TYPES)
    assert made.chosen.kind in (TRANSFORM, ASYNC)
    (bedrock,) = (item for item in made.options if item.kind == BEDROCK_BATCH)
    assert bedrock.usd == pytest.approx(100_000 * 500 * 5.0 / 1e6)


def test_too_few_records_for_a_job_are_not_for_jobs() -> None:
    """The service's minimum is 100."""
    assert "a job has 100 records at least" in bedrock_option(NOVA, load(records=99), "us-east-1").refused


@pytest.mark.parametrize("model", [NOVA, f"us.{NOVA}"])
def test_texts_that_the_model_cannot_read_or_write_are_not_for_it(model: str) -> None:
    """Nova Lite reads 300,000 tokens and writes 10,000; every record would come back as an error."""
    for changes, words in (
        ({"output_tokens": 10_001}, "answers have 10,001 tokens and the model's longest has 10,000"),
        ({"input_tokens": 300_001}, "prompts have 300,001 tokens and the model's longest has 300,000"),
    ):
        found = bedrock_option(model, load(**changes), "us-east-1")
        assert words in found.refused
        assert choose([found, option(ASYNC, usd=1e6)])[0][0].kind == ASYNC
    assert bedrock_option(model, load(output_tokens=10_000), "us-east-1").refused == ""


@given(
    usd=st.lists(st.one_of(st.none(), st.floats(0, 1e6)), min_size=3, max_size=3),
    out=st.lists(st.booleans(), min_size=3, max_size=3),
)
def test_the_cheapest_in_time_is_first(usd: list[float | None], out: list[bool]) -> None:
    """Known prices before unknown ones, and refused ones at the end whatever they cost."""
    options = [
        option(kind, usd=price, hours=1.0, refused="late" if gone else "")
        for kind, price, gone in zip(KINDS, usd, out, strict=True)
    ]
    ranked, reason = choose(options)
    assert sorted(item.kind for item in ranked) == sorted(KINDS)
    usable = [item for item in ranked if not item.refused]
    assert list(ranked[: len(usable)]) == usable
    prices = [math.inf if item.usd is None else item.usd for item in usable]
    assert prices == sorted(prices)
    if not usable:
        assert reason.startswith("nothing answers a run in time")


def test_what_was_asked_for_is_taken_if_it_can_be() -> None:
    """And no other where it cannot."""
    options = [option(BEDROCK_BATCH, usd=1.0), option(TRANSFORM, usd=2.0)]
    ranked, reason = choose(options, backend=TRANSFORM)
    assert (ranked[0].kind, ranked[1].refused) == (TRANSFORM, "backend is 'transform'")
    assert "asked for" in reason
    refused = [replace(options[0], refused="late"), options[1]]
    assert choose(refused, backend=BEDROCK_BATCH)[0][0].refused


def test_a_transform_has_the_fewest_instances_that_are_in_time() -> None:
    """One copy an instance; what starting takes counts against the deadline and on the bill."""
    made = plan(candidate(usd_per_hour=4.0, instances=2, requests_per_second_per_copy=1.0))
    rate = 1.0 * USED_SHARE * 3600
    work = 100_000 / rate
    (transform, fleet), (queue, _) = sagemaker_options(
        made, load(deadline_hours=10.0), transform_types=TRANSFORM_TYPES, most_instances=10
    )
    instances = math.ceil(work / (10 - START_HOURS))
    assert transform.instances == instances == 4
    assert transform.hours == pytest.approx(START_HOURS + work / instances)
    assert transform.usd == pytest.approx(2.0 * instances * (START_HOURS + work / instances))
    assert fleet is not None and fleet.candidate.instance_type == "ml.inf2.8xlarge"
    assert queue.usd is not None and transform.usd is not None and queue.usd > transform.usd


def test_types_that_transform_lacks_are_for_the_queue() -> None:
    """Batch transform has fewer instance types than endpoints have."""
    made = plan(candidate(instance_type="ml.p5.48xlarge"))
    (transform, none), (queue, _) = sagemaker_options(
        made, load(), transform_types=TRANSFORM_TYPES, most_instances=10
    )
    assert none is None and "no instance type of this service answers" in transform.refused
    assert queue.runs_on == "ml.p5.48xlarge"


def test_a_deadline_that_no_allowed_fleet_keeps_is_refused() -> None:
    """With the number that was allowed."""
    made = plan(candidate(requests_per_second_per_copy=0.1))
    options = sagemaker_options(
        made, load(deadline_hours=1.0), transform_types=TRANSFORM_TYPES, most_instances=3
    )
    assert all("in 1 hours with at most 3 instances" in found.refused for found, _ in options)
    soon = sagemaker_options(
        made, load(deadline_hours=0.2), transform_types=TRANSFORM_TYPES, most_instances=3
    )
    assert all(found.refused for found, _ in soon)


def test_the_choice_follows_the_deadline(tmp_path: Path) -> None:
    """The same night at 30 and at 8 hours, with the real search behind it."""
    night = batch_plan_for(section(tmp_path, 30), transform_types=TRANSFORM_TYPES)
    assert (night.chosen.kind, night.serving) == (BEDROCK_BATCH, None)
    day = batch_plan_for(section(tmp_path, 8), transform_types=TRANSFORM_TYPES)
    assert day.chosen.kind in (TRANSFORM, ASYNC)
    assert day.serving is not None
    assert day.serving.chosen.instance_type == day.chosen.runs_on
    assert len(day.serving.candidates) == 1
    assert {item.kind for item in day.options} == set(KINDS)


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Also with the instances' own plan inside."""
    settings = section(tmp_path, 8)
    made = batch_plan_for(settings, transform_types=TRANSFORM_TYPES)
    made.write(settings.plan_path)
    assert read_batch_plan(settings) == made
    assert read_batch_plan(settings).hash == made.hash


def test_a_plan_of_other_settings_is_refused(tmp_path: Path) -> None:
    """With the commands that show and accept the change."""
    settings = section(tmp_path, 30)
    batch_plan_for(settings, transform_types=TRANSFORM_TYPES).write(settings.plan_path)
    changed = section(tmp_path, 31)
    with pytest.raises(TokenmillError, match="made from other settings .* tokenmill plan batch --diff"):
        read_batch_plan(changed)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("[]", "has schema None"),
        ('{"schema": 7}', "has schema 7, this version reads 1"),
        ('{"schema": 1, "serving": null}', "has no 'region'; write it with: tokenmill plan batch --write"),
        (broken(options=None), "options must be a list, got None"),
        (broken(options=[3]), "options\\[0\\] must be an object, got 3"),
        (broken(region=5), "region must be a text, got 5"),
        (broken(reason=None), "reason must be a text, got None"),
    ],
)
def test_a_file_that_is_no_plan_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """With the command that writes one."""
    path = tmp_path / "batch.plan.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TokenmillError, match=message):
        BatchPlan.read(path)
    path.unlink()
    with pytest.raises(TokenmillError, match="does not exist"):
        BatchPlan.read(path)


def test_a_plan_without_a_service_is_not_written(tmp_path: Path) -> None:
    """Its error is the reason of every service."""
    path = tmp_path / "tokenmill.toml"
    text = SECTION.format(hours=2, more="").replace('model = "Qwen/Qwen3-8B"\n', "")
    path.write_text(text, encoding="utf-8")
    settings = load_batch(path)
    assert settings is not None
    made = batch_plan_for(settings, transform_types=TRANSFORM_TYPES)
    with pytest.raises(NoPlanError, match="transform: the section names no model for SageMaker"):
        made.write(tmp_path / "batch.plan.json")
    assert not (tmp_path / "batch.plan.json").exists()
