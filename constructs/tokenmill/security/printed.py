"""How a check prints a value of a template, so that an acknowledgement names exactly that finding."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import aws_cdk as cdk
from constructs import Construct

from tokenmill.security.place import ACCOUNT_ID, PARTITION, REGION, STACK_ID, TOKEN, node_of, stack_of

if TYPE_CHECKING:
    from constructs import IConstruct

STRENGTH = "@aws-cdk/core:defaultCrossStackReferences"
WEAK = ("weak", "both")
ONE_TOKEN = re.compile(r"\$\{Token\[[^\]]*\]\}")
PSEUDO = {
    PARTITION: "<AWS::Partition>",
    REGION: "<AWS::Region>",
    ACCOUNT_ID: "<AWS::AccountId>",
    STACK_ID: "<AWS::StackId>",
}
_known: WeakKeyDictionary[cdk.Stack, dict[str, str]] = WeakKeyDictionary()


def with_pseudo(value: str) -> str:
    """Return a value whose pseudo parameters are printed; CDK is not asked for these.

    Args:
        value: A text that may hold tokens.
    """
    for token, name in PSEUDO.items():
        value = value.replace(token, name)
    return value


def printed(scope: IConstruct, value: str) -> str:
    """Return a value as cdk-nag prints it in a finding's id: references as <Name>, imports by their name.

    Args:
        scope: The construct in whose template the value stands.
        value: A text that may hold tokens, such as a bucket's ARN.
    """
    value = with_pseudo(value)
    if TOKEN not in value:
        return value
    stack = stack_of(scope)
    known = _known.setdefault(stack, {})
    if value not in known:
        known[value] = _printed(stack, value)
    return known[value]


def _printed(stack: cdk.Stack, value: str) -> str:
    reference = _reference(value)
    if reference is None:
        return flat(stack.resolve(value))
    home = stack_of(reference.target)
    if home is stack or node_of(home).path == node_of(stack).path:
        return flat(stack.resolve(value))
    if node_of(stack).try_get_context(STRENGTH) in WEAK:
        return _weak(home, value)
    return flat(stack.resolve(home.export_value(value)))


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


def flat(node: Any) -> str:
    """Return a resolved value as cdk-nag's flattenCfnReference does.

    Args:
        node: What `Stack.resolve` returned.
    """
    if isinstance(node, str):
        return node.replace("${", "<").replace("}", ">")
    if isinstance(node, dict) and len(node) == 1:
        ((name, inner),) = node.items()
        if name == "Fn::Join":
            return str(inner[0]).join(flat(part) for part in inner[1])
        if name == "Fn::GetAtt":
            return f"<{'.'.join(flat(part) for part in inner)}>"
        if name == "Ref":
            return f"<{flat(inner)}>"
        if name in ("Fn::Sub", "Fn::ImportValue"):
            return flat(inner)
    return json.dumps(node, separators=(",", ":"))
