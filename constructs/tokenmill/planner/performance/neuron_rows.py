"""Rows of published measurements as NeuronCore deployments."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from tokenmill.core.errors import TokenmillError
from tokenmill.core.instances import accelerator_catalog
from tokenmill.core.model_catalog import known_model
from tokenmill.planner.performance.neuron_columns import (
    NXDI,
    SERVED_SOFTWARE,
    Compilation,
    NeuronDeployment,
    Prompts,
    neuron_deployment,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

SMALLEST_BUCKET = 128
SETTLED_RELEASE = 15
"""Neuron SDK 2.15 is the first after a two-fold speed-up of the same models from 2.10 to 2.14 (release
pages)."""
TRANSFORMERS = "transformers-neuronx"
CONTINUOUS = "transformers-neuronx via optimum-neuron"


def row_deployment(row: Mapping[str, str]) -> NeuronDeployment:
    """Return the deployment that a row of measurements.csv stands for.

    Args:
        row: Texts by column; empty for an absent field.

    Raises:
        TokenmillError: Unknown model or chip, or no degree, batch or sequence length.
    """
    accelerator = accelerator_catalog().get(row["accelerator"])
    model = known_model(row["model"]) or known_model(row["hf_id"])
    if accelerator is None or accelerator.kind != "neuron":
        raise TokenmillError(f"unknown NeuronCore chip {row['accelerator']!r}")
    if model is None:
        raise TokenmillError(f"unknown model {row['model']!r}")
    missing = [name for name in ("tp_degree", "batch_size", "max_seq_len") if not row[name]]
    if missing:
        raise TokenmillError(f"a row on NeuronCores needs {', '.join(missing)}")
    software = software_of(row["software"])
    compiled = Compilation(
        tensor=_whole(row, "tp_degree"),
        sequences=_whole(row, "batch_size"),
        context_tokens=_whole(row, "max_seq_len"),
        software=software,
        release=release_of(row["software_version"]) if software == TRANSFORMERS else "",
        quantization="fp8" if "fp8" in row["quantization"] else None,
    )
    return neuron_deployment(model, accelerator, compiled, prompts_of(row, compiled))


def software_of(text: str) -> str:
    """Return the name under which effects are kept.

    Args:
        text: Software of a row, such as "vLLM + NxDI".
    """
    if text == CONTINUOUS or text.startswith(TRANSFORMERS):
        return CONTINUOUS if "optimum" in text else TRANSFORMERS
    if "optimum-neuron" in text:
        return SERVED_SOFTWARE
    return NXDI if NXDI in text else text


def release_of(text: str) -> str:
    """Return the Neuron SDK release of a row where it is older than the settled ones; else an empty text.

    Args:
        text: Version of a row, such as "Neuron SDK 2.14.0".
    """
    found = re.search(r"SDK 2\.(\d+)", text)
    return f"2.{found[1]}" if found and int(found[1]) < SETTLED_RELEASE else ""


def prompts_of(row: Mapping[str, str], compiled: Compilation) -> Prompts:
    """Return what is prefilled before the first token that a row measured.

    optimum-neuron's NxD backend compiles one prompt length, the whole sequence; under transformers-neuronx it
    did so wherever sequences are batched, and prompts were otherwise padded to a power of two. A static batch
    of N costs N prefills there; in the benchmarks of the SDK itself it is one prefill of N prompts; a server
    that is asked one request at a time prefills one.

    Args:
        row: Texts by column.
        compiled: What the row was compiled for.
    """
    batch, context = compiled.sequences, compiled.context_tokens
    if row["software"].startswith("vLLM"):
        return Prompts(calls=1, prompts=1, tokens=context)
    if compiled.software == SERVED_SOFTWARE or (compiled.software == CONTINUOUS and batch > 1):
        return Prompts(calls=batch, prompts=1, tokens=context)
    tokens = _whole(row, "input_tokens") if row["input_tokens"] else SMALLEST_BUCKET
    bucket = max(SMALLEST_BUCKET, 2 ** math.ceil(math.log2(max(1, tokens))))
    if "single" in row["notes"] and "bucket" in row["notes"]:
        bucket = context
    return Prompts(calls=1, prompts=batch, tokens=bucket)


def _whole(row: Mapping[str, str], name: str) -> int:
    try:
        number = float(row[name])
    except ValueError:
        number = math.nan
    if not number.is_integer():
        raise TokenmillError(f"{name} {row[name]!r} is not a whole number")
    return int(number)
