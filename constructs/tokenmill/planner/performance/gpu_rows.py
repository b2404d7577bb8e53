"""Rows of published measurements as GPU deployments."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tokenmill.core.errors import TokenmillError
from tokenmill.core.instances import accelerator_catalog
from tokenmill.core.model_catalog import known_model
from tokenmill.planner.performance.gpu_columns import (
    QUANTIZATIONS,
    GpuDeployment,
    GpuLoad,
    GpuSplit,
    gpu_deployment,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

UNSTATED = "unstated"
"""Version of an engine where the source names none."""
DEFAULT_PROMPT = "12"
DEFAULT_ANSWER = "256"
SPECULATIVE_BUILDS = (
    ("DeepseekV3ForCausalLM", "trtllm", "1.2.0rc6.post3", "", None),
    ("DeepseekV3ForCausalLM", "trtllm", "1.1.0rc2.post2", "2026-01", None),
    ("Qwen3_5MoeForConditionalGeneration", "sglang", "0.5.9", "", ("fp8", 4, 1)),
)
"""Published runs with multi-token prediction that the rows do not mark: architecture, engine, version, first
month, and weight format, GPUs and expert GPUs where only one split ran so.
SemiAnalysisAI/InferenceX: perf-changelog.yaml, pull requests 392 (TensorRT-LLM with MTP), 632 and 642 (moved
to 1.2.0rc6.post3, while 594 and 620 moved the plain runs to 1.2.0rc6.post2), 898 (Qwen3.5 FP8 on SGLang)."""


def row_deployment(row: Mapping[str, str]) -> GpuDeployment:
    """Return the deployment that a row of measurements.csv stands for.

    A row without prompt or answer length is taken as a short prompt and an answer of 256 tokens.

    Args:
        row: Texts by column; empty for an absent field.

    Raises:
        TokenmillError: Unknown model, chip or weight format, or no degree or load.
    """
    accelerator = accelerator_catalog().get(row["accelerator"])
    model = known_model(row["model"]) or known_model(row["hf_id"])
    if accelerator is None or accelerator.kind != "gpu" or model is None:
        raise TokenmillError(f"model {row['model']!r} on {row['accelerator']!r}: unknown model or GPU")
    concurrency = row["concurrency"] or row["batch_size"]
    if not row["tp_degree"] or not concurrency:
        raise TokenmillError("a row needs tp_degree and concurrency or batch_size")
    ranks, attention, experts = ranks_of(row, sparse=model.experts > 0)
    engine = "tgi" if "TGI" in row["software"] else row["software"].casefold()
    version = version_of(row["software_version"])
    quantization = quantization_of(row)
    layout = (QUANTIZATIONS[quantization], ranks, experts)
    split = GpuSplit(
        ranks=ranks,
        attention_ranks=attention,
        expert_ranks=experts,
        quantization=quantization,
        engine=engine,
        version=version,
        speculative=is_speculative((model.architecture, engine, version), _note(row, "measured"), layout),
    )
    load = GpuLoad(
        concurrency=_number(concurrency),
        input_tokens=round(_number(row["input_tokens"] or DEFAULT_PROMPT)),
        output_tokens=round(_number(row["output_tokens"] or DEFAULT_ANSWER)),
    )
    return gpu_deployment(model, accelerator, split, load)


def ranks_of(row: Mapping[str, str], *, sparse: bool) -> tuple[int, int, int]:
    """Return the GPUs of the copy, those that share attention, and those that experts are spread over.

    ai-dynamo/aiconfigurator: silicon_sample.csv writes moe_tp and moe_ep into the notes. Where both are the
    same number, the degree was counted twice and tp_degree is its square: the same runs stand elsewhere in
    the file with moe_tp 1. Where tp_degree is less than their product, attention is replicated.

    Args:
        row: Texts by column.
        sparse: Whether the model has routed experts.
    """
    degree = round(_number(row["tp_degree"]))
    split, spread = (round(_number(_note(row, name) or "1")) for name in ("moe_tp", "moe_ep"))
    if not sparse:
        return degree, degree, 1
    if split == spread > 1 and degree == split * spread:
        return split, split, split
    ranks = max(degree, split * spread)
    return ranks, degree, spread


def version_of(text: str) -> str:
    """Return the version of an engine as effects are named: nightly builds are one level.

    Args:
        text: As the source states it, such as "vLLM 0.16.0".
    """
    version = text.split(" ")[-1]
    return "nightly" if version.startswith("nightly") else version or UNSTATED


def quantization_of(row: Mapping[str, str]) -> str:
    """Return the weight format of a row; one that states none ran 16-bit weights.

    Args:
        row: Texts by column.
    """
    for text in (row["quantization"], row["weight_dtype"].partition("_")[0]):
        if text in QUANTIZATIONS and text:
            return text
    return "bf16"


def is_speculative(build: tuple[str, str, str], measured: str, layout: tuple[str, int, int]) -> bool:
    """Return whether a published run used multi-token prediction.

    Args:
        build: Architecture, engine and its version.
        measured: Day of the measurement, as YYYY-MM-DD; empty where the source names none.
        layout: Weight format, GPUs and expert GPUs.
    """
    return any(
        build == tuple(known) and measured >= since and only in (None, layout)
        for *known, since, only in SPECULATIVE_BUILDS
    )


def _number(text: str) -> float:
    if not re.fullmatch(r"\d+(\.\d*)?", text) or float(text) == 0:
        raise TokenmillError(f"{text!r} must be a positive number")
    return float(text)


def _note(row: Mapping[str, str], name: str) -> str:
    found = re.search(rf"\b{name}=([^;\s]+)", row["notes"])
    return found[1] if found else ""
