"""What a first user meets: models by name, classes that a server knows, and reasons that are true."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from support_planner import CHAT, CONFIGS, GOALS, INF2, TODAY, model
from tokenmill.core.errors import NoPlanError, TokenmillError
from tokenmill.core.images import image
from tokenmill.core.instances import instance_type
from tokenmill.core.model_catalog import check_reference, find_model, known_model, model_file
from tokenmill.core.model_fields import Fields
from tokenmill.core.model_spec import ModelSpec
from tokenmill.core.plan import input_hash
from tokenmill.core.settings import load_section, settings_from
from tokenmill.core.workload import Limits, Parallelism, Slo, Workload
from tokenmill.planner import plan, plan_for
from tokenmill.planner.memory import fullest_rank

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tokenmill.core.plan import Plan

    SettingsFile = Callable[..., Path]


def planned(spec: ModelSpec, **changes: Any) -> Plan:
    """Return the plan of a chat workload with parts replaced."""
    given: dict[str, Any] = {"workload": CHAT, "slo": GOALS, "region": "us-east-1", "today": TODAY} | changes
    return plan(model=spec, **given)


def config(name: str, **changes: object) -> dict[str, Any]:
    """Return a config.json of tests/data/hf_configs with fields replaced."""
    document: dict[str, Any] = json.loads((CONFIGS / f"{name}.json").read_text())
    return document | changes


def known(name: str) -> ModelSpec:
    """Return a model of the catalog."""
    found = known_model(name)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("reference", "name"),
    [("Qwen3-8B", "Qwen/Qwen3-8B"), ("llama-3.1-70b", "meta-llama/Llama-3.1-70B-Instruct")],
)
def test_a_plan_takes_every_name_of_the_catalog(
    settings_file: SettingsFile, reference: str, name: str
) -> None:
    """Short or whole, with a config.json that ships or known by its shape; the digest holds either."""
    path = settings_file(('"Qwen__Qwen3-8B.json"', f'"{reference}"'))
    section = load_section(path, "chat")
    made = plan_for(section, today=TODAY)
    assert made.model.id == name
    assert made.input_hash == section.input_hash


def test_a_name_that_is_nearly_right_finds_its_way_back(tmp_path: Path) -> None:
    """By the short names too."""
    with pytest.raises(TokenmillError, match="nearest in the catalog: meta-llama/Llama-3.1-8B-Instruct, "):
        find_model("Llama-3.1-9B", tmp_path)
    with pytest.raises(TokenmillError, match="nearest in the catalog: Qwen/Qwen3-8B"):
        check_reference("Qwen3-8", tmp_path)
    with pytest.raises(TokenmillError, match="known by its shape alone; give the path of its config.json"):
        model_file("Llama-3.1-70B", tmp_path)


def test_a_class_is_served_by_its_own_name_and_timed_by_its_family() -> None:
    """Phi-3 is counted as Mistral, but a server must know Phi-3."""
    phi = ModelSpec.from_hf_config(
        config("Qwen__Qwen3-8B", architectures=["Phi3ForCausalLM"]), model_id="microsoft/phi"
    )
    assert (phi.architecture, phi.served_class) == ("MistralForCausalLM", "Phi3ForCausalLM")
    assert model("Qwen__Qwen3-8B").served_class == "Qwen3ForCausalLM"
    assert "Phi3ForCausalLM" in image("lmi-vllm").architectures
    mimo = replace(model("Qwen__Qwen3-8B"), model_class="MiMoForCausalLM")
    refused = next(item for item in planned(mimo, limits=INF2).rejections if item.code == "architecture")
    assert refused.reason.startswith(
        "image hf-vllm-neuronx does not serve MiMoForCausalLM; it serves Granite"
    )


@pytest.mark.parametrize(
    "name",
    [
        "deepseek-ai__DeepSeek-V3",
        "deepseek-ai__DeepSeek-V3.2",
        "google__gemma-4-26B-A4B",
        "meta-llama__Llama-4-Scout-17B-16E-Instruct",
    ],
)
def test_what_vllm_serves_is_planned_on_gpus(name: str) -> None:
    """The registry of vLLM's releases is the source, not the models that were measured."""
    made = planned(model(name), slo=Slo(ttft_ms=3000, itl_ms=100))
    assert made.chosen.image == "lmi-vllm"


def test_a_class_that_no_image_serves_says_so() -> None:
    """No pattern of instance types would help, so none is advised."""
    made = planned(known("MiniMax-M3"))
    with pytest.raises(
        NoPlanError, match=r"no serving image in the catalog runs MiniMaxM3.*nearest that one runs: MiniMax"
    ) as caught:
        _ = made.chosen
    assert "limits.instances" not in str(caught.value)
    gpu = next(item for item in made.rejections if item.instance_type == "ml.p5.48xlarge")
    assert "of 69 classes that it serves the nearest are MiniMax" in gpu.reason


def test_heads_that_stand_in_the_way_are_not_called_a_lack_of_memory() -> None:
    """The whole instance would hold it, but 36 heads cannot be divided by 24 cores, and fewer are too few."""
    odd = replace(model("meta-llama__Meta-Llama-3.1-70B"), attention_heads=36, kv_heads=4)
    tight = planned(
        replace(odd, layers=7),
        limits=Limits(instances=("ml.inf2.48xlarge",)),
        slo=Slo(ttft_ms=9e5, itl_ms=9e4),
    )
    with pytest.raises(NoPlanError, match=r"fits in none of the ways that it can be split; nearest: ml.inf2"):
        _ = tight.chosen


def test_a_conversion_that_nothing_does_is_the_nearest_miss() -> None:
    """Not the host memory of the smallest type."""
    made = planned(known("Llama-3.1-70B"), limits=Limits(quantizations=("int4",)))
    with pytest.raises(NoPlanError, match=r"does not convert weights to int4.*put as-published into"):
        _ = made.chosen


def test_copies_that_are_asked_for_are_not_blamed_on_the_rate() -> None:
    """300 copies on types of one chip are more than 100 instances, at any rate."""
    only = Limits(instances=("ml.g6e.xlarge",), min_copies=300)
    slow = planned(model("Qwen__Qwen3-8B"), limits=only)
    with pytest.raises(
        NoPlanError, match=r"needs 300 instances for min_copies 300, .* lower limits.min_copies"
    ):
        _ = slow.chosen


def test_answers_of_one_token_have_no_gap_to_meet() -> None:
    """A classifier is sized by its first token alone, and says so."""
    one = Workload(requests_per_second=5, input_tokens=1000, output_tokens=1)
    made = planned(model("Qwen__Qwen3-8B"), workload=one, limits=Limits(instances=("ml.g5.xlarge",)))
    assert made.chosen.instances < 10
    assert any(note.startswith("answers of one token have no gap") for note in made.chosen.notes)
    assert not any("inter-token latency" in note for note in made.chosen.notes)


def test_a_compiled_batch_is_no_larger_than_the_traffic_may_grow_to() -> None:
    """One request in a hundred seconds runs alone, and a step of one is many times faster than one of 64."""
    seldom = Workload(requests_per_second=0.01, input_tokens=512, output_tokens=256)
    small = model("Qwen__Qwen3-0.6B")
    alone = planned(small, workload=seldom, limits=Limits(instances=("ml.inf2.xlarge",))).chosen
    assert alone.max_sequences == 1
    assert alone.itl_ms < 15
    busy = planned(small, limits=Limits(instances=("ml.inf2.xlarge",))).chosen
    assert busy.max_sequences > 8
    paged = planned(small, workload=seldom, limits=Limits(instances=("ml.g6.2xlarge",))).chosen
    assert paged.max_sequences > 100


def test_a_config_with_infinity_has_a_digest(tmp_path: Path) -> None:
    """Mamba models hold time_step_limit = [0.0, Infinity], which JSON has no number for."""
    digests = {
        input_hash(
            model_id="a/b",
            model_config={"limits": [0.0, {"most": value}]},
            workload=CHAT,
            slo=GOALS,
            region="us-east-1",
            limits=INF2,
            backend="sagemaker",
        )
        for value in (math.inf, -math.inf, math.nan, 1.0)
    }
    assert len(digests) == 4
    (tmp_path / "Qwen__Q.json").write_text(
        json.dumps(config("Qwen__Qwen3-8B", time_step_limit=[0.0, math.inf]))
    )
    given = {
        "model": "Qwen__Q.json",
        "region": "us-east-1",
        "traffic": {"requests_per_second": 1, "input_tokens": 10, "output_tokens": 10},
        "slo": {"ttft_ms": 2000, "itl_ms": 60},
    }
    section = settings_from("chat", tmp_path / "tokenmill.toml", given)
    assert plan_for(section, today=TODAY).input_hash == section.input_hash


def test_files_with_a_byte_order_mark_are_read(settings_file: SettingsFile) -> None:
    """As editors on Windows write them."""
    path = settings_file()
    for file in (path, path.parent / "Qwen__Qwen3-8B.json"):
        file.write_text(file.read_text(), encoding="utf-8-sig")
    assert load_section(path, "chat").found_model[0].id == "Qwen/Qwen3-8B"


def test_fails_for_settings_that_are_a_folder(tmp_path: Path) -> None:
    """With the way out."""
    with pytest.raises(TokenmillError, match="is a folder; name the TOML file in it"):
        load_section(tmp_path, "chat")


def test_fails_for_architectures_that_are_a_text() -> None:
    """The class is known, so that naming it as the nearest would help nobody."""
    with pytest.raises(
        TokenmillError, match="architectures in .* must be a list of class names, got 'Qwen3For"
    ):
        ModelSpec.from_hf_config(config("Qwen__Qwen3-8B", architectures="Qwen3ForCausalLM"), model_id="a/b")


def test_a_number_that_is_needed_is_missed_by_name() -> None:
    """With every name that it may have."""
    with pytest.raises(TokenmillError, match="missing field n_layer in config of a/b"):
        Fields({}, "config of a/b", {}).number("n_layer")


@pytest.mark.parametrize("value", [1.5, math.nan, "3", None, True])
@pytest.mark.parametrize("name", ["sequences", "context_tokens"])
def test_memory_is_asked_for_whole_sequences_and_tokens(name: str, value: Any) -> None:
    """Anything else is refused by name."""
    chip = instance_type("ml.inf2.48xlarge").accelerator
    given = {"sequences": 1, "context_tokens": 4096, name: value}
    with pytest.raises(TokenmillError, match=f"^{name} must be a whole number, got "):
        fullest_rank(model("Qwen__Qwen3-8B"), chip, Parallelism(tensor=8), **given)
