"""What a lint run found, and what it could not look at."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class CheckState(enum.StrEnum):
    """How one check ended."""

    CLEAN = "clean"
    FINDINGS = "findings"
    NOT_RUN = "not run"
    NOT_ASKED = "not asked for"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One rule that one place does not follow.

    Args:
        check: The check that reports it.
        rule: The rule's id in that check.
        level: `error` or `warning`; both count.
        message: What is wrong, in the check's words.
        template: The template file, relative to the assembly; empty when the finding names none.
        logical_id: The resource, or empty.
        construct_path: The construct that made the resource, or empty.
        line: Line in the template, from 1; 0 when unknown.
        help_uri: The rule's page, or empty.
    """

    check: str
    rule: str
    level: str
    message: str
    template: str = ""
    logical_id: str = ""
    construct_path: str = ""
    line: int = 0
    help_uri: str = ""

    @property
    def place(self) -> str:
        """Where it is, for people: construct path first, then template and logical id."""
        in_template = " ".join(part for part in (self.template, self.logical_id) if part)
        return f"{self.construct_path} ({in_template})" if self.construct_path else in_template


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """A rule that the app answers for, with its reason.

    Args:
        check: The check that the rule belongs to.
        rule: The rule's id.
        reason: The sentence the app gave.
        place: The construct path, or template and logical id, on which it was acknowledged.
    """

    check: str
    rule: str
    reason: str
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """How one check ended over one assembly.

    Args:
        check: Its name, as `--skip` takes it.
        state: How it ended.
        detail: Which tool and version ran over how much, or why it did not run and the way out.
        findings: What it found.
        acknowledged: What the app answers for.
    """

    check: str
    state: CheckState
    detail: str
    findings: tuple[Finding, ...] = ()
    acknowledged: tuple[Acknowledged, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LintReport:
    """Every check over one assembly.

    Args:
        assembly: The cloud assembly's directory.
        templates: Every template looked at, relative to it.
        checks: One result a check, in a fixed order.
    """

    assembly: str
    templates: tuple[str, ...]
    checks: tuple[CheckResult, ...] = field(default=())

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Every finding, in the order of the checks."""
        return tuple(finding for check in self.checks for finding in check.findings)

    @property
    def acknowledged(self) -> tuple[Acknowledged, ...]:
        """Everything that the app answers for."""
        return tuple(entry for check in self.checks for entry in check.acknowledged)

    @property
    def never_checked(self) -> tuple[CheckResult, ...]:
        """The checks that should have run and did not."""
        return tuple(check for check in self.checks if check.state is CheckState.NOT_RUN)

    @property
    def clean(self) -> bool:
        """Whether every check that was asked for ran, and found nothing."""
        return self.exit_code == 0

    @property
    def exit_code(self) -> int:
        """0: all ran and clean; 1: findings; 2: no findings, but a check that should have run did not."""
        if self.findings:
            return 1
        return 2 if self.never_checked else 0
