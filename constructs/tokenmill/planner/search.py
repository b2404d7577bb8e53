"""Every instance type, split, weight format and batch: what meets the goals, and why the rest does not."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tokenmill.core.images import serving_image
from tokenmill.core.instances import instance_catalog
from tokenmill.core.plan import Candidate, Rejection
from tokenmill.core.workload import AS_PUBLISHED
from tokenmill.planner.candidates import Fleet, Setting
from tokenmill.planner.engines import served_workload, staged_image
from tokenmill.planner.feasibility import Problem, instance_rejection
from tokenmill.planner.load import best_rate, latency
from tokenmill.planner.room import held, most_sequences, sequence_tokens
from tokenmill.planner.splits import Split, pipeline_splits, refusal, tensor_splits
from tokenmill.planner.timed import engine_of, intervals

if TYPE_CHECKING:
    import datetime
    from collections.abc import Iterable, Iterator

    from tokenmill.core.images import CatalogImage
    from tokenmill.core.instances import Accelerator, InstanceType
    from tokenmill.core.workload import Parallelism


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search came to.

    Args:
        candidates: Ways that meet the goals and may be chosen, ranked.
        experimental: Ways that would meet them, but must be tried first, ranked.
        rejections: Everything else with its reason.
    """

    candidates: tuple[Candidate, ...]
    experimental: tuple[Candidate, ...]
    rejections: tuple[Rejection, ...]


@dataclass(slots=True)
class Search:
    """One run over the catalog; settings of a chip are computed once for all instance types that have it."""

    problem: Problem
    today: datetime.date
    settings: dict[tuple[str, str, Parallelism, str], tuple[Setting, ...]] = field(default_factory=dict)
    refusals: dict[tuple[str, str, Parallelism, str], tuple[str, str]] = field(default_factory=dict)

    def run(self) -> Found:
        """Return candidates ranked by cost, and everything else with its reason."""
        candidates: list[Candidate] = []
        rejections: list[Rejection] = []
        for instance in instance_catalog(self.problem.catalog).values():
            found, refused = self.instance(instance)
            candidates += found
            rejections += refused
        waiting = [item for item in candidates if item.experimental]
        rejections += [not_chosen(item) for item in waiting]
        return Found(
            candidates=rank([item for item in candidates if not item.experimental]),
            experimental=rank(waiting),
            rejections=tuple(rejections),
        )

    def instance(self, instance: InstanceType) -> tuple[list[Candidate], list[Rejection]]:
        """Return the best candidate of one instance type, and why its other splits were not taken."""
        image = serving_image(instance)
        refused = instance_rejection(self.problem, instance, image)
        if refused:
            return [], [refused]
        working: list[tuple[Split, Candidate]] = []
        rejections: list[Rejection] = []
        staged = staged_image(image, instance.accelerator.name, self.problem.region) or image
        for splits, served in ((tensor_splits, image), (pipeline_splits, staged)):
            for split in splits(self.problem, instance, served):
                if isinstance(split, Rejection):
                    rejections.append(split)
                    continue
                outcome = self.split(instance, served, split)
                if isinstance(outcome, Rejection):
                    rejections.append(outcome)
                else:
                    working.append((split, outcome))
        if not working:
            return [], merge(rejections)
        taken, best = min(working, key=lambda item: preference(item[1]))
        rejections += [
            dominated(instance, split, item, taken, best) for split, item in working if item is not best
        ]
        return [best], rejections

    def split(self, instance: InstanceType, image: CatalogImage, split: Split) -> Candidate | Rejection:
        """Return the candidate of one split on one instance type, or why there is none."""
        key = (instance.accelerator.name, image.key, split.parallelism, split.quantization)
        if key not in self.refusals:
            self.refusals[key] = refusal(self.problem, instance.accelerator, image, split)
        code, reason = self.refusals[key]
        if code:
            return split.rejection(instance, code, reason)
        if key not in self.settings:
            self.settings[key] = tuple(self._settings(instance.accelerator, image, split))
        settings = self.settings[key]
        fleets = [
            Fleet(problem=self.problem, today=self.today, instance=instance, image=image, setting=setting)
            for setting in settings
            if setting.rate > 0
        ]
        if not fleets:
            return self.too_slow(instance, image, split, settings)
        fewest = min(fleet.instances for fleet in fleets)
        limit = self.problem.limits.max_instances
        if fewest > limit:
            rate, least = self.problem.workload.requests_per_second, self.problem.limits.min_copies
            wanted = f"{rate:g} requests/s"
            if all(rate <= least * fleet.setting.rate for fleet in fleets):
                wanted = f"min_copies {least}"
            reason = f"needs {fewest} instances for {wanted}, more than max_instances {limit}"
            return split.rejection(instance, "fleet", reason, fewest / limit)
        # only the cheapest fleets are worth the work of a whole candidate
        return cheapest(fleet for fleet in fleets if fleet.instances == fewest)

    def _settings(self, accelerator: Accelerator, image: CatalogImage, split: Split) -> Iterator[Setting]:
        """Yield every batch that fits on a split, with the rate that it carries."""
        problem = self.problem
        itl = problem.slo.itl_ms if problem.workload.has_gaps else math.inf
        goal = (problem.slo.ttft_ms, itl, problem.slo.percentile)
        target = problem.limits.target_utilization_percent / 100
        workload, _ = served_workload(problem.workload, image)
        for sequences in self._batches(accelerator, image, split):
            engine = engine_of(
                problem, accelerator, image, split, sequences=sequences, speculative=workload.speculative
            )
            rate = best_rate(engine, workload, target, goal)
            filled = held(
                split.model,
                accelerator,
                split.parallelism,
                sequences=sequences,
                tokens=sequence_tokens(problem, image),
            )
            known = intervals(problem, accelerator, image, split, sequences=sequences)
            yield Setting(split=split, engine=engine, intervals=known, held=filled, rate=rate)

    def _batches(self, accelerator: Accelerator, image: CatalogImage, split: Split) -> list[int]:
        """Powers of two that fit; a batch that is not compiled may also be as large as memory allows."""
        problem = self.problem
        most = most_sequences(
            split.model,
            accelerator,
            split.parallelism,
            tokens=sequence_tokens(problem, image),
            limit=problem.limits.max_sequences,
        )
        powers = [1 << power for power in range(most.bit_length())]
        return powers if image.static_batch or most in powers else [*powers, most]

    def too_slow(
        self, instance: InstanceType, image: CatalogImage, split: Split, settings: tuple[Setting, ...]
    ) -> Rejection:
        """Return which goal a split misses even for a single request."""
        slo = self.problem.slo
        workload, _ = served_workload(self.problem.workload, image)
        idle = [latency(setting.engine, workload, 0.0, slo.percentile) for setting in settings]
        ttft = min(seen.ttft_ms for seen in idle)
        itl = min(seen.itl_ms for seen in idle)
        if ttft > slo.ttft_ms:
            reason = f"first token after {ttft:,.0f} ms without any load, goal {slo.ttft_ms:g} ms"
            return split.rejection(instance, "ttft", reason, ttft / slo.ttft_ms)
        reason = f"{itl:,.1f} ms between tokens without any load, goal {slo.itl_ms:g} ms"
        return split.rejection(instance, "itl", reason, itl / slo.itl_ms)


def cheapest(fleets: Iterable[Fleet]) -> Candidate:
    """Return the preferred of fleets of one split that cost the same.

    They are looked at in the order of preference among fleets that keep the goals at the high end, so the
    first that does ends the search.

    Args:
        fleets: At least one.
    """
    options: list[tuple[tuple[object, ...], Candidate]] = []
    for fleet in sorted(fleets, key=lambda fleet: (fleet.needed, fleet.batch_rank)):
        found = list(fleet.candidates())
        options += [((*preference(item)[:-1], fleet.batch_rank), item) for item in found]
        if any(not item.goals_at_risk and item.capacity.initial == fleet.needed for item in found):
            break
    return min(options, key=lambda option: option[0])[1]


def preference(candidate: Candidate) -> tuple[bool, int, int, bool, bool, int, int, int]:
    """Return what decides between settings of one instance type.

    What may be chosen first, then cost; at equal cost a setting that keeps the goals at the high end of its
    interval too; then weights as they were published, no stages (their times are derived and not measured),
    fewer copies, fewer cores, and the larger batch. Among batches of one split `Fleet.batch_rank` decides.
    """
    return (
        bool(candidate.experimental),
        candidate.instances,
        candidate.goals_at_risk,
        candidate.quantization != AS_PUBLISHED,
        candidate.parallelism.pipeline > 1,
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


def not_chosen(candidate: Candidate) -> Rejection:
    """Return why an experimental candidate is not chosen.

    Args:
        candidate: What would meet the goals.
    """
    fleet = f"{count(candidate.instances, 'instance')}, {count(candidate.capacity.initial, 'copy')}"
    return Rejection(
        instance_type=candidate.instance_type,
        code="image" if "must be built" in candidate.experimental else "timing",
        reason=f"would meet the goals with {fleet} of {count(candidate.cores_per_copy, 'core')}, but "
        f"{candidate.experimental}",
    )


def dominated(
    instance: InstanceType, split: Split, candidate: Candidate, taken: Split, best: Candidate
) -> Rejection:
    """Return why a split that meets the goals is not the one taken on its instance type.

    Args:
        instance: The instance type.
        split: The split that is not taken.
        candidate: What it would come to.
        taken: The split that is taken.
        best: What that comes to.
    """

    def needs(item: Candidate) -> str:
        fleet = f"{count(item.instances, 'instance')}, {count(item.capacity.initial, 'copy')}"
        return f"{fleet} of {count(item.cores_per_copy, 'core')}"

    takes = "takes as few" if needs(candidate) == needs(best) else f"takes {needs(best)}"
    return split.rejection(
        instance, "dominated", f"meets the goals with {needs(candidate)}, where {taken.name} {takes}"
    )


def count(number: int, noun: str) -> str:
    """Return a number with its noun in the right form."""
    plural = {"copy": "copies"}.get(noun, f"{noun}s")
    return f"{number} {noun if number == 1 else plural}"


def merge(rejections: list[Rejection]) -> list[Rejection]:
    """Return rejections of an instance type; where all have one code, one that names the degrees."""
    splits = [item for item in rejections if item.tensor_parallel is not None]
    if len(splits) < 2 or len(splits) < len(rejections) or len({item.code for item in splits}) > 1:
        return rejections
    tried = ", ".join(dict.fromkeys(str(item.tensor_parallel) for item in splits))
    best = min(splits, key=lambda item: (item.miss, -(item.tensor_parallel or 0)))
    stages = any((item.pipeline_parallel or 1) > 1 for item in splits)
    with_stages = " with and without pipeline stages" if stages else ""
    return [
        replace(
            best,
            tensor_parallel=None,
            pipeline_parallel=None,
            reason=f"at tensor parallel {tried}{with_stages}; best: {best.reason}",
        )
    ]
