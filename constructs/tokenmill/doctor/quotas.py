"""SageMaker's endpoint quotas: one a hosting instance type, known by name, most of them by code.

Codes: gruntwork-io/terraform-aws-utilities@55f0c2d, modules/request-quota-increase/variables.tf (Apache-2.0),
which is generated from the Service Quotas API (2026-01-14); the inf2 and g5 codes agree with a second public
list. A type without a code is looked up by its quota's name.
"""

from __future__ import annotations

import csv
import functools
from importlib import resources


def endpoint_quota_name(instance: str) -> str:
    """Return the quota's name, as Service Quotas spells it.

    Args:
        instance: Hosting instance type, such as "ml.inf2.8xlarge".
    """
    return f"{instance} for endpoint usage"


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
