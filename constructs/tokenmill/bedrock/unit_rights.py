"""What the function of provisioned units may do, and with what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenmill.bedrock.resources import LEDGER_PREFIX
from tokenmill.core._checks import is_token
from tokenmill.security import actions
from tokenmill.security.place import ACCOUNT_ID, PARTITION, REGION, STACK_ID
from tokenmill.security.rights import Right

if TYPE_CHECKING:
    from tokenmill.core.model_units import UnitModel

HANDLE_PREFIX = "/tokenmill/models"
ALARM_PREFIX = "tokenmill-units-"


def arn(service: str, resource: str) -> str:
    """Return an ARN of the stack's account and region, in its partition.

    Args:
        service: The service's namespace.
        resource: Type and name.
    """
    return f"arn:{PARTITION}:{service}:{REGION}:{ACCOUNT_ID}:{resource}"


def model_arn(model: UnitModel | str) -> str:
    """Return the ARN of what is invoked or bought.

    Args:
        model: A purchase's model, or the id of a foundation model.
    """
    name = model if isinstance(model, str) else model.model
    if name.startswith("arn:") or is_token(name):
        return name
    return f"arn:{PARTITION}:bedrock:{REGION}::foundation-model/{name}"


def bought() -> str:
    """Return the pattern of ARNs of units: Bedrock makes each id up when they are bought."""
    return arn("bedrock", "provisioned-model/*")


def unit_statements(model: UnitModel, *, handle: str) -> list[Right]:
    """Return exactly what one resource of provisioned units takes.

    Changing and deleting has no condition on tags, although the function touches nothing without its tag: a
    tag that is not yet known where the policy is read would keep units that cost tens of dollars an hour.

    Args:
        model: What is bought.
        handle: The name of the SSM parameter that callers read.
    """
    units = bought()
    parameters = [arn("ssm", f"parameter{handle}"), arn("ssm", f"parameter{LEDGER_PREFIX}/*")]
    return [
        Right(actions.UNITS_BUY, [model_arn(model)]),
        Right(actions.UNITS_LIST, ["*"]),
        Right(actions.UNITS_CHANGE, [units]),
        Right(actions.UNITS_QUOTA_READ, ["*"]),
        Right(actions.UNITS_LEDGER, parameters),
        Right(actions.UNITS_LEDGER_LIST, [arn("ssm", f"parameter{LEDGER_PREFIX}"), parameters[1]]),
        Right(actions.UNITS_ALARM, [arn("cloudwatch", f"alarm:{ALARM_PREFIX}*")]),
        Right(actions.UNITS_USE_READ, ["*"]),
        Right(actions.UNITS_STACK_READ, [STACK_ID]),
    ]


def unit_reasons() -> dict[str, str]:
    """Return why policies of units have wildcards, by the resource with its tokens."""
    return {
        "*": "Listing units, quotas and metrics takes no resource in a policy, nor do X-Ray and the network "
        "interfaces of a VPC.",
        bought(): "Bedrock makes the id of units up when they are bought; the function changes those that "
        "bear its tag.",
        arn(
            "ssm", f"parameter{LEDGER_PREFIX}/*"
        ): "The ledger has an entry for each purchase, also of earlier "
        "deployments, whose names no template knows.",
        arn("cloudwatch", f"alarm:{ALARM_PREFIX}*"): "An alarm on units that were kept is named after them.",
    }
