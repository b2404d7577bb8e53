"""The function and the waiter that stand behind every custom resource of Bedrock in a stack."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_scheduler as scheduler
from constructs import Construct

from tokenmill.bedrock.homes import check_place, of_hosting
from tokenmill.core._kinds import instance_or_none
from tokenmill.core.errors import TokenmillError
from tokenmill.security import FunctionEntry, FunctionHosting, RuntimeFunction, actions
from tokenmill.security.acknowledge import acknowledge, any_resource
from tokenmill.security.custom_resource import custom_resource
from tokenmill.security.json_text import json_text
from tokenmill.security.place import ACCOUNT_ID, PARTITION, node_of, stack_of
from tokenmill.security.rights import Right, allow
from tokenmill.security.state_machine import logged_state_machine
from tokenmill_runtime.functions import BEDROCK_RESOURCES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aws_cdk import aws_stepfunctions as stepfunctions

ID = "TokenmillBedrock"
WAIT_SECONDS = 15
# A step looks, and makes at most a few calls that each may be tried again.
STEP_SECONDS = 120
# Above the waiter's 50 minutes, so that CloudFormation hears the cause and not a time-out of its own.
ANSWER_SECONDS = 3600
WAITER_SECONDS = 3500
# The most that EventBridge Scheduler takes.
RETRY_ATTEMPTS = 185
POLICY_VERSION = "2012-10-17"
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
        self.logged_by = ""
        self.handler = RuntimeFunction(
            self,
            "Function",
            entry=ENTRY,
            environment={
                LEDGER_VARIABLE: LEDGER_PREFIX,
                ASK_STACK_VARIABLE: "1",
                ASK_QUOTA_VARIABLE: "1",
            },
            hosting=hosting,
        )
        self.waiter_role = _role(self, "WaiterRole", "states.amazonaws.com")
        self.waiter = self._waiter()
        self._let_call("WaiterCalls", self.waiter_role)
        waiter = self.waiter.ref
        self.handler.function.add_environment(WAITER_VARIABLE, waiter)
        self.grant(Right(actions.WAITER_START, [waiter]))

    @classmethod
    def of(cls, scope: Construct, *, hosting: FunctionHosting | None = None) -> BedrockResources:
        """Return the stack's, and make it at the first call.

        Args:
            scope: A construct of the stack.
            hosting: Network, keys and logs of the function; said before any construct asks for one.

        Raises:
            TokenmillError: If the hosting is said when the function is there.
        """
        stack = _stack_of(scope)
        found = cls.found(stack)
        if found is None:
            instance_or_none(FunctionHosting, hosting=hosting)
            check_place(stack, ID, of_hosting(hosting))
            made = _made[stack] = cls(stack, ID, hosting=hosting)
            return made
        if hosting is not None:
            raise TokenmillError(
                "hosting comes after the first Bedrock resource of the stack, whose function is there; "
                "call BedrockResources.of(stack, hosting=...) first"
            )
        return found

    @classmethod
    def found(cls, scope: Construct) -> BedrockResources | None:
        """Return the stack's, or None where nothing has asked for one.

        Args:
            scope: A construct of the stack.
        """
        stack = _stack_of(scope)
        # Asked of CDK only where Python has forgotten: jsii's objects live no longer than what names them.
        found = _made.get(stack) or node_of(stack).try_find_child(ID)
        return found if isinstance(found, BedrockResources) else None

    def grant(self, *statements: Right | iam.PolicyStatement) -> None:
        """Let the function do something.

        Args:
            statements: Exactly what.
        """
        allow(self.handler.role, *statements)

    def resource(
        self,
        scope: Construct,
        id: str,
        *,
        resource_type: str,
        properties: Mapping[str, object],
        statements: Sequence[Right | iam.PolicyStatement],
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
        return scheduler.CfnSchedule(
            scope,
            id,
            schedule_expression=expression,
            schedule_expression_timezone=time_zone,
            flexible_time_window={"mode": "OFF"},
            target={
                "arn": self.handler.function.function_arn,
                "roleArn": self._role_of_schedules,
                "input": json_text(scope, event),
                "retryPolicy": {
                    "maximumEventAgeInSeconds": retry_seconds,
                    "maximumRetryAttempts": RETRY_ATTEMPTS,
                },
            },
        )

    @functools.cached_property
    def _role_of_schedules(self) -> str:
        """The ARN of the role that schedules call the function with, made when the first asks for it."""
        # "Prevent confused deputy": schedules of this account only.
        ours = {"StringEquals": {"aws:SourceAccount": ACCOUNT_ID}}
        role = _role(self, "SchedulerRole", "scheduler.amazonaws.com", ours)
        self._let_call("SchedulerCalls", role)
        return role.attr_arn

    def _waiter(self) -> stepfunctions.CfnStateMachine:
        watched = _policy(
            self,
            "WaiterWatched",
            self.waiter_role,
            actions=[*actions.STATE_MACHINE_LOGS, *actions.STATE_MACHINE_TRACES],
            resource="*",
        )
        reason = "CloudWatch Logs' delivery actions and X-Ray's take no resource in a policy."
        acknowledge(watched, {any_resource(): reason})
        made = logged_state_machine(
            self,
            "Waiter",
            definition=json.dumps(waiter_definition(PARTITION)),
            role_arn=self.waiter_role.attr_arn,
            log_group_arn=self.handler.log_group.log_group_arn,
            # The input has the address that the answer is put to, which is as good as a password.
            log_data=False,
        )
        # Step Functions tries the rights on the log group when it makes a state machine.
        made.node.add_dependency(watched)
        return made

    def _let_call(self, id: str, role: iam.CfnRole) -> None:
        """Let a role call the function, in a policy aside: the waiter's role stands before the function."""
        function = self.handler.function.function_arn
        _policy(self, id, role, actions=actions.CALL_FUNCTION, resource=function)


_made: WeakKeyDictionary[cdk.Stack, BedrockResources] = WeakKeyDictionary()


def _stack_of(scope: Construct) -> cdk.Stack:
    if not isinstance(scope, Construct) or isinstance(scope, cdk.App | cdk.Stage):
        raise TokenmillError(f"scope is {scope!r:.80}; give a stack or a construct in one")
    return stack_of(scope)


def _role(
    scope: Construct, id: str, service: str, conditions: Mapping[str, object] | None = None
) -> iam.CfnRole:
    """Return a role that a service assumes; an L2 would cost each synthesis more than it does here."""
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": service}}
    if conditions is not None:
        trust["Condition"] = dict(conditions)
    return iam.CfnRole(
        scope, id, assume_role_policy_document={"Version": POLICY_VERSION, "Statement": [trust]}
    )


def _policy(
    scope: Construct, id: str, role: iam.CfnRole, *, actions: Sequence[str], resource: str
) -> iam.CfnPolicy:
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": resource}
    return iam.CfnPolicy(
        scope,
        id,
        policy_name=id,
        policy_document={"Version": POLICY_VERSION, "Statement": [statement]},
        roles=[role.ref],
    )


def waiter_definition(partition: str) -> dict[str, Any]:
    """Return the waiter in Amazon States Language.

    Its input is {"Function": ARN, "Waiting": event}; it does not name the function, because the function
    names it. The function's answer {"Again": true} has it called again. An "Answer" beside {"Again": false}
    goes back to the function, which tells CloudFormation; being the result of a state, it stays the same
    however often that is tried. Retried are Lambda's own errors and what the function raised, each a minute
    at most ("Handling errors in Step Functions workflows"); an execution that fails all the same leaves the
    answer to CloudFormation's time-out.

    Args:
        partition: The AWS partition.
    """
    since = {"Since.$": "$$.Execution.StartTime"}
    return {
        "Comment": "Calls a function again until what it makes is there",
        "StartAt": "Step",
        "TimeoutSeconds": WAITER_SECONDS,
        "States": {
            "Wait": {"Type": "Wait", "Seconds": WAIT_SECONDS, "Next": "Step"},
            "Step": {
                **_call(partition, since),
                "ResultSelector": {"Said.$": "$.Payload"},
                "ResultPath": "$.Step",
                "Next": "Again",
            },
            "Again": {
                "Type": "Choice",
                "Choices": [
                    {"Variable": "$.Step.Said.Again", "BooleanEquals": True, "Next": "Wait"},
                    {"Variable": "$.Step.Said.Answer", "IsPresent": True, "Next": "Tell"},
                ],
                "Default": "Answered",
            },
            "Tell": {
                **_call(partition, {"Answer.$": "$.Step.Said.Answer"}),
                "ResultPath": None,
                "Next": "Answered",
            },
            "Answered": {"Type": "Succeed"},
        },
    }


def _call(partition: str, more: Mapping[str, str]) -> dict[str, Any]:
    """Return a task that calls the function with the event and something more."""
    return {
        "Type": "Task",
        "Resource": f"arn:{partition}:states:::lambda:invoke",
        "Parameters": {
            "FunctionName.$": "$.Function",
            "Payload": {"Waiting.$": "$.Waiting", **more},
        },
        "TimeoutSeconds": STEP_SECONDS + 30,
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
    }
