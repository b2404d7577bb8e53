"""Members of an API under capitalised names, as CloudFormation and Step Functions write them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.model import ListShape, MapShape, StructureShape

if TYPE_CHECKING:
    from collections.abc import Callable

    from botocore.model import Shape


def members_of(shape: Shape | None, value: Any) -> Any:
    """Return a value under the names of an API's members, which begin with a small letter.

    Args:
        shape: The API's shape.
        value: The value under names that begin with a capital letter; documents and maps keep their keys.
    """
    return _renamed(shape, value, lambda name: name[0].lower() + name[1:], known_after=True)


def capitalized(shape: Shape | None, value: Any) -> Any:
    """Return an API's members under names that begin with a capital letter.

    Args:
        shape: The API's shape.
        value: The members.
    """
    return _renamed(shape, value, lambda name: name[0].upper() + name[1:], known_after=False)


def _renamed(shape: Shape | None, value: Any, rename: Callable[[str], str], *, known_after: bool) -> Any:
    if isinstance(shape, StructureShape) and isinstance(value, dict) and not shape.is_document_type:
        made: dict[str, Any] = {}
        for name, item in value.items():
            other = rename(name)
            member = shape.members.get(other if known_after else name)
            made[other] = _renamed(member, item, rename, known_after=known_after)
        return made
    if isinstance(shape, ListShape) and isinstance(value, list):
        return [_renamed(shape.member, item, rename, known_after=known_after) for item in value]
    if isinstance(shape, MapShape) and isinstance(value, dict):
        return {
            key: _renamed(shape.value, item, rename, known_after=known_after) for key, item in value.items()
        }
    return value
