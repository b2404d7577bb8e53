"""The four formats: each keeps clean, findings and never checked apart."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest

from tokenmill.lint import Acknowledged, CheckResult, CheckState, Finding, LintReport, formats

FOUND = Finding(
    check="AwsSolutions",
    rule="AwsSolutions-IAM5[Resource::<Key.Arn>/*]",
    level="error",
    message="The policy says <everything> & more \x1b[0m",
    template="assembly-Prod/Inner.template.json",
    logical_id="Policy1",
    construct_path="Prod/Inner/Policy",
    line=7,
    help_uri="https://example.com/rule",
)
NOWHERE = Finding(check="AwsSolutions", rule="AwsSolutions-X1", level="warning", message="The app is wrong")
ANSWERED = Acknowledged(
    check="checkov", rule="CKV_AWS_18", reason="The logs are elsewhere.", place="Demo/Bucket"
)


def report(*, root: str = "cdk out") -> LintReport:
    return LintReport(
        assembly=root,
        templates=("assembly-Prod/Inner.template.json",),
        checks=(
            CheckResult(
                check="AwsSolutions",
                state=CheckState.FINDINGS,
                detail="cdk-nag 3",
                findings=(FOUND, FOUND, NOWHERE),
            ),
            CheckResult(check="Serverless", state=CheckState.NOT_ASKED, detail="not registered"),
            CheckResult(check="cfn-lint", state=CheckState.NOT_RUN, detail="cfn-lint is not installed"),
            CheckResult(check="checkov", state=CheckState.CLEAN, detail="3.3", acknowledged=(ANSWERED,)),
            CheckResult(check="PCIDSS321", state=CheckState.SKIPPED, detail="left out on request"),
        ),
    )


@pytest.fixture(scope="module")
def sarif() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(formats.as_sarif(report()))
    return document


def test_sarif_has_one_run_for_each_check_that_was_to_run(sarif: dict[str, Any]) -> None:
    assert sarif["version"] == "2.1.0"
    assert sarif["$schema"].endswith("/sarif-schema-2.1.0.json")
    names = [run["tool"]["driver"]["name"] for run in sarif["runs"]]
    assert names == ["tokenmill lint AwsSolutions", "tokenmill lint cfn-lint", "tokenmill lint checkov"]


def test_sarif_says_which_check_never_ran(sarif: dict[str, Any]) -> None:
    (failed,) = (run for run in sarif["runs"] if not run["invocations"][0]["executionSuccessful"])
    (notice,) = failed["invocations"][0]["toolExecutionNotifications"]
    assert notice == {
        "level": "error",
        "message": {"text": "cfn-lint did not run: cfn-lint is not installed"},
    }


def test_sarif_results_point_at_their_rule(sarif: dict[str, Any]) -> None:
    run = sarif["runs"][0]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == [FOUND.rule, NOWHERE.rule]
    assert [result["ruleId"] for result in run["results"]] == [
        rules[r["ruleIndex"]]["id"] for r in run["results"]
    ]


def test_sarif_locates_a_finding_by_template_line_and_construct(sarif: dict[str, Any]) -> None:
    (location,) = sarif["runs"][0]["results"][0]["locations"]
    physical = location["physicalLocation"]
    assert unquote(physical["artifactLocation"]["uri"]) == "cdk out/assembly-Prod/Inner.template.json"
    assert " " not in physical["artifactLocation"]["uri"]
    assert physical["region"] == {"startLine": 7}
    (logical,) = location["logicalLocations"]
    assert (logical["name"], logical["fullyQualifiedName"]) == ("Policy1", "Prod/Inner/Policy")


def test_sarif_without_a_place_has_no_location(sarif: dict[str, Any]) -> None:
    assert sarif["runs"][0]["results"][2]["locations"] == []


def test_sarif_uses_a_file_address_for_an_absolute_assembly() -> None:
    document = json.loads(formats.as_sarif(report(root="/tmp/cdk.out")))
    (location,) = document["runs"][0]["results"][0]["locations"]
    assert location["physicalLocation"]["artifactLocation"]["uri"].startswith("file:///tmp/cdk.out/")


def test_sarif_fingerprints_stay_when_lines_move(sarif: dict[str, Any]) -> None:
    first, second, other = (result["partialFingerprints"] for result in sarif["runs"][0]["results"])
    assert first == second != other


def test_junit_counts_are_those_of_its_cases() -> None:
    suites = ElementTree.fromstring(formats.as_junit(report()).encode())
    assert suites.tag == "testsuites"
    for suite in suites:
        assert int(suite.get("tests", "")) == len(suite.findall("testcase"))
        assert int(suite.get("failures", "")) == len(suite.findall("testcase/failure"))
    totals = {name: suites.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert totals == {"tests": "7", "failures": "3", "errors": "1", "skipped": "2"}


def test_junit_is_xml_whatever_a_rule_says() -> None:
    suites = ElementTree.fromstring(formats.as_junit(report()).encode())
    failure = suites.find("testsuite/testcase/failure")
    assert failure is not None
    assert failure.get("message") == "The policy says <everything> & more ?[0m"


def test_json_carries_every_state_and_field() -> None:
    document = json.loads(formats.as_json(report()))
    assert (document["schema"], document["exit_code"], document["clean"]) == (1, 1, False)
    states = [check["state"] for check in document["checks"]]
    assert states == ["findings", "not asked for", "not run", "clean", "skipped"]
    assert document["checks"][0]["findings"][0]["construct_path"] == "Prod/Inner/Policy"


def test_text_counts_what_is_acknowledged_and_lists_it_on_request() -> None:
    short, long = formats.as_text(report()), formats.as_text(report(), verbose=True)
    assert "acknowledged with a reason: checkov 1 (--verbose lists them)" in short
    assert "CKV_AWS_18 at Demo/Bucket: The logs are elsewhere." in long


def test_text_ends_with_the_verdict() -> None:
    assert formats.as_text(report()).rstrip().endswith("3 findings; never checked: cfn-lint")
    empty = LintReport(assembly="cdk.out", templates=("a",), checks=report().checks[2:])
    assert formats.as_text(empty).rstrip().endswith("nothing found, but never checked: cfn-lint")
    clean = LintReport(assembly="cdk.out", templates=("a",), checks=report().checks[3:])
    assert formats.as_text(clean).rstrip().endswith("\nclean")
    assert (empty.exit_code, clean.exit_code) == (2, 0)
