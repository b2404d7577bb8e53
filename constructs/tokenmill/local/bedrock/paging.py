"""Lists in pages."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tokenmill.local.aws_requests import AwsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenmill.local.aws_requests import Params

MOST_RESULTS = 1000


def page(items: Sequence[Params], params: Params) -> tuple[list[Params], str | None]:
    """Return the page that a request asks for and the token of the next one.

    Args:
        items: Everything that the request chooses.
        params: Its members, with maxResults and nextToken.

    Raises:
        AwsError: The token is none that this service gave.
    """
    token = params.get("nextToken", "0")
    if not token.isdecimal() or int(token) > len(items):
        raise AwsError("ValidationException", "The provided pagination token is invalid.")
    start = int(token)
    end = start + params.get("maxResults", MOST_RESULTS)
    return list(items[start:end]), str(end) if end < len(items) else None


def moment_of(given: datetime) -> datetime:
    """Return a time of a request with its time zone; one without is UTC.

    Args:
        given: The time.
    """
    return given if given.tzinfo is not None else given.replace(tzinfo=UTC)
