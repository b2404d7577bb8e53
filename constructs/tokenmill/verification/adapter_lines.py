"""LoRA adapters as components of their own, on the two GPU images that load them."""

from __future__ import annotations

import array
import json
import random
from typing import TYPE_CHECKING, Any

from tokenmill.core._option_rendering import option_environment
from tokenmill.core.engine_options import EngineOptions, LoraSlots
from tokenmill.core.images import image
from tokenmill.core.instances import instance_type
from tokenmill.verification import component_stack, endpoints, looking, served, stacks
from tokenmill.verification.line import Deployment
from tokenmill.verification.lines import FOOTPRINTS
from tokenmill.verification.lora_memory_lines import slot_memory
from tokenmill.verification.probe import Outcome, Verdict, holds

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tokenmill.verification.aws import Aws

# Qwen/Qwen3-0.6B, config.json: 28 layers, 1,024 wide, 16 heads of 128 for queries.
LAYERS, WIDTH, QUERIES = 28, 1024, 2048
RANK = 8
SLOTS = LoraSlots(max_adapters=2, max_rank=16)
MANY_SLOTS = LoraSlots(max_adapters=8, max_rank=64)
SILENT, LOUD = "adapters/silent.tar.gz", "adapters/loud.tar.gz"
DEPLOYMENT = Deployment.ADAPTER_ENDPOINT
_LMI_LINES = ("adapter-stack", "adapter-metrics", "adapter-base-locked", "adapter-reload")


def adapter_lines(aws: Aws, wanted: Collection[str]) -> Iterator[tuple[str, Outcome]]:
    """Serve a base model with room for adapters, load one by a stack, and change it.

    Args:
        aws: The run.
        wanted: Ids of the lines that were asked for.
    """
    bucket = endpoints.upload_model(aws)
    for key, size in ((SILENT, 0.0), (LOUD, 1.0)):
        aws.client("s3").put_object(Bucket=bucket, Key=key, Body=adapter(size))
    endpoint = endpoints.create_accelerated_endpoint(aws, DEPLOYMENT, "adapters")
    if set(_LMI_LINES) & set(wanted):
        yield from _on_lmi(aws, endpoint, bucket, wanted)
    if "lora-slot-memory" in wanted:
        rooms = (SLOTS, MANY_SLOTS)
        yield "lora-slot-memory", slot_memory(aws, endpoint, rooms, lambda room: _copy(aws, "lmi-vllm", room))
    if "vllm-adapters" in wanted:
        base, status = endpoints.create_component(aws, endpoint, "vllm-base", _copy(aws, "vllm-sagemaker"))
        yield "vllm-adapters", _loaded(aws, endpoint, bucket, base, status, "Vllm")


def adapter(size: float) -> bytes:
    """Return a LoRA adapter of every layer's query projection, as PEFT writes it.

    Args:
        size: Size of what it adds; 0 makes one that changes nothing.
    """
    chance = random.Random(7)
    tensors: dict[str, tuple[list[int], bytes]] = {}
    for layer in range(LAYERS):
        prefix = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        first = array.array("f", (chance.gauss(0, 0.1) for _ in range(RANK * WIDTH)))
        second = array.array("f", (chance.gauss(0, size) if size else 0.0 for _ in range(QUERIES * RANK)))
        tensors[f"{prefix}.lora_A.weight"] = ([RANK, WIDTH], first.tobytes())
        tensors[f"{prefix}.lora_B.weight"] = ([QUERIES, RANK], second.tobytes())
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": endpoints.MODEL,
        "r": RANK,
        "lora_alpha": RANK,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": ["q_proj"],
    }
    return endpoints.archive(
        {
            "adapter_config.json": json.dumps(config).encode(),
            "adapter_model.safetensors": _safetensors(tensors),
        }
    )


def _safetensors(tensors: dict[str, tuple[list[int], bytes]]) -> bytes:
    """Return tensors in the format of huggingface/safetensors: the header's length, the header, the data."""
    header: dict[str, Any] = {}
    position = 0
    for name, (shape, data) in tensors.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [position, position + len(data)]}
        position += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(data for _, data in tensors.values())


def _copy(aws: Aws, key: str, slots: LoraSlots = SLOTS) -> endpoints.Copy:
    found = image(key)
    kind = instance_type(FOOTPRINTS[DEPLOYMENT].instance)
    plain = found.environment(
        model=endpoints.MODEL,
        max_sequences=4,
        context_tokens=2048,
        tensor_parallel=kind.accelerator.cores_per_chip,
    )
    return endpoints.Copy(
        image=found.uri(aws.region),
        environment={**plain, **option_environment(EngineOptions(lora=slots), found)},
        devices=1,
        memory_mib=endpoints.MEMORY_MIB,
    )


def _on_lmi(aws: Aws, endpoint: str, bucket: str, wanted: Collection[str]) -> Iterator[tuple[str, Outcome]]:
    base, status = endpoints.create_component(aws, endpoint, "lmi-base", _copy(aws, "lmi-vllm"))
    outcome = _loaded(aws, endpoint, bucket, base, status, "Lmi")
    yield "adapter-stack", outcome
    name = aws.name("Lmi")
    if outcome.verdict is Verdict.HOLDS:
        if "adapter-metrics" in wanted:
            yield "adapter-metrics", _metrics(aws, name)
        if "adapter-base-locked" in wanted:
            yield "adapter-base-locked", _locked(aws, base)
        if "adapter-reload" in wanted:
            yield "adapter-reload", _reload(aws, endpoint, bucket, base)
    # The other image's base needs the GPU.
    aws.client("cloudformation").delete_stack(StackName=name)
    aws.wait(
        "deleting the adapter", lambda: served.is_gone(aws, name), seconds=component_stack.UPDATE_SECONDS
    )
    served.delete(aws, base)


def _template(aws: Aws, endpoint: str, bucket: str, base: str, suffix: str, key: str) -> dict[str, Any]:
    """Return an adapter as LlmAdapter makes it: without RuntimeConfig, VariantName and compute."""
    properties = {
        "InferenceComponentName": aws.name(suffix),
        "EndpointName": endpoint,
        "Specification": {
            "BaseInferenceComponentName": base,
            "Container": {"ArtifactUrl": f"s3://{bucket}/{key}"},
        },
    }
    return {
        "Resources": {"Adapter": {"Type": "AWS::SageMaker::InferenceComponent", "Properties": properties}}
    }


def _loaded(
    aws: Aws, endpoint: str, bucket: str, base: str, status: endpoints.Status, suffix: str
) -> Outcome:
    seen: dict[str, Any] = {"base": status.value, "failure_reason": status.reason}
    if not status.in_service:
        return Outcome(Verdict.UNCLEAR, seen)
    name = aws.name(suffix)
    aws.declare("stack", name)
    template = _template(aws, endpoint, bucket, base, suffix, SILENT)
    aws.client("cloudformation").create_stack(
        StackName=name, TemplateBody=json.dumps(template), Tags=aws.tags
    )
    stack = stacks.settled(aws, name)
    seen |= {"stack": stack["StackStatus"], "stack_reason": stack.get("StackStatusReason", "")}
    if stack["StackStatus"] != "CREATE_COMPLETE":
        return Outcome(Verdict.FAILS, seen)
    seen["answer"] = _say(aws, endpoint, name)
    return Outcome(holds(bool(seen["answer"])), seen)


def _say(aws: Aws, endpoint: str, component: str) -> str:
    answer = endpoints.ask(aws, endpoint, component, model=None, temperature=0)
    choices = answer.get("choices") or [{}]
    return str(choices[0].get("message", {}).get("content", ""))


def _metrics(aws: Aws, name: str) -> Outcome:
    def look() -> float:
        return looking.metric_total(
            aws,
            "Invocations",
            namespace="AWS/SageMaker",
            dimensions={"InferenceComponentName": name},
            period=60,
        )

    total = looking.or_nothing(lambda: aws.wait("the metric", look, seconds=looking.METRIC_SECONDS))
    return Outcome(holds(bool(total)), {"invocations": total or 0.0})


def _locked(aws: Aws, base: str) -> Outcome:
    """Ask for what is refused: another specification of a base with adapters, and its deletion."""
    client = aws.client("sagemaker")
    found = component_stack.describe(aws, base)["Specification"]
    container = {
        "Image": found["Container"].get("Image") or found["Container"]["DeployedImage"]["SpecifiedImage"],
        "Environment": {**found["Container"].get("Environment", {}), "GENERATION": "2"},
    }
    needs = found["ComputeResourceRequirements"]
    update = looking.refusal(
        lambda: client.update_inference_component(
            InferenceComponentName=base,
            Specification={"Container": container, "ComputeResourceRequirements": needs},
        ),
        about="adapter|base inference component",
    )
    if update.verdict is Verdict.FAILS:
        component_stack.settled(aws, base)
        return Outcome(Verdict.FAILS, {"update": update.observations})
    deletion = looking.refusal(
        lambda: client.delete_inference_component(InferenceComponentName=base),
        about="adapter|base inference component",
    )
    seen = {"update": update.observations, "deletion": deletion.observations}
    verdicts = {update.verdict, deletion.verdict}
    worst = Verdict.FAILS if Verdict.FAILS in verdicts else Verdict.UNCLEAR
    return Outcome(Verdict.HOLDS if verdicts == {Verdict.HOLDS} else worst, seen)


def _reload(aws: Aws, endpoint: str, bucket: str, base: str) -> Outcome:
    name = aws.name("Lmi")
    before = _say(aws, endpoint, name)
    status = stacks.update(aws, name, _template(aws, endpoint, bucket, base, "Lmi", LOUD))
    component_stack.settled(aws, name)
    after = _say(aws, endpoint, name)
    seen = {"stack": status, "before": before, "after": after}
    if status != "UPDATE_COMPLETE":
        return Outcome(Verdict.FAILS, seen)
    # An adapter that adds chance to every layer answers otherwise than one that adds nothing.
    return Outcome(holds(before != after), seen)
