"""What goes wrong on request: launches without capacity, images that fail, answers that come late."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from collections.abc import Mapping

FORM = (
    'faults takes {"account": "...", "region": "..."} and at least one of '
    '"insufficient_capacity": ["INSTANCE TYPE"], "unhealthy_images": ["IMAGE"], "failing_images": ["IMAGE"], '
    '"latency_ms": {"ENDPOINT OR COMPONENT": NUMBER}; an empty list or object ends a fault'
)
_LISTS = ("insufficient_capacity", "unhealthy_images", "failing_images")


@dataclass(slots=True, kw_only=True)
class Faults:
    """The faults of one account in one region.

    Args:
        insufficient_capacity: Instance types that cannot be launched.
        unhealthy_images: Images, whole or a part of their URI, whose health check fails.
        failing_images: Images, whole or a part of their URI, that answer every request with 500.
        latency_ms: Milliseconds that an endpoint's or a component's answers come late.
    """

    insufficient_capacity: frozenset[str] = frozenset()
    unhealthy_images: frozenset[str] = frozenset()
    failing_images: frozenset[str] = frozenset()
    latency_ms: dict[str, float] = field(default_factory=dict)

    def unhealthy(self, image: str) -> bool:
        """Whether an image's health check fails.

        Args:
            image: Its URI.
        """
        return any(part in image for part in self.unhealthy_images)

    def failing(self, image: str) -> bool:
        """Whether an image answers every request with 500.

        Args:
            image: Its URI.
        """
        return any(part in image for part in self.failing_images)

    def inject(self, request: Mapping[str, Any]) -> None:
        """Take the faults of a request; those that it does not name stay.

        Args:
            request: The admin call's body.

        Raises:
            TokenmillError: It has another form.
        """
        given = [name for name in (*_LISTS, "latency_ms") if name in request]
        unknown = set(request) - {"account", "region", *given}
        lists = all(_is_list_of_names(request[name]) for name in given if name != "latency_ms")
        if not given or unknown or not lists or not _is_latency(request.get("latency_ms", {})):
            raise TokenmillError(FORM)
        for name in given:
            value = request[name]
            setattr(self, name, dict(value) if name == "latency_ms" else frozenset(value))


def _is_list_of_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) and item for item in value)


def _is_latency(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(ms, int | float) and not isinstance(ms, bool) and ms >= 0 for ms in value.values()
    )
