"""A trace of requests (CSV, gzipped or not) and the peak hour that a plan is made for."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import math
import zlib
from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tokenmill.core.errors import TokenmillError
from tokenmill.core.workload import MOST_TOKENS, TokenSpread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COLUMNS = ("arrival_s", "input_tokens", "output_tokens")
PEAK_SECONDS = 3600.0
GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSummary:
    """The busiest hour of a trace; of a shorter trace, all of it.

    Args:
        requests: Requests in that hour.
        requests_per_second: Their mean rate.
        input_tokens: Mean prompt, in tokens.
        output_tokens: Mean answer, in tokens.
        input_spread: How the prompts spread.
        output_spread: How the answers spread.
        burstiness: Coefficient of variation of the time between two requests.
        digest: SHA-256 of the whole trace's content, uncompressed, in hexadecimal.
    """

    requests: int
    requests_per_second: float
    input_tokens: int
    output_tokens: int
    input_spread: TokenSpread
    output_spread: TokenSpread
    burstiness: float
    digest: str


def read_trace(path: Path | str) -> TraceSummary:
    """Return the busiest hour of a trace with the columns arrival_s, input_tokens and output_tokens.

    Rows may stand in any order, and other columns are left alone.

    Args:
        path: The file; gzip is told by its content.

    Raises:
        TokenmillError: The file is missing, empty, no gzip or no text, lacks a column, or has a value that
            cannot be; the message names line and column.
    """
    content = _content(Path(path))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise TokenmillError(f"trace {path} is not text; give a CSV file with {', '.join(COLUMNS)}") from None
    rows = sorted(_rows(text, f"trace {path}"))
    if len(rows) < 2 or rows[0][0] == rows[-1][0]:
        raise TokenmillError(
            f"trace {path} has {len(rows)} requests at {len({row[0] for row in rows})} different times; "
            "a rate needs two of each"
        )
    return _summary(rows, hashlib.sha256(content).hexdigest(), f"trace {path}")


def _content(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise TokenmillError(f"trace {path} does not exist") from None
    except IsADirectoryError:
        raise TokenmillError(f"trace {path} is a folder; name the CSV file in it") from None
    if not raw.startswith(GZIP_MAGIC):
        return raw
    try:
        return gzip.decompress(raw)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise TokenmillError(f"trace {path} is a damaged gzip file ({str(error).lower()})") from None


def _rows(text: str, where: str) -> list[tuple[float, int, int]]:
    reader = csv.reader(io.StringIO(text, newline=""))
    header = [name.strip() for name in next(reader, [])]
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        found = ", ".join(header) or "nothing"
        raise TokenmillError(
            f"{where} line 1 lacks {', '.join(missing)}; the first line must name {', '.join(COLUMNS)}, "
            f"got {found}"
        )
    arrival, prompt, answer = (header.index(name) for name in COLUMNS)
    rows = []
    try:
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise TokenmillError(
                    f"{where} line {reader.line_num} has {len(row)} values for {len(header)} columns"
                )
            try:
                rows.append((_seconds(row[arrival]), _tokens(row[prompt]), _tokens(row[answer])))
            except ValueError:
                raise _bad_value(row, header, f"{where} line {reader.line_num}") from None
    except csv.Error as error:
        raise TokenmillError(f"{where} line {reader.line_num} is not CSV ({error})") from None
    return rows


def _seconds(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _tokens(text: str) -> int:
    value = int(text)
    if not 0 <= value <= MOST_TOKENS:
        raise ValueError(text)
    return value


def _bad_value(row: Sequence[str], header: Sequence[str], where: str) -> TokenmillError:
    kinds: tuple[tuple[str, Callable[[str], float], str], ...] = (
        ("arrival_s", _seconds, "a number of seconds"),
        ("input_tokens", _tokens, f"a whole number of tokens, 0 to {MOST_TOKENS:,}"),
        ("output_tokens", _tokens, f"a whole number of tokens, 0 to {MOST_TOKENS:,}"),
    )
    said = []
    for name, read, says in kinds:
        text = row[header.index(name)]
        try:
            read(text)
        except ValueError:
            said.append(f"column {name} must be {says}, got {text!r}")
    return TokenmillError(f"{where} {'; '.join(said)}")


def _summary(rows: list[tuple[float, int, int]], digest: str, where: str) -> TraceSummary:
    arrivals = [row[0] for row in rows]
    first, last = _peak(arrivals)
    busy = rows[first:last]
    times = arrivals[first:last]
    whole = arrivals[-1] - arrivals[0] < PEAK_SECONDS
    span = times[-1] - times[0] if whole else PEAK_SECONDS
    prompts, answers = sorted(row[1] for row in busy), sorted(row[2] for row in busy)
    if not prompts[-1] or not answers[-1]:
        raise TokenmillError(f"{where} has no tokens in {'input' if not prompts[-1] else 'output'}_tokens")
    gaps = [after - before for before, after in zip(times, times[1:], strict=False)]
    return TraceSummary(
        requests=len(busy),
        requests_per_second=float(f"{len(busy) / span:.6g}"),
        input_tokens=max(1, round(sum(prompts) / len(prompts))),
        output_tokens=max(1, round(sum(answers) / len(answers))),
        input_spread=_spread(prompts),
        output_spread=_spread(answers),
        # one gap says nothing of how gaps vary: it is taken as Poisson's
        burstiness=min(100.0, _cv(gaps)) if len(gaps) > 1 else 1.0,
        digest=digest,
    )


def _peak(arrivals: list[float]) -> tuple[int, int]:
    """First and one past the last request of the hour with the most, the earliest such hour."""
    best = (0, bisect_left(arrivals, arrivals[0] + PEAK_SECONDS))
    last = best[1]
    for first, start in enumerate(arrivals):
        while last < len(arrivals) and arrivals[last] < start + PEAK_SECONDS:
            last += 1
        if last - first > best[1] - best[0]:
            best = (first, last)
    return best


def _spread(ordered: list[int]) -> TokenSpread:
    def rank(share: float) -> int:
        return ordered[math.ceil(share * len(ordered)) - 1]

    return TokenSpread(p50=rank(0.5), p95=rank(0.95), cv=_cv(ordered))


def _cv(values: Sequence[float]) -> float:
    """Six digits of standard deviation over mean; 0 where nothing varies."""
    mean = math.fsum(values) / len(values)
    if mean == 0:
        return 0.0
    square = math.fsum((value - mean) ** 2 for value in values) / len(values)
    return min(1000.0, float(f"{math.sqrt(square) / mean:.6g}"))
