"""The handle that callers read: which units there are now, and what stands in for them.

An SSM parameter whose text is ``{"models": [{"id": ARN, "units": n}], "fallback": model or null, "state":
"units" or "overflow", "resource": physical id}``. Callers weigh models by units.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokenmill_runtime import aws

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from tokenmill_runtime.units_plan import Units, Wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Handles:
    """Handles in Parameter Store; a resource without one has nothing written.

    Args:
        client: Makes the client of Parameter Store.
    """

    client: Callable[[], Any] = aws.ssm

    def write(self, wanted: Wanted, resource: str, units: Sequence[Units]) -> None:
        """Say which units serve; none of them is the fallback."""
        if wanted.handle:
            self._put(wanted.handle, document(resource, units, wanted.fallback))

    def without(
        self, properties: Mapping[str, Any], resource: str, gone: Collection[str], others: Sequence[Units]
    ) -> None:
        """Take units away, and the parameter with the resource that it was written for last.

        Where that resource has other units, as after a rollback, callers go on with those.
        """
        name = str(properties.get("Handle", ""))
        found = self.read(name) if name else None
        if found is None:
            return
        if found.get("resource") == resource:
            if others:
                self._put(name, document(others[0].resource, others, str(properties.get("Fallback", ""))))
            else:
                self._delete(name)
            return
        left = [model for model in found.get("models", ()) if model["id"] not in gone]
        if left != found.get("models"):
            self._put(name, {**found, "models": left, "state": "units" if left else "overflow"})

    def refresh(self, wanted: Wanted, resource: str, units: Sequence[Units]) -> None:
        """Say which units serve, unless a deployment has written the handle for another resource since."""
        found = self.read(wanted.handle) if wanted.handle else None
        if found is None or found.get("resource") == resource:
            self.write(wanted, resource, units)

    def read(self, name: str) -> dict[str, Any] | None:
        """A handle's document; None where there is none."""
        client = self.client()
        try:
            text = client.get_parameter(Name=name)["Parameter"]["Value"]
        except client.exceptions.ParameterNotFound:
            return None
        found = json.loads(text)
        return found if isinstance(found, dict) else {}

    def _delete(self, name: str) -> None:
        client = self.client()
        # An earlier attempt may have done it, and its answer be lost.
        with contextlib.suppress(client.exceptions.ParameterNotFound):
            client.delete_parameter(Name=name)

    def _put(self, name: str, content: Mapping[str, Any]) -> None:
        text = json.dumps(content, separators=(",", ":"), sort_keys=True)
        self.client().put_parameter(
            Name=name,
            Value=text,
            Type="String",
            Overwrite=True,
            Description="Which Bedrock model callers use now; written by tokenmill",
        )


def document(resource: str, units: Sequence[Units], fallback: str) -> dict[str, Any]:
    """The handle's document."""
    return {
        "models": [{"id": each.arn, "units": each.units} for each in units],
        "fallback": fallback or None,
        "state": "units" if units else "overflow",
        "resource": resource,
    }
