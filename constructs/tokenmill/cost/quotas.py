"""Which quotas an assembly needs, by the names of Service Quotas.

Sources: the doctor's table for SageMaker; "Amazon VPC quotas" and "Lambda quotas" for names, their codes as
public quota checkers use them (L-0263D0A3, L-F678F1CE, L-B99A9384);
"Quotas for the bedrock-runtime endpoint" (Amazon Bedrock User Guide) for the names of the token quotas,
"Amazon Bedrock service quotas" (AWS General Reference) for those of model units.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenmill.cost.assembly import NotKnownError
from tokenmill.cost.endpoints import ENDPOINT, fleets
from tokenmill.cost.jobs import USAGES, run_costs
from tokenmill.cost.report import QuotaNeed
from tokenmill.cost.units import UNITS_TYPE, most_units
from tokenmill.doctor.quotas import BUILD_SIZES, SAGEMAKER, build_quota_name, endpoint_quota, quota_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tokenmill.cost.assembly import CostStack, Resource

COUNTED = {
    "AWS::EC2::EIP": ("ec2", "EC2-VPC Elastic IPs", "L-0263D0A3", "5 by default"),
    "AWS::EC2::VPC": ("vpc", "VPCs per Region", "L-F678F1CE", "5 by default"),
}
INSTEAD = "where the pools before it have no capacity"
PROJECT = "AWS::CodeBuild::Project"
CONCURRENCY = ("lambda", "Concurrent executions", "L-B99A9384")
UNRESERVED = 100
"""Lambda keeps this much unreserved: "Configuring reserved concurrency for a function" (AWS Lambda Developer
Guide), as AWS re:Post quotes it. New accounts with a lower limit keep less."""


class _Needs:
    """What is needed of each quota, summed."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, str, str], tuple[float, float, str]] = {}

    def add(self, key: tuple[str, str, str, str], low: float, high: float, note: str = "") -> None:
        floor, most, _ = self._found.get(key, (0.0, 0.0, ""))
        self._found[key] = (floor + low, most + high, note)

    def quotas(self) -> tuple[QuotaNeed, ...]:
        return tuple(
            QuotaNeed(
                service=key[0],
                name=key[1],
                code=key[2],
                region=key[3],
                at_floor=floor + (UNRESERVED if key[:3] == CONCURRENCY else 0),
                at_most=most + (UNRESERVED if key[:3] == CONCURRENCY else 0),
                note=note,
            )
            for key, (floor, most, note) in sorted(self._found.items())
        )


def quotas_of(stacks: Iterable[CostStack]) -> tuple[QuotaNeed, ...]:
    """Return the quotas that count resources and instances, summed over stacks of a region.

    Args:
        stacks: The assembly's templates.
    """
    needs = _Needs()
    for stack in stacks:
        for endpoint in stack.of_type(ENDPOINT):
            _count_instances(needs, endpoint, stack)
        for run in run_costs(stack):
            name = quota_name(run.instance_type, USAGES[run.kind])
            needs.add((SAGEMAKER, name, "", stack.region), 0, run.instances, f"while {run.resource} runs")
        for project in stack.of_type(PROJECT):
            size = _build_size(project)
            if size:
                key = ("codebuild", build_quota_name(size), "", stack.region)
                needs.add(key, 0, 1, "builds of one deployment run at the same time")
        for units in stack.of_type(UNITS_TYPE):
            _count_units(needs, units, stack)
        for kind, (service, name, code, note) in COUNTED.items():
            count = sum(1 for _ in stack.of_type(kind))
            if count:
                needs.add((service, name, code, stack.region), count, count, note)
        reserved = _reserved(stack)
        if reserved:
            note = f"functions reserve it, and {UNRESERVED} must stay unreserved"
            needs.add((*CONCURRENCY, stack.region), reserved, reserved, note)
    return needs.quotas()


def _count_instances(needs: _Needs, endpoint: Resource, stack: CostStack) -> None:
    try:
        found = fleets(endpoint, stack)
    except NotKnownError:
        return  # the line of its instances says why nothing is known
    for fleet in found:
        for number, pool in enumerate(fleet.pools):
            quota = endpoint_quota(pool.instance_type)
            floor, note = (0, INSTEAD) if number else (pool.busiest, "")
            needs.add((quota.service, quota.name, quota.code, stack.region), floor, fleet.most, note)


def _count_units(needs: _Needs, units: Resource, stack: CostStack) -> None:
    try:
        name, fewest, most = most_units(units)
    except NotKnownError:
        return  # the line of the units says why nothing is known
    note = "0 by default, with or without commitment; ask AWS Support for model units"
    needs.add(("bedrock", name, "", stack.region), fewest, most, note)


def _build_size(project: Resource) -> str:
    """The size of a Linux build, as the quota calls it; empty where the template does not say."""
    environment = project.properties.get("Environment", {})
    if environment.get("Type") != "LINUX_CONTAINER":
        return ""
    return BUILD_SIZES.get(str(environment.get("ComputeType")), "")


def _reserved(stack: CostStack) -> float:
    total = 0.0
    for function in stack.of_type("AWS::Lambda::Function"):
        if "ReservedConcurrentExecutions" in function.properties:
            try:
                total += function.number("ReservedConcurrentExecutions")
            except NotKnownError:
                continue  # a value of the deployment's reserves at least nothing
    return total
