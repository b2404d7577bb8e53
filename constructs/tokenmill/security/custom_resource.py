"""Custom resources that a function of the runtime answers itself, without CDK's provider framework."""

from __future__ import annotations

import functools
import json
import re
from typing import TYPE_CHECKING

import aws_cdk as cdk

from tokenmill.core.errors import TokenmillError
from tokenmill.security.place import stack_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aws_cdk import aws_lambda as lambda_
    from constructs import Construct

    from tokenmill.security.plain_function import PlainFunction

PREFIX = "Custom::Tokenmill"
# "ServiceTimeout" of AWS::CloudFormation::CustomResource: 1 to 3,600 s.
LONGEST_SECONDS = 3600
# "Custom resource response objects" and "ResourceType": at most 60 characters after Custom::, of these.
TYPE = re.compile(rf"{PREFIX}[A-Za-z0-9_@-]{{1,40}}")
# Secrets that CloudFormation resolves before it sends the properties, which then stand in the function's
# event ("Use dynamic references to specify template values": not in a custom resource).
SECRET_REFERENCES = ("{{resolve:secretsmanager:", "{{resolve:ssm-secure:")


def custom_resource(
    scope: Construct,
    id: str,
    *,
    function: PlainFunction | lambda_.IFunction,
    resource_type: str,
    properties: Mapping[str, object],
    timeout_seconds: int = LONGEST_SECONDS,
) -> cdk.CustomResource:
    """Return a custom resource; its function answers with `tokenmill_runtime.custom_resource.run`.

    Args:
        scope: The parent construct.
        id: The construct's id.
        function: The function.
        resource_type: What the function's table of resources calls it, such as "Custom::TokenmillHold".
        properties: What is asked for; a change of one calls the function, and every value arrives as a text.
        timeout_seconds: How long CloudFormation waits for the answer, in seconds, 1 to 3,600.

    Raises:
        TokenmillError: If the type or the time is not of its form, or a property would carry a secret.
    """
    if not TYPE.fullmatch(resource_type):
        raise TokenmillError(
            f"resource_type is {resource_type!r}; it must be {PREFIX} and 1 to 40 letters or digits"
        )
    if not 1 <= timeout_seconds <= LONGEST_SECONDS:
        raise TokenmillError(
            f"timeout_seconds is {timeout_seconds}; CloudFormation allows 1 to {LONGEST_SECONDS}"
        )
    _refuse_secrets(scope, resource_type, properties)
    return cdk.CustomResource(
        scope,
        id,
        service_token=function.function_arn,
        resource_type=resource_type,
        service_timeout=_seconds(timeout_seconds),
        properties=dict(properties),
    )


@functools.cache
def _seconds(number: int) -> cdk.Duration:
    return cdk.Duration.seconds(number)


def _refuse_secrets(scope: Construct, resource_type: str, properties: Mapping[str, object]) -> None:
    # One call for all of them: each crosses into another process.
    resolved = stack_of(scope).resolve(dict(properties)) or {}
    for name, value in resolved.items():
        text = json.dumps(value, default=str)
        for reference in SECRET_REFERENCES:
            if reference in text:
                raise TokenmillError(
                    f"property {name!r} of {resource_type} has a dynamic reference {reference}…}}}}, which "
                    "would put the secret into the function's event; give the secret's ARN and let the "
                    "function read it"
                )
