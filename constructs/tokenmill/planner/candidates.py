"""From one timed split to a fleet: copies, cost, headroom and what a reader must know."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tokenmill.core.instances import GIB
from tokenmill.core.plan import Candidate, Headroom
from tokenmill.core.workload import AS_PUBLISHED, Capacity
from tokenmill.planner.engines import environment, served_workload
from tokenmill.planner.load import (
    busy_seconds_per_request,
    full_step_ms,
    latency,
    latency_range,
    prefill_moments,
)
from tokenmill.planner.memory import host_memory_mib
from tokenmill.planner.room import memory_of, tokens_in
from tokenmill.planner.timed import calibration_of
from tokenmill_runtime.token_work import TokenWorkCoefficients

if TYPE_CHECKING:
    import datetime
    from collections.abc import Iterator

    from tokenmill.core.engine_timing import EngineTiming
    from tokenmill.core.images import CatalogImage
    from tokenmill.core.instances import InstanceType, Price
    from tokenmill.core.workload import Workload
    from tokenmill.planner.feasibility import Problem
    from tokenmill.planner.load import Latency
    from tokenmill.planner.memory import RankMemory
    from tokenmill.planner.splits import Split
    from tokenmill.planner.timed import Intervals

GROWTH = 2
"""A fleet may grow to this many times the planned copies, which covers a rate of that many times the plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One way to run a copy: how it is split, how many sequences it runs, what it takes and carries.

    Args:
        split: How it is split, and its weight format.
        engine: Its timing.
        intervals: How sure the timing is.
        held: What the fullest core holds with a full batch.
        rate: Highest rate that keeps the goals, in requests a second; 0 where none does.
    """

    split: Split
    engine: EngineTiming
    intervals: Intervals
    held: RankMemory
    rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """A setting on an instance type.

    Args:
        problem: What is asked.
        today: Day that the age of prices is measured from.
        instance: The instance type.
        image: Its serving image.
        setting: What one copy is.
    """

    problem: Problem
    today: datetime.date
    instance: InstanceType
    image: CatalogImage
    setting: Setting

    @property
    def chips(self) -> int:
        """Whole chips of one copy."""
        return self.setting.split.parallelism.cores // self.instance.accelerator.cores_per_chip

    @property
    def per_instance(self) -> int:
        """Copies that an instance holds, by chips and by host memory."""
        by_memory = self.instance.host_room_mib // host_memory_mib(self.setting.split.model, self.image)
        return min(self.instance.chips // self.chips, by_memory)

    @property
    def needed(self) -> int:
        """Copies that carry the workload."""
        needed = math.ceil(self.problem.workload.requests_per_second / self.setting.rate)
        return max(self.problem.limits.min_copies, needed)

    @property
    def instances(self) -> int:
        """Instances that hold the copies."""
        return math.ceil(self.needed / self.per_instance)

    @property
    def served(self) -> Workload:
        """The workload as the server meets it."""
        return served_workload(self.problem.workload, self.image)[0]

    @property
    def batch_rank(self) -> tuple[int, int]:
        """What orders batches at equal cost: a compiled one that is large enough is not made larger.

        A server that pages reserves nothing for an empty place, so its largest batch absorbs bursts at no
        cost. A compiled batch is paid in full by every step: the smallest that carries the growth of the
        fleet is the fastest.
        """
        batch = self.setting.engine.max_sequences
        carried = self.needed * self.setting.rate
        roomy = carried >= GROWTH * self.problem.workload.requests_per_second
        return (0, batch) if self.image.static_batch and roomy else (1, -batch)

    def candidates(self) -> Iterator[Candidate]:
        """Yield the fleet with the copies it needs, and filled up where that costs nothing and may help."""
        lean = self.candidate(self.needed)
        yield lean
        room = self.instances * self.per_instance
        if lean.goals_at_risk and room > self.needed:
            yield self.candidate(room)

    def candidate(self, copies: int) -> Candidate:
        """Return the fleet as a candidate, with its price where one is known.

        Args:
            copies: Copies that run at first.
        """
        problem, engine, split = self.problem, self.setting.engine, self.setting.split
        known = self.setting.intervals
        rate = problem.workload.requests_per_second / copies
        percentile = problem.slo.percentile
        seen = latency(engine, self.served, rate, percentile)
        low, high = latency_range(
            engine, self.served, rate, percentile, decode=known.decode, prefill=known.prefill
        )
        risks = self._risks(high)
        most = max(copies, min(GROWTH * copies, self.per_instance * problem.limits.max_instances))
        bare = Candidate(
            instance_type=self.instance.name,
            accelerator=self.instance.accelerator.name,
            parallelism=split.parallelism,
            chips_per_copy=self.chips,
            cores_per_copy=split.parallelism.cores,
            copies_per_instance=self.per_instance,
            host_memory_mib=host_memory_mib(split.model, self.image),
            max_sequences=engine.max_sequences,
            context_tokens=problem.context_tokens,
            dtype=split.model.quantization or split.model.dtype,
            image=self.image.key,
            memory=memory_of(self.setting.held, self.image),
            itl_ms=round(seen.itl_ms, 2),
            itl_ms_low=round(low.itl_ms, 2),
            itl_ms_high=round(high.itl_ms, 2),
            ttft_ms=round(seen.ttft_ms, 1),
            ttft_ms_low=round(low.ttft_ms, 1),
            ttft_ms_high=round(high.ttft_ms, 1),
            requests_per_second_per_copy=round(self.setting.rate, 4),
            capacity=Capacity(minimum=problem.limits.min_copies, maximum=most, initial=copies),
            instances=self.instances,
            utilization_percent=round(seen.utilization * 100, 1),
            target_utilization_percent=self._target(),
            engine=engine,
            token_work=self._token_work(),
            goals_at_risk=len(risks),
            notes=tuple(self._notes() + risks),
            quantization=split.quantization,
            environment=environment(self.image, split.parallelism, split.quantization),
            experimental="" if problem.limits.allow_experimental else self._experimental(),
            headroom=self._headroom(copies),
            extrapolated=known.extrapolated,
        )
        return self._priced(bare, problem.price(self.instance))

    def _priced(self, bare: Candidate, price: Price | None) -> Candidate:
        if price is None:
            return bare
        cost = price.usd_per_hour * bare.instances
        old = f"price is of {price.source_date}, more than 180 days old; check it and give --price"
        return replace(
            bare,
            usd_per_hour=round(cost, 4),
            usd_per_million_tokens=round(cost / self.problem.workload.tokens_per_hour * 1e6, 4),
            price_source=price.source,
            price_date=price.source_date,
            notes=(old, *bare.notes) if price.stale(self.today) else bare.notes,
        )

    def _target(self) -> float:
        """Busy share at the highest rate that keeps the goals: scaling must not aim above it."""
        return round(100 * self.setting.rate * busy_seconds_per_request(self.setting.engine, self.served), 1)

    def _token_work(self) -> TokenWorkCoefficients:
        engine = self.setting.engine
        step = full_step_ms(engine, self.served) / 1e3
        if engine.prefill_buckets:
            # a padded prompt takes the time of its bucket, not of its tokens: its mean is paid by request
            fixed, per_token = prefill_moments(engine, self.served)[0], 0.0
        else:
            fixed, per_token = engine.prefill_base_ms / 1e3, engine.prefill_per_token_ms / 1e3
        return TokenWorkCoefficients(
            prefill_seconds_per_request=float(f"{fixed:.6g}"),
            prefill_seconds_per_token=float(f"{per_token:.6g}"),
            decode_seconds_per_token=float(f"{step / engine.max_sequences:.6g}"),
        )

    def _headroom(self, copies: int) -> Headroom:
        left, split = self.setting.held.available - self.setting.held.total, self.setting.split
        carried = copies * self.setting.rate - self.problem.workload.requests_per_second
        return Headroom(
            memory_gib_per_core=round(left / GIB, 3),
            kv_tokens=tokens_in(split.model, split.parallelism, left),
            requests_per_second=round(max(0.0, carried), 4),
        )

    def _experimental(self) -> str:
        """Why this must be tried before it is relied on."""
        if not self.image.servable:
            return (
                f"image {self.image.key} must be built in your own account first: {self.image.status_reason}"
            )
        return self.setting.intervals.doubt

    def _notes(self) -> list[str]:
        image, split, notes = self.image, self.setting.split, []
        experimental = self._experimental()
        if experimental:
            notes.append(experimental)
        if image.servable and image.status == "experimental":
            notes.append(f"image {image.key} is experimental on this host: {image.status_reason}")
        if split.quantization != AS_PUBLISHED:
            notes.append(
                f"weights are converted to {split.quantization} while loading, which changes the answers: "
                "compare them with the published weights on your own task first"
            )
        if self.setting.intervals.extrapolated:
            notes.append(f"times are extrapolated: {'; '.join(self.setting.intervals.extrapolated)}")
        used = calibration_of(self.problem, self.instance.accelerator, image)
        if used:
            points = used.decode.points + used.prefill.points
            notes.append(
                f"times are corrected by {points} of your own measurements ({used.source}, {used.date})"
            )
        if not self.problem.workload.has_gaps:
            notes.append("answers of one token have no gap between tokens, so that slo.itl_ms does not count")
        notes += served_workload(self.problem.workload, image)[1]
        return notes

    def _risks(self, high: Latency) -> list[str]:
        slo, risks = self.problem.slo, []
        if high.ttft_ms > slo.ttft_ms:
            risks.append(f"the high end of time to first token, {high.ttft_ms:,.0f} ms, misses the goal")
        if high.itl_ms > slo.itl_ms and self.problem.workload.has_gaps:
            risks.append(f"the high end of inter-token latency, {high.itl_ms:,.1f} ms, misses the goal")
        if high.utilization >= 1:
            risks[:1] = ["at the high end of the intervals the copies are saturated until scaling adds more"]
        return risks
