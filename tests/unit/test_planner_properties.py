"""What must hold of every plan, whatever is asked."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from support_planner import GOALS, TODAY, model
from tokenmill.core.instances import accelerator_catalog, instance_catalog
from tokenmill.core.plan import Plan
from tokenmill.core.workload import Limits, Parallelism, Slo, SpeculativeDecoding, TokenSpread, Workload
from tokenmill.planner import plan
from tokenmill.planner.room import most_sequences

if TYPE_CHECKING:
    from tokenmill.core.plan import Candidate

MODELS = ("Qwen__Qwen3-8B", "Qwen__Qwen3-30B-A3B")
FEW = ("ml.inf2.24xlarge", "ml.inf2.8xlarge", "ml.g6e.xlarge", "ml.g6e.12xlarge", "ml.g5.12xlarge")
EXAMPLES = settings(max_examples=25, deadline=None)

spreads = st.none() | st.builds(
    lambda p50, factor: TokenSpread.lognormal(p50=p50, p95=p50 * factor),
    st.integers(20, 600),
    st.integers(1, 6),
)
workloads = st.builds(
    Workload,
    requests_per_second=st.floats(0.1, 20.0),
    input_tokens=st.integers(16, 3000),
    output_tokens=st.integers(2, 800),
    input_spread=spreads,
    output_spread=spreads,
    prefix_cache_share=st.sampled_from([0.0, 0.5]),
    burstiness=st.sampled_from([0.5, 1.0, 3.0]),
    speculative=st.none() | st.just(SpeculativeDecoding(tokens=3, acceptance=0.6)),
)
goals = st.builds(
    Slo,
    ttft_ms=st.floats(100.0, 8000.0),
    itl_ms=st.floats(10.0, 200.0),
    percentile=st.sampled_from([50, 95, 99]),
)


def planned(load: Workload, slo: Slo = GOALS, *, spec: str = MODELS[0], **limits: Any) -> Plan:
    """Return the plan over a handful of types, all priced as if they were equally fresh."""
    limit = Limits(**({"instances": FEW, "max_instances": 10_000} | limits))
    prices = {
        "ml.inf2.24xlarge": 7.79,
        "ml.inf2.8xlarge": 2.36,
        "ml.g6e.xlarge": 2.61,
        "ml.g5.12xlarge": 7.09,
    }
    prices |= {"ml.g6e.12xlarge": 13.12}
    return plan(
        model=model(spec),
        workload=load,
        slo=slo,
        region="us-east-1",
        limits=limit,
        prices=prices,
        today=TODAY,
    )


def cost(made: Plan) -> float:
    """Return what the chosen fleet costs an hour; nothing meets the goals at any price."""
    if not made.candidates:
        return math.inf
    usd = made.chosen.usd_per_hour
    assert usd is not None
    return usd


def changed(load: Workload, **changes: Any) -> Workload:
    """Return a workload with parts replaced."""
    from dataclasses import replace

    return replace(load, **changes)


@EXAMPLES
@given(load=workloads, slo=goals, factor=st.floats(1.05, 6.0), spec=st.sampled_from(MODELS))
def test_more_traffic_never_costs_less(load: Workload, slo: Slo, factor: float, spec: str) -> None:
    """For the whole fleet of the best candidate."""
    more = changed(load, requests_per_second=load.requests_per_second * factor)
    assert cost(planned(more, slo, spec=spec)) >= cost(planned(load, slo, spec=spec))


@EXAMPLES
@given(
    load=workloads,
    slo=goals,
    stricter=st.tuples(st.floats(0.3, 1.0), st.floats(0.3, 1.0)),
    spec=st.sampled_from(MODELS),
)
def test_a_stricter_goal_never_gets_cheaper(
    load: Workload, slo: Slo, stricter: tuple[float, float], spec: str
) -> None:
    """What meets the strict goals meets the loose ones; a higher percentile is stricter too."""
    strict = Slo(
        ttft_ms=slo.ttft_ms * stricter[0],
        itl_ms=slo.itl_ms * stricter[1],
        percentile=max(99.0, slo.percentile),
    )
    assert cost(planned(load, strict, spec=spec)) >= cost(planned(load, slo, spec=spec)) * (1 - 1e-9)


@EXAMPLES
@given(load=workloads, slo=goals, allowed=st.sets(st.sampled_from(FEW), min_size=1))
def test_more_instance_types_never_cost_more(load: Workload, slo: Slo, allowed: set[str]) -> None:
    """The choice can only grow."""
    few = planned(load, slo, instances=tuple(sorted(allowed)))
    assert cost(planned(load, slo)) <= cost(few)


@EXAMPLES
@given(load=workloads, slo=goals, spec=st.sampled_from(MODELS), power=st.integers(0, 2))
def test_a_longer_context_never_lowers_the_cost(load: Workload, slo: Slo, spec: str, power: int) -> None:
    """It takes memory, and on Inferentia2 every prompt pays for it."""
    least = max(1024, 1 << (load.input_tokens + load.output_tokens - 1).bit_length())
    context = least << power
    assume(2 * context <= model(spec).max_context_tokens)
    short, long = (planned(load, slo, spec=spec, context_tokens=size) for size in (context, 2 * context))
    assert cost(long) >= cost(short) * (1 - 1e-9)


@EXAMPLES
@given(load=workloads, slo=goals, spec=st.sampled_from(MODELS))
def test_a_plan_is_the_same_twice_and_survives_json(load: Workload, slo: Slo, spec: str) -> None:
    """Same inputs, same bytes; every number is finite, or JSON could not hold it."""
    one, two = planned(load, slo, spec=spec), planned(load, slo, spec=spec)
    text = json.dumps(one.to_json(), allow_nan=False)
    assert text == json.dumps(two.to_json(), allow_nan=False)
    assert Plan.from_json(json.loads(text)) == one
    for item in one.candidates:
        assert meets(item, slo)
        assert item.itl_ms_low <= item.itl_ms <= item.itl_ms_high
        assert item.ttft_ms_low <= item.ttft_ms <= item.ttft_ms_high


def meets(item: Candidate, slo: Slo) -> bool:
    """Return whether a candidate meets the goals, to the digits that a plan shows."""
    return item.ttft_ms <= slo.ttft_ms + 0.06 and item.itl_ms <= slo.itl_ms + 0.006


@pytest.mark.parametrize("spec", MODELS)
@pytest.mark.parametrize("chip", ["Inferentia2", "L40S", "H100"])
def test_more_cores_never_lower_the_fitting_batch(spec: str, chip: str) -> None:
    """Weights are shared by more, so more is left for sequences."""
    accelerator = accelerator_catalog()[chip]
    fits = [
        most_sequences(model(spec), accelerator, Parallelism(tensor=tensor), tokens=4096, limit=1 << 16)
        for tensor in (2, 4, 8, 16)
        if tensor % accelerator.cores_per_chip == 0
    ]
    assert fits == sorted(fits)
    assert fits[-1] > 0


def test_a_whole_search_accounts_for_every_type() -> None:
    """With conversions and experimental types: each is a candidate or has its reason."""
    limits = Limits(quantizations=("as-published", "fp8"), allow_experimental=True)
    load = Workload(requests_per_second=2, input_tokens=512, output_tokens=256)
    made = plan(
        model=model(MODELS[0]), workload=load, slo=GOALS, region="us-east-1", limits=limits, today=TODAY
    )
    taken = {item.instance_type for item in made.candidates}
    assert taken | {item.instance_type for item in made.rejections} == set(instance_catalog())
