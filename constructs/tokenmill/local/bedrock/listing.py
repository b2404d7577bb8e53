"""Ids and pages, as every List operation of Bedrock has them."""

from __future__ import annotations

import secrets
import string
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tokenmill.local.aws_requests import AwsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenmill.local.aws_requests import Params

_LOWER = string.ascii_lowercase + string.digits
_MIXED = string.ascii_uppercase + string.digits
PAGE = 100


def new_id(length: int = 12, *, upper: bool = False) -> str:
    """Return an id that nothing has.

    Args:
        length: Its characters.
        upper: Whether it has capital letters, as prompts do.
    """
    return "".join(secrets.choice(_MIXED if upper else _LOWER) for _ in range(length))


def now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


def page(name: str, entries: Sequence[Params], params: Params) -> Params:
    """Return one page of a listing.

    Args:
        name: Member that carries the entries.
        entries: All of them, in order.
        params: The request, with `maxResults` and `nextToken`.

    Raises:
        AwsError: The token is none of ours.
    """
    token = params.get("nextToken", "0")
    if not token.isdigit():
        raise AwsError("ValidationException", f"nextToken {token!r} is not valid")
    start, size = int(token), int(params.get("maxResults", PAGE))
    answer: Params = {name: list(entries[start : start + size])}
    if start + size < len(entries):
        answer["nextToken"] = str(start + size)
    return answer
