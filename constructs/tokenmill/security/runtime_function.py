"""A Lambda function of the runtime: its own role, log group and nothing it does not use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aws_cdk import aws_iam as iam
from constructs import Construct

from tokenmill.security import actions
from tokenmill.security.acknowledge import acknowledge, any_resource
from tokenmill.security.hosting import FunctionHosting
from tokenmill.security.logs import log_group
from tokenmill.security.plain_function import PlainFunction
from tokenmill.security.rights import Right, allow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aws_cdk import aws_lambda as lambda_

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
    """

    function: PlainFunction | lambda_.Function

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        entry: FunctionEntry,
        environment: Mapping[str, str],
        hosting: FunctionHosting | None = None,
    ) -> None:
        super().__init__(scope, id)
        hosting = hosting or FunctionHosting()
        self.log_group = log_group(self, "Logs", hosting)
        self.role = self._role(entry, hosting)
        self.function = self._function(entry, environment, hosting)
        acknowledge(
            self.function,
            {
                "AwsSolutions-L1": "python3.13 is supported by Lambda and pinned, so that a new "
                "interpreter reaches users with a release that was tested on it."
            },
        )

    def _function(
        self, entry: FunctionEntry, environment: Mapping[str, str], hosting: FunctionHosting
    ) -> PlainFunction | lambda_.Function:
        if hosting.vpc is not None or hosting.dead_letter_queue is not None:
            return self._l2(entry, environment, hosting)
        allow(self.role, Right(actions.FUNCTION_TRACES, ["*"]))
        return PlainFunction(
            self,
            "Resource",
            entry=entry,
            environment=environment,
            hosting=hosting,
            log_group=self.log_group,
            role=self.role,
        )

    def _l2(
        self,
        entry: FunctionEntry,
        environment: Mapping[str, str],
        hosting: FunctionHosting,
        layers: Sequence[lambda_.ILayerVersion] = (),
    ) -> lambda_.Function:
        from tokenmill.security.l2_function import l2_function

        return l2_function(
            self,
            "Resource",
            entry=entry,
            environment=environment,
            hosting=hosting,
            layers=layers,
            log_group=self.log_group,
            role=self.role,
        )

    def _role(self, entry: FunctionEntry, hosting: FunctionHosting) -> iam.Role:
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            description=f"Runs the function: {entry.description}",
        )
        allow(role, Right(actions.FUNCTION_LOGS, [self.log_group.log_group_arn]))
        if hosting.vpc is not None:
            # CDK gives network rights to a role of its own making only.
            allow(role, Right(actions.FUNCTION_NETWORK, ["*"]))
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


class LambdaFunction(RuntimeFunction):
    """A function of the runtime that other constructs of CDK take, such as an API.

    Args:
        scope: The parent construct.
        id: The construct's id.
        entry: What it runs.
        environment: Environment variables.
        hosting: Network, keys, retention, concurrency.
        layers: Layers with third-party libraries.
    """

    function: lambda_.Function

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
        self._layers = tuple(layers)
        super().__init__(scope, id, entry=entry, environment=environment, hosting=hosting)

    def _function(
        self, entry: FunctionEntry, environment: Mapping[str, str], hosting: FunctionHosting
    ) -> lambda_.Function:
        return self._l2(entry, environment, hosting, self._layers)
