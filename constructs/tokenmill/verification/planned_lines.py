"""The planned configuration on its own instance type: whether it starts, and how fast it answers."""

from __future__ import annotations

import datetime
import json
import math
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from tokenmill.core.errors import TokenmillError
from tokenmill.core.images import image
from tokenmill.core.plan import Plan
from tokenmill.verification import endpoints, looking
from tokenmill.verification.line import Deployment
from tokenmill.verification.lines import FOOTPRINTS
from tokenmill.verification.probe import Outcome, Verdict, holds
from tokenmill_runtime.gateway.sse import DONE, SseDecoder

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tokenmill.verification.aws import Aws

PLAN = Path("chat.plan.json")
# What LlmEndpoint gives a Neuron copy to start.
START_SECONDS = 3600
REQUESTS = 32


@dataclass(frozen=True, slots=True)
class Timed:
    """When the pieces of one streamed answer came, in seconds after its request.

    Args:
        arrivals: One time for each piece with text.
        error: Why it has no end, or empty.
    """

    arrivals: tuple[float, ...]
    error: str


def planned_endpoint(aws: Aws, wanted: Collection[str]) -> Iterator[tuple[str, Outcome]]:
    """Serve one copy of the configuration that chat.plan.json chooses, and send it its planned load.

    Args:
        aws: The run.
        wanted: Ids of the lines that were asked for.

    Raises:
        TokenmillError: There is no plan in this folder, or it is for another instance type than is priced.
    """
    plan = _plan()
    endpoint = endpoints.create_accelerated_endpoint(aws, Deployment.PLANNED_ENDPOINT, "planned")
    begin = time.monotonic()
    component, status = endpoints.create_component(aws, endpoint, "planned-copy", _copy(aws, plan))
    yield "planned-start", _started(aws, component, status, time.monotonic() - begin)
    if "planned-timing" in wanted:
        yield "planned-timing", _timing(aws, endpoint, component, status, plan)


def _plan() -> Plan:
    plan, priced = Plan.read(PLAN), FOOTPRINTS[Deployment.PLANNED_ENDPOINT].instance
    if plan.chosen.instance_type != priced:
        raise TokenmillError(
            f"{PLAN} chooses {plan.chosen.instance_type}, and this line is priced for {priced}; "
            f'set instances = ["{priced}"] in [chat.limits], then run: tokenmill plan chat --write'
        )
    return plan


def _copy(aws: Aws, plan: Plan) -> endpoints.Copy:
    chosen = plan.chosen
    serving = image(chosen.image)
    return endpoints.Copy(
        image=serving.uri(aws.region),
        environment=serving.environment(
            model=plan.model.id,
            max_sequences=chosen.max_sequences,
            context_tokens=chosen.context_tokens,
            tensor_parallel=chosen.parallelism.tensor,
        ),
        devices=chosen.chips_per_copy,
        memory_mib=chosen.host_memory_mib,
        start_seconds=START_SECONDS,
    )


def _started(aws: Aws, component: str, status: endpoints.Status, seconds: float) -> Outcome:
    group = looking.component_log(component)
    observations = {
        "status": status.value,
        "failure_reason": status.reason,
        "seconds_to_in_service": round(seconds, 1),
        "memory_utilization_percent": _peak_memory(aws, component),
        "compiled": looking.log_lines(aws, group, pattern="%[Cc]ompil%"),
    }
    if not status.in_service and "capacity" in status.reason.lower():
        return Outcome(Verdict.UNCLEAR, observations)
    return Outcome(holds(status.in_service), observations)


def _peak_memory(aws: Aws, component: str) -> float | None:
    now = datetime.datetime.now(datetime.UTC)
    found = aws.client("cloudwatch").get_metric_statistics(
        Namespace="/aws/sagemaker/InferenceComponents",
        MetricName="MemoryUtilizationNormalized",
        Dimensions=[{"Name": "InferenceComponentName", "Value": component}],
        StartTime=now - datetime.timedelta(hours=2),
        EndTime=now,
        Period=60,
        Statistics=["Maximum"],
    )
    return max((float(point["Maximum"]) for point in found["Datapoints"]), default=None)


def _timing(aws: Aws, endpoint: str, component: str, status: endpoints.Status, plan: Plan) -> Outcome:
    if not status.in_service:
        return Outcome(Verdict.UNCLEAR, {"status": status.value})
    chosen, percentile = plan.chosen, plan.slo.percentile
    answers = _planned_load(aws, endpoint, component, plan)
    errors = [answer.error for answer in answers if answer.error]
    firsts = [1000 * answer.arrivals[0] for answer in answers if answer.arrivals]
    gaps = [
        1000 * (answer.arrivals[-1] - answer.arrivals[0]) / (len(answer.arrivals) - 1)
        for answer in answers
        if len(answer.arrivals) > 1
    ]
    seen: dict[str, Any] = {"answers": len(answers) - len(errors), "errors": errors[:5]}
    if errors or not gaps:
        return Outcome(Verdict.UNCLEAR, seen)
    ttft, itl = _percentile(firsts, percentile), _percentile(gaps, percentile)
    seen |= {
        "percentile": percentile,
        "ttft_ms": {"measured": ttft, "low": chosen.ttft_ms_low, "high": chosen.ttft_ms_high},
        "itl_ms": {"measured": itl, "low": chosen.itl_ms_low, "high": chosen.itl_ms_high},
    }
    inside = (
        chosen.ttft_ms_low <= ttft <= chosen.ttft_ms_high and chosen.itl_ms_low <= itl <= chosen.itl_ms_high
    )
    return Outcome(holds(inside), seen)


def _planned_load(aws: Aws, endpoint: str, component: str, plan: Plan) -> list[Timed]:
    """Send requests at one copy's share of the planned rate, whether or not earlier ones have ended."""
    gap = max(1, plan.chosen.capacity.initial) / plan.workload.requests_per_second
    answers: list[Timed | None] = [None] * REQUESTS
    # One client for all: they are safe to share, making them is not.
    client = aws.client("sagemaker-runtime")

    def ask(number: int) -> None:
        answers[number] = _stream(client, endpoint, component, plan)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(REQUESTS)]
    for thread in threads:
        thread.start()
        # A hurried run, as in a test, waits no longer than its own pace.
        time.sleep(min(gap, aws.pace.poll_seconds))
    for thread in threads:
        thread.join()
    return [answer for answer in answers if answer is not None]


def _stream(client: Any, endpoint: str, component: str, plan: Plan) -> Timed:
    load = plan.workload
    body = {
        # About one token a word.
        "messages": [{"role": "user", "content": "word " * load.input_tokens}],
        "max_tokens": load.output_tokens,
        "ignore_eos": True,
        "stream": True,
    }
    arrivals: list[float] = []
    begin = time.monotonic()
    try:
        answer = client.invoke_endpoint_with_response_stream(
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
        return Timed(tuple(arrivals), f"{type(error).__name__}: {error}")
    return Timed(tuple(arrivals), "" if arrivals else "an answer without text")


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
