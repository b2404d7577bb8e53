"""The planned configuration on its own instance type: whether it starts, and how fast it answers."""

from __future__ import annotations

import datetime
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tokenmill.core.errors import TokenmillError
from tokenmill.core.images import image
from tokenmill.core.plan import Plan
from tokenmill.verification import endpoints, looking, planned_load
from tokenmill.verification.line import Deployment
from tokenmill.verification.lines import FOOTPRINTS
from tokenmill.verification.probe import Outcome, Verdict, holds

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tokenmill.verification.aws import Aws

PLAN = Path("chat.plan.json")
# What LlmEndpoint gives a Neuron copy to start.
START_SECONDS = 3600


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
    component, status = endpoints.create_component(aws, endpoint, "planned-copy", planned_copy(aws, plan))
    yield "planned-start", _started(aws, component, status, time.monotonic() - begin)
    if "planned-timing" in wanted:
        yield "planned-timing", planned_load.timing(aws, endpoint, component, status, plan)


def _plan() -> Plan:
    plan, priced = Plan.read(PLAN), FOOTPRINTS[Deployment.PLANNED_ENDPOINT].instance
    if plan.chosen.instance_type != priced:
        raise TokenmillError(
            f"{PLAN} chooses {plan.chosen.instance_type}, and this line is priced for {priced}; "
            f'set instances = ["{priced}"] in [chat.limits], then run: tokenmill plan chat --write'
        )
    return plan


def planned_copy(aws: Aws, plan: Plan) -> endpoints.Copy:
    """Return a copy of what a plan chooses, as LlmEndpoint deploys it.

    Args:
        aws: The run.
        plan: The plan.

    Raises:
        TokenmillError: The image is not in the region.
    """
    chosen = plan.chosen
    serving = image(chosen.image)
    derived = serving.environment(
        model=plan.model.id,
        max_sequences=chosen.max_sequences,
        context_tokens=chosen.context_tokens,
        tensor_parallel=chosen.parallelism.tensor,
    )
    return endpoints.Copy(
        image=serving.uri(aws.region),
        environment={**derived, **chosen.environment},
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
