"""The lines behind the front door: chunks, metrics, callers who leave, streams that break."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenmill.verification import front_door, looking
from tokenmill.verification.dead_letters import dead_letters
from tokenmill.verification.probe import Outcome, Verdict, holds

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tokenmill.verification.aws import Aws

# What the shipped bootstrap logs when the Runtime API refuses more of a response.
_GONE = "Lambda takes no more of the response"
_LEFT_SECONDS = front_door.TIMEOUT_SECONDS + 180
_ANSWER_SECONDS = 120


def front_door_lines(aws: Aws, wanted: Collection[str]) -> Iterator[tuple[str, Outcome]]:
    """Deploy the front door once and look at what comes through it.

    Args:
        aws: The run.
        wanted: Ids of the lines that were asked for.
    """
    url = front_door.create_front_door(aws)
    # A new stage answers 403 or 5xx for some seconds, and the first request starts the function.
    answers = looking.or_nothing(
        lambda: aws.wait("an answer", lambda: _answered(aws, url), seconds=_ANSWER_SECONDS)
    )
    streamed = answers or front_door.stream(aws, url)
    yield from _streaming(streamed)
    if "wrapped-runtime-emf" in wanted:
        yield "wrapped-runtime-emf", _wrapped_metrics(aws, streamed)
    if "caller-gone" in wanted:
        yield "caller-gone", _caller_gone(aws, url, streamed)
    if "stream-error-cuts" in wanted:
        yield "stream-error-cuts", _stream_error(front_door.break_off(aws, url))
    if "dead-letters-key" in wanted:
        function = f"function:{aws.name('front-door')}"
        arn = f"arn:{aws.partition}:lambda:{aws.region}:{aws.account}:{function}"
        yield "dead-letters-key", dead_letters(aws, arn)


def _streaming(streamed: front_door.Streamed) -> Iterator[tuple[str, Outcome]]:
    observations = {
        "status": streamed.status,
        "lines": list(streamed.lines)[: front_door.CHUNKS],
        "arrivals_seconds": list(streamed.arrivals)[: front_door.CHUNKS],
        "spread_seconds": round(streamed.spread_seconds, 3),
    }
    expected = (front_door.CHUNKS - 1) * front_door.SECONDS_BETWEEN
    one_by_one = len(streamed.lines) == front_door.CHUNKS and streamed.spread_seconds >= 0.7 * expected
    yield "rest-api-streaming", Outcome(holds(streamed.status == 200 and one_by_one), observations)
    # The managed runtime cannot load our handler's form: an answer means that the wrapper ran.
    started = streamed.status == 200 and streamed.machines == ("aarch64",)
    yield "arm64-exec-wrapper", Outcome(holds(started), observations | {"machines": list(streamed.machines)})


def _wrapped_metrics(aws: Aws, streamed: front_door.Streamed) -> Outcome:
    if streamed.status != 200:
        return Outcome(Verdict.UNCLEAR, {"status": streamed.status})
    group = _log_group(aws)
    printed = looking.or_nothing(
        lambda: aws.wait(
            "a log event",
            lambda: looking.matching_lines(aws, group, "CloudWatchMetrics"),
            seconds=looking.METRIC_SECONDS,
        )
    )

    def metrics() -> list[Any]:
        found: list[Any] = aws.client("cloudwatch").list_metrics(
            Namespace=front_door.EMF_NAMESPACE,
            MetricName=front_door.EMF_METRIC,
            Dimensions=[{"Name": "Run", "Value": aws.run}],
        )["Metrics"]
        return found

    if not printed:
        return Outcome(Verdict.UNCLEAR, {"log_events": [], "metric_found": False})
    seen = looking.or_nothing(lambda: aws.wait("the metric", metrics, seconds=looking.METRIC_SECONDS))
    return Outcome(holds(bool(seen)), {"log_events": printed[:3], "metric_found": bool(seen)})


def _caller_gone(aws: Aws, url: str, streamed: front_door.Streamed) -> Outcome:
    if streamed.status != 200:
        return Outcome(Verdict.UNCLEAR, {"status": streamed.status})
    group = _log_group(aws)
    first = front_door.leave(aws, url)

    def look() -> tuple[list[str], list[str]] | None:
        gone = looking.matching_lines(aws, group, _GONE)
        to_the_end = looking.matching_lines(aws, group, f"{front_door.ANSWERED} {front_door.LEAVING_LINES}")
        return (gone, to_the_end) if gone or to_the_end else None

    found = looking.or_nothing(lambda: aws.wait("the end of the stream", look, seconds=_LEFT_SECONDS))
    gone, to_the_end = found or ([], [])
    seen: dict[str, Any] = {"first_line": first, "noticed": gone, "answered_to_the_end": bool(to_the_end)}
    if gone:
        return Outcome(Verdict.HOLDS, seen)
    return Outcome(Verdict.FAILS if to_the_end else Verdict.UNCLEAR, seen)


def _stream_error(broken: front_door.Broken) -> Outcome:
    seen = {"status": broken.status, "body": broken.body, "cut_off": broken.cut_off}
    # Without the first half of the lines, the failure did not come in the middle of a stream.
    in_the_middle = broken.status == 200 and bool(broken.body)
    return Outcome(holds(broken.cut_off) if in_the_middle else Verdict.UNCLEAR, seen)


def _log_group(aws: Aws) -> str:
    return f"/aws/lambda/{aws.name('front-door')}"


def _answered(aws: Aws, url: str) -> front_door.Streamed | None:
    streamed = front_door.stream(aws, url)
    return streamed if streamed.status == 200 else None
