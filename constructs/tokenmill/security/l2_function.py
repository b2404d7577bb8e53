"""A function as CDK's own construct, for what takes nothing else: API Gateway, function URLs, networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_lambda as lambda_

from tokenmill.security.code import StagedCode, runtime_code, stage_code, tell_of_code

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aws_cdk import aws_iam as iam
    from aws_cdk import aws_logs as logs
    from constructs import Construct

    from tokenmill.security.hosting import FunctionHosting
    from tokenmill.security.runtime_function import FunctionEntry


class RuntimeCode(lambda_.Code):
    """Parts of the runtime package. Made by `runtime_code`."""

    def __init__(self, parts: Sequence[str]) -> None:
        super().__init__()
        self._parts = tuple(parts)
        self._staged: StagedCode | None = None

    @property
    def is_inline(self) -> bool:
        """The code is an asset."""
        return False

    def bind(self, scope: Construct) -> lambda_.CodeConfig:
        """Stage the code and say where it will be.

        Args:
            scope: The function.
        """
        from aws_cdk import aws_s3 as s3

        self._staged = staged = stage_code(scope, self._parts)
        return lambda_.CodeConfig(s3_location=s3.Location(bucket_name=staged.bucket, object_key=staged.key))

    def bind_to_resource(self, resource: cdk.CfnResource, *, resource_property: str | None = None) -> None:
        """Say in the resource where the code is.

        Args:
            resource: The function's resource.
            resource_property: Its property with the code.
        """
        if self._staged is not None:
            tell_of_code(resource, self._staged)


def l2_function(
    scope: Construct,
    id: str,
    *,
    entry: FunctionEntry,
    environment: Mapping[str, str],
    hosting: FunctionHosting,
    layers: Sequence[lambda_.ILayerVersion],
    log_group: logs.ILogGroup,
    role: iam.Role,
) -> lambda_.Function:
    """Return the function, whose template is a PlainFunction's with what that cannot have.

    Args:
        scope: The parent construct.
        id: The construct's id.
        entry: What it runs.
        environment: Environment variables.
        hosting: Network, keys, concurrency.
        layers: Layers with third-party libraries.
        log_group: The log group.
        role: The role.
    """
    return lambda_.Function(
        scope,
        id,
        code=runtime_code(entry.runs.parts),
        handler=entry.runs.handler,
        runtime=lambda_.Runtime.PYTHON_3_13,
        architecture=lambda_.Architecture.ARM_64,
        description=entry.description,
        environment={**entry.runs.environment, **environment},
        environment_encryption=hosting.encryption_key,
        dead_letter_queue=hosting.dead_letter_queue,
        layers=list(layers),
        log_group=log_group,
        memory_size=entry.memory_mb,
        reserved_concurrent_executions=hosting.reserved_concurrency,
        role=role,
        timeout=cdk.Duration.seconds(entry.timeout_seconds),
        tracing=lambda_.Tracing.ACTIVE,
        vpc=hosting.vpc,
        security_groups=list(hosting.security_groups) or None,
    )
