"""The boto3 session of a command."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    import boto3


def session_in(region: str) -> boto3.Session:
    """Return a session in a region: the given one, AWS_REGION's, or that of the configuration.

    boto3 reads AWS_DEFAULT_REGION only; the CDK CLI and AWS's other SDKs read AWS_REGION first.

    Args:
        region: The region; empty for the configured one.

    Raises:
        TokenmillError: None is given and none is configured.
    """
    import boto3

    session = boto3.Session(region_name=region or os.environ.get("AWS_REGION") or None)
    if session.region_name is None:
        raise TokenmillError("no region is configured; give --region, or set AWS_REGION")
    return session
