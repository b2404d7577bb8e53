"""The plan: every way to run a model that meets the goals, ranked by cost, and every way that does not."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenmill.core._codec import decode, digest, encode
from tokenmill.core._files import read_document, replace_text
from tokenmill.core.calibration import Calibration
from tokenmill.core.engine_timing import EngineTiming
from tokenmill.core.errors import NoPlanError, TokenmillError
from tokenmill.core.model_spec import ModelSpec
from tokenmill.core.workload import AS_PUBLISHED, Capacity, Limits, Parallelism, Slo, Workload
from tokenmill_runtime.token_work import TokenWorkCoefficients

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenmill.core.user_catalog import UserCatalog

SCHEMA = 1
HASH_LENGTH = 16
NESTED = (
    Calibration,
    Capacity,
    EngineTiming,
    Limits,
    ModelSpec,
    Parallelism,
    Slo,
    TokenWorkCoefficients,
    Workload,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What the fullest core of one copy holds.

    Args:
        weights_gib: Weights, in GiB.
        kv_cache_gib: KV cache, in GiB.
        overhead_gib: Program, scratch space and communication buffers, in GiB.
        available_gib: Memory of the core, in GiB.
    """

    weights_gib: float
    kv_cache_gib: float
    overhead_gib: float
    available_gib: float

    @property
    def total_gib(self) -> float:
        """Memory in use, in GiB."""
        return self.weights_gib + self.kv_cache_gib + self.overhead_gib


@dataclass(frozen=True, slots=True, kw_only=True)
class Headroom:
    """What is left of one copy, and of the first copies together, at the planned load.

    Args:
        memory_gib_per_core: Memory of the fullest core that nothing is planned for, in GiB.
        kv_tokens: Tokens that the KV cache of one copy could hold beside a full batch: `max_sequences`
            sequences of `context_tokens` where the batch is compiled, of a mean request elsewhere.
        requests_per_second: Rate that the first copies carry within the goals and the target utilization,
            beyond the planned one.
    """

    memory_gib_per_core: float
    kv_tokens: int
    requests_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One way to run the model that meets the goals at the planned load.

    Args:
        instance_type: Hosting instance type.
        accelerator: Its chip.
        parallelism: How one copy is split over cores.
        chips_per_copy: Whole chips that one copy takes; the template asks for chips.
        cores_per_copy: Cores (or GPUs) that one copy takes.
        copies_per_instance: Copies that an instance holds.
        host_memory_mib: Host memory that one copy needs to load and run, in MiB.
        max_sequences: Sequences that one copy runs together.
        context_tokens: Prompt plus answer that one sequence may hold.
        dtype: Element type that the weights are computed in.
        image: Key of the serving image.
        memory: What the fullest core holds.
        itl_ms: Inter-token latency at the percentile and the planned load, in milliseconds.
        itl_ms_low: Low end of its interval, in milliseconds.
        itl_ms_high: High end of its interval, in milliseconds.
        ttft_ms: Time to first token at the percentile and the planned load, in milliseconds.
        ttft_ms_low: Low end of its interval, in milliseconds.
        ttft_ms_high: High end of its interval, in milliseconds.
        requests_per_second_per_copy: Rate that one copy carries at the target utilization.
        capacity: Copies: at least, at most, at first.
        instances: Instances that hold the first copies.
        utilization_percent: Busy share of each engine at the planned rate.
        target_utilization_percent: Busy share that scaling aims at.
        usd_per_hour: Cost of the instances an hour; None where no price is known.
        usd_per_million_tokens: Cost per million tokens, input and output, at the planned load.
        break_even_usd_per_hour: For an unpriced type: price of one instance at which the fleet would cost as
            much as the best priced candidate; None where there is none.
        price_source: Where the price stands; empty where none is known.
        price_date: When it stood there.
        engine: Timing of one copy.
        token_work: What requests and tokens cost one copy.
        goals_at_risk: Goals that the high end of the intervals misses: 0, 1 or 2.
        notes: What a reader must know: age of a price, missing evidence, goals at risk.
        quantization: "as-published", or the format that the server converts the weights to.
        environment: Variables that the container needs for it beyond model, batch, context and tensor degree.
        experimental: Why it is only chosen where limits.allow_experimental is true: its serving image must be
            built first, or its times are too uncertain; empty for others, and where that is allowed.
        headroom: What is left at the planned load; None in plans made by hand.
        extrapolated: Where the times leave what was measured, a clause each.
    """

    instance_type: str
    accelerator: str
    parallelism: Parallelism
    chips_per_copy: int
    cores_per_copy: int
    copies_per_instance: int
    host_memory_mib: int
    max_sequences: int
    context_tokens: int
    dtype: str
    image: str
    memory: Memory
    itl_ms: float
    itl_ms_low: float
    itl_ms_high: float
    ttft_ms: float
    ttft_ms_low: float
    ttft_ms_high: float
    requests_per_second_per_copy: float
    capacity: Capacity
    instances: int
    utilization_percent: float
    target_utilization_percent: float
    engine: EngineTiming
    token_work: TokenWorkCoefficients
    usd_per_hour: float | None = None
    usd_per_million_tokens: float | None = None
    break_even_usd_per_hour: float | None = None
    price_source: str = ""
    price_date: str = ""
    goals_at_risk: int = 0
    notes: tuple[str, ...] = ()
    quantization: str = AS_PUBLISHED
    environment: dict[str, str] = field(default_factory=dict, hash=False)
    experimental: str = ""
    headroom: Headroom | None = None
    extrapolated: tuple[str, ...] = ()

    @property
    def prompt_buckets(self) -> tuple[int, ...]:
        """Compiled prompt lengths, in tokens; empty where prompts are not padded."""
        return self.engine.prefill_buckets


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """One way to run the model that was not taken.

    Args:
        instance_type: Hosting instance type.
        code: Short word for the reason: "memory", "ttft", "image" and so on.
        reason: One sentence with the numbers.
        tensor_parallel: Cores of a copy, where the reason holds for one degree only.
        miss: How many times over its goal the best setting came; 0 where the reason is no goal.
        quantization: Weight format, where the reason holds for a converted one only.
        pipeline_parallel: Pipeline stages of a copy, where the reason holds for one split only.
    """

    instance_type: str
    code: str
    reason: str
    tensor_parallel: int | None = None
    miss: float = 0.0
    quantization: str = ""
    pipeline_parallel: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run a model on.

    Args:
        stack: Section of the settings file: "chat".
        backend: "sagemaker".
        region: AWS region that the prices are for.
        model: The model.
        workload: What must be carried.
        slo: How fast it must answer.
        limits: What the search could choose from.
        input_hash: Digest of everything the user gave.
        versions: Dates of the catalogs and of the timing coefficients.
        candidates: Ways that meet the goals: priced ones by cost, then unpriced ones.
        rejections: Ways that do not.
        nearest_miss: Where there is no candidate: what came nearest and what to relax.
        experimental: Ways that would meet the goals, but are not chosen unless limits.allow_experimental is
            true: their serving image must be built first, or their times are too uncertain.
        warnings: What looks like a mistake in the inputs, such as seconds for milliseconds.
        calibration: What the times were corrected by; None where they are the shipped ones.
        schema: Version of this document.
    """

    stack: str
    backend: str
    region: str
    model: ModelSpec
    workload: Workload
    slo: Slo
    limits: Limits
    input_hash: str
    versions: dict[str, str] = field(hash=False)
    candidates: tuple[Candidate, ...]
    rejections: tuple[Rejection, ...]
    nearest_miss: str = ""
    experimental: tuple[Candidate, ...] = ()
    warnings: tuple[str, ...] = ()
    calibration: Calibration | None = None
    schema: int = SCHEMA

    @property
    def chosen(self) -> Candidate:
        """The first candidate.

        Raises:
            NoPlanError: Nothing meets the goals; the message names the nearest miss.
        """
        if not self.candidates:
            lost = f"the plan of {self.stack} has no candidate"
            again = f"write it again with: tokenmill plan {self.stack} --write"
            raise NoPlanError(self.nearest_miss or f"{lost}; {again}")
        return self.candidates[0]

    @property
    def hash(self) -> str:
        """Digest of the whole document, 16 hexadecimal digits."""
        return digest(self.to_json())[:HASH_LENGTH]

    def to_json(self) -> dict[str, Any]:
        """Return a document of plain JSON values."""
        document: dict[str, Any] = encode(self)
        return {"schema": document.pop("schema"), **document}

    def write(self, path: Path | str) -> None:
        """Write the plan as JSON, in one step so that no reader sees half of it.

        Args:
            path: The file, such as chat.plan.json.

        Raises:
            NoPlanError: There is no candidate, so nothing that a stack could be made of.
            TokenmillError: The path is a folder.
        """
        _ = self.chosen
        replace_text(Path(path), json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n")

    @classmethod
    def from_json(cls, document: object, where: str = "plan") -> Plan:
        """Return the plan that `to_json` wrote.

        Args:
            document: The parsed document.
            where: What is being read, for messages.

        Raises:
            TokenmillError: Another schema, or a field is missing, unknown or of another type.
        """
        schema = document.get("schema") if isinstance(document, dict) else None
        if schema != SCHEMA:
            raise TokenmillError(
                f"{where} has schema {schema!r}, this version reads {SCHEMA}; "
                "write it again with tokenmill plan --write"
            )
        return decode(cls, document, where, NESTED)

    @classmethod
    def read(cls, path: Path | str) -> Plan:
        """Return the plan in a file.

        Args:
            path: The file that `write` wrote.

        Raises:
            TokenmillError: The file is missing, not JSON, or not a plan of this schema.
        """
        document = read_document(Path(path), "plan file", "run: tokenmill plan --write")
        return cls.from_json(document, f"plan file {path}")


def user_versions(catalog: UserCatalog | None) -> dict[str, str]:
    """Return the date of a user's own catalog as a plan notes it beside those of the shipped ones.

    Args:
        catalog: The user's catalog; None where there is none.
    """
    return {"your catalog": catalog.date} if catalog else {}


def _finite(value: Any) -> Any:
    """Configs of Mamba models hold Infinity (time_step_limit), which JSON has not: digests take its name."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value


def input_hash(
    *,
    model_id: str,
    model_config: Mapping[str, Any],
    workload: Workload,
    slo: Slo,
    region: str,
    limits: Limits,
    backend: str,
    calibration: str = "",
) -> str:
    """Return the digest of everything a user gives to a plan; catalogs and prices are not in it.

    Args:
        model_id: Name on the Hugging Face Hub.
        model_config: Parsed config.json, so that spaces and the order of keys do not count.
        workload: What must be carried.
        slo: How fast it must answer.
        region: AWS region.
        limits: What the search may choose from.
        backend: "sagemaker".
        calibration: Digest of the user's own measurements; empty where there are none.
    """
    return digest(
        {
            "model_id": model_id,
            "model_config": _finite(dict(model_config)),
            "workload": encode(workload),
            "slo": encode(slo),
            "region": region,
            "limits": encode(limits),
            "backend": backend,
            "calibration": calibration,
        }
    )
