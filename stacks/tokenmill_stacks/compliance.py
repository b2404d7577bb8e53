"""What NIST 800-53, HIPAA and PCI ask of a chat stack: network, keys, backups, dead letters, alarm topic."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_backup as backup
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs

from tokenmill.endpoints import EndpointNetwork
from tokenmill.security import FunctionHosting
from tokenmill.security.acknowledge import acknowledge, managed_policy
from tokenmill_stacks.profile import Surroundings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aws_cdk import aws_dynamodb as dynamodb
    from constructs import Construct

    from tokenmill.core.settings import StackSettings

LOG_DAYS = 365
BACKUP_DAYS = 35
LEAST_CONCURRENCY = 50
OF_THIS_ACCOUNT = {"StringEquals": {"aws:SourceAccount": cdk.Aws.ACCOUNT_ID}}


def compliant_surroundings(
    scope: Construct, settings: StackSettings, *, vpc: ec2.IVpc | None, alarm_topic: sns.ITopic | None
) -> Surroundings:
    """Make what the packs ask for and return it.

    Args:
        scope: The stack.
        settings: The stack's settings, whose traffic and goals say how many requests are in flight.
        vpc: The network to join; one with private subnets behind NAT is made otherwise.
        alarm_topic: Who alarms tell; an encrypted topic is made otherwise.
    """
    key = _key(scope)
    network = vpc or _vpc(scope, key)
    functions = _security_group(scope, "Functions", network, "Functions of the gateway")
    models = _security_group(scope, "Models", network, "Model containers")
    queue = sqs.Queue(
        scope,
        "DeadLetters",
        encryption=sqs.QueueEncryption.KMS,
        encryption_master_key=key,
        enforce_ssl=True,
        retention_period=cdk.Duration.days(14),
    )
    acknowledge(
        queue, {"AwsSolutions-SQS3": "This queue is itself where undeliverable events of the stack go."}
    )
    return Surroundings(
        hosting=FunctionHosting(
            log_retention_days=LOG_DAYS,
            encryption_key=key,
            vpc=network,
            security_groups=(functions,),
            reserved_concurrency=_concurrency(settings),
            dead_letter_queue=queue,
        ),
        removal_policy=cdk.RemovalPolicy.RETAIN,
        encryption_key=key,
        endpoint_network=EndpointNetwork.of(network, security_groups=(models,)),
        alarm_topic=alarm_topic or _topic(scope, key),
    )


def _concurrency(settings: StackSettings) -> int:
    """Requests in flight at twice the planned rate and at the goals, by Little's law."""
    load, slo = settings.workload, settings.slo
    seconds = (slo.ttft_ms + load.output_tokens * slo.itl_ms) / 1000
    return max(LEAST_CONCURRENCY, math.ceil(2 * load.requests_per_second * seconds))


def back_up(scope: Construct, key: kms.IKey | None, tables: Sequence[dynamodb.ITable]) -> backup.BackupPlan:
    """Back tables up every day, beside their point-in-time recovery.

    Args:
        scope: The stack.
        key: The key of the vault.
        tables: The tables.
    """
    vault = backup.BackupVault(
        scope, "BackupVault", encryption_key=key, removal_policy=cdk.RemovalPolicy.RETAIN
    )
    plan = backup.BackupPlan(scope, "BackupPlan", backup_vault=vault)
    plan.add_rule(backup.BackupPlanRule(delete_after=cdk.Duration.days(BACKUP_DAYS), rule_name="Daily"))
    selection = plan.add_selection(
        "Tables", resources=[backup.BackupResource.from_dynamo_db_table(table) for table in tables]
    )
    acknowledge(
        selection,
        {
            managed_policy(
                "AWSBackupServiceRolePolicyForBackup"
            ): "AWS Backup documents this managed policy for the role that takes its backups."
        },
    )
    return plan


def _key(scope: Construct) -> kms.Key:
    key = kms.Key(
        scope,
        "Key",
        description="Data of the chat stack: tables, logs, queues, topics, volumes",
        enable_key_rotation=True,
        removal_policy=cdk.RemovalPolicy.RETAIN,
    )
    # "Encrypt log data in CloudWatch Logs using AWS Key Management Service"
    logs_of_region = iam.ServicePrincipal(f"logs.{cdk.Aws.REGION}.amazonaws.com")
    key.add_to_resource_policy(
        iam.PolicyStatement(
            actions=[
                "kms:Decrypt",
                "kms:DescribeKey",
                "kms:Encrypt",
                "kms:GenerateDataKey*",
                "kms:ReEncrypt*",
            ],
            principals=[logs_of_region],
            resources=["*"],
            conditions={
                "ArnLike": {
                    "kms:EncryptionContext:aws:logs:arn": (
                        f"arn:{cdk.Aws.PARTITION}:logs:{cdk.Aws.REGION}:{cdk.Aws.ACCOUNT_ID}:log-group:*"
                    )
                }
            },
        )
    )
    # "Key management" (Amazon SNS developer guide): CloudWatch's requests carry the account and EventBridge's
    # do not, so a condition on it would lose what EventBridge could not deliver.
    for service, conditions in (
        ("cloudwatch.amazonaws.com", OF_THIS_ACCOUNT),
        ("events.amazonaws.com", None),
    ):
        key.add_to_resource_policy(
            iam.PolicyStatement(
                actions=["kms:Decrypt", "kms:GenerateDataKey"],
                principals=[iam.ServicePrincipal(service)],
                resources=["*"],
                conditions=conditions,
            )
        )
    return key


def _vpc(scope: Construct, key: kms.IKey) -> ec2.Vpc:
    vpc = ec2.Vpc(
        scope,
        "Vpc",
        max_azs=2,
        nat_gateways=1,
        restrict_default_security_group=False,
        subnet_configuration=[
            ec2.SubnetConfiguration(
                name="Way out", subnet_type=ec2.SubnetType.PUBLIC, cidr_mask=26, map_public_ip_on_launch=False
            ),
            ec2.SubnetConfiguration(
                name="Private", subnet_type=ec2.SubnetType.PRIVATE_WITH_EGRESS, cidr_mask=20
            ),
        ],
        gateway_endpoints={
            "DynamoDb": ec2.GatewayVpcEndpointOptions(service=ec2.GatewayVpcEndpointAwsService.DYNAMODB),
            "S3": ec2.GatewayVpcEndpointOptions(service=ec2.GatewayVpcEndpointAwsService.S3),
        },
    )
    flow = logs.LogGroup(vpc, "FlowLogGroup", encryption_key=key, retention=logs.RetentionDays.ONE_YEAR)
    vpc.add_flow_log("FlowLog", destination=ec2.FlowLogDestination.to_cloud_watch_logs(flow))
    return vpc


def _security_group(scope: Construct, id: str, vpc: ec2.IVpc, description: str) -> ec2.SecurityGroup:
    group = ec2.SecurityGroup(scope, id, vpc=vpc, description=description, allow_all_outbound=False)
    group.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(443), "AWS and the model hub over HTTPS")
    return group


def _topic(scope: Construct, key: kms.IKey) -> sns.Topic:
    topic = sns.Topic(scope, "AlarmTopic", master_key=key, enforce_ssl=True)
    # A policy of its own takes the place of the default one, which lets the whole account publish.
    topic.add_to_resource_policy(
        iam.PolicyStatement(
            actions=["sns:Publish"],
            principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
            resources=[topic.topic_arn],
            conditions=OF_THIS_ACCOUNT,
        )
    )
    return topic
