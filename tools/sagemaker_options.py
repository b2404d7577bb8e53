"""The options that docs/sagemaker.md shows, as Python says them, and the constructs that they belong to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import aws_cdk as cdk


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A construct with the options that the page shows of it."""

    name: str
    build: Callable[[cdk.Stack, dict[str, Any]], object]
    options: tuple[str, ...]


def namespace(stack: cdk.Stack) -> dict[str, Any]:
    """Return the names that the options use.

    Args:
        stack: Where referenced resources of others are looked up by name.
    """
    import aws_cdk as cdk
    from aws_cdk import aws_cloudwatch as cloudwatch
    from aws_cdk import aws_kms as kms
    from aws_cdk import aws_s3 as s3
    from aws_cdk import aws_secretsmanager as secretsmanager
    from aws_cdk import aws_sns as sns

    import tokenmill
    from tokenmill import batch, endpoints, scaling
    from tokenmill.core import engine_options

    names: dict[str, Any] = {"cdk": cdk}
    for module in (tokenmill, batch, endpoints, scaling):
        names |= {name: getattr(module, name) for name in module.__all__}
    for name in ("EngineOptions", "LoraSlots", "SpeculativeDraft", "ToolCalling"):
        names[name] = getattr(engine_options, name)
    region = f"us-east-1:{stack.account}"
    return {
        **names,
        "alarm": cloudwatch.Alarm.from_alarm_arn(stack, "alarm", f"arn:aws:cloudwatch:{region}:alarm:errors"),
        "bucket": s3.Bucket.from_bucket_name(stack, "bucket", "my-bucket"),
        "key": kms.Key.from_key_arn(stack, "key", f"arn:aws:kms:{region}:key/1234"),
        "secret": secretsmanager.Secret.from_secret_name_v2(stack, "secret", "hugging-face-token"),
        "topic": sns.Topic.from_topic_arn(stack, "topic", f"arn:aws:sns:{region}:on-call"),
        "network": endpoints.EndpointNetwork(subnet_ids=("subnet-1",), security_group_ids=("sg-1",)),
        "reservation": f"arn:aws:sagemaker:{region}:training-plan/mine",
    }


def _serving(**changes: Any) -> Any:
    from tokenmill import Serving

    fields = {
        "model": "Qwen/Qwen3-8B",
        "instance_type": "ml.inf2.8xlarge",
        "tensor_parallel": 2,
        "max_sequences": 8,
        "context_tokens": 4096,
    }
    return Serving(**{**fields, **changes})


def _capacity(minimum: int = 2, maximum: int = 6) -> Any:
    from tokenmill import Capacity

    return Capacity(minimum=minimum, maximum=maximum, initial=max(1, minimum))


def _component_mode(stack: cdk.Stack, given: dict[str, Any]) -> object:
    from tokenmill import LlmEndpoint

    return LlmEndpoint(stack, "Llm", **{"serving": _serving(), "capacity": _capacity(), **given})


def _variant_mode(stack: cdk.Stack, given: dict[str, Any]) -> object:
    from tokenmill import VariantEndpoint

    return VariantEndpoint(stack, "Llm", **{"serving": _serving(), "capacity": _capacity(), **given})


def _asynchronous(stack: cdk.Stack, given: dict[str, Any]) -> object:
    from tokenmill import AsyncEndpoint

    return AsyncEndpoint(stack, "Llm", **{"serving": _serving(), "capacity": _capacity(0), **given})


def _scaled(stack: cdk.Stack, given: dict[str, Any]) -> object:
    from tokenmill import LlmEndpoint, TokenScaling, TokenScalingPolicy

    policy = TokenScalingPolicy(target_utilization_percent=70, concurrent_requests_per_copy=6)
    capacity = _capacity(0)
    endpoint = LlmEndpoint(stack, "Llm", serving=_serving(), capacity=capacity)
    return TokenScaling(
        stack, "Scaling", **{"endpoint": endpoint, "capacity": capacity, "policy": policy, **given}
    )


CONSTRUCTS = (
    Shown(
        name="LlmEndpoint",
        build=_component_mode,
        options=(
            "source=ModelSource.s3(bucket, 'models/qwen3-8b/')",
            "source=ModelSource.hugging_face(token=secret)",
            "hosting=EndpointHosting(network=network)",
            "hosting=EndpointHosting(encryption_key=key)",
            "source=ModelSource.s3(bucket, 'm/').as_exported(), hosting=EndpointHosting(isolated=True)",
            "hosting=EndpointHosting(data_capture=DataCapture(bucket=bucket, percent=10))",
            "hosting=EndpointHosting(metric_seconds=60)",
            "fleet=Fleet(pools=(InstancePool(instance_type='ml.inf2.8xlarge', priority=1), "
            "InstancePool(instance_type='ml.inf2.24xlarge', priority=2)))",
            "fleet=Fleet(reservation=reservation)",
            "fleet=Fleet(routing=Routing.prefix_aware(concurrency_threshold=32))",
            "fleet=Fleet(scheduling=Scheduling.binpack())",
            "fleet=Fleet(data_cache=False)",
            "fleet=Fleet(instances=InstanceScaling(scale_in='CONSOLIDATION', cooldown_minutes=10))",
            "update=UpdatePolicy.rolling(batch_percent=25, wait=cdk.Duration.minutes(2), alarms=(alarm,))",
            "update=UpdatePolicy(check=None)",
            "update=UpdatePolicy.unguarded()",
        ),
    ),
    Shown(
        name="VariantEndpoint",
        build=_variant_mode,
        options=(
            "update=UpdatePolicy.blue_green(alarms=(alarm,))",
            "update=UpdatePolicy.canary(percent=20, wait=cdk.Duration.minutes(5), alarms=(alarm,))",
            "update=UpdatePolicy.linear(step_percent=25, wait=cdk.Duration.minutes(2), alarms=(alarm,))",
            "update=UpdatePolicy.rolling(batch_percent=25, alarms=(alarm,))",
        ),
    ),
    Shown(
        name="AsyncEndpoint",
        build=_asynchronous,
        options=(
            "delivery=AsyncDelivery(bucket=bucket, keep_days=7)",
            "delivery=AsyncDelivery(success_topic=topic, error_topic=topic)",
            "delivery=AsyncDelivery(max_concurrent=4)",
        ),
    ),
    Shown(
        name="TokenScaling",
        build=_scaled,
        options=(
            "hours=OfficeHours(start='08:00', end='19:00', timezone='Europe/Berlin')",
            "start_seconds=1200",
        ),
    ),
)

# Shape of a copy by image: what the table of variables is rendered for.
IMAGES = {
    "lmi-vllm": {"instance_type": "ml.g6.12xlarge", "tensor_parallel": 4},
    "vllm-sagemaker": {"instance_type": "ml.g6.12xlarge", "tensor_parallel": 4},
    "hf-vllm-neuronx": {},
    "tokenmill-vllm-neuronx": {"instance_type": "ml.trn2.48xlarge", "tensor_parallel": 4},
}
ENGINE_OPTIONS = (
    "EngineOptions()",
    "EngineOptions(dtype='bfloat16')",
    "EngineOptions(quantization='fp8')",
    "EngineOptions(buckets=(1024, 4096))",
    "EngineOptions(chunked_prefill=True)",
    "EngineOptions(prefix_caching=True)",
    "EngineOptions(speculative=SpeculativeDraft(tokens=3, method='ngram'))",
    "EngineOptions(tools=ToolCalling(parser='hermes', reasoning_parser='qwen3'))",
    "EngineOptions(tools=ToolCalling(parser='hermes', chat_template='/opt/ml/model/chat.jinja'))",
    "EngineOptions(lora=LoraSlots(max_adapters=4, max_rank=32))",
)


def environment_of(key: str, source: str) -> str:
    """Return the variables that an option adds for an image, or that the image refuses it.

    Args:
        key: The image.
        source: The option, as Python says it.
    """
    from tokenmill.core import engine_options
    from tokenmill.core.errors import TokenmillError
    from tokenmill.core.images import image

    names = {name: getattr(engine_options, name) for name in dir(engine_options)}
    plain = _serving(image=image(key), **IMAGES[key]).container_environment()
    try:
        made = _serving(image=image(key), options=eval(source, names), **IMAGES[key])
    except TokenmillError:
        return "refused"
    changed = made.container_environment()
    shown = (
        changed
        if source == "EngineOptions()"
        else {name: value for name, value in changed.items() if plain.get(name) != value}
    )
    return "<br>".join(f"`{name}={value}`" for name, value in sorted(shown.items())) or "its default"
