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


def test_an_adapter_of_llama_8b_is_as_large_as_peft_prints() -> None:
    """Rank 8 on queries and values: 3,407,872 trainable parameters; rank 16 on all four: 13,631,488
    (PEFT's print_trainable_parameters for Llama-3-8B)."""
    assert lora_parameters(model(), rank=8, targets=("q_proj", "v_proj")) == 3_407_872
    assert lora_parameters(model(), rank=16) == 13_631_488


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
