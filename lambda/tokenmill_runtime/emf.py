"""CloudWatch embedded metric format lines, built from the metric contract and from nothing else."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from tokenmill_runtime.metric_contract import BY_NAME, NAMESPACE, TARGET_DIMENSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenmill_runtime.metric_contract import Publisher


def emf_line(
    values: Mapping[str, float], *, target: str, publisher: Publisher, timestamp: float, **properties: str
) -> str:
    """One log line that CloudWatch turns into these metrics of one target.

    ``timestamp`` is epoch seconds; ``properties`` are searchable in the log and are no dimensions. Form: AWS
    page "Specification: Embedded metric format" (Amazon CloudWatch User Guide).

    Raises ValueError for a name that the contract does not give to this publisher, a value that is not
    finite, an empty set of values or an empty target.
    """
    if not values:
        raise ValueError("an EMF line needs at least one metric, got none")
    if not target:
        raise ValueError("an EMF line needs a target, got an empty name")
    allowed = {name for name, metric in BY_NAME.items() if publisher in metric.publisher}
    metrics = []
    for name, value in values.items():
        if name not in allowed:
            raise ValueError(f"{publisher} may publish {', '.join(sorted(allowed))}, got {name!r}")
        if not math.isfinite(value):
            raise ValueError(f"metric {name} must be finite, got {value!r}")
        metric = BY_NAME[name]
        metrics.append({"Name": name, "Unit": metric.unit, "StorageResolution": metric.storage_resolution})
    directive = {"Namespace": NAMESPACE, "Dimensions": [[TARGET_DIMENSION]], "Metrics": metrics}
    document: dict[str, object] = {
        "_aws": {"Timestamp": int(timestamp * 1000), "CloudWatchMetrics": [directive]},
        **properties,
        TARGET_DIMENSION: target,
        **values,
    }
    return json.dumps(document, separators=(",", ":"))
