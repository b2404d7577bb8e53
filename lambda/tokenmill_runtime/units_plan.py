"""What model units are called, whose they are, and what is to be done with them: pure values and decisions.

A resource has three parts to its name. Its *owner* follows from the stack and the logical id; its
*generation* from what cannot change in place (model, units: "UpdateProvisionedModelThroughput", Amazon
Bedrock API Reference); its *birth* from the request that first asked for it. The physical id holds all three.
The provisioned model's name holds owner and generation only, so that the service, which takes a name once in
an account and region, refuses to sell the same thing twice.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from tokenmill_runtime.custom_resource import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from tokenmill_runtime.custom_resource import Request

RESOURCE_TYPE: Final = "Custom::TokenmillProvisionedThroughput"

STACK_TAG: Final = "tokenmill:stack"
RESOURCE_TAG: Final = "tokenmill:resource"
UNITS_TAG: Final = "tokenmill:units"
RETAINED_TAG: Final = "tokenmill:retained"
OWN_TAGS: Final = "tokenmill:"

BASE: Final = ""
COMMITTED: Final = "c"
SCHEDULED: Final = "s"
EXTRA: Final = "x"

Commitment = Literal["NONE", "ONE_MONTH", "SIX_MONTHS"]
# botocore, bedrock: CommitmentDuration; nothing is written for a purchase without one.
COMMITMENTS: Final[Mapping[str, str]] = {"NONE": "", "ONE_MONTH": "OneMonth", "SIX_MONTHS": "SixMonths"}
REPLACEMENTS: Final = ("REFUSE", "MAKE_BEFORE_BREAK", "BREAK_BEFORE_MAKE")

LONGEST_PREFIX: Final = 40
LONGEST_MODEL: Final = 2048
MOST_TAGS: Final = 45
OWNER_DIGITS: Final = 12
GENERATION_DIGITS: Final = 6
BIRTH_DIGITS: Final = 8

# botocore, bedrock: ProvisionedModelName, TagKey, TagValue.
_PREFIX: Final = re.compile(r"[0-9a-zA-Z](?:[_-]?[0-9a-zA-Z])*")
_TAG: Final = re.compile(r"[a-zA-Z0-9\s._:/=+@-]*")
_ID: Final = re.compile(
    rf"(?P<logical>.+)-(?P<owner>[0-9a-f]{{{OWNER_DIGITS}}})-(?P<generation>[0-9a-f]{{{GENERATION_DIGITS}}})"
    rf"-(?P<birth>[0-9a-f]{{{BIRTH_DIGITS}}})"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitsId:
    """A physical id of units."""

    logical: str
    owner: str
    generation: str
    birth: str

    def __str__(self) -> str:
        return f"{self.logical}-{self.owner}-{self.generation}-{self.birth}"

    @classmethod
    def parse(cls, text: str | None) -> UnitsId | None:
        """Read a physical id; None for one that is not of units."""
        found = _ID.fullmatch(text or "")
        return None if found is None else cls(**found.groupdict())


def owner_of(request: Request) -> str:
    """The owner of a request's units."""
    return _digits(OWNER_DIGITS, request.stack_id, request.logical_id)


def id_for(request: Request, generation: str) -> UnitsId:
    """The physical id of units that a request asks for first."""
    return UnitsId(
        logical=request.logical_id[:80],
        owner=owner_of(request),
        generation=generation,
        birth=_digits(BIRTH_DIGITS, request.request_id),
    )


def generation_of(properties: Mapping[str, Any]) -> str:
    """What of properties cannot change in place, in short; properties that nobody could read have one too."""
    parts = [str(properties.get("ModelId", "")), str(properties.get("ModelUnits", ""))]
    if str(properties.get("Scheduled", "")).lower() == "true":
        parts.append("scheduled")
    return _digits(GENERATION_DIGITS, *parts)


def prefixes_of(*properties: Mapping[str, Any]) -> tuple[str, ...]:
    """The beginnings that names may have, after properties of now and of before; none that cannot be."""
    names = [str(each.get("Name", "")) for each in properties]
    return tuple(dict.fromkeys(name for name in names if is_prefix(name)))


def is_prefix(name: str) -> bool:
    """Whether names may begin so."""
    return len(name) <= LONGEST_PREFIX and _PREFIX.fullmatch(name) is not None


def key_of(owner: str, generation: str) -> str:
    """What every name of an owner's units of a generation holds."""
    return f"{owner}{generation}"


def slot_name(prefix: str, key: str, slot: str = BASE) -> str:
    """The name of a provisioned model: 63 characters at most."""
    return f"{prefix}-{key}-{slot}" if slot else f"{prefix}-{key}"


def slot_of(name: str, key: str) -> str | None:
    """The slot that a name holds; None for a name of other units."""
    _, found, rest = name.partition(f"-{key}")
    if not found or (rest and not rest.startswith("-")):
        return None
    return rest.removeprefix("-")


def _digits(count: int, *parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:count]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a resource's properties ask for.

    Args:
        name: The beginning of the provisioned models' names.
        model: Id or ARN of the model.
        units: Model units.
        commitment: What is declared; deployments buy without one.
        replacement: What happens when model or units change.
        protected: Whether units stay when the resource goes.
        scheduled: Whether a schedule owns the units, and not the deployment.
        tags: The user's tags.
        hourly_usd: Price of a unit and hour in US dollars; 0 where none is known.
        handle: Name of the SSM parameter that callers read; empty for none.
        fallback: What callers use while units are missing; empty for nothing.
        alarm_topic: ARN of the topic that hears of retained units; empty for none.
    """

    name: str
    model: str
    units: int
    commitment: Commitment = "NONE"
    replacement: str = "REFUSE"
    protected: bool = False
    scheduled: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    hourly_usd: float = 0.0
    handle: str = ""
    fallback: str = ""
    alarm_topic: str = ""

    @classmethod
    def read(cls, properties: Mapping[str, Any]) -> Wanted:
        """Read properties. Raises Refused, naming the property and what it may be."""
        name = _text(properties, "Name")
        if not is_prefix(name):
            raise Refused(
                f"Name is {name!r:.80}; it must have 1 to {LONGEST_PREFIX} letters and digits, with single "
                "dashes or underscores between them",
                code="name",
            )
        model = _text(properties, "ModelId")
        if not 1 <= len(model) <= LONGEST_MODEL or any(letter.isspace() for letter in model):
            raise Refused(f"ModelId is {model!r:.80}; give a model's id or ARN", code="model")
        return cls(
            name=name,
            model=model,
            units=_units(properties),
            commitment=_one_of(properties, "Commitment", COMMITMENTS, None),
            replacement=_one_of(properties, "Replacement", REPLACEMENTS, "REFUSE"),
            protected=_flag(properties, "Protected"),
            scheduled=_flag(properties, "Scheduled"),
            tags=_tags(properties.get("Tags") or ()),
            hourly_usd=_usd(properties),
            handle=str(properties.get("Handle", "")),
            fallback=str(properties.get("Fallback", "")),
            alarm_topic=str(properties.get("AlarmTopic", "")),
        )

    @property
    def generation(self) -> str:
        """What of this cannot change in place, in short."""
        return generation_of({"ModelId": self.model, "ModelUnits": self.units, "Scheduled": self.scheduled})

    def key(self, owner: str) -> str:
        """What every name of these units holds, and no other's."""
        return key_of(owner, self.generation)

    def slot(self, owner: str, slot: str = BASE) -> str:
        """The name of a provisioned model of these units."""
        return slot_name(self.name, self.key(owner), slot)


def _text(properties: Mapping[str, Any], name: str) -> str:
    value = properties.get(name)
    if not isinstance(value, str) or not value:
        raise Refused(f"{name} is {value!r:.80}; give a text", code="property")
    return value


def _units(properties: Mapping[str, Any]) -> int:
    given = properties.get("ModelUnits")
    text = str(given)
    if isinstance(given, bool) or not re.fullmatch(r"[1-9][0-9]{0,5}", text):
        raise Refused(f"ModelUnits is {text!r:.40}; give a whole number of 1 or more", code="units")
    return int(text)


def _one_of(properties: Mapping[str, Any], name: str, allowed: Iterable[str], default: str | None) -> Any:
    value = properties.get(name, default)
    if value not in tuple(allowed):
        raise Refused(f"{name} is {value!r:.40}; allowed are {', '.join(allowed)}", code="property")
    return value


def _flag(properties: Mapping[str, Any], name: str) -> bool:
    value = str(properties.get(name, "false")).lower()
    if value not in ("true", "false"):
        raise Refused(f"{name} is {value!r:.40}; allowed are true, false", code="property")
    return value == "true"


def _usd(properties: Mapping[str, Any]) -> float:
    given = properties.get("HourlyUsd") or "0"
    try:
        value = float(given)
    except (TypeError, ValueError):
        value = -1.0
    if not 0 <= value < 1e6:
        raise Refused(f"HourlyUsd is {given!r:.40}; give US dollars of 0 or more", code="property")
    return value


def _tags(given: Iterable[Any]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for item in given:
        key, value = (
            (str(item.get("Key", "")), str(item.get("Value", ""))) if isinstance(item, dict) else ("", "")
        )
        if not 1 <= len(key) <= 128 or not _TAG.fullmatch(key) or key.startswith((OWN_TAGS, "aws:")):
            raise Refused(
                f"Tags has the key {key!r:.80}; a key has 1 to 128 letters, digits, spaces and ._:/=+@- and "
                f"begins with neither {OWN_TAGS} nor aws:",
                code="tags",
            )
        if len(value) > 256 or not _TAG.fullmatch(value):
            raise Refused(f"tag {key} has the value {value!r:.80}, which Bedrock does not take", code="tags")
        tags[key] = value
    if len(tags) > MOST_TAGS:
        raise Refused(f"Tags has {len(tags)} tags; Bedrock takes {MOST_TAGS} besides our own", code="tags")
    return tags


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """A provisioned model as the service shows it."""

    arn: str
    name: str
    model_arn: str
    units: int
    status: str
    tags: Mapping[str, str]
    commitment: str = ""
    expires: datetime | None = None
    failure: str = ""

    @property
    def id(self) -> str:
        """The last part of its ARN."""
        return self.arn.rpartition("/")[2]

    @property
    def resource(self) -> str:
        """The physical id of the resource that it belongs to; empty for units that tokenmill did not buy."""
        return self.tags.get(RESOURCE_TAG, "")

    @property
    def retained(self) -> bool:
        """Whether it stayed when its resource went."""
        return RETAINED_TAG in self.tags

    @property
    def busy(self) -> bool:
        """Whether the service changes it just now, and so refuses every other change."""
        return self.status in ("Creating", "Updating")

    def owned_by(self, owner: str) -> bool:
        """Whether it belongs to a resource of this owner, of whatever generation and birth."""
        found = UnitsId.parse(self.resource)
        return found is not None and found.owner == owner

    def committed_at(self, now: datetime) -> bool:
        """Whether it cannot be given up yet."""
        return self.expires is not None and self.expires > now


def own_tags(id: UnitsId, stack_id: str, wanted: Wanted) -> dict[str, str]:
    """The tags of units: ours say whose they are, and the user's."""
    return {
        **wanted.tags,
        STACK_TAG: stack_id[:256],
        RESOURCE_TAG: str(id)[:256],
        UNITS_TAG: wanted.generation,
    }


def replacement_of(request: Request, wanted: Wanted, *, forward: bool) -> str:
    """How units may be replaced: as asked, or as the deployment was asked that is being rolled back.

    A rollback's properties are those of before, and may say REFUSE where what is rolled back did not. An
    update that is known to go forward means what it says.
    """
    if wanted.replacement != "REFUSE" or forward:
        return wanted.replacement
    return str(request.old_properties.get("Replacement", "REFUSE"))


def of_generation(held: Iterable[Units], owner: str, generation: str) -> list[Units]:
    """Those of an owner's units that are of a generation, after their names."""
    key = key_of(owner, generation)
    return [units for units in held if slot_of(units.name, key) is not None]


def main_of(held: Iterable[Units], key: str) -> Units | None:
    """The units that a deployment asked for: committed ones before those that they are to replace."""
    slots = {slot_of(units.name, key): units for units in held}
    committed, base = slots.get(COMMITTED), slots.get(BASE)
    if committed is not None and (base is None or committed.status == "InService"):
        return committed
    return base


def user_tags(properties: Mapping[str, Any]) -> set[str]:
    """The keys of the user's tags in properties."""
    return {str(item.get("Key", "")) for item in properties.get("Tags") or () if isinstance(item, dict)}


def quota_name(*, custom: bool) -> str:
    """The quota that units without commitment count against ("Amazon Bedrock service quotas", AWS General
    Reference)."""
    return f"Model units no-commitment Provisioned Throughputs across {'custom' if custom else 'base'} models"
