"""Provisioned units of a Bedrock model: bought, kept, replaced and given up by deployments that never charge twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from tokenmill.bedrock.resources import BedrockResources
from tokenmill.bedrock.unit_alarms import UnitAlarmSet, unit_metric
from tokenmill.bedrock.unit_rights import (
    HANDLE_PREFIX,
    arn,
    bought,
    model_arn,
    unit_reasons,
    unit_statements,
)
from tokenmill.bedrock.unit_scaling import UnitScaling, scaling_of
from tokenmill.bedrock.unit_schedule import UnitTasks, hours_of, task_event
from tokenmill.bedrock.unit_values import Commitment, Replacement, UnitAlarms, checked_usd
from tokenmill.core._checks import whole
from tokenmill.core.errors import TokenmillError
from tokenmill.core.model_units import UnitModel, UnlistedModel, monthly_usd, unit_model, unit_offers, unit_price
from tokenmill.security import actions
from tokenmill.security.acknowledge import acknowledge_resources

if TYPE_CHECKING:
    from aws_cdk import aws_cloudwatch as cloudwatch

    from tokenmill.bedrock.model import IBedrockModel
    from tokenmill.bedrock.unit_values import UnitCapacity
    from tokenmill.scaling.office_hours import OfficeHours

RESOURCE_TYPE = "Custom::TokenmillProvisionedThroughput"
LONGEST_NAME = 40
# Beyond any quota that users report; a slip of a digit here costs thousands of dollars an hour.
MOST_UNITS = 100
