"""Buckets that nobody else reads."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_s3 as s3

from tokenmill.security.acknowledge import acknowledge

if TYPE_CHECKING:
    from aws_cdk import aws_kms as kms
    from constructs import Construct


def private_bucket(
    scope: Construct,
    id: str,
    *,
    reason_without_access_log: str,
    encryption_key: kms.IKey | None = None,
    expire_days: int | None = None,
    versioned: bool = False,
    removal_policy: cdk.RemovalPolicy = cdk.RemovalPolicy.RETAIN,
) -> s3.Bucket:
    """Make a bucket without a physical name: no public access, TLS only, encrypted.

    Args:
        scope: The parent construct.
        id: The construct's id.
        reason_without_access_log: What an auditor is told, in one sentence, of the missing access log.
        encryption_key: The key of its objects; S3's own otherwise.
        expire_days: After how many days objects go; they stay otherwise.
        versioned: Whether overwritten objects are kept.
        removal_policy: What happens to it when the stack goes.
    """
    expiring = None if expire_days is None else _days(expire_days)
    bucket = s3.Bucket(
        scope,
        id,
        block_public_access=_nothing_public(),
        bucket_key_enabled=encryption_key is not None,
        encryption=s3.BucketEncryption.S3_MANAGED if encryption_key is None else s3.BucketEncryption.KMS,
        encryption_key=encryption_key,
        enforce_ssl=True,
        lifecycle_rules=[
            s3.LifecycleRule(
                id="Expire", expiration=expiring, abort_incomplete_multipart_upload_after=_days(7)
            )
        ],
        minimum_tls_version=1.2,
        removal_policy=removal_policy,
        versioned=versioned,
    )
    acknowledge(bucket, {"AwsSolutions-S1": reason_without_access_log})
    return bucket


@functools.cache
def _days(number: int) -> cdk.Duration:
    return cdk.Duration.days(number)


@functools.cache
def _nothing_public() -> s3.BlockPublicAccess:
    return s3.BlockPublicAccess.BLOCK_ALL
