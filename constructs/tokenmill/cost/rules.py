"""What each resource type costs without traffic. What is by use, and what is free, is listed too.

Sources, by title: "AWS KMS pricing", "AWS PrivateLink pricing" (an hour in each Availability Zone), "Amazon
VPC pricing" (NAT gateways, public IPv4), "Amazon CloudWatch pricing" (alarms by metric, dashboards), "AWS WAF
pricing", "AWS Lambda pricing" (provisioned concurrency), "Elastic Load Balancing pricing"; "Target tracking
scaling policies for Application Auto Scaling" (Application Auto Scaling User Guide) and the example of
"put-scaling-policy" (AWS CLI Command Reference) for the two alarms that a policy makes; that one with
DisableScaleIn makes one alarm is assumed: no page says how many; "WAF Cost" (AWS Security Services Best
Practices): a rule group counts as one rule of its web ACL;
infracost/infracost@95ba4f4:internal/resources/aws/cloudwatch_metric_alarm.go: an anomaly alarm counts three
metrics, and periods below 60 seconds are high resolution; "Amazon OpenSearch Serverless cost-effective search
capabilities, at any scale" (AWS Big Data Blog) for half an OCU each, twice with standby replicas; "Managing
capacity limits for Amazon OpenSearch Serverless" (its Developer Guide) for which collections share them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenmill.cost.assembly import NotKnownError, is_intrinsic
from tokenmill.cost.charge import Charge
from tokenmill.cost.units import UNITS_TYPE, unit_charges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tokenmill.cost.assembly import CostStack, Resource

HIGH_RESOLUTION_SECONDS = 60
ANOMALY_METRICS = 3
VECTOR = "VECTORSEARCH"


def flat(item: str, what: str, note: str = "") -> Callable[[Resource, CostStack], Iterable[Charge]]:
    """Return the rule of a type that costs the same however it is set.

    Args:
        item: Key of its price.
        what: What it is.
        note: What a reader must know of it.
    """

    def rule(resource: Resource, stack: CostStack) -> Iterable[Charge]:
        return [Charge(item=item, what=what, note=note)]

    return rule


def _key(resource: Resource, stack: CostStack) -> Iterable[Charge]:
    rotated = resource.properties.get("EnableKeyRotation") in (True, "true")
    note = "each of the first two rotations adds as much again" if rotated else ""
    return [Charge(item="kms-key", what="KMS key", note=note)]


def _vpc_endpoint(resource: Resource, stack: CostStack) -> Iterable[Charge]:
    kind = resource.properties.get("VpcEndpointType", "Gateway")
    if is_intrinsic(kind):
        raise NotKnownError("VpcEndpointType is decided by the deployment")
    if kind == "Gateway":
        return []
    item = "vpc-interface-endpoint" if kind == "Interface" else "vpc-gateway-load-balancer-endpoint"
    zones = len(resource.items("SubnetIds"))
    note = "" if zones else "it names no subnet; counted as in one Availability Zone"
    return [
        Charge(item=item, what=f"{kind} endpoint, by Availability Zone", quantity=max(zones, 1), note=note)
    ]


def _load_balancer(resource: Resource, stack: CostStack) -> Iterable[Charge]:
    kind = str(resource.properties.get("Type", "application"))
    charges = [Charge(item=f"{kind}-load-balancer", what=f"{kind} load balancer")]
    zones = len(resource.items("Subnets")) or len(resource.items("SubnetMappings"))
    if resource.properties.get("Scheme", "internet-facing") == "internet-facing" and kind != "gateway":
        charges.append(
            Charge(
                item="public-ipv4", what="public IPv4 of the load balancer, by zone", quantity=max(zones, 1)
            )
        )
    return charges


def _instance_address(resource: Resource, stack: CostStack) -> Iterable[Charge]:
    return [Charge(item="public-ipv4", what="Elastic IP address")]


def _alarm(resource: Resource, stack: CostStack) -> Iterable[Charge]:
    properties = resource.properties
    if "EvaluationCriteria" in properties:
        return [Charge(item=resource.type, what="alarm on a PromQL query")]
    queries = [query for query in resource.items("Metrics") if isinstance(query, dict)]
    stats = [query["MetricStat"] for query in queries if isinstance(query.get("MetricStat"), dict)]
    if any("SELECT " in str(query.get("Expression", "")).upper() for query in queries):
        return [Charge(item=resource.type, what="alarm on a Metrics Insights query")]
    periods = [resource.number("Period", 300, within=part) for part in stats or [properties]]
    item = "alarm-metric-high-resolution" if min(periods) < HIGH_RESOLUTION_SECONDS else "alarm-metric"
    count = max(len(stats), 1) * (ANOMALY_METRICS if "ThresholdMetricId" in properties else 1)
    return [
        Charge(
            item=item, what="alarm, by metric", quantity=count, note="the first ten of an account are free"
        )
    ]


def _policy(resource: Resource, stack: CostStack) -> Iterable[Charge]:
    tracking = resource.section("TargetTrackingScalingPolicyConfiguration")
    if not tracking:
        return []
    custom = tracking.get("CustomizedMetricSpecification")
    queries = custom.get("Metrics") if isinstance(custom, dict) else None
    metrics = sum(isinstance(query, dict) and "MetricStat" in query for query in queries or []) or 1
    alarms = 1 if tracking.get("DisableScaleIn") in (True, "true") else 2
    named = tracking.get("PredefinedMetricSpecification")
    high = isinstance(named, dict) and "HighResolution" in str(named.get("PredefinedMetricType"))
    return [
        Charge(
            item="alarm-metric-high-resolution" if high else "alarm-metric",
            what="alarms that the scaling policy makes, by metric",
            quantity=alarms * metrics,
            note="the first ten of an account are free",
        )
    ]


def _web_acl(resource: Resource, stack: CostStack) -> Iterable[Charge]:
    rules = len(resource.items("Rules"))
    charges = [Charge(item="waf-web-acl", what="web ACL")]
    return [*charges, Charge(item="waf-rule", what="web ACL rules", quantity=rules)] if rules else charges


def _provisioned_concurrency(resource: Resource, stack: CostStack) -> Iterable[Charge]:
    config = resource.section("ProvisionedConcurrencyConfig")
    if not config:
        return []
    count = resource.number("ProvisionedConcurrentExecutions", within=config)
    function = stack.behind(resource.properties.get("FunctionName"), "AWS::Lambda::Function")
    if function is None:
        raise NotKnownError("the function is not in this template, so its memory is not known")
    processors = function.items("Architectures")
    processor = str(processors[0]) if processors else "x86_64"
    gigabytes = function.number("MemorySize", 128) / 1024
    return [
        Charge(
            item=f"lambda-provisioned-{processor}",
            what=f"provisioned concurrency, {count:g} x {gigabytes:g} GB",
            quantity=count * gigabytes,
        )
    ]


def _stream(resource: Resource, stack: CostStack) -> Iterable[Charge]:
    mode = resource.section("StreamModeDetails").get("StreamMode", "PROVISIONED")
    if mode != "PROVISIONED":
        return [Charge(item=resource.type, what="on-demand data stream")]
    return [Charge(item="kinesis-shard", what="shards", quantity=resource.number("ShardCount", 1))]


def _api_stage(resource: Resource, stack: CostStack) -> Iterable[Charge]:
    if resource.properties.get("CacheClusterEnabled") not in (True, "true"):
        return []
    size = resource.number("CacheClusterSize", 0.5)
    return [Charge(item=f"api-cache-{size:g}", what=f"API cache of {size:g} GB")]


def _collection(resource: Resource, stack: CostStack) -> Iterable[Charge]:
    if "CollectionGroupName" in resource.properties:
        return []
    vector = resource.properties.get("Type") == VECTOR
    pool = [
        item
        for item in stack.of_type("AWS::OpenSearchServerless::Collection")
        if "CollectionGroupName" not in item.properties and (item.properties.get("Type") == VECTOR) == vector
    ]
    if resource is not pool[0]:
        return []
    standby = any(item.properties.get("StandbyReplicas", "ENABLED") != "DISABLED" for item in pool)
    return [
        Charge(
            item="opensearch-ocu",
            what="OpenSearch compute units for indexing and search",
            quantity=2 if standby else 1,
            note="collections of an account share them, vector search apart from the others; those with a "
            "KMS key of their own take as many again",
        )
    ]


def _collection_group(resource: Resource, stack: CostStack) -> Iterable[Charge]:
    limits = resource.section("CapacityLimits")
    names = ("MinIndexingCapacityInOcu", "MinSearchCapacityInOcu")
    absent = [name for name in names if name not in limits]
    if absent:
        raise NotKnownError(f"{' and '.join(absent)} is not set, and no source states the default")
    total = sum(resource.number(name, within=limits) for name in names)
    return [Charge(item="opensearch-ocu", what="compute units of the collection group", quantity=total)]


def _table(resource: Resource, stack: CostStack) -> Iterable[Charge]:
    if resource.properties.get("BillingMode", "PROVISIONED") == "PAY_PER_REQUEST":
        return []
    return [Charge(item=resource.type, what="table with provisioned capacity")]


def unpriced(*keys: str) -> Callable[[Resource, CostStack], Iterable[Charge]]:
    """Return the rule of a type that costs without traffic and whose price is not in the table.

    Args:
        keys: Properties that the price depends on, for the reader.
    """

    def rule(resource: Resource, stack: CostStack) -> Iterable[Charge]:
        said = [_plain(resource.properties[key]) for key in keys if key in resource.properties]
        return [
            Charge(item=resource.type, what=" ".join([resource.type.split("::")[-1], *filter(None, said)]))
        ]

    return rule


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else ""


RULES: dict[str, Callable[[Resource, CostStack], Iterable[Charge]]] = {
    "AWS::ApiGateway::Stage": _api_stage,
    "AWS::ApplicationAutoScaling::ScalingPolicy": _policy,
    "AWS::Bedrock::ProvisionedModelThroughput": unpriced(),
    "AWS::CloudWatch::Alarm": _alarm,
    "AWS::CloudWatch::CompositeAlarm": flat("composite-alarm", "composite alarm"),
    "AWS::CloudWatch::Dashboard": flat("dashboard", "dashboard", "the first three of an account are free"),
    "AWS::DocDB::DBInstance": unpriced("DBInstanceClass"),
    "AWS::DynamoDB::GlobalTable": _table,
    "AWS::DynamoDB::Table": _table,
    "AWS::EC2::EIP": _instance_address,
    "AWS::EC2::Instance": unpriced("InstanceType"),
    "AWS::EC2::NatGateway": flat("nat-gateway", "NAT gateway"),
    "AWS::EC2::TransitGatewayAttachment": unpriced(),
    "AWS::EC2::VPCEndpoint": _vpc_endpoint,
    "AWS::EC2::VPNConnection": unpriced(),
    "AWS::EC2::Volume": unpriced("VolumeType"),
    "AWS::ECS::Service": unpriced("LaunchType"),
    "AWS::EFS::MountTarget": lambda resource, stack: [],
    "AWS::EKS::Cluster": unpriced(),
    "AWS::ElastiCache::CacheCluster": unpriced("CacheNodeType"),
    "AWS::ElastiCache::ReplicationGroup": unpriced("CacheNodeType"),
    "AWS::ElastiCache::ServerlessCache": unpriced("Engine"),
    "AWS::ElasticLoadBalancingV2::LoadBalancer": _load_balancer,
    "AWS::KMS::Key": _key,
    "AWS::KMS::ReplicaKey": _key,
    "AWS::Kendra::Index": unpriced("Edition"),
    "AWS::Kinesis::Stream": _stream,
    "AWS::Lambda::Alias": _provisioned_concurrency,
    "AWS::Lambda::Version": _provisioned_concurrency,
    "AWS::MSK::Cluster": unpriced(),
    "AWS::Neptune::DBInstance": unpriced("DBInstanceClass"),
    "AWS::NeptuneGraph::Graph": unpriced(),
    "AWS::OpenSearchServerless::Collection": _collection,
    "AWS::OpenSearchServerless::CollectionGroup": _collection_group,
    "AWS::OpenSearchService::Domain": unpriced(),
    "AWS::RDS::DBCluster": unpriced("Engine", "DBClusterInstanceClass"),
    "AWS::RDS::DBInstance": unpriced("DBInstanceClass"),
    "AWS::RDS::DBProxy": unpriced(),
    "AWS::Redshift::Cluster": unpriced("NodeType"),
    "AWS::Route53::HostedZone": flat("hosted-zone", "hosted zone"),
    "AWS::SageMaker::NotebookInstance": unpriced("InstanceType"),
    "AWS::SecretsManager::Secret": flat("secret", "secret"),
    "AWS::Synthetics::Canary": unpriced(),
    "AWS::WAFv2::RuleGroup": flat("waf-rule-group", "rule group"),
    "AWS::WAFv2::WebACL": _web_acl,
    UNITS_TYPE: unit_charges,
}
"""What costs without traffic, by type; SageMaker endpoints stand in endpoints.py."""

BY_USE: dict[str, str] = {
    "AWS::ApiGateway::RestApi": "requests and data out",
    "AWS::ApiGatewayV2::Api": "requests or messages and connection minutes",
    "AWS::Backup::BackupVault": "storage of backups",
    "AWS::Bedrock::Agent": "model calls",
    "AWS::Bedrock::DataSource": "embedding of what is ingested",
    "AWS::Bedrock::Guardrail": "text units that are checked",
    "AWS::Bedrock::IntelligentPromptRouter": "requests that are routed, and model calls",
    "AWS::Bedrock::KnowledgeBase": "embedding and retrieval",
    "AWS::CloudFront::Distribution": "requests and data out",
    "AWS::CloudTrail::Trail": "events",
    "AWS::CodeBuild::Project": "build minutes",
    "AWS::DynamoDB::GlobalTable": "requests and storage",
    "AWS::DynamoDB::Table": "requests, storage and backups",
    "AWS::EC2::FlowLog": "log data",
    "AWS::EC2::NatGateway": "data through it",
    "AWS::EC2::VPCEndpoint": "data through interface endpoints",
    "AWS::ECR::Repository": "storage of images",
    "AWS::EFS::FileSystem": "storage and throughput",
    "AWS::Events::EventBus": "custom events",
    "AWS::KMS::Key": "requests",
    "AWS::KinesisFirehose::DeliveryStream": "data",
    "AWS::Lambda::Function": "requests and GB-seconds",
    "AWS::Logs::LogGroup": "log data and its storage",
    "AWS::S3::Bucket": "storage and requests",
    "AWS::S3Vectors::Index": "vectors, requests and queries",
    "AWS::SNS::Topic": "messages",
    "AWS::SQS::Queue": "requests",
    "AWS::SageMaker::EndpointConfig": "detailed metrics and storage volumes",
    "AWS::Scheduler::Schedule": "invocations",
    "AWS::SecretsManager::Secret": "requests",
    "AWS::StepFunctions::StateMachine": "state transitions or duration",
    "AWS::WAFv2::WebACL": "requests",
    "AWS::XRay::Group": "traces",
    "Custom::TokenmillModelDeployment": "model calls; the stored model besides, deployed or not",
}
"""What is paid for by use, by type; some of these cost without traffic besides."""

FREE = (
    "AWS::ApiGateway::",
    "AWS::ApiGatewayV2::",
    "AWS::ApplicationAutoScaling::",
    "AWS::Backup::BackupPlan",
    "AWS::Backup::BackupSelection",
    "AWS::Bedrock::AgentAlias",
    "AWS::Bedrock::ApplicationInferenceProfile",
    "AWS::Bedrock::GuardrailVersion",
    "AWS::Bedrock::Prompt",
    "AWS::Bedrock::PromptVersion",
    "AWS::CDK::Metadata",
    "AWS::CertificateManager::Certificate",
    "AWS::CloudFormation::",
    "AWS::CloudFront::",
    "AWS::EC2::DHCPOptions",
    "AWS::EC2::EIPAssociation",
    "AWS::EC2::EgressOnlyInternetGateway",
    "AWS::EC2::InternetGateway",
    "AWS::EC2::LaunchTemplate",
    "AWS::EC2::NetworkAcl",
    "AWS::EC2::NetworkAclEntry",
    "AWS::EC2::Route",
    "AWS::EC2::RouteTable",
    "AWS::EC2::SecurityGroup",
    "AWS::EC2::SecurityGroupEgress",
    "AWS::EC2::SecurityGroupIngress",
    "AWS::EC2::Subnet",
    "AWS::EC2::SubnetNetworkAclAssociation",
    "AWS::EC2::SubnetRouteTableAssociation",
    "AWS::EC2::VPC",
    "AWS::EC2::VPCCidrBlock",
    "AWS::EC2::VPCGatewayAttachment",
    "AWS::ECS::Cluster",
    "AWS::ECS::TaskDefinition",
    "AWS::EFS::AccessPoint",
    "AWS::ElasticLoadBalancingV2::",
    "AWS::Events::Rule",
    "AWS::IAM::",
    "AWS::KMS::Alias",
    "AWS::Lambda::",
    "AWS::Logs::",
    "AWS::OpenSearchServerless::",
    "AWS::RDS::DBParameterGroup",
    "AWS::RDS::DBClusterParameterGroup",
    "AWS::RDS::DBSubnetGroup",
    "AWS::Route53::RecordSet",
    "AWS::S3::",
    "AWS::S3Vectors::",
    "AWS::SNS::",
    "AWS::SQS::",
    "AWS::SSM::Parameter",
    "AWS::SageMaker::Endpoint",
    "AWS::SageMaker::InferenceComponent",
    "AWS::SageMaker::Model",
    "AWS::SageMaker::Pipeline",
    "AWS::Scheduler::ScheduleGroup",
    "AWS::SecretsManager::",
    "AWS::WAFv2::",
    "Custom::TokenmillBuildRun",
    "Custom::TokenmillCompiledModel",
    "Custom::TokenmillHold",
    "Custom::TokenmillInvocationLogging",
    "Custom::TokenmillModelArtifact",
    "Custom::TokenmillRelease",
)
"""Types, and beginnings of types (ending in ::), that cost nothing by themselves; the two tables go first."""

OPAQUE = "AWS::CloudFormation::CustomResource"
"""It may make anything: what it costs is not in the template."""


def known(kind: str) -> bool:
    """Return whether a type is in one of the tables; the cost of others cannot be told.

    Args:
        kind: CloudFormation type.
    """
    if kind == OPAQUE:
        return False
    return kind in RULES or kind in BY_USE or kind in FREE or kind.rpartition("::")[0] + "::" in FREE
