"""How a check prints a value of a template, so that an acknowledgement names exactly that finding."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
from constructs import Construct

from tokenmill.security.place import TOKEN, stack_of

if TYPE_CHECKING:
    from constructs import IConstruct

STRENGTH = "@aws-cdk/core:defaultCrossStackReferences"
WEAK = ("weak", "both")
ONE_TOKEN = re.compile(r"\$\{Token\[[^\]]*\]\}")


def printed(scope: IConstruct, value: str) -> str:
    """Return a value as cdk-nag prints it in a finding's id: references as <Name>, imports by their name.

    Args:
        scope: The construct in whose template the value stands.
        value: A text that may hold tokens, such as a bucket's ARN.
    """
    if TOKEN not in value:
        return value
    stack = stack_of(scope)
    reference = _reference(value)
    if reference is None:
        return _flat(stack.resolve(value))
    home = cdk.Stack.of(reference.target)
    if home is stack or home.node.path == stack.node.path:
        return _flat(stack.resolve(value))
    if stack.node.try_get_context(STRENGTH) in WEAK:
        return _weak(home, value)
    return _flat(stack.resolve(home.export_value(value)))


def _reference(value: str) -> cdk.Reference | None:
    """Return the reference that a value is, or None where it is text or more than one token."""
    if not ONE_TOKEN.fullmatch(value):
        return None
    token = cdk.Tokenization.reverse_string(value).first_token
    return token if isinstance(token, cdk.Reference) else None


def _weak(home: cdk.Stack, value: str) -> str:
    """Return a weak reference as a check prints it: JSON, since it knows no Fn::GetStackOutput.

    Synthesis publishes the value in an output whose name follows from its path ("Cross-stack references",
    aws-cdk-lib); a path of the same form in a stack aside has the same name.
    """
    target = json.dumps(home.resolve(value), separators=(",", ":"))
    aside = cdk.Stack(cdk.App(), "Aside")
    output = cdk.CfnOutput(Construct(aside, "Publish"), f"Output{target}", value="")
    place = {
        "StackName": home.stack_name,
        "Region": home.resolve(home.region),
        "OutputName": aside.get_logical_id(output),
    }
    return json.dumps({"Fn::GetStackOutput": place}, separators=(",", ":"))


def _flat(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    ((name, inner),) = value.items()
    if name == "Ref":
        return f"<{inner}>"
    if name == "Fn::GetAtt":
        return f"<{'.'.join(inner)}>"
    if name == "Fn::Join":
        separator, parts = inner
        return str(separator).join(_flat(part) for part in parts)
    return _flat(inner) if name == "Fn::ImportValue" else str(inner)
