"""A config.json becomes sizes that agree with what the publishers state."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support_planner import CONFIGS
from tokenmill.core.errors import TokenmillError
from tokenmill.core.model_catalog import model_file, model_ids
from tokenmill.core.model_spec import ModelSpec

if TYPE_CHECKING:
    from pathlib import Path

# golden totals; debaditc/kvfit@bd4ccab (scripts/build_registry.py, totals of the Hub) has all of them but
# Qwen3-0.6B and Mixtral, to the last parameter
TOTALS = {
    "Qwen__Qwen3-0.6B": 596_049_920,
    "Qwen__Qwen3-8B": 8_190_735_360,
    "Qwen__Qwen3-32B": 32_762_123_264,
    "Qwen__Qwen3-30B-A3B": 30_532_122_624,
    "Qwen__Qwen3-235B-A22B": 235_093_634_560,
    "meta-llama__Meta-Llama-3.1-8B": 8_030_261_248,
    "meta-llama__Meta-Llama-3.1-70B": 70_553_706_496,
    "mistralai__Mixtral-8x7B-v0.1": 46_702_792_704,
    "openai__gpt-oss-20b": 20_914_757_184,
    "openai__gpt-oss-120b": 116_829_156_672,
}
# billions of parameters that one token passes through, and bytes of KV cache a token, computed by
# ai-dynamo/aiconfigurator@095f58a (model_configs) and published with its performance data
ACTIVE_AND_CACHE = {
    "Qwen__Qwen3-8B": (8.191, 147_456),
    "Qwen__Qwen3-30B-A3B": (3.353, 98_304),
    "Qwen__Qwen3-235B-A22B": (22.19, 192_512),
    "meta-llama__Meta-Llama-3.1-70B": (70.554, 327_680),
    "openai__gpt-oss-20b": (4.186, 49_152),
    "openai__gpt-oss-120b": (5.71, 73_728),
}


def config(configs: Path, **changes: Any) -> dict[str, Any]:
    document = json.loads((configs / "Qwen__Qwen3-8B.json").read_text()) | changes
    return {key: value for key, value in document.items() if value != "absent"}


@pytest.fixture(scope="module")
def configs() -> Path:
    """Folder of the config.json files."""
    return CONFIGS


@pytest.mark.parametrize(("name", "total"), TOTALS.items())
def test_total_parameters_stay_what_the_model_cards_state(configs: Path, name: str, total: int) -> None:
    """Every tensor is counted, to the last parameter."""
    assert ModelSpec.from_hf_config(configs / f"{name}.json").parameters == total


@pytest.mark.parametrize(("name", "figures"), ACTIVE_AND_CACHE.items())
def test_active_parameters_and_cache_agree_with_an_independent_count(
    configs: Path, name: str, figures: tuple[float, int]
) -> None:
    """Experts count by how many a token passes through; the cache by key-value heads."""
    spec = ModelSpec.from_hf_config(configs / f"{name}.json")
    assert spec.active_parameters / 1e9 == pytest.approx(figures[0], rel=0.01)
    assert spec.kv_bytes_per_token == figures[1]


@pytest.mark.parametrize(
    ("name", "gigabytes"),
    [
        ("Qwen__Qwen3-8B", 16.38),
        ("Qwen__Qwen3-30B-A3B-FP8", 31.2),
        ("openai__gpt-oss-20b", 13.76),
        ("openai__gpt-oss-120b", 65.2),
    ],
)
def test_weight_bytes_are_those_of_the_checkpoint(configs: Path, name: str, gigabytes: float) -> None:
    """Plain, FP8 and MXFP4 checkpoints weigh what their repositories list (Hugging Face Hub, file sizes)."""
    spec = ModelSpec.from_hf_config(configs / f"{name}.json")
    assert spec.weight_bytes / 1e9 == pytest.approx(gigabytes, rel=0.01)


def test_embeddings_weigh_what_input_and_output_hold(configs: Path) -> None:
    """Two tables of 151,936 x 4,096 in bfloat16; one where they are tied."""
    spec = ModelSpec.from_hf_config(configs / "Qwen__Qwen3-8B.json")
    assert spec.embedding_bytes == 2 * 151_936 * 4096 * 2
    tied = ModelSpec.from_hf_config(config(configs, tie_word_embeddings=True), model_id="a/b")
    assert tied.embedding_bytes == 151_936 * 4096 * 2


def test_the_name_on_the_hub_comes_from_the_file_name(configs: Path) -> None:
    """Two underscores stand for the slash."""
    assert ModelSpec.from_hf_config(configs / "Qwen__Qwen3-8B.json").id == "Qwen/Qwen3-8B"


def test_fails_for_an_architecture_that_is_not_counted(configs: Path) -> None:
    """The message names the field, the architecture, the file and the nearest that are known."""
    document = config(configs, architectures=["DeepseekV4ForCausalLM"])
    with pytest.raises(
        TokenmillError,
        match="unknown architecture 'DeepseekV4ForCausalLM' in field architectures of config of a/b; "
        "nearest: DeepseekV",
    ):
        ModelSpec.from_hf_config(document, model_id="a/b")
    with pytest.raises(TokenmillError, match="are known, none like it"):
        ModelSpec.from_hf_config(config(configs, architectures=["%%%"]), model_id="a/b")


def test_the_first_known_architecture_counts(configs: Path) -> None:
    """A list may hold a class of remote code first."""
    document = config(configs, architectures=["OwnClass", "Qwen3ForCausalLM"])
    assert ModelSpec.from_hf_config(document, model_id="a/b").architecture == "Qwen3ForCausalLM"


def test_the_architecture_may_stand_in_model_type_only(configs: Path) -> None:
    """A config without `architectures` is refused by what it has."""
    with pytest.raises(TokenmillError, match="unknown architecture 'qwen3' in field architectures"):
        ModelSpec.from_hf_config(config(configs, architectures="absent"), model_id="a/b")


def test_fails_naming_every_missing_field_and_the_file(tmp_path: Path, configs: Path) -> None:
    """One message, all fields."""
    path = tmp_path / "Qwen__Broken.json"
    path.write_text(json.dumps(config(configs, vocab_size="absent", num_hidden_layers=None)))
    with pytest.raises(
        TokenmillError, match=r"missing fields num_hidden_layers, vocab_size in .*Broken.json"
    ):
        ModelSpec.from_hf_config(path)


def test_fails_naming_one_missing_field(configs: Path) -> None:
    """Mixtures of experts need their own fields."""
    document = config(configs, architectures=["MixtralForCausalLM"], num_experts_per_tok=2)
    with pytest.raises(TokenmillError, match="missing field num_local_experts in config of a/b"):
        ModelSpec.from_hf_config(document, model_id="a/b")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": "36"}, "num_hidden_layers in config of a/b must be a whole number above 0"),
        ({"vocab_size": 0}, "vocab_size in config of a/b must be a whole number above 0, got 0"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings in config of a/b must be true or false"),
        ({"torch_dtype": "int3"}, "torch_dtype 'int3' in config of a/b is not one of bfloat16"),
        ({"torch_dtype": "absent"}, "missing field torch_dtype"),
        (
            {"quantization_config": {"quant_method": "quark"}},
            "quant_method 'quark' in quantization_config in",
        ),
    ],
)
def test_fails_for_a_field_of_the_wrong_kind(configs: Path, changes: dict[str, Any], message: str) -> None:
    """Field, value and what is allowed stand in the message."""
    with pytest.raises(TokenmillError, match=message):
        ModelSpec.from_hf_config(config(configs, **changes), model_id="a/b")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{nope", r"is not JSON \(line 1 column 2: expecting property name"),
        (b"[1]", "must hold a JSON object, got list"),
        (b"\xff\xfe\x00", "is not text"),
    ],
)
def test_fails_for_a_file_that_is_no_config(tmp_path: Path, content: bytes, message: str) -> None:
    """Not JSON, not an object, not text: each is said."""
    path = tmp_path / "a__b.json"
    path.write_bytes(content)
    with pytest.raises(TokenmillError, match=message):
        ModelSpec.from_hf_config(path)


def test_fails_for_a_file_that_is_absent_or_a_folder(tmp_path: Path) -> None:
    """The path stands in the message."""
    with pytest.raises(TokenmillError, match=r"a__b.json does not exist"):
        ModelSpec.from_hf_config(tmp_path / "a__b.json")
    (tmp_path / "c__d").mkdir()
    with pytest.raises(TokenmillError, match="is a folder; name the config.json in it"):
        ModelSpec.from_hf_config(tmp_path / "c__d")


def test_fails_when_the_name_on_the_hub_is_unknown(tmp_path: Path, configs: Path) -> None:
    """The container must be told what to load."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config(configs)))
    with pytest.raises(TokenmillError, match="name the file organisation__model.json"):
        ModelSpec.from_hf_config(path)
    with pytest.raises(TokenmillError, match="model_id must be given"):
        ModelSpec.from_hf_config(config(configs))
    assert ModelSpec.from_hf_config(path, model_id="Qwen/Qwen3-8B").id == "Qwen/Qwen3-8B"


def test_biases_are_counted_where_the_config_asks_for_them(configs: Path) -> None:
    """attention_bias adds vectors of 32 x 128 query, 2 x 8 x 128 key-value and 4,096 output a layer; Llama's
    mlp_bias adds 2 x 12,288 + 4,096."""
    plain = ModelSpec.from_hf_config(config(configs), model_id="a/b").parameters
    biased = ModelSpec.from_hf_config(config(configs, attention_bias=True), model_id="a/b").parameters
    assert biased - plain == 36 * (32 * 128 + 2 * 8 * 128 + 4096)
    llama = config(configs, architectures=["LlamaForCausalLM"])
    more = ModelSpec.from_hf_config(llama | {"mlp_bias": True}, model_id="a/b").parameters
    assert more - ModelSpec.from_hf_config(llama, model_id="a/b").parameters == 36 * (2 * 12288 + 4096)


def test_qwen2_always_biases_queries_keys_and_values(configs: Path) -> None:
    """The family has no field for it; unlike Qwen3 it does not normalise heads."""
    qwen3 = ModelSpec.from_hf_config(config(configs), model_id="a/b").parameters
    qwen2 = ModelSpec.from_hf_config(config(configs, architectures=["Qwen2ForCausalLM"]), model_id="a/b")
    assert qwen2.parameters - qwen3 == 36 * (32 * 128 + 2 * 8 * 128 - 2 * 128)


def test_dense_layers_of_a_sparse_model_are_counted_dense(configs: Path) -> None:
    """decoder_sparse_step and mlp_only_layers leave some layers without experts."""
    path = configs / "Qwen__Qwen3-30B-A3B.json"
    document = json.loads(path.read_text())
    sparse = ModelSpec.from_hf_config(document, model_id="a/b")
    mixed = ModelSpec.from_hf_config(document | {"mlp_only_layers": [0]}, model_id="a/b")
    every_other = ModelSpec.from_hf_config(document | {"decoder_sparse_step": 2}, model_id="a/b")
    layer = 3 * 2048 * (128 * 768 - 6144) + 2048 * 128
    assert sparse.parameters - mixed.parameters == layer
    assert sparse.parameters - every_other.parameters == 24 * layer


@given(layers=st.integers(1, 100), width=st.integers(1, 64), heads=st.integers(1, 64))
def test_more_layers_never_mean_fewer_parameters(layers: int, width: int, heads: int) -> None:
    """Parameters, weights and cache grow with depth; what is active is never more than everything."""
    document = {
        "architectures": ["Qwen3MoeForCausalLM"],
        "hidden_size": width * 64,
        "intermediate_size": width * 128,
        "moe_intermediate_size": width * 32,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "num_attention_heads": heads,
        "head_dim": 64,
        "num_hidden_layers": layers,
        "max_position_embeddings": 4096,
        "vocab_size": 1000,
        "torch_dtype": "bfloat16",
    }
    one = ModelSpec.from_hf_config(document, model_id="a/b")
    two = ModelSpec.from_hf_config(document | {"num_hidden_layers": layers + 1}, model_id="a/b")
    assert two.parameters > one.parameters >= one.active_parameters > 0
    assert two.weight_bytes > one.weight_bytes == 2 * one.parameters
    assert two.kv_bytes_per_token > one.kv_bytes_per_token


def test_a_reference_is_a_path_or_a_name_in_the_catalog(tmp_path: Path, configs: Path) -> None:
    """Paths start from the settings file's folder."""
    assert model_file("Qwen__Qwen3-8B.json", configs) == configs / "Qwen__Qwen3-8B.json"
    shipped = model_file("Qwen/Qwen3-8B", tmp_path)
    assert ModelSpec.from_hf_config(shipped).id == "Qwen/Qwen3-8B"
    assert shipped.read_bytes() == (configs / "Qwen__Qwen3-8B.json").read_bytes()


@pytest.mark.parametrize("name", model_ids())
def test_every_model_of_the_catalog_can_be_read(name: str, tmp_path: Path) -> None:
    """A name that is offered works."""
    assert ModelSpec.from_hf_config(model_file(name, tmp_path)).id == name


def test_fails_for_a_model_that_is_neither_with_the_nearest_names(tmp_path: Path) -> None:
    """A typing error finds its way back."""
    with pytest.raises(TokenmillError, match=r"'Qwen/Qwen3-8' is neither .* Qwen/Qwen3-8B"):
        model_file("Qwen/Qwen3-8", tmp_path)
    with pytest.raises(TokenmillError, match="in the catalog; the catalog has .*Qwen/Qwen3-0.6B"):
        model_file("%%%%", tmp_path)
