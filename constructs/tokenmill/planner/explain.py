"""What to say when nothing meets the goals: the nearest miss, and what to relax."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from tokenmill.core.images import image_catalog
from tokenmill.core.instances import GIB, instance_type
from tokenmill.core.workload import AS_PUBLISHED
from tokenmill.planner.memory import usable_bytes_per_core

if TYPE_CHECKING:
    from tokenmill.core.plan import Rejection
    from tokenmill.planner.feasibility import Problem

# from nearest to farthest: a relaxed goal helps the first ones, nothing the user can relax helps the last
NEARNESS = (
    "image",
    "timing",
    "fleet",
    "ttft",
    "itl",
    "price",
    "host_memory",
    "memory",
    "heads",
    "topology",
    "experts",
    "quantization",
    "region",
    "architecture",
    "limits",
)

RELAX = {
    "fleet": "raise limits.max_instances, or lower limits.min_copies or traffic.requests_per_second",
    "ttft": "raise slo.ttft_ms, lower limits.context_tokens (a compiled prompt costs the whole context) "
    "or allow faster types in limits.instances",
    "itl": "raise slo.itl_ms or allow faster types in limits.instances",
    "price": "set limits.allow_unpriced to true or give --price TYPE=USD",
    "host_memory": "allow types with more host memory in limits.instances",
    "memory": "allow types with more accelerator memory in limits.instances, lower limits.context_tokens, "
    "or take a smaller or quantized model",
    "heads": "allow other types in limits.instances",
    "topology": "allow other types in limits.instances",
    "quantization": "allow types that compute the format in limits.instances, put as-published into "
    "limits.quantizations, or give the bfloat16 model",
    "region": "choose a region that has the image, or allow other types in limits.instances",
    "timing": "set limits.allow_experimental to true, measure the endpoint and run tokenmill calibrate, or "
    "allow other types in limits.instances",
    "experts": "allow other types in limits.instances, or give the model in another weight format",
    "architecture": "allow types whose image serves the model in limits.instances",
    "image": "set limits.allow_experimental to true, or allow types with a ready serving image in "
    "limits.instances",
    "limits": "widen limits.instances",
}


def nearest_miss(problem: Problem, rejections: tuple[Rejection, ...]) -> str:
    """Return one sentence on what came nearest to the goals and what to relax.

    Args:
        problem: What was asked.
        rejections: Why nothing was taken; not empty, since the catalog is not.
    """
    # a split that only lost to another of its type is no miss
    missed = (item for item in rejections if item.code in NEARNESS)
    nearest = min(missed, key=lambda item: (_distance(problem, item), item.miss))
    served = sorted({name for image in image_catalog().values() for name in image.architectures})
    if nearest.code == "architecture" and problem.model.served_class not in served:
        near = difflib.get_close_matches(problem.model.served_class, served, n=3, cutoff=0.4) or served
        return (
            f"no serving image in the catalog runs {problem.model.served_class}, the class of "
            f"{problem.model.id}; nearest that one runs: {', '.join(near)}; give a model of such a class"
        )
    if nearest.code == "memory":
        return f"{_fits_nowhere(problem, rejections)}; {RELAX['memory']}"
    split = f" at tensor parallel {nearest.tensor_parallel}" if nearest.tensor_parallel else ""
    return (
        f"nothing meets the goals for {problem.model.id}; nearest: {nearest.instance_type}{split}: "
        f"{nearest.reason}; {RELAX[nearest.code]}"
    )


def _distance(problem: Problem, item: Rejection) -> float:
    """Where no published weights are asked for, a conversion that nothing does is what stands in the way."""
    if item.code == "quantization" and item.quantization and AS_PUBLISHED not in problem.limits.quantizations:
        return NEARNESS.index("host_memory") - 0.5
    return NEARNESS.index(item.code)


def _fits_nowhere(problem: Problem, rejections: tuple[Rejection, ...]) -> str:
    names = [item.instance_type for item in rejections if item.code == "memory"]
    largest = max(
        (instance_type(name) for name in names),
        key=lambda item: usable_bytes_per_core(item.accelerator) * item.cores,
    )
    room = usable_bytes_per_core(largest.accelerator) * largest.cores / GIB
    weights = problem.model.weight_bytes / GIB
    if weights < room:
        tightest = min(
            (item for item in rejections if item.code == "memory" and item.instance_type == largest.name),
            key=lambda item: -(item.tensor_parallel or 0),
        )
        return (
            f"{problem.model.id} fits in none of the ways that it can be split; nearest: {largest.name}: "
            f"{tightest.reason}"
        )
    return (
        f"{problem.model.id} fits nowhere: its weights take {weights:,.0f} GiB, "
        f"and the largest accelerator memory on offer is {room:,.0f} GiB usable ({largest.name})"
    )
