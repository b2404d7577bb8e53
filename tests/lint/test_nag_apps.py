"""The five packs over app and example: nothing unanswered; constructs answer AwsSolutions themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3

from support_stack import REGION, ROOT, chat_stack, make_app
from tokenmill.core.workload import Capacity, Limits
from tokenmill.endpoints import (
    DataCapture,
    EndpointHosting,
    LlmEndpoint,
    ModelSource,
    Serving,
    VariantEndpoint,
)
from tokenmill.lint import CheckState, lint_assembly, register_packs

if TYPE_CHECKING:
    from pathlib import Path

PACKS = ("AwsSolutions", "NIST80053R5", "HIPAASecurity", "PCIDSS321", "Serverless")
BEDROCK = {
    "backend": "bedrock",
    "model": "us.amazon.nova-lite-v1:0",
    "limits": Limits(context_tokens=100_000),
}
TWO = Capacity(minimum=2, maximum=6, initial=2)
ON_GPU = Serving(
    model="Qwen/Qwen3-8B",
    instance_type="ml.g6e.xlarge",
    tensor_parallel=1,
    max_sequences=8,
    context_tokens=8192,
)
KINDS: dict[str, dict[str, Any]] = {"prod": {}, "bedrock": BEDROCK, "compliant": {"compliance": True}}


def report(outdir: Path) -> list[tuple[str, str]]:
    """Return rule and construct of every finding in CDK's own report."""
    document = json.loads((outdir / "validation-report.json").read_text(encoding="utf-8"))
    return [
        (violation["ruleName"], construct.get("constructPath", ""))
        for plugin in document["pluginReports"]
        for violation in plugin.get("violations", [])
        for construct in violation["violatingConstructs"]
        if violation["severity"].lower() in {"fatal", "error", "warning"}
    ]


def run_app(folder: Path, outdir: Path, context: dict[str, Any]) -> None:
    """Run an app as the CLI does, with the packs of its cdk.json; findings make it fail."""
    flags = {**json.loads((folder / "cdk.json").read_text(encoding="utf-8"))["context"], **context}
    environment = {
        **os.environ,
        "CDK_CONTEXT_JSON": json.dumps(flags),
        "CDK_OUTDIR": str(outdir),
        "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "18,20",
    }
    found = subprocess.run(
        [sys.executable, "app.py"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr + found.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_constructs_are_clean_under_aws_solutions_by_themselves(kind: str, tmp_path: Path) -> None:
    """A consumer's pack stays quiet about what the library makes; images without evidence are told."""
    app = cdk.App.of(chat_stack(tmp_path, **KINDS[kind]))
    register_packs(app, packs=["AwsSolutions"], cloudformation_validation=False)
    app.synth()
    assert {rule for rule, _ in report(tmp_path)} <= {"Annotation::tokenmill:ImageExperimental"}


def test_endpoints_of_either_mode_are_clean_under_aws_solutions(tmp_path: Path) -> None:
    """Weights and captured calls in another stack's bucket and key, a further model, guards of both modes."""
    app = make_app(tmp_path)
    home, stack = (cdk.Stack(app, name, env=cdk.Environment(region=REGION)) for name in ("home", "serving"))
    key = kms.Key(home, "Key", enable_key_rotation=True)
    bucket = s3.Bucket(home, "Bucket", encryption_key=key, enforce_ssl=True, server_access_logs_prefix="log/")
    hosting = EndpointHosting(data_capture=DataCapture(bucket=bucket))
    weights = ModelSource.s3(bucket, "models/one/")
    endpoint = LlmEndpoint(stack, "Llm", serving=ON_GPU, capacity=TWO, source=weights, hosting=hosting)
    endpoint.add_component(
        "Small", serving=ON_GPU, capacity=TWO, source=ModelSource.s3(bucket, "models/two/")
    )
    VariantEndpoint(stack, "Variant", serving=ON_GPU, capacity=TWO, hosting=hosting)
    register_packs(app, packs=["AwsSolutions"], cloudformation_validation=False)
    app.synth()
    assert report(tmp_path) == []


@pytest.mark.parametrize(
    ("folder", "context"),
    [
        (ROOT, {}),
        (ROOT, {"tokenmill:chat.compliance": "true"}),
        (ROOT / "examples" / "endpoint_only", {}),
    ],
    ids=["app", "app with compliance", "example"],
)
def test_nothing_is_left_unanswered(folder: Path, context: dict[str, Any], tmp_path: Path) -> None:
    """CloudFormation validation, five packs, cfn-lint and checkov ran, and none has a finding."""
    run_app(folder, tmp_path, context)
    assert report(tmp_path) == []
    record = json.loads((tmp_path / "tokenmill-lint.json").read_text(encoding="utf-8"))
    assert tuple(record["packs"]) == PACKS
    assert record["cloudformation_validation"] is True
    found = lint_assembly(tmp_path)
    assert {check.check: check.state for check in found.checks} == dict.fromkeys(
        ("cloudformation-validate", *PACKS, "cfn-lint", "checkov"), CheckState.CLEAN
    )


def test_every_answer_is_a_sentence() -> None:
    """An auditor reads reasons, not shrugs."""
    for source in (ROOT / "acknowledgements.py", ROOT / "examples" / "endpoint_only" / "acknowledgements.py"):
        for line in source.read_text(encoding="utf-8").splitlines():
            if "reason=" in line and line.rstrip().endswith('",'):
                assert line.rstrip().endswith('.",'), line
