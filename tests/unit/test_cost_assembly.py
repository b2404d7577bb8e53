"""An assembly is read whole, or refused in one sentence."""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING, Any

import pytest

from support_cost import assembly, cost, resource, template
from tokenmill.core.errors import TokenmillError
from tokenmill.cost import cost_of, read_stacks

if TYPE_CHECKING:
    from pathlib import Path

KEY = resource("AWS::KMS::Key")


def test_a_folder_that_is_missing_or_no_assembly_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenmillError, match="is not a directory; synthesize first"):
        cost_of(tmp_path / "none")
    with pytest.raises(TokenmillError, match="it has no manifest.json"):
        cost_of(tmp_path)


@pytest.mark.parametrize(
    "manifest",
    [
        "{",
        "[]",
        '{"artifacts": []}',
        '{"artifacts": {"A": 1}}',
        '{"artifacts": {"A": {"type": "aws:cloudformation:stack"}}}',
        '{"artifacts": {"A": {"type": "aws:cloudformation:stack", "properties": {"templateFile": 1}}}}',
        '{"artifacts": {"A": {"type": "aws:cloudformation:stack", "properties": {"templateFile": "../x"}}}}',
        '{"artifacts": {"A": {"type": "cdk:cloud-assembly", "properties": {"directoryName": "."}}}}',
    ],
)
def test_a_manifest_of_another_shape_is_one_error(manifest: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(TokenmillError, match="synthesize again"):
        read_stacks(tmp_path, "us-east-1")


def test_an_assembly_without_a_stack_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenmillError, match="has no stack"):
        read_stacks(assembly(tmp_path))


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"Resources": []}, r"Demo: Resources must be a JSON object, got \[\]"),
        ({"Resources": {"A": 1}}, "Demo: A must be a JSON object, got 1"),
        ({"Resources": {"A": {}}}, "Demo: A has no Type"),
        ({"Resources": {"A": {"Type": "T", "Properties": []}}}, "Demo: A.Properties must be a JSON object"),
        ({"Parameters": 1}, "Demo: Parameters must be a JSON object"),
    ],
)
def test_a_template_of_another_shape_is_named(document: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(TokenmillError, match=message):
        cost_of(assembly(tmp_path, Demo=document))


def test_a_template_that_is_no_json_is_named(tmp_path: Path) -> None:
    root = assembly(tmp_path, Demo={})
    (root / "Demo.template.json").write_text("AWSTemplateFormatVersion: yaml")
    with pytest.raises(TokenmillError, match="cannot read .*Demo.template.json"):
        cost_of(root)


def test_a_stack_without_a_region_asks_for_one_and_takes_it(tmp_path: Path) -> None:
    root = assembly(tmp_path, "unknown-region", Demo=template(Key=KEY))
    with pytest.raises(
        TokenmillError, match="stack Demo names no region, and prices need one; give --region"
    ):
        cost_of(root)
    assert cost_of(root, region="us-east-1").usd_per_month == 1.0


def test_the_region_of_the_environment_goes_before_the_one_given(tmp_path: Path) -> None:
    root = assembly(tmp_path, "us-east-1", Demo=template(Key=KEY))
    assert cost_of(root, region="mars-north-1").stacks == (("Demo", "us-east-1"),)


def test_stacks_stages_and_nested_stacks_are_all_counted(tmp_path: Path) -> None:
    """Two stacks, one with a nested template that its metadata names, and a stage in a folder."""
    root = assembly(
        tmp_path, One=template(Key=KEY, Nested=resource("AWS::CloudFormation::Stack")), Two=template(Key=KEY)
    )
    assembly(root / "assembly-Prod", Three=template(Key=KEY))
    (root / "One-Nested.nested.template.json").write_text(json.dumps(template(Key=KEY)))
    manifest = json.loads((root / "manifest.json").read_text())
    manifest["artifacts"]["One"]["metadata"] = {
        "/One/Nested": [{"type": "aws:cdk:templateFile", "data": "One-Nested.nested.template.json"}]
    }
    manifest["artifacts"]["Prod"] = {
        "type": "cdk:cloud-assembly",
        "properties": {"directoryName": "assembly-Prod"},
    }
    (root / "manifest.json").write_text(json.dumps(manifest))
    report = cost_of(root, today=datetime.date(2026, 4, 1))
    assert [name for name, _ in report.stacks] == ["One", "One-Nested", "Two", "assembly-Prod/Three"]
    assert report.usd_per_month == 4.0
    assert report.warnings == ()


def test_a_nested_template_outside_the_assembly_is_said(tmp_path: Path) -> None:
    report = cost(tmp_path, Nested=resource("AWS::CloudFormation::Stack", TemplateURL="https://example"))
    assert "1 nested stacks have a template outside the assembly" in report.warnings[0]


def test_a_parameter_with_a_default_settles_a_number(tmp_path: Path) -> None:
    document = template(Stream=resource("AWS::Kinesis::Stream", ShardCount={"Ref": "Shards"}))
    document["Parameters"] = {"Shards": {"Type": "Number", "Default": "3"}, "Other": {"Type": "String"}}
    (line,) = cost_of(assembly(tmp_path, Demo=document)).lines
    assert line.quantity == 3


@pytest.mark.parametrize("value", [{"Ref": "Shards"}, {"Fn::If": ["Large", 4, 1]}])
def test_an_intrinsic_where_a_number_is_needed_is_missing_and_says_why(value: object, tmp_path: Path) -> None:
    (line,) = cost(tmp_path, Stream=resource("AWS::Kinesis::Stream", ShardCount=value)).lines
    assert (line.state, line.quantity) == ("missing", None)
    assert line.note == f"ShardCount is {next(iter(value))}, which only the deployment knows"


@pytest.mark.parametrize("value", ["many", True, -1, [], {}, None, 1e12])
def test_a_number_that_is_none_is_refused_by_name(value: object, tmp_path: Path) -> None:
    with pytest.raises(TokenmillError, match="Demo: Stream.ShardCount must be a number of 0 or more, got"):
        cost(tmp_path, Stream=resource("AWS::Kinesis::Stream", ShardCount=value))


def test_a_list_or_object_that_is_an_intrinsic_is_missing(tmp_path: Path) -> None:
    report = cost(
        tmp_path,
        Gate=resource(
            "AWS::EC2::VPCEndpoint", VpcEndpointType="Interface", SubnetIds={"Fn::Split": [",", "a"]}
        ),
        Kind=resource("AWS::EC2::VPCEndpoint", VpcEndpointType={"Ref": "Kind"}),
        Group=resource("AWS::OpenSearchServerless::CollectionGroup", CapacityLimits={"Fn::If": ["a", 1, 2]}),
    )
    assert [line.note for line in report.lines] == [
        "SubnetIds is decided by the deployment",
        "VpcEndpointType is decided by the deployment",
        "CapacityLimits is decided by the deployment",
    ]


def test_a_list_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenmillError, match="Demo: A.Rules must be a list, got 'all'"):
        cost(tmp_path, A=resource("AWS::WAFv2::WebACL", Rules="all"))


def test_a_line_names_the_construct_where_the_template_does(tmp_path: Path) -> None:
    named = {**KEY, "Metadata": {"aws:cdk:path": "Demo/Data/Key/Resource"}}
    lines = cost(tmp_path, Named=named, Plain=KEY).lines
    assert [line.resource for line in lines] == ["Data/Key", "Plain"]
