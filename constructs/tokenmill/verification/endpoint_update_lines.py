"""What becomes of components in changes at the edges: of copies alone, without copies, in a rollback."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from tokenmill.core.images import serving_image
from tokenmill.core.instances import instance_type
from tokenmill.verification import component_stack, endpoints, looking, small_host
from tokenmill.verification.probe import Outcome, Verdict, holds

if TYPE_CHECKING:
    from tokenmill.verification.aws import Aws
    from tokenmill.verification.component_stack import Place

# As many as the API's model names (botocore: EnvironmentMap).
VARIABLES = 100
# Of the same vendor and host image, cheapest first.
POOLS = ("ml.g6.2xlarge", "ml.g5.2xlarge")
_REFUSED = ("ValidationException", "ValidationError")


def copies_alone(aws: Aws, place: Place) -> Outcome:
    """Change nothing but the copy count in the template of the stack's component.

    Args:
        aws: The run.
        place: Where the component runs.
    """
    name = component_stack.stack_name(aws)
    before = component_stack.settled(aws, name)
    wanted = int(before["RuntimeConfig"]["DesiredCopyCount"]) + 1
    generation = int(before["Specification"]["Container"]["Environment"]["GENERATION"])
    component_stack.update_stack(aws, place, generation=generation, copies=wanted)
    after = component_stack.settled(aws, name)
    seen = {
        "before": wanted - 1,
        "asked": wanted,
        "after": int(after["RuntimeConfig"]["DesiredCopyCount"]),
        "same_component": after.get("CreationTime") == before.get("CreationTime"),
        "failure_reason": after.get("FailureReason", ""),
    }
    return Outcome(holds(seen["after"] == wanted and bool(seen["same_component"])), seen)


def captured(aws: Aws, place: Place) -> Outcome:
    """Ask the stack's component once and look for what the endpoint writes down of it.

    Args:
        aws: The run.
        place: Where the component runs.
    """
    if place.capture_refused:
        return Outcome(Verdict.FAILS, {"accepted": False, "message": place.capture_refused})
    name = component_stack.stack_name(aws)
    aws.client("sagemaker-runtime").invoke_endpoint(
        EndpointName=place.endpoint,
        InferenceComponentName=name,
        ContentType="application/json",
        Body=b"[[0]]",
    )

    def look() -> list[str]:
        found = small_host.keys(aws, place.bucket, component_stack.CAPTURED)
        return [key for key in found if key.startswith(component_stack.CAPTURED)]

    written = looking.or_nothing(lambda: aws.wait("captured data", look, seconds=looking.METRIC_SECONDS))
    return Outcome(holds(bool(written)), {"accepted": True, "objects": written or []})


def many_variables(aws: Aws, place: Place) -> Outcome:
    """Make a component with as many variables as the API allows, and read how many its container has.

    Args:
        aws: The run.
        place: Where it runs.
    """
    name = aws.name("variables")
    specification = component_stack.specification(aws, place, generation=1)
    environment = specification["Container"]["Environment"]
    fillers = [f"{endpoints.FILLER}{number}" for number in range(VARIABLES - len(environment))]
    environment.update(dict.fromkeys(fillers, "filler"))
    aws.declare("log-group", looking.component_log(name))
    aws.declare("inference-component", name)
    seen: dict[str, Any] = {"variables": len(environment), "fillers": len(fillers)}
    try:
        _create(aws, place, name, specification)
    except ClientError as error:
        about = error.response["Error"]["Code"] in _REFUSED and re.search(
            "environment|member|length", str(error), re.IGNORECASE
        )
        return Outcome(Verdict.FAILS if about else Verdict.UNCLEAR, {**seen, "error": str(error)})
    found = component_stack.settled(aws, name)
    seen |= {"status": found["InferenceComponentStatus"], "failure_reason": found.get("FailureReason", "")}
    group = looking.component_log(name)
    counted = looking.or_nothing(
        lambda: aws.wait("the count", lambda: _counts(aws, group), seconds=looking.LOG_SECONDS)
    )
    if not counted:
        return Outcome(Verdict.UNCLEAR, seen)
    return Outcome(holds(max(counted) == len(fillers)), {**seen, "arrived": max(counted)})


def without_copies(aws: Aws, place: Place, name: str) -> Outcome:
    """Change the specification of a component that has no copies, as the deployment guard renders it.

    Args:
        aws: The run.
        place: Where it runs.
        name: The component's name.
    """
    changed = component_stack.specification(aws, place, generation=2)
    try:
        aws.client("sagemaker").update_inference_component(
            InferenceComponentName=name, Specification=changed, RuntimeConfig={"CopyCount": 0}
        )
    except ClientError as error:
        refused = error.response["Error"]["Code"] in _REFUSED
        return Outcome(Verdict.FAILS if refused else Verdict.UNCLEAR, {"error": str(error)})
    found = component_stack.settled(aws, name)
    seen = {
        "status": found["InferenceComponentStatus"],
        "failure_reason": found.get("FailureReason", ""),
        "generation": found["Specification"]["Container"]["Environment"].get("GENERATION"),
        "copies": int(found["RuntimeConfig"]["DesiredCopyCount"]),
    }
    kept = {"status": "InService", "failure_reason": "", "generation": "2", "copies": 0}
    return Outcome(holds(seen == kept), seen)


def no_instances_of_pools(aws: Aws, role: str) -> Outcome:
    """Ask for a configuration with pools that may go down to no instance; it starts nothing.

    Args:
        aws: The run.
        role: ARN of the endpoint's role.
    """
    first = instance_type(POOLS[0])
    variant = endpoints.component_variant(POOLS[0])
    del variant["InstanceType"]
    name = aws.name("pools")
    aws.declare("endpoint-config", name)
    pooled = {
        **variant,
        "InstancePools": [
            {"InstanceType": kind, "Priority": number} for number, kind in enumerate(POOLS, start=1)
        ],
        "InferenceAmiVersion": serving_image(first, aws.region).host_ami,
        "ManagedInstanceScaling": {"Status": "ENABLED", "MinInstanceCount": 0, "MaxInstanceCount": 1},
    }
    return looking.acceptance(
        lambda: aws.settle(
            lambda: aws.client("sagemaker").create_endpoint_config(
                EndpointConfigName=name, ProductionVariants=[pooled], ExecutionRoleArn=role, Tags=aws.tags
            ),
            codes=("ValidationException",),
        ),
        about="MinInstanceCount|minimum|zero|pool",
    )


def _create(aws: Aws, place: Place, name: str, specification: dict[str, Any]) -> None:
    aws.client("sagemaker").create_inference_component(
        InferenceComponentName=name,
        EndpointName=place.endpoint,
        VariantName=endpoints.VARIANT,
        Specification=specification,
        RuntimeConfig={"CopyCount": 1},
        Tags=aws.tags,
    )


def _counts(aws: Aws, group: str) -> list[int]:
    """Return how many fillers the container says that it has, from each line that it printed."""
    found: list[int] = []
    for line in looking.matching_lines(aws, group, endpoints.FILLERS):
        try:
            found.append(int(json.loads(line)[endpoints.FILLERS]))
        except (ValueError, KeyError):
            continue
    return found
