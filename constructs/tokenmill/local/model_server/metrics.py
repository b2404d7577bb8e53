"""The engine's counts and latencies under vLLM's Prometheus names.

Source: vLLM documentation, "Metrics" (V1 names; `vllm:kv_cache_usage_perc` is a share from 0 to 1).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenmill.local.model_server.engine import Engine

_TTFT_BUCKETS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_ITL_BUCKETS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_E2E_BUCKETS = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0)


@dataclass(slots=True)
class Histogram:
    """A Prometheus histogram.

    Args:
        bounds: Upper bounds of the buckets, seconds.
    """

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0
    samples: int = 0

    def __post_init__(self) -> None:
        """Start every bucket at 0."""
        self.counts = [0] * len(self.bounds)

    def observe(self, value: float) -> None:
        """Count one sample.

        Args:
            value: Seconds.
        """
        self.samples += 1
        self.total += value
        for index, bound in enumerate(self.bounds):
            if value <= bound:
                self.counts[index] += 1

    def lines(self, name: str, labels: str) -> list[str]:
        """Return the histogram in Prometheus' text format.

        Args:
            name: Metric name.
            labels: Rendered labels, without braces.
        """
        rows = [
            f'{name}_bucket{{{labels},le="{bound}"}} {count}'
            for bound, count in zip(self.bounds, self.counts, strict=True)
        ]
        rows.append(f'{name}_bucket{{{labels},le="+Inf"}} {self.samples}')
        rows.append(f"{name}_sum{{{labels}}} {self.total}")
        rows.append(f"{name}_count{{{labels}}} {self.samples}")
        return [f"# TYPE {name} histogram", *rows]


@dataclass(slots=True)
class EngineMetrics:
    """What the copies of one component counted since they started."""

    prompt_tokens: int = 0
    generated: int = 0
    finished: int = 0
    preemptions: int = 0
    time_to_first_token: Histogram = field(default_factory=lambda: Histogram(_TTFT_BUCKETS))
    inter_token_latency: Histogram = field(default_factory=lambda: Histogram(_ITL_BUCKETS))
    end_to_end: Histogram = field(default_factory=lambda: Histogram(_E2E_BUCKETS))

    def prefilled(self, tokens: int) -> None:
        """Count a prefill.

        Args:
            tokens: Tokens that were prefilled.
        """
        self.prompt_tokens += tokens

    def render(self, model: str, engines: Sequence[Engine]) -> str:
        """Return the metrics in Prometheus' text format.

        Args:
            model: Value of the `model_name` label.
            engines: The engines whose gauges are read.
        """
        labels = f'model_name="{model}"'
        usage = max((engine.kv_usage for engine in engines), default=0.0)
        gauges = {
            "vllm:num_requests_running": sum(engine.running for engine in engines),
            "vllm:num_requests_waiting": sum(engine.waiting for engine in engines),
            "vllm:kv_cache_usage_perc": usage,
        }
        counters = {
            "vllm:prompt_tokens_total": self.prompt_tokens,
            "vllm:generation_tokens_total": self.generated,
            "vllm:request_success_total": self.finished,
            "vllm:num_preemptions_total": self.preemptions,
        }
        rows = []
        for kind, family in (("gauge", gauges), ("counter", counters)):
            for name, value in family.items():
                rows += [f"# TYPE {name} {kind}", f"{name}{{{labels}}} {value}"]
        rows += self.time_to_first_token.lines("vllm:time_to_first_token_seconds", labels)
        rows += self.inter_token_latency.lines("vllm:inter_token_latency_seconds", labels)
        rows += self.end_to_end.lines("vllm:e2e_request_latency_seconds", labels)
        return "\n".join(rows) + "\n"
