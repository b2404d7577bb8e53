"""A batch stack from settings and a choice made by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aws_cdk as cdk

from support_stack import candidate, make_app, plan, template_of
from tokenmill.core.batch_plan import BatchOption, BatchPlan
from tokenmill.core.batch_settings import BEDROCK_BATCH, BatchLoad, BatchSettings
from tokenmill.core.workload import Limits
from tokenmill_stacks import BatchStack

if TYPE_CHECKING:
    from pathlib import Path

NOVA = "amazon.nova-lite-v1:0"
LOAD = BatchLoad(records=1000, input_tokens=100, output_tokens=50, deadline_hours=30)


def settings(folder: Path, **changes: Any) -> BatchSettings:
    """Return a section [batch] with some changes."""
    fields = {
        "path": folder / "tokenmill.toml",
        "region": "us-east-1",
        "backend": "auto",
        "bedrock_model": NOVA,
        "model": "Qwen/Qwen3-8B",
        "load": LOAD,
        "limits": Limits(),
        "profile": "dev",
    }
    return BatchSettings(**{**fields, **changes})


def chosen(kind: str, **changes: Any) -> BatchPlan:
    """Return a choice of one service."""
    if kind == BEDROCK_BATCH:
        option = BatchOption(kind=kind, runs_on=NOVA, usd=1.0, hours=24.0)
    else:
        option = BatchOption(kind=kind, runs_on="ml.inf2.8xlarge", instances=3, usd=9.0, hours=5.0)
    fields = {
        "region": "us-east-1",
        "load": LOAD,
        "input_hash": "h",
        "options": (option,),
        "reason": f"{kind} is cheapest",
        "serving": None if kind == BEDROCK_BATCH else plan(candidate()),
    }
    return BatchPlan(**{**fields, **changes})


def batch_stack(folder: Path, kind: str = BEDROCK_BATCH, **changes: Any) -> BatchStack:
    """Return the stack of a choice with some changes."""
    env = cdk.Environment(region="us-east-1")
    return BatchStack(
        make_app(folder), "tokenmill-batch", settings=settings(folder), plan=chosen(kind, **changes), env=env
    )


def build(folder: Path, kind: str, **changes: Any) -> tuple[BatchStack, dict[str, Any]]:
    """Return a stack and its template."""
    stack = batch_stack(folder, kind, **changes)
    return stack, template_of(stack)
