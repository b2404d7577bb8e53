"""Inputs that can be meant, but look like a mistake: another unit, a slipped digit."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokenmill.core.workload import Limits, Slo, TokenSpread, Workload

SHORTEST_TTFT_MS = 20.0
"""No published measurement of a first token in this library's data is faster; 2 and 0.5 are seconds."""
SHORTEST_ITL_MS = 1.0
LONGEST_TTFT_MS = 600_000.0
LONGEST_ITL_MS = 2_000.0
MOST_REQUESTS_PER_SECOND = 5_000.0
FEWEST_REQUESTS_PER_SECOND = 1e-4
FEWEST_OF_A_TRACE = 36 / 3600
LONG_TOKENS = 1_000_000
CV_OF_A_SPREAD = 0.02


def implausible(workload: Workload, slo: Slo, limits: Limits) -> tuple[str, ...]:
    """Return one sentence for each input that looks like a mistake.

    Args:
        workload: What must be carried.
        slo: How fast it must answer.
        limits: What the search may choose from.
    """
    return (*_slo(slo), *_workload(workload), *_limits(limits))


def _slo(slo: Slo) -> Iterator[str]:
    if slo.ttft_ms < SHORTEST_TTFT_MS:
        yield (
            f"slo.ttft_ms = {slo.ttft_ms:g} looks like seconds; goals are in milliseconds, "
            f"{slo.ttft_ms:g} s would be {slo.ttft_ms * 1000:g}"
        )
    if slo.itl_ms < SHORTEST_ITL_MS:
        yield (
            f"slo.itl_ms = {slo.itl_ms:g} looks like seconds; goals are in milliseconds, "
            f"{slo.itl_ms:g} s would be {slo.itl_ms * 1000:g}"
        )
    if slo.ttft_ms > LONGEST_TTFT_MS:
        yield f"slo.ttft_ms = {slo.ttft_ms:g} is more than ten minutes; goals are in milliseconds"
    if slo.itl_ms > LONGEST_ITL_MS:
        yield f"slo.itl_ms = {slo.itl_ms:g} is more than two seconds a token; goals are in milliseconds"
    if slo.itl_ms > slo.ttft_ms:
        yield (
            f"slo.itl_ms = {slo.itl_ms:g} is above slo.ttft_ms = {slo.ttft_ms:g}; a gap between tokens is "
            "rarely longer than the wait for the first, so the two may be swapped"
        )


def _workload(workload: Workload) -> Iterator[str]:
    rate = workload.requests_per_second
    if rate > MOST_REQUESTS_PER_SECOND:
        yield (
            f"traffic.requests_per_second = {rate:g} looks like requests a minute or an hour; "
            f"{rate:g} an hour would be {rate / 3600:.4g}"
        )
    if rate < FEWEST_REQUESTS_PER_SECOND:
        yield f"traffic.requests_per_second = {rate:g} is less than nine requests a day"
    if workload.trace_digest and rate < FEWEST_OF_A_TRACE:
        yield (
            f"the busiest hour of traffic.trace has {rate:.3g} requests/s, too few for percentiles to hold; "
            "arrival_s is in seconds, not milliseconds"
        )
    for side, mean, spread in (
        ("input", workload.input_tokens, workload.input_spread),
        ("output", workload.output_tokens, workload.output_spread),
    ):
        yield from _lengths(side, mean, spread)


def _lengths(side: str, mean: int, spread: TokenSpread | None) -> Iterator[str]:
    name = f"traffic.{side}_tokens"
    if mean > LONG_TOKENS:
        yield f"{name} = {mean} is more than a million tokens a request; characters are about 4 to a token"
    if spread is None:
        return
    if mean > max(1, spread.p95):
        yield (
            f"{name} = {mean} is a mean above the 95th percentile {spread.p95}; "
            "mean and percentiles may be of different traffic"
        )
    elif spread.cv > CV_OF_A_SPREAD and mean < spread.p50 / (1 + spread.cv):
        yield (
            f"{name} = {mean} is a mean far below the median {spread.p50}; "
            "mean and percentiles may be of different traffic"
        )


def _limits(limits: Limits) -> Iterator[str]:
    if limits.min_copies > limits.max_instances * 64:
        yield (
            f"limits.min_copies = {limits.min_copies} can never fit into limits.max_instances = "
            f"{limits.max_instances}"
        )
