"""Model invocation logging: what models were asked and what they answered, kept where you say.

Source: "Monitor model invocation using CloudWatch Logs and Amazon S3" (Amazon Bedrock User Guide) has the
role, the bucket's policy and the key's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from constructs import Construct

from tokenmill.bedrock.homes import check_place
from tokenmill.bedrock.resources import BedrockResources
from tokenmill.core._checks import as_whole, as_whole_or_none, plain_folder
from tokenmill.core._kinds import BUCKET, KEY, LOG_GROUP, flags, instance_or_none, resource, texts
from tokenmill.core.errors import TokenmillError
from tokenmill.security import actions
from tokenmill.security.acknowledge import acknowledge, any_resource
from tokenmill.security.bucket import private_bucket
from tokenmill.security.hosting import RETENTION_NAMES
from tokenmill.security.place import ACCOUNT_ID, PARTITION, REGION, arn_in
from tokenmill.security.rights import Right, allow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aws_cdk import aws_kms as kms
    from aws_cdk import aws_s3 as s3
    from constructs import IDependable

RESOURCE_TYPE = "Custom::TokenmillInvocationLogging"
PARAMETER = "/tokenmill/bedrock/invocation-logging"
STREAM = "aws/bedrock/modelinvocations"
REMOVALS = (cdk.RemovalPolicy.RETAIN, cdk.RemovalPolicy.DESTROY)
FOLDER = "BedrockModelInvocationLogs"
SERVICE = "bedrock.amazonaws.com"
# A century; S3 takes no more than a 32-bit number of days.
MOST_DAYS = 36_500
KINDS = ("text", "image", "embedding", "video", "audio")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogBucket:
    """Objects that invocation logs go to.

    Args:
        bucket: A bucket of this account and region; a private one is made otherwise. Its policy must be open
            to additions, which an imported bucket's is not.
        prefix: Folder of the logs, without slashes at its ends; the bucket's root otherwise.
        expire_days: After how many days objects of a bucket made here go; they stay otherwise.
        encryption_key: The key of a bucket made here; S3's own otherwise.

    Raises:
        TokenmillError: If the prefix is none, the days are below 1, or a key is given for your bucket.
    """

    bucket: s3.IBucket | None = None
    prefix: str = ""
    expire_days: int | None = 90
    encryption_key: kms.IKey | None = None

    def __post_init__(self) -> None:
        resource(BUCKET, bucket=self.bucket)
        resource(KEY, encryption_key=self.encryption_key)
        as_whole_or_none(self, "expire_days")
        if self.prefix != "" and not plain_folder(self.prefix):
            raise TokenmillError(
                f"prefix is {self.prefix!r}; it must be a folder without a slash at either end, two slashes "
                "in a row, or any of * ? $"
            )
        if self.expire_days is not None and not 1 <= self.expire_days <= MOST_DAYS:
            raise TokenmillError(
                f"expire_days is {self.expire_days}; it must be 1 or more and at most "
                f"{MOST_DAYS:,}, or None to keep"
            )
        if self.bucket is not None and self.encryption_key is not None:
            raise TokenmillError(
                "encryption_key is given with your own bucket, which has a key of its own or none; leave it "
                "out"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class LogStream:
    """The log group that invocation logs go to.

    Args:
        log_group: A log group of this account and region; one is made otherwise.
        retention_days: How long events of a log group made here are kept; one of the periods CloudWatch Logs
            offers.
        encryption_key: The key of a log group made here, whose policy must let CloudWatch Logs use it.
        large_data: Where bodies above 100 KB and binary data go, which a log event cannot hold; they are left
            out of the log otherwise.

    Raises:
        TokenmillError: For a retention that CloudWatch Logs does not offer, or a key with your own log group.
    """

    log_group: logs.ILogGroup | None = None
    retention_days: int = 90
    encryption_key: kms.IKey | None = None
    large_data: LogBucket | None = None

    def __post_init__(self) -> None:
        resource(LOG_GROUP, log_group=self.log_group)
        resource(KEY, encryption_key=self.encryption_key)
        instance_or_none(LogBucket, large_data=self.large_data)
        as_whole(self, "retention_days")
        if self.retention_days not in RETENTION_NAMES:
            allowed = ", ".join(str(days) for days in RETENTION_NAMES)
            raise TokenmillError(f"retention_days is {self.retention_days!r}; allowed are {allowed}")
        if self.log_group is not None and self.encryption_key is not None:
            raise TokenmillError(
                "encryption_key is given with your own log group, which has a key of its own or none; leave "
                "it out"
            )


class InvocationLogging(Construct):
    """Model invocation logging of the account in the stack's region.

    There is one setting for an account and region. The first stack owns it, which stands in the parameter
    /tokenmill/bedrock/invocation-logging; a second one is refused with the owner's name, and so is this one
    where somebody else has turned logging on. Deleting the stack turns off what it has turned on, or puts
    back what was there before; logs stay. **Invocation logs hold prompts and answers in full.**

    Args:
        scope: The parent construct.
        id: The construct's id.
        stream: A log group for the logs, to query them.
        bucket: Objects for the logs, to keep them.
        data: What is logged, of text, image, embedding, video and audio.
        replace_existing: Whether a setting that no stack owns is taken over, and put back when this goes.
        removal_policy: What happens to the log group and the bucket made here when the stack goes.

    Raises:
        TokenmillError: If no place is given, or data names none or something else.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        stream: LogStream | None = None,
        bucket: LogBucket | None = None,
        data: Sequence[str] = ("text",),
        replace_existing: bool = False,
        removal_policy: cdk.RemovalPolicy = cdk.RemovalPolicy.RETAIN,
    ) -> None:
        if stream is None and bucket is None:
            raise TokenmillError(
                "neither stream nor bucket is given; give stream=LogStream() to query the logs, "
                "bucket=LogBucket() to keep them, or both"
            )
        instance_or_none(LogStream, stream=stream)
        instance_or_none(LogBucket, bucket=bucket)
        flags(replace_existing=replace_existing)
        if removal_policy not in REMOVALS:
            allowed = ", ".join(f"RemovalPolicy.{item.name}" for item in REMOVALS)
            raise TokenmillError(f"removal_policy is {removal_policy!r:.60}; give one of {allowed}")
        _check_data(data)
        check_place(scope, id, _given(stream, bucket))
        _check_only(scope)
        super().__init__(scope, id)
        self._removal_policy = removal_policy
        self._waits_for: list[IDependable] = []
        self.log_group: logs.ILogGroup | None = None
        self.role: iam.Role | None = None
        self.bucket: s3.IBucket | None = None
        self.large_data_bucket: s3.IBucket | None = None
        properties: dict[str, object] = {
            "Parameter": PARAMETER,
            "Data": " ".join(kind for kind in KINDS if kind in data),
            "ReplaceExisting": str(replace_existing).lower(),
        }
        if stream is not None:
            properties["CloudWatch"] = self._stream(stream)
        if bucket is not None:
            self.bucket = self._bucket("Bucket", bucket)
            properties["S3"] = {"Bucket": self.bucket.bucket_name, "Prefix": bucket.prefix}
        shared = BedrockResources.of(self)
        shared.logged_by = self.node.path
        self.resource = shared.resource(
            self,
            "Setting",
            resource_type=RESOURCE_TYPE,
            properties=properties,
            statements=self._rights(replace_existing),
        )
        # Bedrock looks at once whether it may write, and may until the setting is gone.
        for made in self._waits_for:
            self.resource.node.add_dependency(made)
        _acknowledge(shared, replace_existing)

    def _stream(self, stream: LogStream) -> dict[str, str]:
        self.log_group = stream.log_group or logs.LogGroup(
            self,
            "Logs",
            retention=logs.RetentionDays[RETENTION_NAMES[stream.retention_days]],
            encryption_key=stream.encryption_key,
            removal_policy=self._removal_policy,
        )
        self.role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal(SERVICE, conditions=_of_this_account()),
            description="Amazon Bedrock writes invocation logs with it",
        )
        name = self.log_group.log_group_name
        events = arn_in(self, "logs", f"log-group:{name}:log-stream:{STREAM}")
        allow(self.role, Right(actions.INVOCATION_LOG_WRITE, [events]))
        self._waits_for.append(self.role)
        named = {"LogGroup": name, "Role": self.role.role_arn}
        if stream.large_data is None:
            return named
        self.large_data_bucket = self._bucket("LargeData", stream.large_data)
        large = {
            "LargeDataBucket": self.large_data_bucket.bucket_name,
            "LargeDataPrefix": stream.large_data.prefix,
        }
        return {**named, **large}

    def _bucket(self, id: str, place: LogBucket) -> s3.IBucket:
        bucket: s3.IBucket = place.bucket or private_bucket(
            self,
            id,
            reason_without_access_log="Only Amazon Bedrock writes here; who reads stands in CloudTrail's "
            "data events where an account records them.",
            encryption_key=place.encryption_key,
            expire_days=place.expire_days,
            removal_policy=self._removal_policy,
        )
        folder = "/".join(part for part in (place.prefix, "AWSLogs", ACCOUNT_ID, FOLDER) if part)
        added = bucket.add_to_resource_policy(
            iam.PolicyStatement(
                sid=f"InvocationLogs{id}",
                actions=list(actions.INVOCATION_LOG_OBJECT),
                principals=[iam.ServicePrincipal(SERVICE)],
                resources=[bucket.arn_for_objects(f"{folder}/*")],
                conditions=_of_this_account(),
            )
        )
        if not added.statement_added:
            cdk.Validations.of(self).add_warning(
                "tokenmill:InvocationLogBucketPolicy",
                "the bucket for invocation logs is imported, so its policy is yours: let "
                f"bedrock.amazonaws.com put objects under {folder} for this account",
            )
        if added.policy_dependable is not None:
            self._waits_for.append(added.policy_dependable)
        if bucket.encryption_key is not None:
            bucket.encryption_key.add_to_resource_policy(
                iam.PolicyStatement(
                    sid="InvocationLogs",
                    actions=list(actions.INVOCATION_LOG_KEY),
                    principals=[iam.ServicePrincipal(SERVICE)],
                    resources=["*"],
                    conditions=_of_this_account(),
                )
            )
        return bucket

    def _rights(self, replace_existing: bool) -> list[Right]:
        parameter = arn_in(self, "ssm", f"parameter{PARAMETER}")
        passed = [] if self.role is None else [self.role.role_arn]
        if replace_existing:
            # The role of the setting that is put back in the end is not ours.
            passed = [f"arn:{PARTITION}:iam::{ACCOUNT_ID}:role/*"]
        rights = [
            Right(actions.INVOCATION_LOGGING, ["*"]),
            Right(actions.INVOCATION_LOGGING_OWNER, [parameter]),
        ]
        if passed:
            rights.append(
                Right(actions.PASS_ROLE, passed, {"StringEquals": {"iam:PassedToService": SERVICE}})
            )
        return rights


def _acknowledge(shared: BedrockResources, replace_existing: bool) -> None:
    reasons = {
        any_resource(): "Invocation logging is one setting of an account and region: its actions take no "
        "resource in a policy."
    }
    if replace_existing:
        reasons[any_resource("arn:<AWS::Partition>:iam::<AWS::AccountId>:role/*")] = (
            "The setting that is put back names a role that only the deployment finds, and it is passed to "
            "Amazon Bedrock only."
        )
    acknowledge(shared.handler.role, reasons)


def _given(stream: LogStream | None, bucket: LogBucket | None) -> dict[str, cdk.IResource | None]:
    """Return what the logs are given, by what it is called in a complaint."""
    found: dict[str, cdk.IResource | None] = {}
    places = {"bucket": bucket, "stream.large_data": None if stream is None else stream.large_data}
    for name, place in places.items():
        if place is not None:
            found[f"{name}.bucket"], found[f"{name}.encryption_key"] = place.bucket, place.encryption_key
    if stream is not None:
        found["stream.log_group"], found["stream.encryption_key"] = stream.log_group, stream.encryption_key
    return found


def _check_only(scope: Construct) -> None:
    made = BedrockResources.found(scope)
    owner = "" if made is None else made.logged_by
    if owner:
        raise TokenmillError(
            f"{owner} sets invocation logging already, which is one setting of an account and region; give "
            "that one stream, bucket and data"
        )


def _check_data(data: Sequence[str]) -> None:
    if not data or {*texts("data", data)} - {*KINDS}:
        raise TokenmillError(f"data is {data!r}; give one or more of {', '.join(KINDS)}")


def _of_this_account() -> dict[str, dict[str, str]]:
    """Return the conditions that AWS's pages have for role, bucket and key alike."""
    source = f"arn:{PARTITION}:bedrock:{REGION}:{ACCOUNT_ID}:*"
    return {
        "StringEquals": {"aws:SourceAccount": ACCOUNT_ID},
        "ArnLike": {"aws:SourceArn": source},
    }
