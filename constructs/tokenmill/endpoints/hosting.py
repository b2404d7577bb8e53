"""Who an endpoint's containers are and where they stand: role, network, keys, what is written down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenmill.core._checks import as_whole, of_kind
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from aws_cdk import aws_iam as iam
    from aws_cdk import aws_kms as kms

    from tokenmill.endpoints.data_capture import DataCapture
    from tokenmill.endpoints.network import EndpointNetwork
    from tokenmill.security import FunctionHosting

# "MetricsConfig", Amazon SageMaker API Reference.
METRIC_SECONDS = (10, 30, 60, 120, 180, 240, 300)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointHosting:
    """What the containers of an endpoint are given, whatever they serve.

    Args:
        role: What the containers may do; a role with exactly what serving needs otherwise. A given role gets
            no policy of ours.
        network: The VPC that containers join; SageMaker's own network otherwise.
        encryption_key: The key of the storage volumes; refused where the instance type has local NVMe
            storage.
        isolated: Whether containers have no network at all, not even out; weights have to come from S3 or
            the image then.
        data_capture: What is written down of requests and answers; nothing otherwise.
        metric_seconds: How often SageMaker publishes its metrics, in seconds.
        functions: Network, keys and logs of the function that guards deployments.

    Raises:
        TokenmillError: If SageMaker has no such metric period.
    """

    role: iam.IRole | None = None
    network: EndpointNetwork | None = None
    encryption_key: kms.IKey | None = None
    isolated: bool = False
    data_capture: DataCapture | None = None
    metric_seconds: int = 10
    functions: FunctionHosting | None = None

    def __post_init__(self) -> None:
        of_kind(self, "isolated", bool)
        as_whole(self, "metric_seconds")
        if self.metric_seconds not in METRIC_SECONDS:
            allowed = ", ".join(str(seconds) for seconds in METRIC_SECONDS)
            raise TokenmillError(f"metric_seconds is {self.metric_seconds}; allowed are {allowed}")
