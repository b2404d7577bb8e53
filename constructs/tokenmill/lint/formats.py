"""A lint report as text, JSON, SARIF 2.1.0 or JUnit XML."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from xml.etree import ElementTree

from tokenmill.lint.report import CheckResult, CheckState, Finding, LintReport

if TYPE_CHECKING:
    from collections.abc import Callable

SARIF_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd]")


def as_text(report: LintReport, *, verbose: bool = False) -> str:
    """Render for people: one line a check, then every finding by check.

    Args:
        report: The report.
        verbose: Whether to list every acknowledged rule with its reason, instead of counts.
    """
    width = max(len(check.check) for check in report.checks)
    lines = [f"{report.assembly}: {len(report.templates)} template{'s' * (len(report.templates) != 1)}"]
    for check in report.checks:
        count = f" ({len(check.findings)})" if check.findings else ""
        lines.append(f"  {check.check:<{width}}  {check.state}{count}: {check.detail}")
    for check in report.checks:
        if check.findings:
            lines += ["", f"{check.check}:"]
            for finding in check.findings:
                lines.append(f"  {finding.level} {finding.rule} at {finding.place or 'the app'}")
                lines.append(f"      {finding.message}")
    return "\n".join([*lines, *_acknowledged_text(report, verbose), "", _verdict(report)]) + "\n"


def as_json(report: LintReport) -> str:
    """Render as one JSON document with every field of the report.

    Args:
        report: The report.
    """
    document = {
        "schema": 1,
        "assembly": report.assembly,
        "clean": report.clean,
        "exit_code": report.exit_code,
        "templates": list(report.templates),
        "checks": [dataclasses.asdict(check) for check in report.checks],
    }
    return json.dumps(document, indent=2) + "\n"


def as_sarif(report: LintReport) -> str:
    """Render as SARIF 2.1.0: one run a check, so that each keeps its own rules.

    A check that should have run and did not is a run that failed; one that nobody asked for has no run.

    Args:
        report: The report.
    """
    left_out = (CheckState.NOT_ASKED, CheckState.SKIPPED)
    runs = [_sarif_run(report, check) for check in report.checks if check.state not in left_out]
    return json.dumps({"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": runs}, indent=2) + "\n"


def as_junit(report: LintReport) -> str:
    """Render as JUnit XML: one suite a check; findings are failures, a check that did not run is an error.

    Args:
        report: The report.
    """
    suites = ElementTree.Element("testsuites", name="tokenmill lint")
    for check in report.checks:
        suites.append(_junit_suite(check))
    for total in ("tests", "failures", "errors", "skipped"):
        suites.set(total, str(sum(int(suite.get(total, "0")) for suite in suites)))
    ElementTree.indent(suites)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suites, encoding="unicode") + "\n"
    )


FORMATS: dict[str, Callable[[LintReport], str]] = {
    "text": as_text,
    "json": as_json,
    "sarif": as_sarif,
    "junit": as_junit,
}


def _acknowledged_text(report: LintReport, verbose: bool) -> list[str]:
    if not report.acknowledged:
        return []
    if not verbose:
        counts = Counter(entry.check for entry in report.acknowledged)
        listed = ", ".join(f"{check} {count}" for check, count in counts.items())
        return ["", f"acknowledged with a reason: {listed} (--verbose lists them)"]
    lines = ["", "acknowledged with a reason:"]
    return lines + [f"  {entry.rule} at {entry.place}: {entry.reason}" for entry in report.acknowledged]


def _verdict(report: LintReport) -> str:
    never = ", ".join(check.check for check in report.never_checked)
    found = len(report.findings)
    if found:
        return f"{found} finding{'s' * (found != 1)}" + (f"; never checked: {never}" if never else "")
    return f"nothing found, but never checked: {never}" if never else "clean"


def _sarif_run(report: LintReport, check: CheckResult) -> dict[str, Any]:
    rules = {finding.rule: finding for finding in check.findings}
    invocation: dict[str, Any] = {"executionSuccessful": check.state is not CheckState.NOT_RUN}
    if check.state is CheckState.NOT_RUN:
        message = {"text": f"{check.check} did not run: {check.detail}"}
        invocation["toolExecutionNotifications"] = [{"level": "error", "message": message}]
    return {
        "tool": {
            "driver": {
                "name": f"tokenmill lint {check.check}",
                "semanticVersion": metadata.version("tokenmill"),
                "rules": [_sarif_rule(rule, finding) for rule, finding in rules.items()],
            }
        },
        "invocations": [invocation],
        "results": [
            _sarif_result(report, finding, list(rules).index(finding.rule)) for finding in check.findings
        ],
        "properties": {"acknowledged": [dataclasses.asdict(entry) for entry in check.acknowledged]},
    }


def _sarif_rule(rule: str, finding: Finding) -> dict[str, Any]:
    described: dict[str, Any] = {"id": rule, "shortDescription": {"text": finding.message}}
    if finding.help_uri:
        described["helpUri"] = finding.help_uri
    return described


def _sarif_result(report: LintReport, finding: Finding, rule_index: int) -> dict[str, Any]:
    location: dict[str, Any] = {}
    if finding.template:
        location["physicalLocation"] = {
            "artifactLocation": {"uri": _uri(Path(report.assembly) / finding.template)},
            "region": {"startLine": max(finding.line, 1)},
        }
    if finding.construct_path or finding.logical_id:
        name = finding.construct_path or f"{finding.template}/{finding.logical_id}"
        logical = {"name": finding.logical_id or name, "fullyQualifiedName": name, "kind": "resource"}
        location["logicalLocations"] = [logical]
    place = f"{finding.check}|{finding.rule}|{finding.template}|{finding.logical_id}|{finding.message}"
    return {
        "ruleId": finding.rule,
        "ruleIndex": rule_index,
        "level": finding.level,
        "message": {"text": f"{finding.message} ({finding.place})" if finding.place else finding.message},
        "locations": [location] if location else [],
        "partialFingerprints": {"tokenmillLint/v1": hashlib.sha256(place.encode()).hexdigest()},
    }


def _uri(path: Path) -> str:
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())


def _junit_suite(check: CheckResult) -> ElementTree.Element:
    suite = ElementTree.Element("testsuite", name=check.check)
    for finding in check.findings:
        name = f"{finding.rule} {finding.place}".strip()
        case = ElementTree.SubElement(suite, "testcase", classname=check.check, name=_xml(name))
        if finding.template:
            case.set("file", finding.template)
            case.set("line", str(max(finding.line, 1)))
        failure = ElementTree.SubElement(case, "failure", type=finding.rule, message=_xml(finding.message))
        failure.text = _xml(f"{finding.level}: {finding.message}\n{finding.place}")
    if not check.findings:
        case = ElementTree.SubElement(suite, "testcase", classname=check.check, name=_xml(check.detail))
        if check.state is CheckState.NOT_RUN:
            ElementTree.SubElement(case, "error", type="not run", message=_xml(check.detail))
        elif check.state is not CheckState.CLEAN:
            ElementTree.SubElement(case, "skipped", message=_xml(f"{check.state}: {check.detail}"))
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    suite.set("errors", str(len(suite.findall("testcase/error"))))
    suite.set("skipped", str(len(suite.findall("testcase/skipped"))))
    return suite


def _xml(text: str) -> str:
    return _NOT_XML.sub("?", text)
