"""What value objects ask of their fields, with the field's name and value in every complaint."""

from __future__ import annotations

import math
import numbers
import operator

from tokenmill.core.errors import TokenmillError


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
        object.__setattr__(value, name, tuple(found))


def as_whole(value: object, *names: str) -> None:
    """Turn anything that counts, NumPy's whole numbers too, into an int; refuse the rest.

    Args:
        value: A frozen dataclass in its __post_init__.
        names: The fields.
    """
    for name in names:
        found = getattr(value, name)
        try:
            number = None if isinstance(found, bool) else operator.index(found)
        except TypeError:
            number = None
        if number is None:
            raise TokenmillError(f"{name} must be a whole number, got {found!r}")
        object.__setattr__(value, name, number)


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
