"""Every instance type, split and batch: what meets the goals, its cost, and why the rest does not."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tokenmill.core.coefficients import coefficients
from tokenmill.core.images import serving_image
from tokenmill.core.instances import Price, instance_catalog
from tokenmill.core.plan import Candidate, Rejection
from tokenmill.core.workload import Capacity, Parallelism
from tokenmill.planner.feasibility import Problem, degrees, instance_rejection, split_rejection
from tokenmill.planner.load import best_rate, busy_seconds_per_request, full_step_ms, latency
from tokenmill.planner.memory import host_memory_mib, kv_room_tokens, memory_of_copy
from tokenmill.planner.timing import paged_engine, static_engine
from tokenmill_runtime.token_work import TokenWorkCoefficients

if TYPE_CHECKING:
    import datetime

    from tokenmill.core.coefficients import TimingFits
    from tokenmill.core.engine_timing import EngineTiming
    from tokenmill.core.images import ServingImage
    from tokenmill.core.instances import Accelerator, InstanceType
    from tokenmill.planner.load import Latency

GROWTH = 2
"""A fleet may grow to this many times the planned copies, which covers a rate of that many times the plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One way to run a copy: how it is split, how many sequences it runs, what it takes and carries.

    Args:
        tensor: Cores that share each layer.
        engine: Its timing.
        rate: Highest rate that keeps the goals, in requests a second; 0 where none does.
    """

    tensor: int
    engine: EngineTiming
    rate: float


@dataclass(slots=True)
class Search:
    """One run over the catalog; settings of a chip are computed once for all instance types that have it."""

    problem: Problem
    today: datetime.date
    settings: dict[tuple[str, int], tuple[Setting, ...]]

    def run(self) -> tuple[tuple[Candidate, ...], tuple[Rejection, ...]]:
        """Return candidates ranked by cost, and everything else with its reason."""
        candidates: list[Candidate] = []
        rejections: list[Rejection] = []
        for instance in instance_catalog().values():
            found, refused = self.instance(instance)
            candidates += found
            rejections += refused
        return rank(candidates), tuple(rejections)

    def instance(self, instance: InstanceType) -> tuple[list[Candidate], list[Rejection]]:
        """Return the best candidate of one instance type, and why its other splits were not taken."""
        image = serving_image(instance)
        refused = instance_rejection(self.problem, instance, image)
        if refused:
            return [], [refused]
        candidates, rejections = [], []
        for tensor in degrees(instance):
            outcome = self.split(instance, image, tensor)
            if isinstance(outcome, Rejection):
                rejections.append(outcome)
            else:
                candidates.append(outcome)
        if not candidates:
            return [], merge(rejections)
        best = min(candidates, key=preference)
        rejections += [dominated(item, best) for item in candidates if item is not best]
        return [best], rejections

    def split(self, instance: InstanceType, image: ServingImage, tensor: int) -> Candidate | Rejection:
        """Return the candidate of one split on one instance type, or why there is none."""
        refused = split_rejection(self.problem, instance, image, tensor)
        if refused:
            return refused
        settings = self.settings_of(instance.accelerator, image, tensor)
        working = [setting for setting in settings if setting.rate > 0]
        if not working:
            return self.too_slow(instance, tensor, settings)
        options = [self.candidate(instance, image, setting) for setting in working]
        best = min(options, key=preference)
        if best.instances > self.problem.limits.max_instances:
            return Rejection(
                instance_type=instance.name,
                tensor_parallel=tensor,
                code="fleet",
                reason=f"needs {best.instances} instances for {self.problem.workload.requests_per_second:g} "
                f"requests/s, more than max_instances {self.problem.limits.max_instances}",
                miss=round(best.instances / self.problem.limits.max_instances, 3),
            )
        return best

    def settings_of(self, accelerator: Accelerator, image: ServingImage, tensor: int) -> tuple[Setting, ...]:
        """Return every batch that fits on a split, with the rate that it carries."""
        key = (accelerator.name, tensor)
        if key not in self.settings:
            self.settings[key] = tuple(self._settings(accelerator, image, tensor))
        return self.settings[key]

    def _settings(self, accelerator: Accelerator, image: ServingImage, tensor: int) -> list[Setting]:
        problem = self.problem
        room = kv_room_tokens(problem.model, accelerator, tensor)
        per_sequence = problem.context_tokens if image.static_batch else problem.typical_tokens
        most = min(room // per_sequence, problem.limits.max_sequences)
        goal = (problem.slo.ttft_ms, problem.slo.itl_ms, problem.slo.percentile)
        target = problem.limits.target_utilization_percent / 100
        make = static_engine if image.static_batch else paged_engine
        settings = []
        for power in range(most.bit_length()):
            engine = make(
                problem.model,
                accelerator,
                tensor,
                sequences=1 << power,
                context_tokens=problem.context_tokens,
            )
            settings.append(
                Setting(tensor=tensor, engine=engine, rate=best_rate(engine, problem.workload, target, goal))
            )
        return settings

    def too_slow(self, instance: InstanceType, tensor: int, settings: tuple[Setting, ...]) -> Rejection:
        """Return which goal a split misses even for a single request."""
        slo, workload = self.problem.slo, self.problem.workload
        idle = [latency(setting.engine, workload, 0.0, slo.percentile) for setting in settings]
        ttft = min(seen.ttft_ms for seen in idle)
        itl = min(seen.itl_ms for seen in idle)
        if ttft > slo.ttft_ms:
            code, miss = "ttft", ttft / slo.ttft_ms
            reason = f"first token after {ttft:,.0f} ms without any load, goal {slo.ttft_ms:g} ms"
        else:
            code, miss = "itl", itl / slo.itl_ms
            reason = f"{itl:,.1f} ms between tokens without any load, goal {slo.itl_ms:g} ms"
        return Rejection(
            instance_type=instance.name,
            tensor_parallel=tensor,
            code=code,
            reason=reason,
            miss=round(miss, 3),
        )

    def candidate(self, instance: InstanceType, image: ServingImage, setting: Setting) -> Candidate:
        """Return one setting on one instance type, as a fleet that carries the workload."""
        problem, engine = self.problem, setting.engine
        chips = setting.tensor // instance.accelerator.cores_per_chip
        per_instance = copies_per_instance(problem, instance, image, chips)
        needed = math.ceil(problem.workload.requests_per_second / setting.rate)
        copies = max(problem.limits.min_copies, needed)
        instances = math.ceil(copies / per_instance)
        rate = problem.workload.requests_per_second / copies
        seen = latency(engine, problem.workload, rate, problem.slo.percentile)
        fits = coefficients().of(instance.accelerator.kind)
        risks = self._risks(seen, fits)
        most = max(copies, min(GROWTH * copies, per_instance * problem.limits.max_instances))
        bare = Candidate(
            instance_type=instance.name,
            accelerator=instance.accelerator.name,
            parallelism=Parallelism(tensor=setting.tensor),
            chips_per_copy=chips,
            cores_per_copy=setting.tensor,
            copies_per_instance=per_instance,
            host_memory_mib=host_memory_mib(problem.model, image),
            max_sequences=engine.max_sequences,
            context_tokens=problem.context_tokens,
            dtype=problem.model.quantization or problem.model.dtype,
            image=image.key,
            memory=memory_of_copy(
                problem.model, instance.accelerator, setting.tensor, engine.kv_capacity_tokens
            ),
            itl_ms=round(seen.itl_ms, 2),
            itl_ms_low=round(seen.itl_ms * fits.decode.ratio_low, 2),
            itl_ms_high=round(seen.itl_ms * fits.decode.ratio_high, 2),
            ttft_ms=round(seen.ttft_ms, 1),
            ttft_ms_low=round(seen.ttft_ms * fits.prefill.ratio_low, 1),
            ttft_ms_high=round(seen.ttft_ms * fits.prefill.ratio_high, 1),
            requests_per_second_per_copy=round(setting.rate, 4),
            capacity=Capacity(minimum=problem.limits.min_copies, maximum=most, initial=copies),
            instances=instances,
            utilization_percent=round(seen.utilization * 100, 1),
            target_utilization_percent=self._target(engine, setting),
            engine=engine,
            token_work=self._token_work(engine),
            goals_at_risk=len(risks),
            notes=tuple(self._notes(image, setting, fits) + risks),
        )
        return self._priced(bare, problem.price(instance))

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

    def _target(self, engine: EngineTiming, setting: Setting) -> float:
        """Busy share at the highest rate that keeps the goals: scaling must not aim above it."""
        return round(100 * setting.rate * busy_seconds_per_request(engine, self.problem.workload), 1)

    def _token_work(self, engine: EngineTiming) -> TokenWorkCoefficients:
        tokens = self.problem.workload.input_tokens
        base, per_token = engine.prefill_base_ms / 1e3, engine.prefill_per_token_ms / 1e3
        # an engine with one compiled prompt length takes the same time for every prompt
        fixed = engine.padded_tokens(tokens) * per_token if engine.prefill_buckets else 0.0
        step = full_step_ms(engine, self.problem.workload) / 1e3
        return TokenWorkCoefficients(
            prefill_seconds_per_request=float(f"{base + fixed:.6g}"),
            prefill_seconds_per_token=0.0 if engine.prefill_buckets else float(f"{per_token:.6g}"),
            decode_seconds_per_token=float(f"{step / engine.max_sequences:.6g}"),
        )

    def _notes(self, image: ServingImage, setting: Setting, fits: TimingFits) -> list[str]:
        notes = []
        if image.status == "experimental":
            notes.append(f"image {image.key} is experimental on this host: {image.status_reason}")
        if setting.tensor not in fits.degrees:
            measured = ", ".join(str(degree) for degree in fits.degrees)
            notes.append(f"times at tensor parallel {setting.tensor} are extrapolated; measured: {measured}")
        return notes

    def _risks(self, seen: Latency, fits: TimingFits) -> list[str]:
        slo, risks = self.problem.slo, []
        ttft, itl = seen.ttft_ms * fits.prefill.ratio_high, seen.itl_ms * fits.decode.ratio_high
        if ttft > slo.ttft_ms:
            risks.append(f"the high end of time to first token, {ttft:,.0f} ms, misses the goal")
        if itl > slo.itl_ms:
            risks.append(f"the high end of inter-token latency, {itl:,.1f} ms, misses the goal")
        return risks


def copies_per_instance(problem: Problem, instance: InstanceType, image: ServingImage, chips: int) -> int:
    """Return how many copies an instance holds, by chips and by host memory."""
    by_memory = instance.host_room_mib // host_memory_mib(problem.model, image)
    return min(instance.chips // chips, by_memory)


def preference(candidate: Candidate) -> tuple[int, int, int, int, int]:
    """Return what decides between settings of one instance type.

    Cost first; at equal cost a setting that keeps the goals at the high end of its interval too; then fewer
    copies, fewer cores, and the larger batch, which absorbs bursts.
    """
    return (
        candidate.instances,
        candidate.goals_at_risk,
        candidate.capacity.initial,
        candidate.cores_per_copy,
        -candidate.max_sequences,
    )


def rank(candidates: list[Candidate]) -> tuple[Candidate, ...]:
    """Return candidates by cost, unpriced ones last with the price at which they would tie with the best."""
    priced = sorted(
        (item for item in candidates if item.usd_per_hour is not None),
        key=lambda item: (item.usd_per_hour, item.itl_ms, item.instance_type),
    )
    unpriced = sorted(
        (item for item in candidates if item.usd_per_hour is None),
        key=lambda item: (item.instances, item.instance_type),
    )
    if priced and priced[0].usd_per_hour is not None:
        best = priced[0].usd_per_hour
        unpriced = [
            replace(item, break_even_usd_per_hour=round(best / item.instances, 4)) for item in unpriced
        ]
    return (*priced, *unpriced)


def dominated(candidate: Candidate, best: Candidate) -> Rejection:
    """Return why a split that meets the goals is not the one taken on its instance type."""

    def needs(item: Candidate) -> str:
        fleet = f"{count(item.instances, 'instance')}, {count(item.capacity.initial, 'copy')}"
        return f"{fleet} of {count(item.cores_per_copy, 'core')}"

    return Rejection(
        instance_type=candidate.instance_type,
        tensor_parallel=candidate.parallelism.tensor,
        code="dominated",
        reason=f"meets the goals with {needs(candidate)}, where tensor parallel {best.parallelism.tensor} "
        f"takes {needs(best)}",
    )


def count(number: int, noun: str) -> str:
    """Return a number with its noun in the right form."""
    plural = {"copy": "copies"}.get(noun, f"{noun}s")
    return f"{number} {noun if number == 1 else plural}"


def merge(rejections: list[Rejection]) -> list[Rejection]:
    """Return rejections of an instance type; where all have one code, one that names the degrees."""
    codes = {rejection.code for rejection in rejections}
    if len(rejections) < 2 or len(codes) > 1:
        return rejections
    tried = ", ".join(str(rejection.tensor_parallel) for rejection in rejections)
    best = min(rejections, key=lambda item: (item.miss, -(item.tensor_parallel or 0)))
    return [replace(best, tensor_parallel=None, reason=f"at tensor parallel {tried}; best: {best.reason}")]
