"""The search takes the cheapest way that meets the goals and gives a reason for every other."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import pytest

from support_planner import CHAT, GOALS, INF2, TODAY, model
from tokenmill.core.errors import NoPlanError, TokenmillError
from tokenmill.core.instances import instance_catalog, instance_type
from tokenmill.core.workload import Limits, Slo, Workload
from tokenmill.planner import plan
from tokenmill_runtime.token_work import token_work

if TYPE_CHECKING:
    from tokenmill.core.plan import Plan


def planned(name: str = "Qwen__Qwen3-8B", **changes: Any) -> Plan:
    """Return the plan of a chat workload with parts replaced."""
    given: dict[str, Any] = {"workload": CHAT, "slo": GOALS, "region": "us-east-1", "today": TODAY} | changes
    return plan(model=model(name), **given)


def reasons(made: Plan, name: str) -> dict[str, str]:
    """Return code and reason of each rejection of an instance type."""
    return {item.code: item.reason for item in made.rejections if item.instance_type == name}


def test_every_instance_type_is_a_candidate_or_rejected_with_a_reason() -> None:
    """Nothing is left out silently, and no type is both chosen and refused as a whole."""
    made = planned()
    taken = {item.instance_type for item in made.candidates}
    refused = {item.instance_type for item in made.rejections}
    assert taken | refused == set(instance_catalog())
    assert all(item.reason and "\n" not in item.reason for item in made.rejections)
    whole = {item.instance_type for item in made.rejections if item.tensor_parallel is None}
    assert not taken & whole


def test_candidates_are_ranked_by_cost_and_the_unpriced_come_last() -> None:
    """An unpriced type says at which price it would tie with the best."""
    made = planned()
    costs = [item.usd_per_hour for item in made.candidates]
    priced = [cost for cost in costs if cost is not None]
    assert costs == sorted(priced) + [None] * (len(costs) - len(priced))
    assert 0 < len(priced) < len(costs)
    for item in made.candidates[len(priced) :]:
        assert item.break_even_usd_per_hour == pytest.approx(priced[0] / item.instances, abs=1e-4)
        assert item.price_source == ""
        assert item.usd_per_million_tokens is None


def test_every_candidate_meets_the_goals_with_whole_chips() -> None:
    """At the planned load, in a fleet that holds its copies, within its memory."""
    for item in planned().candidates:
        assert item.itl_ms <= GOALS.itl_ms
        assert item.ttft_ms <= GOALS.ttft_ms
        assert item.itl_ms_low < item.itl_ms < item.itl_ms_high
        assert item.ttft_ms_low < item.ttft_ms < item.ttft_ms_high
        assert not item.experimental
        assert item.utilization_percent <= item.target_utilization_percent <= 70
        assert item.instances * item.copies_per_instance >= item.capacity.initial
        assert item.requests_per_second_per_copy * item.capacity.initial >= CHAT.requests_per_second
        assert item.memory.total_gib <= item.memory.available_gib + 0.01
        machine = instance_type(item.instance_type)
        assert item.chips_per_copy * machine.accelerator.cores_per_chip == item.cores_per_copy
        assert item.chips_per_copy * item.copies_per_instance <= machine.chips
        assert item.host_memory_mib * item.copies_per_instance <= machine.host_memory_gib * 1024


def test_headroom_is_what_is_left() -> None:
    """Of each core, of the cache beside a full batch, and of the rate that keeps the goals."""
    for item in planned().candidates:
        assert item.headroom is not None
        left = item.headroom
        static = bool(item.prompt_buckets)
        if static:
            used = item.memory.total_gib
            assert left.memory_gib_per_core == pytest.approx(item.memory.available_gib - used, abs=0.005)
        assert 0 <= left.memory_gib_per_core < item.memory.available_gib
        assert left.kv_tokens >= 0
        carried = item.requests_per_second_per_copy * item.capacity.initial
        assert left.requests_per_second == pytest.approx(carried - CHAT.requests_per_second, abs=0.01)


def test_cost_follows_from_instances_price_and_load() -> None:
    """Two requests a second of 768 tokens are 5.5 million tokens an hour."""
    best = planned(limits=INF2).chosen
    price = instance_type(best.instance_type).price("us-east-1")
    assert price is not None
    assert best.usd_per_hour == pytest.approx(price.usd_per_hour * best.instances)
    assert best.usd_per_million_tokens == pytest.approx(best.usd_per_hour / 5.5296, rel=1e-3)
    assert (best.price_source, best.price_date) == (price.source, price.source_date)


def test_token_work_adds_up_to_the_busy_share() -> None:
    """One formula for planner and gateway: work of a second over all copies is the planned utilization."""
    for item in planned().candidates:
        work = token_work(
            input_tokens=CHAT.input_tokens,
            cached_input_tokens=0,
            output_tokens=CHAT.output_tokens,
            coefficients=item.token_work,
        )
        share = work * CHAT.requests_per_second / item.capacity.initial
        assert share * 100 == pytest.approx(item.utilization_percent, abs=0.1)


def test_a_compiled_prompt_costs_the_same_whatever_its_length() -> None:
    """Inferentia2 pays per request, a GPU per token."""
    made = planned()
    inf2 = next(item for item in made.candidates if item.accelerator == "Inferentia2")
    gpu = next(item for item in made.candidates if item.accelerator == "L40S")
    assert inf2.token_work.prefill_seconds_per_token == 0
    assert inf2.token_work.prefill_seconds_per_request > 0.1
    assert gpu.token_work.prefill_seconds_per_token > 0


def test_inferentia2_answers_the_example_chat() -> None:
    """Qwen3-8B on one ml.inf2.24xlarge; the small type cannot load it, 24 cores do not divide 32 heads."""
    made = planned(limits=INF2)
    assert made.chosen.instance_type == "ml.inf2.24xlarge"
    assert made.chosen.image == "hf-vllm-neuronx"
    assert made.chosen.prompt_buckets == (2048,)
    assert any(
        note.startswith("price is of 2025-04-11, more than 180 days old") for note in made.chosen.notes
    )
    assert any("experimental on this host" in note for note in made.chosen.notes)
    assert reasons(made, "ml.inf2.xlarge")["host_memory"].startswith("loading a copy takes 23.3 GiB")
    assert (
        reasons(made, "ml.inf2.48xlarge")["heads"] == "tensor parallel 24 does not divide 32 attention heads"
    )
    assert "where tensor parallel " in reasons(made, "ml.inf2.24xlarge")["dominated"]
    assert reasons(made, "ml.g5.xlarge")["limits"] == "outside limits.instances (ml.inf2.*)"


def test_a_fresh_price_has_no_note() -> None:
    """The day to measure from is given."""
    made = planned(limits=INF2, today=datetime.date(2025, 5, 1))
    assert not any(note.startswith("price is of") for note in made.chosen.notes)


def test_goals_that_the_high_end_misses_are_noted() -> None:
    """An interval that crosses the goal is a risk, and at equal cost a setting without it is taken."""
    loose = planned(limits=Limits(instances=("ml.inf2.8xlarge",)), slo=Slo(ttft_ms=9000, itl_ms=200)).chosen
    tight = Slo(ttft_ms=loose.ttft_ms * 1.05, itl_ms=loose.itl_ms * 1.05)
    made = planned(limits=Limits(instances=("ml.inf2.8xlarge",)), slo=tight)
    assert made.chosen.goals_at_risk == 2
    risks = made.chosen.notes[-2:]
    assert "time to first token" in risks[0] or "the copies are saturated" in risks[0]
    assert risks[1].startswith("the high end of inter-token latency, ")
    roomy = Limits(instances=("ml.inf2.8xlarge",), target_utilization_percent=10)
    calm = planned(limits=roomy, slo=Slo(ttft_ms=loose.ttft_ms, itl_ms=9000)).chosen
    assert any("the high end of time to first token, " in note for note in calm.notes)


def test_a_price_of_your_own_comes_before_the_catalogs() -> None:
    """It has no date to grow old by, and it can move a type to the front."""
    made = planned(prices={"ml.p5.4xlarge": 1.0})
    assert made.chosen.instance_type == "ml.p5.4xlarge"
    assert made.chosen.usd_per_hour == 1.0
    assert made.chosen.price_source == "given on the command line"
    assert not any("price is of" in note for note in made.chosen.notes)


@pytest.mark.parametrize(
    ("prices", "message"),
    [
        (
            {"ml.p5.4xlarge": 0.0},
            "price of ml.p5.4xlarge must be above 0 and at most 10,000 US dollars an hour",
        ),
        ({"ml.p5.4xlarge": float("nan")}, "price of ml.p5.4xlarge must be above 0 .* got nan"),
        ({"ml.p5.4xlarge": 1e99}, r"at most 10,000 US dollars an hour, got 1e\+99"),
        ({"ml.p5.4xlarge": "3"}, "at most 10,000 US dollars an hour, got '3'"),
        ({"ml.p5.4xlarge": True}, "at most 10,000 US dollars an hour, got True"),
        ({"x": 1.0}, "unknown instance"),
    ],
)
def test_fails_for_a_price_that_cannot_be(prices: dict[str, float], message: str) -> None:
    """Type and value stand in the message."""
    with pytest.raises(TokenmillError, match=message):
        planned(prices=prices)


def test_types_without_a_price_can_be_left_out() -> None:
    """The rejection names the option that gives one."""
    made = planned(limits=Limits(allow_unpriced=False))
    assert all(item.usd_per_hour is not None for item in made.candidates)
    assert "give --price ml.p5.48xlarge=USD" in reasons(made, "ml.p5.48xlarge")["price"]


def test_without_any_price_there_is_no_break_even() -> None:
    """Nothing to tie with; fewer instances come first."""
    made = planned(region="eu-west-1")
    assert all(item.break_even_usd_per_hour is None for item in made.candidates)
    counts = [item.instances for item in made.candidates]
    assert counts == sorted(counts)


def test_a_region_without_the_image_is_refused() -> None:
    """The Hugging Face image is in 11 regions."""
    made = planned(region="eu-north-1")
    assert "image hf-vllm-neuronx is not in eu-north-1" in reasons(made, "ml.inf2.8xlarge")["region"]
    assert made.chosen.accelerator != "Inferentia2"


def test_trainium1_runs_only_groups_that_its_topology_allows() -> None:
    """4 cores are refused by the runtime (huggingface/optimum-neuron#619)."""
    reason = reasons(planned(), "ml.trn1.32xlarge")["topology"]
    assert reason == "4 cores of Trainium1 cannot work together; allowed: 2, 8, 16, 32"


def test_quantized_weights_need_their_chip_and_image() -> None:
    """FP8 is refused on Inferentia2, MXFP4 by the image that does not serve gpt-oss."""
    fp8 = planned("Qwen__Qwen3-30B-A3B-FP8")
    assert "Inferentia2 does not compute with fp8 weights" in reasons(fp8, "ml.inf2.48xlarge")["quantization"]
    assert fp8.chosen.dtype == "fp8"
    assert fp8.chosen.quantization == "as-published"
    gpt = planned("openai__gpt-oss-20b")
    assert "does not serve GptOssForCausalLM" in reasons(gpt, "ml.inf2.48xlarge")["architecture"]
    assert all(instance_type(item.instance_type).accelerator.kind == "gpu" for item in gpt.candidates)


def test_key_value_heads_must_spread_evenly() -> None:
    """12 cores of an 18-head model with 4 key-value heads cannot share them."""
    from dataclasses import replace

    odd = replace(model("Qwen__Qwen3-8B"), attention_heads=24, kv_heads=8)
    made = plan(model=odd, workload=CHAT, slo=GOALS, region="us-east-1", limits=INF2, today=TODAY)
    heads = [item.reason for item in made.rejections if item.code == "heads"]
    assert "8 key-value heads cannot be spread evenly over 12 cores" in heads


def test_a_model_that_fits_nowhere_says_so_with_the_largest_memory() -> None:
    """Qwen3-Coder-480B in bfloat16 takes 894 GiB; the nearest type has less to give."""
    made = planned("Qwen__Qwen3-Coder-480B-A35B-Instruct", limits=Limits(instances=("ml.p5.48xlarge",)))
    assert made.candidates == ()
    with pytest.raises(
        NoPlanError, match=r"fits nowhere: its weights take 894 GiB.* 576 GiB usable \(ml.p5.48xl"
    ):
        _ = made.chosen
    rejection = next(item for item in made.rejections if item.code == "memory")
    assert rejection.tensor_parallel is None
    assert rejection.reason.startswith(
        "at tensor parallel 1, 2, 4, 8 with and without pipeline stages; best: one core needs"
    )


def test_goals_that_nothing_meets_name_the_nearest_miss_and_what_to_relax() -> None:
    """Time to first token, then the gap between tokens, then the size of the fleet."""
    made = planned(slo=Slo(ttft_ms=1, itl_ms=60))
    with pytest.raises(NoPlanError, match=r"first token after .* goal 1 ms; raise slo.ttft_ms"):
        _ = made.chosen
    made = planned(slo=Slo(ttft_ms=2000, itl_ms=0.5))
    with pytest.raises(NoPlanError, match=r"nearest: ml.p[56].* ms between tokens .* raise slo.itl_ms"):
        _ = made.chosen
    many = Workload(requests_per_second=500, input_tokens=512, output_tokens=256)
    made = planned(workload=many, limits=Limits(instances=("ml.inf2.*",), max_instances=3))
    with pytest.raises(
        NoPlanError, match=r"needs \d+ instances for 500 requests/s, more than max_instances 3"
    ):
        _ = made.chosen


@pytest.mark.parametrize(
    ("pattern", "nearest"),
    [
        ("ml.inf9.*", r"nearest: ml\.inf2\.xlarge"),
        ("zzz", r"nearest: ml\.g5\.\*.* ml\.inf2\.\*"),
        ("p5.48xlarge", r"nearest: ml\.p5\.48xlarge"),
        ("", "for all"),
    ],
)
def test_a_pattern_that_matches_no_type_is_a_slip_of_the_keyboard(pattern: str, nearest: str) -> None:
    """It is no plan without a candidate: the message names the nearest types."""
    with pytest.raises(TokenmillError, match=f"matches no hosting instance type; .*{nearest}") as caught:
        planned(limits=Limits(instances=("ml.g6.*", pattern)))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("region", "nearest"),
    [("us-east-9", "us-east-"), ("mars", "eu-west-1"), ("", "eu-west-1"), (None, "eu-west-1")],
)
def test_a_region_that_no_catalog_knows_is_refused(region: str, nearest: str) -> None:
    """The nearest known ones stand in the message, and how a new one becomes known."""
    with pytest.raises(TokenmillError, match=f"has neither images nor prices.*{nearest}.*catalog refresh"):
        planned(region=region)


@pytest.mark.parametrize("name", ["model", "workload", "slo", "limits"])
def test_an_input_of_another_kind_is_named_with_the_way_to_make_one(name: str) -> None:
    """A model's name is no model, and None is none."""
    given: dict[str, Any] = {
        "model": model("Qwen__Qwen3-8B"),
        "workload": CHAT,
        "slo": GOALS,
        "limits": INF2,
        name: "Qwen3-8B",
    }
    with pytest.raises(TokenmillError, match=f"^{name} must be a .*got 'Qwen3-8B'; "):
        plan(**given, region="us-east-1", today=TODAY)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"limits": Limits(context_tokens=100_000)},
            "context_tokens 100000 is more than Qwen/Qwen3-8B was made",
        ),
        (
            {"limits": Limits(context_tokens=512)},
            "context_tokens 512 cannot hold a mean request of 768 tokens",
        ),
        (
            {"workload": Workload(requests_per_second=1, input_tokens=40_000, output_tokens=2_000)},
            "context_tokens 42000 is more than",
        ),
    ],
)
def test_fails_when_the_context_contradicts_the_workload(changes: dict[str, Any], message: str) -> None:
    """Both numbers and what to change stand in the message."""
    with pytest.raises(TokenmillError, match=message):
        planned(**changes)


@pytest.mark.parametrize(
    ("tokens", "context"),
    [((100, 100), 1024), ((512, 256), 2048), ((3000, 1000), 8192), ((20_000, 5_000), 40_960)],
)
def test_the_context_is_twice_the_mean_as_a_power_of_two(tokens: tuple[int, int], context: int) -> None:
    """At least 1,024, at most what the model was made for."""
    load = Workload(requests_per_second=0.1, input_tokens=tokens[0], output_tokens=tokens[1])
    made = planned(workload=load, slo=Slo(ttft_ms=60_000, itl_ms=500))
    assert made.chosen.context_tokens == context


def test_production_keeps_its_copies() -> None:
    """min_copies holds for the first deployment and for scaling in."""
    made = planned(limits=Limits(min_copies=3))
    assert made.chosen.capacity.initial >= 3
    assert made.chosen.capacity.minimum == 3
    assert made.chosen.capacity.maximum >= 6


def test_a_plan_can_stand_without_the_config_file() -> None:
    """The model's own numbers then make the input digest."""
    one, two = planned(), planned("Qwen__Qwen3-0.6B")
    assert one.input_hash != two.input_hash
    assert planned().input_hash == one.input_hash


def test_planning_twice_gives_the_same_document() -> None:
    """Same inputs, same day, same bytes."""
    assert planned().hash == planned().hash


def test_the_day_defaults_to_today() -> None:
    """Only notes on the age of prices depend on it."""
    made = plan(model=model("Qwen__Qwen3-8B"), workload=CHAT, slo=GOALS, region="us-east-1", limits=INF2)
    assert made.chosen.instance_type == planned(limits=INF2).chosen.instance_type
