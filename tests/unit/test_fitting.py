"""Fits: they find known factors again, never see what they are tested on, and give the numbers that ship."""

from __future__ import annotations

import dataclasses
import gzip
import importlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from support_timing import FOLDER, NEURON_ROW, ROOT, published, write_csv
from tokenmill.core.coefficients import coefficients
from tokenmill.core.errors import TokenmillError
from tokenmill.planner.performance.fitted import stack
from tokenmill.planner.performance.neuron import decode_ms, prefill_ms
from tokenmill.planner.performance.neuron_columns import TEXTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

GPU_MODELS = ("Llama-3.1-8B", "Llama-3.1-70B", "Qwen3-235B-A22B")
TERMS = {"base": 1.0, "size": 1.0}
RIDGE = {"kind": 0.5}


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The fitting modules by name; tools/ is no package of the wheel."""
    monkeypatch.syspath_prepend(str(ROOT))

    class Modules:
        crossval = importlib.import_module("tools.fitting.crossval")
        minimise = importlib.import_module("tools.fitting.minimise")
        neuron = importlib.import_module("tools.fitting.neuron")
        fit_timing = importlib.import_module("tools.fit_timing")

    return Modules


def synthetic(count: int = 120) -> tuple[dict[str, Any], list[dict[str, str]], Any]:
    """Times of 3 + 0.5 size, a fifth longer for one kind of three."""
    sizes = np.random.default_rng(1).uniform(1, 50, count)
    kinds = ["abc"[number % 3] for number in range(count)]
    effect = np.array([1.2 if kind == "c" else 1.0 for kind in kinds])
    terms = {"base": np.ones(count), "size": sizes}
    return terms, [{"kind": kind} for kind in kinds], (3 + 0.5 * sizes) * effect


def test_known_factors_and_effects_are_found_again(tools: Any) -> None:
    terms, levels, measured = synthetic()
    recipe = tools.minimise.Recipe(TERMS, 0.01, RIDGE)

    found = tools.minimise.fitted(terms, levels, measured, np.ones(120), recipe)

    effects = found["effects"]["kind"]
    assert effects["c"] - effects["a"] == pytest.approx(np.log(1.2), rel=0.02)
    scale = np.exp(effects["a"])
    assert found["terms"]["base"] * scale == pytest.approx(3, rel=0.02)
    assert found["terms"]["size"] * scale == pytest.approx(0.5, rel=0.02)


def test_a_tenth_of_wild_rows_hardly_moves_the_factors(tools: Any) -> None:
    terms, levels, measured = synthetic()
    wild = measured.copy()
    wild[::10] *= 5
    recipe = tools.minimise.Recipe(TERMS, 0.01, RIDGE)

    plain, spoiled = (
        tools.minimise.fitted(terms, levels, times, np.ones(120), recipe) for times in (measured, wild)
    )

    for name in TERMS:
        assert spoiled["terms"][name] == pytest.approx(plain["terms"][name], rel=0.1)


def test_a_ridge_holds_effects_at_zero_and_a_strength_holds_factors_at_their_priors(tools: Any) -> None:
    terms, levels, measured = synthetic()
    stiff = tools.minimise.Recipe(TERMS, 1e9, {"kind": 1e9})

    found = tools.minimise.fitted(terms, levels, measured, np.ones(120), stiff)

    assert found["terms"] == pytest.approx(TERMS)
    assert all(abs(value) < 1e-3 for value in found["effects"]["kind"].values())


def test_an_empty_level_has_no_effect(tools: Any) -> None:
    terms, levels, measured = synthetic()
    levels[0]["kind"] = ""
    recipe = tools.minimise.Recipe(TERMS, 0.01, RIDGE)
    found = tools.minimise.fitted(terms, levels, measured, np.ones(120), recipe)
    assert set(found["effects"]["kind"]) == {"a", "b", "c"}


def samples_of(tools: Any, values: Sequence[float], groups: Sequence[str]) -> list[Any]:
    return [
        tools.crossval.Sample(
            id=str(number),
            deployment=value,
            levels={},
            configuration=group,
            model="",
            source="",
            measured_ms=value,
        )
        for number, (value, group) in enumerate(zip(values, groups, strict=True))
    ]


def remembering(tools: Any) -> Any:
    """A method whose document is what it saw, and whose prediction is the mean of that."""

    def fit(samples: Sequence[Any]) -> dict[str, Any]:
        return {"seen": {sample.id for sample in samples}, "mean": np.mean([s.measured_ms for s in samples])}

    def predict(rows: Sequence[float], document: Mapping[str, Any]) -> list[float]:
        return [document["mean"]] * len(rows)

    def unmeasured(row: float, document: Mapping[str, Any]) -> tuple[str, ...]:
        return ("large",) if row > 100 else ()

    return tools.crossval.Method(fit=fit, predict=predict, unmeasured=unmeasured)


@pytest.mark.parametrize("folds", [None, 2, 3, 99])
def test_a_row_that_is_left_out_is_predicted_without_its_whole_group(tools: Any, folds: int | None) -> None:
    groups = list("aabbccddee")
    samples = samples_of(tools, range(1, 11), groups)

    found = tools.crossval.held_out(remembering(tools), samples, lambda s: s.configuration, folds)

    assert sorted(item.sample.id for item in found) == sorted(sample.id for sample in samples)
    for item in found:
        group = {s.id for s in samples if s.configuration == item.sample.configuration}
        assert not group & item.document["seen"]
        assert item.document["seen"]


def test_nothing_is_left_out_where_all_rows_are_of_one_group(tools: Any) -> None:
    samples = samples_of(tools, [1, 2], "aa")
    assert tools.crossval.held_out(remembering(tools), samples, lambda s: s.configuration) == []


def test_an_interval_is_a_quantile_of_errors_and_flags_widen_it(tools: Any) -> None:
    """Errors of 1 to 100 % in the logarithm; twice those for rows that carry the flag alone."""
    method = remembering(tools)
    small = samples_of(tools, np.exp(np.linspace(0.01, 1, 100)), ["x"] * 100)
    large = samples_of(tools, 200 * np.exp(np.linspace(0.02, 2, 100)), ["x"] * 100)
    found = [tools.crossval.HeldOut(sample, 1.0, {}) for sample in small]
    found += [tools.crossval.HeldOut(sample, 200.0, {}) for sample in large]

    made = tools.crossval.interval(method, found, {}, ("large", "never"))

    assert made["level"] == 0.8
    assert made["half_width"] == pytest.approx(0.82, abs=0.01)
    assert made["widening"]["large"] == pytest.approx((1.64**2 - 0.82**2) ** 0.5, abs=0.02)
    assert made["widening"]["never"] == made["widening"]["large"]


@pytest.mark.parametrize(("name", "metric"), [("neuron_decode", "DECODE"), ("neuron_prefill", "PREFILL")])
def test_a_fit_on_the_rows_in_the_checkout_gives_the_factors_that_ship(
    tools: Any, name: str, metric: str
) -> None:
    task = getattr(tools.neuron, metric)
    shipped = getattr(coefficients(), name)

    found = tools.neuron.fit_once(task, tools.neuron.read_samples(task, published()))

    for part in ("terms", "effects", "degrees", "domain"):
        assert found[part] == shipped[part]


def test_a_fit_on_the_rows_in_the_checkout_gives_the_gpu_factors_that_ship(tools: Any) -> None:
    gpu = importlib.import_module("tools.fitting.gpu")
    found = gpu.fitted(gpu.DECODE, gpu.read_samples(published()))

    for part in ("terms", "effects", "latest", "dated", "engine chips", "domain"):
        assert found[part] == coefficients().gpu_decode[part]


def errors_of(tools: Any, samples: Sequence[Any]) -> float:
    """Median error of configurations left out, in percent."""
    method = tools.neuron.DECODE.method
    found = tools.crossval.held_out(method, samples, lambda sample: sample.configuration, 5)
    return float(np.median([abs(item.predicted_ms / item.sample.measured_ms - 1) for item in found])) * 100


def test_a_shuffled_target_is_not_predicted(tools: Any) -> None:
    """What the fit knows of rows left out comes from the rows it saw, not from a leak."""
    samples = tools.neuron.read_samples(tools.neuron.DECODE, published())
    times = [sample.measured_ms for sample in samples]
    np.random.default_rng(3).shuffle(times)
    shuffled = [
        dataclasses.replace(sample, measured_ms=time) for sample, time in zip(samples, times, strict=True)
    ]

    assert errors_of(tools, samples) < 10
    assert errors_of(tools, shuffled) > 40


def test_neuron_factors_are_found_again_from_rows_that_the_formula_made(tools: Any) -> None:
    for task, predict, name in (
        (tools.neuron.DECODE, decode_ms, "neuron_decode"),
        (tools.neuron.PREFILL, prefill_ms, "neuron_prefill"),
    ):
        samples = tools.neuron.read_samples(task, published())
        truth = predict(
            stack([sample.deployment for sample in samples], TEXTS), getattr(coefficients(), name)
        )
        made = [
            dataclasses.replace(sample, measured_ms=float(time))
            for sample, time in zip(samples, truth, strict=True)
        ]

        found = tools.neuron.fit_once(task, made)

        again = predict(stack([sample.deployment for sample in samples], TEXTS), found)
        assert np.median(np.abs(again / truth - 1)) < 0.02


def test_fails_where_no_interval_can_be_read(tools: Any) -> None:
    with pytest.raises(TokenmillError, match="no row is like another one that stays"):
        tools.crossval.interval(remembering(tools), [], {}, ("large",))


def test_each_row_is_a_sample_once_and_only_where_it_counts(tools: Any) -> None:
    rows = [
        NEURON_ROW,
        NEURON_ROW | {"tpot_ms": "99"},
        NEURON_ROW | {"id": "9", "quality": "C"},
        NEURON_ROW | {"id": "8", "fit_decode": "n"},
    ]
    (sample,) = tools.neuron.read_samples(tools.neuron.DECODE, rows)
    assert (sample.id, sample.measured_ms) == ("1", 14)


def test_the_folder_may_hold_plain_or_gzipped_files(tools: Any, tmp_path: Path) -> None:
    write_csv(tmp_path / "measurements.csv", [NEURON_ROW])
    (tmp_path / "measurements_gpu.csv.gz").write_bytes(
        gzip.compress(write_csv(tmp_path / "gpu.csv", [NEURON_ROW | {"id": "2"}]).read_bytes())
    )

    assert [row["id"] for row in tools.fit_timing.read_folder(tmp_path)] == ["1", "2"]
    assert len(tools.fit_timing.read_folder(FOLDER)) == len(published())


def test_fails_for_a_folder_without_the_files(tools: Any, tmp_path: Path) -> None:
    with pytest.raises(TokenmillError, match="measurements.csv does not exist"):
        tools.fit_timing.read_folder(tmp_path)


def test_a_small_file_is_fitted_from_end_to_end_and_loads(
    tools: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some configurations of each metric; the document has every part of the one that ships."""
    charts = [row for row in published() if row["source_set"] == "optimum-neuron-docs-charts"]
    tables = [row for row in published() if row["source_set"] == "aic-silicon-sample"]
    write_csv(tmp_path / "measurements.csv", charts)
    write_csv(tmp_path / "measurements_gpu.csv", [row for row in tables if row["model"] in GPU_MODELS])
    written = tmp_path / "out.json"
    chart = tmp_path / "left_out.png"
    arguments = ["fit_timing.py", str(tmp_path), "--write", str(written), "--date", "2026-11-22"]
    arguments += ["--chart", str(chart)]
    monkeypatch.setattr("sys.argv", arguments)

    assert tools.fit_timing.main() == 0

    assert chart.read_bytes().startswith(b"\x89PNG")
    document = json.loads(written.read_text())
    shipped = json.loads((ROOT / "constructs/tokenmill/core/data/coefficients.json").read_text())
    assert set(document) == set(shipped)
    assert set(document["cross_validation"]["summary"]) == set(shipped["cross_validation"]["summary"])
    assert document["date"] == "2026-11-22"
    assert {g["metric"] for g in document["cross_validation"]["groups"]} == {"itl", "tpot", "ttft"}
    rows = sum(document[name]["rows"] for name in ("neuron_decode", "neuron_prefill", "gpu_decode"))
    assert len(document["fitted_on"]) == 8 * rows
