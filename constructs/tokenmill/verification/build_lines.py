"""What deployments rely on in CodeBuild, EventBridge and CloudFormation, for cents."""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING, Any

from tokenmill.verification import looking, stacks
from tokenmill.verification.inbox import Inbox, create_rule
from tokenmill.verification.probe import Outcome, Verdict, create_role, holds

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tokenmill.verification.aws import Aws

IMAGE = "aws/codebuild/amazonlinux-x86_64-standard:5.0"
EXPORTED = "PROBE_MADE"
MARK = "TOKENMILL_PROBE_MARK"
# As long as the addresses that CloudFormation gives custom resources, and longer.
_ADDRESS = "https://cloudformation-custom-resource-response.invalid/" + "x" * 2000
_LOG_ACTIONS = ("logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents")
_BUILD_SECONDS = 900
# Five minutes are the shortest that a build may take ("AWS::CodeBuild::Project").
_TIMEOUT_MINUTES = 5
_PARAMETER = "AWS::SSM::Parameter"
# No two of its answers are alike, and each says for which value it was given; cfnresponse is there for
# functions written in a template ("cfn-response module", AWS CloudFormation user guide). Of the address,
# which lets anybody answer for the resource, it tells the date and nothing else.
_FUNCTION = """\
import re
import time
import cfnresponse
def handler(event, context):
    value = event["ResourceProperties"]["Value"] + "-" + event["RequestId"]
    signed = re.search("[?&]X-Amz-Date=([0-9TZ]+)(?:&|$)", event["ResponseURL"])
    times = (signed[1] if signed else "absent") + " " + time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    cfnresponse.send(event, context, cfnresponse.SUCCESS, {"Copies": value, "Times": times}, "probe")
"""
_MOMENT = "%Y%m%dT%H%M%S%z"
# Delivery to a function that nothing else calls, its first start and two clocks.
_DELIVERY_SECONDS = 60
_ROLLBACK_LINES = {"stack-rollback-event", "rollback-holds-again", "rollback-attribute"}
_STACK_LINES = {"response-url-date", *_ROLLBACK_LINES}


def build_lines(aws: Aws, wanted: Collection[str]) -> Iterator[tuple[str, Outcome]]:
    """Run two builds, and update a stack that fails.

    Args:
        aws: The run.
        wanted: Ids of the lines that were asked for.
    """
    inbox = Inbox(aws, "events", service="events.amazonaws.com")
    if _STACK_LINES & set(wanted):
        yield from _stack(aws, inbox)
    if {"build-variables", "build-timeout-event"} & set(wanted):
        project = _create_project(aws, inbox)
        timed = _start(aws, project, pause=_TIMEOUT_MINUTES * 120, minutes=_TIMEOUT_MINUTES)
        if "build-variables" in wanted:
            yield "build-variables", _variables(aws, project)
        if "build-timeout-event" in wanted:
            yield "build-timeout-event", _timeout(aws, timed, inbox)


def _create_project(aws: Aws, inbox: Inbox) -> str:
    name = aws.name("build")
    role = create_role(aws, "build", service="codebuild.amazonaws.com", actions=_LOG_ACTIONS)
    spec = {
        "version": "0.2",
        "env": {"shell": "bash", "exported-variables": [EXPORTED]},
        "phases": {"build": {"commands": ['sleep "$PAUSE"', f'{EXPORTED}="${MARK}"', f"export {EXPORTED}"]}},
    }
    aws.declare("log-group", f"/aws/codebuild/{name}")
    aws.declare("build-project", name)
    aws.settle(
        lambda: aws.client("codebuild").create_project(
            name=name,
            source={"type": "NO_SOURCE", "buildspec": json.dumps(spec)},
            artifacts={"type": "NO_ARTIFACTS"},
            environment={
                "type": "LINUX_CONTAINER",
                "image": IMAGE,
                "computeType": "BUILD_GENERAL1_SMALL",
            },
            serviceRole=role,
            timeoutInMinutes=3 * _TIMEOUT_MINUTES,
            tags=[{"key": tag["Key"], "value": tag["Value"]} for tag in aws.tags],
        ),
        codes=("InvalidInputException",),
    )
    pattern = {
        "source": ["aws.codebuild"],
        "detail-type": ["CodeBuild Build State Change"],
        "detail": {"project-name": [name], "build-status": [{"anything-but": ["IN_PROGRESS"]}]},
    }
    create_rule(aws, "builds", pattern, inbox)
    return name


def _start(aws: Aws, project: str, *, pause: int, minutes: int) -> str:
    values = {"PAUSE": str(pause), MARK: aws.run, "TOKENMILL_PROBE_ADDRESS": _ADDRESS}
    started = aws.client("codebuild").start_build(
        projectName=project,
        timeoutInMinutesOverride=minutes,
        environmentVariablesOverride=[
            {"name": name, "value": value, "type": "PLAINTEXT"} for name, value in values.items()
        ],
    )
    return str(started["build"]["id"])


def _ended(aws: Aws, build: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = aws.client("codebuild").batch_get_builds(ids=[build])["builds"][0]
        return None if found["buildStatus"] == "IN_PROGRESS" else found

    found: dict[str, Any] = aws.wait(f"the end of {build}", look, seconds=_BUILD_SECONDS)
    return found


def _variables(aws: Aws, project: str) -> Outcome:
    found = _ended(aws, _start(aws, project, pause=1, minutes=_TIMEOUT_MINUTES))
    variables = found.get("environment", {}).get("environmentVariables", [])
    given = {item["name"]: item["value"] for item in variables}
    made = {item["name"]: item.get("value", "") for item in found.get("exportedEnvironmentVariables", [])}
    read = {
        "mark_read_back": given.get(MARK) == aws.run,
        "address_read_back": given.get("TOKENMILL_PROBE_ADDRESS") == _ADDRESS,
        "export_read_back": made.get(EXPORTED) == aws.run,
    }
    seen = {"status": found["buildStatus"], **read}
    if found["buildStatus"] != "SUCCEEDED":
        return Outcome(Verdict.UNCLEAR, seen)
    return Outcome(holds(all(read.values())), seen)


def _timeout(aws: Aws, build: str, inbox: Inbox) -> Outcome:
    status = _ended(aws, build)["buildStatus"]
    seen: dict[str, Any] = {"build_status": status}
    if status != "TIMED_OUT":
        return Outcome(Verdict.UNCLEAR, seen)

    def look() -> dict[str, Any] | None:
        return inbox.find(lambda event: str(event["detail"].get("build-id", "")).endswith(build))

    event = looking.or_nothing(lambda: aws.wait("the event", look, seconds=looking.METRIC_SECONDS))
    seen["event_status"] = event["detail"].get("build-status") if event else None
    return Outcome(holds(event is not None), seen)


def _stack(aws: Aws, inbox: Inbox) -> Iterator[tuple[str, Outcome]]:
    name = aws.name("guarded")
    aws.declare("log-group", f"/aws/lambda/{name}")
    stack = stacks.create(aws, name, _template(aws, value="1", broken=False), roles=True)
    pattern = {
        "source": ["aws.cloudformation"],
        "detail-type": ["CloudFormation Stack Status Change"],
        "detail": {"stack-id": [stack]},
    }
    create_rule(aws, "stacks", pattern, inbox)
    yield "response-url-date", _dates(_times(aws, name))
    first = _attribute(aws, name)
    status = stacks.update(aws, name, _template(aws, value="2", broken=True), roles=True)
    if status != "UPDATE_ROLLBACK_COMPLETE":
        for line in sorted(_ROLLBACK_LINES):
            yield line, Outcome(Verdict.UNCLEAR, {"status": status})
        return

    def look() -> dict[str, Any] | None:
        return inbox.find(lambda event: event["detail"].get("status-details", {}).get("status") == status)

    event = looking.or_nothing(lambda: aws.wait("the event", look, seconds=looking.METRIC_SECONDS))
    yield "stack-rollback-event", Outcome(holds(event is not None), {"status": status, "event": event})
    yield "rollback-holds-again", _order(aws, name)
    yield "rollback-attribute", _answer(first, _attribute(aws, name))


def _times(aws: Aws, name: str) -> dict[str, str]:
    """Return what the stack's resources told of their calls: the address's date, and when they had it."""
    (stack,) = aws.client("cloudformation").describe_stacks(StackName=name)["Stacks"]
    return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}


def _dates(times: dict[str, str]) -> Outcome:
    """Tell a date of each call's sending from one of the stack's operation, and from none."""
    if not {"Hold", "Release"} <= times.keys():
        return Outcome(Verdict.UNCLEAR, {**times})
    try:
        (held, hold_got), (released, release_got) = (
            [datetime.datetime.strptime(text, _MOMENT) for text in times[key].split()]
            for key in ("Hold", "Release")
        )
    except ValueError:
        return Outcome(Verdict.FAILS, {**times})
    ages = [(hold_got - held).total_seconds(), (release_got - released).total_seconds()]
    seen = {**times, "seconds_from_date_to_delivery": ages}
    # The release was asked for after the hold had answered, and a parameter had been made of the answer.
    if released < hold_got or min(ages) < -_DELIVERY_SECONDS:
        return Outcome(Verdict.FAILS, seen)
    # A late delivery looks as an early date does.
    return Outcome(Verdict.HOLDS if max(ages) <= _DELIVERY_SECONDS else Verdict.UNCLEAR, seen)


def _attribute(aws: Aws, name: str) -> str:
    """Return what reads the hold's attribute has of it."""
    found = aws.client("cloudformation").describe_stack_resource(StackName=name, LogicalResourceId="Copies")
    parameter = found["StackResourceDetail"]["PhysicalResourceId"]
    return str(aws.client("ssm").get_parameter(Name=parameter)["Parameter"]["Value"])


def _answer(first: str, last: str) -> Outcome:
    """Tell the answer to the rollback's call from the one to the creation, which was for the same value."""
    seen = {"after_creation": first, "after_rollback": last}
    if last.partition("-")[0] != first.partition("-")[0]:
        # What reads it was not put back at all.
        return Outcome(Verdict.UNCLEAR, seen)
    return Outcome(holds(last != first), seen)


def _order(aws: Aws, name: str) -> Outcome:
    """Read in which order the rollback put the hold and what reads its count back."""
    pages = aws.client("cloudformation").get_paginator("describe_stack_events").paginate(StackName=name)
    newest_first = [event for page in pages for event in page["StackEvents"]]
    oldest_first = [(event["LogicalResourceId"], event["ResourceStatus"]) for event in reversed(newest_first)]
    begin = next(
        (
            number
            for number, (_, status) in enumerate(oldest_first)
            if status == "UPDATE_ROLLBACK_IN_PROGRESS"
        ),
        len(oldest_first),
    )
    back = [item for item in oldest_first[begin:] if item[0] in ("Hold", "Copies", "Release")]
    seen = {"rollback": [f"{resource} {status}" for resource, status in back]}
    held, changed = ("Hold", "UPDATE_COMPLETE"), ("Copies", "UPDATE_COMPLETE")
    if changed not in back:
        return Outcome(Verdict.UNCLEAR, seen)
    return Outcome(holds(held in back and back.index(held) < back.index(changed)), seen)


def _template(aws: Aws, *, value: str, broken: bool) -> dict[str, Any]:
    """Return a stack as a guarded endpoint's: a hold, what reads its count, what fails, a release."""
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    rights = {"Effect": "Allow", "Action": list(_LOG_ACTIONS), "Resource": "*"}
    version = "2012-10-17"
    role = {
        "AssumeRolePolicyDocument": {"Version": version, "Statement": [trust]},
        "Policies": [{"PolicyName": "probe", "PolicyDocument": {"Version": version, "Statement": [rights]}}],
    }
    function = {
        "FunctionName": aws.name("guarded"),
        "Runtime": "python3.13",
        "Handler": "index.handler",
        "Timeout": 60,
        "Role": {"Fn::GetAtt": ["Role", "Arn"]},
        "Code": {"ZipFile": _FUNCTION},
    }
    custom = {"ServiceToken": {"Fn::GetAtt": ["Function", "Arn"]}, "Value": value}
    copies = {"Type": "String", "Value": {"Fn::GetAtt": ["Hold", "Copies"]}}
    # Parameter Store refuses a value that its own pattern does not allow.
    last = {"Type": "String", "Value": value, "AllowedPattern": "[a-z]+" if broken else "[0-9]+"}
    return {
        "Resources": {
            "Role": {"Type": "AWS::IAM::Role", "Properties": role},
            "Function": {"Type": "AWS::Lambda::Function", "Properties": function},
            "Hold": {"Type": "Custom::ProbeHold", "Properties": custom},
            "Copies": {"Type": _PARAMETER, "Properties": copies},
            "Last": {"Type": _PARAMETER, "Properties": last, "DependsOn": "Copies"},
            "Release": {"Type": "Custom::ProbeRelease", "Properties": custom, "DependsOn": "Last"},
        },
        "Outputs": {key: {"Value": {"Fn::GetAtt": [key, "Times"]}} for key in ("Hold", "Release")},
    }
