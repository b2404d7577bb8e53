"""The lines of docs/unverified.md: what is claimed, why it could not be checked, what a probe costs."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from tokenmill.core.errors import TokenmillError
from tokenmill.core.instances import Price, instance_catalog


class Deployment(enum.StrEnum):
    """What a probe deploys; lines that need the same one share it."""

    NEURON_ENDPOINT = "neuron-endpoint"
    LOG_ENDPOINT = "log-endpoint"
    FRONT_DOOR = "front-door"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One claim that only an account can settle.

    Args:
        id: What `--line` takes.
        claim: One sentence that holds or does not.
        why: Why it stands unverified.
        relies: What in the library relies on it.
        probe: What the probe does and looks at.
        deployment: What it deploys.
    """

    id: str
    claim: str
    why: str
    relies: str
    probe: str
    deployment: Deployment


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What a deployment runs on, and for how long at most.

    Args:
        instance: Hosting instance type, or empty for requests alone.
        minutes: Longest probing; teardown comes on top.
        requests_usd: Upper bound for requests, logs and storage, in US dollars.
    """

    instance: str
    minutes: int
    requests_usd: float


TEARDOWN_MINUTES = 30
FOOTPRINTS = {
    Deployment.NEURON_ENDPOINT: Footprint(instance="ml.inf2.xlarge", minutes=75, requests_usd=0.10),
    Deployment.LOG_ENDPOINT: Footprint(instance="ml.m5.xlarge", minutes=40, requests_usd=0.05),
    Deployment.FRONT_DOOR: Footprint(instance="", minutes=10, requests_usd=0.01),
}

# The catalog holds accelerators only. The highest price found is taken, so that the bound stays one.
_HOST_PRICES = {
    ("ml.m5.xlarge", "us-east-1"): Price(
        usd_per_hour=0.269,
        source="zircon.tech: The Real Cost of Running AI Models on AWS: SageMaker Inference Deep Dive",
        source_date="2025-10-31",
    ),
}

LINES: tuple[Line, ...] = (
    Line(
        id="neuron-image-driver",
        claim="The Hugging Face vLLM-Neuron image (SDK 2.26.1) serves on the only Neuron host image that "
        "SageMaker offers, al2-ami-sagemaker-inference-neuron-2, which documents Neuron driver 2.19.",
        why="No source names the oldest driver that SDK 2.26.1 runs on, and no Neuron device is at hand.",
        relies="The image catalog marks the pairing experimental; plans for inf2 and trn1 choose it.",
        probe="Serves Qwen/Qwen3-0.6B with this pairing, asks it one question, keeps the status and the log.",
        deployment=Deployment.NEURON_ENDPOINT,
    ),
    Line(
        id="neuron-device-unit",
        claim="One NumberOfAcceleratorDevicesRequired is one Neuron chip, not one NeuronCore.",
        why="The API reference speaks of accelerators and names no unit for Neuron.",
        relies="LlmEndpoint asks for whole chips and packs copies on an instance by chips.",
        probe="Asks for two devices on ml.inf2.xlarge, which has one chip with two cores.",
        deployment=Deployment.NEURON_ENDPOINT,
    ),
    Line(
        id="neuron-host-metrics",
        claim="CloudWatch gets no NeuronCore metric from SageMaker in /aws/sagemaker/Endpoints or "
        "/aws/sagemaker/InferenceComponents.",
        why="The monitoring pages list CPU, memory, disk and GPU metrics and do not mention Neuron.",
        relies="TokenScaling follows token work instead of utilization on every accelerator.",
        probe="Lists the metrics of the endpoint and its component after both have served.",
        deployment=Deployment.NEURON_ENDPOINT,
    ),
    Line(
        id="neuron-vllm-metrics",
        claim="Detailed observability collects the vLLM metrics of the Neuron image.",
        why="The page names vLLM and SGLang and does not say whether the Neuron containers are recognised.",
        relies="The PromQL bridge for endpoints that are called without the gateway.",
        probe="Asks CloudWatch's PromQL interface for metric names that begin with vllm.",
        deployment=Deployment.NEURON_ENDPOINT,
    ),
    Line(
        id="emf-from-endpoint-logs",
        claim="A line of embedded metric format that a SageMaker container prints becomes a CloudWatch "
        "metric.",
        why="The embedded metric format page names Lambda, ECS and the agent, not SageMaker's log groups.",
        relies="Publishing token metrics from inside a container, without the gateway.",
        probe="Serves a container that prints such lines, then looks for the log event and for the metric.",
        deployment=Deployment.LOG_ENDPOINT,
    ),
    Line(
        id="rest-api-streaming",
        claim="A REST API with responseTransferMode STREAM passes on, chunk by chunk, what our Python "
        "runtime bootstrap streams.",
        why="The page shows Node.js; a Python function with a runtime of its own is not described.",
        relies="ChatGateway's front door.",
        probe="Deploys the shipped bootstrap behind such an API and times the arrival of eight chunks.",
        deployment=Deployment.FRONT_DOOR,
    ),
    Line(
        id="arm64-exec-wrapper",
        claim="On arm64, Lambda starts our bootstrap through AWS_LAMBDA_EXEC_WRAPPER: the wrapper script "
        "keeps its executable bit in the package.",
        why="The local cloud runs functions on this machine's processor and file system.",
        relies="Every function that streams.",
        probe="Reads the processor's name from the answer of the function behind the front door.",
        deployment=Deployment.FRONT_DOOR,
    ),
)


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


def price_at_most(lines: tuple[Line, ...], *, region: str, prices: dict[str, float]) -> float:
    """Return the most that probing some lines can cost, in US dollars.

    The instance's hourly price (the catalog's, or the user's) times the deployment's longest life with its
    teardown, plus a bound for requests; lines with the same deployment share it.

    Args:
        lines: The lines.
        region: AWS region.
        prices: US dollars an hour by instance type, in place of the catalog's.

    Raises:
        TokenmillError: No price is known for an instance type in the region.
    """
    total = 0.0
    for deployment in dict.fromkeys(line.deployment for line in lines):
        footprint = FOOTPRINTS[deployment]
        total += footprint.requests_usd
        if footprint.instance:
            total += (
                _usd_per_hour(footprint.instance, region, prices)
                * (footprint.minutes + TEARDOWN_MINUTES)
                / 60
            )
    return total


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
