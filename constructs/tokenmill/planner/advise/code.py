"""The program that builds what was recommended, with the constructs that exist."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenmill.core.errors import TokenmillError
from tokenmill.planner.advise.options import ON_DEMAND, SAGEMAKER

if TYPE_CHECKING:
    from tokenmill.core.plan import Candidate
    from tokenmill.planner.advise.advice import Advice

SAFETY_SHARE_OF_BATCH = 0.8

BEDROCK_PROGRAM = '''\
"""Chat on {model} by {title}, as `tokenmill advise` recommended on {date}."""

from pathlib import Path

import aws_cdk as cdk

from tokenmill.core.settings import settings_from
from tokenmill_stacks import ChatStack

# what [chat] in tokenmill.toml would say
settings = settings_from(
    "chat",
    Path("tokenmill.toml"),
    {{
        "model": "{model}",
        "backend": "bedrock",
        "region": "{region}",
        "traffic.requests_per_second": {rate!r},
        "traffic.input_tokens": {prompt},
        "traffic.output_tokens": {answer},
        "slo.ttft_ms": {ttft!r},
        "slo.itl_ms": {itl!r},
        "slo.percentile": {percentile!r},
        "limits.context_tokens": {context},
    }},
)
app = cdk.App()
ChatStack(app, "tokenmill-chat", settings=settings, plan=None, env=cdk.Environment(region=settings.region))
app.synth()
'''

SAGEMAKER_PROGRAM = '''\
"""{model} on {instance}, as `tokenmill advise` recommended on {date}."""

import aws_cdk as cdk

from tokenmill import Capacity, LlmEndpoint, Serving, TokenScaling, TokenScalingPolicy

app = cdk.App()
stack = cdk.Stack(app, "tokenmill-model", env=cdk.Environment(region="{region}"))
capacity = Capacity(minimum={minimum}, maximum={maximum}, initial={initial})
endpoint = LlmEndpoint(
    stack,
    "Endpoint",
    serving=Serving(
        model="{model}",
        instance_type="{instance}",
        tensor_parallel={tensor},
        max_sequences={sequences},
        context_tokens={context},
        host_memory_mib={host},
    ),
    capacity=capacity,
)
TokenScaling(
    stack,
    "Scaling",
    endpoint=endpoint,
    capacity=capacity,
    policy=TokenScalingPolicy(
        target_utilization_percent={target:g},
        concurrent_requests_per_copy={concurrent},
    ),
)
app.synth()
'''


def code_problem(advice: Advice) -> str:
    """Return why there is no program for what was recommended, or "" where there is one.

    Args:
        advice: The answer.
    """
    if not advice.recommendation:
        return "nothing was recommended, so there is nothing to build"
    if advice.recommendation == ON_DEMAND and not advice.need.tuned:
        return ""
    if advice.candidate is None:
        return f"no construct builds {advice.title_of(advice.recommendation)} yet"
    split = advice.candidate.parallelism
    if split.cores != split.tensor:
        return "no construct splits a copy by layers or replicas yet"
    return ""


def code(advice: Advice) -> str:
    """Return a Python program that synthesizes what was recommended.

    Args:
        advice: The answer.

    Raises:
        TokenmillError: No construct builds it yet, or nothing was recommended.
    """
    problem = code_problem(advice)
    if problem:
        raise TokenmillError(f"{problem}; see the ranked options with tokenmill advise")
    if advice.candidate is not None:
        return _sagemaker(advice, advice.candidate)
    return _bedrock(advice)


def _bedrock(advice: Advice) -> str:
    load, slo = advice.workload, advice.slo
    return BEDROCK_PROGRAM.format(
        model=advice.bedrock_model,
        title=advice.title_of(advice.recommendation),
        date=advice.date,
        region=advice.region,
        rate=load.requests_per_second,
        prompt=load.input_tokens,
        answer=load.output_tokens,
        ttft=slo.ttft_ms,
        itl=slo.itl_ms,
        percentile=slo.percentile,
        context=advice.context_tokens,
    )


def _sagemaker(advice: Advice, chosen: Candidate) -> str:
    assert advice.recommendation.startswith(SAGEMAKER), "only these have a candidate"
    # the same number that TokenScalingPolicy.from_candidate takes
    concurrent = max(1.0, chosen.max_sequences * SAFETY_SHARE_OF_BATCH // 1)
    return SAGEMAKER_PROGRAM.format(
        model=advice.open_model,
        instance=chosen.instance_type,
        date=advice.date,
        region=advice.region,
        minimum=chosen.capacity.minimum,
        maximum=chosen.capacity.maximum,
        initial=chosen.capacity.initial,
        tensor=chosen.parallelism.tensor,
        sequences=chosen.max_sequences,
        context=chosen.context_tokens,
        host=chosen.host_memory_mib,
        target=chosen.target_utilization_percent,
        concurrent=concurrent,
    )
