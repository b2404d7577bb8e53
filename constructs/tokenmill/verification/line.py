"""What a line of docs/unverified.md says."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Deployment(enum.StrEnum):
    """What a probe deploys; lines that need the same one share it."""

    NEURON_ENDPOINT = "neuron-endpoint"
    LOG_ENDPOINT = "log-endpoint"
    FRONT_DOOR = "front-door"
    COMPONENT_ENDPOINT = "component-endpoint"
    GPU_ENDPOINT = "gpu-endpoint"
    PLANNED_ENDPOINT = "planned-endpoint"
    GPU_SPLIT_ENDPOINT = "gpu-split-endpoint"
    CATALOG_REQUESTS = "catalog-requests"
    BEDROCK_REQUESTS = "bedrock-requests"
    CONFIG_REQUESTS = "config-requests"
    BUILD_REQUESTS = "build-requests"
    ASYNC_ENDPOINT = "async-endpoint"
    HOSTED_JOBS = "hosted-jobs"
    NEURON_TRANSFORM = "neuron-transform"
    GPU_TRANSFORM = "gpu-transform"
    ZERO_ENDPOINT = "zero-endpoint"
    ROLLOUT_ENDPOINT = "rollout-endpoint"
    VARIANT_ENDPOINT = "variant-endpoint"
    ADAPTER_ENDPOINT = "adapter-endpoint"
    RESERVED_ENDPOINT = "reserved-endpoint"
    TRAINIUM_ENDPOINT = "trainium-endpoint"
    BEDROCK_MODELS = "bedrock-models"
    BEDROCK_GUARDRAILS = "bedrock-guardrails"
    BEDROCK_PROMPTS = "bedrock-prompts"
    BEDROCK_JOBS = "bedrock-jobs"
    BEDROCK_LOGGING = "bedrock-logging"
    BEDROCK_IMPORT = "bedrock-import"
    BEDROCK_DEPLOYMENTS = "bedrock-deployments"
    BEDROCK_UNITS = "bedrock-units"
    COMMITTED_UNITS = "committed-units"


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
