"""Which of Bedrock's models a request is sent to: units behind a handle by weight, and what stands in.

A handle is an SSM parameter whose text is ``{"models": [{"id": arn, "units": n}], "fallback": id, "state":
"units" | "overflow"}``; who buys and gives back units writes it.
"""

from __future__ import annotations

import json
import random
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from tokenmill_runtime.aws import ssm_handles
from tokenmill_runtime.gateway.aws_errors import unavailable
from tokenmill_runtime.gateway.connection import connection_errors
from tokenmill_runtime.gateway.log import log_line, print_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenmill_runtime.clock import Clock
    from tokenmill_runtime.gateway_config import GatewayModel
    from tokenmill_runtime.gateway_options import BedrockUse

# A change of units reaches every process within this time, and a process asks SSM no more often.
HANDLE_SECONDS: Final = 15.0
OVERFLOW: Final = "overflow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One model to ask; ``overflow`` where it stands in for another."""

    id: str
    overflow: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Handle:
    """What a handle says: units by model, and what is asked without them."""

    models: tuple[tuple[str, float], ...]
    fallback: str | None


@dataclass(slots=True)
class _Known:
    """A handle as it was last read, and when; None where it never could be."""

    handle: Handle | None = None
    asked: float = float("-inf")


class Routes:
    """The models to try for a request, the wanted one first; keeps what it read of handles.

    ``draw`` gives numbers above 0 and up to 1.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        emit: Callable[[str], None] = print_line,
        draw: Callable[[], float] = lambda: 1.0 - random.random(),
    ) -> None:
        self._clock = clock
        self._emit = emit
        self._draw = draw
        self._known: dict[str, _Known] = {}
        self._reading = threading.Lock()

    def of(self, model: GatewayModel) -> list[Route]:
        """What to ask, in this order; blocks while a handle is read. Raises GatewayError for nothing."""
        use = model.bedrock
        if use is not None and use.prompt is not None:
            return [Route(id=use.prompt.arn)]
        wanted, fallback = self._wanted(model, use)
        routes = [Route(id=id) for id in wanted]
        if fallback is not None and fallback not in wanted:
            routes.append(Route(id=fallback, overflow=True))
        if not routes:
            raise unavailable(model.name, "the handle names no units and no fallback")
        return routes

    def forget(self, model: GatewayModel) -> None:
        """Read the handle again for the next request: units that it names are gone."""
        if model.bedrock is not None and model.bedrock.handle is not None:
            self._known.setdefault(model.bedrock.handle, _Known()).asked = float("-inf")

    def _wanted(self, model: GatewayModel, use: BedrockUse | None) -> tuple[list[str], str | None]:
        own = model.bedrock_model_id or ""
        if use is None:
            return [own], None
        handle = None if use.handle is None else self._handle(use.handle)
        if handle is None:
            return [own], use.fallback_id
        return self._by_weight(handle), handle.fallback or use.fallback_id

    def _by_weight(self, handle: Handle) -> list[str]:
        """Models in an order in which each is first as often as it has units (Efraimidis and Spirakis)."""
        drawn = sorted(((self._draw() ** (1 / units), id) for id, units in handle.models), reverse=True)
        return [id for _, id in drawn]

    def _handle(self, name: str) -> Handle | None:
        known = self._known.setdefault(name, _Known())
        with self._reading:
            now = self._clock.monotonic()
            if now - known.asked < HANDLE_SECONDS:
                return known.handle
            # Also after a failure: what stood there before is better than asking a service that is down.
            known.asked = now
            try:
                known.handle = read_handle(_parameter(name))
            except ValueError as error:
                self._emit(log_line("error", "the handle cannot be read", handle=name, detail=str(error)))
        return known.handle


def _parameter(name: str) -> str:
    """The text of a parameter; raises ValueError when it cannot be had."""
    try:
        text: str = ssm_handles().get_parameter(Name=name)["Parameter"]["Value"]
    except connection_errors() as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    return text


def read_handle(text: str) -> Handle:
    """Read a handle's document; raises ValueError for another form."""
    document = json.loads(text)
    models = document.get("models") if isinstance(document, dict) else None
    fallback = document.get("fallback") if isinstance(document, dict) else None
    if not isinstance(models, list) or not all(_is_unit(model) for model in models):
        raise ValueError('models must be a list of objects such as {"id": "arn:...", "units": 1}')
    if not isinstance(fallback, str | None):
        raise ValueError(f"fallback must be a text or null, got {fallback!r}")
    found = Handle(models=tuple((model["id"], model["units"]) for model in models), fallback=fallback or None)
    return replace(found, models=()) if document.get("state") == OVERFLOW and fallback else found


def _is_unit(model: Any) -> bool:
    if not isinstance(model, dict) or not isinstance(model.get("id"), str) or not model["id"]:
        return False
    units = model.get("units")
    return isinstance(units, int | float) and not isinstance(units, bool) and units > 0
