"""Parallelism, weight formats, images and inputs that only some servers make use of."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from support_planner import CHAT, INF2, LOOSE, model, on, planned
from tokenmill.core.errors import NoPlanError
from tokenmill.core.images import image
from tokenmill.core.instances import instance_type
from tokenmill.core.user_catalog import RegionCatalog, UserCatalog
from tokenmill.core.workload import Limits, Slo, SpeculativeDecoding, TokenSpread, Workload
from tokenmill.planner.engines import abilities, expert_degree, prompt_buckets

if TYPE_CHECKING:
    from tokenmill.core.model_spec import ModelSpec

TRN2 = ("ml.trn2.48xlarge",)


def test_a_type_whose_image_must_be_built_is_sized_and_shown_but_not_chosen() -> None:
    """Trainium2 is a candidate of its own list, and its rejection says what it would come to."""
    made = planned()
    waiting = on(made, "ml.trn2.48xlarge")
    assert waiting in made.experimental
    assert waiting.experimental.startswith("image aws-vllm-neuronx must be built in your own account first")
    assert waiting.prompt_buckets == (128, 256, 512, 1024, 2048)
    assert not any(item.experimental for item in made.candidates)
    said = next(
        item for item in made.rejections if (item.instance_type, item.code) == ("ml.trn2.48xlarge", "image")
    )
    assert said.reason.startswith("would meet the goals with 1 instance, ")
    assert "image aws-vllm-neuronx must be built in your own account first" in said.reason


def test_a_type_whose_image_must_be_built_can_be_allowed() -> None:
    """Then it ranks with the others and may be chosen; alone and not allowed it is the nearest miss."""
    made = planned(limits=Limits(instances=TRN2, allow_experimental=True))
    assert made.chosen.instance_type == "ml.trn2.48xlarge"
    assert made.experimental == ()
    assert any("must be built in your own account first" in note for note in made.chosen.notes)
    alone = planned(limits=Limits(instances=TRN2))
    assert len(alone.experimental) == 1
    with pytest.raises(NoPlanError, match="would meet the goals .* set limits.allow_experimental to true"):
        _ = alone.chosen


def test_weights_are_converted_only_where_the_user_allows_it() -> None:
    """FP8 halves what an L4 reads; the candidate says how the server is told and what it costs in trust."""
    limits = Limits(instances=("ml.g6.2xlarge",), quantizations=("as-published", "fp8"))
    made = planned(slo=LOOSE, limits=limits)
    assert made.chosen.quantization == "fp8"
    assert made.chosen.dtype == "fp8"
    assert made.chosen.environment == {"OPTION_QUANTIZE": "fp8"}
    assert any("weights are converted to fp8 while loading" in note for note in made.chosen.notes)
    plain = planned(slo=LOOSE, limits=Limits(instances=("ml.g6.2xlarge",)))
    assert plain.chosen.quantization == "as-published"
    assert plain.chosen.environment == {}
    assert made.chosen.memory.weights_gib < 0.7 * plain.chosen.memory.weights_gib
    lost = next(item for item in made.rejections if item.code == "dominated")
    assert (lost.tensor_parallel, lost.quantization) == (1, "")
    assert lost.reason.endswith("1 copy of 1 core") or lost.reason.endswith("takes as few")


@pytest.mark.parametrize(
    ("spec", "instance", "quantization", "reason"),
    [
        (
            "Qwen__Qwen3-8B",
            "ml.inf2.24xlarge",
            "fp8",
            "image hf-vllm-neuronx does not convert weights to fp8",
        ),
        ("Qwen__Qwen3-8B", "ml.g5.2xlarge", "int4", r"\(formats it does: fp8\); give a checkpoint in int4"),
        ("openai__gpt-oss-20b", "ml.g5.2xlarge", "fp8", "is published in mxfp4 and is not converted to fp8"),
    ],
)
def test_a_format_that_cannot_be_served_is_refused(
    spec: str, instance: str, quantization: str, reason: str
) -> None:
    """By image or by checkpoint; the refusal names the format, so the type itself is not refused."""
    import re

    limits = Limits(instances=(instance,), quantizations=(quantization,))
    made = planned(spec, slo=LOOSE, limits=limits)
    refused = next(item for item in made.rejections if item.instance_type == instance)
    assert (refused.code, refused.quantization, refused.tensor_parallel) == (
        "quantization",
        quantization,
        None,
    )
    assert re.search(reason, refused.reason)


def test_a_chip_that_does_not_compute_the_format_refuses_it() -> None:
    """Even where its image would convert to it."""
    from tokenmill.planner.splits import format_rejection

    instance = instance_type("ml.g5.2xlarge")
    bare = replace(instance, accelerator=replace(instance.accelerator, quantizations=()))
    refused = format_rejection(model("Qwen__Qwen3-8B"), bare, image("lmi-vllm"), "fp8")
    assert refused is not None
    assert refused.reason == "A10G does not compute with fp8 weights; it computes with plain weights only"


def test_a_checkpoint_in_the_asked_format_is_served_as_published() -> None:
    """Nothing is converted, and it is not tried twice."""
    limits = Limits(instances=("ml.g6e.xlarge",), quantizations=("as-published", "fp8"))
    made = planned("Qwen__Qwen3-30B-A3B-FP8", slo=LOOSE, limits=limits)
    assert made.chosen.quantization == "as-published"
    assert not [item for item in made.rejections if item.instance_type == "ml.g6e.xlarge"]


def odd_heads() -> ModelSpec:
    """Return a 32-billion-parameter model whose five heads no even number of GPUs can share."""
    return replace(model("Qwen__Qwen3-32B"), attention_heads=5, kv_heads=5)


def test_pipeline_stages_serve_what_tensor_parallelism_cannot() -> None:
    """The weights of 61 GiB fit several L40S only as stages; the server is told how many."""
    made = planned(odd_heads(), slo=LOOSE, limits=Limits(instances=("ml.g6e.12xlarge",)))
    best = made.chosen
    stages = best.parallelism.pipeline
    assert best.parallelism.tensor == 1
    assert stages in (2, 4)
    assert (best.cores_per_copy, best.chips_per_copy, best.copies_per_instance) == (
        stages,
        stages,
        4 // stages,
    )
    assert (best.image, best.environment) == (
        "vllm-sagemaker",
        {"SM_VLLM_PIPELINE_PARALLEL_SIZE": str(stages)},
    )
    assert any("pipeline stages, derived from tensor parallelism" in text for text in best.extrapolated)
    assert best.engine.kv_capacity_tokens > 0
    refused = {(item.tensor_parallel, item.pipeline_parallel): item.code for item in made.rejections}
    assert refused[(2, 1)] == refused[(4, 1)] == "heads"
    assert refused[(1, 1)] == "memory"
    assert refused[(1, 6 - stages)] == "dominated"


def test_at_equal_cost_stages_lose_to_one_group_of_the_same_cores() -> None:
    """Their times are derived from those of the group and not measured."""
    made = planned("Qwen__Qwen3-32B", slo=LOOSE, limits=Limits(instances=("ml.g6e.12xlarge",)))
    assert made.chosen.parallelism.pipeline == 1
    staged = [item for item in made.rejections if (item.pipeline_parallel or 1) > 1]
    assert staged
    assert {item.code for item in staged} == {"dominated"}


def test_pipeline_stages_and_speculation_do_not_go_together() -> None:
    """vLLM cannot combine them, so nothing is left; nor has the Neuron image stages."""
    load = replace(CHAT, speculative=SpeculativeDecoding(tokens=3, acceptance=0.7))
    limits = Limits(instances=("ml.g6e.12xlarge",))
    assert planned(odd_heads(), workload=load, slo=LOOSE, limits=limits).candidates == ()
    assert abilities(image("hf-vllm-neuronx")).pipeline == ""


def test_where_every_split_fails_one_sentence_names_them() -> None:
    """With and without stages."""
    made = planned(odd_heads(), slo=LOOSE, limits=Limits(instances=("ml.g5.12xlarge",)))
    codes = {item.code for item in made.rejections if item.instance_type == "ml.g5.12xlarge"}
    assert codes == {"heads", "memory"}
    slow = planned(slo=Slo(ttft_ms=0.5, itl_ms=60), limits=Limits(instances=("ml.g6e.12xlarge",)))
    (only,) = [item for item in slow.rejections if item.instance_type == "ml.g6e.12xlarge"]
    assert only.reason.startswith(
        "at tensor parallel 1, 2, 4 with and without pipeline stages; best: first token"
    )


def test_experts_are_cut_or_spread_whole() -> None:
    """768 wide in FP8 blocks of 128: two cores cut them, four and eight take whole ones, five do neither."""
    fp8, lmi, neuron = model("Qwen__Qwen3-30B-A3B-FP8"), image("lmi-vllm"), image("hf-vllm-neuronx")
    assert [expert_degree(fp8, lmi, tensor) for tensor in (1, 2, 3, 4, 5, 8)] == [1, 1, 1, 4, None, 8]
    assert expert_degree(model("Qwen__Qwen3-30B-A3B"), lmi, 4) == 1
    assert expert_degree(fp8, neuron, 4) is None
    assert expert_degree(model("Qwen__Qwen3-8B"), lmi, 4) == 1


def test_whole_experts_on_each_core_are_asked_for() -> None:
    """A mixture whose FP8 experts four cores cannot cut along their blocks; the variable goes with it."""
    spec = replace(model("Qwen__Qwen3-30B-A3B-FP8"), weight_bytes=100 * 10**9)
    made = planned(spec, slo=LOOSE, limits=Limits(instances=("ml.g6e.12xlarge",), max_sequences=16))
    assert made.chosen.parallelism.tensor == made.chosen.parallelism.expert == 4
    assert made.chosen.environment == {"OPTION_ENABLE_EXPERT_PARALLEL": "true"}
    assert "whole experts on each core, timed as if they were cut" in made.chosen.extrapolated


def test_experts_that_can_be_neither_cut_nor_spread_are_refused() -> None:
    """With the widths and the blocks."""
    odd = replace(model("Qwen__Qwen3-30B-A3B"), expert_width=767, experts=127)
    limits = Limits(instances=("ml.g6e.12xlarge",))
    said = {
        item.reason for item in planned(odd, slo=LOOSE, limits=limits).rejections if item.code == "experts"
    }
    assert "4 cores can neither cut experts 767 wide evenly nor share 127 whole ones" in said
    made = planned(replace(odd, quantization="fp8"), slo=LOOSE, limits=limits)
    assert any("evenly in blocks of 128 nor share" in item.reason for item in made.rejections)


def test_a_prefix_cache_counts_where_the_server_has_one() -> None:
    """A GPU prefills less; the compiled prompt of Inferentia2 stays, and a note says so."""
    cached = replace(CHAT, input_tokens=1500, prefix_cache_share=0.9)
    plain = replace(cached, prefix_cache_share=0.0)
    limits = Limits(instances=("ml.g6e.xlarge", "ml.inf2.24xlarge"))
    warm, cold = planned(workload=cached, limits=limits), planned(workload=plain, limits=limits)
    assert on(warm, "ml.g6e.xlarge").ttft_ms < 0.5 * on(cold, "ml.g6e.xlarge").ttft_ms
    assert on(warm, "ml.inf2.24xlarge").ttft_ms == on(cold, "ml.inf2.24xlarge").ttft_ms
    notes = on(warm, "ml.inf2.24xlarge").notes
    assert "prefix_cache_share does not count: image hf-vllm-neuronx shares no prefills" in notes


def test_long_requests_widen_the_context() -> None:
    """Both 95th percentiles together, as a power of two."""
    spread = TokenSpread.lognormal(p50=400, p95=5000)
    load = Workload(requests_per_second=0.2, input_tokens=500, output_tokens=100, input_spread=spread)
    assert planned(workload=load, slo=LOOSE).chosen.context_tokens == 8192


def test_prompt_lengths_that_a_server_compiles() -> None:
    """One on optimum-neuron, powers of two on vLLM Neuron, none where prompts are not padded."""
    assert prompt_buckets(image("hf-vllm-neuronx"), 2048) == (2048,)
    assert prompt_buckets(image("aws-vllm-neuronx"), 1000) == (128, 256, 512, 1000)
    assert prompt_buckets(image("lmi-vllm"), 2048) == ()


def test_a_fleet_is_filled_up_where_that_lowers_the_risk_for_nothing() -> None:
    """Copies that an instance has room for cost nothing; they are taken where the high end misses a goal."""
    made = planned(limits=INF2)
    best = made.chosen
    needed = -(-CHAT.requests_per_second // best.requests_per_second_per_copy)
    assert best.capacity.initial in (needed, best.instances * best.copies_per_instance)


def test_your_own_catalog_replaces_prices_and_offers_of_its_regions() -> None:
    """A type that the region's list does not name is not offered there; the plan notes the catalog's date."""
    own = UserCatalog(
        schema=1,
        date="2026-11-01",
        source="AWS Price List",
        regions={"us-east-1": RegionCatalog(prices={"ml.g6e.xlarge": 0.5}, published="2026-10-30")},
    )
    made = planned(catalog=own)
    assert [item.instance_type for item in made.candidates] == ["ml.g6e.xlarge"]
    assert made.chosen.usd_per_hour == 0.5
    assert made.versions["your catalog"] == "2026-11-01"
    refused = next(item for item in made.rejections if item.instance_type == "ml.inf2.24xlarge")
    assert (refused.code, refused.reason) == (
        "region",
        "not offered for hosting in us-east-1, by the price list read into your catalog",
    )


def test_implausible_goals_are_warned_of() -> None:
    """The plan carries the warning."""
    made = planned(slo=Slo(ttft_ms=2, itl_ms=60))
    assert made.warnings[0].startswith("slo.ttft_ms = 2 looks like seconds")
