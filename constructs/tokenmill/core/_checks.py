"""What value objects ask of their fields, with the field's name and value in every complaint."""

from __future__ import annotations

import math
import numbers
import operator
import struct
from typing import SupportsIndex

from tokenmill.core.errors import TokenmillError

# An object's key has 1,024 bytes, of which a folder leaves some to what stands in it.
LONGEST_FOLDER = 256
NUMBER_TOKEN = b"\xfb\xff"
TEXT_TOKENS = ("${Token[", "#{Token[")
"""How CDK writes what only a deployment knows as a number, a text or an item of a list (aws/aws-cdk:
packages/aws-cdk-lib/core/lib/private/encoding.ts)."""


def as_floats(value: object, *names: str) -> None:
    """Turn whole numbers into floats, so that 95 and 95.0 are one value with one digest.

    Args:
        value: A frozen dataclass in its __post_init__.
        names: The fields.
    """
    for name in names:
        object.__setattr__(value, name, float(getattr(value, name)))


def numeric(value: object, *names: str) -> None:
    """Refuse what is no number, so that comparing it cannot fail later.

    Args:
        value: A frozen dataclass in its __post_init__.
        names: The fields.
    """
    for name in names:
        found = getattr(value, name)
        known(name, found)
        if isinstance(found, bool) or not isinstance(found, numbers.Real):
            raise TokenmillError(f"{name} must be a number, got {found!r:.80}")


def of_kind(value: object, name: str, kind: type) -> None:
    """Refuse what is neither None nor of a class.

    Args:
        value: A dataclass instance.
        name: The field.
        kind: The class.
    """
    found = getattr(value, name)
    if found is not None and not isinstance(found, kind):
        raise TokenmillError(f"{name} must be a {kind.__name__} or None, got {found!r:.80}")


def as_texts(value: object, *names: str) -> None:
    """Turn lists of texts into tuples; a text alone would be read letter by letter.

    Args:
        value: A frozen dataclass in its __post_init__.
        names: The fields.
    """
    for name in names:
        found = getattr(value, name)
        texts = isinstance(found, list | tuple) and all(isinstance(item, str) for item in found)
        if not texts:
            raise TokenmillError(f'{name} must be a tuple of texts, such as ("ml.g6.*",), got {found!r:.80}')
        for item in found:
            known(name, item)
        object.__setattr__(value, name, tuple(found))


def as_whole(value: object, *names: str) -> None:
    """Turn anything that counts, NumPy's whole numbers too, into an int; refuse the rest.

    Args:
        value: A frozen dataclass in its __post_init__.
        names: The fields.
    """
    for name in names:
        object.__setattr__(value, name, whole(name, getattr(value, name)))


def as_whole_or_none(value: object, *names: str) -> None:
    """Do as `as_whole` with the fields that are given.

    Args:
        value: A frozen dataclass in its __post_init__.
        names: The fields.
    """
    as_whole(value, *(name for name in names if getattr(value, name) is not None))


def whole(name: str, found: object) -> int:
    """Return anything that counts as an int.

    Args:
        name: What it is called in the complaint.
        found: What was given.

    Raises:
        TokenmillError: It is no whole number, or one that only a deployment knows.
    """
    known(name, found)
    if isinstance(found, bool) or not isinstance(found, SupportsIndex):
        raise TokenmillError(f"{name} must be a whole number, got {found!r}")
    return operator.index(found)


def text(name: str, found: object) -> None:
    """Refuse what is no text, is empty, or is only known to a deployment.

    Args:
        name: What it is called in the complaint.
        found: What was given.

    Raises:
        TokenmillError: It is none.
    """
    known(name, found)
    if not isinstance(found, str) or not found.strip():
        raise TokenmillError(f"{name} must be a text that is not empty, got {found!r:.80}")


def plain_folder(found: object) -> bool:
    """Return whether it is a folder's name that a policy takes as it stands, without a slash at either end.

    A policy reads * and ? as any characters and $ as a variable; the last one is in CDK's tokens, too.

    Args:
        found: What was given.
    """
    if not isinstance(found, str) or not found.strip() or found != found.strip("/"):
        return False
    if len(found) > LONGEST_FOLDER or not found.isprintable():
        return False
    return not any(sign in found for sign in ("//", "*", "?", "$"))


def is_token(found: object) -> bool:
    """Return whether a number or a text stands for what only a deployment knows.

    The same as CDK's Token.is_unresolved, which would ask another process for it.

    Args:
        found: What was given.
    """
    if isinstance(found, float):
        return struct.pack(">d", found).startswith(NUMBER_TOKEN)
    return isinstance(found, str) and any(mark in found for mark in TEXT_TOKENS)


def known(name: str, found: object) -> None:
    """Refuse a number or a text that stands for what only a deployment knows.

    Args:
        name: What it is called in the complaint.
        found: What was given.

    Raises:
        TokenmillError: It is a token of CDK.
    """
    if is_token(found):
        raise TokenmillError(
            f"{name} is a value that only the deployment knows, but it is needed at synthesis; give it as a "
            "plain value, such as from the CDK context"
        )


def positive(**values: float) -> None:
    """Refuse what is not finite and above 0.

    Args:
        values: Numbers by name.
    """
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise TokenmillError(f"{name} must be above 0, got {value!r}")


def at_most(most: float, **values: float) -> None:
    """Refuse what is beyond anything that is meant.

    Args:
        most: The most that can be.
        values: Numbers by name.
    """
    for name, value in values.items():
        if value > most:
            raise TokenmillError(f"{name} must be at most {most:,.0f}, got {value!r}; check its unit")
