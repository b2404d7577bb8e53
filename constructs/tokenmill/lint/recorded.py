"""What CDK's validation at synth found: CloudFormation validation and the rule packs.

aws-cdk-lib writes `validation-report.json` with the plug-ins that found something; a plug-in without findings
is not in it, and a report from an earlier synth may lie around. The record that `register_packs` writes names
what ran and the templates' digests, so both can be told apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tokenmill.lint.assembly import VALIDATION_REPORT, Assembly, load_document, template_digests
from tokenmill.lint.pack_names import (
    ANNOTATIONS_PLUGIN,
    CLOUDFORMATION_PLUGIN,
    PACKS,
    RECORD_FILE,
    RECORD_SCHEMA,
    pack_of_rule,
)
from tokenmill.lint.report import Acknowledged, CheckResult, CheckState, Finding

VALIDATION = "cloudformation-validate"
_SYNTH = "synthesize again, with CDK_VALIDATION unset"
_COUNTED = {"fatal": "error", "error": "error", "warning": "warning"}


@dataclass(frozen=True, slots=True)
class _Recorded:
    record: dict[str, Any]
    reports: dict[str, dict[str, Any]]
    missing: str

    def ran(self, plugin: str) -> str:
        """Return why a plug-in that was registered has no result, or an empty string."""
        return str(self.reports.get(plugin, {}).get("metadata", {}).get("error", ""))


def recorded_checks(assembly: Assembly) -> list[CheckResult]:
    """Return the results of CloudFormation validation, of each rule pack, and of any other plug-in.

    Args:
        assembly: The assembly that holds the record and the report.
    """
    recorded = _read(assembly)
    results = [_validation(assembly, recorded)]
    packs = recorded.record.get("packs", [])
    for name in PACKS:
        results.append(_pack(assembly, recorded, name, asked=name in packs, any_asked=bool(packs)))
    return results + _others(assembly, recorded)


def _read(assembly: Assembly) -> _Recorded:
    record_file, report_file = assembly.root / RECORD_FILE, assembly.root / VALIDATION_REPORT
    if not record_file.is_file():
        why = f"no {RECORD_FILE}: synth ran with validation off, or the app calls no "
        why += "tokenmill.lint.register_packs"
        return _Recorded({}, {}, why)
    record = load_document(record_file)
    if record.get("schema") != RECORD_SCHEMA:
        return _Recorded({}, {}, f"{RECORD_FILE} is of another version of tokenmill; {_SYNTH}")
    if record.get("templates") != template_digests(assembly.root):
        return _Recorded({}, {}, f"{RECORD_FILE} is of other templates than these; {_SYNTH}")
    if not report_file.is_file():
        return _Recorded({}, {}, f"no {VALIDATION_REPORT}: synth did not come to its end; {_SYNTH}")
    document = load_document(report_file)
    return _Recorded(record, {report["pluginName"]: report for report in document["pluginReports"]}, "")


def _validation(assembly: Assembly, recorded: _Recorded) -> CheckResult:
    why = recorded.missing or recorded.ran(CLOUDFORMATION_PLUGIN)
    if not why and not recorded.record["cloudformation_validation"]:
        why = "the app registered its rule packs with cloudformation_validation=False"
    if why:
        return CheckResult(check=VALIDATION, state=CheckState.NOT_RUN, detail=why)
    own = sum(not template.nested for template in assembly.templates)
    version = recorded.record["versions"].get("cloudformation-validate", "unknown")
    detail = f"{version} at synth over {own} stack{'s' * (own != 1)}"
    if own < len(assembly.templates):
        detail += "; CDK hands it no nested stacks, cfn-lint reads those"
    return _result(assembly, recorded, VALIDATION, CLOUDFORMATION_PLUGIN, detail)


def _pack(assembly: Assembly, recorded: _Recorded, name: str, *, asked: bool, any_asked: bool) -> CheckResult:
    plugin = PACKS[name].report_name
    why = recorded.missing or recorded.ran(plugin)
    if not why and not any_asked:
        why = "the app registers no rule pack; name some in register_packs"
    if why:
        return CheckResult(check=name, state=CheckState.NOT_RUN, detail=why)
    if not asked:
        return CheckResult(
            check=name, state=CheckState.NOT_ASKED, detail="the app does not register this pack"
        )
    detail = f"cdk-nag {recorded.record['versions'].get('cdk-nag', 'unknown')} at synth"
    return _result(assembly, recorded, name, plugin, detail)


def _others(assembly: Assembly, recorded: _Recorded) -> list[CheckResult]:
    """Return plug-ins that the app brought itself; notices meant for people are not findings."""
    known = {CLOUDFORMATION_PLUGIN, ANNOTATIONS_PLUGIN, *(pack.report_name for pack in PACKS.values())}
    results = []
    for plugin, report in recorded.reports.items():
        if plugin in known:
            continue
        error = recorded.ran(plugin)
        if error:
            results.append(CheckResult(check=plugin, state=CheckState.NOT_RUN, detail=error))
        else:
            detail = f"{report.get('pluginVersion', 'unknown version')} at synth"
            results.append(_result(assembly, recorded, plugin, plugin, detail))
    return results


def _result(assembly: Assembly, recorded: _Recorded, check: str, plugin: str, detail: str) -> CheckResult:
    report = recorded.reports.get(plugin, {})
    findings = tuple(
        finding
        for violation in report.get("violations", [])
        for finding in _findings(assembly, check, violation)
    )
    return CheckResult(
        check=check,
        state=CheckState.FINDINGS if findings else CheckState.CLEAN,
        detail=detail,
        findings=findings,
        acknowledged=_acknowledged(assembly, recorded, check, plugin),
    )


def _findings(assembly: Assembly, check: str, violation: dict[str, Any]) -> list[Finding]:
    level = _COUNTED.get(str(violation.get("severity", "error")).lower())
    if level is None:
        return []
    findings = []
    for construct in violation["violatingConstructs"]:
        path = construct.get("constructPath", "")
        resource = construct.get("cloudFormationResource", {})
        template, logical_id = resource.get("templatePath", ""), resource.get("logicalId", "")
        if not logical_id:
            template, logical_id = assembly.locate(path)
        findings.append(
            Finding(
                check=check,
                rule=violation["ruleName"],
                level=level,
                message=violation["description"],
                template=template,
                logical_id=logical_id,
                construct_path=path,
                line=assembly.line(template, logical_id),
            )
        )
    return findings


def _acknowledged(
    assembly: Assembly, recorded: _Recorded, check: str, plugin: str
) -> tuple[Acknowledged, ...]:
    above = [
        (entry["path"], entry["id"], entry["reason"]) for entry in recorded.record.get("acknowledged", [])
    ]
    prefix = plugin.replace(" ", "-") + "::"
    found = []
    for path, rule, reason in (*above, *assembly.acknowledged):
        bare = rule.removeprefix("Annotation::").removeprefix(prefix)
        if rule.startswith(prefix) or pack_of_rule(bare) == check:
            found.append(Acknowledged(check=check, rule=bare, reason=reason, place=path or "the app"))
    return tuple(found)
