"""What one copy's serving engine takes: the numbers that planner, simulator and local model server share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tokenmill.core._codec import decode, encode


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineTiming:
    """Timing of one copy under continuous batching: linear but for the experts that more sequences touch.

    A decode step makes one token for every running sequence; a prefill runs one prompt and holds decode up.
    On Neuron the compiled batch and sequence length are paid in full, so the step does not grow with
    load and a prompt is padded to the next compiled bucket (Neuron documentation: "Neuron Bucketing").

    Args:
        step_base_ms: A decode step with no sequence in it, in milliseconds.
        step_per_sequence_ms: Each running sequence adds, in milliseconds.
        step_per_kv_token_ms: Each token in the KV caches of the running sequences adds, in milliseconds.
        prefill_base_ms: A prefill of no tokens, in milliseconds.
        prefill_per_token_ms: Each (padded) prompt token adds, in milliseconds.
        prefill_buckets: Compiled prompt lengths, ascending; empty means no padding.
        max_sequences: Sequences that run together.
        kv_capacity_tokens: Tokens that the KV cache holds over all sequences.
        step_experts_ms: Reading all routed experts adds, in milliseconds; 0 for a dense model, and where the
            step does not depend on what runs.
        expert_share: Share of the routed experts that one token passes through; 0 where step_experts_ms is.
    """

    step_base_ms: float
    step_per_sequence_ms: float
    step_per_kv_token_ms: float
    prefill_base_ms: float
    prefill_per_token_ms: float
    prefill_buckets: tuple[int, ...]
    max_sequences: int
    kv_capacity_tokens: int
    step_experts_ms: float = 0.0
    expert_share: float = 0.0

    def step_ms(self, sequences: int, kv_tokens: int) -> float:
        """Return one decode step, in milliseconds.

        Args:
            sequences: Running sequences.
            kv_tokens: Tokens in their KV caches, summed.
        """
        linear = self.step_base_ms + self.step_per_sequence_ms * sequences
        return linear + self.step_per_kv_token_ms * kv_tokens + self.experts_ms(sequences)

    def experts_ms(self, sequences: float) -> float:
        """Return what reading the touched experts adds to a step, in milliseconds.

        Experts are drawn evenly: n sequences touch 1 - (1 - share)^n of them.

        Args:
            sequences: Running sequences.
        """
        left: float = (1 - self.expert_share) ** sequences
        return self.step_experts_ms * (1 - left)

    def padded_tokens(self, tokens: int) -> int:
        """Return the prompt length that the engine computes.

        Args:
            tokens: Prompt length; more than the largest bucket runs as several pieces of that bucket.
        """
        if not self.prefill_buckets:
            return tokens
        largest = self.prefill_buckets[-1]
        whole, rest = divmod(tokens, largest)
        if rest == 0:
            return whole * largest
        return whole * largest + next(bucket for bucket in self.prefill_buckets if bucket >= rest)

    def prefill_ms(self, tokens: int) -> float:
        """Return the prefill of one prompt, in milliseconds.

        Args:
            tokens: Prompt tokens that are not in a prefix cache.
        """
        return self.prefill_base_ms + self.prefill_per_token_ms * self.padded_tokens(tokens)

    def to_json(self) -> dict[str, Any]:
        """Return a document of plain JSON values."""
        document: dict[str, Any] = encode(self)
        return document

    @classmethod
    def from_json(cls, document: object) -> EngineTiming:
        """Return the timing that `to_json` wrote.

        Args:
            document: The parsed document.

        Raises:
            TokenmillError: A field is missing, unknown or of another type.
        """
        return decode(cls, document, "engine timing")
