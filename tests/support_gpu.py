"""A made-up fit of GPUs, deployments and rows, for tests."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from tokenmill.core.instances import accelerator_catalog
from tokenmill.core.model_catalog import known_model
from tokenmill.planner.performance.gpu import EFFECTS, FIRST_TOKEN_TERMS, STALL_TERMS, STEP_TERMS
from tokenmill.planner.performance.gpu_columns import GpuDeployment, GpuLoad, GpuSplit, gpu_deployment

if TYPE_CHECKING:
    from tokenmill.core.model_spec import ModelSpec

MODELS = ("meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen3-235B-A22B", "openai/gpt-oss-120b")
FACTORS = dict(zip(STEP_TERMS + STALL_TERMS, itertools.cycle((1.0, 1.3, 0.7)), strict=False))
COEFFICIENTS: dict[str, Any] = {
    "terms": FACTORS,
    "effects": dict.fromkeys(EFFECTS, {})
    | {
        "speculative": {"yes": -0.5},
        "engine": {"vllm": 0.1, "sglang": 0.2},
        "quantization": {"fp8": 0.05},
        "quantization chip": {"bf16 H100": 0.1, "fp8 H100": -0.1, "bf16 H200": 0.0},
        "architecture": {"LlamaForCausalLM": 0.2, "Qwen3MoeForCausalLM": 0.1},
        "architecture engine": {"LlamaForCausalLM vllm": 0.1},
        "architecture engine version": {"LlamaForCausalLM vllm 2.0": -0.3, "LlamaForCausalLM vllm 1.0": 0.3},
    },
    "engine chips": ["vllm H100", "sglang H100", "vllm B200"],
    "latest": {"LlamaForCausalLM vllm": "2.0"},
    "domain": {"concurrency": [1, 8], "ranks": [1, 8]},
    "interval": {
        "half_width": 0.1,
        "widening": {
            "architecture": 0.3,
            "engine": 0.2,
            "quantization chip": 0.2,
            "architecture engine": 0.2,
            "architecture engine version": 0.1,
            "concurrency": 0.25,
            "ranks": 0.25,
        },
    },
}

FIRST_TOKEN = COEFFICIENTS | {"terms": dict.fromkeys(FIRST_TOKEN_TERMS, 1.0)}


def model(name: str) -> ModelSpec:
    found = known_model(name)
    assert found is not None
    return found


def deployment(
    name: str = MODELS[0],
    chip: str = "H100",
    split: GpuSplit | None = None,
    load: tuple[float, int, int] = (4, 1024, 1024),
) -> GpuDeployment:
    concurrency, prompt, answer = load
    requests = GpuLoad(concurrency=concurrency, input_tokens=prompt, output_tokens=answer)
    return gpu_deployment(model(name), accelerator_catalog()[chip], split or GpuSplit(), requests)


def row(**changed: str) -> dict[str, str]:
    plain = {
        "id": "1",
        "model": "Llama-3.1-8B",
        "hf_id": "",
        "accelerator": "H100",
        "tp_degree": "2",
        "concurrency": "4",
        "batch_size": "",
        "input_tokens": "1024",
        "output_tokens": "256",
        "quantization": "fp8",
        "weight_dtype": "fp8",
        "software": "vLLM",
        "software_version": "vLLM 0.16.0",
        "notes": "attention_dp=1 moe_tp=1 moe_ep=1; measured=2026-01-14",
        "quality": "B",
        "fit_decode": "y",
        "tpot_ms": "5.0",
        "ttft_ms": "100.0",
        "source": "made for this test: no measurement",
    }
    return plain | changed
