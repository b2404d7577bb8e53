"""The function behind every custom resource on Amazon Bedrock, and behind what happens to model units between
deployments.

CloudFormation, the waiter (`tokenmill_runtime.waited_resource`) and EventBridge Scheduler call it; a
schedule's event has "UnitsTask".
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, cast

from tokenmill_runtime.waited_resource import handle, read

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenmill_runtime.waited_resource import WaitedResource

# Module and class by type; a function imports only what it is asked for.
RESOURCES: Final[Mapping[str, tuple[str, str]]] = {
    "Custom::TokenmillProvisionedThroughput": ("provisioned_throughput", "ProvisionedThroughputResource"),
    "Custom::TokenmillInvocationLogging": ("invocation_logging", "InvocationLoggingResource"),
    "Custom::TokenmillModelDeployment": ("model_deployment", "ModelDeploymentResource"),
    "Custom::TokenmillModelArtifact": ("model_artifact", "ModelArtifactResource"),
}
TASK: Final = "UnitsTask"
WAITING: Final = "Waiting"


def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any] | None:
    """Serve a request of CloudFormation, a call of the waiter, or a task of the units' schedules."""
    waiting = event.get(WAITING, event)
    if TASK in waiting:
        task = {**waiting, "Since": event["Since"]} if WAITING in event else waiting
        return cast("dict[str, Any]", import_module("tokenmill_runtime.units_tasks").run(task, context))
    asked = read(waiting).resource_type
    return handle(resources_for(asked), event, context)


def resources_for(resource_type: str) -> Mapping[str, WaitedResource]:
    """The resource of a type, by its type; all types, none of them made, for a type that is not known."""
    if resource_type not in RESOURCES:
        return cast("Mapping[str, WaitedResource]", RESOURCES)
    module, name = RESOURCES[resource_type]
    return {resource_type: getattr(import_module(f"tokenmill_runtime.{module}"), name)()}
