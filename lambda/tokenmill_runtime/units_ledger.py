"""The ledger of model units: what no template says and what outlives a stack.

Parameter Store holds, under a prefix, ``retained/<id>`` for units that stayed when their resource went, and
``declared/<owner and generation>`` for a resource whose commitment is still to be bought. A retained entry
has an alarm of its own, made through the API, because a stack would take it along.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tokenmill_runtime import aws, units_alarms
from tokenmill_runtime.units_plan import UnitsId

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    from tokenmill_runtime.custom_resource import Request
    from tokenmill_runtime.units_plan import Units, Wanted

PREFIX_VARIABLE: Final = "TOKENMILL_LEDGER_PREFIX"
PREFIX: Final = "/tokenmill/units"
RETAINED: Final = "retained"
DECLARED: Final = "declared"
HOURS_A_DAY: Final = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """The ledger of an account and region; without a prefix nothing is written.

    Args:
        prefix: Where entries stand in Parameter Store; empty for no ledger.
        client: Makes the client of Parameter Store.
    """

    prefix: str
    client: Callable[[], Any] = aws.ssm

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Ledger:
        """The ledger that the environment names."""
        return cls(prefix=environment.get(PREFIX_VARIABLE, "").rstrip("/"))

    def retained(self, units: Units, request: Request, reason: str, now: datetime) -> None:
        """Write units down that stay, and put an alarm on them."""
        if not self.prefix:
            return
        properties = request.properties
        hourly = float(properties.get("HourlyUsd") or 0) * units.units
        entry = {
            "arn": units.arn,
            "name": units.name,
            "model": units.model_arn,
            "units": units.units,
            "hourly_usd": round(hourly, 4),
            "daily_usd": round(hourly * HOURS_A_DAY, 2),
            "commitment": units.commitment or None,
            "expires": None if units.expires is None else units.expires.isoformat(),
            "reason": reason,
            "resource": units.resource,
            "stack": request.stack_id,
            "logical_id": request.logical_id,
            "since": now.isoformat(timespec="seconds"),
        }
        known = self._read(f"{RETAINED}/{units.id}")
        if known is not None:
            entry["since"] = known["since"]
        self._write(f"{RETAINED}/{units.id}", entry)
        units_alarms.make(units, entry, topic=str(properties.get("AlarmTopic", "")))

    def released(self, units: Units) -> None:
        """Strike units out that belong to a resource again, and take their alarm away."""
        if self.prefix and self._delete(f"{RETAINED}/{units.id}"):
            units_alarms.remove(units)

    def declare(self, wanted: Wanted, resource: str, units: Units) -> None:
        """Note a commitment that is declared and not bought, for `tokenmill jobs run commit-units`."""
        id = UnitsId.parse(resource)
        if not self.prefix or id is None:
            return
        if wanted.commitment == "NONE" or units.commitment:
            self._delete(f"{DECLARED}/{id.owner}{id.generation}")
            return
        self._write(
            f"{DECLARED}/{id.owner}{id.generation}",
            {
                "resource": resource,
                "stack": units.tags.get("tokenmill:stack", ""),
                "name": wanted.name,
                "model": wanted.model,
                "units": wanted.units,
                "commitment": wanted.commitment,
                "hourly_usd": wanted.hourly_usd,
                "handle": wanted.handle,
                "fallback": wanted.fallback,
                "tags": dict(wanted.tags),
                "arn": units.arn,
            },
        )

    def forget(self, resource: str) -> None:
        """Strike out what a resource declared."""
        id = UnitsId.parse(resource)
        found = (
            self._read(f"{DECLARED}/{id.owner}{id.generation}") if self.prefix and id is not None else None
        )
        if id is not None and found is not None and found.get("resource") == resource:
            self._delete(f"{DECLARED}/{id.owner}{id.generation}")

    def entries(self, kind: str) -> Iterator[dict[str, Any]]:
        """All entries of a kind, such as "retained"."""
        if not self.prefix:
            return
        pages = self.client().get_paginator("get_parameters_by_path")
        for page in pages.paginate(Path=f"{self.prefix}/{kind}", Recursive=True):
            for parameter in page["Parameters"]:
                yield json.loads(parameter["Value"])

    def _read(self, name: str) -> dict[str, Any] | None:
        client = self.client()
        try:
            text = client.get_parameter(Name=f"{self.prefix}/{name}")["Parameter"]["Value"]
        except client.exceptions.ParameterNotFound:
            return None
        found: dict[str, Any] = json.loads(text)
        return found

    def _write(self, name: str, entry: Mapping[str, Any]) -> None:
        self.client().put_parameter(
            Name=f"{self.prefix}/{name}",
            Value=json.dumps(entry, sort_keys=True),
            Type="String",
            Overwrite=True,
            Description="Model units of Amazon Bedrock; written by tokenmill",
        )

    def _delete(self, name: str) -> bool:
        client = self.client()
        try:
            client.delete_parameter(Name=f"{self.prefix}/{name}")
        except client.exceptions.ParameterNotFound:
            return False
        return True
