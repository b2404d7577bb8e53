"""What the tests of `tokenmill verify` share."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import boto3

from tokenmill.verification import run_lines
from tokenmill.verification.aws import Pace
from tokenmill.verification.lines import find_lines

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tokenmill.verification.run import Evidence, Result

HURRIED = Pace(poll_seconds=0.01, settle_seconds=5)


@cache
def session() -> boto3.Session:
    """One for all tests: reading the service models is what takes long."""
    return boto3.Session(region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test")


def probe(state: Path, *ids: str, tell: Callable[[str], None] = lambda _: None) -> Result:
    return run_lines(
        find_lines(ids), session=session(), region="us-east-1", state=state, pace=HURRIED, tell=tell
    )


def only(result: Result) -> Evidence:
    (evidence,) = result.evidence
    return evidence
