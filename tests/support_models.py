"""Model configs that several tests of the count share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support_planner import CONFIGS
from tokenmill.core.model_spec import ModelSpec

# each row: exact published total, where it was read, and the fields of the config that a count needs
TOTALS = json.loads((Path(__file__).parent / "data" / "model_totals.json").read_text())
BY_NAME = {row["name"]: row["config"] for row in TOTALS}
SMALL = {
    "num_hidden_layers": 4,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "vocab_size": 100,
    "torch_dtype": "bfloat16",
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
}
# what single families need besides
NEEDS: dict[str, dict[str, Any]] = {
    "Llama4ForConditionalGeneration": {"intermediate_size_mlp": 256},
    "MiniMaxM3ForCausalLM": {"dense_intermediate_size": 256},
    "GraniteMoeHybridForCausalLM": {"shared_intermediate_size": 256, "layer_types": ["attention"] * 4},
    "NemotronHForCausalLM": {"hybrid_override_pattern": "-*-*"},
    "ChatGLMModel": {"padded_vocab_size": 100, "multi_query_group_num": 2, "kv_channels": 16},
}
LATENT = {
    "kv_lora_rank": 16,
    "q_lora_rank": 24,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
    "index_head_dim": 8,
    "index_n_heads": 2,
}


def spec(name: str, **changes: Any) -> ModelSpec:
    """Return the model of a row of model_totals.json, with fields changed."""
    return ModelSpec.from_hf_config(BY_NAME[name] | changes, model_id="a/b")


def small(name: str, **changes: Any) -> ModelSpec:
    """Return a small model of a family."""
    document = {"architectures": [name], **SMALL, **LATENT, **NEEDS.get(name, {}), **changes}
    return ModelSpec.from_hf_config(document, model_id="a/b")


def real(name: str) -> ModelSpec:
    """Return the model of a published config.json."""
    return ModelSpec.from_hf_config(CONFIGS / f"{name}.json")
