"""Instances of SageMaker endpoints: the floor, the most, the quotas."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_cost import cost, endpoint, managed, resource
from tokenmill.core.errors import TokenmillError
from tokenmill.core.instances import instance_type

if TYPE_CHECKING:
    from pathlib import Path

    from tokenmill.cost import CostLine, CostReport

INF2 = "ml.inf2.8xlarge"
LARGE = "ml.inf2.24xlarge"
COPY = "AWS::SageMaker::InferenceComponent"


def instances(report: CostReport) -> CostLine:
    (line,) = [line for line in report.lines if line.what == "endpoint instances"]
    return line


def quota(report: CostReport, name: str) -> tuple[float, float]:
    (need,) = [need for need in report.quotas if need.name == name]
    return need.at_floor, need.at_most


def test_the_floor_is_what_the_fewest_copies_take(tmp_path: Path) -> None:
    """Six chips of ml.inf2.24xlarge hold three copies of two chips: four copies need two instances."""
    report = cost(tmp_path, **endpoint(variant=managed(LARGE, 1, 5), chips=2, least=4))
    price = instance_type(LARGE).price("us-east-1")
    assert price is not None
    assert instances(report).quantity == 2
    assert instances(report).usd_per_month == pytest.approx(2 * price.usd_per_hour * 730)
    assert quota(report, f"{LARGE} for endpoint usage") == (2, 5)


def test_copies_that_do_not_scale_count_as_they_are(tmp_path: Path) -> None:
    report = cost(tmp_path, **endpoint(variant=managed(INF2, 1, 4), copies=3))
    assert instances(report).quantity == 3


def test_instances_that_are_kept_go_before_copies(tmp_path: Path) -> None:
    assert instances(cost(tmp_path, **endpoint(variant=managed(INF2, 2, 4), least=1))).quantity == 2


def test_an_adapter_takes_no_instance_of_its_own(tmp_path: Path) -> None:
    """It runs on the copies of its base, and where these scale to zero nothing is left."""
    bare = endpoint(variant=managed(INF2, 0, 4), least=0)
    adapter = resource(
        COPY,
        EndpointName={"Fn::GetAtt": ["Endpoint", "EndpointName"]},
        Specification={"BaseInferenceComponentName": {"Fn::Select": [1, {"Ref": "Model"}]}},
    )
    found = instances(cost(tmp_path, **bare, Adapter=adapter))
    assert (found.quantity, found.note) == (0, instances(cost(tmp_path, **bare)).note)


def test_an_endpoint_that_scales_to_zero_has_no_floor_and_needs_no_price(tmp_path: Path) -> None:
    report = cost(tmp_path, **endpoint(variant=managed("ml.g6e.48xlarge", 0, 3), least=0))
    assert (instances(report).quantity, instances(report).usd_per_month) == (0, 0.0)
    assert report.missing == ()
    assert quota(report, "ml.g6e.48xlarge for endpoint usage") == (0, 3)


def test_copies_of_several_components_share_instances(tmp_path: Path) -> None:
    found = endpoint(variant=managed(LARGE, 0, 9), copies=2, chips=3)
    found["Second"] = json.loads(json.dumps(found["Model"]))
    assert instances(cost(tmp_path, **found)).quantity == 2
    found["Second"]["Properties"]["VariantName"] = "Other"
    assert instances(cost(tmp_path, **found)).quantity == 1


def test_without_managed_scaling_the_initial_count_or_the_target_is_the_floor(tmp_path: Path) -> None:
    plain = {"VariantName": "V", "InstanceType": INF2, "InitialInstanceCount": 3}
    found = endpoint(variant=plain)
    assert instances(cost(tmp_path, **found)).quantity == 3
    found["Scaling"] = resource(
        "AWS::ApplicationAutoScaling::ScalableTarget",
        MinCapacity=1,
        MaxCapacity=7,
        ScalableDimension="sagemaker:variant:DesiredInstanceCount",
        ResourceId={
            "Fn::Join": ["", ["endpoint/", {"Fn::GetAtt": ["Endpoint", "EndpointName"]}, "/variant/V"]]
        },
    )
    report = cost(tmp_path, **found)
    assert instances(report).quantity == 1
    assert quota(report, f"{INF2} for endpoint usage") == (1, 7)
    found["Scaling"]["Properties"]["ResourceId"]["Fn::Join"][1][2] = "/variant/Other"
    assert instances(cost(tmp_path, **found)).quantity == 3


def test_names_written_out_are_followed_too(tmp_path: Path) -> None:
    found = endpoint(variant=managed(INF2, 0, 4), copies=2)
    found["Config"]["Properties"]["EndpointConfigName"] = "config"
    found["Endpoint"]["Properties"] = {"EndpointConfigName": "config", "EndpointName": "chat"}
    found["Model"]["Properties"]["EndpointName"] = "chat"
    assert instances(cost(tmp_path, **found)).quantity == 2
    found["Endpoint"]["Properties"]["EndpointConfigName"] = {"Fn::GetAtt": "Config.EndpointConfigName"}
    assert instances(cost(tmp_path, **found)).quantity == 2


def test_a_configuration_elsewhere_leaves_the_instances_unknown(tmp_path: Path) -> None:
    report = cost(
        tmp_path, E=resource("AWS::SageMaker::Endpoint", EndpointConfigName={"Fn::ImportValue": "x"})
    )
    assert instances(report).note == "its endpoint configuration is not in this template"
    assert instances(report).state == "missing"
    assert report.quotas == ()


def test_serverless_inference_is_by_use(tmp_path: Path) -> None:
    report = cost(
        tmp_path, **endpoint(variant={"VariantName": "V", "ServerlessConfig": {"MaxConcurrency": 5}})
    )
    assert report.lines == ()
    assert report.quotas == ()
    kept = {"VariantName": "V", "ServerlessConfig": {"ProvisionedConcurrency": 1}}
    assert "provisioned concurrency of serverless" in instances(cost(tmp_path, **endpoint(variant=kept))).note


def test_a_type_without_a_price_is_missing_with_its_quota(tmp_path: Path) -> None:
    report = cost(tmp_path, **endpoint(variant=managed("ml.p9.48xlarge", 1, 2)))
    assert "give --price ml.p9.48xlarge=USD a hour" in instances(report).note
    assert "copies of Model an instance are not known" in instances(report).note
    assert quota(report, "ml.p9.48xlarge for endpoint usage") == (1, 2)
    given = cost(tmp_path, {"ml.p9.48xlarge": 10.0}, **endpoint(variant=managed("ml.p9.48xlarge", 1, 2)))
    assert given.usd_per_month == 7300


def test_a_component_that_asks_for_nothing_takes_one_instance_at_least(tmp_path: Path) -> None:
    found = endpoint(variant=managed(INF2, 0, 4), copies=3)
    found["Model"]["Properties"]["Specification"] = {}
    assert instances(cost(tmp_path, **found)).quantity == 1


def test_a_copy_that_no_instance_holds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenmillError, match=f"asks for 7 chips and 1024 MiB, of which {LARGE} has 6"):
        cost(tmp_path, **endpoint(variant=managed(LARGE, 1, 2), chips=7))


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ({"InstanceType": 3}, "Config has no InstanceType, got 3"),
        ({"InstanceType": INF2, "InitialInstanceCount": "some"}, "InitialInstanceCount must be a number"),
    ],
)
def test_a_malformed_variant_is_refused(variant: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(TokenmillError, match=message):
        cost(tmp_path, **endpoint(variant=variant))


def test_an_endpoint_configuration_without_variants_is_refused(tmp_path: Path) -> None:
    found = endpoint(variant={})
    found["Config"]["Properties"] = {}
    with pytest.raises(TokenmillError, match="Config has no ProductionVariants"):
        cost(tmp_path, **found)


def test_an_instance_type_of_a_parameter_is_missing(tmp_path: Path) -> None:
    report = cost(tmp_path, **endpoint(variant={"InstanceType": {"Ref": "Type"}}))
    assert instances(report).note == "InstanceType is decided by the deployment"


def test_a_target_whose_resource_is_an_intrinsic_of_its_own_is_read(tmp_path: Path) -> None:
    found = endpoint(variant={"InstanceType": INF2, "InitialInstanceCount": 2})
    found["Scaling"] = resource(
        "AWS::ApplicationAutoScaling::ScalableTarget",
        MinCapacity=1,
        MaxCapacity=2,
        ScalableDimension="sagemaker:variant:DesiredInstanceCount",
        ResourceId={"Fn::Join": ["/", ["endpoint", {"Ref": "Endpoint"}, "variant/AllTraffic"]]},
    )
    assert instances(cost(tmp_path, **found)).quantity == 1


def test_quotas_sum_over_stacks_and_count_addresses_networks_and_reserved_executions(tmp_path: Path) -> None:
    reserved = resource("AWS::Lambda::Function", ReservedConcurrentExecutions=50)
    report = cost(
        tmp_path,
        A=resource("AWS::EC2::EIP"),
        B=resource("AWS::EC2::EIP"),
        C=resource("AWS::EC2::VPC"),
        F=reserved,
        G=reserved,
        H=resource("AWS::Lambda::Function", ReservedConcurrentExecutions={"Ref": "P"}),
    )
    found = {need.name: (need.code, need.at_most) for need in report.quotas}
    assert found == {
        "EC2-VPC Elastic IPs": ("L-0263D0A3", 2),
        "VPCs per Region": ("L-F678F1CE", 1),
        "Concurrent executions": ("L-B99A9384", 200),
    }


@settings(max_examples=40, deadline=None)
@given(copies=st.integers(0, 12), more=st.integers(0, 6), chips=st.integers(1, 6), kept=st.integers(0, 3))
def test_more_copies_never_lower_the_floor(
    copies: int, more: int, chips: int, kept: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """And the floor always holds the copies, chip by chip."""
    root = tmp_path_factory.mktemp("copies")
    few, many = (
        instances(cost(root, **endpoint(variant=managed(LARGE, kept, 50), chips=chips, least=least))).quantity
        for least in (copies, copies + more)
    )
    assert few is not None
    assert many is not None
    assert many >= few >= kept
    assert few * (6 // chips) >= copies
