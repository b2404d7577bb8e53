"""What costs without traffic is priced from the table, by region, and what is not known is said."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_cost import assembly, cost, resource, template
from tokenmill.core.errors import TokenmillError
from tokenmill.cost import PriceList, cost_of
from tokenmill.cost.prices import service_items, service_prices
from tokenmill.cost.rules import BY_USE, FREE, RULES

if TYPE_CHECKING:
    from pathlib import Path

HOURS = 730
FUNCTION = resource("AWS::Lambda::Function", MemorySize=2048, Architectures=["arm64"])
VERSION = {
    "FunctionName": {"Ref": "F"},
    "ProvisionedConcurrencyConfig": {"ProvisionedConcurrentExecutions": 5},
}


def total(root: Path, **resources: Any) -> float:
    report = cost(root, **resources)
    assert report.missing == ()
    return report.usd_per_month


@pytest.mark.parametrize(
    ("properties", "usd"),
    [
        (resource("AWS::KMS::Key"), 1),
        (resource("AWS::KMS::ReplicaKey"), 1),
        (resource("AWS::SecretsManager::Secret"), 0.4),
        (resource("AWS::EC2::NatGateway"), 0.045 * HOURS),
        (resource("AWS::EC2::EIP"), 0.005 * HOURS),
        (resource("AWS::EC2::VPCEndpoint"), 0),
        (resource("AWS::EC2::VPCEndpoint", VpcEndpointType="Interface"), 0.01 * HOURS),
        (resource("AWS::EC2::VPCEndpoint", VpcEndpointType="Interface", SubnetIds=["a", "b"]), 0.02 * HOURS),
        (
            resource("AWS::EC2::VPCEndpoint", VpcEndpointType="GatewayLoadBalancer", SubnetIds=["a"]),
            0.01 * HOURS,
        ),
        (resource("AWS::CloudWatch::Dashboard"), 3),
        (resource("AWS::CloudWatch::Alarm", Period=60), 0.1),
        (resource("AWS::CloudWatch::Alarm", Period=10), 0.3),
        (resource("AWS::CloudWatch::Alarm"), 0.1),
        (
            resource(
                "AWS::CloudWatch::Alarm",
                Metrics=[{"MetricStat": {"Period": 60}}] * 2 + [{"Expression": "a/b"}],
            ),
            0.2,
        ),
        (
            resource(
                "AWS::CloudWatch::Alarm",
                ThresholdMetricId="t",
                Metrics=[{"MetricStat": {"Period": 10}}, {"Expression": "x"}],
            ),
            0.9,
        ),
        (resource("AWS::WAFv2::WebACL", Rules=[{}, {}, {}]), 8),
        (resource("AWS::WAFv2::WebACL"), 5),
        (resource("AWS::ElasticLoadBalancingV2::LoadBalancer", Scheme="internal"), 0.0225 * HOURS),
        (
            resource("AWS::ElasticLoadBalancingV2::LoadBalancer", Type="network", Subnets=["a", "b", "c"]),
            (0.0225 + 3 * 0.005) * HOURS,
        ),
        (resource("AWS::Route53::HostedZone"), 0.5),
        (resource("AWS::Kinesis::Stream", ShardCount=4), 4 * 0.015 * HOURS),
        (resource("AWS::ApiGateway::Stage", CacheClusterEnabled=True, CacheClusterSize="0.5"), 0.02 * HOURS),
        (resource("AWS::ApiGateway::Stage", CacheClusterEnabled=False), 0),
        (resource("AWS::OpenSearchServerless::Collection"), 2 * 0.24 * HOURS),
        (resource("AWS::OpenSearchServerless::Collection", StandbyReplicas="DISABLED"), 0.24 * HOURS),
        (resource("AWS::OpenSearchServerless::Collection", CollectionGroupName="g"), 0),
        (
            resource(
                "AWS::OpenSearchServerless::CollectionGroup",
                CapacityLimits={"MinIndexingCapacityInOcu": 1, "MinSearchCapacityInOcu": 2},
            ),
            3 * 0.24 * HOURS,
        ),
        (resource("AWS::DynamoDB::Table", BillingMode="PAY_PER_REQUEST"), 0),
        (resource("AWS::Lambda::Version", FunctionName="f"), 0),
        (resource("AWS::EFS::MountTarget"), 0),
        (resource("AWS::ApplicationAutoScaling::ScalingPolicy", PolicyType="StepScaling"), 0),
    ],
)
def test_the_floor_of_a_resource_is_its_published_price(
    properties: dict[str, Any], usd: float, tmp_path: Path
) -> None:
    assert total(tmp_path, R=properties) == pytest.approx(usd)


@pytest.mark.parametrize(
    ("tracking", "item", "count"),
    [
        (
            {
                "PredefinedMetricSpecification": {
                    "PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"
                }
            },
            "alarm-metric",
            2,
        ),
        (
            {
                "DisableScaleIn": True,
                "PredefinedMetricSpecification": {"PredefinedMetricType": "XHighResolution"},
            },
            "alarm-metric-high-resolution",
            1,
        ),
        (
            {
                "CustomizedMetricSpecification": {
                    "Metrics": [{"MetricStat": {}}, {"MetricStat": {}}, {"Expression": "a"}]
                }
            },
            "alarm-metric",
            4,
        ),
        ({"CustomizedMetricSpecification": {"MetricName": "m"}}, "alarm-metric", 2),
    ],
)
def test_a_target_tracking_policy_makes_two_alarms_or_one(
    tracking: dict[str, Any], item: str, count: int, tmp_path: Path
) -> None:
    policy = resource(
        "AWS::ApplicationAutoScaling::ScalingPolicy", TargetTrackingScalingPolicyConfiguration=tracking
    )
    (line,) = cost(tmp_path, P=policy).lines
    assert (line.item, line.quantity) == (item, count)


def test_provisioned_concurrency_counts_memory_and_processor(tmp_path: Path) -> None:
    report = cost(tmp_path, F=FUNCTION, V=resource("AWS::Lambda::Version", **VERSION))
    assert report.usd_per_month == pytest.approx(5 * 2 * 0.0000033333 * HOURS * 3600)
    other = cost(tmp_path, F=resource("AWS::Lambda::Function"), V=resource("AWS::Lambda::Alias", **VERSION))
    (line,) = other.missing
    assert (line.item, line.quantity) == ("lambda-provisioned-x86_64", 5 * 128 / 1024)
    elsewhere = cost(tmp_path, V=resource("AWS::Lambda::Version", **VERSION))
    assert elsewhere.missing[0].note == "the function is not in this template, so its memory is not known"


def test_collections_of_a_stack_share_their_floor(tmp_path: Path) -> None:
    collection = resource("AWS::OpenSearchServerless::Collection")
    assert total(tmp_path, A=collection, B=collection) == pytest.approx(2 * 0.24 * HOURS)
    vector = resource("AWS::OpenSearchServerless::Collection", Type="VECTORSEARCH")
    assert total(tmp_path, A=collection, B=vector, C=vector) == pytest.approx(4 * 0.24 * HOURS)


@pytest.mark.parametrize(
    ("properties", "said"),
    [
        (resource("AWS::RDS::DBInstance", DBInstanceClass="db.t4g.medium"), "DBInstance db.t4g.medium"),
        (resource("AWS::RDS::DBInstance", DBInstanceClass={"Ref": "Class"}), "DBInstance"),
        (resource("AWS::OpenSearchService::Domain"), "Domain"),
        (resource("AWS::CloudWatch::CompositeAlarm"), "composite alarm"),
        (resource("AWS::CloudWatch::Alarm", EvaluationCriteria={}), "alarm on a PromQL query"),
        (
            resource("AWS::CloudWatch::Alarm", Metrics=[{"Expression": "SELECT AVG(x)"}]),
            "alarm on a Metrics Insights query",
        ),
        (
            resource("AWS::Kinesis::Stream", StreamModeDetails={"StreamMode": "ON_DEMAND"}),
            "on-demand data stream",
        ),
        (resource("AWS::DynamoDB::Table"), "table with provisioned capacity"),
        (
            resource("AWS::ApiGateway::Stage", CacheClusterEnabled="true", CacheClusterSize=6.1),
            "API cache of 6.1 GB",
        ),
        (resource("AWS::ElasticLoadBalancingV2::LoadBalancer", Type="gateway"), "gateway load balancer"),
    ],
)
def test_what_has_no_price_is_listed_as_missing(
    properties: dict[str, Any], said: str, tmp_path: Path
) -> None:
    report = cost(tmp_path, R=properties)
    (line,) = report.missing
    assert (line.what, line.usd_per_month) == (said, None)
    assert f"no price in us-east-1 is known; give --price {line.item}=USD a {line.unit}" in line.note


def test_a_collection_group_without_limits_is_missing(tmp_path: Path) -> None:
    (line,) = cost(tmp_path, G=resource("AWS::OpenSearchServerless::CollectionGroup")).missing
    assert line.note.startswith("MinIndexingCapacityInOcu and MinSearchCapacityInOcu is not set")


def test_another_regions_price_is_never_used(tmp_path: Path) -> None:
    report = cost_of(assembly(tmp_path, "eu-central-1", Demo=template(K=resource("AWS::KMS::Key"))))
    assert report.usd_per_month == 0
    assert report.missing[0].note.startswith("no price in eu-central-1 is known")


def test_a_price_of_ones_own_takes_the_place_of_a_missing_one(tmp_path: Path) -> None:
    prices = {"AWS::RDS::DBInstance": 120.0, "lambda-provisioned-x86_64": 0.000004}
    report = cost(tmp_path, prices, R=resource("AWS::RDS::DBInstance"))
    (line,) = report.lines
    assert (line.usd_per_month, line.source) == (120.0, "given on the command line")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"nat": 1.0}, "unknown price item 'nat'"),
        ({"kms-key": 0.0}, "must be above 0"),
        ({"ml.x": float("nan")}, "above 0"),
    ],
)
def test_a_price_of_nothing_known_is_refused(given: dict[str, float], message: str) -> None:
    with pytest.raises(TokenmillError, match=message):
        PriceList(given)


def test_conditions_and_rotation_are_said(tmp_path: Path) -> None:
    key = {**resource("AWS::KMS::Key", EnableKeyRotation=True), "Condition": "Prod"}
    (line,) = cost(tmp_path, K=key).lines
    assert line.note == (
        "each of the first two rotations adds as much again; only under condition Prod; counted as if it held"
    )


def test_old_prices_are_named_once_with_the_oldest_date(tmp_path: Path) -> None:
    root = assembly(
        tmp_path,
        Demo=template(D=resource("AWS::CloudWatch::Dashboard"), S=resource("AWS::SecretsManager::Secret")),
    )
    (warning,) = cost_of(root, today=datetime.date(2026, 11, 22)).warnings
    assert warning.startswith("prices of dashboard, secret are more than 180 days old (oldest: 2024-07-01)")
    assert cost_of(root, today=datetime.date(2024, 8, 1)).warnings == ()


def test_use_and_unknown_types_are_listed_and_free_ones_are_not(tmp_path: Path) -> None:
    report = cost(
        tmp_path,
        A=resource("AWS::Logs::LogGroup"),
        B=resource("AWS::Logs::LogGroup"),
        C=resource("Custom::Thing"),
        D=resource("AWS::IAM::Role"),
        E=resource("AWS::CloudFormation::CustomResource"),
        F=resource("AWS::EC2::RouteTable"),
        G=resource("AWS::Braket::Device"),
    )
    assert [(item.type, item.count, item.what) for item in report.by_use] == [
        ("AWS::Logs::LogGroup", 2, "log data and its storage")
    ]
    assert report.unknown == (
        ("AWS::Braket::Device", 1),
        ("AWS::CloudFormation::CustomResource", 1),
        ("Custom::Thing", 1),
    )
    assert report.lines == ()


def test_every_price_has_a_source_and_a_date() -> None:
    for (item, region), price in service_prices().items():
        assert price.source, item
        assert datetime.date.fromisoformat(price.source_date) <= datetime.date(2026, 11, 22)
        assert price.usd > 0
        assert region
    assert {"composite-alarm", "lambda-provisioned-x86_64"} <= set(service_items()) - {
        item for item, _ in service_prices()
    }


def test_no_type_is_in_two_minds() -> None:
    """A type that costs without traffic, or by use, is not declared free by its own name."""
    assert (set(RULES) | set(BY_USE)) & set(FREE) == set()


SOME = st.sampled_from(
    [
        resource("AWS::KMS::Key"),
        resource("AWS::EC2::NatGateway"),
        resource("AWS::WAFv2::WebACL", Rules=[{}]),
        resource("AWS::OpenSearchServerless::Collection"),
        resource("AWS::OpenSearchServerless::Collection", StandbyReplicas="DISABLED"),
        resource("AWS::Logs::LogGroup"),
        resource("AWS::RDS::DBInstance"),
        resource("AWS::CloudWatch::Alarm", Period=10),
    ]
)


@settings(max_examples=60, deadline=None)
@given(resources=st.lists(SOME, max_size=6), more=SOME)
def test_adding_a_resource_never_lowers_the_floor(
    resources: list[dict[str, Any]], more: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("floor")
    few = {f"R{number}": item for number, item in enumerate(resources)}
    before = cost(root / "a", **few)
    for all_of_them in ({**few, "More": more}, {"More": more, **few}):
        after = cost(root / "b", **all_of_them)
        assert after.usd_per_month >= before.usd_per_month - 1e-9
        assert len(after.missing) >= len(before.missing)
