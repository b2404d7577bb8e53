"""Write core/data/bedrock_prices.csv from the price table of a LiteLLM release (MIT licence).

    python tools/bedrock_prices.py model_prices_and_context_window_backup.json "LiteLLM 1.109.1" 2026-11-11

The date is the release's: LiteLLM does not say when it read a row, so a price is at least that old.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path
from typing import Any

OUT = Path(__file__).resolve().parents[1] / "constructs/tokenmill/core/data/bedrock_prices.csv"
PROVIDERS = ("bedrock", "bedrock_converse")  # bedrock_mantle is another endpoint with quotas of its own
REGIONAL = re.compile(r"bedrock/([a-z]{2}(?:-gov)?-[a-z]+-\d)/(.+)")
MODEL_ID = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+(:\d+)?")
PROFILES = ("us", "eu", "apac", "au", "jp", "in", "us-gov", "global")
STATED_REGION = re.compile(r"/offers/v1\.0/aws/[^/]+/current/([a-z0-9-]+)/")
LONG_PROMPT = re.compile(r"input_cost_per_token_above_(\d+)k_tokens")
TIERS = {"batch": "_batches", "flex": "_flex", "priority": "_priority"}
PARTS = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cache_read": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
}


def million(value: object) -> str:
    """Return the price of a million tokens, without the noise of binary fractions."""
    return f"{round(float(value) * 1e6, 6):g}" if isinstance(value, int | float) else ""


def scope_of(key: str, source: str) -> tuple[str, str] | None:
    """Return the model id and where its price holds: a region, a profile's geography, or "" if unsaid."""
    regional = REGIONAL.fullmatch(key)
    model_id = regional[2] if regional else key
    if not MODEL_ID.fullmatch(model_id):
        return None
    profile = model_id.split(".")[0]
    if regional:
        return model_id, regional[1]
    if profile in PROFILES:
        return model_id, profile
    stated = STATED_REGION.search(source)
    return model_id, stated[1] if stated else ""


def row_of(key: str, entry: dict[str, Any], label: str, date: str) -> dict[str, str] | None:
    """Return a row of the table, or None for what is no chat model of the runtime endpoint with a price."""
    cited = str(entry.get("source", ""))
    scope = scope_of(key, cited)
    if entry.get("mode") != "chat" or entry.get("litellm_provider") not in PROVIDERS or scope is None:
        return None
    if not entry.get("input_cost_per_token") or not entry.get("output_cost_per_token"):
        return None
    longs = [int(match[1]) * 1000 for name in entry if (match := LONG_PROMPT.fullmatch(name))]
    tiers = {
        f"{tier}_{part}": million(entry.get(name + suffix))
        for tier, suffix in TIERS.items()
        for part, name in PARTS.items()
    }
    return {
        "model_id": scope[0],
        "scope": scope[1],
        **{part: million(entry.get(name)) for part, name in PARTS.items()},
        "cache_write_1h": million(entry.get("cache_creation_input_token_cost_above_1hr")),
        **tiers,
        "long_prompt_tokens": str(min(longs)) if longs else "",
        "max_input_tokens": str(entry.get("max_input_tokens") or ""),
        "max_output_tokens": str(entry.get("max_output_tokens") or ""),
        "end_of_life": str(entry.get("deprecation_date") or ""),
        "source": f"{label}, citing {cited}" if cited else label,
        "source_date": date,
    }


def main() -> None:
    """Write the table."""
    path, label, date = sys.argv[1:]
    table = json.loads(Path(path).read_text(encoding="utf-8"))
    found = [row for key, entry in table.items() if (row := row_of(key, entry, label, date))]
    rows = {(row["model_id"], row["scope"]): row for row in found}
    used = [name for name in found[0] if any(row[name] for row in rows.values())]
    with OUT.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, used, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(row for _, row in sorted(rows.items()))


if __name__ == "__main__":
    main()
