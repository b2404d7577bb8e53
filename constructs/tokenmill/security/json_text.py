"""Documents as JSON in a template, such as a state machine's definition."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tokenmill.core._checks import is_token
from tokenmill.security.place import stack_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from constructs import IConstruct

# From here on JavaScript and Python write a number differently.
LEAST_PLAIN, MOST_PLAIN = 1e-4, 1e15


class _OnlyCdkKnows(Exception):
    """A document has a value that only CDK can write."""


def json_text(scope: IConstruct, document: Mapping[str, Any]) -> str:
    """Return a document as `Stack.to_json_string` writes it, members without a value left out.

    Where tokens stand in texts only, Python writes it: CDK would walk through its own at every one of its
    passes over the template.

    Args:
        scope: A construct of the stack.
        document: The document.
    """
    try:
        plain = _plain(document)
    except _OnlyCdkKnows:
        return stack_of(scope).to_json_string(dict(document))
    return json.dumps(plain, separators=(",", ":"), ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str) and "#{Token[" not in value or value is None or isinstance(value, int):
        return value
    if isinstance(value, float) and not is_token(value):
        if value.is_integer() and abs(value) < MOST_PLAIN:
            return int(value)
        if LEAST_PLAIN <= abs(value) < MOST_PLAIN:
            return value
    raise _OnlyCdkKnows
