"""Plans: every way to run a model that meets the goals, ranked by cost, and every way that does not."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from tokenmill.core._codec import encode
from tokenmill.core.plan import Plan, input_hash, user_versions
from tokenmill.core.plausibility import implausible
from tokenmill.core.user_catalog import find_user_catalog
from tokenmill.core.versions import catalog_versions
from tokenmill.core.workload import Limits
from tokenmill.planner.explain import nearest_miss
from tokenmill.planner.feasibility import Problem
from tokenmill.planner.search import Search

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from tokenmill.core.calibration import Calibration
    from tokenmill.core.model_spec import ModelSpec
    from tokenmill.core.settings import StackSettings
    from tokenmill.core.user_catalog import UserCatalog
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
    calibration: Calibration | None = None,
    catalog: UserCatalog | None = None,
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
        calibration: What your own measurements say of the timing (`tokenmill calibrate`); None for none.
        catalog: Your own prices (`tokenmill catalog refresh`); in its regions no others count.
        stack: Section of the settings file.
        today: Day that the age of prices is measured from; None is the current day.

    Raises:
        TokenmillError: The context cannot hold the workload, or a price is not usable.
    """
    problem = Problem(
        model=model,
        workload=workload,
        slo=slo,
        region=region,
        limits=limits,
        prices=dict(prices or {}),
        calibration=calibration,
        catalog=catalog,
    )
    day = today or datetime.date.today()
    found = Search(problem=problem, today=day).run()
    return Plan(
        stack=stack,
        backend="sagemaker",
        region=region,
        model=model,
        workload=workload,
        slo=slo,
        limits=limits,
        input_hash=_hash(problem, encode(model) if model_config is None else model_config),
        versions=catalog_versions() | user_versions(catalog),
        candidates=found.candidates,
        rejections=found.rejections,
        nearest_miss="" if found.candidates else nearest_miss(problem, found.rejections),
        experimental=found.experimental,
        warnings=(*implausible(workload, slo, limits), *_unused_calibration(problem)),
        calibration=calibration,
    )


def _unused_calibration(problem: Problem) -> tuple[str, ...]:
    found = problem.calibration
    if found is None or found.model == problem.model.id:
        return ()
    return (
        f"the calibration was measured on {found.model} and does not count for {problem.model.id}; "
        "measure again and run tokenmill calibrate",
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
        calibration=problem.calibration.digest if problem.calibration else "",
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
    model, config = settings.found_model
    return plan(
        model=model,
        model_config=config,
        workload=settings.workload,
        slo=settings.slo,
        region=settings.region,
        limits=settings.limits,
        calibration=settings.calibration,
        catalog=find_user_catalog(settings.path.parent),
        prices=prices,
        stack=settings.stack,
        today=today,
    )
