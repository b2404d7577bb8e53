"""The boto3 session of a command."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    import boto3

REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-\d+")


def session_in(region: str) -> boto3.Session:
    """Return a session in a region: the given one, AWS_REGION's, or that of the configuration.

    boto3 reads AWS_DEFAULT_REGION only; the CDK CLI and AWS's other SDKs read AWS_REGION first.

    Args:
        region: The region; empty for the configured one.

    Raises:
        TokenmillError: None is given and none is configured, it is no region's name, or AWS_PROFILE is
            unknown.
    """
    import boto3
    from botocore.exceptions import ProfileNotFound

    try:
        session = boto3.Session(region_name=region or os.environ.get("AWS_REGION") or None)
    except ProfileNotFound as error:
        raise TokenmillError(
            f"profile {os.environ.get('AWS_PROFILE', '')!r} is not in the AWS configuration; set AWS_PROFILE "
            "to one that `aws configure list-profiles` shows, or unset it"
        ) from error
    found = session.region_name
    if found is None:
        raise TokenmillError("no region is configured; give --region, or set AWS_REGION")
    if not REGION.fullmatch(found):
        raise TokenmillError(f"region is {found!r:.60}; give one such as us-east-1")
    return session
