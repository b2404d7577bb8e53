"""The lines of docs/unverified.md, by id, and what probing them costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tokenmill.core.errors import TokenmillError
from tokenmill.core.instances import Price, instance_catalog
from tokenmill.core.model_units import unit_price
from tokenmill.verification.bedrock_claims import BEDROCK_CLAIMS
from tokenmill.verification.bedrock_job_claims import BEDROCK_JOB_CLAIMS
from tokenmill.verification.bedrock_term_claims import BEDROCK_TERM_CLAIMS
from tokenmill.verification.claims import CLAIMS
from tokenmill.verification.deployment_claims import DEPLOYMENT_CLAIMS
from tokenmill.verification.line import Deployment, Line
from tokenmill.verification.serving_claims import SERVING_CLAIMS


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What a deployment runs on, and for how long at most.

    Args:
        instance: Hosting instance type, or empty for requests alone.
        minutes: Longest probing; teardown comes on top.
        requests_usd: Upper bound for requests, logs and storage, in US dollars.
        instances: How many there are at once at most.
        by_name: Whether it is deployed only where one of its lines is asked for by name.
        unit_model: Id of a model whose units are bought by the hour, or empty.
        units: How many purchases of one unit there are at most.
    """

    instance: str
    minutes: int
    requests_usd: float
    instances: int = 1
    by_name: bool = False
    unit_model: str = ""
    units: int = 0

    @property
    def unit_hours(self) -> int:
        """How many hours of a unit are paid for at most; each purchase is billed by the hour."""
        return self.units * math.ceil((self.minutes + TEARDOWN_MINUTES) / 60)


LINES: tuple[Line, ...] = (
    *CLAIMS,
    *DEPLOYMENT_CLAIMS,
    *SERVING_CLAIMS,
    *BEDROCK_CLAIMS,
    *BEDROCK_JOB_CLAIMS,
    *BEDROCK_TERM_CLAIMS,
)
TEARDOWN_MINUTES = 30
FOOTPRINTS = {
    Deployment.NEURON_ENDPOINT: Footprint(instance="ml.inf2.xlarge", minutes=75, requests_usd=0.10),
    Deployment.LOG_ENDPOINT: Footprint(instance="ml.m5.xlarge", minutes=40, requests_usd=0.05),
    Deployment.FRONT_DOOR: Footprint(instance="", minutes=60, requests_usd=0.03),
    Deployment.COMPONENT_ENDPOINT: Footprint(instance="ml.m5.xlarge", minutes=130, requests_usd=0.05),
    # The cheapest priced types with one GPU and with more; L4s compute in FP8.
    Deployment.GPU_ENDPOINT: Footprint(instance="ml.g6.2xlarge", minutes=90, requests_usd=0.10),
    Deployment.GPU_SPLIT_ENDPOINT: Footprint(instance="ml.g6.12xlarge", minutes=75, requests_usd=0.10),
    Deployment.PLANNED_ENDPOINT: Footprint(instance="ml.inf2.24xlarge", minutes=105, requests_usd=0.20),
    Deployment.CATALOG_REQUESTS: Footprint(instance="", minutes=10, requests_usd=0.01),
    Deployment.BEDROCK_REQUESTS: Footprint(instance="", minutes=30, requests_usd=0.50),
    Deployment.CONFIG_REQUESTS: Footprint(instance="", minutes=15, requests_usd=0.01),
    # Builds on CodeBuild's smallest computer, half a US cent a minute ("AWS CodeBuild pricing").
    Deployment.BUILD_REQUESTS: Footprint(instance="", minutes=60, requests_usd=0.15),
    Deployment.ASYNC_ENDPOINT: Footprint(instance="ml.m5.xlarge", minutes=75, requests_usd=0.05),
    # Training and transform jobs, one after the other; a job's hour costs what an endpoint's does.
    Deployment.HOSTED_JOBS: Footprint(instance="ml.m5.xlarge", minutes=75, requests_usd=0.05),
    Deployment.NEURON_TRANSFORM: Footprint(instance="ml.inf2.xlarge", minutes=75, requests_usd=0.05),
    Deployment.GPU_TRANSFORM: Footprint(instance="ml.g6.2xlarge", minutes=60, requests_usd=0.05),
    Deployment.ZERO_ENDPOINT: Footprint(instance="ml.m5.xlarge", minutes=125, requests_usd=0.05),
    Deployment.ROLLOUT_ENDPOINT: Footprint(instance="ml.m5.xlarge", minutes=90, requests_usd=0.05),
    # Two instances, and the second fleet of a blue/green deployment beside them.
    Deployment.VARIANT_ENDPOINT: Footprint(
        instance="ml.m5.xlarge", minutes=110, requests_usd=0.05, instances=4
    ),
    Deployment.ADAPTER_ENDPOINT: Footprint(instance="ml.g6.2xlarge", minutes=150, requests_usd=0.10),
    # A reservation is paid for whether it is used or not.
    Deployment.RESERVED_ENDPOINT: Footprint(instance="", minutes=60, requests_usd=0.05, by_name=True),
    Deployment.TRAINIUM_ENDPOINT: Footprint(
        instance="ml.trn2.48xlarge", minutes=300, requests_usd=1.00, by_name=True
    ),
    Deployment.BEDROCK_MODELS: Footprint(instance="", minutes=90, requests_usd=0.50),
    # Assessed texts cost by the 1,000 characters and policy ("Amazon Bedrock pricing").
    Deployment.BEDROCK_GUARDRAILS: Footprint(instance="", minutes=60, requests_usd=0.10),
    Deployment.BEDROCK_PROMPTS: Footprint(instance="", minutes=60, requests_usd=0.05),
    # A job waits for its turn and costs its hundred short answers.
    Deployment.BEDROCK_JOBS: Footprint(instance="", minutes=330, requests_usd=0.20),
    # For its minutes the account's one setting is the run's: every call's texts go to its log group.
    Deployment.BEDROCK_LOGGING: Footprint(instance="", minutes=15, requests_usd=0.05, by_name=True),
    # A copy is billed in windows of five minutes while it answers, and a model's storage by the month
    # ("Amazon Bedrock pricing": Custom Model Import).
    Deployment.BEDROCK_IMPORT: Footprint(instance="", minutes=150, requests_usd=3.00, by_name=True),
    Deployment.BEDROCK_DEPLOYMENTS: Footprint(instance="", minutes=150, requests_usd=0.10, by_name=True),
    # The model whose units are cheapest of those sold by the hour; no source has that price.
    Deployment.BEDROCK_UNITS: Footprint(
        instance="",
        minutes=85,
        requests_usd=0.05,
        by_name=True,
        unit_model="amazon.titan-embed-text-v1:2:8k",
        units=4,
    ),
    Deployment.COMMITTED_UNITS: Footprint(instance="", minutes=10, requests_usd=0.01, by_name=True),
}

# The catalog holds accelerators only. The highest price found is taken, so that the bound stays one.
_HOST_PRICES = {
    ("ml.m5.xlarge", "us-east-1"): Price(
        usd_per_hour=0.269,
        source="zircon.tech: The Real Cost of Running AI Models on AWS: SageMaker Inference Deep Dive",
        source_date="2025-10-31",
    ),
}


def find_lines(ids: tuple[str, ...]) -> tuple[Line, ...]:
    """Return the lines of some ids, or all lines when none is given.

    Args:
        ids: Ids of lines.

    Raises:
        TokenmillError: No line has such an id.
    """
    known = {line.id: line for line in LINES}
    unknown = [name for name in ids if name not in known]
    if unknown:
        raise TokenmillError(f"no line is called {', '.join(unknown)}; the lines are {', '.join(known)}")
    return tuple(line for line in LINES if not ids or line.id in ids)


def unnamed(lines: tuple[Line, ...]) -> tuple[Line, ...]:
    """Return the lines that are probed without being asked for by name.

    Args:
        lines: The lines.
    """
    return tuple(line for line in lines if not FOOTPRINTS[line.deployment].by_name)


def price_at_most(lines: tuple[Line, ...], *, region: str, prices: dict[str, float]) -> float:
    """Return the most that probing some lines can cost, in US dollars.

    The instance's hourly price (the catalog's, or the user's) times the deployment's longest life with its
    teardown, the same for model units in whole hours, plus a bound for requests; lines with the same
    deployment share it.

    Args:
        lines: The lines.
        region: AWS region.
        prices: US dollars an hour by instance type, or by model for its units, in place of the catalog's.

    Raises:
        TokenmillError: No price is known for an instance type or for units in the region.
    """
    total = 0.0
    for deployment in dict.fromkeys(line.deployment for line in lines):
        footprint = FOOTPRINTS[deployment]
        total += footprint.requests_usd
        if footprint.instance:
            total += (
                _usd_per_hour(footprint.instance, region, prices)
                * footprint.instances
                * (footprint.minutes + TEARDOWN_MINUTES)
                / 60
            )
        if footprint.unit_model:
            total += _usd_per_unit_hour(footprint.unit_model, region, prices) * footprint.unit_hours
    return total


def _usd_per_unit_hour(model: str, region: str, prices: dict[str, float]) -> float:
    if model in prices:
        return prices[model]
    price = unit_price(model, region, "NONE")
    if price is None:
        raise TokenmillError(
            f"no price is known for a unit of {model} by the hour in {region}; give yours with --price "
            f"{model}=USD"
        )
    return price.usd_per_hour


def _usd_per_hour(instance: str, region: str, prices: dict[str, float]) -> float:
    if instance in prices:
        return prices[instance]
    listed = instance_catalog().get(instance)
    price = listed.price(region) if listed else _HOST_PRICES.get((instance, region))
    if price is None:
        raise TokenmillError(
            f"no price is known for {instance} in {region}; give yours with --price {instance}=USD"
        )
    return price.usd_per_hour
