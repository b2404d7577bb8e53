"""Units that cannot be are refused while nothing was made, let alone bought."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import pytest

from support_stack import REGION, make_app
from support_unit_stack import make_units
from tokenmill.bedrock import UnitAlarms
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"units": 0}, "units is 0; model units are whole and from 1 to 100"),
        ({"units": -1}, "units is -1"),
        ({"units": 101}, "units is 101"),
        ({"units": 1.5}, "units must be a whole number, got 1.5"),
        ({"units": True}, "units must be a whole number"),
        ({"units": cdk.Token.as_number({"Ref": "P"})}, "only the deployment knows"),
        ({"commitment": "NONE"}, "give one of Commitment.NONE, Commitment.ONE_MONTH, Commitment.SIX_MONTHS"),
        ({"commitment": None}, "commitment is None"),
        ({"replacement": "REFUSE"}, "give one of Replacement.REFUSE"),
        ({"model": "amazon.nova-lite-v1:0"}, "amazon.nova-lite-v1:0:24k"),
        ({"model": "amazon.nova-light-v1:0:24k"}, "nearest: amazon.nova-lite-v1:0:24k"),
        ({"model": 7}, "model must be a text"),
        ({"model": "amazon.titan-image-generator-v2:0"}, "with a commitment only"),
        (
            {"fallback": "us.amazon.nova-lite-v1:0"},
            "InferenceProfile.cross_region('us.amazon.nova-lite-v1:0')",
        ),
        ({"fallback": "amazon.nova-light-v1:0"}, "nearest: amazon.nova-lite-v1:0"),
        ({"fallback": ""}, "fallback must be a text"),
        ({"hourly_usd": 0}, "hourly_usd is 0"),
        ({"hourly_usd": float("nan")}, "hourly_usd is nan"),
        ({"hourly_usd": "20"}, "hourly_usd is '20'"),
    ],
)
def test_fails_for(stack: cdk.Stack, changes: dict[str, Any], says: str) -> None:
    """The complaint has the value and the way out, and the stack stays empty."""
    with pytest.raises(TokenmillError, match=re.escape(says)):
        make_units(stack, **changes)
    assert stack.node.children == []


def test_fails_in_a_region_that_sells_no_units_of_the_model(tmp_path: Path) -> None:
    """With the regions that do."""
    stack = cdk.Stack(make_app(tmp_path), "test", env=cdk.Environment(region="eu-west-1"))
    with pytest.raises(TokenmillError, match="not sold in eu-west-1; they are in us-east-1"):
        make_units(stack)
    assert stack.node.children == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"expiry_days": 31}, "expiry_days is 31"),
        ({"expiry_days": -1}, "expiry_days is -1"),
        ({"idle_hours": 0}, "idle_hours is 0"),
        ({"idle_hours": 169}, "idle_hours is 169"),
    ],
)
def test_fails_for_alarms_that_would_never_tell(changes: dict[str, int], says: str) -> None:
    """A commitment is a month, and CloudWatch looks a week back at the most here."""
    with pytest.raises(TokenmillError, match=says):
        UnitAlarms(**changes)


def test_a_commitment_has_to_be_written(tmp_path: Path) -> None:
    """There is no default for what binds a company for months."""
    from tokenmill.bedrock import ProvisionedThroughput

    stack = cdk.Stack(make_app(tmp_path), "test", env=cdk.Environment(region=REGION))
    with pytest.raises(TypeError, match="commitment"):
        ProvisionedThroughput(stack, "Units", model="amazon.nova-lite-v1:0:24k", units=1)
