"""Chooses what to run a model on: memory fit, time, cost, and a reason for everything rejected."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from tokenmill.core._codec import encode
from tokenmill.core.model_spec import ModelSpec, read_config
from tokenmill.core.plan import Plan, input_hash
from tokenmill.core.versions import catalog_versions
from tokenmill.core.workload import Limits
from tokenmill.planner.explain import nearest_miss
from tokenmill.planner.feasibility import Problem
from tokenmill.planner.search import Search

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from tokenmill.core.settings import StackSettings
    from tokenmill.core.workload import Slo, Workload

__all__ = ["plan", "plan_for"]

ALL = Limits()


def plan(
    *,
    model: ModelSpec,
    workload: Workload,
    slo: Slo,
    region: str,
    limits: Limits = ALL,
    prices: Mapping[str, float] | None = None,
    model_config: Mapping[str, Any] | None = None,
    stack: str = "chat",
    today: datetime.date | None = None,
) -> Plan:
    """Return every way to run a model that meets the goals, ranked by cost, and every way that does not.

    A plan without candidates explains itself: `plan.chosen` raises NoPlanError with the nearest miss.

    Args:
        model: The model.
        workload: What must be carried.
        slo: How fast it must answer.
        region: AWS region whose prices and images count.
        limits: What may be chosen from.
        prices: Hourly prices of your own, by instance type, in US dollars.
        model_config: Parsed config.json, for the input hash; None leaves the model's fields to stand for it.
        stack: Section of the settings file.
        today: Day that the age of prices is measured from; None is the current day.

    Raises:
        TokenmillError: The context cannot hold the workload, or a price is not usable.
    """
    problem = Problem(
        model=model, workload=workload, slo=slo, region=region, limits=limits, prices=dict(prices or {})
    )
    day = today or datetime.date.today()
    candidates, rejections = Search(problem=problem, today=day, settings={}).run()
    return Plan(
        stack=stack,
        backend="sagemaker",
        region=region,
        model=model,
        workload=workload,
        slo=slo,
        limits=limits,
        input_hash=_hash(problem, encode(model) if model_config is None else model_config),
        versions=catalog_versions(),
        candidates=candidates,
        rejections=rejections,
        nearest_miss="" if candidates else nearest_miss(problem, rejections),
    )


def _hash(problem: Problem, model_config: Mapping[str, Any]) -> str:
    return input_hash(
        model_id=problem.model.id,
        model_config=model_config,
        workload=problem.workload,
        slo=problem.slo,
        region=problem.region,
        limits=problem.limits,
        backend="sagemaker",
    )


def plan_for(
    settings: StackSettings,
    *,
    prices: Mapping[str, float] | None = None,
    today: datetime.date | None = None,
) -> Plan:
    """Return the plan for one section of tokenmill.toml.

    Args:
        settings: The section.
        prices: Hourly prices of your own, by instance type, in US dollars.
        today: Day that the age of prices is measured from; None is the current day.

    Raises:
        TokenmillError: The model file cannot be read, or the inputs contradict each other.
    """
    return plan(
        model=ModelSpec.from_hf_config(settings.model_path),
        model_config=read_config(settings.model_path),
        workload=settings.workload,
        slo=settings.slo,
        region=settings.region,
        limits=settings.limits,
        prices=prices,
        stack=settings.stack,
        today=today,
    )
