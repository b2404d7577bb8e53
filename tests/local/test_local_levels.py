"""The levels: one table in code, the same in the docs, and every type in it has a handler."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenmill.core.errors import TokenmillError
from tokenmill.local.assembly import AssembledStack, choose, refuse_unknown_types
from tokenmill.local.cloudformation.bedrock import KINDS
from tokenmill.local.levels import LEVELS, Level, level_of, markdown_table
from tokenmill.local.ministack_seams import Ministack

DOCS = Path(__file__).resolve().parents[2] / "docs" / "local-cloud.md"
OURS = {
    "AWS::Backup::BackupSelection",
    "AWS::CloudWatch::CompositeAlarm",
    "AWS::EC2::EIP",
    "AWS::EC2::FlowLog",
    "AWS::EC2::NatGateway",
    "AWS::EC2::SecurityGroupEgress",
    "AWS::EC2::SecurityGroupIngress",
    "AWS::WAFv2::WebACLAssociation",
    "AWS::SageMaker::Model",
    "AWS::SageMaker::EndpointConfig",
    "AWS::SageMaker::Endpoint",
    "AWS::SageMaker::InferenceComponent",
    "AWS::ApplicationAutoScaling::ScalableTarget",
    "AWS::ApplicationAutoScaling::ScalingPolicy",
    *KINDS,
}


def stack(name: str = "tokenmill-chat", region: str = "us-east-1", **types: str) -> AssembledStack:
    resources = {logical_id: {"Type": kind} for logical_id, kind in types.items()}
    return AssembledStack(
        id=name, name=name, account="000000000000", region=region, template={"Resources": resources}
    )


def test_the_docs_show_the_table_of_the_code() -> None:
    """When this fails: print(tokenmill.local.levels.markdown_table()) between the two markers."""
    text = DOCS.read_text()
    shown = text.split("<!-- levels -->\n")[1].split("<!-- /levels -->")[0]
    assert shown == markdown_table()


def test_the_table_is_sorted_and_names_each_type_once() -> None:
    names = [entry.type for entry in LEVELS]
    assert names == sorted(set(names))
    assert not [entry for entry in LEVELS if entry.level is Level.REFUSED]


def test_every_declared_type_has_a_handler() -> None:
    handlers = set(Ministack.load().provisioners._RESOURCE_HANDLERS) | OURS
    assert [entry.type for entry in LEVELS if entry.type not in handlers] == []


def test_what_is_not_declared_is_refused_and_custom_resources_are_real() -> None:
    assert level_of("AWS::EKS::Cluster").level is Level.REFUSED
    assert level_of("Custom::Anything").level is Level.REAL


def test_fails_for_every_undeclared_type_at_once() -> None:
    with pytest.raises(TokenmillError, match=r"AWS::EKS::Cluster \(tokenmill-chat\), AWS::MSK::Cluster"):
        refuse_unknown_types([stack(A="AWS::MSK::Cluster", B="AWS::EKS::Cluster", C="AWS::S3::Bucket")])


def test_a_section_names_its_stack_with_or_without_the_prefix() -> None:
    known = [stack(), stack("other")]
    assert choose(known, "chat") == choose(known, "tokenmill-chat") == [known[0]]
    assert choose(known, None) == known


def test_fails_for_a_stack_that_the_app_has_not() -> None:
    with pytest.raises(TokenmillError, match="no stack 'rag'; it has: tokenmill-chat"):
        choose([stack()], "rag")


def test_fails_for_stacks_in_two_regions() -> None:
    with pytest.raises(TokenmillError, match="several environments"):
        choose([stack(), stack("b", region="eu-west-1")], None)
