"""Every family is counted as its publisher counts it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support_models import BY_NAME, NEEDS, TOTALS, real, small
from support_planner import CONFIGS
from tokenmill.core.architectures_registry import ARCHITECTURES
from tokenmill.core.errors import TokenmillError
from tokenmill.core.model_spec import ModelSpec

if TYPE_CHECKING:
    from pathlib import Path

BILLIONS = {
    "Qwen__Qwen3-Coder-480B-A35B-Instruct": (480.155, 35.475),
    # deepseek-ai/DeepSeek-V3@0b39205, README_WEIGHTS.md: 671B of the main model; the layer that predicts a
    # second token (11.5B) is apart. It says 36.7B active; 37.55 is counted here
    "deepseek-ai__DeepSeek-V3": (671.0, 37.55),
    # OpenExplorer/gemma-4-26B-A4B-it on the Hub, after the model card of Google: 25.2B total, 3.8B active
    "google__gemma-4-26B-A4B": (25.2, 3.8),
    # meta-llama/llama-models@038acb9, models/llama4/MODEL_CARD.md: 109B with the vision tower, 17B active;
    # debaditc/kvfit@bd4ccab has the Hub's exact total, 108,641,793,536. 17.2 is counted here
    "meta-llama__Llama-4-Scout-17B-16E-Instruct": (108.6, 17.2),
}


@pytest.mark.parametrize("row", TOTALS, ids=lambda row: str(row["name"]))
def test_the_count_is_the_published_one_to_the_last_parameter(row: dict[str, Any]) -> None:
    """34 models of 25 families, from GPT-2 to MiniMax-M1."""
    assert ModelSpec.from_hf_config(row["config"], model_id="a/b").parameters == row["total"]


@pytest.mark.parametrize(("name", "billions"), BILLIONS.items())
def test_totals_and_active_parameters_are_the_stated_or_counted_ones(
    name: str, billions: tuple[float, float]
) -> None:
    """Within 1 % of what the comment beside each says; embeddings count as active."""
    model = real(name)
    assert model.parameters / 1e9 == pytest.approx(billions[0], rel=0.01)
    assert model.active_parameters / 1e9 == pytest.approx(billions[1], rel=0.01)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.json")), ids=lambda path: path.stem)
def test_every_published_config_can_be_read(path: Path) -> None:
    """Dense, mixtures, latent attention, windows, FP8 and MXFP4; parts add up."""
    model = ModelSpec.from_hf_config(path)
    parts = sum(item.parameters for item in model.projections) + model.embedding_parameters
    assert 0.99 < parts / model.parameters <= 1
    assert sum(group.layers for group in model.attention) == model.layers
    experts = sum(item.parameters for item in model.projections if item.part == "experts")
    assert experts == model.expert_parameters
    idle = model.expert_parameters - model.active_expert_parameters
    assert model.parameters - model.active_parameters == pytest.approx(idle, rel=0.01)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_every_known_class_can_be_read(name: str) -> None:
    """A small config with the usual fields becomes a model that holds together."""
    family = ARCHITECTURES[name].name
    model = small(name, **NEEDS.get(family, {}))
    assert model.architecture == family
    assert model.parameters >= model.active_parameters > 0
    assert model.kv_bytes(100) <= model.kv_bytes(200)
    assert small(name, **NEEDS.get(family, {}), torch_dtype="float32").weight_bytes == 2 * model.weight_bytes


def test_falcon_layers_have_the_norms_of_their_variant() -> None:
    """One in parallel layers, two in the new decoder unless it says one, two in sequential layers."""
    one = small("FalconForCausalLM").parameters
    norm = 4 * 2 * 64
    assert small("FalconForCausalLM", parallel_attn=False).parameters - one == norm
    new = {"new_decoder_architecture": True, "num_kv_heads": 1}
    assert small("FalconForCausalLM", **new).parameters - one == norm
    assert small("FalconForCausalLM", **new, num_ln_in_parallel_attn=1).parameters == one


def test_gemma_4_without_experts_is_dense() -> None:
    """enable_moe_block decides; keys and values are two projections where attention_k_eq_v is off."""
    extra = {"hidden_size_per_layer_input": 0, "global_head_dim": 32, "num_global_key_value_heads": 2}
    dense = small("Gemma4ForConditionalGeneration", **extra)
    assert (dense.experts, dense.moe_layers, dense.expert_parameters) == (0, 0, 0)
    typed = {"layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": 8}
    apart = small("Gemma4ForConditionalGeneration", **extra, **typed)
    shared = small("Gemma4ForConditionalGeneration", **extra, **typed, attention_k_eq_v=True)
    assert [group.kv_heads for group in apart.attention] == [4, 4]
    assert [group.kv_heads for group in shared.attention] == [4, 2]
    with pytest.raises(
        TokenmillError, match="num_global_key_value_heads in .* must divide the 4 query heads"
    ):
        small(
            "Gemma4ForConditionalGeneration",
            **extra | {"num_global_key_value_heads": 3},
            **typed,
            attention_k_eq_v=True,
        )


def test_a_second_embedding_for_each_layer_counts_as_embedding() -> None:
    """Gemma 4: vocabulary x layers x width, and its projections."""
    plain = small("Gemma4ForConditionalGeneration", hidden_size_per_layer_input=0)
    more = small(
        "Gemma4ForConditionalGeneration", hidden_size_per_layer_input=8, vocab_size_per_layer_input=50
    )
    assert more.embedding_parameters - plain.embedding_parameters == 50 * 4 * 8
    small_parts = 8 * 4 * 64 + 8 + 4 * (2 * 8 * 64 + 64)
    assert more.parameters - plain.parameters == 50 * 4 * 8 + small_parts


def test_nemotron_h_reads_its_letters() -> None:
    """M is Mamba, * attention, - a feed-forward layer, E experts; each layer is one of them."""
    mamba = {"mamba_num_heads": 4, "mamba_head_dim": 16, "n_groups": 1, "ssm_state_size": 8, "conv_kernel": 4}
    model = small("NemotronHForCausalLM", hybrid_override_pattern="M*E-", n_routed_experts=4, **mamba)
    assert [(group.kind, group.layers) for group in model.attention] == [("linear", 1), ("full", 1)]
    assert (model.moe_layers, model.layers) == (1, 4)
    biased = small("NemotronHForCausalLM", hybrid_override_pattern="M*--", use_bias=True, **mamba)
    plain = small("NemotronHForCausalLM", hybrid_override_pattern="M*--", **mamba)
    assert biased.parameters - plain.parameters == 64 + (64 + 2 * 8) + 4 + 64
    bare = small("NemotronHForCausalLM", hybrid_override_pattern="M*--", use_conv_bias=False, **mamba)
    assert plain.parameters - bare.parameters == 64 + 2 * 8
    blocks = ["mamba", "attention", "mlp", "mlp"]
    named = small(
        "NemotronHForCausalLM",
        layers_block_type=blocks,
        hybrid_override_pattern=None,
        num_hidden_layers=None,
        **mamba,
    )
    assert named == plain
    latent = small(
        "NemotronHForCausalLM",
        hybrid_override_pattern="M*E-",
        n_routed_experts=4,
        moe_latent_size=16,
        **mamba,
    )
    assert model.expert_parameters == 4 * latent.expert_parameters
    assert latent.shared_expert_parameters == 2 * 16 * 64
    with pytest.raises(
        TokenmillError, match="hybrid_override_pattern .* one letter for each of 4 layers, got 3"
    ):
        small("NemotronHForCausalLM", hybrid_override_pattern="M*E")
    with pytest.raises(TokenmillError, match="missing field n_routed_experts"):
        small("NemotronHForCausalLM", hybrid_override_pattern="M*E-", **mamba)


@pytest.mark.parametrize(
    ("changes", "sparse"),
    [
        ({"first_k_dense_replace": 1}, 3),
        ({"moe_layer_freq": 2}, 2),
        ({"moe_layer_freq": [0, 0, 0, 1]}, 1),
        ({"mlp_layer_types": ["dense", "sparse", "dense", "sparse"]}, 2),
    ],
)
def test_deepseek_names_its_sparse_layers_in_four_ways(changes: dict[str, Any], sparse: int) -> None:
    """The first dense, every so many, a list of digits, a list of words."""
    assert small("DeepseekV3ForCausalLM", **changes).moe_layers == sparse


def test_llama_4_interleaves_experts() -> None:
    """Every second layer of Maverick, or the layers it names; one shared expert each."""
    every_second = small("Llama4ForConditionalGeneration", interleave_moe_layer_step=2)
    assert every_second.moe_layers == 2
    assert small("Llama4ForConditionalGeneration", moe_layers=[1, 3]) == every_second
    assert every_second.shared_expert_parameters == 2 * 3 * 64 * 128


def test_opt_350m_projects_its_embedding_and_has_no_final_norm() -> None:
    """331,196,416 parameters (facebook/opt-350m: word_embed_proj_dim 512, do_layer_norm_before false)."""
    document = {
        "architectures": ["OPTForCausalLM"],
        "num_hidden_layers": 24,
        "hidden_size": 1024,
        "ffn_dim": 4096,
        "num_attention_heads": 16,
        "max_position_embeddings": 2048,
        "vocab_size": 50272,
        "word_embed_proj_dim": 512,
        "do_layer_norm_before": False,
        "torch_dtype": "float16",
    }
    assert ModelSpec.from_hf_config(document, model_id="facebook/opt-350m").parameters == 331_196_416


def test_the_text_part_of_a_multimodal_config_is_read() -> None:
    """text_config first, then what only the outer object says."""
    inner = {
        key: value
        for key, value in BY_NAME["gemma-3-1b"].items()
        if key not in ("architectures", "torch_dtype")
    }
    document = {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "text_config": inner,
        "torch_dtype": "bfloat16",
        "vision_config": {"hidden_size": 1152},
    }
    assert ModelSpec.from_hf_config(document, model_id="a/b").parameters == 999_885_952


def test_a_config_of_gemma_3_may_leave_out_what_its_class_knows() -> None:
    """google/gemma-3-4b ships neither heads nor vocabulary; configuration_gemma3.py has them."""
    inner = {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34, "sliding_window": 1024}
    document = {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "text_config": inner,
        "dtype": "bfloat16",
    }
    model = ModelSpec.from_hf_config(document, model_id="google/gemma-3-4b-it")
    assert (model.attention_heads, model.kv_heads, model.vocab_size) == (8, 4, 262208)
    # kvfit, scripts/build_registry.py: 4,300,079,472; of these the SigLIP tower (27 layers of 1,152) has
    # 416,866,032 and the projector 1,152 x 2,560 + 1,152
    assert model.parameters + 416_866_032 + 1152 * 2560 + 1152 == 4_300_079_472


def test_a_dense_part_without_a_width_is_refused() -> None:
    """A family of experts needs intermediate_size only where a layer is dense."""
    with pytest.raises(TokenmillError, match="missing field intermediate_size in config of a/b"):
        small("DeepseekV3ForCausalLM", intermediate_size=None, first_k_dense_replace=1)
    assert small("DeepseekV3ForCausalLM", intermediate_size=None).moe_layers == 4
