"""What must hold for any need, traffic and price."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from support_advise import NOVA, a_plan, ask, candidate, costs, rejected
from tokenmill.core.workload import Workload
from tokenmill.planner.advise import Need, Traffic, UnitCapacity, Usage
from tokenmill.planner.advise.need import CONTROLS, CROSS_REGION, CUSTOMIZATIONS, OPERATIONS

MADE = a_plan(
    candidate(),
    candidate("L4", usd_per_hour=1.2, requests_per_second_per_copy=1.1),
    candidate("H100", usd_per_hour=None, instance_type="ml.p5.4xlarge"),
)
UNIT = UnitCapacity(input_tpm=200_000, output_tpm=60_000, usd_per_hour=30)
rates = st.floats(0.01, 60)
usd = st.floats(0.01, 20)
needs = st.builds(
    Need,
    customization=st.sampled_from(CUSTOMIZATIONS),
    control=st.lists(st.sampled_from(CONTROLS), max_size=2).map(tuple),
    regions=st.sampled_from([(), ("us-east-1",), ("eu-west-1",)]),
    cross_region=st.sampled_from(CROSS_REGION),
    operations=st.sampled_from(OPERATIONS),
)
traffics = st.one_of(
    st.builds(
        Traffic,
        shape=st.sampled_from(["steady", "office-hours", "bursty"]),
        hours_per_month=st.one_of(st.none(), st.floats(1, 730)),
        peak_factor=st.floats(1, 20),
        scale_to_zero=st.booleans(),
    ),
    st.builds(
        Traffic, shape=st.just("batch"), hours_per_month=st.floats(1, 300), deadline_hours=st.floats(1, 200)
    ),
)
usages = st.builds(Usage, cached_share=st.floats(0, 1), cache_hits=st.floats(0, 1))


def load(rate: float) -> Workload:
    return Workload(requests_per_second=rate, input_tokens=1500, output_tokens=300)


def asked(**changes: Any) -> Any:
    fixed: dict[str, Any] = {
        "bedrock_model": NOVA,
        "unit": UNIT,
        "token_price": {"input": 1.0, "output": 4.0},
    }
    return ask(MADE, **(fixed | changes))


@settings(deadline=None, max_examples=40)
@given(rate=rates, factor=st.floats(1, 10), traffic=traffics, need=needs, usage=usages)
def test_more_traffic_never_costs_less(
    rate: float, factor: float, traffic: Traffic, need: Need, usage: Usage
) -> None:
    """Neither the recommendation nor any option; what cannot carry it any more has no cost."""
    little = asked(workload=load(rate), traffic=traffic, need=need, usage=usage)
    much = asked(workload=load(rate * factor), traffic=traffic, need=need, usage=usage)
    before, after = costs(little), costs(much)
    assert all(after[option] >= before[option] * (1 - 1e-9) for option in after)
    if little.best is not None and much.best is not None:
        assert min(after.values()) >= min(before.values()) * (1 - 1e-9)


@settings(deadline=None, max_examples=40)
@given(rate=rates, input=usd, output=usd, cut=st.floats(0.1, 1), traffic=traffics)
def test_a_cheaper_price_never_makes_an_option_lose(
    rate: float, input: float, output: float, cut: float, traffic: Traffic
) -> None:
    """Its place among the priced options stays or improves."""
    dear = {"input": input, "output": output}
    cheap = {"input": max(0.001, input * cut), "output": max(0.001, output * cut)}
    ranks = []
    for price in (dear, cheap):
        advice = asked(workload=load(rate), traffic=traffic, token_price=price)
        ranks.append([item.id for item in advice.ranked].index("bedrock-on-demand"))
    assert ranks[1] <= ranks[0]


@settings(deadline=None, max_examples=40)
@given(rate=rates, traffic=traffics, extra=needs)
def test_a_further_need_never_makes_the_recommendation_cheaper(
    rate: float, traffic: Traffic, extra: Need
) -> None:
    """Whatever is demanded beyond nothing."""
    free = Need(cross_region="global")
    without = asked(workload=load(rate), traffic=traffic, need=free)
    demanding = asked(workload=load(rate), traffic=traffic, need=extra)
    assert without.best is not None
    if demanding.best is not None:
        assert costs(demanding)[demanding.recommendation] >= costs(without)[without.recommendation] * (
            1 - 1e-9
        )


@settings(deadline=None, max_examples=40)
@given(rate=st.floats(0.01, 2000), traffic=traffics, need=needs, usage=usages)
def test_every_option_is_ranked_or_rejected_with_a_reason(
    rate: float, traffic: Traffic, need: Need, usage: Usage
) -> None:
    """None is lost, none stands in both lists, intervals hold their estimate."""
    advice = asked(workload=load(rate), traffic=traffic, need=need, usage=usage)
    ranked = [item.id for item in advice.ranked]
    gone = rejected(advice)
    assert len(ranked) + len(gone) == len({*ranked, *gone}) == 10
    assert all(gone.values())
    for item in advice.ranked:
        assert (item.monthly is None) == bool(item.missing)
        if item.monthly is not None:
            assert item.monthly.low <= item.monthly.expected <= item.monthly.high
    assert advice.recommendation in ("", *ranked)


@settings(deadline=None, max_examples=15)
@given(rate=rates, traffic=traffics)
def test_at_a_break_even_the_other_option_costs_no_more(rate: float, traffic: Traffic) -> None:
    """Asked just beyond it, the other one is at least as cheap."""
    advice = asked(workload=load(rate), traffic=traffic)
    for even in advice.break_evens:
        beyond = even.requests_per_second * (1 + 1e-7 if even.direction == "above" else 1 - 1e-7)
        there = costs(asked(workload=load(beyond), traffic=traffic))
        assert there[even.other] <= there.get(advice.recommendation, float("inf")) * (1 + 1e-6)
