"""Plans with chosen numbers, so that the tests of the advice do not move with the planner's timing."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any
from unittest import mock

from support_planner import CHAT, GOALS, TODAY, model
from tokenmill.core.workload import Capacity, Limits
from tokenmill.planner import plan
from tokenmill.planner.advise import Advice, advise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokenmill.core.plan import Candidate, Plan, Rejection

NOVA = "amazon.nova-lite-v1:0"
QWEN32 = "qwen.qwen3-32b-v1:0"
TOKENS = {"input": 1.0, "output": 4.0}


@functools.cache
def real_plan() -> Plan:
    """A plan of the planner, of which the tests replace the numbers."""
    limits = Limits(instances=("ml.inf2.8xlarge", "ml.g6e.xlarge"))
    return plan(
        model=model("Qwen__Qwen3-8B"),
        workload=CHAT,
        slo=GOALS,
        region="us-east-1",
        limits=limits,
        today=TODAY,
    )


def candidate(accelerator: str = "L40S", **changes: Any) -> Candidate:
    """A candidate that carries 4 requests/s a copy at 3 USD an hour, ITL 40 (32 to 50) ms, unless changed."""
    fixed: dict[str, Any] = {
        "accelerator": accelerator,
        "requests_per_second_per_copy": 4.0,
        "copies_per_instance": 1,
        "instances": 1,
        "usd_per_hour": 3.0,
        "itl_ms": 40.0,
        "itl_ms_low": 32.0,
        "itl_ms_high": 50.0,
        "capacity": Capacity(minimum=1, maximum=4, initial=1),
        "price_source": "a price list",
        "price_date": "2026-08-17",
        "notes": (),
    }
    return dataclasses.replace(real_plan().candidates[0], **(fixed | changes))


def a_plan(
    *candidates: Candidate, rejections: tuple[Rejection, ...] = (), limits: Limits | None = None
) -> Plan:
    """A plan of these candidates."""
    return dataclasses.replace(
        real_plan(), candidates=candidates, rejections=rejections, limits=limits or Limits()
    )


def ask(made: Plan | None = None, **changes: Any) -> Advice:
    """Advice on chat traffic in us-east-1, with a plan in the planner's place where one is given."""
    asked: dict[str, Any] = {"workload": CHAT, "slo": GOALS, "region": "us-east-1", "today": TODAY} | changes
    if made is None:
        return advise(**asked)
    asked.setdefault("model", model("Qwen__Qwen3-8B"))
    with mock.patch("tokenmill.planner.advise.plan", return_value=made):
        return advise(**asked)


def costs(advice: Advice) -> dict[str, float]:
    """Best estimates by option."""

    def pairs() -> Iterator[tuple[str, float]]:
        for item in advice.ranked:
            if item.monthly is not None:
                yield item.id, item.monthly.expected

    return dict(pairs())


def rejected(advice: Advice) -> dict[str, str]:
    """Reasons by option."""
    return {item.id: item.reason for item in advice.rejected}
