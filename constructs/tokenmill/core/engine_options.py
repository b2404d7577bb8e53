"""How a serving engine is told to run, as typed values that every image renders in its own words."""

from __future__ import annotations

from dataclasses import dataclass

from tokenmill.core._checks import as_whole, of_kind
from tokenmill.core.errors import TokenmillError
from tokenmill.core.model_formats import DTYPE_BYTES
from tokenmill.core.workload import AS_PUBLISHED, QUANTIZATIONS

DTYPES = tuple(DTYPE_BYTES)
MOST_SLOTS = 1024
MOST_KEPT = 100_000
MOST_DRAFTED = 64
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM keeps room for (vllm-project/vllm: vllm/config/lora.py, MaxLoRARanks)."""
SPECULATIVE_METHODS = ("ngram", "draft_model", "eagle", "eagle3", "mtp")
"""Methods of vLLM's speculative_config (vLLM documentation: "Speculative Decoding")."""
OWN_DRAFTS = ("ngram", "mtp")
"""Those that need no second model: prompts are looked up in, or the model has layers for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeculativeDraft:
    """How tokens are proposed that the model then checks in one step.

    What it gains is the workload's SpeculativeDecoding, which the planner counts with; this is what the
    server is told.

    Args:
        tokens: Tokens that are proposed a step, 1 to 64.
        method: "ngram", "draft_model", "eagle", "eagle3" or "mtp".
        model: The draft, by its name on the Hugging Face Hub or its folder in the container; None for
            "ngram" and "mtp", which have none.

    Raises:
        TokenmillError: A number out of range, an unknown method, or a draft where none belongs or none is.
    """

    tokens: int
    method: str = "draft_model"
    model: str | None = None

    def __post_init__(self) -> None:
        as_whole(self, "tokens")
        of_kind(self, "model", str)
        if not 1 <= self.tokens <= MOST_DRAFTED:
            raise TokenmillError(f"tokens must be 1 to {MOST_DRAFTED}, got {self.tokens}")
        if self.method not in SPECULATIVE_METHODS:
            raise TokenmillError(
                f"method must be one of {', '.join(SPECULATIVE_METHODS)}, got {self.method!r}"
            )
        if self.method in OWN_DRAFTS and self.model:
            raise TokenmillError(
                f"method {self.method} has no draft model, got {self.model!r}; leave model out"
            )
        if self.method not in OWN_DRAFTS and not self.model:
            raise TokenmillError(
                f"method {self.method} needs a draft model; give model, such as "
                "'yuhuili/EAGLE3-LLaMA3.1-Instruct-8B', or method ngram"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCalling:
    """How answers are read for tool calls and reasoning.

    Args:
        parser: vLLM's name of the tool-call parser, such as "hermes" or "llama3_json"; None for no calls.
        reasoning_parser: vLLM's name of the reasoning parser, such as "qwen3"; None for none.
        chat_template: Path in the container of a chat template; the model's own otherwise.

    Raises:
        TokenmillError: Nothing is asked for, or a field is an empty text.
    """

    parser: str | None = None
    reasoning_parser: str | None = None
    chat_template: str | None = None

    def __post_init__(self) -> None:
        given = []
        for name in ("parser", "reasoning_parser", "chat_template"):
            of_kind(self, name, str)
            value = getattr(self, name)
            if value is not None and not value.strip():
                raise TokenmillError(f"{name} is an empty text; name one, or leave it out")
            given.append(value)
        if not any(given):
            raise TokenmillError("tools ask for nothing; give parser, reasoning_parser or chat_template")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraSlots:
    """Room for adapters beside a model's weights.

    Args:
        max_adapters: Adapters that one batch may mix, 1 to 1,024; each slot keeps memory of every core.
        max_rank: Largest rank of an adapter; one of 1, 8, 16, 32, 64, 128, 256, 320 and 512.
        max_kept: Adapters that are kept at hand in host memory; as many as a batch may mix otherwise.

    Raises:
        TokenmillError: A number out of its range.
    """

    max_adapters: int
    max_rank: int = 16
    max_kept: int | None = None

    def __post_init__(self) -> None:
        as_whole(self, "max_adapters", "max_rank")
        if self.max_kept is not None:
            as_whole(self, "max_kept")
            if not self.max_adapters <= self.max_kept <= MOST_KEPT:
                raise TokenmillError(
                    f"max_kept must be max_adapters {self.max_adapters} or more and at most {MOST_KEPT:,}, "
                    f"got {self.max_kept}"
                )
        if not 1 <= self.max_adapters <= MOST_SLOTS:
            raise TokenmillError(f"max_adapters must be 1 to {MOST_SLOTS:,}, got {self.max_adapters}")
        if self.max_rank not in LORA_RANKS:
            raise TokenmillError(
                f"max_rank must be one of {', '.join(map(str, LORA_RANKS))}, got {self.max_rank}; round it up"
            )

    @property
    def loadable(self) -> int:
        """Adapters that a copy holds at a time, on its cores and at hand."""
        return self.max_kept or self.max_adapters


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """How the engine runs, beyond its shape; None leaves a choice to the image.

    Args:
        dtype: Element type that is computed in: "bfloat16", "float16" or "float32".
        quantization: "as-published", or the format that plain weights are converted to while loading.
        buckets: Prompt lengths that a compiling server compiles, in tokens, ascending.
        chunked_prefill: Whether long prompts are cut, so that decoding goes on between the pieces.
        prefix_caching: Whether prompts that begin alike share their prefill.
        speculative: Speculative decoding; None for none.
        tools: Parsers of tool calls and reasoning; None for none.
        lora: Room for adapters; None for none.

    Raises:
        TokenmillError: A value out of its range.
    """

    dtype: str | None = None
    quantization: str = AS_PUBLISHED
    buckets: tuple[int, ...] = ()
    chunked_prefill: bool | None = None
    prefix_caching: bool | None = None
    speculative: SpeculativeDraft | None = None
    tools: ToolCalling | None = None
    lora: LoraSlots | None = None

    def __post_init__(self) -> None:
        if self.dtype is not None and self.dtype not in DTYPES:
            raise TokenmillError(f"dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")
        if self.quantization not in QUANTIZATIONS:
            raise TokenmillError(
                f"quantization must be one of {', '.join(QUANTIZATIONS)}, got {self.quantization!r}"
            )
        if not isinstance(self.buckets, list | tuple) or any(
            type(size) is not int or size < 1 for size in self.buckets
        ):
            raise TokenmillError(
                f"buckets must be a tuple of whole numbers above 0, got {self.buckets!r:.80}"
            )
        object.__setattr__(self, "buckets", tuple(self.buckets))
        if list(self.buckets) != sorted(set(self.buckets)):
            raise TokenmillError(f"buckets must ascend without doubles, got {self.buckets!r:.80}")
        of_kind(self, "chunked_prefill", bool)
        of_kind(self, "prefix_caching", bool)
        of_kind(self, "speculative", SpeculativeDraft)
        of_kind(self, "tools", ToolCalling)
        of_kind(self, "lora", LoraSlots)
