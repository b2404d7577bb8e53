"""A function and who may call it, as CloudFormation has them: what most functions of a stack need.

Loading the Python classes of aws_cdk.aws_lambda, and those of aws_ec2 with them, costs a synthesis more than
all these functions: so the resources are made without, unless the app has loaded the classes itself.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import jsii
from constructs import Construct

from tokenmill.security.code import check_parts, stage_code, tell_of_code

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aws_cdk import aws_iam as iam
    from aws_cdk import aws_logs as logs

    from tokenmill.security.hosting import FunctionHosting
    from tokenmill.security.runtime_function import FunctionEntry

LAMBDA_MODULE = "aws_cdk.aws_lambda"
RUNTIME, ARCHITECTURE = "python3.13", "arm64"


class _CfnFunction(cdk.CfnResource):
    __jsii_type__ = "aws-cdk-lib.aws_lambda.CfnFunction"


class _CfnPermission(cdk.CfnResource):
    __jsii_type__ = "aws-cdk-lib.aws_lambda.CfnPermission"


def _resource(
    stand_in: type[cdk.CfnResource], scope: Construct, id: str, properties: Mapping[str, Any]
) -> cdk.CfnResource:
    """Return a resource of aws_lambda; for aspects and linters it is one of CDK's own class.

    Where the app has loaded that class, the object is of it in Python too.
    """
    loaded = sys.modules.get(LAMBDA_MODULE)
    name = stand_in.__name__.removeprefix("_")
    klass: type[cdk.CfnResource] = stand_in if loaded is None else getattr(loaded, name)
    made = klass.__new__(klass)
    jsii.create(klass, made, [scope, id, dict(properties)])
    return made


def may_call(
    scope: Construct, id: str, *, function_arn: str, service: str, source_arn: str
) -> cdk.CfnResource:
    """Let a service call a function for one of its resources.

    Args:
        scope: The parent construct.
        id: The construct's id.
        function_arn: The function.
        service: The service's principal, such as "events.amazonaws.com".
        source_arn: The resource, such as a rule.
    """
    allowed = {
        "action": "lambda:InvokeFunction",
        "functionName": function_arn,
        "principal": service,
        "sourceArn": source_arn,
    }
    return _resource(_CfnPermission, scope, id, allowed)


class PlainFunction(Construct):
    """A function without a network, with a role of its own.

    Args:
        scope: The parent construct.
        id: The construct's id.
        entry: What it runs.
        environment: Environment variables.
        hosting: Keys and concurrency; its network is not asked for.
        log_group: The log group.
        role: The role.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        entry: FunctionEntry,
        environment: Mapping[str, str],
        hosting: FunctionHosting,
        log_group: logs.ILogGroup,
        role: iam.Role,
    ) -> None:
        check_parts(entry.runs.parts)
        super().__init__(scope, id)
        code = stage_code(self, entry.runs.parts)
        variables = {**entry.runs.environment, **environment}
        properties = {
            "architectures": [ARCHITECTURE],
            "code": {"s3Bucket": code.bucket, "s3Key": code.key},
            "description": entry.description,
            "environment": {"variables": variables} if variables else None,
            "handler": entry.runs.handler,
            "kmsKeyArn": None if hosting.encryption_key is None else hosting.encryption_key.key_arn,
            "loggingConfig": {"logGroup": log_group.log_group_name},
            "memorySize": entry.memory_mb,
            "reservedConcurrentExecutions": hosting.reserved_concurrency,
            "role": role.role_arn,
            "runtime": RUNTIME,
            "timeout": entry.timeout_seconds,
            "tracingConfig": {"mode": "Active"},
        }
        given = {name: value for name, value in properties.items() if value is not None}
        self.resource = _resource(_CfnFunction, self, "Resource", given)
        # Lambda looks whether the role may be assumed, and the first call needs all its rights.
        self.resource.node.add_dependency(role)
        tell_of_code(self.resource, code)
        self.function_arn: str = jsii.get(self.resource, "attrArn")

    @property
    def function_name(self) -> str:
        """The function's name, as a token."""
        return self.resource.ref

    def add_environment(self, key: str, value: str) -> None:
        """Add an environment variable, or change it.

        Args:
            key: Its name.
            value: Its value.
        """
        self.resource.add_property_override(f"Environment.Variables.{key}", value)

    def add_permission(self, id: str, *, principal: iam.ServicePrincipal, source_arn: str) -> None:
        """Let a service call the function for one of its resources.

        Args:
            id: The construct's id.
            principal: The service.
            source_arn: The resource, such as a rule.
        """
        may_call(self, id, function_arn=self.function_arn, service=principal.service, source_arn=source_arn)
