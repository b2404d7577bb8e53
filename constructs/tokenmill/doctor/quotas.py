"""Quotas of SageMaker and CodeBuild: one an instance type or build size, known by name, some of them by code.

Names: "Quotas for AWS CodeBuild" (AWS CodeBuild User Guide); SageMaker's as Service Quotas lists them, as in
"ml.g5.12xlarge for transform job usage". Those of training jobs are read from there by name in
SuperCowPowers/workbench@62efdb6, scripts/admin/ladder_quotas.py.

Codes: gruntwork-io/terraform-aws-utilities@55f0c2d, modules/request-quota-increase/variables.tf (Apache-2.0),
which is generated from the Service Quotas API (2026-01-14); the inf2 and g5 codes agree with a second public
list. A type without a code is looked up by its quota's name.
"""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass
from importlib import resources

SAGEMAKER = "sagemaker"
ENDPOINT = "endpoint"
BUILD_SIZES = {
    "BUILD_GENERAL1_SMALL": "Small",
    "BUILD_GENERAL1_MEDIUM": "Medium",
    "BUILD_GENERAL1_LARGE": "Large",
    "BUILD_GENERAL1_XLARGE": "XLarge",
    "BUILD_GENERAL1_2XLARGE": "2XLarge",
}
"""What the quotas call CodeBuild's compute types."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """A quota, as Service Quotas knows it.

    Args:
        service: Service code.
        name: Its name.
        code: Its code; empty where no source states it.
    """

    service: str
    name: str
    code: str = ""


def endpoint_quota(instance: str) -> Quota:
    """Return the quota of an instance type's endpoints.

    Args:
        instance: Hosting instance type, such as "ml.inf2.8xlarge".
    """
    return Quota(service=SAGEMAKER, name=quota_name(instance), code=endpoint_quota_code(instance))


def quota_name(instance: str, usage: str = ENDPOINT) -> str:
    """Return the quota's name, as Service Quotas spells it.

    Args:
        instance: SageMaker instance type, such as "ml.inf2.8xlarge".
        usage: What the instances do: "endpoint", "training job" or "transform job".
    """
    return f"{instance} for {usage} usage"


def build_quota_name(size: str) -> str:
    """Return the name of the quota of builds on Linux that run at the same time.

    Args:
        size: One of `BUILD_SIZES`.
    """
    return f"Concurrently running builds for Linux/{size} environment"


def endpoint_quota_code(instance: str) -> str:
    """Return the quota's code, or an empty string when no source states it.

    Args:
        instance: Hosting instance type, such as "ml.inf2.8xlarge".
    """
    return _codes().get(instance, "")


@functools.cache
def _codes() -> dict[str, str]:
    text = (
        resources.files("tokenmill.doctor")
        .joinpath("data", "endpoint_quotas.csv")
        .read_text(encoding="utf-8")
    )
    return {row["instance_type"]: row["quota_code"] for row in csv.DictReader(text.splitlines())}
