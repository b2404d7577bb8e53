"""The function and the waiter that stand behind every custom resource of Bedrock in a stack."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_stepfunctions as stepfunctions
from constructs import Construct

from tokenmill.security import FunctionEntry, FunctionHosting, RuntimeFunction, actions
from tokenmill.security.acknowledge import acknowledge, any_resource
from tokenmill.security.custom_resource import custom_resource
from tokenmill.security.logs import log_group
from tokenmill_runtime.functions import BEDROCK_RESOURCES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ID = "TokenmillBedrock"
WAIT_SECONDS = 15
# A step looks, and makes at most a few calls that each may be tried again.
STEP_SECONDS = 120
# Above the waiter's 50 minutes, so that CloudFormation hears the cause and not a time-out of its own.
ANSWER_SECONDS = 3600
WAITER_SECONDS = 3500
# The most that EventBridge Scheduler takes.
RETRY_ATTEMPTS = 185
WAITER_VARIABLE = "TOKENMILL_WAITER"
LEDGER_VARIABLE, LEDGER_PREFIX = "TOKENMILL_LEDGER_PREFIX", "/tokenmill/units"
ASK_STACK_VARIABLE, ASK_QUOTA_VARIABLE = "TOKENMILL_ASK_STACK", "TOKENMILL_ASK_QUOTA"
ENTRY = FunctionEntry(
    runs=BEDROCK_RESOURCES,
    description="Makes, changes and deletes what CloudFormation has no type for on Amazon Bedrock",
    timeout_seconds=STEP_SECONDS,
    memory_mb=128,
)


class BedrockResources(Construct):
    """One function and one small state machine a stack, made when the first resource asks for them.

    The function takes a step and returns; while that is not enough, the state machine waits and calls it
    again, so that waiting burns no Lambda time (AWS Step Functions Developer Guide: "Wait workflow state").
    An execution has the id of CloudFormation's request for its name, so that a request that is delivered
    twice is waited for once ("StartExecution": idempotent for a name and an input). Made by `of`.
    """

    def __init__(self, scope: Construct, id: str, *, hosting: FunctionHosting | None = None) -> None:
        super().__init__(scope, id)
        hosting = hosting or FunctionHosting()
        self.log_group = log_group(self, "WaiterLogs", hosting)
        self.waiter_role = self._waiter_role()
        self.waiter = self._waiter()
        self.handler = RuntimeFunction(
            self,
            "Function",
            entry=ENTRY,
            environment={
                WAITER_VARIABLE: self.waiter.ref,
                LEDGER_VARIABLE: LEDGER_PREFIX,
                ASK_STACK_VARIABLE: "1",
                ASK_QUOTA_VARIABLE: "1",
            },
            hosting=hosting,
        )
        self._call = self._let_call()
        self.grant(iam.PolicyStatement(actions=list(actions.WAITER_START), resources=[self.waiter.ref]))

    @classmethod
    def of(cls, scope: Construct) -> BedrockResources:
        """Return the stack's, and make it at the first call.

        Args:
            scope: A construct of the stack.
        """
        stack = cdk.Stack.of(scope)
        found = stack.node.try_find_child(ID)
        return found if isinstance(found, BedrockResources) else cls(stack, ID)

    def grant(self, *statements: iam.PolicyStatement) -> None:
        """Let the function do something.

        Args:
            statements: Exactly what.
        """
        for statement in statements:
            self.handler.role.add_to_policy(statement)

    def resource(
        self,
        scope: Construct,
        id: str,
        *,
        resource_type: str,
        properties: Mapping[str, object],
        statements: Sequence[iam.PolicyStatement],
    ) -> cdk.CustomResource:
        """Return a custom resource, which the function may make with these rights.

        Args:
            scope: The parent construct.
            id: The construct's id.
            resource_type: A key of `tokenmill_runtime.bedrock_resources.RESOURCES`.
            properties: What is asked for; every value arrives as a text.
            statements: Exactly what the function needs for it.

        Raises:
            TokenmillError: If the type is not of its form, or a property would carry a secret.
        """
        made = custom_resource(
            scope,
            id,
            function=self.handler.function,
            resource_type=resource_type,
            properties=properties,
            timeout_seconds=ANSWER_SECONDS,
        )
        self.grant(*statements)
        # While the resource is made or deleted, the function keeps its rights and the waiter may call it.
        made.node.add_dependency(self)
        return made

    def schedule(
        self,
        scope: Construct,
        id: str,
        *,
        expression: str,
        event: Mapping[str, object],
        time_zone: str = "Etc/UTC",
        retry_seconds: int = 86_400,
    ) -> scheduler.CfnSchedule:
        """Return a schedule that calls the function with an event.

        A call that Lambda could not take is tried again ("RetryPolicy", Amazon EventBridge Scheduler API
        Reference); Lambda itself runs one that failed twice more.

        Args:
            scope: The parent construct.
            id: The construct's id.
            expression: "rate(...)" or "cron(...)".
            event: What the function gets; texts with tokens are fine.
            time_zone: A name of the IANA time zone database that cron follows.
            retry_seconds: How long it is tried again, 60 to 86,400.
        """
        cfn = scheduler.CfnSchedule
        return cfn(
            scope,
            id,
            schedule_expression=expression,
            schedule_expression_timezone=time_zone,
            flexible_time_window=cfn.FlexibleTimeWindowProperty(mode="OFF"),
            target=cfn.TargetProperty(
                arn=self.handler.function.function_arn,
                role_arn=self._scheduler_role().role_arn,
                input=cdk.Stack.of(scope).to_json_string(dict(event)),
                retry_policy=cfn.RetryPolicyProperty(
                    maximum_event_age_in_seconds=retry_seconds, maximum_retry_attempts=RETRY_ATTEMPTS
                ),
            ),
        )

    def _scheduler_role(self) -> iam.Role:
        found = self.node.try_find_child("SchedulerRole")
        if isinstance(found, iam.Role):
            return found
        role = iam.Role(
            self,
            "SchedulerRole",
            assumed_by=iam.ServicePrincipal(
                "scheduler.amazonaws.com",
                # "Prevent confused deputy": schedules of this account only.
                conditions={"StringEquals": {"aws:SourceAccount": cdk.Aws.ACCOUNT_ID}},
            ),
            description="Calls the function of Amazon Bedrock's custom resources on time",
        )
        function = self.handler.function.function_arn
        role.add_to_policy(iam.PolicyStatement(actions=list(actions.CALL_FUNCTION), resources=[function]))
        return role

    def _waiter_role(self) -> iam.Role:
        role = iam.Role(
            self,
            "WaiterRole",
            assumed_by=iam.ServicePrincipal("states.amazonaws.com"),
            description="Waits for resources of Amazon Bedrock",
        )
        for allowed in (actions.STATE_MACHINE_LOGS, actions.STATE_MACHINE_TRACES):
            role.add_to_policy(iam.PolicyStatement(actions=list(allowed), resources=["*"]))
        reason = "CloudWatch Logs' delivery actions and X-Ray's take no resource in a policy."
        acknowledge(role, {any_resource(): reason})
        return role

    def _waiter(self) -> stepfunctions.CfnStateMachine:
        machine = stepfunctions.CfnStateMachine
        made = machine(
            self,
            "Waiter",
            role_arn=self.waiter_role.role_arn,
            definition_string=json.dumps(waiter_definition(cdk.Aws.PARTITION)),
            logging_configuration=machine.LoggingConfigurationProperty(
                level="ALL",
                # The input has the address that the answer is put to, which is as good as a password.
                include_execution_data=False,
                destinations=[
                    machine.LogDestinationProperty(
                        cloud_watch_logs_log_group=machine.CloudWatchLogsLogGroupProperty(
                            log_group_arn=self.log_group.log_group_arn
                        )
                    )
                ],
            ),
            tracing_configuration=machine.TracingConfigurationProperty(enabled=True),
        )
        made.node.add_dependency(self.waiter_role)
        return made

    def _let_call(self) -> iam.CfnPolicy:
        """Let the waiter call the function, in a policy aside: the waiter stands before the function."""
        function = self.handler.function.function_arn
        statement = {"Effect": "Allow", "Action": list(actions.CALL_FUNCTION), "Resource": function}
        return iam.CfnPolicy(
            self,
            "WaiterCalls",
            policy_name="WaiterCalls",
            policy_document={"Version": "2012-10-17", "Statement": [statement]},
            roles=[self.waiter_role.role_name],
        )


def waiter_definition(partition: str) -> dict[str, Any]:
    """Return the waiter in Amazon States Language.

    Its input is {"Function": ARN, "Waiting": event}; it does not name the function, because the function
    names it. The function's answer {"Again": true} has it called again. Retried are Lambda's own errors and
    what the function raised, each a minute at most ("Handling errors in Step Functions workflows"); an
    execution that fails all the same leaves the answer to CloudFormation's time-out.

    Args:
        partition: The AWS partition.
    """
    return {
        "Comment": "Calls a function again until what it makes is there",
        "StartAt": "Step",
        "TimeoutSeconds": WAITER_SECONDS,
        "States": {
            "Wait": {"Type": "Wait", "Seconds": WAIT_SECONDS, "Next": "Step"},
            "Step": {
                "Type": "Task",
                "Resource": f"arn:{partition}:states:::lambda:invoke",
                "Parameters": {
                    "FunctionName.$": "$.Function",
                    "Payload": {"Waiting.$": "$.Waiting", "Since.$": "$$.Execution.StartTime"},
                },
                "TimeoutSeconds": STEP_SECONDS + 30,
                "ResultSelector": {"Again.$": "$.Payload.Again"},
                "ResultPath": "$.Answer",
                "Retry": [
                    {
                        "ErrorEquals": ["States.ALL"],
                        "IntervalSeconds": 10,
                        "BackoffRate": 2,
                        "MaxDelaySeconds": 60,
                        "MaxAttempts": 10,
                        "JitterStrategy": "FULL",
                    }
                ],
                "Next": "Again",
            },
            "Again": {
                "Type": "Choice",
                "Choices": [{"Variable": "$.Answer.Again", "BooleanEquals": True, "Next": "Wait"}],
                "Default": "Answered",
            },
            "Answered": {"Type": "Succeed"},
        },
    }
