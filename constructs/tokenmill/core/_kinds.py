"""Refuses what is of another kind, by its name, before anything is made of it.

A constructor of CDK says of such a value what Python or JavaScript says, after its parents were made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

from tokenmill.core._checks import known
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from enum import StrEnum

Item = TypeVar("Item")
# What a resource of CDK is told by: an attribute of its class, and how to say what is asked for.
KEY = ("key_arn", "a KMS key, such as kms.Key(…)")
TOPIC = ("topic_arn", "an SNS topic, such as sns.Topic(…)")
BUCKET = ("bucket_arn", "an S3 bucket, such as s3.Bucket(…)")
LOG_GROUP = ("log_group_arn", "a log group, such as logs.LogGroup(…)")


def choice(kind: type[StrEnum], /, **values: object) -> None:
    """Refuse what is no member of an enumeration, its text too: a member cannot be misspelt.

    Args:
        kind: The enumeration.
        values: Values by name.

    Raises:
        TokenmillError: One is none.
    """
    for name, found in values.items():
        if not isinstance(found, kind):
            allowed = ", ".join(f"{kind.__name__}.{item.name}" for item in kind)
            raise TokenmillError(f"{name} is {found!r:.80}; give one of {allowed}")


def flags(**values: object) -> None:
    """Refuse what is neither True nor False: "false" would count as true.

    Args:
        values: Values by name.

    Raises:
        TokenmillError: One is neither.
    """
    for name, found in values.items():
        if not isinstance(found, bool):
            raise TokenmillError(f"{name} is {found!r:.80}; give True or False")


def instance(kind: type, /, **values: object) -> None:
    """Refuse what is not of a class.

    Args:
        kind: The class.
        values: Values by name.

    Raises:
        TokenmillError: One is of another.
    """
    for name, found in values.items():
        if not isinstance(found, kind):
            raise TokenmillError(f"{name} is {found!r:.80}; give {_named(kind)}")


def instance_or_none(kind: type, /, **values: object) -> None:
    """Refuse what is neither None nor of a class.

    Args:
        kind: The class.
        values: Values by name.

    Raises:
        TokenmillError: One is neither.
    """
    for name, found in values.items():
        if found is not None and not isinstance(found, kind):
            raise TokenmillError(f"{name} is {found!r:.80}; give {_named(kind)} or None")


def members(name: str, found: object, *kinds: type[Item]) -> tuple[Item, ...]:
    """Return a list or a tuple as a tuple, each of whose items is of one of the classes.

    Args:
        name: What it is called in the complaint.
        found: What was given; one item alone is no list.
        kinds: The classes.

    Raises:
        TokenmillError: It is no list, or an item is of another class.
    """
    said = " or ".join("texts" if kind is str else kind.__name__ for kind in kinds)
    if not isinstance(found, list | tuple):
        raise TokenmillError(f"{name} is {found!r:.80}; give a list or a tuple of {said}")
    for item in found:
        if not isinstance(item, kinds):
            raise TokenmillError(f"{name} has {item!r:.80}; each item must be {_named(*kinds)}")
    return tuple(found)


def texts(name: str, found: object) -> tuple[str, ...]:
    """Return a list or a tuple of texts as a tuple; a text alone would be read letter by letter.

    Args:
        name: What it is called in the complaint.
        found: What was given.

    Raises:
        TokenmillError: It is no list of texts, or has one that is empty or that only a deployment knows.
    """
    made = members(name, found, str)
    for item in made:
        known(name, item)
        if not item.strip():
            raise TokenmillError(f"{name} has {item!r}; leave empty texts out")
    return made


def text_map(name: str, found: object, *, tokens: bool = False) -> dict[str, str]:
    """Return texts by text.

    Args:
        name: What it is called in the complaint.
        found: What was given.
        tokens: Whether values may be known to a deployment only.

    Raises:
        TokenmillError: It is no mapping of texts to texts.
    """
    if not isinstance(found, Mapping):
        raise TokenmillError(f'{name} is {found!r:.80}; give texts by name, such as {{"team": "search"}}')
    for key, value in found.items():
        known(f"{name}: a name", key)
        if not tokens:
            known(f"{name}[{key!r}]", value)
        if not isinstance(key, str) or not key.strip() or not isinstance(value, str):
            raise TokenmillError(
                f"{name} has {key!r:.60}: {value!r:.60}; names and values are texts, and no name is empty"
            )
    return dict(found)


def resource(what: tuple[str, str], /, **values: object) -> None:
    """Refuse what is neither None nor a resource of CDK of one kind, such as its name.

    Args:
        what: How it is told: `KEY`, `TOPIC`, `BUCKET` or `LOG_GROUP`.
        values: Values by name.

    Raises:
        TokenmillError: One is neither.
    """
    attribute, says = what
    for name, found in values.items():
        # What is imported may be a proxy whose class has nothing.
        if found is not None and not hasattr(type(found), attribute) and not hasattr(found, attribute):
            raise TokenmillError(f"{name} is {found!r:.80}; give {says}, or None")


def _named(*kinds: type) -> str:
    names = " or ".join("text" if kind is str else kind.__name__ for kind in kinds)
    return f"an {names}" if names[0] in "AEIO" else f"a {names}"
