"""What is wrong with declared units, and what they cost, while it is still free to know."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aws_cdk as cdk
import jsii
from constructs import IValidation

from tokenmill.bedrock.foundation_model import check_model_home
from tokenmill.bedrock.homes import account_of, check_place, region_of
from tokenmill.bedrock.options import check_fallback
from tokenmill.bedrock.unit_values import MOST_UNITS, Commitment, Replacement, UnitAlarms, checked_usd
from tokenmill.core._checks import is_token, whole
from tokenmill.core._kinds import flags, instance_or_none
from tokenmill.core.bedrock_prices import bedrock_prices, nearest_ids, profile_of
from tokenmill.core.errors import TokenmillError
from tokenmill.core.model_units import ARN, UnitModel, UnlistedModel, unit_model, unit_offers, unit_price

if TYPE_CHECKING:
    from collections.abc import Callable
    from enum import StrEnum

    from constructs import Construct

    from tokenmill.bedrock.model import IBedrockModel


# "Converse" (Amazon Bedrock API Reference), modelId: what is called by an ARN and paid for by the token.
MODEL_ARN = re.compile(
    r"arn:aws[a-z-]*:bedrock:([a-z0-9-]+):(?:\d{12})?:"
    r"(?:foundation-model|imported-model|custom-model-deployment|application-inference-profile)/[^\s*?]+"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """Units that a deployment can be asked for.

    Args:
        model: What is bought.
        units: How many.
        commitment: What is to be bought once the stack is healthy.
        replacement: What happens when model or number change.
        fallback: What callers use while units are missing.
        hourly_usd: US dollars a unit and hour without commitment; None where no source says it.
        committed_usd: The same under the declared commitment.
        notes: What a reader must know, by the id of the warning.
    """

    model: UnitModel
    units: int
    commitment: Commitment
    replacement: Replacement
    fallback: IBedrockModel | str | None
    hourly_usd: float | None
    committed_usd: float | None
    notes: dict[str, str]


def declare(
    scope: Construct,
    id: str,
    *,
    model: str | UnlistedModel,
    units: int,
    commitment: Commitment,
    replacement: Replacement,
    fallback: IBedrockModel | str | None,
    hourly_usd: float | None,
    protected: bool,
    alarms: UnitAlarms | None,
) -> Declared:
    """Check what a user asks for.

    Args:
        scope: The parent construct.
        id: The units' id.
        model: What is bought; a text with a token is taken for a custom model's ARN.
        units: How many.
        commitment: What is to be bought once the stack is healthy.
        replacement: What happens when model or number change.
        fallback: What callers use while units are missing.
        hourly_usd: US dollars a unit and hour, in place of the table's.
        protected: Whether the units stay when the resource goes.
        alarms: Whom the alarms tell.

    Raises:
        TokenmillError: If any of it cannot be.
    """
    _choice("commitment", commitment, Commitment, "units without commitment can be given up at any time")
    _choice("replacement", replacement, Replacement, "REFUSE is the default")
    flags(protected=protected)
    instance_or_none(UnitAlarms, alarms=alarms)
    check_place(scope, id, {"the topic of alarms": None if alarms is None else alarms.topic})
    region = region_of(scope)
    counted = whole_units(units)
    found = _model(model, region)
    _check_account(scope, found)
    offer = None if found.custom or found.base is None else unit_offers().get(found.base)
    if offer is not None and offer.without_commitment is False:
        raise TokenmillError(
            f"units of {found.base} are sold with a commitment only, and a deployment never buys one; serve "
            "the model on demand, or customize it: units of a custom model need no commitment"
        )
    _check_fallback(scope, fallback)
    given = checked_usd("hourly_usd", hourly_usd)
    price = given if given is not None else _price(found, region, Commitment.NONE)
    return Declared(
        model=found,
        units=counted,
        commitment=commitment,
        replacement=replacement,
        fallback=fallback,
        hourly_usd=price,
        committed_usd=price if commitment is Commitment.NONE else _price(found, region, commitment),
        notes=_notes(found, price, fallback),
    )


def whole_units(units: int) -> int:
    """Return a number of model units.

    Args:
        units: How many.

    Raises:
        TokenmillError: If it is no whole number from 1 to 100.
    """
    counted = whole("units", units)
    if not 1 <= counted <= MOST_UNITS:
        raise TokenmillError(
            f"units is {counted}; model units are whole and from 1 to {MOST_UNITS}, and one costs tens of "
            "dollars an hour"
        )
    return counted


def check_can_close(id: str, *, commitment: Commitment, protected: bool, floor: bool) -> None:
    """Check that units can be given up every evening.

    Args:
        id: The schedule's id.
        commitment: The units' declared commitment.
        protected: Whether the units stay when the resource goes.
        floor: Whether the units are the floor of a scaling.

    Raises:
        TokenmillError: If they cannot.
    """
    own = "give it units= of its own"
    if floor:
        raise TokenmillError(
            f"schedule {id!r} would give up the units that are the floor of scale_on_tokens; {own}"
        )
    if commitment is not Commitment.NONE:
        raise TokenmillError(
            f"commitment is Commitment.{commitment.name}, and committed units are paid for at night too; for "
            f"schedule {id!r} {own}, or declare Commitment.NONE"
        )
    if protected:
        raise TokenmillError(
            f"schedule {id!r} gives the units up every evening, but they are protected; drop one of the two, "
            f"or {own}"
        )


def _choice(name: str, found: object, kind: type[StrEnum], hint: str) -> None:
    if not isinstance(found, kind):
        allowed = ", ".join(f"{kind.__name__}.{item.name}" for item in kind)
        raise TokenmillError(f"{name} is {found!r:.80}; give one of {allowed} ({hint})")


def _model(model: str | UnlistedModel, region: str | None) -> UnitModel:
    if isinstance(model, UnlistedModel):
        name = model.model
        home = name.split(":")[3] if name.startswith("arn:") else region
        if region is not None and home != region:
            raise TokenmillError(
                f"model {name!r:.120} is in {home}, but the stack in {region}; units serve a model of their "
                "own region, so copy the model or deploy the stack there"
            )
        return UnitModel(
            model=name, base=None if name.startswith("arn:") else name, custom="custom-model/" in name
        )
    if isinstance(model, str) and is_token(model):
        return UnitModel(model=model, base=None, custom=True)
    return unit_model(model, region)


def _check_account(scope: Construct, model: UnitModel) -> None:
    named, own = ARN.fullmatch(model.model), account_of(scope)
    if named is not None and own is not None and named["account"] not in ("", own):
        raise TokenmillError(
            f"model {model.model!r:.120} is of account {named['account']}, and the stack of {own}; units are "
            "bought of the account's own models, so share and copy the model first"
        )


def _price(model: UnitModel, region: str | None, commitment: Commitment) -> float | None:
    if model.base is None or region is None:
        return None
    found = unit_price(model.base, region, commitment.value)
    return None if found is None else found.usd_per_hour


def _check_fallback(scope: Construct, fallback: IBedrockModel | str | None) -> None:
    check_fallback(fallback)
    if fallback is None:
        return
    if not isinstance(fallback, str):
        check_model_home(scope, fallback, name="fallback")
        return
    name = fallback
    if profile_of(name):
        raise TokenmillError(
            f"fallback {name!r} is a cross-Region profile, whose callers need rights in every region behind "
            f"it; give InferenceProfile.cross_region({name!r}) or InferenceProfile.global_({name!r})"
        )
    if name.startswith("arn:"):
        _check_arn(name, region_of(scope))
    elif name not in bedrock_prices():
        near = nearest_ids(name)
        hint = f"; nearest: {', '.join(near)}" if near else ""
        raise TokenmillError(
            f"fallback {name!r:.120} is no on-demand model that is known{hint}; give such an id, or an "
            "InferenceProfile"
        )


def _check_arn(name: str, region: str | None) -> None:
    found = MODEL_ARN.fullmatch(name)
    if found is None:
        raise TokenmillError(
            f"fallback {name!r:.120} is no ARN of a model; give an on-demand model's id or an "
            "InferenceProfile"
        )
    if region is not None and found[1] != region:
        raise TokenmillError(
            f"fallback {name!r:.120} is in {found[1]}, and the stack in {region}; a model is called in its "
            "own region, so give one of there, or a cross-Region InferenceProfile"
        )


def _notes(model: UnitModel, price: float | None, fallback: object) -> dict[str, str]:
    notes = {}
    if model.note:
        notes["tokenmill:UnitRegion"] = model.note
    if price is None:
        notes["tokenmill:UnitPriceMissing"] = (
            f"no source states what an hour of a unit of {shown(model)} without commitment costs, and a "
            "deployment buys it so; ask the account manager and give hourly_usd, or the bill is the first to "
            "say it"
        )
    if fallback is None:
        notes["tokenmill:UnitsWithoutFallback"] = (
            "callers have no model while units are missing; give fallback= an on-demand model or a profile"
        )
    return notes


def shown(model: UnitModel) -> str:
    """Return how a message names a model.

    Args:
        model: The model.
    """
    return model.base or ("the custom model" if is_token(model.model) else model.model)


@jsii.implements(IValidation)
class FloorNote:
    """Says what units cost when the app is synthesized, since schedules are added after the units.

    Args:
        construct: The units.
        say: Returns the sentence.
    """

    def __init__(self, construct: Construct, say: Callable[[], str]) -> None:
        self._construct = construct
        self._say = say

    def validate(self) -> list[str]:
        """Say it, and find nothing wrong."""
        cdk.Annotations.of(self._construct).add_info_v2("tokenmill:MonthlyFloor", self._say())
        return []
