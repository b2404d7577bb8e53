"""The load of a plan on one copy, and what its answers took."""

from __future__ import annotations

import json
import math
import random
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from tokenmill.verification.probe import Outcome, Verdict, holds
from tokenmill_runtime.gateway.sse import DONE, SseDecoder

if TYPE_CHECKING:
    from tokenmill.core.plan import Plan
    from tokenmill.verification import endpoints
    from tokenmill.verification.aws import Aws

REQUESTS = 32
# Room in the context for what a chat template adds to the prompt.
_TEMPLATE_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Timed:
    """When the pieces of one streamed answer came, in seconds after its request.

    Args:
        arrivals: One time for each piece with text.
        error: Why it has no end, or empty.
        tokens: Tokens that were asked for.
    """

    arrivals: tuple[float, ...]
    error: str
    tokens: int

    @property
    def ttft_ms(self) -> float:
        """Time to the first piece, in milliseconds."""
        return 1000 * self.arrivals[0]

    @property
    def itl_ms(self) -> float:
        """Mean gap between pieces, in milliseconds; of two pieces or more."""
        return 1000 * (self.arrivals[-1] - self.arrivals[0]) / (len(self.arrivals) - 1)


def timing(aws: Aws, endpoint: str, component: str, status: endpoints.Status, plan: Plan) -> Outcome:
    """Return whether a copy's latencies at the planned load lie in the plan's intervals.

    Args:
        aws: The run.
        endpoint: The endpoint's name.
        component: The copy's name.
        status: How the copy ended up.
        plan: The plan that chose it.
    """
    if not status.in_service:
        return Outcome(Verdict.UNCLEAR, {"status": status.value, "failure_reason": status.reason})
    chosen, percentile = plan.chosen, plan.slo.percentile
    # Alone, an answer takes the engine's own times; the first one also warms up what starts lazily.
    warming, alone = (_stream(aws, endpoint, component, plan, number) for number in (-2, -1))
    answers = _planned_load(aws, endpoint, component, plan)
    errors = [answer.error for answer in (warming, alone, *answers) if answer.error]
    whole = [answer for answer in answers if len(answer.arrivals) > 1]
    seen: dict[str, Any] = {"answers": len(answers) - sum(bool(answer.error) for answer in answers)}
    seen |= {"errors": errors[:5], "extrapolated": list(chosen.extrapolated)}
    if errors or not whole:
        return Outcome(Verdict.UNCLEAR, seen)
    ttft = _percentile([answer.ttft_ms for answer in answers], percentile)
    itl = _percentile([answer.itl_ms for answer in whole], percentile)
    pieces = sum(len(answer.arrivals) for answer in answers)
    seen |= {
        "percentile": percentile,
        "tokens_per_piece": round(sum(answer.tokens for answer in answers) / pieces, 2),
        "ttft_ms": _interval(ttft, chosen.ttft_ms_low, chosen.ttft_ms, chosen.ttft_ms_high),
        "itl_ms": _interval(itl, chosen.itl_ms_low, chosen.itl_ms, chosen.itl_ms_high),
        "alone": _alone(alone, plan),
    }
    inside = (
        chosen.ttft_ms_low <= ttft <= chosen.ttft_ms_high and chosen.itl_ms_low <= itl <= chosen.itl_ms_high
    )
    return Outcome(holds(inside), seen)


def _interval(measured: float, low: float, planned: float, high: float) -> dict[str, float]:
    return {"measured": measured, "low": low, "planned": planned, "high": high}


def _alone(answer: Timed, plan: Plan) -> dict[str, Any]:
    engine, load = plan.chosen.engine, plan.workload
    step = engine.step_ms(1, load.input_tokens + load.output_tokens // 2)
    return {
        "first_token_ms": round(answer.ttft_ms, 1),
        "engine_prefill_ms": round(engine.prefill_ms(load.input_tokens), 1),
        "gap_ms": round(answer.itl_ms, 2) if len(answer.arrivals) > 1 else None,
        "engine_step_ms": round(step, 2),
    }


def _planned_load(aws: Aws, endpoint: str, component: str, plan: Plan) -> list[Timed]:
    """Send requests at one copy's share of the planned rate, whether or not earlier ones have ended."""
    load = plan.workload
    mean_gap = max(1, plan.chosen.capacity.initial) / load.requests_per_second
    answers: list[Timed | None] = [None] * REQUESTS
    # Seeded, so that two runs send the same load.
    draw = random.Random(1)

    def ask(number: int, tokens: int) -> None:
        answers[number] = _stream(aws, endpoint, component, plan, number, tokens)

    # One client for all: they are safe to share, making them is not.
    aws.client("sagemaker-runtime")
    threads = [
        threading.Thread(target=ask, args=(number, _answer_tokens(plan, draw))) for number in range(REQUESTS)
    ]
    for thread in threads:
        thread.start()
        # A hurried run, as in a test, waits no longer than its own pace.
        time.sleep(min(mean_gap * _spread(load.burstiness, draw), aws.pace.poll_seconds))
    for thread in threads:
        thread.join()
    return [answer for answer in answers if answer is not None]


def _spread(burstiness: float, draw: random.Random) -> float:
    """Return a gap of mean 1 whose coefficient of variation is the plan's: gamma, for 1 that of Poisson."""
    return draw.gammavariate(burstiness**-2, burstiness**2) if burstiness else 1.0


def _answer_tokens(plan: Plan, draw: random.Random) -> int:
    """Return the length of an answer: exponential, as the planner takes lengths without a known spread."""
    room = plan.chosen.context_tokens - plan.workload.input_tokens - _TEMPLATE_TOKENS
    return max(2, min(round(draw.expovariate(1 / plan.workload.output_tokens)), room))


def _stream(
    aws: Aws, endpoint: str, component: str, plan: Plan, number: int, tokens: int | None = None
) -> Timed:
    load = plan.workload
    wanted = tokens or load.output_tokens
    # About one token a word. The number comes first, so that no prompt is served from another one's cache.
    prompt = f"{number} " + "word " * load.input_tokens
    body = {
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": wanted,
        "ignore_eos": True,
        "stream": True,
    }
    arrivals: list[float] = []
    begin = time.monotonic()
    try:
        answer = aws.client("sagemaker-runtime").invoke_endpoint_with_response_stream(
            EndpointName=endpoint,
            InferenceComponentName=component,
            ContentType="application/json",
            Body=json.dumps(body).encode(),
        )
        decoder = SseDecoder()
        for part in answer["Body"]:
            events = decoder.feed(part.get("PayloadPart", {}).get("Bytes", b""))
            arrivals += [time.monotonic() - begin for event in events if _has_text(event)]
    except (ClientError, BotoCoreError, OSError, ValueError) as error:
        return Timed(tuple(arrivals), f"{type(error).__name__}: {error}", wanted)
    return Timed(tuple(arrivals), "" if arrivals else "an answer without text", wanted)


def _has_text(event: str) -> bool:
    """Return whether an event brings a token; the first one names the role and the last one the reason."""
    if event == DONE:
        return False
    choices = json.loads(event).get("choices") or [{}]
    delta = choices[0].get("delta", {})
    return any(delta.get(name) for name in ("content", "reasoning", "reasoning_content"))


def _percentile(values: list[float], percent: float) -> float:
    """Return the smallest value that so many percent of the values do not exceed."""
    ordered = sorted(values)
    return round(ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)], 1)
