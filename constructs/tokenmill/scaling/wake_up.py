"""Start a copy when a request found none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from constructs import Construct

from tokenmill.core._checks import whole
from tokenmill.core.errors import TokenmillError
from tokenmill.endpoints.base import SAGEMAKER_NAMESPACE
from tokenmill.scaling._one_more import first_of, one_more

if TYPE_CHECKING:
    from aws_cdk import aws_applicationautoscaling as autoscaling

    from tokenmill.endpoints.base import LlmEndpointBase

METRIC = "NoCapacityInvocationFailures"
START_SECONDS = 900


class WakeUp(Construct):
    """One failed request starts one copy.

    An alarm on NoCapacityInvocationFailures and a step policy ("Scale an endpoint to zero instances", Amazon
    SageMaker AI developer guide). The page's alarm is above 1, which takes two failures in a minute; this one
    fires on the first. While the copy starts, every further request fails too: the cooldown counts that copy
    in, so that callers who retry do not start a fleet ("Step scaling policies for Application Auto Scaling").

    Args:
        scope: The parent construct.
        id: The construct's id.
        endpoint: The component.
        target: Its scalable target, whose fewest copies are 0.
        start_seconds: Longest time that a copy takes to start, in seconds.

    Raises:
        TokenmillError: If the start takes no time, or an hour and more.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        endpoint: LlmEndpointBase,
        target: autoscaling.CfnScalableTarget,
        start_seconds: int = START_SECONDS,
    ) -> None:
        check_start(start_seconds)
        super().__init__(scope, id)
        self.policy = one_more(self, "Policy", target=target, start_seconds=start_seconds)
        self.alarm = first_of(
            self,
            "Alarm",
            metric=(SAGEMAKER_NAMESPACE, METRIC, "Sum"),
            dimensions={"InferenceComponentName": endpoint.component_name},
            description=f"A request found no copy of {endpoint.node.id}; one is being started",
            policy=self.policy,
        )


def check_start(seconds: int) -> None:
    """Check how long a start takes.

    Args:
        seconds: Longest time that a copy takes to start.

    Raises:
        TokenmillError: If it takes no time, or an hour and more.
    """
    if not 60 <= whole("start_seconds", seconds) <= 3600:
        raise TokenmillError(
            f"start_seconds is {seconds}; a start takes from 60 seconds to the hour that SageMaker "
            "waits for a container"
        )
