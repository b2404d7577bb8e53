"""Reads the `[chat.advise]` table of tokenmill.toml, and flags that say the same."""

from __future__ import annotations

import difflib
import math
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokenmill.core.errors import SettingsError, TokenmillError
from tokenmill.planner.advise.need import Need, Traffic, UnitCapacity, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

TEXT, TEXTS, NUMBER, WHOLE, FLAG, NUMBERS = (
    "a text",
    "a list of texts",
    "a number",
    "a whole number",
    "true or false",
    "a table of numbers",
)
GROUPS: dict[str, dict[str, str]] = {
    "need": {
        "customization": TEXT,
        "control": TEXTS,
        "regions": TEXTS,
        "cross_region": TEXT,
        "operations": TEXT,
    },
    "traffic": {
        "shape": TEXT,
        "hours_per_month": NUMBER,
        "peak_factor": NUMBER,
        "scale_to_zero": FLAG,
        "deadline_hours": NUMBER,
    },
    "usage": {
        "cached_share": NUMBER,
        "cache_hits": NUMBER,
        "max_tokens": WHOLE,
        "quota_tpm": NUMBER,
        "burndown": NUMBER,
    },
    "": {"bedrock_model": TEXT, "open_model": TEXT, "unit": NUMBERS, "token_price": NUMBERS},
}
KEYS = {key: kind for group in GROUPS.values() for key, kind in group.items()}
UNIT_KEYS = ("input_tpm", "output_tpm", "usd_per_hour")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What the table and the flags say.

    Args:
        need: What must hold wherever the model runs.
        traffic: How requests spread over a month.
        usage: How requests use Bedrock.
        unit: What a unit of provisioned throughput delivers and costs; None where it is not said.
        token_price: Bedrock prices of the user's own; None where none are given.
        bedrock_model: Bedrock id; empty where the table names none.
        open_model: Path or catalog name of an open-weights model; empty where the table names none.
    """

    need: Need
    traffic: Traffic
    usage: Usage
    unit: UnitCapacity | None
    token_price: dict[str, float] | None
    bedrock_model: str
    open_model: str


def parse_file(path: Path) -> dict[str, Any]:
    """Return the settings file, parsed; an absent file is empty.

    Args:
        path: The file.

    Raises:
        TokenmillError: It is not text, or not TOML.
    """
    if not path.exists():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TokenmillError(f"settings file {path} is not TOML: {error}") from None


def flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a table's values by dotted key.

    Args:
        table: A parsed TOML table.
        prefix: What the keys start with.
    """
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def read_inputs(stack: str, table: object) -> Inputs:
    """Return what the table says, checked.

    Args:
        stack: Name of the section, for messages.
        table: The table, with flags merged into it.

    Raises:
        SettingsError: One line for every key that is unknown or wrong.
    """
    where = f"{stack}.advise"
    if not isinstance(table, dict):
        raise SettingsError([f"{where} must be a table [{where}], got {table!r}"])
    problems = [problem for key, value in table.items() for problem in _problems(where, key, value)]
    if problems:
        raise SettingsError(problems)
    makers: dict[str, Callable[..., Any]] = {"need": Need, "traffic": Traffic, "usage": Usage}
    made = {}
    for group, make in makers.items():
        fields = {key: _frozen(table[key]) for key in GROUPS[group] if key in table}
        made[group] = _made(make, fields, where, problems)
    unit = _made(UnitCapacity, table["unit"], where, problems) if "unit" in table else None
    if problems:
        raise SettingsError(problems)
    prices = table.get("token_price")
    return Inputs(
        **made,
        unit=unit,
        token_price=None if prices is None else {key: float(usd) for key, usd in prices.items()},
        bedrock_model=table.get("bedrock_model", ""),
        open_model=table.get("open_model", ""),
    )


def _problems(where: str, key: str, value: object) -> list[str]:
    if key not in KEYS:
        near = difflib.get_close_matches(key, KEYS, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]}? " if near else ""
        return [f"unknown key {where}.{key}; {hint}allowed: {', '.join(KEYS)}"]
    if not _holds(KEYS[key], value):
        return [f"{where}.{key} must be {KEYS[key]}, got {value!r}"]
    if key == "unit" and isinstance(value, dict) and set(value) != set(UNIT_KEYS):
        return [f"{where}.unit must have {', '.join(UNIT_KEYS)}, got {', '.join(value) or 'nothing'}"]
    return []


def _holds(kind: str, value: object) -> bool:
    if kind == TEXT:
        return isinstance(value, str) and bool(value)
    if kind == TEXTS:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if kind == FLAG:
        return isinstance(value, bool)
    if kind == WHOLE:
        return type(value) is int
    if kind == NUMBERS:
        return isinstance(value, dict) and all(_holds(NUMBER, item) for item in value.values())
    return isinstance(value, int | float) and not isinstance(value, bool)


def _frozen(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _made(make: Callable[..., Any], fields: Mapping[str, Any], where: str, problems: list[str]) -> Any:
    try:
        return make(**fields)
    except TokenmillError as error:
        problems.append(f"{where}: {error}")
        return None


def numbers(flag: str, text: str) -> dict[str, float]:
    """Return the numbers of a flag such as "input=0.25,output=1.25".

    Args:
        flag: Its name, for messages.
        text: What was given.

    Raises:
        TokenmillError: It is not a list of NAME=NUMBER.
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            found[name.strip()] = math.nan
    if any(not math.isfinite(value) for value in found.values()):
        raise TokenmillError(f"{flag} must be NAME=NUMBER, separated by commas, got {text!r}")
    return found
