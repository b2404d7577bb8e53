"""Rows of measurements as GPU deployments, and a fit on rows that the formula made."""

from __future__ import annotations

import importlib
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support_gpu import COEFFICIENTS, FIRST_TOKEN, row
from tokenmill.core.errors import TokenmillError
from tokenmill.planner.performance.gpu import decode_ms, first_token_ms
from tokenmill.planner.performance.gpu_rows import ranks_of, row_deployment

ROOT = Path(__file__).resolve().parents[2]


def test_a_row_states_its_deployment() -> None:
    found = row_deployment(row())

    assert (found.engine, found.version, found.quantization) == ("vllm", "0.16.0", "fp8")
    assert (found.ranks, found.concurrency, found.input_tokens, found.speculative) == (2, 4, 1024, 0)


def test_a_row_without_version_lengths_or_format_has_defaults() -> None:
    found = row_deployment(
        row(software="TGI (DLC)", software_version="", input_tokens="", output_tokens="", quantization="")
        | {"weight_dtype": "not stated", "concurrency": "", "batch_size": "2", "notes": ""}
    )

    assert (found.engine, found.version, found.quantization) == ("tgi", "unstated", "bf16")
    assert (found.concurrency, found.input_tokens, found.output_tokens) == (2, 12, 256)


def test_nightly_builds_are_one_version_and_block_formats_are_their_base() -> None:
    found = row_deployment(row(software_version="nightly-5b8c", quantization="", weight_dtype="fp8_block"))

    assert (found.version, found.quantization) == ("nightly", "fp8")


@pytest.mark.parametrize(
    ("degree", "split", "spread", "ranks"),
    [
        ("8", "8", "1", (8, 8, 1)),
        ("8", "1", "8", (8, 8, 8)),
        ("64", "8", "8", (8, 8, 8)),
        ("4", "2", "2", (2, 2, 2)),
        ("1", "4", "1", (4, 1, 1)),
    ],
)
def test_gpus_of_a_mixture_are_counted_once(
    degree: str, split: str, spread: str, ranks: tuple[int, int, int]
) -> None:
    noted = row(tp_degree=degree, notes=f"attention_dp=1 moe_tp={split} moe_ep={spread}")

    assert ranks_of(noted, sparse=True) == ranks
    assert ranks_of(noted, sparse=False) == (int(degree), int(degree), 1)


@pytest.mark.parametrize(
    ("changed", "speculative"),
    [
        ({"software_version": "1.2.0rc6.post3"}, 1),
        ({"software_version": "1.2.0rc6.post2"}, 0),
        ({"software_version": "1.1.0rc2.post2"}, 1),
        ({"software_version": "1.1.0rc2.post2", "notes": "measured=2025-12-15"}, 0),
        ({"model": "Qwen3.5-397B-A17B", "software": "sglang", "software_version": "0.5.9"}, 1),
        (
            {"model": "Qwen3.5-397B-A17B", "software": "sglang", "software_version": "0.5.9"}
            | {"tp_degree": "8"},
            0,
        ),
    ],
)
def test_published_runs_with_multi_token_prediction_are_known(
    changed: dict[str, str], speculative: int
) -> None:
    stated = row(model="DeepSeek-R1", software="trtllm", tp_degree="4") | changed

    assert row_deployment(stated).speculative == speculative


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model": "none"}, "unknown model or GPU"),
        ({"accelerator": "H1"}, "unknown model or GPU"),
        ({"accelerator": "Inferentia2"}, "unknown model or GPU"),
        ({"tp_degree": ""}, "tp_degree and concurrency"),
        ({"concurrency": ""}, "tp_degree and concurrency"),
        ({"concurrency": "many"}, "'many' must be a positive number"),
        ({"tp_degree": "0"}, "'0' must be a positive number"),
    ],
)
def test_rows_without_their_inputs_are_refused(changed: dict[str, str], message: str) -> None:
    with pytest.raises(TokenmillError, match=message):
        row_deployment(row(**changed))


@pytest.fixture
def fitting(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("tools.fitting.gpu")


def made_rows() -> list[dict[str, str]]:
    """Rows that the formula made, with 5 % of noise that a configuration shares."""
    noise = np.random.default_rng(1)
    models = ("Llama-3.1-8B", "Llama-3.1-70B", "Qwen3-32B", "Qwen3-235B-A22B", "gpt-oss-120b")
    rows = []
    splits = itertools.product(models, ("H100", "H200", "B200"), ("2", "8"), ("vllm", "sglang"))
    for index, (name, chip, ranks, engine) in enumerate(splits):
        off = math.exp(noise.normal(0, 0.05))
        for load, concurrency in enumerate(("2", "8", "32")):
            one = row(id=f"{index} {load}", model=name, accelerator=chip, tp_degree=ranks, software=engine)
            one |= {"concurrency": concurrency, "fit_decode": "y" if concurrency != "32" else "n"}
            one["tpot_ms"] = str(decode_ms(row_deployment(one), COEFFICIENTS) * off)
            one["ttft_ms"] = str(first_token_ms(row_deployment(one), FIRST_TOKEN) * off)
            rows.append(one)
    return rows


def test_a_fit_finds_the_truth_again_and_its_intervals_hold(
    fitting: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = made_rows()
    unusable = [row(id="x", model="none"), row(id="y", quality="C"), row(id="z", accelerator="Trainium1")]
    rows = rows[:9] + unusable + rows
    monkeypatch.setattr(fitting, "FOLDS", 4)

    document = json.loads(json.dumps(fitting.fit(rows)))
    first_token = fitting.fit(rows, fitting.FIRST_TOKEN)

    assert (document["rows"], document["configurations"]) == (120, 60)
    left_out = document["cross_validation"]["configuration"]
    assert left_out["mape"] < 8
    assert 65 <= left_out["coverage80"] <= 95
    assert first_token["cross_validation"]["configuration"]["mape"] < 12
    assert document["interval"]["widening"]["architecture"] > 0
    assert document["domain"]["concurrency"] == [2, 8]
    assert document["latest"]["LlamaForCausalLM vllm"] == "0.16.0"
    assert all(factor > 0 for factor in document["terms"].values())
    assert "x: model 'none'" in capsys.readouterr().err
