"""State machines whose executions are logged and traced."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aws_cdk import aws_stepfunctions as stepfunctions
    from constructs import Construct


def logged_state_machine(
    scope: Construct,
    id: str,
    *,
    definition: str,
    role_arn: str,
    log_group_arn: str,
    log_data: bool = True,
    tags: Mapping[str, str] | None = None,
) -> stepfunctions.CfnStateMachine:
    """Make a standard state machine; whoever makes it lets the role log, and waits for that.

    Args:
        scope: The parent construct.
        id: The construct's id.
        definition: The states, as JSON.
        role_arn: What it runs with.
        log_group_arn: Where every event of an execution is written.
        log_data: Whether inputs and outputs are written too.
        tags: Its own tags, beside the stack's.
    """
    from aws_cdk import aws_stepfunctions as stepfunctions

    group = {"cloudWatchLogsLogGroup": {"logGroupArn": log_group_arn}}
    return stepfunctions.CfnStateMachine(
        scope,
        id,
        definition_string=definition,
        role_arn=role_arn,
        state_machine_type="STANDARD",
        logging_configuration={"destinations": [group], "includeExecutionData": log_data, "level": "ALL"},
        tracing_configuration={"enabled": True},
        tags=[{"key": key, "value": value} for key, value in tags.items()] if tags else None,
    )
