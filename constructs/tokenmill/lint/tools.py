"""The linters that read templates as files: cfn-lint and checkov, each a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenmill.lint.report import Acknowledged, CheckResult, CheckState, Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tokenmill.lint.assembly import Assembly, Template

CFN_LINT = "cfn-lint"
CHECKOV = "checkov"
CHECKOV_ENVIRONMENT = ".venv-checkov"
# Rules about what CDK itself emits; aws-cdk-lib leaves out the same in its own validation
# (CloudFormationValidatePlugin, IGNORE_RULES): W3005 is DependsOn beside an implied dependency.
IGNORED_IN_CDK_TEMPLATES = ("W3005",)
_TIMEOUT_SECONDS = 600
_DEFAULT_REGION = "us-east-1"


class _NotRun(Exception):
    """A linter is missing or broke down; the message says why and the way out."""


def find_cfn_lint() -> str | None:
    """Return the cfn-lint program: beside the running Python, or on PATH."""
    return _find(CFN_LINT, [Path(sys.executable).parent])


def find_checkov(start: Path) -> str | None:
    """Return the checkov program, which has an environment of its own because its boto3 pin conflicts.

    Args:
        start: Where to look for `.venv-checkov`, in this directory and those above it; PATH comes last.
    """
    own = [folder / CHECKOV_ENVIRONMENT / "bin" for folder in (start, *start.parents)]
    return _find(CHECKOV, [Path(sys.executable).parent, *own])


def run_cfn_lint(assembly: Assembly) -> CheckResult:
    """Run cfn-lint over every template, each for its stack's region.

    Args:
        assembly: The assembly with at least one template.
    """
    program = find_cfn_lint()
    if program is None:
        why = "cfn-lint is not installed; run: pip install 'tokenmill[lint]'"
        return CheckResult(check=CFN_LINT, state=CheckState.NOT_RUN, detail=why)
    by_region: dict[str, list[Template]] = defaultdict(list)
    for template in assembly.templates:
        by_region[template.region or _DEFAULT_REGION].append(template)
    findings: list[Finding] = []
    try:
        for region, templates in by_region.items():
            ignored = [
                argument for rule in IGNORED_IN_CDK_TEMPLATES for argument in ("--ignore-checks", rule)
            ]
            files = [str(template.path) for template in templates]
            arguments = [program, "--format", "json", "--regions", region, *ignored, "--template", *files]
            for match in _run_json(arguments, good=range(16)):
                findings += _cfn_lint_findings(assembly, match)
        version = _version(program)
    except _NotRun as error:
        return CheckResult(check=CFN_LINT, state=CheckState.NOT_RUN, detail=str(error))
    return CheckResult(
        check=CFN_LINT,
        state=CheckState.FINDINGS if findings else CheckState.CLEAN,
        detail=f"{version} over {_count(assembly)}",
        findings=tuple(findings),
        acknowledged=tuple(_cfn_lint_acknowledged(assembly)),
    )


def run_checkov(assembly: Assembly) -> CheckResult:
    """Run checkov over every template, offline.

    Args:
        assembly: The assembly with at least one template.
    """
    program = find_checkov(Path.cwd())
    if program is None:
        why = (
            f"checkov is not in {CHECKOV_ENVIRONMENT} nor on PATH; run: make setup, or: pipx install checkov"
        )
        return CheckResult(check=CHECKOV, state=CheckState.NOT_RUN, detail=why)
    # checkov takes the path that it is given for a value of each function's environment, and 40 letters and
    # slashes of it for a secret key: CKV_AWS_45.
    paths = (os.path.relpath(template.path.resolve()) for template in assembly.templates)
    files = [argument for path in paths for argument in ("--file", path)]
    arguments = [program, *files, "--framework", "cloudformation", "--output", "json", "--compact"]
    arguments += ["--skip-download", "--soft-fail"]
    try:
        document = _run_json(arguments, good=(0,))
        unread = document.get("results", {}).get("parsing_errors", [])
        if unread:
            raise _NotRun(f"checkov could not read {', '.join(map(str, unread))}")
    except _NotRun as error:
        return CheckResult(check=CHECKOV, state=CheckState.NOT_RUN, detail=str(error))
    # With no resource that it has a rule for, checkov prints a bare summary.
    results = document.get("results", {})
    version = document.get("summary", document).get("checkov_version", "unknown version")
    findings = tuple(_checkov_finding(assembly, found) for found in results.get("failed_checks", []))
    return CheckResult(
        check=CHECKOV,
        state=CheckState.FINDINGS if findings else CheckState.CLEAN,
        detail=f"{version} over {_count(assembly)}",
        findings=findings,
        acknowledged=tuple(
            _checkov_acknowledged(assembly, skipped) for skipped in results.get("skipped_checks", [])
        ),
    )


def _cfn_lint_findings(assembly: Assembly, match: dict[str, Any]) -> Iterable[Finding]:
    if match["Level"] == "Informational":
        return
    path = match["Location"]["Path"] or []
    logical_id = str(path[1]) if len(path) > 1 and path[0] == "Resources" else ""
    template = _template_name(assembly, match["Filename"])
    yield Finding(
        check=CFN_LINT,
        rule=match["Rule"]["Id"],
        level="error" if match["Level"] == "Error" else "warning",
        message=match["Message"],
        template=template,
        logical_id=logical_id,
        construct_path=assembly.construct_path(template, logical_id),
        line=int(match["Location"]["Start"]["LineNumber"]),
        help_uri=match["Rule"].get("Source") or "",
    )


def _cfn_lint_acknowledged(assembly: Assembly) -> Iterable[Acknowledged]:
    for template in assembly.templates:
        resources = json.loads(template.path.read_text(encoding="utf-8")).get("Resources", {})
        for logical_id, resource in resources.items():
            section = resource.get("Metadata", {}).get(CFN_LINT, {})
            for rule in section.get("config", {}).get("ignore_checks", []):
                reason = section.get("reasons", {}).get(rule, "")
                place = assembly.construct_path(template.name, logical_id) or f"{template.name} {logical_id}"
                yield Acknowledged(check=CFN_LINT, rule=rule, reason=reason or "no reason given", place=place)


def _checkov_finding(assembly: Assembly, found: dict[str, Any]) -> Finding:
    template, logical_id = _checkov_place(assembly, found)
    return Finding(
        check=CHECKOV,
        rule=found["check_id"],
        level="warning",
        message=found["check_name"],
        template=template,
        logical_id=logical_id,
        construct_path=assembly.construct_path(template, logical_id),
        line=int(found["file_line_range"][0]) or 1,
        help_uri=found.get("guideline") or "",
    )


def _checkov_acknowledged(assembly: Assembly, skipped: dict[str, Any]) -> Acknowledged:
    template, logical_id = _checkov_place(assembly, skipped)
    return Acknowledged(
        check=CHECKOV,
        rule=skipped["check_id"],
        reason=skipped["check_result"].get("suppress_comment") or "no reason given",
        place=assembly.construct_path(template, logical_id) or f"{template} {logical_id}",
    )


def _checkov_place(assembly: Assembly, found: dict[str, Any]) -> tuple[str, str]:
    return _template_name(assembly, found["file_abs_path"]), str(found["resource"]).rpartition(".")[2]


def _template_name(assembly: Assembly, file: str) -> str:
    resolved = Path(file).resolve()
    for template in assembly.templates:
        if template.path.resolve() == resolved:
            return template.name
    return file


def _find(program: str, folders: Sequence[Path]) -> str | None:
    for folder in folders:
        if (folder / program).is_file():
            return str(folder / program)
    return shutil.which(program)


def _run_json(arguments: list[str], *, good: Iterable[int]) -> Any:
    name = Path(arguments[0]).name
    try:
        done = subprocess.run(
            arguments, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _NotRun(f"{name} could not be run: {error}") from error
    if done.returncode not in good:
        raise _NotRun(
            f"{name} ended with exit code {done.returncode}: {_last_line(done.stderr or done.stdout)}"
        )
    try:
        return json.loads(done.stdout)
    except ValueError as error:
        raise _NotRun(f"{name} printed no JSON: {_last_line(done.stderr or done.stdout)}") from error


def _version(program: str) -> str:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.strip().rpartition(" ")[2] or "unknown version"


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it printed nothing"


def _count(assembly: Assembly) -> str:
    number = len(assembly.templates)
    return f"{number} template{'s' * (number != 1)}"
