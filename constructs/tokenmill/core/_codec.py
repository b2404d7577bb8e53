"""Dataclasses to JSON documents and back, with the path of the field in every complaint."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import types
import typing
from typing import TYPE_CHECKING, Any, TypeVar

from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")
SCALARS = {bool: "true or false", float: "a number", int: "a whole number", str: "a text"}


def encode(value: object) -> Any:
    """Return the JSON-safe form of a value made of dataclasses, tuples, mappings and scalars.

    Args:
        value: A dataclass instance, a container of them, or a scalar.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = (field.name for field in dataclasses.fields(value))
        return {name: encode(getattr(value, name)) for name in fields}
    if isinstance(value, dict):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    return value


def decode(cls: type[T], document: object, where: str, nested: Iterable[type] = ()) -> T:
    """Return the dataclass that `encode` wrote.

    Args:
        cls: The dataclass to make.
        document: What `json.loads` returned.
        where: What is being read, for messages: "plan file chat.plan.json".
        nested: Dataclasses of other modules that its fields hold.

    Raises:
        TokenmillError: A field is missing, unknown or of another type; the message names its path.
    """
    names = {kind.__name__: kind for kind in nested}
    return typing.cast("T", _Decoder(names).value(cls, document, where))


class _Decoder:
    """Follows type hints; `names` resolves those of dataclasses from other modules."""

    def __init__(self, names: dict[str, type]) -> None:
        self.names = names

    def value(self, kind: Any, value: Any, where: str) -> Any:
        origin = typing.get_origin(kind)
        if origin is typing.Union or origin is types.UnionType:
            (present,) = (arg for arg in typing.get_args(kind) if arg is not type(None))
            return None if value is None else self.value(present, value, where)
        if dataclasses.is_dataclass(kind):
            return self.dataclass(kind, value, where)
        if origin is tuple:
            _require(isinstance(value, list), "a list", value, where)
            item = typing.get_args(kind)[0]
            return tuple(self.value(item, found, f"{where}[{n}]") for n, found in enumerate(value))
        if origin is dict:
            _require(isinstance(value, dict), "an object", value, where)
            item = typing.get_args(kind)[1]
            return {key: self.value(item, found, f"{where}.{key}") for key, found in value.items()}
        return _scalar(kind, value, where)

    def dataclass(self, cls: Any, value: Any, where: str) -> Any:
        _require(isinstance(value, dict), "an object", value, where)
        hints = typing.get_type_hints(cls, localns=self.names)
        fields = {field.name: field for field in dataclasses.fields(cls)}
        unknown = sorted(set(value) - set(fields))
        if unknown:
            raise TokenmillError(f"{where} has unknown fields {', '.join(unknown)}; write it again")
        missing = [
            name
            for name, field in fields.items()
            if field.default is dataclasses.MISSING
            and field.default_factory is dataclasses.MISSING
            and name not in value
        ]
        if missing:
            raise TokenmillError(f"{where} lacks {', '.join(missing)}; write it again")
        values = {name: self.value(hints[name], item, f"{where}.{name}") for name, item in value.items()}
        try:
            return cls(**values)
        except ValueError as error:
            raise TokenmillError(f"{where}: {error}; write it again") from None


def _scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is float and type(value) is int:
        return float(value)
    _require(type(value) is kind, SCALARS[kind], value, where)
    return value


def _require(holds: bool, expected: str, value: object, where: str) -> None:
    if not holds:
        raise TokenmillError(f"{where} must be {expected}, got {value!r}; write it again")


def canonical(document: object) -> str:
    """Return one text for one document: keys sorted, no spaces, no NaN.

    Args:
        document: Anything `json` can write.
    """
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(document: object) -> str:
    """Return the SHA-256 of the canonical text, in hexadecimal.

    Args:
        document: Anything `json` can write.
    """
    return hashlib.sha256(canonical(document).encode()).hexdigest()
