"""Measurements of an endpoint correct the timing, by how many there are and how well they agree."""

from __future__ import annotations

import datetime
import json
import math
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_planner import CALIBRATION, CHAT, TODAY, model
from tokenmill.core.calibration import Calibration
from tokenmill.core.errors import TokenmillError
from tokenmill.core.workload import Limits, Slo
from tokenmill.planner import plan
from tokenmill.planner.calibration import Point, calibrate, parts_of, read_points
from tokenmill.planner.load import scaled

if TYPE_CHECKING:
    from pathlib import Path

    from tokenmill.core.plan import Candidate, Plan

HEADER = "concurrency,input_tokens,output_tokens,ttft_ms,itl_ms\n"
LOADS = [(n, tokens) for n in (1, 2, 4, 8, 16) for tokens in (128, 512)]


@pytest.fixture(scope="module")
def made() -> Plan:
    """A plan with a GPU and Inferentia2."""
    return plan(
        model=model("Qwen__Qwen3-8B"),
        workload=CHAT,
        slo=Slo(ttft_ms=20_000, itl_ms=500),
        region="us-east-1",
        limits=Limits(instances=("ml.g6e.xlarge", "ml.inf2.24xlarge"), quantizations=("as-published", "fp8")),
        today=TODAY,
    )


def on(made: Plan, name: str) -> Candidate:
    """Return the candidate on an instance type."""
    return next(item for item in made.candidates if item.instance_type == name)


def measured(
    candidate: Candidate, decode: float, prefill: float, noise: float = 0.0, count: int = len(LOADS)
) -> tuple[Point, ...]:
    """Return what an endpoint would show that is so many times slower than its plan says."""
    source = random.Random(5)
    engine = scaled(candidate.engine, decode, prefill)
    points = []
    for line, (concurrency, tokens) in enumerate(LOADS[:count], start=2):
        point = Point(
            line=line, concurrency=concurrency, input_tokens=tokens, output_tokens=128, ttft_ms=1, itl_ms=1
        )
        parts = parts_of(engine, point)
        points.append(
            replace(
                point,
                ttft_ms=(parts.ttft_decode + parts.ttft_prefill) * math.exp(source.gauss(0, noise)),
                itl_ms=(parts.itl_decode + parts.itl_prefill) * math.exp(source.gauss(0, noise)),
            )
        )
    return tuple(points)


def calibrated(made: Plan, candidate: Candidate, points: tuple[Point, ...]) -> Calibration:
    """Return the calibration that points make."""
    return calibrate(made, candidate, points, source="m.csv", source_digest="0" * 64, today=TODAY)


@pytest.mark.parametrize("name", ["ml.g6e.xlarge", "ml.inf2.24xlarge"])
def test_factors_that_measurements_hold_are_found(made: Plan, name: str) -> None:
    """Ten points without noise: both factors within 3 %, error gone, interval narrow."""
    found = calibrated(made, on(made, name), measured(on(made, name), 1.4, 0.7))
    assert found.decode.factor == pytest.approx(1.4, rel=0.03)
    assert found.prefill.factor == pytest.approx(0.7, rel=0.03)
    assert found.decode.error_before_percent > 15
    assert found.decode.error_after_percent < 3
    assert found.prefill.error_after_percent < 3
    assert 0.93 < found.decode.low < 1 < found.decode.high < 1.07
    assert (found.decode.points, found.tensor) == (10, on(made, name).parallelism.tensor)


def test_few_points_are_drawn_towards_the_shipped_timing(made: Plan) -> None:
    """Three noisy points move it less than ten do, and leave it less sure."""
    target = on(made, "ml.g6e.xlarge")
    few = calibrated(made, target, measured(target, 1.6, 1.0, noise=0.2, count=3))
    many = calibrated(made, target, measured(target, 1.6, 1.0, noise=0.2))
    exact = calibrated(made, target, measured(target, 1.6, 1.0))
    assert 1.0 < few.decode.factor < exact.decode.factor
    assert many.decode.high / many.decode.low > exact.decode.high / exact.decode.low


def test_a_calibrated_plan_is_calibrated_against_the_shipped_timing(made: Plan) -> None:
    """Calibrating again with the same measurements gives the same factors, not their product."""
    target = on(made, "ml.inf2.24xlarge")
    points = measured(target, 1.3, 0.9)
    first = calibrated(made, target, points)
    again = plan(
        model=made.model,
        workload=made.workload,
        slo=made.slo,
        region=made.region,
        limits=made.limits,
        calibration=first,
        today=TODAY,
    )
    same = next(item for item in again.candidates if item.instance_type == target.instance_type)
    batch = replace(same, max_sequences=target.max_sequences, parallelism=target.parallelism)
    assert calibrated(again, batch, points).decode.factor == pytest.approx(first.decode.factor, rel=1e-6)


def test_a_carried_rate_tells_how_many_prefills_come_between() -> None:
    """gap = step / (1 - rate x prefill); without it each of the others prefills once an answer."""
    from tokenmill.core.engine_timing import EngineTiming

    engine = EngineTiming(
        step_base_ms=20.0,
        step_per_sequence_ms=0.0,
        step_per_kv_token_ms=0.0,
        prefill_base_ms=100.0,
        prefill_per_token_ms=0.0,
        prefill_buckets=(),
        max_sequences=4,
        kv_capacity_tokens=10_000,
    )
    point = Point(line=2, concurrency=4, input_tokens=100, output_tokens=50, ttft_ms=1, itl_ms=1)
    alone = parts_of(engine, replace(point, concurrency=1))
    assert (alone.itl_decode, alone.itl_prefill, alone.ttft_decode, alone.ttft_prefill) == (20, 0, 0, 100)
    assert parts_of(engine, point).itl_prefill == pytest.approx(3 * 100 / 50)
    known = parts_of(engine, replace(point, requests_per_second=2.0))
    assert known.itl_prefill == pytest.approx(20 * 0.2 / 0.8)
    queued = parts_of(engine, replace(point, concurrency=8))
    assert queued.ttft_decode == pytest.approx(10 + 50 * 20)
    assert queued.ttft_prefill == pytest.approx(100 + 100 + 50 * 6)


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        ((1e-3, 1.0), "column itl_ms .* 0.001 times the prediction .* looks like seconds"),
        ((1.0, 1e-3), "column ttft_ms .* looks like seconds, and milliseconds are asked for"),
        ((1e3, 1e3), "column itl_ms .* looks like microseconds"),
        ((60.0, 60.0), r"column itl_ms .* 60 times the prediction \(median\); check the unit, the model"),
    ],
)
def test_fails_for_measurements_of_something_else(
    made: Plan, scale: tuple[float, float], message: str
) -> None:
    """Another unit is recognized by its factor."""
    target = on(made, "ml.inf2.24xlarge")
    points = tuple(
        replace(point, itl_ms=point.itl_ms * scale[0], ttft_ms=point.ttft_ms * scale[1])
        for point in measured(target, 1.0, 1.0)
    )
    with pytest.raises(TokenmillError, match=message):
        calibrated(made, target, points)


def test_fails_for_requests_that_the_endpoint_cannot_hold(made: Plan) -> None:
    """The context is compiled or configured."""
    target = on(made, "ml.inf2.24xlarge")
    points = (*measured(target, 1.0, 1.0), replace(measured(target, 1.0, 1.0)[0], line=12, input_tokens=2000))
    with pytest.raises(
        TokenmillError, match="line 12 have 2128 tokens a request, more than the context of 2048"
    ):
        calibrated(made, target, points)


def written(folder: Path, text: str | bytes) -> Path:
    """Return a file with measurements."""
    path = folder / "m.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_measurements_are_read(tmp_path: Path) -> None:
    """Spaces, a rate for some rows and columns of one's own are fine."""
    rows = "1,100,50,80,20,,a\n2,100,50,90.5,21,0.5,b\n4,100,50,99,22, 1 ,c\n"
    text = HEADER.replace("\n", ", requests_per_second,note\n").replace(",", " ,") + rows
    points, digest = read_points(written(tmp_path, text))
    assert [point.requests_per_second for point in points] == [None, 0.5, 1.0]
    assert (points[1].line, points[1].concurrency, points[1].ttft_ms) == (3, 2, 90.5)
    assert len(digest) == 64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1 lacks concurrency, input_tokens, .* got nothing"),
        (
            "concurrency,ttft_ms\n",
            "line 1 lacks input_tokens, output_tokens, itl_ms; .* got concurrency, ttft_ms",
        ),
        (
            HEADER + "1,100,50,80,20\n",
            "have 1 rows, which is too few to tell a factor from chance; give 3 or more",
        ),
        (HEADER + "1,100,50,nan,20\n", "line 2 column ttft_ms must be a number above 0, got 'nan'"),
        (HEADER + "1,100,50,80,-1\n", "line 2 column itl_ms must be a number above 0, got '-1'"),
        (HEADER + "1,100,50,80\n", "line 2 column itl_ms must be a number above 0, got ''"),
        (
            HEADER + "1.5,100,50,80,1\n",
            "line 2 column concurrency must be a whole number from 1 to 1,000,000, got '1.5'",
        ),
        (
            HEADER + "1,x,50,80,1\n",
            "line 2 column input_tokens must be a whole number from 1 to 1,000,000, got 'x'",
        ),
        (HEADER + '1,100,"50,80,1\n', r"line \d is not CSV"),
        (HEADER + "1,100,50,80,1,7\n", "line 2 has more values than the first line has columns"),
        (HEADER + "2000000,100,50,80,1\n", "column concurrency must be a whole number from 1 to 1,000,000"),
        ("itl_ms," + HEADER + "1,1,100,50,80,1\n", "line 1 names itl_ms twice; keep one column of each"),
        (b"\xff\xfe", "are not text"),
    ],
)
def test_fails_for_a_bad_file_with_line_and_column(tmp_path: Path, text: str | bytes, message: str) -> None:
    """One sentence."""
    with pytest.raises(TokenmillError, match=message):
        read_points(written(tmp_path, text))


def test_fails_for_a_file_of_measurements_that_is_none(tmp_path: Path) -> None:
    """Missing, or a folder."""
    with pytest.raises(TokenmillError, match="none.csv do not exist; give a CSV file with concurrency"):
        read_points(tmp_path / "none.csv")
    with pytest.raises(TokenmillError, match="are a folder"):
        read_points(tmp_path)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.lists(st.floats() | st.integers(-3, 500) | st.text(max_size=3), min_size=4, max_size=6), max_size=6
    )
)
def test_any_rows_are_points_or_one_error(
    made: Plan, tmp_path_factory: pytest.TempPathFactory, rows: list[list[Any]]
) -> None:
    """And points make a calibration or one error; its numbers can be."""
    text = HEADER + "".join(",".join(map(str, row)) + "\n" for row in rows)
    path = written(tmp_path_factory.mktemp("m"), text.encode("utf-8", "replace"))
    try:
        points, _ = read_points(path)
        found = calibrated(made, on(made, "ml.inf2.24xlarge"), points)
    except TokenmillError:
        return
    assert 0 < found.decode.factor < 100
    assert found.prefill.low <= 1 <= found.prefill.high


def test_a_calibration_survives_its_file(tmp_path: Path) -> None:
    """And two files of the same numbers have one digest, whatever their name and date."""
    path = tmp_path / "chat.calibration.json"
    CALIBRATION.write(path)
    assert Calibration.read(path) == CALIBRATION
    later = replace(CALIBRATION, date=datetime.date(2030, 1, 1).isoformat(), source="b.csv")
    assert later.digest == CALIBRATION.digest
    assert replace(CALIBRATION, tensor=2).digest != CALIBRATION.digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 9}, "has schema 9, this version reads 1; write it again with: tokenmill calibrate"),
        ({"decode": {**json.loads(json.dumps({"factor": 0.0}))}}, "decode lacks points"),
        ({"tensor": "x"}, "tensor must be a whole number"),
    ],
)
def test_fails_for_a_damaged_calibration_file(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    """The field is named."""
    path = tmp_path / "c.json"
    CALIBRATION.write(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(TokenmillError, match=message):
        Calibration.read(path)


@pytest.mark.parametrize(
    "phase", [{"factor": 0.0}, {"factor": -2.0}, {"low": 1.2}, {"high": 0.9}, {"low": 0.0}, {"high": 1e9}]
)
def test_fails_for_numbers_that_cannot_be_in_a_calibration_file(
    tmp_path: Path, phase: dict[str, float]
) -> None:
    """Edited by hand, or written by something else."""
    path = tmp_path / "c.json"
    CALIBRATION.write(path)
    document = json.loads(path.read_text())
    document["prefill"] |= phase
    path.write_text(json.dumps(document))
    with pytest.raises(TokenmillError, match="has a prefill factor .* which cannot be"):
        Calibration.read(path)


@pytest.mark.parametrize("text", ["{", "[]", '"x"'])
def test_fails_for_a_calibration_file_that_is_none(tmp_path: Path, text: str) -> None:
    """Not JSON, or JSON of something else; a missing one says how it is made."""
    path = tmp_path / "c.json"
    path.write_text(text)
    with pytest.raises(TokenmillError, match="is not JSON|has schema None"):
        Calibration.read(path)
    with pytest.raises(TokenmillError, match="does not exist; write it again with: tokenmill calibrate"):
        Calibration.read(tmp_path / "none.json")


def test_a_converted_candidate_is_calibrated_in_its_format(made: Plan) -> None:
    """Weights that the server converted are what was measured."""
    limits = Limits(instances=("ml.g6e.xlarge",), quantizations=("fp8",))
    fp8 = plan(model=made.model, workload=CHAT, slo=made.slo, region="us-east-1", limits=limits, today=TODAY)
    target = fp8.chosen
    assert target.quantization == "fp8"
    found = calibrated(fp8, target, measured(target, 1.0, 1.0))
    assert found.decode.factor == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("name", ["ttft_ms", "itl_ms"])
def test_fails_where_points_scatter_beyond_any_use(made: Plan, name: str) -> None:
    """A millionth and a million times the prediction have a sane median, and nothing to say."""
    points = list(measured(on(made, "ml.inf2.24xlarge"), 1.0, 1.0, count=5))
    for index, factor in enumerate((1e-6, 1e6)):
        points[index] = replace(points[index], **{name: getattr(points[index], name) * factor})
    with pytest.raises(TokenmillError, match=f"column {name} .* scatters .* factor of 30 either way"):
        calibrate(
            made,
            on(made, "ml.inf2.24xlarge"),
            tuple(points),
            source="m.csv",
            source_digest="0" * 64,
            today=TODAY,
        )
