"""Where an acknowledgement goes, and which ones are refused; which packs can be registered."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_s3 as s3

from tokenmill.core.errors import TokenmillError
from tokenmill.lint import PACKS, acknowledge, register_packs

if TYPE_CHECKING:
    from pathlib import Path

REASON = "This bucket holds nothing that anyone could want."


@pytest.fixture
def bucket() -> s3.Bucket:
    return s3.Bucket(cdk.Stack(cdk.App(builtin_cloud_formation_validation=False), "Demo"), "Bucket")


def metadata(bucket: s3.Bucket) -> dict[str, Any]:
    template = cdk.Stage.of(bucket)
    assert template is not None
    resources = template.synth().get_stack_by_name("Demo").template["Resources"]
    (resource,) = (r for r in resources.values() if r["Type"] == "AWS::S3::Bucket")
    found: dict[str, Any] = resource.get("Metadata", {})
    return found


def in_cdk(bucket: s3.Bucket) -> dict[str, str]:
    entries = [
        e.data for e in bucket.node.metadata if e.type == cdk.Validations.ACKNOWLEDGED_RULES_METADATA_KEY
    ]
    return {rule: reason for entry in entries for rule, reason in entry.items()}


def test_checkov_reads_its_skips_from_the_resource_with_the_reason(bucket: s3.Bucket) -> None:
    acknowledge(bucket, "CKV_AWS_18", reason=REASON)
    acknowledge(bucket, "CKV2_AWS_6", reason=REASON)
    skipped = [{"id": "CKV_AWS_18", "comment": REASON}, {"id": "CKV2_AWS_6", "comment": REASON}]
    assert metadata(bucket)["checkov"] == {"skip": skipped}


def test_a_second_reason_for_the_same_rule_replaces_the_first(bucket: s3.Bucket) -> None:
    acknowledge(bucket, "CKV_AWS_18", reason="This was the first reason.")
    acknowledge(bucket, "CKV_AWS_18", reason=REASON)
    assert metadata(bucket)["checkov"]["skip"] == [{"id": "CKV_AWS_18", "comment": REASON}]


def test_an_unprefixed_template_rule_is_acknowledged_in_both_validators(bucket: s3.Bucket) -> None:
    acknowledge(bucket, "W3010", reason=REASON)
    assert metadata(bucket)["cfn-lint"] == {
        "config": {"ignore_checks": ["W3010"]},
        "reasons": {"W3010": REASON},
    }
    assert in_cdk(bucket) == {"CloudFormation-Validate::W3010": REASON}


def test_a_prefix_narrows_a_template_rule_to_one_validator(bucket: s3.Bucket) -> None:
    acknowledge(bucket, "cfn-lint::E3012", "CloudFormation-Validate::W3010", "F3031", reason=REASON)
    assert metadata(bucket)["cfn-lint"]["config"] == {"ignore_checks": ["E3012"]}
    assert set(in_cdk(bucket)) == {"CloudFormation-Validate::W3010", "CloudFormation-Validate::F3031"}


def test_a_pack_s_rule_stays_out_of_the_template(bucket: s3.Bucket) -> None:
    acknowledge(bucket, "AwsSolutions-IAM5[Resource::*]", reason=REASON)
    assert metadata(bucket) == {}
    assert in_cdk(bucket) == {"Annotation::AwsSolutions-IAM5[Resource::*]": REASON}


def test_fails_without_a_sentence(bucket: s3.Bucket) -> None:
    with pytest.raises(TokenmillError, match="needs a reason of one full sentence, got 'no'"):
        acknowledge(bucket, "CKV_AWS_18", reason="no")


def test_fails_without_a_rule(bucket: s3.Bucket) -> None:
    with pytest.raises(TokenmillError, match="names no rule"):
        acknowledge(bucket, reason=REASON)


def test_fails_to_acknowledge_a_template_rule_on_a_whole_stack(bucket: s3.Bucket) -> None:
    with pytest.raises(TokenmillError, match="CKV_AWS_18 is acknowledged on one resource, and Demo is none"):
        acknowledge(cdk.Stack.of(bucket), "CKV_AWS_18", reason=REASON)


def test_fails_on_a_pack_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(
        TokenmillError, match="no rule pack is called 'Nist'; allowed are AwsSolutions, NIST80053R5"
    ):
        register_packs(cdk.App(outdir=str(tmp_path)), packs=["AwsSolutions", "Nist"])


def test_fails_without_cdk_nag_and_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CDK_VALIDATION", raising=False)
    monkeypatch.setitem(sys.modules, "cdk_nag", None)
    with pytest.raises(TokenmillError, match=r"needs cdk-nag, .* pip install 'tokenmill\[lint\]'"):
        register_packs(cdk.App(outdir=str(tmp_path)), packs=["AwsSolutions"])


def test_every_pack_exists_in_cdk_nag_under_the_name_that_its_report_uses(tmp_path: Path) -> None:
    import cdk_nag

    app = cdk.App(outdir=str(tmp_path))
    for pack in PACKS.values():
        assert getattr(cdk_nag, pack.class_name)(app).read_pack_name == pack.report_name
