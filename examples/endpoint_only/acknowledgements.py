"""What this app answers its auditors; copy it with app.py and make the reasons your own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenmill.lint import acknowledge

if TYPE_CHECKING:
    from app import ModelStack

    from tokenmill.security import RuntimeFunction

PACKS = ("NIST.800.53.R5", "HIPAA.Security", "PCI.DSS.321")


def acknowledge_findings(stack: ModelStack) -> None:
    """Acknowledge what remains in the stack.

    Args:
        stack: The stack.
    """
    guard = stack.endpoint.deployment
    functions = [stack.heartbeat.handler] if guard is None else [stack.heartbeat.handler, guard.handler]
    for role in (stack.endpoint.role, *(function.role for function in functions)):
        acknowledge(
            role,
            *(f"{pack}-IAMNoInlinePolicy" for pack in PACKS),
            reason="The policy belongs to this one role and is deleted with it.",
        )
    acknowledge(
        stack.endpoint,
        "Annotation::tokenmill:ImageExperimental",
        reason="The pairing of image and host driver is tried on one endpoint before traffic goes to it.",
    )
    for function in functions:
        _function(function)
    acknowledge(
        stack.heartbeat.rule,
        "Serverless-EventBusDLQ",
        reason="A missed heartbeat is worthless a minute later.",
    )
    if guard is not None:
        acknowledge(
            guard.rule,
            "Serverless-EventBusDLQ",
            reason="The next event of the stack resumes what a lost one left suspended.",
        )


def _function(function: RuntimeFunction) -> None:
    acknowledge(
        function.function,
        *(f"{pack}-LambdaInsideVPC" for pack in PACKS),
        "CKV_AWS_117",
        reason="The function calls AWS services only, by TLS and its own role.",
    )
    acknowledge(
        function.function,
        *(f"{pack}-LambdaConcurrency" for pack in PACKS[:2]),
        "CKV_AWS_115",
        reason="It runs once a minute for a second, or once a deployment.",
    )
    acknowledge(
        function.function,
        *(f"{pack}-LambdaDLQ" for pack in (*PACKS[:2], "Serverless")),
        "CKV_AWS_116",
        reason="A missed heartbeat is worthless a minute later, and a lost request of CloudFormation fails "
        "the deployment.",
    )
    acknowledge(
        function.function,
        "Serverless-LambdaLatestVersion",
        "CKV_AWS_173",
        reason="The runtime is supported, and the variables hold names and no secret.",
    )
    acknowledge(
        function.log_group,
        *(f"{pack}-CloudWatchLogGroupEncrypted" for pack in PACKS),
        "CKV_AWS_158",
        reason="Metrics and names are all that is logged, under the key of CloudWatch Logs.",
    )
