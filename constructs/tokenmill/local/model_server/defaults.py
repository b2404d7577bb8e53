"""The timing of a component or model that carries no plan."""

from __future__ import annotations

from tokenmill.core.engine_timing import EngineTiming

DEFAULT_TIMING = EngineTiming(
    step_base_ms=25.0,
    step_per_sequence_ms=0.2,
    step_per_kv_token_ms=0.0002,
    prefill_base_ms=30.0,
    prefill_per_token_ms=0.15,
    prefill_buckets=(),
    max_sequences=32,
    kv_capacity_tokens=131072,
)
"""About forty tokens a second for one sequence: a round figure for trying things out, not any instance's."""
