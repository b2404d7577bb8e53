"""How updates of a component go on a full instance: batch by batch, and all at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenmill.verification import component_stack, endpoints, looking, stacks
from tokenmill.verification.probe import Outcome, Verdict, holds

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tokenmill.verification.aws import Aws

COPIES = 2
# Two of three fit the 16 GiB of the host.
_MEMORY_MIB = 5632
_ROLLING = {
    "RollingUpdatePolicy": {
        "MaximumBatchSize": {"Type": "COPY_COUNT", "Value": 1},
        "WaitIntervalInSeconds": 0,
        "MaximumExecutionTimeoutInSeconds": 1200,
    }
}


def rollout_lines(aws: Aws, wanted: Collection[str]) -> Iterator[tuple[str, Outcome]]:
    """Fill an instance with two copies, update them by a stack with and without a batch size.

    Args:
        aws: The run.
        wanted: Ids of the lines that were asked for.
    """
    place = component_stack.create_place(aws)
    name = component_stack.stack_name(aws)
    aws.declare("log-group", looking.component_log(name))
    stacks.create(aws, name, _template(aws, place, generation=1))
    if {"rolling-needs-room", "stack-hides-component-rollback"} & set(wanted):
        status = stacks.update(aws, name, _template(aws, place, generation=2, deployment=_ROLLING))
        found = component_stack.settled(aws, name)
        yield "rolling-needs-room", _needs_room(found)
        yield "stack-hides-component-rollback", _hidden(found, status)
    if "plain-update-ends-first" in wanted:
        fewest: list[int] = []

        def watch() -> None:
            config = component_stack.describe(aws, name)["RuntimeConfig"]
            fewest.append(int(config["CurrentCopyCount"]))

        status = stacks.update(aws, name, _template(aws, place, generation=3), meanwhile=watch)
        yield "plain-update-ends-first", _in_place(component_stack.settled(aws, name), status, fewest)


def _generation(found: dict[str, Any]) -> str:
    return str(found["Specification"]["Container"]["Environment"]["GENERATION"])


def _seen(found: dict[str, Any]) -> dict[str, Any]:
    return {
        "status": found["InferenceComponentStatus"],
        "failure_reason": found.get("FailureReason", ""),
        "generation": _generation(found),
        "copies": found["RuntimeConfig"]["CurrentCopyCount"],
    }


def _needs_room(found: dict[str, Any]) -> Outcome:
    seen = _seen(found)
    if seen["generation"] == "2" and not seen["failure_reason"]:
        return Outcome(Verdict.FAILS, seen)
    # An update that fails for the container's sake says nothing of the room.
    about = any(word in seen["failure_reason"].lower() for word in ("resource", "capacity", "instance"))
    return Outcome(Verdict.HOLDS if about else Verdict.UNCLEAR, seen)


def _hidden(found: dict[str, Any], stack_status: str) -> Outcome:
    seen = {**_seen(found), "stack": stack_status}
    if seen["generation"] != "1" or seen["status"] != "InService":
        # Nothing was rolled back.
        return Outcome(Verdict.UNCLEAR, seen)
    return Outcome(holds(stack_status == "UPDATE_COMPLETE"), seen)


def _in_place(found: dict[str, Any], stack_status: str, fewest: list[int]) -> Outcome:
    seen = {**_seen(found), "stack": stack_status, "copies_meanwhile": sorted(set(fewest))}
    updated = seen["generation"] == "3" and seen["status"] == "InService" and not seen["failure_reason"]
    return Outcome(holds(updated and seen["copies"] == COPIES), seen)


def _template(
    aws: Aws,
    place: component_stack.Place,
    *,
    generation: int,
    deployment: dict[str, Any] | None = None,
) -> dict[str, Any]:
    specification = component_stack.specification(aws, place, generation=generation)
    needs = {**specification["ComputeResourceRequirements"], "MinMemoryRequiredInMb": _MEMORY_MIB}
    properties: dict[str, Any] = {
        "InferenceComponentName": component_stack.stack_name(aws),
        "EndpointName": place.endpoint,
        "VariantName": endpoints.VARIANT,
        "RuntimeConfig": {"CopyCount": COPIES},
        "Specification": {**specification, "ComputeResourceRequirements": needs},
    }
    if deployment is not None:
        properties["DeploymentConfig"] = deployment
    return {
        "Resources": {"Component": {"Type": "AWS::SageMaker::InferenceComponent", "Properties": properties}}
    }
