"""Write core/data/model_unit_prices.csv from the price table of a LiteLLM release (MIT licence).

    python tools/model_unit_prices.py model_prices_and_context_window_backup.json "LiteLLM 1.109.1" 2026-11-11

LiteLLM states a unit's price a second, by region and commitment; units without commitment it does not list.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path
from typing import Any

OUT = Path(__file__).resolve().parents[1] / "constructs/tokenmill/core/data/model_unit_prices.csv"
KEY = re.compile(r"bedrock/(\*|[a-z0-9-]+)/([16])-month-commitment/(.+)")
TERMS = {"1": "ONE_MONTH", "6": "SIX_MONTHS"}
SECONDS_AN_HOUR = 3600
COLUMNS = ("model_id", "region", "commitment", "usd_per_hour", "source", "source_date")


def row_of(key: str, entry: dict[str, Any], label: str, date: str) -> dict[str, str] | None:
    """Return a row of the table, or None for what is no price of a model unit."""
    found = KEY.fullmatch(key)
    if found is None or "cost_per_second" not in entry:
        return None
    region, months, model_id = found.groups()
    usd = round(float(entry["cost_per_second"]) * SECONDS_AN_HOUR, 2)
    return {
        "model_id": model_id,
        "region": region,
        "commitment": TERMS[months],
        "usd_per_hour": f"{usd:g}",
        "source": f"{label}, a second's price times {SECONDS_AN_HOUR}",
        "source_date": date,
    }


def main() -> None:
    """Write the table."""
    path, label, date = sys.argv[1:]
    table = json.loads(Path(path).read_text(encoding="utf-8"))
    rows = [row for key, entry in table.items() if (row := row_of(key, entry, label, date))]
    with OUT.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: [row[name] for name in COLUMNS[:3]]))


if __name__ == "__main__":
    main()
