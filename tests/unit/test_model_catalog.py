"""Models that are known without a file of the user's."""

from __future__ import annotations

import csv
import json
from importlib import resources

import pytest

from tokenmill.core._codec import decode, encode
from tokenmill.core.model_catalog import known_model, known_models, model_ids, shape_config
from tokenmill.core.model_spec import ModelSpec

ROWS = list(
    csv.DictReader(
        resources.files("tokenmill.core").joinpath("data", "model_shapes.csv").read_text("utf-8").splitlines()
    )
)
# billions stated by publishers or by the page that published a measurement, and their rounding
STATED = {
    # NVIDIA TensorRT-LLM, docs/source/performance.md: names
    "GPT-J-6B": (6, 0.01),
    "Falcon-180B": (180, 0.01),
    # Qwen3.5 model names; the text decoder of the 2B is 1.88, rounded up by its publisher
    "Qwen3.5-35B-A3B": (35, 0.01),
    "Qwen3.5-397B-A17B": (397, 0.01),
    "Qwen3.5-2B": (2, 0.06),
    # aws-neuron/neuronx-distributed-inference, contrib/models/Trinity/README.md; rounded to billions
    "Trinity-Nano": (6, 0.025),
    "Trinity-Mini": (26, 0.01),
    # public tables of exact Hub totals give 405,853,388,800
    "Llama-3.1-405B": (405.853, 0.001),
    # debaditc/kvfit@bd4ccab, scripts/build_registry.py; Kimi-K2.5 has the text layers of Kimi-K2
    "gpt-oss-120b": (116.829, 0.001),
    "Kimi-K2.5": (1026.4, 0.01),
    # deepseek-ai/DeepSeek-V3@0b39205, README_WEIGHTS.md: the main model
    "DeepSeek-V3": (671, 0.01),
    # pages that measured it
    "MiniMax-M2.5": (229, 0.01),
    # zai-org/GLM-5@1a977a8, README.md
    "GLM-5": (744, 0.01),
    # meta-llama/llama-models@038acb9, models/llama4/MODEL_CARD.md
    "Llama-4-Maverick": (400, 0.01),
}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row["model"]))
def test_every_shape_resolves_by_short_name_and_by_hub_name(row: dict[str, str]) -> None:
    """Both are the same model, whatever the case; every row says where it is from."""
    assert row["source"]
    model = known_model(row["model"])
    assert model is not None
    for name in (row["hf_id"], row["hf_id"].upper(), *row["also"].split()):
        found = known_model(name)
        assert found is not None
        assert (found.parameters, found.attention) == (model.parameters, model.attention)


@pytest.mark.parametrize(("name", "stated"), STATED.items())
def test_counted_totals_are_those_that_publishers_state(name: str, stated: tuple[float, float]) -> None:
    """Within 1 %, or within the rounding of a name."""
    model = known_model(name)
    assert model is not None
    assert model.parameters / 1e9 == pytest.approx(stated[0], rel=stated[1])


def test_trinity_large_is_counted_from_its_shape() -> None:
    """The page that gives its shape says about 250 billion; its own 256 experts of 3 x 3,072 x 3,072 in 54
    layers are 391 billion, and its 23.5 GB on each of 32 cores agree with the shape."""
    model = known_model("Trinity-Large")
    assert model is not None
    assert model.expert_parameters == 54 * 256 * 3 * 3072 * 3072
    assert model.weight_bytes / 32 == pytest.approx(23.5e9, rel=0.07)


def test_a_file_that_ships_comes_before_a_shape() -> None:
    """Qwen3-30B-A3B is a config.json of the library; the shape of that name is its 2507 release."""
    model = known_model("Qwen3-30B-A3B")
    assert model is not None
    assert (model.id, model.max_context_tokens) == ("Qwen/Qwen3-30B-A3B", 40960)
    later = known_model("Qwen/Qwen3-30B-A3B-Instruct-2507")
    assert later is not None
    assert later.max_context_tokens == 262144


def test_known_models_are_the_files_and_the_shapes() -> None:
    """Each of them is known."""
    names = known_models()
    assert set(model_ids()) < set(names)
    assert "meta-llama/Llama-2-13b-hf" in names
    assert all(known_model(name) is not None for name in names)


@pytest.mark.parametrize("name", ["gpt-oss-20b", "DeepSeek-V3", "Qwen3.5-35B-A3B"])
def test_a_model_in_a_document_comes_back(name: str) -> None:
    """Windows, latent vectors, constant states and projections survive a plan file."""
    model = known_model(name)
    assert decode(ModelSpec, json.loads(json.dumps(encode(model))), "plan") == model


def test_an_unknown_name_is_no_model() -> None:
    """None, not a guess."""
    assert known_model("Llama-2-14b") is None


def test_a_blank_column_is_an_absent_field() -> None:
    """A shape says only what its source says."""
    row = dict.fromkeys(ROWS[0], "") | {"architecture": "GPTJForCausalLM", "dtype": "float16", "layers": "2"}
    assert shape_config(row) == {
        "architectures": ["GPTJForCausalLM"],
        "torch_dtype": "float16",
        "num_hidden_layers": 2,
    }
