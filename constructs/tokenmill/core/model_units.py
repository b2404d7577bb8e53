"""Model units of Amazon Bedrock: which models have them, where, and what an hour of one costs."""

from __future__ import annotations

import difflib
import functools
import re
from dataclasses import dataclass

from tokenmill.core._checks import text
from tokenmill.core._tables import rows
from tokenmill.core.bedrock_profiles import split_profile
from tokenmill.core.errors import TokenmillError

HOURS_PER_MONTH = 730
ANYWHERE = "*"
GOVCLOUD = "us-gov-"
# "CreateProvisionedModelThroughput" (Amazon Bedrock API Reference): at most 2,048 characters.
LONGEST_ID = 2048
MODEL_ID = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+(:[a-z0-9]+)*")
ARN = re.compile(
    r"arn:[a-z-]+:bedrock:(?P<region>[a-z0-9-]+):(?P<account>\d{12}|):"
    r"(?P<kind>foundation-model|custom-model)/(?P<base>[a-z0-9.:-]+)(/(?P<own>[a-z0-9]{12}))?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitOffer:
    """A model that units can be bought of.

    Args:
        model_id: The id that a purchase takes, which names the context length too.
        regions: Where units of it are sold; empty where the source does not say.
        without_commitment: Whether they are sold without a commitment; None where the source does not say.
        source: Where that stands.
        source_date: When it was read, as YYYY-MM-DD.
    """

    model_id: str
    regions: tuple[str, ...]
    without_commitment: bool | None
    source: str
    source_date: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitPrice:
    """What one unit costs.

    Args:
        usd_per_hour: US dollars an hour.
        source: Where the price stands.
        source_date: When it stood there at the latest, as YYYY-MM-DD.
    """

    usd_per_hour: float
    source: str
    source_date: str


@dataclass(frozen=True, slots=True)
class UnlistedModel:
    """A model that has units although the table does not know it.

    Args:
        model: The id or ARN that a purchase takes.

    Raises:
        TokenmillError: If it is no text, longer than Bedrock takes, or neither an id nor an ARN.
    """

    model: str

    def __post_init__(self) -> None:
        text("model", self.model)
        if len(self.model) > LONGEST_ID:
            raise TokenmillError(f"model has {len(self.model)} characters; Bedrock takes {LONGEST_ID}")
        if not MODEL_ID.fullmatch(self.model) and not ARN.fullmatch(self.model):
            raise TokenmillError(
                f"model is {self.model!r:.120}; give an id such as amazon.nova-lite-v1:0:24k, or the ARN of "
                "a foundation model or a custom model"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitModel:
    """What a purchase names, taken apart.

    Args:
        model: The id or ARN as it was given.
        base: The id of the base model; None where only the deployment knows it.
        custom: Whether it is a custom model's ARN.
        note: What a reader must know of it; may be empty.
    """

    model: str
    base: str | None
    custom: bool
    note: str = ""


@functools.cache
def unit_offers() -> dict[str, UnitOffer]:
    """Return the models that units can be bought of, by id."""
    said = {"yes": True, "no": False, "": None}
    return {
        row["model_id"]: UnitOffer(
            model_id=row["model_id"],
            regions=tuple(row["regions"].split()),
            without_commitment=said[row["without_commitment"]],
            source=row["source"],
            source_date=row["source_date"],
        )
        for row in rows("model_units.csv")
    }


@functools.cache
def _prices() -> dict[tuple[str, str, str], UnitPrice]:
    return {
        (row["model_id"], row["region"], row["commitment"]): UnitPrice(
            usd_per_hour=float(row["usd_per_hour"]), source=row["source"], source_date=row["source_date"]
        )
        for row in rows("model_unit_prices.csv")
    }


def unit_price(model_id: str, region: str, commitment: str) -> UnitPrice | None:
    """Return what a unit costs, or None where no source says it; another region's price is never used.

    A custom model costs what its base model does, and all context lengths of a model cost the same in the
    sources ("Increase model invocation capacity with Provisioned Throughput", Amazon Bedrock User Guide).

    Args:
        model_id: The base model's id, with or without context length.
        region: AWS region.
        commitment: "NONE", "ONE_MONTH" or "SIX_MONTHS".
    """
    prices = _prices()
    for name in _shorter(model_id):
        for place in (region, ANYWHERE):
            found = prices.get((name, place, commitment))
            if found is not None:
                return found
    return None


def _shorter(model_id: str) -> list[str]:
    """The id, and the same without its context length and then without its version."""
    parts = model_id.split(":")
    return [":".join(parts[:count]) for count in range(len(parts), 0, -1)]


def monthly_usd(units: float, usd_per_hour: float) -> float:
    """Return what units cost a month of 730 hours, used or not.

    Args:
        units: How many, as a mean over the hours.
        usd_per_hour: US dollars a unit and hour.
    """
    return units * usd_per_hour * HOURS_PER_MONTH


def unit_model(model: str, region: str | None) -> UnitModel:
    """Return what a purchase names, checked against what Bedrock sells in a region.

    Args:
        model: An id with its context length, such as "amazon.nova-lite-v1:0:24k", or an ARN of a foundation
            model or a custom model.
        region: AWS region; None where only the deployment knows it.

    Raises:
        TokenmillError: If there is no such model, or units of it are not sold in the region.
    """
    text("model", model)
    if not model.startswith("arn:"):
        return UnitModel(model=model, base=model, custom=False, note=_check(model, region))
    found = ARN.fullmatch(model)
    if found is None or (found["kind"] == "custom-model") != bool(found["own"]):
        raise TokenmillError(
            f"model {model!r:.120} is no ARN of a foundation model or a custom model; units are bought of "
            "those only, so give one, or an id such as amazon.nova-lite-v1:0:24k"
        )
    if region is not None and found["region"] != region:
        raise TokenmillError(
            f"model {model!r:.120} is in {found['region']}, but the stack in {region}; units serve a model "
            "of their own region, so copy the model or deploy the stack there"
        )
    if found["kind"] == "custom-model":
        # The base may have been customized where its own units are not sold, so only its id is read.
        return UnitModel(model=model, base=found["base"], custom=True)
    return UnitModel(model=model, base=found["base"], custom=False, note=_check(found["base"], region))


def _check(model_id: str, region: str | None) -> str:
    offer = unit_offers().get(model_id)
    if offer is None:
        raise TokenmillError(_unknown(model_id))
    if region is None:
        return "" if not offer.regions else f"units of {model_id} are sold in {', '.join(offer.regions)} only"
    if region.startswith(GOVCLOUD):
        raise TokenmillError(
            f"units in {region} are sold of custom models only, without commitment; give a custom model's ARN"
        )
    if offer.regions and region not in offer.regions:
        raise TokenmillError(
            f"units of {model_id} are not sold in {region}; they are in {', '.join(offer.regions)} (read "
            f"{offer.source_date}); deploy there, or give UnlistedModel({model_id!r}) if they are by now"
        )
    return "" if offer.regions else f"no source read says where units of {model_id} are sold; check {region}"


def _unknown(model_id: str) -> str:
    offers = unit_offers()
    lengths = [name for name in offers if name.startswith(f"{model_id}:")]
    if lengths:
        return (
            f"model {model_id!r} has units by context length; give the id that a purchase takes, one of "
            f"{', '.join(sorted(lengths))}"
        )
    near = difflib.get_close_matches(model_id, offers, n=3, cutoff=0.5)
    profile = bool(split_profile(model_id)[0])
    hint = "units are of one region, so leave the profile's prefix away; " if profile else ""
    nearest = f"nearest: {', '.join(near)}; " if near else ""
    return (
        f"no model called {model_id!r:.120} is known to have units; {hint}{nearest}"
        f"give one of the table, or UnlistedModel({model_id!r:.120}) for one that it does not know"
    )
