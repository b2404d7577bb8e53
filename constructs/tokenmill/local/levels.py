"""At which level the local cloud stands for each CloudFormation resource type: real, modelled or refused."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How much of a resource type there is locally."""

    REAL = "real"
    MODELLED = "modelled"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class TypeLevel:
    """One resource type, what it is locally and what it is not."""

    type: str
    level: Level
    note: str


_R, _M = Level.REAL, Level.MODELLED

LEVELS: tuple[TypeLevel, ...] = (
    TypeLevel("AWS::ApiGateway::Account", _M, "remembered; nothing logs through it"),
    TypeLevel("AWS::ApiGateway::Authorizer", _R, "its function is invoked, its result cached for its TTL"),
    TypeLevel("AWS::ApiGateway::Deployment", _R, ""),
    TypeLevel("AWS::ApiGateway::GatewayResponse", _R, "rendered by the front door"),
    TypeLevel("AWS::ApiGateway::Method", _R, ""),
    TypeLevel("AWS::ApiGateway::Model", _R, ""),
    TypeLevel("AWS::ApiGateway::RequestValidator", _R, ""),
    TypeLevel("AWS::ApiGateway::Resource", _R, ""),
    TypeLevel("AWS::ApiGateway::RestApi", _R, "streaming integrations are served by the gateway process"),
    TypeLevel("AWS::ApiGateway::Stage", _M, "throttling and access logs are not applied by the front door"),
    TypeLevel("AWS::ApiGateway::UsagePlan", _M, "remembered, not enforced by the front door"),
    TypeLevel("AWS::ApiGatewayV2::Api", _R, "reached through MiniStack's own port"),
    TypeLevel("AWS::ApiGatewayV2::Authorizer", _R, ""),
    TypeLevel("AWS::ApiGatewayV2::Integration", _R, ""),
    TypeLevel("AWS::ApiGatewayV2::Route", _R, ""),
    TypeLevel("AWS::ApiGatewayV2::Stage", _R, ""),
    TypeLevel("AWS::ApplicationAutoScaling::ScalableTarget", _M, "range, schedules; SageMaker's capacities"),
    TypeLevel("AWS::ApplicationAutoScaling::ScalingPolicy", _M, "steps and target tracking, in real time"),
    TypeLevel("AWS::Backup::BackupPlan", _M, "remembered; no backup is taken"),
    TypeLevel("AWS::Backup::BackupSelection", _M, "remembered; no backup is taken"),
    TypeLevel("AWS::Backup::BackupVault", _M, "remembered; no backup is taken"),
    TypeLevel("AWS::Bedrock::ApplicationInferenceProfile", _R, "answered under its own name and metrics"),
    TypeLevel(
        "AWS::Bedrock::Guardrail", _R, "words, personal data, patterns, grounding; topics by their words"
    ),
    TypeLevel("AWS::Bedrock::GuardrailVersion", _R, ""),
    TypeLevel("AWS::Bedrock::IntelligentPromptRouter", _M, "chooses by the prompt's length"),
    TypeLevel("AWS::Bedrock::Prompt", _R, ""),
    TypeLevel("AWS::Bedrock::PromptVersion", _R, ""),
    TypeLevel("AWS::CDK::Metadata", _M, "nothing to do"),
    TypeLevel("AWS::CloudFormation::CustomResource", _R, "its function runs; its answer is waited for"),
    TypeLevel("AWS::CloudFormation::Stack", _R, ""),
    TypeLevel("AWS::CloudFormation::WaitCondition", _R, ""),
    TypeLevel("AWS::CloudFormation::WaitConditionHandle", _R, ""),
    TypeLevel("AWS::CloudWatch::Alarm", _R, "evaluated every 5 s, math too; actions: SNS, scaling policies"),
    TypeLevel("AWS::CloudWatch::CompositeAlarm", _R, "evaluated when a child alarm changes"),
    TypeLevel("AWS::CloudWatch::Dashboard", _M, "stored; nothing draws it"),
    TypeLevel("AWS::CodeBuild::Project", _M, "states, phases and events; no command of a build runs"),
    TypeLevel("AWS::Cognito::UserPool", _R, ""),
    TypeLevel("AWS::Cognito::UserPoolClient", _R, ""),
    TypeLevel("AWS::DynamoDB::GlobalTable", _R, "one region; TTL applied"),
    TypeLevel("AWS::DynamoDB::Table", _R, "TTL applied; encryption and backups are remembered only"),
    TypeLevel("AWS::EC2::EIP", _M, "an address that leads nowhere"),
    TypeLevel("AWS::EC2::FlowLog", _M, "remembered; no traffic is logged"),
    TypeLevel("AWS::EC2::InternetGateway", _M, "no packets are routed"),
    TypeLevel("AWS::EC2::NatGateway", _M, "no packets are routed"),
    TypeLevel("AWS::EC2::Route", _M, "no packets are routed"),
    TypeLevel("AWS::EC2::RouteTable", _M, "no packets are routed"),
    TypeLevel("AWS::EC2::SecurityGroup", _M, "no packets are filtered"),
    TypeLevel("AWS::EC2::SecurityGroupEgress", _M, "no packets are filtered"),
    TypeLevel("AWS::EC2::SecurityGroupIngress", _M, "no packets are filtered"),
    TypeLevel("AWS::EC2::Subnet", _M, "no packets are routed"),
    TypeLevel("AWS::EC2::SubnetRouteTableAssociation", _M, "no packets are routed"),
    TypeLevel("AWS::EC2::VPC", _M, "no packets are routed"),
    TypeLevel("AWS::EC2::VPCEndpoint", _M, "no packets are routed"),
    TypeLevel("AWS::EC2::VPCGatewayAttachment", _M, "no packets are routed"),
    TypeLevel("AWS::ECR::Repository", _M, "manifests by tag and digest; lifecycle rules are not run"),
    TypeLevel("AWS::Events::EventBus", _R, ""),
    TypeLevel("AWS::Events::Rule", _R, "schedules fire; CloudFormation, CodeBuild and SageMaker jobs send"),
    TypeLevel("AWS::IAM::InstanceProfile", _M, "stored; not enforced"),
    TypeLevel("AWS::IAM::ManagedPolicy", _M, "stored; not enforced"),
    TypeLevel("AWS::IAM::Policy", _M, "stored; not enforced"),
    TypeLevel("AWS::IAM::Role", _M, "stored; not enforced"),
    TypeLevel("AWS::IAM::User", _M, "stored; not enforced"),
    TypeLevel("AWS::KMS::Alias", _R, ""),
    TypeLevel("AWS::KMS::Key", _R, "other services do not encrypt with it"),
    TypeLevel("AWS::Lambda::Alias", _R, ""),
    TypeLevel("AWS::Lambda::EventInvokeConfig", _R, ""),
    TypeLevel("AWS::Lambda::EventSourceMapping", _R, ""),
    TypeLevel("AWS::Lambda::Function", _R, "a process of this machine's Python or Node, not a sandbox"),
    TypeLevel("AWS::Lambda::LayerVersion", _R, ""),
    TypeLevel("AWS::Lambda::Permission", _M, "stored; not enforced"),
    TypeLevel("AWS::Lambda::Url", _R, "answers in one piece"),
    TypeLevel("AWS::Lambda::Version", _R, ""),
    TypeLevel("AWS::Logs::LogGroup", _R, "embedded metrics become metrics"),
    TypeLevel("AWS::Logs::LogStream", _R, ""),
    TypeLevel("AWS::Logs::MetricFilter", _M, "stored; makes no metrics"),
    TypeLevel("AWS::Logs::ResourcePolicy", _M, "stored; not enforced"),
    TypeLevel("AWS::Logs::SubscriptionFilter", _R, ""),
    TypeLevel("AWS::S3::Bucket", _R, "encryption, versioning and access logs are remembered only"),
    TypeLevel("AWS::S3::BucketPolicy", _M, "stored; not enforced"),
    TypeLevel("AWS::SNS::Subscription", _R, ""),
    TypeLevel("AWS::SNS::Topic", _R, ""),
    TypeLevel("AWS::SNS::TopicPolicy", _M, "stored; not enforced"),
    TypeLevel("AWS::SQS::Queue", _R, ""),
    TypeLevel("AWS::SQS::QueuePolicy", _M, "stored; not enforced"),
    TypeLevel("AWS::SSM::Parameter", _R, ""),
    TypeLevel("AWS::SageMaker::Endpoint", _M, "states, deployments, rollback, faults; starts in seconds"),
    TypeLevel("AWS::SageMaker::EndpointConfig", _M, "validated and stored"),
    TypeLevel(
        "AWS::SageMaker::InferenceComponent", _M, "a model server with the plan's timing, without weights"
    ),
    TypeLevel("AWS::SageMaker::Model", _M, "validated and stored; its image is not pulled"),
    TypeLevel("AWS::Scheduler::Schedule", _R, "schedules really fire, in their time zone"),
    TypeLevel("AWS::SecretsManager::Secret", _R, ""),
    TypeLevel("AWS::StepFunctions::StateMachine", _R, "some AWS SDK integrations are missing and say so"),
    TypeLevel("AWS::WAFv2::WebACL", _M, "stored; no request is inspected"),
    TypeLevel("AWS::WAFv2::WebACLAssociation", _M, "stored; no request is inspected"),
)

_BY_TYPE = {entry.type: entry for entry in LEVELS}


def level_of(resource_type: str) -> TypeLevel:
    """Return at which level a resource type stands; whatever is not in the table is refused.

    Args:
        resource_type: CloudFormation's name.
    """
    if resource_type.startswith("Custom::"):
        return TypeLevel(resource_type, Level.REAL, "its function really runs")
    return _BY_TYPE.get(resource_type) or TypeLevel(resource_type, Level.REFUSED, "not in the local cloud")


def markdown_table() -> str:
    """Return the table of docs/local-cloud.md."""
    rows = ["| Resource type | Level | Note |", "|---|---|---|"]
    rows += [f"| `{entry.type}` | {entry.level} | {entry.note} |" for entry in LEVELS]
    rows.append("| `Custom::*` | real | its function really runs |")
    rows.append("| every other type | refused | a deployment that has one ends before anything is created |")
    return "\n".join(rows) + "\n"
