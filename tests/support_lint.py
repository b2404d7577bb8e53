"""A cloud assembly written by hand, laid out as aws-cdk-lib 2.275 does, for tests that need no synth."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

BUCKET = {"Type": "AWS::S3::Bucket", "UpdateReplacePolicy": "Retain", "DeletionPolicy": "Retain"}


def write_json(path: Path, document: object, *, indent: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=indent), encoding="utf-8")


def write_assembly(root: Path, resources: dict[str, Any] | None = None) -> Path:
    """One stack `Demo` with a bucket at `Demo/Bucket/Resource`; no record and no validation report."""
    artifact = {
        "type": "aws:cloudformation:stack",
        "environment": "aws://unknown-account/unknown-region",
        "properties": {"templateFile": "Demo.template.json"},
        "additionalMetadataFile": "Demo.metadata.json",
        "dependencies": [],
    }
    write_json(root / "manifest.json", {"version": "55.0.0", "artifacts": {"Demo": artifact}})
    write_json(root / "Demo.template.json", {"Resources": {"B1": BUCKET} if resources is None else resources})
    metadata = {
        "/Demo": [{"type": "aws:cdk:templateFile", "data": "Demo.template.json"}],
        "/Demo/Bucket/Resource": [{"type": "aws:cdk:logicalId", "data": "B1"}],
    }
    write_json(root / "Demo.metadata.json", metadata)
    return root


def write_record(root: Path, *, packs: list[str], validation: bool = True) -> None:
    """The record of `register_packs`, for the templates as they are now."""
    record = {
        "schema": 1,
        "packs": packs,
        "cloudformation_validation": validation,
        "versions": {"cdk-nag": "3.0.2", "cloudformation-validate": "1.12.1"},
        "templates": {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in root.glob("*.template.json")
        },
        "acknowledged": [],
    }
    write_json(root / "tokenmill-lint.json", record)


def write_report(root: Path, *reports: dict[str, Any]) -> None:
    """CDK's validation-report.json."""
    write_json(root / "validation-report.json", {"version": "55.0.0", "pluginReports": list(reports)})


def plugin_report(plugin: str, rule: str, *, severity: str = "error") -> dict[str, Any]:
    """What one plug-in says of the bucket."""
    violation = {
        "ruleName": rule,
        "description": "The bucket is wrong.",
        "severity": severity,
        "violatingConstructs": [{"constructPath": "Demo/Bucket/Resource"}],
    }
    return {"pluginName": plugin, "conclusion": "failure", "violations": [violation]}
