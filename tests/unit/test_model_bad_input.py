"""Any JSON either becomes a valid model or is refused with one kind of error that names the field."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from support_planner import CONFIGS
from tokenmill.core.architectures_registry import ARCHITECTURES
from tokenmill.core.errors import TokenmillError
from tokenmill.core.model_reader import read_model
from tokenmill.core.model_spec import ModelSpec

TOTALS = json.loads((Path(__file__).parent.parent / "data" / "model_totals.json").read_text())
REAL = [json.loads(path.read_text()) for path in sorted(CONFIGS.glob("*.json"))]
REAL += [row["config"] for row in TOTALS]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.text(max_size=12)
    | st.sampled_from([10**30, 10**4000, -1, 0, 1, 2, 1e308, 2**31, "layers", "re:(", "full_attention"])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(sorted({key for config in REAL for key in [*config, *config.get("text_config", {})]}))


def check(document: Any) -> ModelSpec | None:
    """Return the model, which must hold together, or None for one refused."""
    try:
        spec = ModelSpec.from_hf_config(document, model_id="a/b")
    except TokenmillError as error:
        assert len(str(error)) < 2000
        return None
    assert spec.parameters >= spec.active_parameters > 0
    assert spec.parameters >= spec.embedding_parameters + spec.expert_parameters
    assert spec.expert_parameters >= spec.active_expert_parameters >= 0
    assert spec.weight_bytes >= spec.active_weight_bytes > 0
    assert spec.kv_bytes(4096) >= spec.kv_bytes(1) >= 0
    assert 1 <= spec.layers <= 1000
    assert all(math.isfinite(size) for size in (spec.parameters, spec.weight_bytes, spec.kv_bytes_per_token))
    return spec


@given(JSON)
@settings(max_examples=300, deadline=None)
def test_any_json_is_a_model_or_one_kind_of_error(document: object) -> None:
    """Nothing else ever comes out."""
    check(document)


@given(st.sampled_from(sorted(ARCHITECTURES)), st.dictionaries(NAMES, SCALARS, max_size=12))
@settings(max_examples=300, deadline=None)
def test_any_fields_of_a_known_architecture_are_a_model_or_one_kind_of_error(
    name: str, fields: dict[str, Any]
) -> None:
    """The class name alone vouches for nothing."""
    check({"architectures": [name], **fields})


@given(st.sampled_from(REAL), st.data())
@settings(max_examples=600, deadline=None)
def test_a_real_config_with_a_field_spoilt_is_a_model_or_one_kind_of_error(
    config: dict[str, Any], data: st.DataObject
) -> None:
    """Missing, null, another type, not a number, negative, huge; also inside nested objects."""
    document = copy.deepcopy(config)
    for _ in range(data.draw(st.integers(1, 3))):
        target = document
        while True:
            key = data.draw(st.sampled_from(sorted(target)))
            if isinstance(target[key], dict) and target[key] and data.draw(st.booleans()):
                target = target[key]
                continue
            break
        if data.draw(st.booleans()):
            target[key] = data.draw(JSON)
        elif len(target) > 1:
            del target[key]
    check(document)


@given(
    st.sampled_from(["fp8", "gptq", "awq", "bitsandbytes", "compressed-tensors", "modelopt", "mxfp4"]),
    st.dictionaries(
        st.sampled_from(
            ["bits", "group_size", "ignore", "modules_to_not_convert", "quant_algo", "config_groups"]
            + ["weight_block_size", "load_in_8bit", "quantized_layers", "bnb_4bit_use_double_quant"]
        ),
        JSON | st.lists(st.text(alphabet="re:.*layers()|0mlp_attn\\d+[]?", max_size=40), max_size=5),
        max_size=5,
    ),
)
@settings(max_examples=400, deadline=None)
def test_any_quantization_config_is_a_model_or_one_kind_of_error(method: str, fields: dict[str, Any]) -> None:
    """Patterns are matched, never run as regular expressions of a stranger."""
    document = json.loads((CONFIGS / "Qwen__Qwen3-30B-A3B.json").read_text())
    spec = check(document | {"quantization_config": {"quant_method": method, **fields}})
    if spec is not None:
        assert spec.weight_bytes <= 2 * spec.parameters + 1


@pytest.mark.parametrize("config", REAL, ids=lambda config: str(config["architectures"][0]))
@pytest.mark.parametrize("bad", [True, 10**30, -4, 2.5, math.nan, math.inf, "7", [], {}, 1e308])
def test_a_bad_layer_count_is_refused_by_name(config: dict[str, Any], bad: object) -> None:
    """Whatever the family calls it, the message does too."""
    document = copy.deepcopy(config)
    target = document.get("text_config", document)
    (name,) = {"num_hidden_layers", "n_layer", "num_layers", "n_layers"} & set(target)
    target[name] = bad
    with pytest.raises(TokenmillError, match=name):
        ModelSpec.from_hf_config(document, model_id="a/b")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": 33}, "num_key_value_heads in config of a/b must divide the 33 query heads"),
        ({"num_attention_heads": 24, "head_dim": None}, "num_attention_heads in .* must divide hidden_size"),
        ({"vocab_size": 2**40}, r"vocab_size in config of a/b must be at most 2,147,483,648"),
        ({"vocab_size": 10**5000}, "got a number of about 49"),
        ({"hidden_size": 2**30, "intermediate_size": 2**30}, "describes .* parameters, more than 1e\\+15"),
        ({"num_hidden_layers": 1001}, "num_hidden_layers in config of a/b must be at most 1,000, got 1001"),
        ({"layer_types": ["full_attention"]}, "layer_types in .* one entry for each of 36 layers, got 1"),
        ({"layer_types": ["odd"] * 36}, "layer_types in config of a/b holds 'odd'; known: full_attention"),
        ({"layer_types": ["moe"] * 36}, "layers that Qwen3ForCausalLM does not have: moe"),
        ({"layer_types": {"a": 1}}, "layer_types in config of a/b must be a list, got an object of 1"),
        ({"torch_dtype": 16}, "torch_dtype in config of a/b must be a text, got 16"),
        ({"text_config": [1, 2]}, "text_config in config of a/b must be an object, got a list of 2"),
        ({"quantization_config": "fp8"}, "quantization_config in config of a/b must be an object"),
        ({"architectures": [7]}, "architectures in config of a/b must be a list of class names, got 7"),
        ({"architectures": ["x" * 500]}, r"unknown architecture 'xxx.*\.\.\. in field architectures"),
        ({"architectures": None, "model_type": None}, "missing field architectures in config of a/b"),
    ],
)
def test_the_message_names_the_field_and_what_is_allowed(changes: dict[str, Any], message: str) -> None:
    """Each kind of mistake on one real config."""
    document = json.loads((CONFIGS / "Qwen__Qwen3-8B.json").read_text()) | changes
    with pytest.raises(TokenmillError, match=message):
        ModelSpec.from_hf_config(document, model_id="a/b")


def test_more_experts_a_token_than_there_are_is_refused() -> None:
    """A token cannot pass through an expert twice."""
    document = json.loads((CONFIGS / "Qwen__Qwen3-30B-A3B.json").read_text())
    with pytest.raises(TokenmillError, match="num_experts_per_tok in .* at most the 128 experts, got 129"):
        ModelSpec.from_hf_config(document | {"num_experts_per_tok": 129}, model_id="a/b")


def test_something_that_is_no_object_is_refused() -> None:
    """A list has no fields."""
    with pytest.raises(TokenmillError, match="config of a/b must hold a JSON object, got a list of 1"):
        read_model([1], "config of a/b", "a/b")


@pytest.mark.parametrize(
    "content",
    ["[" * 100_000, '{"a": ' * 100_000, '{"vocab_size": ' + "9" * 5000 + "}"],
    ids=["lists", "objects", "digits"],
)
def test_a_file_that_json_gives_up_on_is_refused(tmp_path: Path, content: str) -> None:
    """Deep nesting and endless numbers end in a message, too."""
    path = tmp_path / "a__b.json"
    path.write_text(content)
    with pytest.raises(
        TokenmillError, match="nested too deep or holds a number of thousands of digits|is not JSON"
    ):
        ModelSpec.from_hf_config(path)


@example("*" * 199 + "b")
@example("re:" + "(a|b)*" * 30 + "c")
@given(st.text(alphabet="*.a(|)re:", max_size=200))
@settings(max_examples=200, deadline=None)
def test_a_hostile_pattern_does_not_stall(pattern: str) -> None:
    """A pattern of a config is never a regular expression that backtracks."""
    document = json.loads((CONFIGS / "Qwen__Qwen3-8B.json").read_text())
    quantization = {"quant_method": "fp8", "modules_to_not_convert": [pattern]}
    check(document | {"quantization_config": quantization})
