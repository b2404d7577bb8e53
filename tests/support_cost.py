"""Assemblies written by hand: a manifest, templates, and no CDK."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tokenmill.cost import CostReport, PriceList, cost_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

REGION = "us-east-1"
Template = dict[str, Any]


def template(**resources: Mapping[str, Any]) -> Template:
    """Return a template with some resources."""
    return {"Resources": resources}


def resource(kind: str, /, **properties: Any) -> dict[str, Any]:
    """Return a resource."""
    return {"Type": kind, "Properties": properties}


def assembly(root: Path, region: str = REGION, **stacks: Template) -> Path:
    """Write an assembly of some stacks in a region ("unknown-region" for agnostic ones) and return it."""
    root.mkdir(parents=True, exist_ok=True)
    artifacts = {
        name: {
            "type": "aws:cloudformation:stack",
            "environment": f"aws://unknown-account/{region}",
            "properties": {"templateFile": f"{name}.template.json"},
        }
        for name in stacks
    }
    (root / "manifest.json").write_text(json.dumps({"version": "55.0.0", "artifacts": artifacts}))
    for name, document in stacks.items():
        (root / f"{name}.template.json").write_text(json.dumps(document))
    return root


def cost(root: Path, prices: Mapping[str, float] | None = None, **resources: Mapping[str, Any]) -> CostReport:
    """Return the report of one stack with some resources."""
    return cost_of(assembly(root, Demo=template(**resources)), prices=PriceList(prices))


def endpoint(
    *, variant: Mapping[str, Any], copies: int = 2, chips: int = 1, least: int | None = None
) -> dict[str, dict[str, Any]]:
    """Return an endpoint with a configuration, one component and, for a least number, a scalable target."""
    found = {
        "Config": resource("AWS::SageMaker::EndpointConfig", ProductionVariants=[dict(variant)]),
        "Endpoint": resource(
            "AWS::SageMaker::Endpoint",
            EndpointConfigName={"Fn::GetAtt": ["Config", "EndpointConfigName"]},
        ),
        "Model": resource(
            "AWS::SageMaker::InferenceComponent",
            EndpointName={"Fn::GetAtt": ["Endpoint", "EndpointName"]},
            VariantName="AllTraffic",
            RuntimeConfig={"CopyCount": copies},
            Specification={
                "ComputeResourceRequirements": {
                    "NumberOfAcceleratorDevicesRequired": chips,
                    "MinMemoryRequiredInMb": 1024,
                }
            },
        ),
    }
    if least is not None:
        found["Target"] = resource(
            "AWS::ApplicationAutoScaling::ScalableTarget",
            MinCapacity=least,
            MaxCapacity=8,
            ScalableDimension="sagemaker:inference-component:DesiredCopyCount",
            ResourceId={"Fn::Join": ["", ["inference-component/", {"Fn::Select": [1, {"Ref": "Model"}]}]]},
        )
    return found


def managed(instance: str, fewest: int, most: int, first: int = 1) -> dict[str, Any]:
    """Return a variant that SageMaker scales."""
    return {
        "VariantName": "AllTraffic",
        "InstanceType": instance,
        "InitialInstanceCount": first,
        "ManagedInstanceScaling": {
            "Status": "ENABLED",
            "MinInstanceCount": fewest,
            "MaxInstanceCount": most,
        },
    }
