"""What `lint_assembly` finds in a really synthesized app, and how it tells clean from never checked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import aws_cdk as cdk
import pytest

from support_lint import BUCKET, plugin_report, write_assembly, write_record, write_report
from tokenmill.core.errors import TokenmillError
from tokenmill.lint import CheckResult, CheckState, LintReport, lint_assembly, register_packs

if TYPE_CHECKING:
    from pathlib import Path

NESTED = "DemoNested"
STAGED = "assembly-Prod/"
AFTER_SYNTH = ("cfn-lint", "checkov")


@pytest.fixture(scope="session")
def report(flawed_assembly: Path) -> LintReport:
    return lint_assembly(flawed_assembly)


def check(report: LintReport, name: str) -> CheckResult:
    return next(check for check in report.checks if check.check == name)


def test_every_template_is_read_with_nested_stacks_and_stages(report: LintReport) -> None:
    assert [name.split("Nested")[0] for name in report.templates if "/" not in name] == [
        "Demo.template.json",
        "Demo",
    ]
    assert [name for name in report.templates if name.startswith(STAGED)]


def test_a_pack_that_ran_and_found_nothing_is_clean(report: LintReport) -> None:
    assert check(report, "Serverless").state is CheckState.CLEAN


def test_a_pack_that_the_app_does_not_register_is_not_asked_for(report: LintReport) -> None:
    assert check(report, "PCIDSS321").state is CheckState.NOT_ASKED
    assert report.never_checked == ()


def test_a_pack_s_finding_names_construct_template_resource_and_line(
    report: LintReport, flawed_assembly: Path
) -> None:
    found = next(f for f in check(report, "AwsSolutions").findings if f.rule == "AwsSolutions-S1")
    assert found.construct_path == "Prod/Inner/Second"
    assert (found.level, found.logical_id) == ("error", "Second")
    lines = (flawed_assembly / found.template).read_text(encoding="utf-8").splitlines()
    assert lines[found.line - 1].strip() == '"Second": {'


def test_an_acknowledged_finding_is_no_finding_and_keeps_its_reason(report: LintReport) -> None:
    found = {(finding.check, finding.rule, finding.construct_path) for finding in report.findings}
    assert ("AwsSolutions", "AwsSolutions-S1", "Demo/Bucket/Resource") not in found
    assert ("checkov", "CKV_AWS_18", "Demo/Bucket/Resource") not in found
    assert ("checkov", "CKV_AWS_18", "Prod/Inner/Second") in found
    reasons = {(entry.check, entry.rule): (entry.place, entry.reason) for entry in report.acknowledged}
    kept = "The logs of this bucket are kept elsewhere."
    assert reasons["AwsSolutions", "AwsSolutions-S1"] == ("Demo/Bucket", kept)
    assert reasons["checkov", "CKV_AWS_18"] == ("Demo/Bucket/Resource", kept)


def test_what_is_acknowledged_on_the_app_itself_is_in_the_report(report: LintReport) -> None:
    entry = next(entry for entry in report.acknowledged if entry.rule == "AwsSolutions-S10")
    assert (entry.place, entry.reason) == ("the app", "The whole app is never deployed.")


def test_cfn_lint_reads_the_nested_stacks_that_cdk_s_validation_does_not(report: LintReport) -> None:
    in_nested = {finding.check for finding in report.findings if finding.template.startswith(NESTED)}
    assert "cfn-lint" in in_nested
    assert "cloudformation-validate" not in in_nested
    assert "no nested stacks" in check(report, "cloudformation-validate").detail


def test_cloudformation_validation_finds_a_bad_property_in_a_stage(report: LintReport) -> None:
    found = check(report, "cloudformation-validate").findings
    assert [(f.construct_path, f.template.startswith(STAGED)) for f in found] == [("Prod/Inner/Second", True)]


def test_findings_make_exit_code_1(report: LintReport) -> None:
    assert report.exit_code == 1
    assert not report.clean


def test_progress_is_told_of_each_check_once(tmp_path: Path) -> None:
    root = write_assembly(tmp_path)
    seen: list[str] = []
    report = lint_assembly(root, skip=["checkov"], progress=lambda result: seen.append(result.check))
    assert sorted(seen) == sorted(result.check for result in report.checks)


def test_without_a_record_nothing_at_synth_counts_as_checked(tmp_path: Path) -> None:
    root = write_assembly(tmp_path)
    write_report(root)
    report = lint_assembly(root, skip=AFTER_SYNTH)
    assert {check.check for check in report.never_checked} == {
        "cloudformation-validate", "AwsSolutions", "NIST80053R5", "HIPAASecurity", "PCIDSS321", "Serverless",
    }  # fmt: skip
    assert report.exit_code == 2


def test_a_record_of_other_templates_counts_for_nothing(tmp_path: Path) -> None:
    root = write_assembly(tmp_path)
    write_record(root, packs=["AwsSolutions"])
    write_report(root)
    assert check(lint_assembly(root, skip=AFTER_SYNTH), "AwsSolutions").state is CheckState.CLEAN
    write_assembly(root, {"B1": {**BUCKET, "Properties": {"BucketName": "changed"}}})
    changed = check(lint_assembly(root, skip=AFTER_SYNTH), "AwsSolutions")
    assert changed.state is CheckState.NOT_RUN
    assert "of other templates" in changed.detail


def test_a_synth_that_did_not_end_counts_for_nothing(tmp_path: Path) -> None:
    root = write_assembly(tmp_path)
    write_record(root, packs=["AwsSolutions"])
    assert "did not come to its end" in check(lint_assembly(root, skip=AFTER_SYNTH), "AwsSolutions").detail


def test_a_plug_in_that_broke_down_did_not_run(tmp_path: Path) -> None:
    root = write_assembly(tmp_path)
    write_record(root, packs=["AwsSolutions"])
    error = {"error": "Validation plugin 'AwsSolutions' failed: out of memory"}
    write_report(
        root, {"pluginName": "AwsSolutions", "conclusion": "failure", "violations": [], "metadata": error}
    )
    report = lint_assembly(root, skip=AFTER_SYNTH)
    assert check(report, "AwsSolutions").state is CheckState.NOT_RUN
    assert check(report, "AwsSolutions").detail.endswith("out of memory")
    assert report.exit_code == 2


def test_an_app_that_registers_no_pack_was_never_checked_by_one(tmp_path: Path) -> None:
    root = write_assembly(tmp_path)
    write_record(root, packs=[])
    write_report(root)
    report = lint_assembly(root, skip=AFTER_SYNTH)
    assert check(report, "cloudformation-validate").state is CheckState.CLEAN
    assert len(report.never_checked) == 5
    assert lint_assembly(root, skip=[*AFTER_SYNTH, "nag"]).exit_code == 0


def test_validation_that_the_app_left_out_is_named(tmp_path: Path) -> None:
    root = write_assembly(tmp_path)
    write_record(root, packs=["AwsSolutions"], validation=False)
    write_report(root)
    assert (
        "cloudformation_validation=False"
        in check(lint_assembly(root, skip=AFTER_SYNTH), "cloudformation-validate").detail
    )


@pytest.mark.parametrize(
    ("severity", "counted"), [("fatal", 1), ("error", 1), ("warning", 1), ("informational", 0)]
)
def test_warnings_count_and_information_does_not(tmp_path: Path, severity: str, counted: int) -> None:
    root = write_assembly(tmp_path)
    write_record(root, packs=["AwsSolutions"])
    write_report(root, plugin_report("AwsSolutions", "AwsSolutions-S1", severity=severity))
    assert len(lint_assembly(root, skip=AFTER_SYNTH).findings) == counted


def test_an_app_s_own_plug_in_is_a_check_too(tmp_path: Path) -> None:
    root = write_assembly(tmp_path)
    write_record(root, packs=["AwsSolutions"])
    write_report(root, plugin_report("HouseRules", "House-1"))
    own = check(lint_assembly(root, skip=AFTER_SYNTH), "HouseRules")
    assert [(finding.rule, finding.logical_id) for finding in own.findings] == [("House-1", "B1")]


def test_notices_for_people_are_no_findings(tmp_path: Path) -> None:
    root = write_assembly(tmp_path)
    write_record(root, packs=["AwsSolutions"])
    write_report(root, plugin_report("Construct Annotations", "Annotation::price", severity="warning"))
    assert lint_assembly(root, skip=AFTER_SYNTH).exit_code == 0


def test_fails_without_a_directory_or_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(TokenmillError, match="is not a directory; synthesize first"):
        lint_assembly(tmp_path / "missing")
    with pytest.raises(TokenmillError, match="not a cloud assembly, it has no manifest.json"):
        lint_assembly(tmp_path)


def test_fails_on_a_broken_manifest(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"artifacts":', encoding="utf-8")
    with pytest.raises(TokenmillError, match=r"cannot read .*manifest\.json"):
        lint_assembly(tmp_path)


def test_a_record_of_another_version_counts_for_nothing(tmp_path: Path) -> None:
    root = write_assembly(tmp_path)
    write_record(root, packs=["AwsSolutions"])
    write_report(root)
    record = json.loads((root / "tokenmill-lint.json").read_text(encoding="utf-8"))
    (root / "tokenmill-lint.json").write_text(json.dumps({**record, "schema": 2}), encoding="utf-8")
    assert "another version" in check(lint_assembly(root, skip=AFTER_SYNTH), "AwsSolutions").detail


def test_fails_on_a_broken_record(tmp_path: Path) -> None:
    root = write_assembly(tmp_path)
    (root / "tokenmill-lint.json").write_text("[]", encoding="utf-8")
    with pytest.raises(TokenmillError, match=r"tokenmill-lint\.json is not a JSON object; synthesize again"):
        lint_assembly(root, skip=AFTER_SYNTH)


def test_fails_on_an_assembly_without_templates(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"artifacts": {}}', encoding="utf-8")
    with pytest.raises(TokenmillError, match="nothing to check"):
        lint_assembly(tmp_path)


def test_fails_on_a_check_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(
        TokenmillError, match=r"no check is called spelling; allowed are cloudformation-validate, .* and nag"
    ):
        lint_assembly(write_assembly(tmp_path), skip=["spelling"])


def test_a_later_synth_with_validation_off_leaves_no_old_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_assembly(tmp_path / "cdk.out")
    write_record(root, packs=["AwsSolutions"])
    write_report(root)
    monkeypatch.setenv("CDK_VALIDATION", "false")
    app = cdk.App(outdir=str(root))
    register_packs(app, packs=["AwsSolutions"])
    cdk.Stack(app, "Demo")
    app.synth()
    assert not (root / "tokenmill-lint.json").exists()
    assert (
        "synth ran with validation off" in check(lint_assembly(root, skip=AFTER_SYNTH), "AwsSolutions").detail
    )


def test_the_record_names_what_ran_and_on_which_bytes(flawed_assembly: Path) -> None:
    record = json.loads((flawed_assembly / "tokenmill-lint.json").read_text(encoding="utf-8"))
    assert record["packs"] == ["AwsSolutions", "Serverless"]
    assert record["cloudformation_validation"] is True
    assert len(record["templates"]) == 3
    assert set(record["versions"]) == {"aws-cdk-lib", "cdk-nag", "cloudformation-validate"}


@pytest.mark.parametrize("text", [None, '{"Resources": {"Q', "[]"])
def test_fails_on_a_template_that_an_interrupted_synth_left(tmp_path: Path, text: str | None) -> None:
    write_assembly(tmp_path, BUCKET)
    [template] = tmp_path.glob("*.template.json")
    template.unlink()
    if text is not None:
        template.write_text(text)
    with pytest.raises(TokenmillError, match=rf"{template.name}.*synthesize again"):
        lint_assembly(tmp_path)
