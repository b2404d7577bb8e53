"""One build: its states and phases, as the API describes them and as its event tells them.

Source: AWS CodeBuild API Reference, "Build" and "BuildPhase"; AWS CodeBuild User Guide, "Build notifications
input format reference" (the event's detail).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenmill.local.aws_requests import Params, Scope

EVENT_TYPE = "CodeBuild Build State Change"
EVENT_SOURCE = "aws.codebuild"
IN_PROGRESS = "IN_PROGRESS"
_SOURCE_MEMBERS = ("type", "location", "buildspec")
PHASES = (
    "SUBMITTED",
    "QUEUED",
    "PROVISIONING",
    "DOWNLOAD_SOURCE",
    "INSTALL",
    "PRE_BUILD",
    "BUILD",
    "POST_BUILD",
    "UPLOAD_ARTIFACTS",
    "FINALIZING",
)


@dataclass(slots=True, kw_only=True)
class Phase:
    """One phase of a build."""

    type: str
    started: datetime
    ended: datetime | None = None
    status: str | None = None
    message: str | None = None

    def end(self, status: str, when: datetime, message: str | None = None) -> None:
        """End the phase.

        Args:
            status: How it went.
            when: The time.
            message: What went wrong.
        """
        self.status, self.ended, self.message = status, when, message

    @property
    def seconds(self) -> int:
        """How long it took."""
        return int((self.ended - self.started).total_seconds()) if self.ended else 0


@dataclass(slots=True, kw_only=True)
class Build:
    """One build."""

    id: str
    scope: Scope
    number: int
    settings: Params
    started: datetime
    status: str = IN_PROGRESS
    ended: datetime | None = None
    phases: list[Phase] = field(default_factory=list)
    exported: dict[str, str] = field(default_factory=dict)

    @property
    def project(self) -> str:
        """Name of its project."""
        return self.id.partition(":")[0]

    @property
    def arn(self) -> str:
        """Its ARN."""
        return self.scope.arn("codebuild", f"build/{self.id}")

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self.status != IN_PROGRESS

    @property
    def environment(self) -> dict[str, str]:
        """The plain environment variables that its commands would see."""
        variables = self.settings["environment"].get("environmentVariables") or []
        return {
            variable["name"]: variable["value"]
            for variable in variables
            if variable.get("type", "PLAINTEXT") == "PLAINTEXT"
        }

    def begin(self, phase: str, when: datetime) -> None:
        """Begin a phase.

        Args:
            phase: Its type.
            when: The time.
        """
        self.phases.append(Phase(type=phase, started=when))

    def end(self, status: str, when: datetime) -> None:
        """End the build.

        Args:
            status: How it went.
            when: The time.
        """
        if self.phases and self.phases[-1].ended is None:
            self.phases[-1].end(status, when)
        self.phases.append(Phase(type="COMPLETED", started=when))
        self.status, self.ended = status, when

    def describe(self) -> Params:
        """Return the API's document."""
        settings, log = self.settings, self._log()
        document = {
            **{name: value for name, value in settings.items() if value is not None and name != "logsConfig"},
            "id": self.id,
            "arn": self.arn,
            "buildNumber": self.number,
            "projectName": self.project,
            "startTime": self.started,
            "currentPhase": self.phases[-1].type if self.phases else "SUBMITTED",
            "buildStatus": self.status,
            "buildComplete": self.done,
            "initiator": "local",
            "phases": [_phase_document(phase) for phase in self.phases],
            "logs": {"groupName": log[0], "streamName": log[1], "deepLink": ""},
            "exportedEnvironmentVariables": [
                {"name": name, "value": value} for name, value in self.exported.items()
            ],
        }
        if self.ended is not None:
            document["endTime"] = self.ended
        return document

    def event(self) -> Params:
        """Return the detail of the event that tells its state."""
        environment, (group, stream) = self.settings["environment"], self._log()
        source: Params = self.settings["source"]
        return {
            "build-status": self.status,
            "project-name": self.project,
            "build-id": self.arn,
            "additional-information": {
                "build-number": self.number,
                "build-complete": self.done,
                "build-start-time": _spoken(self.started),
                "timeout-in-minutes": self.settings["timeoutInMinutes"],
                "initiator": "local",
                "environment": {
                    "image": environment.get("image"),
                    "privileged-mode": environment.get("privilegedMode", False),
                    "compute-type": environment.get("computeType"),
                    "type": environment.get("type"),
                    "environment-variables": [
                        {"name": v["name"], "value": v["value"], "type": v.get("type", "PLAINTEXT")}
                        for v in environment.get("environmentVariables") or []
                    ],
                },
                "source": {name: source[name] for name in _SOURCE_MEMBERS if name in source},
                "logs": {"group-name": group, "stream-name": stream},
                "phases": [_phase_event(phase) for phase in self.phases],
                "exported-environment-variables": [
                    {"name": name, "value": value} for name, value in self.exported.items()
                ],
            },
            "current-phase": self.phases[-1].type if self.phases else "SUBMITTED",
            "current-phase-context": "[]",
            "version": "1",
        }

    def _log(self) -> tuple[str, str]:
        given = ((self.settings.get("logsConfig") or {}).get("cloudWatchLogs") or {}).get("groupName")
        return given or f"/aws/codebuild/{self.project}", self.id.partition(":")[2]


def now() -> datetime:
    """Return the time that a build is stamped with."""
    return datetime.now(UTC)


def _spoken(when: datetime) -> str:
    """Return a time as CodeBuild's events write it: Sep 1, 2017 4:12:29 PM."""
    hour = when.hour % 12 or 12
    return f"{when:%b} {when.day}, {when.year} {hour}:{when:%M:%S %p}"


def _phase_document(phase: Phase) -> Params:
    document: Params = {"phaseType": phase.type, "startTime": phase.started}
    if phase.ended is not None:
        document |= {"phaseStatus": phase.status, "endTime": phase.ended, "durationInSeconds": phase.seconds}
        document["contexts"] = [_context(phase)]
    return document


def _context(phase: Phase) -> dict[str, str]:
    return {"statusCode": "COMMAND_EXECUTION_ERROR" if phase.message else "", "message": phase.message or ""}


def _phase_event(phase: Phase) -> Params:
    event: Params = {"phase-type": phase.type, "start-time": _spoken(phase.started)}
    if phase.ended is not None:
        context = _context(phase)
        event |= {
            "phase-status": phase.status,
            "phase-context": [f"{context['statusCode']}: {context['message']}"],
            "end-time": _spoken(phase.ended),
            "duration-in-seconds": phase.seconds,
        }
    return event
