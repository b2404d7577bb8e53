"""Corrects the shipped timing by a user's own measurements of the endpoint that a plan deployed.

Decode and prefill each get one factor. The logarithms of measured over predicted are averaged and drawn
towards 0, the shipped prediction, by the weight that the shipped 80 % interval has against the points: the
normal prior and likelihood of Gelman and others, "Bayesian Data Analysis", 3rd edition, section 2.5. The
interval around the corrected prediction adds what is left unsure of the factor to the scatter of the points.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenmill.core.calibration import CalibratedPhase, Calibration
from tokenmill.core.errors import TokenmillError
from tokenmill.core.images import serving_image
from tokenmill.core.instances import instance_type
from tokenmill.core.workload import AS_PUBLISHED
from tokenmill.planner.engines import served_workload
from tokenmill.planner.feasibility import Problem
from tokenmill.planner.splits import Split
from tokenmill.planner.timed import engine_of, intervals

if TYPE_CHECKING:
    import datetime
    from pathlib import Path

    from tokenmill.core.engine_timing import EngineTiming
    from tokenmill.core.plan import Candidate, Plan
    from tokenmill.planner.timed import Intervals

REQUIRED = ("concurrency", "input_tokens", "output_tokens", "ttft_ms", "itl_ms")
OPTIONAL = ("requests_per_second",)
WHOLE = ("concurrency", "input_tokens", "output_tokens")
FEWEST_POINTS = 3
Z80 = 1.2815515655446004
"""Standard deviations from the median to the 90th percentile of a normal variable: half an 80 % interval."""
LEAST_SCATTER = 0.03
"""Repeated runs of one benchmark differ by a few percent, so points never count as more exact than this."""
MOST = 1_000_000
WIDEST = 30.0
FARTHEST = 20.0
"""Measured over predicted beyond this, either way, is another machine, another model or another unit."""
LIKELY = 5.0
"""A prediction is rarely off by more, so a thousandth or a thousandfold within this is another unit."""
ROUNDS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One measurement of an endpoint under a steady load.

    Args:
        line: Line of the file.
        concurrency: Requests in flight, or the batch.
        input_tokens: Prompt length, in tokens.
        output_tokens: Answer length, in tokens.
        ttft_ms: Median time to first token, in milliseconds.
        itl_ms: Median inter-token latency, in milliseconds.
        requests_per_second: Rate that was carried; None derives it from the latencies.
    """

    line: int
    concurrency: int
    input_tokens: int
    output_tokens: int
    ttft_ms: float
    itl_ms: float
    requests_per_second: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a point's latencies are made of, by the shipped timing, in milliseconds.

    Args:
        itl_decode: Part of the gap between tokens that decode steps take.
        itl_prefill: Part of it that prefills of others take.
        ttft_decode: Part of the time to first token that steps of others take.
        ttft_prefill: Part of it that prefills take.
    """

    itl_decode: float
    itl_prefill: float
    ttft_decode: float
    ttft_prefill: float


def read_points(path: Path) -> tuple[tuple[Point, ...], str]:
    """Return the measurements in a CSV file, and the SHA-256 of its content.

    Args:
        path: The file, with columns concurrency, input_tokens, output_tokens, ttft_ms, itl_ms, and optionally
            requests_per_second; other columns are left alone.

    Raises:
        TokenmillError: The file is missing or no text, lacks a column, has a value that cannot be (line and
            column are named), or has too few rows.
    """
    where = f"measurements {path}"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise TokenmillError(f"{where} do not exist; give a CSV file with {', '.join(REQUIRED)}") from None
    except IsADirectoryError:
        raise TokenmillError(f"{where} are a folder; name the CSV file in it") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise TokenmillError(f"{where} are not text; give a CSV file with {', '.join(REQUIRED)}") from None
    points = _points(text, where)
    if len(points) < FEWEST_POINTS:
        raise TokenmillError(
            f"{where} have {len(points)} rows, which is too few to tell a factor from chance; "
            f"give {FEWEST_POINTS} or more, at different concurrency and prompt lengths"
        )
    return points, hashlib.sha256(content).hexdigest()


def _points(text: str, where: str) -> tuple[Point, ...]:
    reader = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    try:
        header = [name.strip() for name in reader.fieldnames or ()]
        missing = [name for name in REQUIRED if name not in header]
        twice = [name for name in REQUIRED + OPTIONAL if header.count(name) > 1]
        if twice:
            raise TokenmillError(f"{where} line 1 names {', '.join(twice)} twice; keep one column of each")
        if missing:
            raise TokenmillError(
                f"{where} line 1 lacks {', '.join(missing)}; the first line must name {', '.join(REQUIRED)} "
                f"(and may name {', '.join(OPTIONAL)}), got {', '.join(header) or 'nothing'}"
            )
        reader.fieldnames = header
        return tuple(_point(row, reader.line_num, where) for row in reader)
    except csv.Error as error:
        raise TokenmillError(f"{where} line {reader.line_num} is not CSV ({error})") from None


def _point(row: dict[str, str], line: int, where: str) -> Point:
    if None in row:
        raise TokenmillError(f"{where} line {line} has more values than the first line has columns")
    values: dict[str, float] = {}
    for name in REQUIRED + OPTIONAL:
        text = (row.get(name) or "").strip()
        if not text and name in OPTIONAL:
            continue
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        whole = name not in WHOLE or value == math.floor(value) if math.isfinite(value) else False
        most = MOST if name in WHOLE else math.inf
        if not (math.isfinite(value) and 0 < value <= most and whole):
            kind = f"a whole number from 1 to {MOST:,}" if name in WHOLE else "a number above 0"
            raise TokenmillError(f"{where} line {line} column {name} must be {kind}, got {text[:40]!r}")
        values[name] = value
    counts = {name: int(values.pop(name)) for name in WHOLE}
    return Point(
        line=line,
        **counts,
        ttft_ms=values["ttft_ms"],
        itl_ms=values["itl_ms"],
        requests_per_second=values.get("requests_per_second"),
    )


def calibrate(
    plan: Plan,
    candidate: Candidate,
    points: tuple[Point, ...],
    *,
    source: str,
    source_digest: str,
    today: datetime.date,
) -> Calibration:
    """Return the correction that makes the shipped timing fit the measurements of one candidate's endpoint.

    Args:
        plan: The plan that the endpoint was deployed from.
        candidate: Its candidate that was measured.
        points: The measurements.
        source: Name of their file.
        source_digest: SHA-256 of the file's content.
        today: The day.

    Raises:
        TokenmillError: A point does not fit the endpoint, or the measurements are so far from the prediction
            that they are of something else or in another unit.
    """
    engine, known = _shipped(plan, candidate)
    for point in points:
        tokens = point.input_tokens + point.output_tokens
        if tokens > candidate.context_tokens:
            raise TokenmillError(
                f"measurements {source} line {point.line} have {tokens} tokens a request, more than the "
                f"context of {candidate.context_tokens} that the plan deployed; measure that endpoint"
            )
    parts = [parts_of(engine, point) for point in points]
    _refuse_nonsense(points, parts, source)
    decode, prefill = _factors(points, parts, known)
    for name, (_, deviation, _) in (("itl_ms", decode), ("ttft_ms", prefill)):
        if Z80 * deviation > math.log(WIDEST):
            raise TokenmillError(
                f"column {name} of measurements {source} scatters around the prediction by more than a "
                f"factor of {WIDEST:g} either way, which no correction narrows; measure one endpoint, "
                "under steady load"
            )
    return Calibration(
        source=source,
        source_digest=source_digest,
        date=today.isoformat(),
        model=plan.model.id,
        accelerator=candidate.accelerator,
        image=candidate.image,
        tensor=candidate.parallelism.tensor,
        decode=_phase(
            decode,
            [
                (p.itl_ms, _itl(a, 1, 1), _itl(a, decode[0], prefill[0]))
                for p, a in zip(points, parts, strict=True)
            ],
        ),
        prefill=_phase(
            prefill,
            [
                (p.ttft_ms, _ttft(a, 1, 1), _ttft(a, decode[0], prefill[0]))
                for p, a in zip(points, parts, strict=True)
            ],
        ),
    )


def parts_of(engine: EngineTiming, point: Point) -> Parts:
    """Return what a point's latencies are made of.

    With n requests always in flight each answer sits through one prefill of each of the others; a request
    that finds no place waits for one; a known rate replaces that cycle.

    Args:
        engine: The shipped timing.
        point: The measurement.
    """
    running = min(point.concurrency, engine.max_sequences)
    held = running * (point.input_tokens + point.output_tokens // 2)
    step, prefill = engine.step_ms(running, held), engine.prefill_ms(point.input_tokens)
    others = running - 1
    if point.requests_per_second is None:
        stalls = others * prefill / point.output_tokens
    else:
        load = min(0.95, point.requests_per_second * prefill / 1e3)
        stalls = step * load / (1 - load)
    cycles = (point.concurrency - running) / running
    return Parts(
        itl_decode=step,
        itl_prefill=stalls,
        ttft_decode=(step / 2 if others else 0.0) + cycles * point.output_tokens * step,
        ttft_prefill=prefill + cycles * (prefill + point.output_tokens * stalls),
    )


def _shipped(plan: Plan, candidate: Candidate) -> tuple[EngineTiming, Intervals]:
    """The candidate's timing and intervals without any calibration that the plan was made with."""
    problem = Problem(
        model=plan.model,
        workload=plan.workload,
        slo=plan.slo,
        region=plan.region,
        limits=plan.limits,
        prices={},
    )
    converted = candidate.quantization != AS_PUBLISHED
    split = Split(
        parallelism=candidate.parallelism,
        quantization=candidate.quantization,
        model=plan.model.with_quantization(candidate.quantization) if converted else plan.model,
    )
    instance = instance_type(candidate.instance_type)
    chip, image = instance.accelerator, serving_image(instance)
    speculative = served_workload(plan.workload, image)[0].speculative
    engine = engine_of(
        problem, chip, image, split, sequences=candidate.max_sequences, speculative=speculative
    )
    return engine, intervals(problem, chip, image, split)


def _itl(parts: Parts, decode: float, prefill: float) -> float:
    return parts.itl_decode * decode + parts.itl_prefill * prefill


def _ttft(parts: Parts, decode: float, prefill: float) -> float:
    return parts.ttft_decode * decode + parts.ttft_prefill * prefill


def _refuse_nonsense(points: tuple[Point, ...], parts: list[Parts], source: str) -> None:
    for name, predict in (("itl_ms", _itl), ("ttft_ms", _ttft)):
        ratio = statistics.median(
            getattr(point, name) / predict(part, 1, 1) for point, part in zip(points, parts, strict=True)
        )
        if 1 / FARTHEST <= ratio <= FARTHEST:
            continue
        unit = ""
        if 1 / LIKELY <= ratio * 1e3 <= LIKELY:
            unit = "it looks like seconds, and milliseconds are asked for; "
        elif 1 / LIKELY <= ratio / 1e3 <= LIKELY:
            unit = "it looks like microseconds, and milliseconds are asked for; "
        raise TokenmillError(
            f"column {name} of measurements {source} is {ratio:.2g} times the prediction (median); {unit}"
            "check the unit, the model and the instance type that was measured"
        )


def _factors(
    points: tuple[Point, ...], parts: list[Parts], known: Intervals
) -> tuple[tuple[float, float, int], tuple[float, float, int]]:
    """Factor, scatter and points of decode and of prefill; each latency holds a bit of the other phase."""
    decode = prefill = (1.0, 0.0, 0)
    for _ in range(ROUNDS):
        decode = _shrunk(
            [
                max(point.itl_ms - part.itl_prefill * prefill[0], point.itl_ms / 10) / part.itl_decode
                for point, part in zip(points, parts, strict=True)
            ],
            known.decode,
        )
        prefill = _shrunk(
            [
                max(point.ttft_ms - part.ttft_decode * decode[0], point.ttft_ms / 10) / part.ttft_prefill
                for point, part in zip(points, parts, strict=True)
            ],
            known.prefill,
        )
    return decode, prefill


def _shrunk(ratios: list[float], interval: tuple[float, float]) -> tuple[float, float, int]:
    """Posterior factor, and the deviation of the logarithm of a new measurement around it."""
    logs = [math.log(ratio) for ratio in ratios]
    prior = max(LEAST_SCATTER, math.log(interval[1] / interval[0]) / (2 * Z80)) ** -2
    scatter = max(LEAST_SCATTER, statistics.stdev(logs)) ** 2
    exact = len(logs) / scatter
    mean = statistics.fmean(logs) * exact / (exact + prior)
    return math.exp(mean), math.sqrt(scatter + 1 / (exact + prior)), len(logs)


def _phase(found: tuple[float, float, int], rows: list[tuple[float, float, float]]) -> CalibratedPhase:
    factor, deviation, points = found
    before = statistics.fmean(abs(shipped / measured - 1) for measured, shipped, _ in rows)
    after = statistics.fmean(abs(corrected / measured - 1) for measured, _, corrected in rows)
    return CalibratedPhase(
        factor=float(f"{factor:.6g}"),
        points=points,
        low=float(f"{math.exp(-Z80 * deviation):.4g}"),
        high=float(f"{math.exp(Z80 * deviation):.4g}"),
        error_before_percent=round(100 * before, 1),
        error_after_percent=round(100 * after, 1),
    )
