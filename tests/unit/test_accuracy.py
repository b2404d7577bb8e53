"""Scoring of measured rows: what counts, what is skipped and why, and that shipped errors are good enough."""

from __future__ import annotations

import csv
import functools
import gzip
import io
import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_timing import FOLDER, GPU_ROW, NEURON_ROW, published, write_csv
from tokenmill.core.errors import TokenmillError
from tokenmill.planner.accuracy import (
    GROUPINGS,
    Accuracy,
    Scored,
    cross_validated,
    group_errors,
    score,
)
from tokenmill.planner.measurements import COLUMNS, read_rows

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

REACH = {
    ("itl", "all", "all"): {"mape": 12.0},
    ("itl", "moe", "dense"): {"mape": 10.0, "median_ape": 8.0},
    ("itl", "moe", "moe"): {"mape": 25.0},
    ("ttft", "chip", "inf2"): {"mape": 20.0, "median_ape": 13.0},
    ("tpot", "all", "all"): {"mape": 16.0, "median_ape": 12.0},
}
"""Errors in percent that rows must not exceed which the predicting fit has not seen."""


def scored_one(row: Mapping[str, str]) -> Accuracy:
    return score([dict(row)])


def group(document: Mapping[str, Any], metric: str, by: str, key: str) -> dict[str, Any]:
    (found,) = [
        item for item in document["groups"] if (item["metric"], item["by"], item["key"]) == (metric, by, key)
    ]
    return dict(found)


@pytest.mark.parametrize("key", REACH, ids=" ".join)
def test_errors_on_rows_that_were_left_out_are_within_reach(key: tuple[str, str, str]) -> None:
    found = group(cross_validated(), *key)

    for figure, most in REACH[key].items():
        assert found[figure] <= most


@pytest.mark.parametrize("metric", ["itl", "tpot", "ttft"])
def test_intervals_hold_four_of_five_rows_that_were_left_out(metric: str) -> None:
    assert 75 <= group(cross_validated(), metric, "all", "all")["coverage80"] <= 88
    for errors in cross_validated()["summary"].values():
        assert 75 <= errors[metric]["coverage80"] <= 88


def test_leaving_out_models_or_software_is_harder_than_configurations() -> None:
    summary = cross_validated()["summary"]
    for metric in ("itl", "tpot", "ttft"):
        assert summary["configuration"][metric]["mape"] < summary["model"][metric]["mape"]
        assert summary["configuration"][metric]["mape"] < summary["software"][metric]["mape"]


@functools.cache
def calibration() -> Accuracy:
    return score(published())


def test_the_calibration_rows_are_all_predicted_and_known_to_be_fitted_on() -> None:
    made = calibration()

    assert len(made.scored) == made.fitted_on == 291 + 206 + 720
    assert (made.skipped, made.warnings) == ((), ())
    assert made.duplicates == 179
    assert {item.metric for item in made.scored} == {"itl", "tpot", "ttft"}


def test_rows_that_were_fitted_on_are_closer_than_those_left_out() -> None:
    """So a file of seen rows must not be taken for evidence: the output says how many were."""
    seen, unseen = calibration().to_json(), cross_validated()
    for metric in ("itl", "tpot", "ttft"):
        assert group(seen, metric, "all", "all")["mape"] < group(unseen, metric, "all", "all")["mape"]


def test_the_document_has_the_keys_that_machines_read() -> None:
    document = calibration().to_json()

    assert document["schema"] == 1
    assert document["skipped"] == 0
    for item in document["groups"]:
        assert list(item) == [
            "metric",
            "by",
            "key",
            "rows",
            "mape",
            "median_ape",
            "mape_by_configuration",
            "coverage80",
        ]
    assert {item["by"] for item in document["groups"]} == set(GROUPINGS)
    keys = {by: {item["key"] for item in document["groups"] if item["by"] == by} for by in GROUPINGS}
    assert keys["all"] == {"all"}
    assert keys["chip"] == {"inf2", "trn1", "trn2", "a10g", "a100", "h100", "h200", "b200", "b300"}
    assert keys["moe"] == {"dense", "moe"}
    assert keys["batch"] == {"1", "2-8", ">8"}
    assert {"llama", "qwen3"} < keys["family"]
    assert "optimum-neuron-docs-charts" in keys["source_set"]


def test_each_grouping_counts_every_row_once() -> None:
    document = calibration().to_json()
    for metric, rows in (("itl", 291), ("ttft", 206), ("tpot", 720)):
        for by in GROUPINGS:
            counts = [g["rows"] for g in document["groups"] if (g["metric"], g["by"]) == (metric, by)]
            assert sum(counts) == rows


def test_a_row_counts_for_each_metric_that_it_is_marked_for() -> None:
    made = score([dict(NEURON_ROW), dict(GPU_ROW)])

    assert [(item.id, item.metric) for item in made.scored] == [("1", "itl"), ("2", "tpot"), ("1", "ttft")]
    assert made.fitted_on == 0


@pytest.mark.parametrize(
    ("changed", "metrics"),
    [
        ({"fit_decode": "n"}, ["ttft"]),
        ({"fit_prefill": ""}, ["itl"]),
        ({"quality": "B"}, ["itl", "ttft"]),
        ({"quality": "C"}, []),
        ({"quality": ""}, []),
        ({"accelerator": "H100"}, ["tpot"]),
    ],
)
def test_only_clean_rows_of_quality_a_or_b_count(changed: dict[str, str], metrics: list[str]) -> None:
    made = scored_one(NEURON_ROW | {"concurrency": "4"} | changed)

    assert [item.metric for item in made.scored] == metrics
    assert made.skipped == ()


def test_each_id_counts_once_and_rows_without_one_each_count() -> None:
    anonymous = NEURON_ROW | {"id": ""}
    made = score([dict(NEURON_ROW), NEURON_ROW | {"tpot_ms": "99"}, dict(anonymous), dict(anonymous)])

    assert [item.id for item in made.scored if item.metric == "itl"] == ["1", "row 3", "row 4"]
    assert made.scored[0].measured_ms == 14
    assert made.duplicates == 1


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"tpot_ms": "nan"}, "tpot_ms 'nan' is not a number"),
        ({"tpot_ms": "inf"}, "tpot_ms 'inf' is not a number"),
        ({"tpot_ms": "-4"}, "tpot_ms '-4' is no time in milliseconds; it must be 0.001 to 1e+07"),
        ({"tpot_ms": "0"}, "tpot_ms '0' is no time in milliseconds; it must be 0.001 to 1e+07"),
        ({"tpot_ms": "1e300"}, "tpot_ms '1e300' is no time in milliseconds; it must be 0.001 to 1e+07"),
        ({"tpot_ms": ""}, "tpot_ms '' is not a number"),
        ({"tpot_ms": "fast"}, "tpot_ms 'fast' is not a number"),
        ({"batch_size": "-1"}, "batch_size '-1' must be above 0 and at most 1e+08"),
        ({"tp_degree": "1e300"}, "tp_degree '1e300' must be above 0 and at most 1e+08"),
        ({"tp_degree": "two"}, "tp_degree 'two' is not a number"),
        ({"max_seq_len": ""}, "a row on NeuronCores needs max_seq_len"),
        ({"accelerator": "Inferentia9"}, "unknown NeuronCore chip 'Inferentia9'"),
        ({"model": "none", "hf_id": "none/none"}, "unknown model 'none'"),
    ],
)
def test_what_cannot_be_predicted_is_skipped_with_its_reason(changed: dict[str, str], reason: str) -> None:
    made = scored_one(NEURON_ROW | {"fit_prefill": "n"} | changed)

    assert made.scored == ()
    assert [(item.id, item.metric, item.reason) for item in made.skipped] == [("1", "itl", reason)]
    assert made.to_json()["skipped"] == 1
    assert made.to_json()["skipped_rows"] == [{"id": "1", "metric": "itl", "reason": reason}]
    assert made.to_json()["groups"] == []


def test_a_first_token_without_its_prompt_is_skipped_and_the_step_is_not() -> None:
    made = scored_one(NEURON_ROW | {"input_tokens": ""})

    assert [item.metric for item in made.scored] == ["itl"]
    assert [item.reason for item in made.skipped] == ["a time to first token needs input_tokens"]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"model": "none", "hf_id": ""}, "unknown model or GPU"),
        ({"accelerator": "H1"}, "unknown model or GPU"),
        ({"concurrency": "", "batch_size": ""}, "tp_degree and concurrency"),
        ({"quantization": "", "weight_dtype": "", "output_tokens": "0"}, "output_tokens '0' must be above 0"),
    ],
)
def test_rows_on_gpus_are_skipped_likewise(changed: dict[str, str], reason: str) -> None:
    (skipped,) = scored_one(GPU_ROW | changed).skipped
    assert reason in skipped.reason


def test_a_gpu_row_is_known_by_the_name_on_the_hub_too() -> None:
    assert len(scored_one(GPU_ROW | {"model": "nickname"}).scored) == 1


def test_seconds_for_milliseconds_are_warned_of_as_implausible() -> None:
    in_seconds = NEURON_ROW | {"tpot_ms": "0.014", "ttft_ms": "1.0"}
    made = score([in_seconds, GPU_ROW | {"tpot_ms": "5"}])

    assert [item.metric for item in made.scored] == ["itl", "tpot", "ttft"]
    assert made.to_json()["warnings"] == list(made.warnings)
    decode, prefill = made.warnings
    assert decode == (
        "1 of 1 itl rows are implausible, more than 100 times shorter or longer than predicted (first: '1'); "
        "they look like seconds where milliseconds are asked for"
    )
    assert "1 of 1 ttft rows are implausible" in prefill


def test_times_that_are_absurd_but_not_in_seconds_are_warned_of_without_a_guess() -> None:
    (warning,) = scored_one(NEURON_ROW | {"tpot_ms": "99999", "fit_prefill": "n"}).warnings
    assert "implausible" in warning
    assert "seconds where" not in warning


@pytest.mark.parametrize(
    ("accelerator", "chip"),
    [("A100-40GB", "a100"), ("A100-80GB", "a100"), ("H100", "h100"), ("RTX-PRO-6000", "rtx-pro-6000")],
)
def test_a_chip_has_one_key_whatever_its_memory(accelerator: str, chip: str) -> None:
    (item,) = scored_one(GPU_ROW | {"accelerator": accelerator}).scored
    assert item.groups["chip"] == chip


@pytest.mark.parametrize(("together", "batch"), [("1", "1"), ("8", "2-8"), ("9", ">8")])
def test_batches_are_grouped_by_sequences_or_requests_in_flight(together: str, batch: str) -> None:
    rows = [NEURON_ROW | {"batch_size": together}, GPU_ROW | {"concurrency": together, "batch_size": "1"}]
    assert {item.groups["batch"] for item in score(rows).scored} == {batch}


def test_errors_are_means_and_medians_of_rows_and_means_of_configurations() -> None:
    def item(name: str, measured: float, predicted: float) -> Scored:
        return Scored(
            id=name,
            metric="itl",
            measured_ms=measured,
            predicted_ms=predicted,
            low_ms=predicted / 1.2,
            high_ms=predicted * 1.2,
            extrapolated=(),
            configuration=name[0],
            groups=dict.fromkeys(GROUPINGS, "x"),
        )

    found = group_errors([item("a1", 10, 11), item("a2", 10, 10), item("b", 10, 16)])[0]

    assert (found["rows"], found["mape"], found["median_ape"]) == (3, pytest.approx(23.33), 10)
    assert found["mape_by_configuration"] == pytest.approx((5 + 60) / 2)
    assert found["coverage80"] == pytest.approx(66.7)


VALUES = st.sampled_from(
    [
        "",
        "nan",
        "-1",
        "0",
        "1e999",
        "3",
        "8.5",
        "x",
        "1e7",
        "٣",
        "Llama-3.1-8B",
        "Trainium2",
        "H100",
        "fp9",
        "y",
    ]
) | st.text(max_size=5)


@given(
    st.sampled_from((NEURON_ROW, GPU_ROW)),
    st.dictionaries(st.sampled_from(COLUMNS), VALUES, max_size=4),
)
@settings(max_examples=300, deadline=None)
def test_a_row_of_any_values_is_scored_skipped_or_does_not_count(
    plain: dict[str, str], changed: dict[str, str]
) -> None:
    made = scored_one(plain | changed)

    for item in made.scored:
        assert 0 < item.low_ms < item.predicted_ms < item.high_ms < math.inf
        assert item.ape >= 0
    assert all(item.reason for item in made.skipped)
    assert len(made.scored) + len(made.skipped) <= 2


def joined(cells: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(cells)
    return text.getvalue().encode()


TABLES = st.builds(
    lambda rows, end: joined([list(COLUMNS), *rows]) + end,
    st.lists(st.lists(VALUES, min_size=len(COLUMNS) - 1, max_size=len(COLUMNS) + 1), max_size=3),
    st.sampled_from((b"", b'"', b"\n\n", b"\x00")),
)


@given(TABLES | st.binary(max_size=60) | st.text(max_size=60).map(str.encode) | st.just(b"\x1f\x8b0"))
@settings(max_examples=200, deadline=None)
def test_any_file_is_scored_or_refused_with_its_name(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(content)
    try:
        rows = read_rows(path)
    except TokenmillError as error:
        assert str(path) in str(error)
    else:
        assert score(rows).to_json()["schema"] == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no column id, source_set, model"),
        (b"id,model\n1,x\n", "has no column source_set, hf_id"),
        (joined([list(COLUMNS)]), "holds no rows; give at least one measurement"),
        (joined([[*COLUMNS, "id"], [""] * 23]), "has more than one column id; leave one of each"),
        (joined([list(COLUMNS), [""] * 22, ["x"] * 21]), "line 3 has not as many cells as the header"),
        (joined([list(COLUMNS), ["x"] * 23]), "line 2 has not as many cells as the header"),
        (joined([list(COLUMNS)]) + b'"x"y,' + b"," * 20, "is not CSV after line 1"),
        (b"\xff\xfe", "is not text; give a CSV file, plain or gzipped"),
        (b"\x1f\x8b\x08broken", "is not text; give a CSV file, plain or gzipped"),
        (gzip.compress(b"id\n" * 999, mtime=0)[:-12], "is not text; give a CSV file, plain or gzipped"),
    ],
)
def test_fails_for_a_file_that_is_no_table_of_measurements(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes(content)
    with pytest.raises(TokenmillError, match=message) as caught:
        read_rows(path)
    assert str(path) in str(caught.value)


def test_fails_for_a_file_that_is_missing_or_a_folder(tmp_path: Path) -> None:
    with pytest.raises(TokenmillError, match="none.csv does not exist"):
        read_rows(tmp_path / "none.csv")
    with pytest.raises(TokenmillError, match="is a folder; name the CSV file in it"):
        read_rows(tmp_path)


def test_more_columns_and_spaces_and_a_byte_order_mark_do_no_harm(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "m.csv", [{"more": "1"} | NEURON_ROW | {"tp_degree": " 8 "}])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())

    assert score(read_rows(path)).scored == scored_one(NEURON_ROW).scored


def test_a_gzipped_file_is_read_like_a_plain_one(tmp_path: Path) -> None:
    plain = tmp_path / "m.csv"
    plain.write_bytes(gzip.decompress((FOLDER / "measurements.csv.gz").read_bytes()))
    assert read_rows(plain) == read_rows(FOLDER / "measurements.csv.gz")
