"""A split's timing and how sure it is: coefficients, the user's calibration, pipeline and speculation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tokenmill.planner.engines import prompt_buckets
from tokenmill.planner.load import scaled
from tokenmill.planner.room import held, tokens_in
from tokenmill.planner.timing import (
    TYPICAL_SEQUENCES,
    paged_engine,
    peak_token_ms,
    six_digits,
    static_engine,
    uncertainty,
)

if TYPE_CHECKING:
    from tokenmill.core.calibration import Calibration
    from tokenmill.core.engine_timing import EngineTiming
    from tokenmill.core.images import CatalogImage
    from tokenmill.core.instances import Accelerator
    from tokenmill.core.workload import SpeculativeDecoding
    from tokenmill.planner.feasibility import Problem
    from tokenmill.planner.splits import Split


TOO_WIDE = 16.0
"""An 80 % interval of more than a factor of four either way says nothing of what a fleet would come to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """80 % intervals around predicted times, as ratios of them.

    Args:
        decode: Low and high end of a decode step.
        prefill: Low and high end of a prefill.
        extrapolated: Where the prediction leaves what was measured, a clause each.
    """

    decode: tuple[float, float]
    prefill: tuple[float, float]
    extrapolated: tuple[str, ...]

    @property
    def doubt(self) -> str:
        """Why the times are too uncertain to choose by, in a clause; empty where they are not."""
        for phase, (low, high) in (("a decode step", self.decode), ("a prefill", self.prefill)):
            if high / low > TOO_WIDE:
                why = f" ({'; '.join(self.extrapolated)})" if self.extrapolated else ""
                return f"{phase} may take {low:.2g} to {high:.2g} times the prediction{why}"
        return ""


def intervals(
    problem: Problem,
    accelerator: Accelerator,
    image: CatalogImage,
    split: Split,
    *,
    sequences: int = TYPICAL_SEQUENCES,
) -> Intervals:
    """Return how far measured times may lie from predicted ones.

    Args:
        problem: What is asked, with the user's calibration.
        accelerator: The chip.
        image: The serving image.
        split: How a copy is split.
        sequences: Most sequences that run together.
    """
    tensor = split.parallelism.tensor
    context = problem.context_tokens
    decode, prefill = (
        uncertainty(split.model, accelerator, tensor, phase, sequences=sequences, context_tokens=context)
        for phase in ("decode", "prefill")
    )
    reasons = dict.fromkeys((*decode.extrapolated, *prefill.extrapolated))
    if split.parallelism.pipeline > 1:
        reasons["pipeline stages, derived from tensor parallelism and not measured"] = None
    if split.parallelism.expert > 1:
        reasons["whole experts on each core, timed as if they were cut"] = None
    if problem.workload.speculative:
        reasons["speculative decoding, from its formula and not measured"] = None
    used = calibration_of(problem, accelerator, image)
    if used and used.tensor == tensor and split.parallelism.pipeline == 1:
        return Intervals(
            decode=(used.decode.low, used.decode.high),
            prefill=(used.prefill.low, used.prefill.high),
            extrapolated=tuple(
                reason for reason in reasons if reason not in decode.extrapolated + prefill.extrapolated
            ),
        )
    return Intervals(
        decode=(min(1.0, decode.low), max(1.0, decode.high)),
        prefill=(min(1.0, prefill.low), max(1.0, prefill.high)),
        extrapolated=tuple(reasons),
    )


def calibration_of(problem: Problem, accelerator: Accelerator, image: CatalogImage) -> Calibration | None:
    """Return the user's calibration where it is of this model, chip and image.

    Args:
        problem: What is asked.
        accelerator: The chip.
        image: The serving image.
    """
    found = problem.calibration
    if found is None or found.model != problem.model.id:
        return None
    return found if (found.accelerator, found.image) == (accelerator.name, image.key) else None


def engine_of(
    problem: Problem,
    accelerator: Accelerator,
    image: CatalogImage,
    split: Split,
    *,
    sequences: int,
    speculative: SpeculativeDecoding | None,
) -> EngineTiming:
    """Return the timing of one copy.

    Args:
        problem: What is asked, with the user's calibration.
        accelerator: The chip.
        image: The serving image.
        split: How the copy is split.
        sequences: Most sequences that run together.
        speculative: Speculative decoding that the server does; None for none.
    """
    make = static_engine if image.static_batch else paged_engine
    engine = make(
        split.model,
        accelerator,
        split.parallelism.tensor,
        sequences=sequences,
        context_tokens=problem.context_tokens,
    )
    if image.static_batch:
        engine = replace(engine, prefill_buckets=prompt_buckets(image, problem.context_tokens))
    if split.parallelism.pipeline > 1:
        engine = _staged(engine, split, accelerator)
    used = calibration_of(problem, accelerator, image)
    if used:
        engine = scaled(engine, used.decode.factor, used.prefill.factor)
    checked = peak_token_ms(split.model, accelerator, split.parallelism.cores)
    return _rounded(speculated(engine, speculative, checked))


def speculated(
    engine: EngineTiming, draft: SpeculativeDecoding | None, checked_ms: float = 0.0
) -> EngineTiming:
    """Return an engine whose steps are those of one token each, on average, under speculative decoding.

    A step drafts `tokens` tokens and checks them at once: its weights and cache are read once, its arithmetic
    grows with the tokens checked (Leviathan, Kalman, Matias 2023, section 3). That is not hidden behind the
    reading, so that a large batch pays for tokens that are then thrown away.

    Args:
        engine: The copy without.
        draft: The draft; None changes nothing.
        checked_ms: Arithmetic of one token, in milliseconds.
    """
    if draft is None:
        return engine
    drafting = 1 + draft.tokens * draft.draft_cost
    share = 1 / draft.tokens_per_step
    a_sequence = engine.step_per_sequence_ms * (draft.tokens + drafting) + draft.tokens * checked_ms
    return replace(
        engine,
        step_base_ms=engine.step_base_ms * drafting * share,
        step_per_sequence_ms=a_sequence * share,
        step_per_kv_token_ms=engine.step_per_kv_token_ms * drafting * share,
        step_experts_ms=engine.step_experts_ms * drafting * share,
        expert_share=1 - (1 - engine.expert_share) ** (draft.tokens + 1),
    )


def _staged(engine: EngineTiming, split: Split, accelerator: Accelerator) -> EngineTiming:
    """Stages run one after another for a token, each with its share of the sequences at a time.

    A token passes all layers on `tensor` cores, so the base of a step stays that of the tensor group; what
    sequences add is shared by the groups of sequences that fill the stages.
    """
    pipeline = split.parallelism.pipeline
    one = held(split.model, accelerator, split.parallelism, sequences=1, tokens=1)
    return replace(
        engine,
        step_per_sequence_ms=engine.step_per_sequence_ms / pipeline,
        step_per_kv_token_ms=engine.step_per_kv_token_ms / pipeline,
        expert_share=1 - (1 - engine.expert_share) ** (1 / pipeline),
        kv_capacity_tokens=tokens_in(
            split.model, split.parallelism, one.available - one.weights - one.overhead
        ),
    )


def _rounded(engine: EngineTiming) -> EngineTiming:
    """Six significant digits, so that plan files do not change with the last bit of an arithmetic."""
    return replace(
        engine,
        step_base_ms=six_digits(engine.step_base_ms),
        step_per_sequence_ms=six_digits(engine.step_per_sequence_ms),
        step_per_kv_token_ms=six_digits(engine.step_per_kv_token_ms),
        step_experts_ms=six_digits(engine.step_experts_ms),
        expert_share=six_digits(engine.expert_share),
        prefill_base_ms=six_digits(engine.prefill_base_ms),
        prefill_per_token_ms=six_digits(engine.prefill_per_token_ms),
    )
