"""Adapters, the room they take, instance types that no catalog knows, and images on chips."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from support_planner import model
from tokenmill.core.errors import TokenmillError
from tokenmill.core.images import image, startable_image
from tokenmill.core.instances import UnlistedInstance
from tokenmill.core.lora import Adapter, slot_bytes_per_core
from tokenmill.core.workload import Parallelism

if TYPE_CHECKING:
    from pathlib import Path

ARTIFACT = "s3://bucket/adapters/support.tar.gz"
PEFT = {
    "peft_type": "LORA",
    "base_model_name_or_path": "Qwen/Qwen3-8B",
    "r": 16,
    "rank_pattern": {},
    "target_modules": ["q_proj", "v_proj"],
    "modules_to_save": None,
    "use_dora": False,
}


def adapter(**changes: Any) -> Adapter:
    fields: dict[str, Any] = {
        "name": "support",
        "base_model": "Qwen/Qwen3-8B",
        "rank": 16,
        "artifact": ARTIFACT,
    }
    return Adapter(**{**fields, **changes})


def saved(folder: Path, **changes: Any) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({**PEFT, **changes}))
    return folder


def test_an_adapter_is_read_from_the_folder_that_peft_saved(tmp_path: Path) -> None:
    """Its name is the folder's unless one is given."""
    folder = saved(tmp_path / "support")
    read = Adapter.from_folder(folder, artifact=ARTIFACT)
    assert read == adapter(target_modules=("q_proj", "v_proj"))
    assert Adapter.from_folder(str(folder), artifact=ARTIFACT, name="other").name == "other"


def test_the_rank_is_the_largest_of_any_layer(tmp_path: Path) -> None:
    """Room is kept for one rank."""
    assert (
        Adapter.from_folder(saved(tmp_path / "a", rank_pattern={"v_proj": 64}), artifact=ARTIFACT).rank == 64
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, "has peft_type 'IA3'; only LORA can be served"),
        ({"use_dora": True}, "has use_dora, which vLLM does not serve in an adapter"),
        ({"modules_to_save": ["lm_head"]}, "has modules_to_save, which vLLM does not serve in an adapter"),
        ({"target_modules": "all-linear"}, "has target_modules 'all-linear'; name the projections as a list"),
        ({"target_modules": [1]}, r"has target_modules \[1\]; name the projections as a list"),
        ({"target_modules": []}, "adapter a changes nothing; give target_modules"),
        ({"r": "16"}, "has a rank of '16'; r and rank_pattern must hold whole numbers"),
        ({"rank_pattern": 8.0}, "has a rank of 8.0"),
        ({"base_model_name_or_path": None}, "base_model is empty"),
    ],
)
def test_fails_for_a_config_that_cannot_be_served(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    """The file and the field are named."""
    with pytest.raises(TokenmillError, match=message):
        Adapter.from_folder(saved(tmp_path / "a", **changes), artifact=ARTIFACT)


def test_fails_for_a_folder_without_an_adapter(tmp_path: Path) -> None:
    """A missing file, and one that is no JSON object."""
    with pytest.raises(TokenmillError, match=r"adapter_config.json does not exist; name the folder"):
        Adapter.from_folder(tmp_path, artifact=ARTIFACT)
    for text in ("[]", "{"):
        (tmp_path / "adapter_config.json").write_text(text)
        with pytest.raises(TokenmillError, match="holds no JSON object"):
            Adapter.from_folder(tmp_path, artifact=ARTIFACT)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "-a"}, "name must be at most 40 letters, digits and hyphens between them, got '-a'"),
        ({"name": "a" * 41}, "name must be at most 40 letters"),
        ({"base_model": " "}, "base_model is empty; give the model that the adapter was trained on"),
        ({"rank": 0}, "rank of adapter support is 0, but vLLM serves 1 to 512; train it with a smaller one"),
        ({"rank": 513}, "rank of adapter support is 513"),
        ({"target_modules": ()}, "adapter support changes nothing"),
        (
            {"artifact": "s3://bucket/adapters/"},
            "artifact of adapter support must be an S3 URI of one archive without *, ? or $, such as "
            "'s3://bucket/adapters/support.tar.gz', got 's3://bucket/adapters/'; pack the adapter's folder "
            "with: tar -czf support.tar.gz -C FOLDER .",
        ),
        ({"artifact": f"s3://bucket/{'a' * 1024}.tar.gz"}, "artifact of adapter support must be an S3 URI"),
    ],
)
def test_fails_for_an_adapter_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    """With the value and the way out."""
    with pytest.raises(TokenmillError) as caught:
        adapter(**changes)
    assert str(caught.value).startswith(message)


def test_a_slot_holds_both_matrices_of_every_projection() -> None:
    """By hand for Qwen3-8B at rank 16: 36 layers, width 4,096, keys and values 1,024, feed-forward 12,288,
    and the output of 151,936."""
    spec = model("Qwen__Qwen3-8B")
    attention = (4096 + 4096) + 2 * (4096 + 1024) + (4096 + 4096)
    feed_forward = 2 * (4096 + 12_288) + (12_288 + 4096)
    output = 4096 + 151_936
    alone = slot_bytes_per_core(spec, slots=1, rank=16, parallelism=Parallelism(tensor=1))
    assert alone == 2 * 16 * (36 * (attention + feed_forward) + output)
    assert slot_bytes_per_core(spec, slots=3, rank=16, parallelism=Parallelism(tensor=1)) == 3 * alone


def test_cores_share_one_side_of_a_slot_alone() -> None:
    """What a projection is not cut along is whole on each core."""
    spec = model("Qwen__Qwen3-8B")
    attention = (4096 + 4096 / 4) + 2 * (4096 + 1024 / 4) + (4096 / 4 + 4096)
    feed_forward = 2 * (4096 + 12_288 / 4) + (12_288 / 4 + 4096)
    quarter = slot_bytes_per_core(spec, slots=1, rank=16, parallelism=Parallelism(tensor=4))
    assert quarter == 2 * 16 * (36 * (attention + feed_forward) + 4096 + 151_936)
    staged = slot_bytes_per_core(spec, slots=1, rank=16, parallelism=Parallelism(tensor=4, pipeline=2))
    assert staged == 2 * 16 * (18 * (attention + feed_forward) + 4096 + 151_936)


def test_a_router_has_no_room_for_an_adapter() -> None:
    """Every expert has."""
    spec = model("Qwen__Qwen3-30B-A3B")
    bare = replace(spec, projections=tuple(item for item in spec.projections if item.part != "router"))
    alone = Parallelism(tensor=1)
    assert slot_bytes_per_core(spec, slots=1, rank=8, parallelism=alone) == slot_bytes_per_core(
        bare, slots=1, rank=8, parallelism=alone
    )


def test_an_unlisted_instance_type_is_what_the_caller_says() -> None:
    """Its chip's facts are the catalog's; its price is not known."""
    made = UnlistedInstance(accelerator="H100", chips=2, vcpu=48, host_memory_gib=512).named("ml.p5.12xlarge")
    assert (made.family, made.cores, made.accelerator_memory_gib, made.prices) == ("p5", 2, 160, {})
    assert (made.hosted, made.local_nvme, made.source) == (True, False, "given in place of the catalog")


def test_fails_for_an_unlisted_instance_type_that_cannot_be() -> None:
    """An unknown chip, no chips, and a name of another service."""
    fields: dict[str, Any] = {"accelerator": "H100", "chips": 2, "vcpu": 48, "host_memory_gib": 512}
    with pytest.raises(TokenmillError, match="unknown accelerator 'H900'; known: Inferentia2, "):
        UnlistedInstance(**{**fields, "accelerator": "H900"})
    with pytest.raises(TokenmillError, match="chips must be above 0, got 0"):
        UnlistedInstance(**{**fields, "chips": 0})
    with pytest.raises(TokenmillError, match="'p5.12xlarge' has not the form of a hosting name"):
        UnlistedInstance(**fields).named("p5.12xlarge")


def test_an_image_that_cannot_start_gives_way_to_the_one_built_from_it() -> None:
    """A refused pairing stays refused."""
    assert startable_image(image("aws-vllm-neuronx"), "Trainium2").key == "tokenmill-vllm-neuronx"
    refused = startable_image(image("aws-vllm-neuronx"), "Inferentia2")
    assert (refused.key, refused.status, refused.servable) == ("aws-vllm-neuronx", "refused", False)
    assert startable_image(image("lmi-vllm"), "L4").key == "lmi-vllm"
    assert [image(key).in_own_registry for key in ("tokenmill-vllm-neuronx", "lmi-vllm")] == [True, False]
