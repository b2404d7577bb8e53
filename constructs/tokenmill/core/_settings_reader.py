"""Checks one section of tokenmill.toml against what is allowed, collecting every complaint."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokenmill.core.batch_settings import BATCH, KINDS, BatchLoad
from tokenmill.core.bedrock_prices import OVERRIDE_KEYS
from tokenmill.core.errors import TokenmillError
from tokenmill.core.trace import read_trace
from tokenmill.core.workload import QUANTIZATIONS, Limits, Slo, SpeculativeDecoding, TokenSpread, Workload

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STACKS = ("chat", "rag", "batch")
BACKENDS = ("sagemaker", "bedrock", "auto")
BATCH_BACKENDS = ("auto", *KINDS)
PROFILES = ("dev", "prod")
COMPLIANCE_PACKS = ("AwsSolutions", "NIST80053R5", "HIPAASecurity", "PCIDSS321", "Serverless")
PROD_MIN_COPIES = 2
REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-\d")


@dataclass(frozen=True, slots=True)
class Kind:
    """What a key takes: how to say it, how to test it."""

    says: str
    holds: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


STRING = Kind("a text", lambda value: isinstance(value, str) and bool(value))
NUMBER = Kind("a number", _is_number)
WHOLE = Kind("a whole number", lambda value: type(value) is int)
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
STRINGS = Kind("a list of texts", _is_strings)
TABLE = Kind("a table", lambda value: isinstance(value, dict))
ONE_OF_BACKENDS = Kind(f"one of {', '.join(BACKENDS)}", lambda value: value in BACKENDS)
ONE_OF_PROFILES = Kind(f"one of {', '.join(PROFILES)}", lambda value: value in PROFILES)
A_REGION = Kind(
    "an AWS region such as us-east-1",
    lambda value: isinstance(value, str) and REGION.fullmatch(value) is not None,
)
PACKS = Kind(
    f"true, false, or a list of {', '.join(COMPLIANCE_PACKS)}",
    lambda value: (
        isinstance(value, bool) or (_is_strings(value) and all(item in COMPLIANCE_PACKS for item in value))
    ),
)

SECTION = {
    "model": STRING,
    "backend": ONE_OF_BACKENDS,
    "region": A_REGION,
    "traffic": TABLE,
    "slo": TABLE,
    "limits": TABLE,
    "advise": TABLE,
    "profile": ONE_OF_PROFILES,
    "compliance": PACKS,
}
BATCH_SECTION = {
    "model": STRING,
    "bedrock_model": STRING,
    "backend": Kind(f"one of {', '.join(BATCH_BACKENDS)}", lambda value: value in BATCH_BACKENDS),
    "region": A_REGION,
    "run": TABLE,
    "limits": TABLE,
    "profile": ONE_OF_PROFILES,
    "token_prices": TABLE,
}
RUN = {"records": WHOLE, "input_tokens": WHOLE, "output_tokens": WHOLE, "deadline_hours": NUMBER}
QUANTIZATION_NAMES = Kind(
    f"a list of {', '.join(QUANTIZATIONS)}",
    lambda value: _is_strings(value) and bool(value) and all(item in QUANTIZATIONS for item in value),
)
TRAFFIC = {
    "requests_per_second": NUMBER,
    "input_tokens": WHOLE,
    "input_tokens_p50": WHOLE,
    "input_tokens_p95": WHOLE,
    "output_tokens": WHOLE,
    "output_tokens_p50": WHOLE,
    "output_tokens_p95": WHOLE,
    "trace": STRING,
    "burstiness": NUMBER,
    "prefix_cache_share": NUMBER,
    "speculative": TABLE,
}
SPECULATIVE = {"tokens": WHOLE, "acceptance": NUMBER, "draft_cost": NUMBER}
LENGTHS = ("input", "output")
SLO = {"ttft_ms": NUMBER, "itl_ms": NUMBER, "percentile": NUMBER}
LIMITS = {
    "instances": STRINGS,
    "context_tokens": WHOLE,
    "max_instances": WHOLE,
    "min_copies": WHOLE,
    "target_utilization_percent": NUMBER,
    "max_sequences": WHOLE,
    "allow_unpriced": FLAG,
    "quantizations": QUANTIZATION_NAMES,
    "allow_experimental": FLAG,
}


def read_section(name: str, section: object, base: Path, problems: list[str]) -> dict[str, Any] | None:
    """Return the checked fields of a section, or None after adding what is wrong to the problems.

    Args:
        name: The section's name.
        section: What the TOML file holds there.
        base: Folder that the path of a trace starts from.
        problems: Complaints so far; new ones are added.
    """
    before = len(problems)
    if name not in STACKS:
        problems.append(f"unknown section [{name}]; {_nearest(name, STACKS)}")
        return None
    if not isinstance(section, dict):
        problems.append(f"{name} must be a section [{name}], got {section!r}")
        return None
    _check(name, section, SECTION, ("model", "region", "traffic", "slo"), problems)
    profile = section.get("profile", "dev")
    given = section.get("limits", {})
    least = {"min_copies": PROD_MIN_COPIES if profile == "prod" else 1}
    limits = least | given if isinstance(given, dict) else given
    workload = _traffic(f"{name}.traffic", section.get("traffic"), base, problems)
    slo = _value(Slo, f"{name}.slo", section.get("slo"), SLO, ("ttft_ms", "itl_ms"), problems)
    allowed = _value(Limits, f"{name}.limits", limits, LIMITS, (), problems)
    if len(problems) > before:
        return None
    compliance = section.get("compliance", False)
    return {
        "model": section["model"],
        "backend": section.get("backend", "sagemaker"),
        "region": section["region"],
        "workload": workload,
        "slo": slo,
        "limits": allowed,
        "profile": profile,
        "compliance": tuple(compliance) if isinstance(compliance, list) else compliance,
    }


def read_batch(section: object, problems: list[str]) -> dict[str, Any] | None:
    """Return the checked fields of the section [batch], or None after adding what is wrong to the problems.

    Args:
        section: What the TOML file holds there.
        problems: Complaints so far; new ones are added.
    """
    before = len(problems)
    if not isinstance(section, dict):
        problems.append(f"{BATCH} must be a section [{BATCH}], got {section!r}")
        return None
    _check(BATCH, section, BATCH_SECTION, ("region", "run"), problems)
    if not section.keys() & {"model", "bedrock_model"}:
        problems.append(
            f"missing key {BATCH}.model or {BATCH}.bedrock_model; give a model for SageMaker, a Bedrock id, "
            "or both to have them compared"
        )
    load = _value(BatchLoad, f"{BATCH}.run", section.get("run"), RUN, tuple(RUN), problems)
    allowed = _value(Limits, f"{BATCH}.limits", section.get("limits", {}), LIMITS, (), problems)
    prices = section.get("token_prices")
    if isinstance(prices, dict):
        _check(f"{BATCH}.token_prices", prices, dict.fromkeys(OVERRIDE_KEYS, NUMBER), (), problems)
    if len(problems) > before:
        return None
    return {
        "region": section["region"],
        "backend": section.get("backend", "auto"),
        "bedrock_model": section.get("bedrock_model"),
        "model": section.get("model"),
        "load": load,
        "limits": allowed,
        "profile": section.get("profile", "dev"),
        "token_prices": prices,
    }


def _check(
    where: str, table: dict[str, Any], kinds: dict[str, Kind], required: tuple[str, ...], problems: list[str]
) -> bool:
    before = len(problems)
    for key, value in table.items():
        if key not in kinds:
            problems.append(f"unknown key {where}.{key}; {_nearest(key, tuple(kinds))}")
        elif not kinds[key].holds(value):
            problems.append(f"{where}.{key} must be {kinds[key].says}, got {value!r}")
    for key in required:
        if key not in table:
            problems.append(f"missing key {where}.{key}; it must be {kinds[key].says}")
    return len(problems) == before


def _value(
    cls: Callable[..., Any],
    where: str,
    table: Any,
    kinds: dict[str, Kind],
    required: tuple[str, ...],
    problems: list[str],
) -> Any:
    if not isinstance(table, dict):
        return None
    if not _check(where, table, kinds, required, problems):
        return None
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    try:
        return cls(**fields)
    except TokenmillError as error:
        problems.append(f"{where}.{error}")
        return None


def _traffic(where: str, table: Any, base: Path, problems: list[str]) -> Workload | None:
    """The peak hour: of a trace, of the keys beside it, or of keys alone; a key wins over the trace."""
    if not isinstance(table, dict):
        return None
    before = len(problems)
    given = {key: table[key] for key in TRAFFIC.keys() & table.keys()}
    required = [] if "trace" in table else ["requests_per_second"]
    for side in LENGTHS:
        percentiles = {f"{side}_tokens_p50", f"{side}_tokens_p95"}
        present = percentiles & table.keys()
        if len(present) == 1:
            problems.append(f"{where}.{min(percentiles - present)} is missing; p50 and p95 go together")
        elif not present and "trace" not in table:
            required.append(f"{side}_tokens")
    _check(where, table, TRAFFIC, tuple(required), problems)
    draft = _value(
        SpeculativeDecoding,
        f"{where}.speculative",
        table.get("speculative"),
        SPECULATIVE,
        ("tokens", "acceptance"),
        problems,
    )
    if len(problems) > before:
        return None
    try:
        fields = _trace_fields(base / given["trace"]) if "trace" in given else {}
        for side in LENGTHS:
            fields |= _length_fields(side, given)
        plain = ("requests_per_second", "burstiness", "prefix_cache_share")
        fields |= {key: given[key] for key in plain if key in given}
        return Workload(**fields, speculative=draft)
    except TokenmillError as error:
        problems.append(f"{where}.{error}")
        return None


def _trace_fields(path: Path) -> dict[str, Any]:
    found = read_trace(path)
    return {
        "requests_per_second": found.requests_per_second,
        "input_tokens": found.input_tokens,
        "output_tokens": found.output_tokens,
        "input_spread": found.input_spread,
        "output_spread": found.output_spread,
        "burstiness": found.burstiness,
        "trace_digest": found.digest,
    }


def _length_fields(side: str, given: dict[str, Any]) -> dict[str, Any]:
    """Mean and spread of one side; two percentiles imply a mean where none is given."""
    fields: dict[str, Any] = {}
    if f"{side}_tokens_p95" in given:
        try:
            spread = TokenSpread.lognormal(p50=given[f"{side}_tokens_p50"], p95=given[f"{side}_tokens_p95"])
        except TokenmillError as error:
            raise TokenmillError(f"{side}_tokens_p50 and p95: {error}") from None
        fields = {f"{side}_spread": spread, f"{side}_tokens": spread.lognormal_mean}
    if f"{side}_tokens" in given:
        fields[f"{side}_tokens"] = given[f"{side}_tokens"]
    return fields


def _nearest(key: str, allowed: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(key, allowed, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{hint}allowed: {', '.join(allowed)}"
