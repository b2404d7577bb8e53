"""What each kind of attention is made of, and what it keeps of a sequence."""

from __future__ import annotations

import pytest

from support_models import real, small, spec
from tokenmill.core.errors import TokenmillError
from tokenmill.core.model_spec import AttentionGroup


def test_multi_query_attention_keeps_one_head() -> None:
    """Falcon-7B and StarCoder share one key and value head; without multi_query every head has its own."""
    assert spec("starcoder").kv_heads == 1
    assert spec("starcoder", multi_query=False).kv_heads == 48
    falcon = small("FalconForCausalLM", num_kv_heads=4)
    assert (falcon.kv_heads, falcon.kv_bytes_per_token) == (1, 4 * 2 * 16 * 2)
    assert small("FalconForCausalLM", multi_query=False).kv_heads == 4
    assert small("FalconForCausalLM", new_decoder_architecture=True, num_kv_heads=2).kv_heads == 2


def test_latent_attention_keeps_one_vector_for_all_heads() -> None:
    """DeepSeek-V3: 512 + 64 elements a token and layer, 70,272 bytes over 61 layers in bfloat16."""
    model = real("deepseek-ai__DeepSeek-V3")
    assert model.attention == (
        AttentionGroup(kind="latent", layers=61, kv_heads=1, key_dim=576, value_dim=0, window=None),
    )
    assert (model.kv_bytes_per_token, model.kv_heads, model.attention_width) == (70272, 1, 128 * 192)
    assert (model.moe_layers, model.expert_width, model.experts, model.experts_per_token) == (
        58,
        2048,
        256,
        8,
    )
    assert model.expert_parameters == 58 * 256 * 3 * 7168 * 2048
    assert model.shared_expert_parameters == 58 * 3 * 7168 * 2048


def test_queries_of_latent_attention_may_come_from_one_projection() -> None:
    """DeepSeek-V2-Lite has no q_lora_rank: one matrix instead of two factors and a norm."""
    two = small("DeepseekV2ForCausalLM").parameters
    one = small("DeepseekV2ForCausalLM", q_lora_rank=None).parameters
    assert one - two == 4 * (64 * 96 - (64 * 24 + 24 * 96 + 24))


def test_a_bias_of_latent_attention_stands_on_three_projections() -> None:
    """attention_bias adds to q_a, kv_a and the output (modeling_deepseek_v3.py)."""
    plain = small("DeepseekV3ForCausalLM").parameters
    assert small("DeepseekV3ForCausalLM", attention_bias=True).parameters - plain == 4 * (24 + 16 + 8 + 64)


def test_sparse_attention_keeps_a_key_of_the_indexer_too() -> None:
    """DeepSeek-V3.2: 128 elements more a token and layer; GLM-5.2 shares an indexer between four layers."""
    model = real("deepseek-ai__DeepSeek-V3.2")
    assert model.kv_bytes_per_token - 70272 == 61 * 128 * 2
    by_rule = small("GlmMoeDsaForCausalLM", index_topk_freq=2, index_skip_topk_offset=1)
    by_name = small("GlmMoeDsaForCausalLM", indexer_types=["full", "shared", "full", "shared"])
    assert by_rule == by_name
    assert [group.index_dim for group in by_rule.attention] == [8, 0]
    with pytest.raises(TokenmillError, match="indexer_types in .* holds 'odd'; known: full, shared"):
        small("GlmMoeDsaForCausalLM", indexer_types=["odd"] * 4)
    freq = {"sparse_attention_freq": [0, 0, 0, 1], "sparse_index_dim": 8, "sparse_num_index_heads": 2}
    m3 = small("MiniMaxM3ForCausalLM", sparse_attention_config=freq)
    assert [(group.layers, group.index_dim) for group in m3.attention] == [(3, 0), (1, 8)]


def test_windows_cap_the_cache() -> None:
    """gpt-oss-20b: half of its layers keep 128 tokens, so a long sequence costs half."""
    model = real("openai__gpt-oss-20b")
    assert [(group.kind, group.layers, group.window) for group in model.attention] == [
        ("sliding", 12, 128),
        ("full", 12, None),
    ]
    assert model.kv_bytes(100) == 100 * model.kv_bytes_per_token
    assert model.kv_bytes(10_128) - model.kv_bytes(128) == 10_000 * model.kv_bytes_per_token // 2


def test_chunks_cap_the_cache_as_windows_do() -> None:
    """Llama 4: three of four layers attend within chunks of 8,192 tokens."""
    model = real("meta-llama__Llama-4-Scout-17B-16E-Instruct")
    assert [(group.kind, group.layers, group.window) for group in model.attention] == [
        ("sliding", 36, 8192),
        ("full", 12, None),
    ]
    named = small("Llama4ForConditionalGeneration", no_rope_layers=[1, 1, True, 0])
    assert named.attention == small("Llama4ForConditionalGeneration").attention


def test_layers_of_gemma_have_their_own_heads_and_windows() -> None:
    """Gemma 4 26B-A4B: sliding layers 8 heads of 256, full layers 2 of 512 whose keys are the values."""
    model = real("google__gemma-4-26B-A4B")
    assert [(group.layers, group.kv_heads, group.key_dim, group.window) for group in model.attention] == [
        (25, 8, 256, 1024),
        (5, 2, 512, None),
    ]
    values = [item for item in model.projections if item.name == "v_proj"]
    assert [item.copies for item in values] == [25]
    assert (model.experts, model.moe_layers) == (128, 30)


def test_layers_that_reuse_keys_and_values_keep_none() -> None:
    """Gemma 4 E2B: the last layers have no key and value projections, and wider feed-forward parts."""
    extra = {"hidden_size_per_layer_input": 0}
    plain = small("Gemma4ForConditionalGeneration", **extra)
    reused = small(
        "Gemma4ForConditionalGeneration", **extra, num_kv_shared_layers=3, use_double_wide_mlp=True
    )
    assert reused.kv_bytes_per_token * 4 == plain.kv_bytes_per_token
    kv = 2 * 64 * 64 + 16
    assert reused.parameters - plain.parameters == 3 * (3 * 64 * 128 - kv)
    with pytest.raises(TokenmillError, match="num_kv_shared_layers in config of a/b must be at most 3"):
        small("Gemma4ForConditionalGeneration", **extra, num_kv_shared_layers=4)


def test_linear_layers_keep_a_constant_state() -> None:
    """Qwen3-Next: only 12 of 48 layers add to the cache; the state of the others does not grow."""
    model = spec("Qwen3-Next-80B")
    assert [(group.kind, group.layers) for group in model.attention] == [("linear", 36), ("full", 12)]
    assert model.kv_bytes_per_token == 12 * 2 * 2 * 256 * 2
    state = 36 * (32 * 128 * 128 * 2 + (2 * 16 * 128 + 32 * 128) * 3 * 2)
    assert model.kv_bytes(1000) == state + 1000 * model.kv_bytes_per_token
    wide = spec("Qwen3-Next-80B", mamba_ssm_dtype="float32")
    assert wide.kv_bytes(0) - model.kv_bytes(0) == 36 * 32 * 128 * 128 * 2


def test_lightning_and_mamba_layers_keep_a_constant_state_too() -> None:
    """MiniMax-M1: 70 of 80 layers; Granite 4.0 H: 36 of 40; both are exact in model_totals.json."""
    m1 = spec("MiniMax-M1")
    assert [(group.kind, group.layers) for group in m1.attention] == [("linear", 70), ("full", 10)]
    assert m1.kv_bytes(0) == 70 * 64 * 128 * 128 * 2
    granite = spec("granite-4.0-h-small")
    assert granite.kv_bytes_per_token == 4 * 2 * 8 * 128 * 2
    assert small("MiniMaxForCausalLM").attention[0].kind == "linear"


def test_a_sliding_window_of_qwen_starts_at_a_layer() -> None:
    """max_window_layers, once use_sliding_window is on."""
    model = small("Qwen2ForCausalLM", use_sliding_window=True, sliding_window=64, max_window_layers=1)
    assert [(group.kind, group.layers) for group in model.attention] == [("full", 1), ("sliding", 3)]
    assert small("Qwen2ForCausalLM", sliding_window=64).attention[0].kind == "full"


def test_mimo_has_other_heads_in_its_windows() -> None:
    """hybrid_layer_pattern; keys and values differ in width."""
    model = small(
        "MiMoV2FlashForCausalLM",
        hybrid_layer_pattern=[0, 1, 1, 1],
        sliding_window=8,
        num_key_value_heads=1,
        swa_num_key_value_heads=2,
        swa_head_dim=32,
        swa_v_head_dim=8,
    )
    assert [(g.kind, g.layers, g.kv_heads, g.key_dim, g.value_dim) for g in model.attention] == [
        ("full", 1, 1, 16, 16),
        ("sliding", 3, 2, 32, 8),
    ]


def test_norms_of_queries_and_keys_follow_their_switch() -> None:
    """Command R+ has them, Command R does not; Phi's carry biases."""
    plain = small("CohereForCausalLM").parameters
    assert small("CohereForCausalLM", use_qk_norm=True).parameters - plain == 4 * 2 * 64
    phi = small("PhiForCausalLM").parameters
    assert small("PhiForCausalLM", qk_layernorm=True).parameters - phi == 4 * 2 * 2 * 16
