"""Settings and a plan made by hand, so that construct tests do not depend on the planner's numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import aws_cdk as cdk

from tokenmill.core.engine_timing import EngineTiming
from tokenmill.core.model_spec import ModelSpec
from tokenmill.core.plan import Candidate, Memory, Plan
from tokenmill.core.settings import StackSettings
from tokenmill.core.workload import Capacity, Limits, Parallelism, Slo, Workload
from tokenmill_runtime.token_work import TokenWorkCoefficients
from tokenmill_stacks import ChatStack

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MODEL_FILE = ROOT / "models" / "Qwen__Qwen3-8B.json"
REGION = "us-east-1"
WORK = TokenWorkCoefficients(
    prefill_seconds_per_request=0.01, prefill_seconds_per_token=0.0002, decode_seconds_per_token=0.004
)
ENGINE = EngineTiming(
    step_base_ms=24.0,
    step_per_sequence_ms=0.0,
    step_per_kv_token_ms=0.0,
    prefill_base_ms=10.0,
    prefill_per_token_ms=0.2,
    prefill_buckets=(512, 2048, 8192),
    max_sequences=8,
    kv_capacity_tokens=65_536,
)
GOALS = Slo(ttft_ms=2000, itl_ms=60)


def candidate(**changes: Any) -> Candidate:
    """Return two copies of an 8B model on ml.inf2.8xlarge, one a machine."""
    made = Candidate(
        instance_type="ml.inf2.8xlarge",
        accelerator="Inferentia2",
        parallelism=Parallelism(tensor=2),
        chips_per_copy=1,
        cores_per_copy=2,
        copies_per_instance=1,
        host_memory_mib=40_000,
        max_sequences=8,
        context_tokens=8192,
        dtype="bfloat16",
        image="hf-vllm-neuronx",
        memory=Memory(weights_gib=8.0, kv_cache_gib=4.0, overhead_gib=1.0, available_gib=16.0),
        itl_ms=24.0,
        itl_ms_low=20.0,
        itl_ms_high=30.0,
        ttft_ms=900.0,
        ttft_ms_low=700.0,
        ttft_ms_high=1200.0,
        requests_per_second_per_copy=0.7,
        capacity=Capacity(minimum=2, maximum=6, initial=2),
        instances=2,
        utilization_percent=55.0,
        target_utilization_percent=70.0,
        usd_per_hour=4.72,
        usd_per_million_tokens=1.9,
        break_even_usd_per_hour=None,
        price_source="test",
        price_date="2026-08-01",
        engine=ENGINE,
        token_work=WORK,
    )
    return replace(made, **changes)


def plan(chosen: Candidate | None = None) -> Plan:
    """Return a plan with one candidate."""
    return Plan(
        stack="chat",
        backend="sagemaker",
        region=REGION,
        model=ModelSpec.from_hf_config(MODEL_FILE),
        workload=Workload(requests_per_second=1.0, input_tokens=800, output_tokens=200),
        slo=GOALS,
        limits=Limits(),
        input_hash="0" * 64,
        versions={},
        candidates=(chosen or candidate(),),
        rejections=(),
    )


def settings(**changes: Any) -> StackSettings:
    """Return the [chat] section that the plan answers."""
    made = StackSettings(
        stack="chat",
        path=ROOT / "tokenmill.toml",
        model=str(MODEL_FILE.relative_to(ROOT)),
        backend="sagemaker",
        region=REGION,
        workload=Workload(requests_per_second=1.0, input_tokens=800, output_tokens=200),
        slo=GOALS,
        limits=Limits(),
        profile="prod",
        compliance=False,
    )
    return replace(made, **changes)


def recommended_context() -> dict[str, Any]:
    """Return the flags of cdk.json without the rule packs."""
    context: dict[str, Any] = json.loads((ROOT / "cdk.json").read_text(encoding="utf-8"))["context"]
    context.pop("tokenmill:packs")
    return context


def make_app(outdir: Path, context: Mapping[str, Any] | None = None) -> cdk.App:
    """Return an app without CloudFormation validation, which costs seconds a process."""
    flags = recommended_context() if context is None else dict(context)
    return cdk.App(outdir=str(outdir), context=flags, builtin_cloud_formation_validation=False)


def template_of(stack: cdk.Stack) -> dict[str, Any]:
    """Return a stack's template as CloudFormation reads it."""
    assembly = cdk.App.of(stack).synth()
    found: dict[str, Any] = assembly.get_stack_by_name(stack.stack_name).template
    return found


def chat_stack(outdir: Path, context: Mapping[str, Any] | None = None, **changes: Any) -> ChatStack:
    """Return a chat stack for settings with some changes; Bedrock has no plan."""
    section = settings(**changes)
    return ChatStack(
        make_app(outdir, context),
        "tokenmill-chat",
        settings=section,
        plan=plan() if section.needs_plan else None,
        env=cdk.Environment(region=REGION),
    )


def of_type(template: Mapping[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    """Return the resources of one type by logical id."""
    return {key: value for key, value in template["Resources"].items() if value["Type"] == kind}


def only(template: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return the only resource of a type."""
    (found,) = of_type(template, kind).values()
    return found


def statements(template: Mapping[str, Any], role: str) -> list[dict[str, Any]]:
    """Return the statements of the policies that are attached to a role, by a part of its logical id."""
    found = []
    for policy in of_type(template, "AWS::IAM::Policy").values():
        if any(role in json.dumps(attached) for attached in policy["Properties"]["Roles"]):
            found += policy["Properties"]["PolicyDocument"]["Statement"]
    return found
