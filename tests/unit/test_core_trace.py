"""A trace becomes the numbers of its peak hour, and a bad one says where it is bad."""

from __future__ import annotations

import gzip
import hashlib
import math
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenmill.core.errors import TokenmillError
from tokenmill.core.trace import read_trace
from tokenmill.core.workload import TokenSpread

if TYPE_CHECKING:
    from pathlib import Path

HEADER = "arrival_s,input_tokens,output_tokens\n"


def written(folder: Path, text: str | bytes, name: str = "trace.csv") -> Path:
    """Return a trace file with this content."""
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_short_trace_counts_whole(tmp_path: Path) -> None:
    """Five requests over eight seconds; gaps of 2 s do not vary."""
    rows = "".join(f"{2 * n},{100 * (n + 1)},{10 * (n + 1)}\n" for n in range(5))
    found = read_trace(written(tmp_path, HEADER + rows))
    assert (found.requests, found.requests_per_second) == (5, 0.625)
    assert (found.input_tokens, found.output_tokens) == (300, 30)
    assert found.input_spread == TokenSpread(p50=300, p95=500, cv=0.471405)
    assert found.burstiness == 0


def test_the_busiest_hour_of_a_day_counts(tmp_path: Path) -> None:
    """One request a minute, and three hundred between 5:30 and 6:00: the rate is of that hour."""
    calm = [(60.0 * n, 10, 10) for n in range(1440)]
    rush = [(5.5 * 3600 + 6 * n, 1000, 100) for n in range(300)]
    text = HEADER + "".join(f"{a},{i},{o}\n" for a, i, o in [*calm, *rush])
    found = read_trace(written(tmp_path, text))
    assert found.requests == 360
    assert found.requests_per_second == pytest.approx(0.1)
    assert found.input_tokens == round((300 * 1000 + 60 * 10) / 360)


def test_order_columns_byte_order_mark_and_gzip_do_not_matter(tmp_path: Path) -> None:
    """Only the content does, and its digest is that of what was compressed."""
    text = "\ufeffoutput_tokens, input_tokens ,who,arrival_s\n5,7,a,3\n\n1,2,b,1\n"
    plain = read_trace(written(tmp_path, text))
    packed = read_trace(written(tmp_path, gzip.compress(text.encode()), "other.csv.gz"))
    assert plain == packed
    assert plain.digest == hashlib.sha256(text.encode()).hexdigest()
    assert (plain.input_spread.p50, plain.output_spread.p95) == (2, 5)


def test_poisson_arrivals_have_a_burstiness_of_one(tmp_path: Path) -> None:
    """Exponential gaps vary as much as their mean."""
    source, now, rows = random.Random(3), 0.0, []
    for _ in range(5000):
        now += source.expovariate(2.0)
        rows.append(f"{now:.4f},10,10\n")
    found = read_trace(written(tmp_path, HEADER + "".join(rows)))
    assert found.burstiness == pytest.approx(1.0, abs=0.05)
    assert found.requests_per_second == pytest.approx(2.0, rel=0.05)


@pytest.mark.parametrize(
    ("arrivals", "burstiness"),
    [((0, 9000), 1.0), ((0, 0, 0, 9000), 0.0), ((0, 0, 0, 8, 9000), 1.414214)],
)
def test_gaps_of_a_sparse_hour(tmp_path: Path, arrivals: tuple[int, ...], burstiness: float) -> None:
    """One request tells nothing, simultaneous ones do not vary, and the peak hour leaves the last one out."""
    text = HEADER + "".join(f"{arrival},10,10\n" for arrival in arrivals)
    assert read_trace(written(tmp_path, text)).burstiness == pytest.approx(burstiness, abs=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"line 1 lacks arrival_s, input_tokens, output_tokens; .* got nothing"),
        ("a,b\n1,2\n", r"line 1 lacks arrival_s, .* got a, b"),
        (HEADER, r"has 0 requests at 0 different times; a rate needs two of each"),
        (HEADER + "1,1,1\n1,2,2\n", r"has 2 requests at 1 different times"),
        (
            HEADER + "1,1,1\n2,x,1\n",
            r"line 3 column input_tokens must be a whole number of tokens, .*, got 'x'",
        ),
        (
            HEADER + "1,1,1\n\nnan,1.5,-1\n",
            r"line 4 column arrival_s must be a number of seconds, got 'nan'; "
            r"column input_tokens .* got '1.5'; column output_tokens .* got '-1'",
        ),
        (HEADER + "1,1\n", r"line 2 has 2 values for 3 columns"),
        (HEADER + "1,999999999999,1\n", r"column input_tokens .* 0 to 100,000,000, got '999999999999'"),
        (HEADER + "1,0,1\n2,0,1\n", r"has no tokens in input_tokens"),
        (
            HEADER + "1,1,1\n1700000000000,1,1\n",
            r"line 3 column arrival_s must be a number of seconds, got '17000",
        ),
        (HEADER + "1,1,1\n2," + "9" * 4000 + ",1\n", r"line 3 column input_tokens .* got '9{40}'$"),
        (HEADER.strip() + ",arrival_s\n1,1,1,1\n", r"line 1 names arrival_s twice; the first line must name"),
        (HEADER + "1,1,1\n" * 600 + "\n2,1,x\n", r"line 603 column output_tokens .* got 'x'"),
        (HEADER + "1,1,0\n2,1,0\n", r"has no tokens in output_tokens"),
        (HEADER + f'1,"{"9" * 200_000}",1\n', r"line \d is not CSV \(field larger than field limit"),
        (b"\x1f\x8b\x08\x00broken", r"is a damaged gzip file"),
        (b"\xff\xfe\x00", r"is not text"),
    ],
)
def test_fails_for_a_bad_trace_with_line_and_column(tmp_path: Path, text: str | bytes, message: str) -> None:
    """One sentence, and what to mend stands in it."""
    with pytest.raises(TokenmillError, match=message):
        read_trace(written(tmp_path, text))


def test_fails_for_a_file_that_is_none(tmp_path: Path) -> None:
    """Missing, or a folder."""
    with pytest.raises(TokenmillError, match="none.csv does not exist"):
        read_trace(tmp_path / "none.csv")
    with pytest.raises(TokenmillError, match="is a folder"):
        read_trace(tmp_path)


def test_fails_for_a_trace_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file that unpacks to more than any peak hour has."""
    monkeypatch.setattr("tokenmill.core.trace.MOST_REQUESTS", 1000)
    packed = gzip.compress((HEADER + "1,1,1\n" * 2000).encode())
    with pytest.raises(TokenmillError, match="has more than 1,000 requests; give the busiest day alone"):
        read_trace(written(tmp_path, packed))


def test_rows_out_of_order_are_the_same_trace(tmp_path: Path) -> None:
    """Over more than one block of rows."""
    rows = [f"{n * 0.5},{n % 700 + 1},{n % 90 + 1}\n" for n in range(2000)]
    random.Random(4).shuffle(mixed := list(rows))
    first = read_trace(written(tmp_path, HEADER + "".join(rows)))
    second = read_trace(written(tmp_path, HEADER + "".join(mixed), "mixed.csv"))
    assert replace(first, digest="") == replace(second, digest="")


def test_the_busiest_hour_is_found_wherever_it_begins(tmp_path: Path) -> None:
    """Against counting every hour that begins at a request."""
    source = random.Random(9)
    times = sorted(round(source.uniform(0, 20_000), 1) for _ in range(400))
    found = read_trace(written(tmp_path, HEADER + "".join(f"{time},1,1\n" for time in times)))
    assert found.requests == max(sum(start <= time < start + 3600 for time in times) for start in times)


@settings(max_examples=60, deadline=None)
@given(
    content=st.one_of(
        st.binary(max_size=200),
        st.lists(
            st.tuples(
                st.floats() | st.integers(-5, 9000),
                st.integers(-2, 10**9) | st.text(max_size=3),
                st.integers(0, 99),
            ),
            max_size=6,
        ),
    )
)
def test_any_content_gives_a_summary_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes | list[tuple[object, ...]]
) -> None:
    """Nothing else escapes, and a summary's numbers can be."""
    if isinstance(content, bytes):
        data = content
    else:
        data = (HEADER + "".join(",".join(map(str, row)) + "\n" for row in content)).encode(
            "utf-8", "replace"
        )
    path = written(tmp_path_factory.mktemp("trace"), data)
    try:
        found = read_trace(path)
    except TokenmillError:
        return
    assert found.requests >= 1
    assert math.isfinite(found.requests_per_second)
    assert found.requests_per_second > 0
    assert found.input_spread.p50 <= found.input_spread.p95
