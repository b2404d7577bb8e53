"""Module names in a quantization_config: patterns of several tools, matched to the tensors counted here."""

from __future__ import annotations

import fnmatch
import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenmill.core.errors import TokenmillError
from tokenmill.core.model_fields import Fields, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

KEPT_FIELDS = (
    "modules_to_not_convert",
    "ignore",
    "ignored_layers",
    "exclude_modules",
    "llm_int8_skip_modules",
)
"""What transformers, compressed-tensors, Model Optimizer and bitsandbytes call modules kept plain."""
MOST_PATTERNS, LONGEST_PATTERN = 200, 200
ELSEWHERE = re.compile(r"vision|visual|audio|mtp|projector|draft", re.IGNORECASE)
"""Modules outside the text decoder."""
LAYER = re.compile(r"layers?\.(?:(\d{1,6})(?!\d)|\*)\.?(.*)", re.DOTALL)
FIRST_EXPERT = (".experts.0.", ".experts.*.")
"""The experts of a layer are alike: of lists with one entry for each, the first stands for all."""
OTHER_NAMES = {
    "attn": "self_attn",
    "attention": "self_attn",
    "block_sparse_moe": "mlp",
    "feed_forward": "mlp",
    "ffn": "mlp",
    "router": "gate",
    "shared_expert": "shared_experts",
    "w1": "gate_proj",
    "w2": "down_proj",
    "w3": "up_proj",
}
"""Names that checkpoints give to modules, and what they are called here."""
PART = re.compile(r"(\\\.|\.\*|\\d\+)")
PARTS = {"\\.": ".", ".*": "*", "\\d+": "*"}
WORD = re.compile(r"\w+")
GROUP = re.compile(r"\(([\w|]{1,100})\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Modules that are stored otherwise than the rest.

    Args:
        pattern: Name below the layer, or with wildcards; empty for whole layers.
        layers: The layers it holds for; None for all.
        bytes_each: Bytes of a weight; None for plain weights.
    """

    pattern: str
    layers: frozenset[int] | None
    bytes_each: float | None

    def matches(self, module: str) -> bool:
        """Return whether a module is meant.

        Args:
            module: Name below the layer, such as "self_attn.q_proj".
        """
        if "*" in self.pattern:
            return fnmatch.fnmatchcase(f"{module}.weight", self.pattern) or fnmatch.fnmatchcase(
                f"layers.{module}.weight", self.pattern
            )
        return not self.pattern or f".{self.pattern}." in f".{module}."

    def others(self, layers: Sequence[int]) -> Sequence[int]:
        """Return the layers that the rule does not hold for.

        Args:
            layers: Some layers.
        """
        return [] if self.layers is None else [layer for layer in layers if layer not in self.layers]


def kept_rules(fields: Fields) -> tuple[Rule, ...]:
    """Return the rules for modules that stay in plain weights.

    Args:
        fields: The quantization_config.

    Raises:
        TokenmillError: A list that holds something else than texts, or too many kinds of modules.
    """
    entries: list[tuple[str, float | None]] = []
    for field in KEPT_FIELDS:
        for name in fields.items(field) or []:
            if not isinstance(name, str):
                raise TokenmillError(f"{field} in {fields.where} must hold texts, got {shown(name)}")
            entries.append((name, None))
    return rules_of(entries, fields.where)


def rules_of(entries: Iterable[tuple[str, float | None]], where: str) -> tuple[Rule, ...]:
    """Return rules for module names, those of one kind in many layers as one.

    Args:
        entries: Names or patterns (`*` as in a shell, or "re:" and a regular expression), and bytes a weight.
        where: What is being read, for messages.

    Raises:
        TokenmillError: Too many kinds of modules.
    """
    found: dict[tuple[str, float | None], set[int] | None] = {}
    for text, bytes_each in entries:
        if ".experts." in text and not any(first in text for first in FIRST_EXPERT):
            continue
        for name in _plain_patterns(text):
            prefix, layer, rest = _split(name)
            if _elsewhere(prefix):
                continue
            key = (_our_name(rest), bytes_each)
            layers = found.setdefault(key, set())
            if layer is None:
                found[key] = None
            elif layers is not None:
                layers.add(layer)
        if len(found) > MOST_PATTERNS:
            raise TokenmillError(
                f"quantization_config in {where} names more than {MOST_PATTERNS} kinds of modules"
            )
    return tuple(
        Rule(pattern=pattern, layers=None if layers is None else frozenset(layers), bytes_each=bytes_each)
        for (pattern, bytes_each), layers in found.items()
    )


def _plain_patterns(text: str) -> list[str]:
    """A name or pattern with no other wildcard than `*`; alternatives of a regular expression one by one."""
    if len(text) > LONGEST_PATTERN:
        return []
    if not text.startswith("re:"):
        for first in FIRST_EXPERT:
            text = text.replace(first, ".experts.")
        return [text]
    # an escaped point is one, a bare one with a star is anything
    pattern = "".join(PARTS.get(part, part) for part in PART.split(text[3:].strip("^$")))
    group = GROUP.search(pattern)
    choices = group[1].split("|") if group else [""]
    patterns = [pattern.replace(group[0], choice, 1) if group else pattern for choice in choices]
    return [each if each.startswith("*") else f"*{each}*" for each in patterns]


@functools.lru_cache(maxsize=1024)
def _our_name(rest: str) -> str:
    return WORD.sub(lambda word: OTHER_NAMES.get(word[0], word[0]), rest)


@functools.lru_cache(maxsize=1024)
def _elsewhere(prefix: str) -> bool:
    return ELSEWHERE.search(prefix) is not None


def _split(name: str) -> tuple[str, int | None, str]:
    found = LAYER.search(name)
    if found is None:
        return name, None, name
    number, rest = found.groups()
    return (
        name[: found.start()],
        None if number is None else int(number),
        rest.strip(".") if rest != "*" else "",
    )
