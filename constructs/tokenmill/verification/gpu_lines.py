"""What plans for GPUs rely on: the image and its options, the timing, and how copies are packed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenmill.core.errors import TokenmillError
from tokenmill.core.images import serving_image
from tokenmill.core.instances import instance_type
from tokenmill.core.model_catalog import known_model
from tokenmill.core.workload import AS_PUBLISHED, Limits, Parallelism, Slo, Workload
from tokenmill.planner import plan
from tokenmill.planner.engines import environment, staged_image
from tokenmill.verification import component_stack, endpoints, planned_load, served
from tokenmill.verification.aws import ProbeTimeoutError
from tokenmill.verification.line import Deployment
from tokenmill.verification.lines import FOOTPRINTS
from tokenmill.verification.planned_lines import planned_copy
from tokenmill.verification.probe import Outcome, Verdict, holds
from tokenmill.verification.served import Option

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tokenmill.core.images import CatalogImage
    from tokenmill.core.plan import Plan
    from tokenmill.verification.aws import Aws

TIMED_MODEL = "Qwen/Qwen3-8B"
# Its experts are 768 wide, which FP8's blocks of 128 do not divide by four: the planner spreads them whole.
EXPERT_MODEL = "Qwen/Qwen3-30B-A3B-FP8"
WORKLOAD = Workload(requests_per_second=0.5, input_tokens=512, output_tokens=128)
SLO = Slo(ttft_ms=4000, itl_ms=200, percentile=95)
_START_SECONDS = 1800
_SMALL_CONTEXT = 2048
# vLLM says what it starts with in one line, "Initializing a V1 LLM engine ... pipeline_parallel_size=2, ...
# quantization=fp8", and of spread experts "[EP Rank 0/4] Expert parallelism is enabled"
# (vllm-project/vllm: v1/engine/core.py, model_executor/layers/fused_moe/layer.py).
_SHOWN = {
    "pipeline": (("pipeline_parallel_size={degree}",), "pipeline_parallel_size=", "pipeline"),
    "experts": (("Expert parallelism is enabled", "enable_expert_parallel=True"), "", "expert|block_n"),
    "fp8": (("quantization=fp8",), "quantization=", "quanti|fp8"),
}


def gpu_endpoint(aws: Aws, wanted: Collection[str]) -> Iterator[tuple[str, Outcome]]:
    """Serve on one GPU: a small model, the same one converted to FP8, and what a plan chooses.

    Args:
        aws: The run.
        wanted: Ids of the lines that were asked for.

    Raises:
        TokenmillError: The image is not in the region, no plan can be made, or the endpoint failed.
    """
    deployment = Deployment.GPU_ENDPOINT
    made = gpu_plan(deployment, TIMED_MODEL, aws.region) if "gpu-planned-timing" in wanted else None
    endpoint = endpoints.create_accelerated_endpoint(aws, deployment, "gpu")
    if "gpu-image-driver" in wanted:
        copy = endpoints.small_copy(aws, deployment, devices=1)
        component, status = endpoints.create_component(aws, endpoint, "gpu-copy", copy)
        yield "gpu-image-driver", served.image_driver(aws, endpoint, component, status)
        served.delete(aws, component)
    if "lmi-fp8" in wanted:
        option = _option(deployment, "fp8", Parallelism(tensor=1), "fp8")
        copy = _copy(aws, deployment, endpoints.MODEL, Parallelism(tensor=1), option)
        component, status = endpoints.create_component(aws, endpoint, "fp8", copy)
        yield "lmi-fp8", served.accepts(aws, endpoint, component, status, option)
        served.delete(aws, component)
    if made is not None:
        component, status = endpoints.create_component(aws, endpoint, "planned", planned_copy(aws, made))
        yield "gpu-planned-timing", planned_load.timing(aws, endpoint, component, status, made)


def gpu_split_endpoint(aws: Aws, wanted: Collection[str]) -> Iterator[tuple[str, Outcome]]:
    """Serve on four GPUs: a pipeline of two stages, as many copies of it as a plan packs, spread experts.

    Args:
        aws: The run.
        wanted: Ids of the lines that were asked for.

    Raises:
        TokenmillError: The image is not in the region, no plan can be made, or the endpoint failed.
    """
    deployment = Deployment.GPU_SPLIT_ENDPOINT
    made = gpu_plan(deployment, EXPERT_MODEL, aws.region)
    endpoint = endpoints.create_accelerated_endpoint(aws, deployment, "split")
    if {"vllm-pipeline", "copies-packed"} & set(wanted):
        yield from _pipeline(aws, endpoint, made, wanted)
    if "lmi-experts" in wanted:
        chips = instance_type(made.chosen.instance_type).chips
        split = Parallelism(tensor=chips, expert=chips)
        option = _option(deployment, "experts", split, AS_PUBLISHED)
        memory = made.chosen.host_memory_mib
        copy = _copy(aws, deployment, EXPERT_MODEL, split, option, memory_mib=memory)
        component, status = endpoints.create_component(aws, endpoint, "experts", copy)
        yield "lmi-experts", served.accepts(aws, endpoint, component, status, option)


def gpu_plan(deployment: Deployment, name: str, region: str) -> Plan:
    """Return a plan of a model on a deployment's instance type.

    Args:
        deployment: Where it is to run.
        name: The model's name on the Hugging Face Hub.
        region: AWS region.

    Raises:
        TokenmillError: The model is not in the catalog, or nothing meets the goals.
    """
    model = known_model(name)
    if model is None:
        raise TokenmillError(f"the model catalog has no {name}; it was taken out since this line was written")
    kind = FOOTPRINTS[deployment].instance
    made = plan(model=model, workload=WORKLOAD, slo=SLO, region=region, limits=Limits(instances=(kind,)))
    _ = made.chosen
    return made


def _pipeline(aws: Aws, endpoint: str, made: Plan, wanted: Collection[str]) -> Iterator[tuple[str, Outcome]]:
    deployment, chips = Deployment.GPU_SPLIT_ENDPOINT, made.chosen.chips_per_copy
    memory = made.chosen.host_memory_mib
    staged, whole = Parallelism(tensor=1, pipeline=chips), Parallelism(tensor=chips)
    option = _option(deployment, "pipeline", staged, AS_PUBLISHED)
    copy = _copy(aws, deployment, endpoints.MODEL, staged, option, memory_mib=memory)
    component, status = endpoints.create_component(aws, endpoint, "pipeline", copy)
    if "vllm-pipeline" in wanted:
        yield "vllm-pipeline", served.accepts(aws, endpoint, component, status, option)
    if "copies-packed" in wanted:
        if not status.in_service:
            # How copies are packed does not depend on how their model is split.
            served.delete(aws, component)
            copy = _copy(aws, deployment, endpoints.MODEL, whole, None, memory_mib=memory)
            component, status = endpoints.create_component(aws, endpoint, "tensor", copy)
        yield "copies-packed", _packed(aws, endpoint, component, status, made)
    served.delete(aws, component)


def _packed(aws: Aws, endpoint: str, component: str, status: endpoints.Status, made: Plan) -> Outcome:
    copies = made.chosen.copies_per_instance
    seen: dict[str, Any] = {
        "chips_per_copy": made.chosen.chips_per_copy,
        "memory_mib": made.chosen.host_memory_mib,
        "copies_per_instance": copies,
    }
    if not status.in_service:
        return Outcome(Verdict.UNCLEAR, {**seen, "status": status.value, "failure_reason": status.reason})
    aws.client("sagemaker").update_inference_component_runtime_config(
        InferenceComponentName=component, DesiredRuntimeConfig={"CopyCount": copies}
    )
    try:
        found = component_stack.settled(aws, component)
    except ProbeTimeoutError as error:
        return Outcome(Verdict.UNCLEAR, {**seen, "error": str(error)})
    variant = aws.client("sagemaker").describe_endpoint(EndpointName=endpoint)["ProductionVariants"][0]
    placed = found["RuntimeConfig"]["CurrentCopyCount"]
    seen |= {"copies": placed, "instances": variant["CurrentInstanceCount"]}
    seen["failure_reason"] = found.get("FailureReason", "")
    if seen["instances"] != 1:
        return Outcome(Verdict.UNCLEAR, seen)
    return Outcome(holds(placed == copies), seen)


def _option(deployment: Deployment, name: str, split: Parallelism, quantization: str) -> Option:
    image = _image(deployment, split)
    shown, otherwise, word = _SHOWN[name]
    return Option(
        environment=environment(image, split, quantization),
        shown=tuple(phrase.format(degree=split.pipeline) for phrase in shown),
        otherwise=otherwise,
        word=word,
    )


def _image(deployment: Deployment, split: Parallelism, region: str | None = None) -> CatalogImage:
    kind = instance_type(FOOTPRINTS[deployment].instance)
    found = serving_image(kind, region)
    staged = staged_image(found, kind.accelerator.name, region) if split.pipeline > 1 else None
    return staged or found


def _copy(
    aws: Aws,
    deployment: Deployment,
    model: str,
    split: Parallelism,
    option: Option | None,
    *,
    memory_mib: int = endpoints.MEMORY_MIB,
) -> endpoints.Copy:
    image = _image(deployment, split, aws.region)
    plain = image.environment(
        model=model, max_sequences=1, context_tokens=_SMALL_CONTEXT, tensor_parallel=split.tensor
    )
    return endpoints.Copy(
        image=image.uri(aws.region),
        environment={**plain, **(option.environment if option else {})},
        devices=split.cores,
        memory_mib=memory_mib,
        start_seconds=_START_SECONDS,
    )
