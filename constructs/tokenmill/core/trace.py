"""A trace of requests (CSV, gzipped or not) and the peak hour that a plan is made for."""

from __future__ import annotations

import contextlib
import csv
import gzip
import hashlib
import io
import math
import zlib
from array import array
from bisect import bisect_left
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from operator import le
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from tokenmill.core.errors import TokenmillError
from tokenmill.core.workload import MOST_TOKENS, TokenSpread

if TYPE_CHECKING:
    from _csv import Reader as _Reader
    from collections.abc import Callable, Iterator, Sequence

COLUMNS = ("arrival_s", "input_tokens", "output_tokens")
PEAK_SECONDS = 3600.0
MOST_SECONDS = 1e11
"""Three thousand years: a date in milliseconds or less is beyond it."""
BLOCK = 512
GZIP_MAGIC = b"\x1f\x8b"
MOST_REQUESTS = 50_000_000
"""Two weeks at forty requests a second: more is another file, or a small one that unpacks without end."""


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
    where, digest = f"trace {path}", hashlib.sha256()
    columns = _Columns()
    try:
        with contextlib.ExitStack() as files:
            reader = csv.reader(_opened(Path(path), digest, files))
            sound = _fill(columns, reader, _places(reader, where), where)
        if not sound:
            with contextlib.ExitStack() as files:
                reader = csv.reader(_opened(Path(path), hashlib.sha256(), files))
                _complain(reader, where)
    except UnicodeDecodeError:
        raise TokenmillError(f"{where} is not text; give a CSV file with {', '.join(COLUMNS)}") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise TokenmillError(f"{where} is a damaged gzip file ({str(error).lower()})") from None
    columns.sort()
    times = columns.arrivals
    if len(times) < 2 or times[0] == times[-1]:
        raise TokenmillError(
            f"{where} has {len(times)} requests at {len(set(times))} different times; "
            "a rate needs two of each"
        )
    return _summary(columns, digest.hexdigest(), where)


@dataclass(slots=True)
class _Columns:
    """A trace column by column: a hundred megabytes of text are a hundred of memory, not a thousand."""

    arrivals: array[float] = field(default_factory=lambda: array("d"))
    prompts: array[int] = field(default_factory=lambda: array("l"))
    answers: array[int] = field(default_factory=lambda: array("l"))

    def add(self, rows: list[list[str]], places: tuple[int, ...]) -> bool:
        """Take rows in, and say whether each value is one that can be."""
        arrival, prompt, answer = places
        try:
            times = array("d", [float(row[arrival]) for row in rows])
            prompts = array("l", [int(row[prompt]) for row in rows])
            answers = array("l", [int(row[answer]) for row in rows])
        except (ValueError, OverflowError):
            return False
        self.arrivals += times
        self.prompts += prompts
        self.answers += answers
        return (
            not math.isnan(sum(times))
            and max(max(times), -min(times)) <= MOST_SECONDS
            and max(max(prompts), max(answers)) <= MOST_TOKENS
            and min(min(prompts), min(answers)) >= 0
        )

    def sort(self) -> None:
        times = self.arrivals
        if all(map(le, times, islice(times, 1, None))):
            return
        order = sorted(range(len(times)), key=times.__getitem__)
        self.arrivals = array("d", map(times.__getitem__, order))
        self.prompts = array("l", map(self.prompts.__getitem__, order))
        self.answers = array("l", map(self.answers.__getitem__, order))


class _Digesting(io.RawIOBase):
    """Takes the digest of what is read, so that a file is read once and never held whole."""

    def __init__(self, source: BinaryIO, digest: hashlib._Hash) -> None:
        self.source, self.digest = source, digest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self.source.read(len(buffer))
        self.digest.update(content)
        buffer[: len(content)] = content
        return len(content)


def _opened(path: Path, digest: hashlib._Hash, files: contextlib.ExitStack) -> io.TextIOWrapper:
    try:
        raw = files.enter_context(path.open("rb"))
    except FileNotFoundError:
        raise TokenmillError(f"trace {path} does not exist") from None
    except IsADirectoryError:
        raise TokenmillError(f"trace {path} is a folder; name the CSV file in it") from None
    packed = raw.peek(len(GZIP_MAGIC)).startswith(GZIP_MAGIC)
    source = files.enter_context(gzip.GzipFile(fileobj=raw)) if packed else raw
    buffered = io.BufferedReader(_Digesting(cast("BinaryIO", source), digest), 1 << 20)
    return files.enter_context(io.TextIOWrapper(buffered, encoding="utf-8-sig", newline=""))


def _places(reader: _Reader, where: str) -> tuple[int, ...]:
    """Where the header has the columns, and how many it has."""
    header = [name.strip() for name in next(_rows(reader, where), [])]
    missing = [name for name in COLUMNS if name not in header]
    twice = [name for name in COLUMNS if header.count(name) > 1]
    if missing or twice:
        fault = f"lacks {', '.join(missing)}" if missing else f"names {', '.join(twice)} twice"
        found = ", ".join(header) or "nothing"
        raise TokenmillError(
            f"{where} line 1 {fault}; the first line must name {', '.join(COLUMNS)}, got {found:.200}"
        )
    return (*(header.index(name) for name in COLUMNS), len(header))


def _fill(columns: _Columns, reader: _Reader, places: tuple[int, ...], where: str) -> bool:
    """Read all rows, a block at a time, and say whether every one is sound."""
    *indices, width = places
    lines = _rows(reader, where)
    while block := list(islice(lines, BLOCK)):
        rows = list(filter(None, block))
        if set(map(len, rows)) - {width} or (rows and not columns.add(rows, tuple(indices))):
            return False
        if len(columns.arrivals) > MOST_REQUESTS:
            raise TokenmillError(
                f"{where} has more than {MOST_REQUESTS:,} requests; give the busiest day alone"
            )
    return True


def _rows(reader: _Reader, where: str) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise TokenmillError(f"{where} line {reader.line_num} is not CSV ({error})") from None


def _complain(reader: _Reader, where: str) -> None:
    """Raise for the first row that cannot be, row by row: blocks do not know their lines."""
    *indices, width = _places(reader, where)
    raise next(filter(None, map(partial(_fault, reader, indices, width, where), _rows(reader, where))))


def _fault(
    reader: _Reader, indices: list[int], width: int, where: str, row: list[str]
) -> TokenmillError | None:
    place = f"{where} line {reader.line_num}"
    if row and len(row) != width:
        return TokenmillError(f"{place} has {len(row)} values for {width} columns")
    said = []
    for (name, read, says), index in zip(KINDS, indices, strict=True):
        try:
            read(row[index] if row else "0")
        except ValueError:
            said.append(f"column {name} must be {says}, got {row[index][:40]!r}")
    return TokenmillError(f"{place} {'; '.join(said)}") if said else None


def _seconds(text: str) -> float:
    value = float(text)
    if not abs(value) <= MOST_SECONDS:
        raise ValueError(text)
    return value


def _tokens(text: str) -> int:
    value = int(text)
    if not 0 <= value <= MOST_TOKENS:
        raise ValueError(text)
    return value


KINDS: tuple[tuple[str, Callable[[str], float], str], ...] = (
    ("arrival_s", _seconds, "a number of seconds"),
    ("input_tokens", _tokens, f"a whole number of tokens, 0 to {MOST_TOKENS:,}"),
    ("output_tokens", _tokens, f"a whole number of tokens, 0 to {MOST_TOKENS:,}"),
)


def _summary(columns: _Columns, digest: str, where: str) -> TraceSummary:
    arrivals = columns.arrivals
    first, last = _peak(arrivals)
    times = arrivals[first:last]
    whole = arrivals[-1] - arrivals[0] < PEAK_SECONDS
    span = times[-1] - times[0] if whole else PEAK_SECONDS
    prompts, answers = sorted(columns.prompts[first:last]), sorted(columns.answers[first:last])
    if not prompts[-1] or not answers[-1]:
        raise TokenmillError(f"{where} has no tokens in {'input' if not prompts[-1] else 'output'}_tokens")
    gaps = [after - before for before, after in zip(times, times[1:], strict=False)]
    return TraceSummary(
        requests=len(times),
        requests_per_second=float(f"{len(times) / span:.6g}"),
        input_tokens=max(1, round(sum(prompts) / len(prompts))),
        output_tokens=max(1, round(sum(answers) / len(answers))),
        input_spread=_spread(prompts),
        output_spread=_spread(answers),
        # one gap says nothing of how gaps vary: it is taken as Poisson's
        burstiness=min(100.0, _cv(gaps)) if len(gaps) > 1 else 1.0,
        digest=digest,
    )


def _peak(arrivals: array[float]) -> tuple[int, int]:
    """First and one past the last request of the hour with the most, the earliest such hour."""
    start, most = 0, bisect_left(arrivals, arrivals[0] + PEAK_SECONDS)
    # an hour that begins at a request holds more than the best one only if the request `most` later is in it
    first = 1
    while first + most < len(arrivals):
        end = arrivals[first] + PEAK_SECONDS
        if arrivals[first + most] < end:
            start, most = first, bisect_left(arrivals, end, first + most) - first
        first += 1
    return start, start + most


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
