"""Which regions lack a type that a stack needs."""

from __future__ import annotations

# AWS::SageMaker::InferenceComponent and AWS::SageMaker::EndpointConfig in the resource specifications that
# CloudFormation publishes by region (read 2026-11-22): regions of the aws, aws-cn and aws-us-gov partitions
# whose specification has no such type.
WITHOUT_COMPONENTS = frozenset(
    {
        "af-south-1",
        "ap-east-1",
        "ap-east-2",
        "ap-northeast-3",
        "ap-south-2",
        "ap-southeast-4",
        "ap-southeast-5",
        "ap-southeast-6",
        "ap-southeast-7",
        "ca-west-1",
        "cn-north-1",
        "cn-northwest-1",
        "eu-central-2",
        "eu-south-1",
        "eu-south-2",
        "eu-west-3",
        "il-central-1",
        "mx-central-1",
        "us-gov-east-1",
        "us-gov-west-1",
        "us-west-1",
    }
)
WITHOUT_ENDPOINTS = frozenset({"me-central-1", "us-gov-east-1"})
