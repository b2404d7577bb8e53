"""Metrics out of log lines in CloudWatch's embedded metric format.

Source: Amazon CloudWatch User Guide, "Specification: Embedded metric format".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MAX_DIMENSIONS = 30
_MAX_VALUES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Datum:
    """One metric of one log line, in one set of dimensions."""

    namespace: str
    name: str
    dimensions: Mapping[str, str]
    timestamp: float
    unit: str
    values: tuple[float, ...]


def metrics_of(line: str) -> Iterator[Datum]:
    """Yield the metrics that a log line declares; a line that is not in the format has none.

    Args:
        line: One log event's message.
    """
    if '"_aws"' not in line:
        return
    start = line.find("{")
    try:
        document = json.loads(line[start:])
    except ValueError:
        return
    metadata = document.get("_aws") if isinstance(document, dict) else None
    if not isinstance(metadata, dict):
        return
    timestamp = metadata.get("Timestamp")
    if not isinstance(timestamp, int | float):
        return
    for directive in metadata.get("CloudWatchMetrics") or []:
        yield from _directive(document, directive, timestamp / 1000)


def _directive(
    document: Mapping[str, Any], directive: Mapping[str, Any], timestamp: float
) -> Iterator[Datum]:
    namespace = directive.get("Namespace")
    if not namespace:
        return
    for names in directive.get("Dimensions") or [[]]:
        dimensions = {name: str(document[name]) for name in names if name in document}
        if len(dimensions) < len(names) or len(names) > _MAX_DIMENSIONS:
            continue
        for metric in directive.get("Metrics") or []:
            values = _numbers(document.get(metric.get("Name")))
            if values:
                yield Datum(
                    namespace=namespace,
                    name=metric["Name"],
                    dimensions=dimensions,
                    timestamp=timestamp,
                    unit=metric.get("Unit", "None"),
                    values=values,
                )


def _numbers(value: object) -> tuple[float, ...]:
    values = value if isinstance(value, list) else [value]
    numbers = [float(n) for n in values if isinstance(n, int | float) and not isinstance(n, bool)]
    return tuple(numbers) if len(numbers) == len(values) <= _MAX_VALUES else ()
