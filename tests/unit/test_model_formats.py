"""What a quantization_config converts and keeps, and what the weights then weigh."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support_planner import CONFIGS
from tokenmill.core.errors import TokenmillError
from tokenmill.core.model_formats import QUANTIZED_BYTES, WeightFormat
from tokenmill.core.model_modules import Rule, rules_of
from tokenmill.core.model_spec import ModelSpec

DENSE = json.loads((CONFIGS / "Qwen__Qwen3-8B.json").read_text())
SPARSE = json.loads((CONFIGS / "Qwen__Qwen3-30B-A3B.json").read_text())
FLOAT4 = {"num_bits": 4, "type": "float", "group_size": 16}


def spec(config: dict[str, Any] = DENSE, **quantization: Any) -> ModelSpec:
    """Return the model of a config with this quantization_config."""
    return ModelSpec.from_hf_config(config | {"quantization_config": quantization}, model_id="a/b")


def converted(config: dict[str, Any], **quantization: Any) -> float:
    """Return the bytes a weight of all matrices in the layers."""
    model = spec(config, **quantization)
    plain = ModelSpec.from_hf_config(config, model_id="a/b")
    matrices = sum(item.parameters for item in model.projections if item.part != "router")
    return 2 - (plain.weight_bytes - model.weight_bytes) / matrices


def saved(config: dict[str, Any], part: str, **quantization: Any) -> float:
    """Return the bytes saved over those of converting one part of the model to NVFP4."""
    model = spec(config, **quantization)
    plain = ModelSpec.from_hf_config(config, model_id="a/b")
    matrices = sum(item.parameters for item in model.projections if item.part in part.split())
    return (plain.weight_bytes - model.weight_bytes) / (matrices * (2 - QUANTIZED_BYTES["nvfp4"]))


@pytest.mark.parametrize(
    ("quantization", "name", "each"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8", 1 + 4 / 16384),
        ({"quant_method": "fp8", "weight_block_size": [64, 32]}, "fp8", 1 + 4 / 2048),
        ({"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0}, "fp8", 1),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "int4", (4 + 20 / 128) / 8),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, "int8", 1),
        ({"quant_method": "awq", "bits": 4, "group_size": 64, "zero_point": True}, "int4", (4 + 20 / 64) / 8),
        ({"quant_method": "awq", "w_bit": 4, "q_group_size": 128}, "int4", (4 + 20 / 128) / 8),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8", 1),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "int4", (4 + 32 / 64) / 8),
        ({"quant_method": "bitsandbytes", "bnb_4bit_use_double_quant": True}, "int4", (4 + 8.125 / 64) / 8),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8", 1 + 4 / 16384),
        ({"quant_method": "modelopt", "quant_algo": "MXFP8"}, "fp8", 1 + 1 / 32),
        ({"quant_algo": "NVFP4"}, "nvfp4", 0.5625),
        ({"quant_method": "mxfp4"}, "mxfp4", 0.53125),
    ],
)
def test_each_method_has_its_bytes_a_weight(quantization: dict[str, Any], name: str, each: float) -> None:
    """Scales and zero points included; embeddings, norms and the router stay."""
    assert spec(**quantization).quantization == name
    assert converted(DENSE, **quantization) == pytest.approx(each, rel=1e-6)


@pytest.mark.parametrize(
    ("weights", "name", "each"),
    [
        ({"num_bits": 8, "type": "float", "strategy": "channel"}, "fp8", 1),
        ({"num_bits": 8, "type": "float", "strategy": "group", "group_size": 32}, "fp8", 1 + 1 / 32),
        ({"num_bits": 8, "type": "int", "strategy": "channel"}, "int8", 1),
        ({"num_bits": 4, "type": "int", "group_size": 32, "symmetric": True}, "int4", (4 + 16 / 32) / 8),
        ({"num_bits": 4, "type": "int", "group_size": 128, "symmetric": False}, "int4", (4 + 20 / 128) / 8),
        (FLOAT4, "nvfp4", 0.5625),
        (FLOAT4 | {"group_size": 32}, "mxfp4", 0.53125),
    ],
)
def test_compressed_tensors_says_it_in_its_groups(weights: dict[str, Any], name: str, each: float) -> None:
    """The first group that has weights counts."""
    groups = {"group_0": {"weights": None}, "group_1": {"targets": ["Linear"], "weights": weights}}
    quantization = {"quant_method": "compressed-tensors", "config_groups": groups}
    assert spec(**quantization).quantization == name
    assert converted(DENSE, **quantization) == pytest.approx(each, rel=1e-6)


@pytest.mark.parametrize("groups", [None, {"group_0": {"weights": None}}, {}])
def test_compressed_tensors_without_weights_stores_them_plain(groups: object) -> None:
    """A config may quantize only activations or the cache."""
    model = spec(quant_method="compressed-tensors", config_groups=groups)
    assert (model.quantization, model.weight_bytes) == ("", 2 * model.parameters)


def test_modules_named_one_by_one_stay_plain() -> None:
    """Qwen3-30B-A3B-FP8 lists the router and norms of each layer, which were never converted; leaving out a
    projection of one layer keeps exactly that one."""
    published = ModelSpec.from_hf_config(CONFIGS / "Qwen__Qwen3-30B-A3B-FP8.json")
    everything = spec(SPARSE, quant_method="fp8", weight_block_size=[128, 128])
    assert published.weight_bytes == everything.weight_bytes
    one = spec(
        SPARSE,
        quant_method="fp8",
        weight_block_size=[128, 128],
        modules_to_not_convert=["model.layers.3.self_attn.q_proj", "lm_head"],
    )
    assert one.weight_bytes - everything.weight_bytes == round(2048 * 4096 * (1 - 4 / 16384))


@pytest.mark.parametrize(
    ("kept", "part"),
    [
        (["lm_head", "model.layers.*.self_attn*"], "experts"),
        (["re:.*self_attn.*", "re:.*lm_head"], "experts"),
        ([r"re:^model\.layers\.\d+\.self_attn\.(q|k|v|o)_proj$"], "experts"),
        (["*.self_attn.*"], "experts"),
        (["self_attn"], "experts"),
        ([f"model.layers.{layer}.self_attn" for layer in range(48)], "experts"),
        ([f"language_model.model.layers.{layer}.attn*" for layer in range(48)], "experts"),
        (["re:.*block_sparse_moe.*"], "attention"),
        (["model.layers.*.mlp.experts"], "attention"),
        (["model.layers.*.feed_forward.experts.0.w1", "model.layers.*.mlp.experts.*.down_proj"], "up_only"),
        (["vision_tower.layers.1.self_attn", "mtp.layers.0*", "model.visual*"], "attention experts"),
        (["gate", "model.layers.1.mlp.gate", "re:.*router"], "attention experts"),
    ],
)
def test_patterns_of_every_tool_keep_what_they_mean(kept: list[str], part: str) -> None:
    """Wildcards, regular expressions, bare names, one entry a layer; never the vision tower's namesakes."""
    quantization = {"quant_algo": "NVFP4", "ignore": kept}
    if part == "up_only":
        experts = saved(SPARSE, "experts", quant_algo="NVFP4", ignore=[*kept, "self_attn"])
        assert experts == pytest.approx(1 / 3, rel=1e-6)
    else:
        assert saved(SPARSE, part, **quantization) == pytest.approx(1, rel=1e-6)


def test_a_whole_layer_may_stay_plain() -> None:
    """Model Optimizer writes model.layers.0* for it."""
    share = saved(
        DENSE, "attention dense", quant_algo="NVFP4", exclude_modules=["model.layers.0*", "model.layers.1.*"]
    )
    assert share == pytest.approx(34 / 36, rel=1e-6)


def test_experts_beside_a_dense_part_are_no_part_of_it() -> None:
    """Gemma 4 26B-A4B in NVFP4 keeps attention, router and the dense part plain."""
    document = json.loads((CONFIGS / "google__gemma-4-26B-A4B.json").read_text())
    kept = [
        f"model.language_model.layers.{layer}.{name}*" for layer in range(30) for name in ("mlp", "self_attn")
    ]
    assert saved(document, "experts", quant_algo="NVFP4", ignore=kept) == pytest.approx(1, rel=1e-6)


def test_layers_may_have_a_format_each() -> None:
    """MIXED_PRECISION: attention in FP8, experts in NVFP4, what is not named stays plain."""
    layers: dict[str, Any] = {
        f"model.layers.{layer}.self_attn.{name}": {"quant_algo": "FP8"}
        for layer in range(48)
        for name in ("q_proj",)
    }
    layers |= {
        f"model.layers.{layer}.mlp.experts.{expert}.w1": {"quant_algo": "NVFP4", "group_size": 16}
        for layer in range(48)
        for expert in range(3)
    }
    model = spec(SPARSE, quant_method="modelopt", quant_algo="MIXED_PRECISION", quantized_layers=layers)
    gate, query = 48 * 128 * 768 * 2048, 48 * 2048 * 4096
    expected = 2 * model.parameters - gate * (2 - 0.5625) - query * (1 - 4 / 16384)
    assert model.quantization == "nvfp4"
    assert model.weight_bytes == pytest.approx(expected, abs=1)


def test_mxfp4_of_a_mixture_converts_only_the_experts() -> None:
    """As gpt-oss publishes it, with or without the list of modules."""
    assert saved(SPARSE, "experts", quant_method="mxfp4") == pytest.approx((2 - 0.53125) / (2 - 0.5625))


@pytest.mark.parametrize(
    ("quantization", "message"),
    [
        ({}, "quant_method '' in quantization_config in config of a/b is not supported; use awq, bits"),
        ({"quant_method": "gptq", "bits": 3}, "bits in .* must be 4 or 8, got 3"),
        (
            {"quant_method": "awq", "bits": 4, "group_size": 0},
            "group_size in .* must be a whole number of at least 8",
        ),
        ({"quant_method": "fp8", "weight_block_size": [0]}, "an entry of weight_block_size in"),
        (
            {"quant_method": "fp8", "weight_block_size": [1, 4]},
            "weight_block_size in .* at least 8 weights, got 4",
        ),
        ({"quant_method": "fp8", "ignore": [7]}, "ignore in quantization_config .* must hold texts, got 7"),
        ({"quant_method": "modelopt", "quant_algo": "W1"}, "quant_algo 'W1' in .* is not supported; use FP8"),
        ({"quant_algo": "MIXED_PRECISION"}, "missing field quantized_layers"),
        (
            {"quant_algo": "MIXED_PRECISION", "quantized_layers": {"a": 1}},
            "'a' in quantized_layers in .* object",
        ),
        (
            {"quant_algo": "MIXED_PRECISION", "quantized_layers": {"a": {}}},
            "quant_algo None in quantized_layers",
        ),
        (
            {"quant_method": "fp8", "ignore": [f"layers.0.m{n}" for n in range(300)]},
            "names more than 200 kinds of modules",
        ),
    ],
)
def test_fails_for_a_format_that_cannot_be_weighed(quantization: dict[str, Any], message: str) -> None:
    """Field, value and what is allowed stand in the message."""
    with pytest.raises(TokenmillError, match=message):
        spec(**quantization)


def test_a_quantized_config_may_leave_out_its_type() -> None:
    """MiniMax-M2.5 does; bfloat16 is what such checkpoints keep."""
    document = {key: value for key, value in DENSE.items() if key != "torch_dtype"}
    assert spec(document, quant_method="fp8").dtype == "bfloat16"
    typed = ModelSpec.from_hf_config(document | {"dtype": "torch.float16"}, model_id="a/b")
    assert typed.dtype == "float16"


@pytest.mark.parametrize("name", QUANTIZED_BYTES)
def test_weights_may_be_converted_later(name: str) -> None:
    """with_quantization weighs as a config that says so; plain weights come back."""
    for config in (DENSE, SPARSE):
        plain = ModelSpec.from_hf_config(config, model_id="a/b")
        quantized = plain.with_quantization(name)
        assert quantized.quantization == name
        assert quantized.active_weight_bytes < quantized.weight_bytes + 1 <= plain.weight_bytes
        assert quantized.with_quantization("") == plain
        assert (quantized.parameters, quantized.kv_bytes_per_token) == (
            plain.parameters,
            plain.kv_bytes_per_token,
        )
    block = spec(SPARSE, quant_method="fp8", weight_block_size=[128, 128])
    plain = ModelSpec.from_hf_config(SPARSE, model_id="a/b")
    assert plain.with_quantization("fp8") == block


def test_fails_for_a_format_nobody_knows() -> None:
    """The message lists them."""
    with pytest.raises(
        TokenmillError, match="unknown quantization 'int3'; use fp8, int8, int4, mxfp4, nvfp4 or none"
    ):
        ModelSpec.from_hf_config(DENSE, model_id="a/b").with_quantization("int3")


def test_the_first_rule_that_matches_a_layer_decides() -> None:
    """Later rules see only the layers that are left."""
    rules = (
        Rule(pattern="self_attn", layers=frozenset({0}), bytes_each=None),
        Rule(pattern="self_attn.q_proj", layers=None, bytes_each=1.0),
        Rule(pattern="", layers=None, bytes_each=8.0),
    )
    weights = WeightFormat(name="fp8", bytes_each=0.5, parts=frozenset({"attention"}), rules=rules)
    assert weights.bytes_over("attention", "self_attn.q_proj", (0, 1, 2), 2) == 2 + 1 + 1
    assert weights.bytes_over("small", "norms", (0, 1, 2), 2) == 6


@given(st.lists(st.integers(0, 99), min_size=1, max_size=20))
def test_rules_of_one_kind_are_one_rule(layers: list[int]) -> None:
    """However many layers are listed, and in whatever order."""
    rules = rules_of([(f"model.layers.{layer}.mlp.gate_proj", None) for layer in layers], "config")
    assert rules == (Rule(pattern="mlp.gate_proj", layers=frozenset(layers), bytes_each=None),)


def test_a_pattern_for_all_layers_swallows_those_for_one() -> None:
    """Whichever comes first; names of absurd length are no module's."""
    entries = [("layers.1.mlp", None), ("layers.*.mlp", None), ("layers.2.mlp", None), ("x" * 300, None)]
    assert rules_of(entries, "config") == (Rule(pattern="mlp", layers=None, bytes_each=None),)
