"""What a token costs on Amazon Bedrock: a dated table, and where a price of it holds."""

from __future__ import annotations

import datetime
import difflib
import functools
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tokenmill.core._tables import rows
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from collections.abc import Mapping

PRICE_MAX_AGE_DAYS = 180
DEFAULT_REGION = "us-east-1"
STANDARD = "standard"
TIERS = ("batch", "flex", "priority")
PARTS = ("input", "output", "cache_read", "cache_write")
OVERRIDE_KEYS = (*PARTS, *(f"{tier}_{part}" for tier in TIERS for part in PARTS))
WAY_OUT = "give --token-price input=USD,output=USD per million tokens"
# the table's cheapest price is 0.035, its dearest 137.5 USD a million tokens
SMALLEST_USD = 0.001
LARGEST_USD = 1000.0
# Amazon Bedrock User Guide: "Supported Regions and models for inference profiles"
GEOGRAPHIES: dict[str, tuple[str, ...]] = {
    "us": ("us-east-", "us-west-"),
    "eu": ("eu-",),
    "apac": ("ap-",),
    "au": ("ap-southeast-2", "ap-southeast-4", "ap-southeast-6"),
    "jp": ("ap-northeast-1", "ap-northeast-3"),
    "in": ("ap-south-",),
    "ca": ("ca-",),
    "us-gov": ("us-gov-",),
}
GLOBAL = "global"
NOT_COMMERCIAL = ("us-gov-", "cn-", "us-iso", "eu-iso", "eusc-")
ARN = re.compile(r"arn:[a-z-]+:bedrock:[^:]*:[^:]*:(foundation-model|inference-profile)/(.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPrice:
    """What a million tokens cost in one service tier, in US dollars.

    Args:
        input: Prompt tokens that no cache serves.
        output: Answer tokens.
        cache_read: Prompt tokens read from the prompt cache; None where the source has no such price.
        cache_write: Prompt tokens written to the cache for five minutes; None where the source has none.

    Raises:
        TokenmillError: A price is not a number from 0.001 to 1000.
    """

    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None

    def __post_init__(self) -> None:
        for name in PARTS:
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and SMALLEST_USD <= value <= LARGEST_USD):
                raise TokenmillError(
                    f"token price {name} is {value!r}; it must be US dollars per million tokens, "
                    f"{SMALLEST_USD:g} to {LARGEST_USD:g} (a price per thousand tokens times 1,000, a price "
                    "per token times 1,000,000)"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class BedrockPrice:
    """One row of the table.

    Args:
        model_id: Bedrock's id of the model or of the inference profile.
        scope: Region, or geography of a profile, that the price is for; empty where the source does not say.
        tiers: Prices by service tier: "standard", and "batch", "flex", "priority" where they are listed.
        long_prompt_tokens: Prompts longer than this cost more; None where the source lists no such price.
        max_input_tokens: Longest prompt, in tokens; None where the source does not say.
        max_output_tokens: Longest answer, likewise.
        end_of_life: Day that the model is withdrawn, as YYYY-MM-DD; empty where the source does not say.
        source: Where the price stands, or "given on the command line".
        source_date: Day that it stood there at the latest, as YYYY-MM-DD; empty for a price of the user's.
    """

    model_id: str
    scope: str
    tiers: dict[str, TokenPrice] = field(hash=False)
    long_prompt_tokens: int | None = None
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    end_of_life: str = ""
    source: str = "given on the command line"
    source_date: str = ""

    def stale(self, today: datetime.date) -> bool:
        """Return whether the price is older than 180 days.

        Args:
            today: The day to measure from.
        """
        if not self.source_date:
            return False
        return (today - datetime.date.fromisoformat(self.source_date)).days > PRICE_MAX_AGE_DAYS

    def ended(self, today: datetime.date) -> bool:
        """Return whether the model is withdrawn.

        Args:
            today: The day to compare with.
        """
        return bool(self.end_of_life) and self.end_of_life <= today.isoformat()


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """The answer to "what does this model cost here".

    Args:
        price: The row that holds in the region; None where none does.
        note: What a reader must know of it: why it is missing, or what the source leaves open; may be empty.
    """

    price: BedrockPrice | None
    note: str


def plain_id(model: str) -> str:
    """Return the model or profile id that an id or an ARN names.

    Args:
        model: A Bedrock id such as "us.amazon.nova-lite-v1:0", or the ARN of a model or a system profile.

    Raises:
        TokenmillError: An ARN of something else, which does not say what model is behind it.
    """
    if not model.startswith("arn:"):
        return model
    found = ARN.fullmatch(model)
    if found is None:
        raise TokenmillError(
            f"{model!r} does not say which model it runs; give a model id such as amazon.nova-lite-v1:0, "
            "or the ARN of a foundation model or of a system-defined inference profile"
        )
    return found[2]


def profile_of(model_id: str) -> str:
    """Return the geography of a cross-Region inference profile, or "" for a model of one region.

    Args:
        model_id: A Bedrock id.
    """
    first = model_id.split(".")[0]
    return first if first in GEOGRAPHIES or first == GLOBAL else ""


def in_geography(profile: str, region: str) -> bool:
    """Return whether a region may call a profile.

    Args:
        profile: "us", "eu", "global" and so on.
        region: AWS region.
    """
    if profile == GLOBAL:
        return not region.startswith(NOT_COMMERCIAL)
    return region.startswith(GEOGRAPHIES[profile])


@functools.cache
def bedrock_prices() -> dict[str, dict[str, BedrockPrice]]:
    """Return the table: rows by model id and by where they hold."""
    table: dict[str, dict[str, BedrockPrice]] = {}
    for row in rows("bedrock_prices.csv"):
        table.setdefault(row["model_id"], {})[row["scope"]] = _price(row)
    return table


def _price(row: Mapping[str, str]) -> BedrockPrice:
    tiers = {STANDARD: _tier(row, "")}
    tiers |= {tier: _tier(row, f"{tier}_") for tier in TIERS if row[f"{tier}_input"]}
    return BedrockPrice(
        model_id=row["model_id"],
        scope=row["scope"],
        tiers=tiers,
        long_prompt_tokens=_whole(row["long_prompt_tokens"]),
        max_input_tokens=_whole(row["max_input_tokens"]),
        max_output_tokens=_whole(row["max_output_tokens"]),
        end_of_life=row["end_of_life"],
        source=row["source"],
        source_date=row["source_date"],
    )


def _tier(row: Mapping[str, str], prefix: str) -> TokenPrice:
    read, write = row.get(f"{prefix}cache_read"), row.get(f"{prefix}cache_write")
    return TokenPrice(
        input=float(row[f"{prefix}input"]),
        output=float(row[f"{prefix}output"]),
        cache_read=float(read) if read else None,
        cache_write=float(write) if write else None,
    )


def _whole(text: str) -> int | None:
    return int(text) if text else None


def nearest_ids(model_id: str) -> tuple[str, ...]:
    """Return ids of the table that look like one that is not in it, at most three.

    Args:
        model_id: A Bedrock id.
    """
    table = bedrock_prices()
    near = difflib.get_close_matches(model_id, table, n=3, cutoff=0.5)
    name = model_id.split(".")[-1].split(":")[0]
    held = [key for key in table if len(name) > 3 and name in key]
    return tuple(dict.fromkeys([*near, *held]))[:3]


def bedrock_price(
    model: str, region: str, *, given: Mapping[str, float] | None = None, way_out: str = WAY_OUT
) -> Quote:
    """Return what a model costs in a region.

    A row is used only where its source says that it holds: in its region, or in the geography of its profile.
    A row whose source names no region is taken for us-east-1, with a note.

    Args:
        model: A Bedrock id, or the ARN of a model or a system-defined inference profile.
        region: AWS region that the requests start from; it decides the price ("Global cross-Region
            inference", Amazon Bedrock User Guide).
        given: Prices of your own by part, in US dollars per million tokens: "input", "output", "cache_read",
            "batch_input" and so on; they replace the table's row, and what they leave out is missing.
        way_out: How the caller takes a price of the user's, for messages.

    Raises:
        TokenmillError: The model is not in the table (the message names near ones), or a given price is not
            usable.
    """
    model_id = plain_id(model)
    rows = bedrock_prices().get(model_id, {})
    if given is not None:
        return _given(model_id, region, given, rows)
    if not rows:
        near = ", ".join(nearest_ids(model_id)) or "none"
        raise TokenmillError(
            f"no price of Bedrock model {model_id!r} is known; nearest known: {near}; or {way_out}"
        )
    return _listed(model_id, region, rows, way_out)


def _listed(model_id: str, region: str, rows: Mapping[str, BedrockPrice], way_out: str) -> Quote:
    profile = profile_of(model_id)
    if region in rows:
        return Quote(price=rows[region], note="")
    if profile and in_geography(profile, region):
        return Quote(price=rows[profile], note="")
    if region == DEFAULT_REGION and "" in rows:
        return Quote(
            price=rows[""],
            note=f"the source of {model_id}'s price names no region; it is taken for {DEFAULT_REGION}; check "
            f"it and {way_out}",
        )
    known = ", ".join(scope or "a region that its source does not name" for scope in rows)
    profiles = _profiles_for(model_id, region)
    other = f"inference profiles with a price there: {', '.join(profiles)}; " if profiles else ""
    return Quote(
        price=None,
        note=f"no price of {model_id} in {region} is known, and one of another region is never used (known: "
        f"{known}); {other}{way_out}",
    )


def _profiles_for(model_id: str, region: str) -> list[str]:
    table = bedrock_prices()
    return [
        f"{name}.{model_id}"
        for name in (*GEOGRAPHIES, GLOBAL)
        if f"{name}.{model_id}" in table and in_geography(name, region)
    ]


def _given(model_id: str, region: str, given: Mapping[str, float], rows: Mapping[str, BedrockPrice]) -> Quote:
    unknown = sorted(set(given) - set(OVERRIDE_KEYS))
    if unknown:
        raise TokenmillError(f"unknown token price {', '.join(unknown)}; allowed: {', '.join(OVERRIDE_KEYS)}")
    tiers = {}
    for tier, prefix in ((STANDARD, ""), *((tier, f"{tier}_") for tier in TIERS)):
        parts = {part: given[prefix + part] for part in PARTS if prefix + part in given}
        if not {"input", "output"} <= set(parts) and (parts or tier == STANDARD):
            raise TokenmillError(
                f"token price of the {tier} tier needs {prefix}input and {prefix}output, got "
                f"{', '.join(prefix + part for part in parts) or 'neither'}"
            )
        if parts:
            tiers[tier] = TokenPrice(**parts)
    known = rows.get(region) or next(iter(rows.values()), None)
    near = nearest_ids(model_id)
    unlisted = f"{model_id} is not in the price table" + (f" (nearest: {', '.join(near)})" if near else "")
    return Quote(
        price=BedrockPrice(
            model_id=model_id,
            scope=region,
            tiers=tiers,
            max_input_tokens=known.max_input_tokens if known else None,
            max_output_tokens=known.max_output_tokens if known else None,
            end_of_life=known.end_of_life if known else "",
        ),
        note="" if known else f"{unlisted}; only the price given is used",
    )


def longest_texts(model: str) -> tuple[int | None, int | None]:
    """Return a model's longest prompt and longest answer, in tokens; None where the source does not say.

    Args:
        model: A Bedrock id, or the ARN of a model or a system-defined inference profile.

    Raises:
        TokenmillError: An ARN of something else.
    """
    named, table = plain_id(model), bedrock_prices()
    # Not every profile has a price of its own, and its model's limits are the same everywhere.
    ids = (named, named.removeprefix(f"{profile_of(named)}."))
    rows = [row for each in ids for row in table.get(each, {}).values()]
    return (
        max((row.max_input_tokens for row in rows if row.max_input_tokens), default=None),
        max((row.max_output_tokens for row in rows if row.max_output_tokens), default=None),
    )


def bedrock_price_date() -> str:
    """Return the date of the newest row of the table."""
    return max(price.source_date for rows in bedrock_prices().values() for price in rows.values())
