"""Custom resources of our own functions: what none of them may have."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_lambda as lambda_

from tokenmill.core.errors import TokenmillError
from tokenmill.security.custom_resource import custom_resource


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"resource_type": "Custom::Other"},
            "resource_type is 'Custom::Other'; it must be Custom::Tokenmill",
        ),
        ({"timeout_seconds": 3601}, "timeout_seconds is 3601; CloudFormation allows 1 to 3600"),
        (
            {"properties": {"Token": cdk.SecretValue.secrets_manager("hf").unsafe_unwrap()}},
            "property 'Token' of Custom::TokenmillThing has a dynamic reference",
        ),
    ],
)
def test_fails_for_what_no_custom_resource_may_have(
    stack: cdk.Stack, change: dict[str, Any], sentence: str
) -> None:
    """A type of another owner, a wait that CloudFormation refuses, a secret in the event."""
    function = lambda_.Function.from_function_arn(
        stack, "Function", "arn:aws:lambda:us-east-1:123456789012:function:guard"
    )
    arguments: dict[str, Any] = {"resource_type": "Custom::TokenmillThing", "properties": {}} | change
    with pytest.raises(TokenmillError) as raised:
        custom_resource(stack, "Thing", function=function, **arguments)
    assert str(raised.value).startswith(sentence)
    assert stack.node.try_find_child("Thing") is None
