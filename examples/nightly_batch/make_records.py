"""Make the records of a night: support tickets to be sorted, one request a line, the same for the same seed.

Run it with `python make_records.py 100000 records.jsonl`, and upload the file to input/ in the bucket.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SEED = 20261122
INSTRUCTION = "Answer with one word: billing, delivery, defect or other."
PRODUCTS = ("kettle", "lamp", "backpack", "headset", "keyboard", "tent", "drill", "monitor")
PROBLEMS = (
    "was charged twice for order {order}",
    "arrived {days} days late and the box was open",
    "stopped working after {days} days",
    "came in the wrong colour, although order {order} says otherwise",
    "is fine, but I would like an invoice for order {order}",
)
MOODS = ("Please help.", "This is the second time I ask.", "No hurry.", "I need it by Monday.")


def records(count: int) -> Iterator[dict[str, object]]:
    """Yield records in the form of OpenAI's batch files.

    Args:
        count: How many.
    """
    chance = random.Random(SEED)
    for number in range(count):
        problem = chance.choice(PROBLEMS).format(order=chance.randrange(10**6), days=chance.randrange(2, 90))
        ticket = f"My {chance.choice(PRODUCTS)} {problem}. {chance.choice(MOODS)}"
        messages = [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": ticket}]
        yield {"custom_id": f"ticket-{number:06d}", "body": {"messages": messages, "max_tokens": 24}}


def main(arguments: list[str]) -> None:
    """Write the records to a file.

    Args:
        arguments: How many, and the file.
    """
    count, path = int(arguments[0]), Path(arguments[1])
    with path.open("w", encoding="utf-8") as lines:
        for record in records(count):
            lines.write(json.dumps(record, separators=(",", ":")) + "\n")
    sys.stdout.write(f"wrote {count} records to {path}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
