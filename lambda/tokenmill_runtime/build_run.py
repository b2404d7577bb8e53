"""Starts a CodeBuild build for a custom resource, and answers CloudFormation when the build is over.

Nobody waits in between: the build carries the request's identity in its environment, and EventBridge's
"CodeBuild Build State Change" (AWS CodeBuild user guide: "Build notifications input format reference") calls
the same function at its end. Builds are found again by the digest of what was asked for, so that a repeated
delivery, a rollback or an update that changes nothing takes the outputs of the build that is there.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from tokenmill_runtime.aws import codebuild, logs
from tokenmill_runtime.custom_resource import Answer, Identity, Request, respond, run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

RESOURCE_TYPE: Final = "Custom::TokenmillBuildRun"
# A line of a build's log that begins so says in plain words why the build failed.
FAILURE_MARK: Final = "TOKENMILL_FAILED: "
LOG_LINES: Final = 100
# A line can reach CloudWatch Logs after the event that the build is over.
LOG_ATTEMPTS: Final = 4
LOG_WAIT_SECONDS: Final = 2.0

_PREFIX: Final = "TOKENMILL_RUN_"
_URL: Final = f"{_PREFIX}RESPONSE_URL"
_STACK: Final = f"{_PREFIX}STACK_ID"
_REQUEST: Final = f"{_PREFIX}REQUEST_ID"
_LOGICAL: Final = f"{_PREFIX}LOGICAL_ID"
_PHYSICAL: Final = f"{_PREFIX}PHYSICAL_ID"
_CONTENT: Final = f"{_PREFIX}CONTENT"
_OUTPUTS: Final = f"{_PREFIX}OUTPUTS"

Build = dict[str, Any]


def handler(event: Mapping[str, Any], context: Any) -> None:
    """Take a request of CloudFormation, or EventBridge's news that a build is over."""
    if event.get("source") == "aws.codebuild":
        answer_for(event["detail"])
    else:
        run(event, context, {RESOURCE_TYPE: on_request})


def on_request(request: Request) -> Answer | None:
    """Start, reuse or stop builds for a request; None where the end of a build answers it."""
    project = request.properties["Project"]
    physical_id = request.physical_id or request.own_id
    if request.kind == "Delete":
        _stop(_running(_builds(project), request))
        return Answer(physical_id=physical_id)
    content = _content(request.properties)
    builds = _builds(project)
    outputs = _names(request.properties.get("Outputs", []))
    for build in builds:
        if build["buildStatus"] == "SUCCEEDED" and _variables(build).get(_CONTENT) == content:
            found = _exported(build)
            if not outputs - found.keys():
                return Answer(physical_id=physical_id, data=found)
    running = _running(builds, request)
    if any(_variables(build).get(_REQUEST) == request.request_id for build in running):
        return None
    _stop(running)
    _start(project, request, physical_id=physical_id, content=content, outputs=outputs)
    return None


def answer_for(detail: Mapping[str, Any]) -> None:
    """Answer CloudFormation for a build that is over.

    Raises RuntimeError while CodeBuild still calls the build running: Lambda then runs the event again.
    """
    build_id = str(detail["build-id"]).rpartition(":build/")[2]
    builds = codebuild().batch_get_builds(ids=[build_id])["builds"]
    if not builds:
        raise RuntimeError(f"CodeBuild does not know the build {build_id} that it reported")
    build: Build = dict(builds[0])
    if build["buildStatus"] == "IN_PROGRESS":
        raise RuntimeError(f"CodeBuild reported the end of {build_id}, but calls it running")
    variables = _variables(build)
    if _URL not in variables:
        print(f"build {build_id} was started by hand; nobody waits for it", file=sys.stderr)
        return
    identity = Identity(
        response_url=variables[_URL],
        stack_id=variables[_STACK],
        request_id=variables[_REQUEST],
        logical_id=variables[_LOGICAL],
    )
    physical_id = variables[_PHYSICAL]
    reason = _failure(build)
    if reason is None:
        try:
            respond(identity, status="SUCCESS", physical_id=physical_id, data=_exported(build))
        except ValueError as too_long:
            reason = str(too_long)
    if reason is not None:
        respond(identity, status="FAILED", physical_id=physical_id, reason=reason)


def _content(properties: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(dict(properties), sort_keys=True).encode()).hexdigest()


def _names(value: Iterable[str]) -> set[str]:
    return {name for name in value if name}


def _start(project: str, request: Request, *, physical_id: str, content: str, outputs: set[str]) -> None:
    values = {
        _URL: request.response_url,
        _STACK: request.stack_id,
        _REQUEST: request.request_id,
        _LOGICAL: request.logical_id,
        _PHYSICAL: physical_id,
        _CONTENT: content,
        _OUTPUTS: ",".join(sorted(outputs)),
    }
    started = codebuild().start_build(
        projectName=project,
        # Valid for five minutes (StartBuild); a later repetition finds the running build by its request.
        idempotencyToken=request.request_id,
        environmentVariablesOverride=[
            {"name": name, "value": value, "type": "PLAINTEXT"} for name, value in values.items()
        ],
    )
    print(f"started {started['build']['id']} for {request.kind} of {request.logical_id}")


def _builds(project: str) -> list[Build]:
    """Return the project's latest builds, newest first; none where the project is gone."""
    from botocore.exceptions import ClientError

    try:
        ids = codebuild().list_builds_for_project(projectName=project)["ids"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise
        return []
    if not ids:
        return []
    # BatchGetBuilds takes 100 ids, which is what one page holds, and keeps no order.
    found = {build["id"]: dict(build) for build in codebuild().batch_get_builds(ids=ids)["builds"]}
    return [found[build_id] for build_id in ids if build_id in found]


def _running(builds: Iterable[Build], request: Request) -> list[Build]:
    return [
        build
        for build in builds
        if build["buildStatus"] == "IN_PROGRESS"
        and _variables(build).get(_LOGICAL) == request.logical_id
        and _variables(build).get(_STACK) == request.stack_id
    ]


def _stop(builds: Iterable[Build]) -> None:
    for build in builds:
        codebuild().stop_build(id=build["id"])
        print(f"stopped {build['id']}")


def _variables(build: Build) -> dict[str, str]:
    return {
        variable["name"]: variable["value"]
        for variable in build.get("environment", {}).get("environmentVariables", [])
        if variable["name"].startswith(_PREFIX)
    }


def _exported(build: Build) -> dict[str, str]:
    return {item["name"]: item["value"] for item in build.get("exportedEnvironmentVariables", [])}


def _failure(build: Build) -> str | None:
    """Return why the build is no success, in one sentence; None where it is one."""
    status = build["buildStatus"]
    if status == "SUCCEEDED":
        wanted = _names(_variables(build).get(_OUTPUTS, "").split(","))
        missing = sorted(wanted - _exported(build).keys())
        return None if not missing else f"the build ended well, but did not export {', '.join(missing)}"
    where = f"build {build['id']}"
    if status == "STOPPED":
        return f"{where} was stopped"
    said = _last_words(build)
    if said:
        return f"{said} ({where})"
    if status == "TIMED_OUT":
        return f"{where} ran longer than its {build.get('timeoutInMinutes', '?')} minutes"
    phases = "; ".join(_phases(build))
    return f"{where} ended {status}" + (f": {phases}" if phases else "")


def _phases(build: Build) -> Iterator[str]:
    for phase in build.get("phases", []):
        if phase.get("phaseStatus") in ("FAILED", "FAULT", "CLIENT_ERROR", "TIMED_OUT"):
            texts = [str(context.get("message", "")).strip() for context in phase.get("contexts", [])]
            yield f"{phase['phaseType']} {' '.join(text for text in texts if text)}".strip()


def _last_words(build: Build) -> str:
    """Return what the build's program said of its failure, or nothing where it said nothing."""
    from botocore.exceptions import ClientError

    place = build.get("logs", {})
    if not place.get("groupName") or not place.get("streamName"):
        return ""
    for attempt in range(LOG_ATTEMPTS):
        if attempt:
            time.sleep(LOG_WAIT_SECONDS)
        try:
            events = logs().get_log_events(
                logGroupName=place["groupName"], logStreamName=place["streamName"], limit=LOG_LINES
            )["events"]
        except ClientError as error:
            # The phases say what failed as well; an unreadable log must not keep CloudFormation waiting.
            print(f"cannot read the log of {build['id']}: {error}", file=sys.stderr)
            return ""
        for event in reversed(events):
            if event.get("message", "").startswith(FAILURE_MARK):
                return event["message"].removeprefix(FAILURE_MARK).strip()
    return ""
