"""LoRA adapters are as large as their ranks and targets say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tokenmill.core.errors import TokenmillError
from tokenmill.core.lora import lora_bytes, lora_parameters
from tokenmill.core.model_catalog import known_model

if TYPE_CHECKING:
    from tokenmill.core.model_spec import ModelSpec


def model(name: str = "Llama-3.1-8B") -> ModelSpec:
    """Return a known model."""
    found = known_model(name)
    assert found is not None
    return found


def test_an_adapter_has_its_rank_times_both_sides_of_every_target() -> None:
    """By hand for Llama-3.1-8B: 32 layers, width 4,096, keys and values 1,024 wide. Logs of PEFT in public
    code print the same (8,033,669,120 parameters with the first, 8,030,261,248 without)."""
    square, narrow = 4096 + 4096, 4096 + 1024
    first = lora_parameters(model(), rank=8, targets=("q_proj", "v_proj"))
    assert first == 32 * 8 * (square + narrow) == 3_407_872
    assert model().parameters + first == 8_033_669_120
    assert lora_parameters(model(), rank=16) == 32 * 16 * 2 * (square + narrow) == 13_631_488


def test_bytes_follow_the_type_of_the_adapter() -> None:
    """That of the model unless another is given."""
    assert lora_bytes(model(), rank=16) == 2 * 13_631_488
    assert lora_bytes(model(), rank=16, dtype="float32") == 4 * 13_631_488


def test_every_expert_has_its_own_adapter() -> None:
    """Qwen3-30B-A3B: 48 layers of 128 experts; the router is never a target."""
    size = lora_parameters(model("Qwen3-30B-A3B"), rank=4, targets=["gate_proj"])
    assert size == 4 * (2048 + 768) * 48 * 128


@pytest.mark.parametrize("rank", [0, -1, 4097, 1.5, True])
def test_fails_for_a_rank_out_of_bounds(rank: int) -> None:
    """The message has the bounds."""
    with pytest.raises(TokenmillError, match="rank must be a whole number from 1 to 4096, got"):
        lora_parameters(model(), rank=rank)


def test_fails_for_targets_that_the_model_does_not_have() -> None:
    """Latent attention has other projections; the message lists them."""
    with pytest.raises(
        TokenmillError, match="does not have k_proj, q_proj, v_proj; lora targets are .*q_a_proj"
    ):
        lora_parameters(model("DeepSeek-V3"), rank=8)
    with pytest.raises(TokenmillError, match="needs at least one target"):
        lora_parameters(model(), rank=8, targets=())
    with pytest.raises(TokenmillError, match="dtype 'int3' is not one of bfloat16"):
        lora_bytes(model(), rank=8, dtype="int3")
