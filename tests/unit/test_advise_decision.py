"""Which option the rules leave, which the money chooses, and what is said of how sure that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support_advise import NOVA, QWEN32, TOKENS, a_plan, ask, candidate, costs, rejected
from support_planner import CHAT, TODAY
from tokenmill.core.bedrock_prices import bedrock_price, bedrock_prices
from tokenmill.core.errors import TokenmillError
from tokenmill.core.plan import Rejection
from tokenmill.core.workload import Limits, Workload
from tokenmill.planner.advise import Need, Traffic, UnitCapacity, Usage
from tokenmill.planner.advise.options import BASE, IMPORT, ON_DEMAND, PROVISIONED
from tokenmill.planner.advise.words import breaks

if TYPE_CHECKING:
    from tokenmill.planner.advise import Advice

UNIT = UnitCapacity(input_tpm=100_000, output_tpm=50_000, usd_per_hour=40)
BATCH = Traffic(shape="batch", hours_per_month=40, deadline_hours=48)
GPU = a_plan(candidate())


def both(**changes: Any) -> Advice:
    """Nova Lite at TOKENS against one GPU type at 3 USD an hour that carries 4 requests/s a copy."""
    return ask(GPU, **({"bedrock_model": NOVA, "token_price": TOKENS} | changes))


def test_the_cheapest_feasible_option_is_recommended() -> None:
    """2 requests/s of 512 + 256 tokens: 8,073 USD by the token, 2,190 on one GPU instance."""
    advice = both()
    assert costs(advice) == pytest.approx(
        {"sagemaker-l40s": 2190, ON_DEMAND: 2 * 3600 * 730 * (512 + 4 * 256) / 1e6}
    )
    assert advice.recommendation == "sagemaker-l40s"
    assert advice.best is advice.ranked[0]
    assert "2,190 USD a month; Bedrock on demand would cost 3.7 times as much" in advice.verdict


def test_little_traffic_goes_to_bedrock() -> None:
    """A tenth of the requests costs a tenth there."""
    advice = both(workload=Workload(requests_per_second=0.1, input_tokens=512, output_tokens=256))
    assert advice.recommendation == ON_DEMAND


def test_idle_hours_go_to_bedrock() -> None:
    """Instances cost at night too."""
    advice = both(traffic=Traffic(hours_per_month=150))
    assert advice.recommendation == ON_DEMAND
    assert [rule.id for rule in advice.fired if rule.effect == "favours"][0] == "idle-hours"


def test_the_break_even_lies_where_both_cost_the_same() -> None:
    """2,190 USD buy 0.5425 requests/s by the token, on a fleet that does not grow below 4."""
    advice = both()
    (even,) = [item for item in advice.break_evens if item.other == ON_DEMAND and item.direction == "below"]
    assert even.requests_per_second == pytest.approx(2190 / (3600 * 730 * 1536e-6), rel=1e-6)
    assert even.lasting == pytest.approx(even.requests_per_second)
    assert even.latest is not None
    assert even.latest <= even.requests_per_second <= even.earliest


def test_the_other_side_sees_the_same_break_even() -> None:
    """Asked at a tenth of the rate, the fleet is the other option."""
    low = both(workload=Workload(requests_per_second=0.1, input_tokens=512, output_tokens=256))
    even = next(item for item in low.break_evens if item.other == "sagemaker-l40s")
    assert even.direction == "above"
    assert even.requests_per_second == pytest.approx(0.5425, rel=1e-3)


def test_units_without_capacity_have_no_price_and_no_break_even() -> None:
    """What a unit delivers is not public; it is said and not guessed."""
    advice = both()
    provisioned = next(item for item in advice.ranked if item.id == PROVISIONED)
    assert provisioned.monthly is None
    assert "not public, so no break-even is drawn" in provisioned.missing
    assert all(item.other != PROVISIONED for item in advice.break_evens)


def test_units_with_capacity_are_compared() -> None:
    """61,440 prompt and 30,720 answer tokens a minute fit one unit."""
    advice = both(unit=UNIT)
    assert costs(advice)[PROVISIONED] == 40 * 730
    assert "1 model units" in next(item for item in advice.ranked if item.id == PROVISIONED).notes[0]


def test_unpriced_options_stand_after_priced_ones_with_their_break_even_price() -> None:
    """An accelerator without a price in the region is not guessed and not hidden."""
    made = a_plan(
        candidate(), candidate("H100", usd_per_hour=None, instance_type="ml.p5.4xlarge", instances=2)
    )
    advice = ask(made, bedrock_model=NOVA, token_price=TOKENS)
    kinds = [item.monthly is None for item in advice.ranked]
    assert kinds == sorted(kinds)
    h100 = next(item for item in advice.ranked if item.id == "sagemaker-h100")
    assert h100.even_usd_per_hour == pytest.approx(2190 / 730 / 2)
    assert "--price ml.p5.4xlarge=USD" in h100.missing
    assert any("no price is known" in doubt and "H100" in doubt for doubt in advice.doubts)


def test_the_break_even_price_counts_idle_hours() -> None:
    """Two instances for 100 hours and one for 630."""
    made = a_plan(candidate(), candidate("H100", usd_per_hour=None, instances=2))
    advice = ask(made, traffic=Traffic(hours_per_month=100))
    even = next(item for item in advice.ranked if item.id == "sagemaker-h100").even_usd_per_hour
    assert even == pytest.approx(2190 / (2 * 100 + 630))
    night = ask(made, traffic=Traffic(hours_per_month=100, scale_to_zero=True))
    even = next(item for item in night.ranked if item.id == "sagemaker-h100").even_usd_per_hour
    assert even == pytest.approx(300 / 200)


def test_without_any_price_nothing_is_recommended() -> None:
    """And no break-even price can be said."""
    advice = ask(a_plan(candidate(usd_per_hour=None)))
    assert advice.recommendation == ""
    assert advice.best is None
    assert advice.confidence == "none"
    assert "options that meet every need: 2, but none has a price; give --token-price" in advice.verdict
    assert advice.ranked[0].even_usd_per_hour is None
    assert advice.lines == ()


def test_a_close_call_is_said_with_what_would_decide() -> None:
    """2,190 USD on the GPU, between 1,752 and 2,738 by its timing at a full copy."""
    load = Workload(requests_per_second=4, input_tokens=512, output_tokens=256)
    advice = both(workload=load, token_price={"input": 0.25, "output": 1.0})
    assert advice.recommendation == "sagemaker-l40s"
    assert advice.too_close == (ON_DEMAND,)
    assert "too close to call against Bedrock on demand" in advice.verdict
    assert "measure one copy" in advice.decides
    assert "count prompt and answer tokens" in advice.decides
    assert advice.decides.endswith(
        "until then Bedrock on demand risks least: 4,037 USD a month at the worst, SageMaker on L40S 4,380"
    )


def test_a_fleet_that_ends_is_no_break_even() -> None:
    """Four instances carry 16 requests/s; above them nothing is cheaper, there are just too few."""
    made = a_plan(candidate(), limits=Limits(max_instances=4))
    advice = ask(made, bedrock_model=NOVA, token_price=TOKENS)
    assert advice.carried == 16.0
    assert not [item for item in advice.break_evens if item.direction == "above"]
    said = "above 16 requests/s SageMaker on L40S needs more instances than limits.max_instances allows"
    assert said in breaks(advice)


def test_equal_prices_are_decided_by_the_way_of_working() -> None:
    """Flex and batch cost the same for Qwen3 32B."""
    advice = ask(bedrock_model=QWEN32, traffic=BATCH)
    assert advice.recommendation == "bedrock-batch" or advice.recommendation == "bedrock-flex"
    assert len(advice.too_close) == 1
    assert "files in S3 for a batch job" in advice.decides


def test_a_close_call_between_fleets_asks_for_a_measurement() -> None:
    """Two accelerators whose intervals overlap."""
    load = Workload(requests_per_second=4, input_tokens=512, output_tokens=256)
    advice = ask(a_plan(candidate(), candidate("L4", usd_per_hour=3.1)), workload=load)
    assert advice.too_close == ("sagemaker-l4",)
    assert advice.decides == "measure one copy on the instance type under load, which narrows its interval"


def test_confidence_falls_with_doubts() -> None:
    """None: high; one: medium; three: low."""
    assert ask(GPU, need=Need(control=("engine",))).confidence == "high"
    noted = a_plan(candidate(notes=("the high end misses the goal",)))
    assert ask(noted, need=Need(control=("engine",))).confidence == "medium"
    close = a_plan(
        candidate(notes=("a", "b")), candidate("L4", usd_per_hour=3.1), candidate("H100", usd_per_hour=None)
    )
    found = ask(close)
    assert found.confidence == "low"
    assert found.doubts[:2] == ("a", "b")


def test_bedrock_latency_is_a_doubt_unless_nobody_waits() -> None:
    """No source states it."""
    assert any("latency goals" in doubt for doubt in ask(bedrock_model=NOVA).doubts)
    assert not any("latency goals" in doubt for doubt in ask(bedrock_model=NOVA, traffic=BATCH).doubts)


def test_one_priced_option_has_nothing_to_be_compared_with() -> None:
    """The verdict says so."""
    assert "no other one has a price" in ask(GPU).verdict


def test_no_bedrock_model_leaves_sagemaker_and_the_import() -> None:
    """Nothing else of Bedrock can be priced or run."""
    advice = ask(GPU)
    assert set(rejected(advice)) == BASE | {PROVISIONED}
    assert advice.quota is None
    assert {item.id for item in advice.ranked} == {"sagemaker-l40s", IMPORT}


def test_a_model_past_its_end_of_life_is_rejected() -> None:
    """The table has models that ended before today."""
    priced = ((key, bedrock_price(key, "us-east-1").price) for key in bedrock_prices())
    ended = next(key for key, price in priced if price is not None and price.ended(TODAY))
    assert "has reached its end of life" in rejected(ask(bedrock_model=ended))[ON_DEMAND]


def test_a_tuned_nova_model_runs_on_demand_without_a_listed_price() -> None:
    """Deployed on demand in us-east-1; the table has prices of published models only."""
    advice = ask(bedrock_model=NOVA, need=Need(customization="lora"))
    item = next(item for item in advice.ranked if item.id == ON_DEMAND)
    assert item.monthly is None
    assert "none of a tuned one" in item.missing


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"bedrock_model": QWEN32, "region": "eu-central-1"},
            "no price of qwen.qwen3-32b-v1:0 in eu-central-1",
        ),
        ({"bedrock_model": "deepseek.r1-v1:0"}, ""),
        (
            {
                "bedrock_model": "us.openai.gpt-5.6-sol",
                "workload": Workload(requests_per_second=1, input_tokens=300_000, output_tokens=10),
            },
            "more than 272,000 tokens have another price",
        ),
    ],
)
def test_a_missing_token_price_is_said(changes: dict[str, Any], says: str) -> None:
    """Region, tier and long prompts each have their sentence."""
    advice = ask(**changes)
    items = {item.id: item.missing for item in advice.ranked} | rejected(advice)
    assert says in items[ON_DEMAND]
    assert "no batch price" in next(
        item.missing
        for item in ask(bedrock_model="deepseek.r1-v1:0", traffic=BATCH).ranked
        if "batch" in item.id
    )


def test_notes_say_what_the_price_leaves_open() -> None:
    """A region that the source does not name, an old price, a cache without a price."""
    usage = Usage(cached_share=0.5)
    advice = ask(bedrock_model=QWEN32, usage=usage, today=TODAY.replace(year=2027))
    notes = next(item for item in advice.ranked if item.id == ON_DEMAND).notes
    assert [part in " ".join(notes) for part in ("no cache price", "more than 180 days old")] == [True, True]
    unsaid = ask(bedrock_model="anthropic.claude-sonnet-5-5")
    assert "names no region" in next(item for item in unsaid.ranked if item.id == ON_DEMAND).notes[0]


def test_a_date_of_withdrawal_is_noted() -> None:
    """While the model still runs."""
    advice = ask(bedrock_model="meta.llama3-1-8b-instruct-v1:0")
    note = next(item for item in advice.ranked if item.id == ON_DEMAND).notes[0]
    assert note == "Bedrock withdraws meta.llama3-1-8b-instruct-v1:0 on 2027-03-30"


def test_accelerators_that_cannot_are_rejected_with_the_planner_s_reason() -> None:
    """What came nearest says why: not that another split is better, nor that a small type is too small."""
    made = a_plan(
        candidate(),
        rejections=(
            Rejection(instance_type="ml.g6e.48xlarge", code="itl", reason="too slow"),
            Rejection(instance_type="ml.inf2.24xlarge", code="dominated", reason="another split is cheaper"),
            Rejection(instance_type="ml.inf2.xlarge", code="memory", reason="does not fit"),
            Rejection(instance_type="ml.inf2.8xlarge", code="memory", reason="does not fit either"),
            Rejection(instance_type="ml.trn1.2xlarge", code="memory", reason="does not fit"),
            Rejection(instance_type="ml.trn1.32xlarge", code="itl", reason="far too slow", miss=3.0),
            Rejection(instance_type="ml.trn1n.32xlarge", code="itl", reason="a little too slow", miss=1.1),
            Rejection(instance_type="ml.inf2.48xlarge", code="memory", reason="is 1 GiB short"),
        ),
    )
    advice = ask(made)
    assert rejected(advice)["sagemaker-inferentia2"] == "ml.inf2.48xlarge: is 1 GiB short"
    assert rejected(advice)["sagemaker-trainium1"] == "ml.trn1n.32xlarge: a little too slow"
    assert "sagemaker-l40s" not in rejected(advice)


def test_a_rate_above_the_largest_fleet_is_rejected() -> None:
    """limits.max_instances counts, though the planner's candidates were made for less."""
    made = a_plan(candidate(), limits=Limits(max_instances=1))
    advice = ask(made, workload=Workload(requests_per_second=5, input_tokens=512, output_tokens=256))
    assert "5 requests/s are more than" in rejected(advice)["sagemaker-l40s"]
    assert advice.recommendation == ""
    assert advice.verdict.startswith("SageMaker") or "meet every need" in advice.verdict


def test_when_everything_is_rejected_the_verdict_says_to_look_there() -> None:
    """Contradictory needs."""
    advice = both(need=Need(regions=("eu-central-1",)))
    assert advice.ranked == ()
    assert advice.verdict.startswith("no option meets every need")


def test_scale_to_zero_is_noted_where_it_matters() -> None:
    """The endpoint answers with errors until it is back."""
    advice = ask(GPU, traffic=Traffic(hours_per_month=100, scale_to_zero=True))
    assert any("errors for the minutes" in note for note in advice.ranked[0].notes)
    steady = ask(GPU, traffic=Traffic(scale_to_zero=True))
    assert not any("errors" in note for note in steady.ranked[0].notes)


def test_prices_that_were_used_are_listed_with_source_and_date() -> None:
    """Only of tiers that were compared."""
    advice = ask(GPU, bedrock_model=NOVA, usage=Usage(cached_share=0.5))
    listed = {item.what: (item.usd, item.per, item.date) for item in advice.prices}
    assert listed["amazon.nova-lite-v1:0 standard input"] == (0.06, "million tokens", "2026-11-11")
    assert listed["amazon.nova-lite-v1:0 standard cache read"][0] == 0.015
    assert (3.0, "hour", "2026-08-17") in listed.values()
    assert not any("batch" in what for what in listed)
    without = [item.what for item in ask(GPU, bedrock_model=NOVA).prices]
    assert not any("cache" in what for what in without)


def test_neither_model_is_nothing_to_compare() -> None:
    """One sentence with both flags."""
    with pytest.raises(TokenmillError, match="there is nothing to compare: name a Bedrock model"):
        ask()


def test_the_document_is_json_with_the_schema_first() -> None:
    """Plain values only, and the same number of points in every line."""
    import json

    advice = both()
    document = advice.to_json()
    assert next(iter(document)) == "schema"
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert {len(line.expected) for line in advice.lines} == {121}
    assert advice.lines[0].requests_per_second[60] == CHAT.requests_per_second
