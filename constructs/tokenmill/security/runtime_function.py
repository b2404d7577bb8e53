"""A Lambda function of the runtime: its own role, log group and nothing it does not use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from tokenmill.security import actions
from tokenmill.security.acknowledge import acknowledge, any_resource
from tokenmill.security.code import runtime_code
from tokenmill.security.hosting import FunctionHosting
from tokenmill.security.logs import log_group

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tokenmill_runtime.functions import FunctionParts


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionEntry:
    """What a function runs.

    Args:
        runs: Handler, files and fixed environment, as the runtime says them.
        description: What the function is for, in one sentence.
        timeout_seconds: The longest run, in seconds.
        memory_mb: Memory, in MiB; Lambda gives CPU in proportion.
    """

    runs: FunctionParts
    description: str
    timeout_seconds: int
    memory_mb: int = 256


class RuntimeFunction(Construct):
    """A Lambda function of the runtime.

    Args:
        scope: The parent construct.
        id: The construct's id.
        entry: What it runs.
        environment: Environment variables.
        hosting: Network, keys, retention, concurrency.
        layers: Layers with third-party libraries.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        entry: FunctionEntry,
        environment: Mapping[str, str],
        hosting: FunctionHosting | None = None,
        layers: Sequence[lambda_.ILayerVersion] = (),
    ) -> None:
        super().__init__(scope, id)
        hosting = hosting or FunctionHosting()
        self.log_group = log_group(self, "Logs", hosting)
        self.role = self._role(entry, hosting)
        self.function = lambda_.Function(
            self,
            "Resource",
            code=runtime_code(entry.runs.parts),
            handler=entry.runs.handler,
            runtime=lambda_.Runtime.PYTHON_3_13,
            architecture=lambda_.Architecture.ARM_64,
            description=entry.description,
            environment={**entry.runs.environment, **environment},
            environment_encryption=hosting.encryption_key,
            dead_letter_queue=hosting.dead_letter_queue,
            layers=list(layers),
            log_group=self.log_group,
            memory_size=entry.memory_mb,
            reserved_concurrent_executions=hosting.reserved_concurrency,
            role=self.role,
            timeout=cdk.Duration.seconds(entry.timeout_seconds),
            tracing=lambda_.Tracing.ACTIVE,
            vpc=hosting.vpc,
            security_groups=list(hosting.security_groups) or None,
        )
        acknowledge(
            self.function,
            {
                "AwsSolutions-L1": "python3.13 is supported by Lambda and pinned, so that a new "
                "interpreter reaches users with a release that was tested on it."
            },
        )

    def _role(self, entry: FunctionEntry, hosting: FunctionHosting) -> iam.Role:
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            description=f"Runs the function: {entry.description}",
        )
        logs = [self.log_group.log_group_arn]
        role.add_to_policy(iam.PolicyStatement(actions=list(actions.FUNCTION_LOGS), resources=logs))
        if hosting.vpc is not None:
            # CDK gives network rights to a role of its own making only.
            role.add_to_policy(iam.PolicyStatement(actions=list(actions.FUNCTION_NETWORK), resources=["*"]))
        if hosting.encryption_key is not None:
            hosting.encryption_key.grant(role, *actions.FUNCTION_KEY)
        acknowledge(
            role,
            {
                any_resource(): "X-Ray's PutTraceSegments and PutTelemetryRecords, and network interfaces in "
                "a VPC, take no resource in a policy."
            },
        )
        return role
