"""What room for adapters takes of a GPU, read from the log of the server that made it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tokenmill.core.errors import TokenmillError
from tokenmill.core.lora import slot_bytes_per_core
from tokenmill.core.model_catalog import known_model
from tokenmill.core.workload import Parallelism
from tokenmill.verification import endpoints, looking, served
from tokenmill.verification.probe import Outcome, Verdict, holds

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenmill.core.engine_options import LoraSlots
    from tokenmill.verification.aws import Aws

PHRASE = "Model loading took"
# vLLM measures what it loads, room for adapters among it (vllm-project/vllm: v1/worker/gpu_model_runner.py).
_TOOK = re.compile(rf"{PHRASE} ([0-9.]+) ?GiB")
_GIB = 1 << 30
# Allocators round up, and the log has some digits only.
TOLERANCE = 0.1


def slot_memory(
    aws: Aws, endpoint: str, rooms: tuple[LoraSlots, LoraSlots], copy: Callable[[LoraSlots], endpoints.Copy]
) -> Outcome:
    """Serve one model with little and with much room for adapters, and compare what loading took.

    Args:
        aws: The run.
        endpoint: The endpoint's name; its GPU is free before and afterwards.
        rooms: The room, the smaller first.
        copy: Returns what a copy with such room runs and takes.
    """
    took: list[float] = []
    seen: dict[str, Any] = {"gib": took}
    for suffix, room in zip(("few-slots", "many-slots"), rooms, strict=True):
        component, status = endpoints.create_component(aws, endpoint, suffix, copy(room))
        found = _loaded(aws, component) if status.in_service else None
        served.delete(aws, component)
        if found is None:
            return Outcome(Verdict.UNCLEAR, {**seen, "status": status.value, "reason": status.reason})
        took.append(found)
    seen["measured"] = took[1] - took[0]
    seen["computed"] = _computed(rooms[1]) - _computed(rooms[0])
    return Outcome(holds(abs(seen["measured"] / seen["computed"] - 1) <= TOLERANCE), seen)


def _computed(room: LoraSlots) -> float:
    """Return what LlmEndpoint takes the room for, in GiB."""
    spec = known_model(endpoints.MODEL)
    if spec is None:
        raise TokenmillError(f"{endpoints.MODEL} is not in the model catalog, and the probe computes with it")
    size = slot_bytes_per_core(
        spec, slots=room.max_adapters, rank=room.max_rank, parallelism=Parallelism(tensor=1)
    )
    return size / _GIB


def _loaded(aws: Aws, component: str) -> float | None:
    def look() -> list[str]:
        lines = looking.matching_lines(aws, looking.component_log(component), PHRASE)
        return [found.group(1) for line in lines if (found := _TOOK.search(line))]

    sizes = looking.or_nothing(lambda: aws.wait("the log", look, seconds=looking.LOG_SECONDS))
    return float(sizes[-1]) if sizes else None
