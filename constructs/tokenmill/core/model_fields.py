"""Reads fields of a config.json: every value is checked for kind and size before anything counts with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenmill.core.errors import TokenmillError

LARGEST_LAYERS = 1_000
LARGEST = 2**31
"""No published config comes near: the largest vocabularies have 2**18 entries, the longest contexts 2**24."""

SHOWN_CHARACTERS = 60


def shown(value: object) -> str:
    """Return a value as a message shows it: short, whatever it holds.

    Args:
        value: Anything that JSON can hold.
    """
    if isinstance(value, int) and value.bit_length() > 128:
        return f"a number of about {value.bit_length() * 3 // 10} digits"
    if isinstance(value, dict | list | tuple):
        kind = "object" if isinstance(value, dict) else "list"
        return f"{'an' if kind == 'object' else 'a'} {kind} of {len(value)}"
    text = repr(value[: SHOWN_CHARACTERS + 1] if isinstance(value, str) else value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


class Fields:
    """Fields of one JSON object; complaints name the field and the file.

    Args:
        config: The object.
        where: What is being read, for messages.
        defaults: Values of the family's configuration class for fields that published files leave out.
    """

    def __init__(self, config: Mapping[str, Any], where: str, defaults: Mapping[str, Any]) -> None:
        self.config = config
        self.where = where
        self.defaults = defaults
        self.labels: dict[str, str] = {}

    def override(self, **values: Any) -> None:
        """Let fields have other values than the file gives them.

        Args:
            values: Values by field.
        """
        self.config = {**self.config, **values}

    def rename(self, names: Mapping[str, str]) -> None:
        """Ask for some fields by the name that a family gives them.

        Args:
            names: For a name that this package asks for, the name in the file.
        """
        found = {name: self.config.get(theirs) for name, theirs in names.items()}
        taken = set(names.values())
        self.override(**{name: value for name, value in found.items() if value is not None or name in taken})
        self.labels = {
            name: theirs for name, theirs in names.items() if found[name] is not None or name in taken
        }

    def get(self, *names: str) -> Any:
        """Return the first value that is not null, else that of the defaults, else None.

        Args:
            names: Names that families give to the field.
        """
        for source in (self.config, self.defaults):
            for name in names:
                value = source.get(name)
                if value is not None:
                    return value
        return None

    def name(self, *names: str) -> str:
        """Return the name under which the field stands in the file.

        Args:
            names: Names that families give to the field.
        """
        name = next((name for name in names if self.config.get(name) is not None), names[0])
        return self.labels.get(name, name)

    def require(self, groups: list[tuple[str, ...]]) -> None:
        """Complain once about every field that is missing.

        Args:
            groups: The names of each field.

        Raises:
            TokenmillError: At least one has no value.
        """
        missing = [self.name(*group) for group in groups if self.get(*group) is None]
        if missing:
            noun = "field" if len(missing) == 1 else "fields"
            raise TokenmillError(f"missing {noun} {', '.join(missing)} in {self.where}")

    def number(self, *names: str, default: int | None = None, least: int = 1, most: int = LARGEST) -> int:
        """Return a whole number.

        Args:
            names: Names that families give to the field.
            default: Value where it is absent.
            least: Smallest value allowed.
            most: Largest value allowed.

        Raises:
            TokenmillError: Missing, not a whole number, or out of bounds.
        """
        value = self.get(*names)
        if value is None:
            if default is None:
                raise TokenmillError(f"missing field {self.name(*names)} in {self.where}")
            return default
        return self.checked(self.name(*names), value, least, most)

    def checked(self, name: str, value: object, least: int = 1, most: int = LARGEST) -> int:
        """Return a value that must be a whole number.

        Args:
            name: The field, for messages.
            value: What it holds.
            least: Smallest value allowed.
            most: Largest value allowed.

        Raises:
            TokenmillError: Not a whole number, or out of bounds.
        """
        if type(value) is not int or value < least:
            kind = "above 0" if least == 1 else f"of at least {least}"
            raise TokenmillError(f"{name} in {self.where} must be a whole number {kind}, got {shown(value)}")
        if value > most:
            raise TokenmillError(
                f"{name} in {self.where} must be at most {most:,}, got {shown(value)}; no model is that large"
            )
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a field that is true or false.

        Args:
            name: The field.
            default: Value where it is absent.

        Raises:
            TokenmillError: Neither true nor false.
        """
        value = self.get(name)
        if value is None:
            return default
        if type(value) is not bool:
            raise TokenmillError(f"{name} in {self.where} must be true or false, got {shown(value)}")
        return value

    def text(self, name: str, default: str = "") -> str:
        """Return a field that holds a text.

        Args:
            name: The field.
            default: Value where it is absent.

        Raises:
            TokenmillError: Not a text.
        """
        value = self.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise TokenmillError(f"{name} in {self.where} must be a text, got {shown(value)}")
        return value

    def items(self, name: str, length: int | None = None) -> list[Any] | None:
        """Return a field that holds a list, or None where it is absent.

        Args:
            name: The field.
            length: Entries it must have; None for any number.

        Raises:
            TokenmillError: Not a list, or of another length.
        """
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, list):
            raise TokenmillError(f"{name} in {self.where} must be a list, got {shown(value)}")
        if length is not None and len(value) != length:
            raise TokenmillError(
                f"{name} in {self.where} must have one entry for each of {length} layers, got {len(value)}"
            )
        return value

    def object(self, name: str) -> Fields | None:
        """Return the fields of a nested object, or None where it is absent.

        Args:
            name: The field.

        Raises:
            TokenmillError: Not an object.
        """
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise TokenmillError(f"{name} in {self.where} must be an object, got {shown(value)}")
        return Fields(value, f"{name} in {self.where}", {})
