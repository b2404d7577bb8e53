"""Which regions stand behind a cross-Region inference profile of Amazon Bedrock, and where it may be called.

Source: "Supported Regions and models for inference profiles" (Amazon Bedrock User Guide), which names source
and destination regions of each profile; since 2026 each model's card does. "If an inference profile is tied
to a geography, its destination Region list will never change", but profiles of newer models are not in the
data; theirs are taken to be all regions that a profile of the geography is known to reach.
"""

from __future__ import annotations

import difflib
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenmill.core._tables import rows
from tokenmill.core.bedrock_prices import GEOGRAPHIES as GEOGRAPHIES
from tokenmill.core.bedrock_prices import GLOBAL as GLOBAL
from tokenmill.core.bedrock_prices import NOT_COMMERCIAL, bedrock_prices, profile_of
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from collections.abc import Sequence

# Regions of a geography that no profile in the data reaches yet: LiteLLM 1.109.1 has prices of "in" profiles,
# and the AU geography of AWS's model cards includes New Zealand.
MORE_REGIONS = {"au": ("ap-southeast-6",), "in": ("ap-south-1", "ap-south-2")}
# AWS::Bedrock::ApplicationInferenceProfile and AWS::Bedrock::IntelligentPromptRouter in the resource
# specifications that CloudFormation publishes by region (read 2026-11-22).
WITHOUT_APPLICATION_PROFILES = frozenset(
    {
        "af-south-1",
        "ap-east-1",
        "ap-east-2",
        "ap-south-2",
        "ap-southeast-4",
        "ap-southeast-5",
        "ap-southeast-6",
        "ap-southeast-7",
        "ca-west-1",
        "cn-north-1",
        "cn-northwest-1",
        "eu-north-1",
        "eu-south-2",
        "il-central-1",
        "mx-central-1",
        "us-gov-east-1",
        "us-gov-west-1",
        "us-west-1",
    }
)
WITH_PROMPT_ROUTERS = frozenset(
    {
        "ap-northeast-1",
        "ap-northeast-2",
        "ap-south-1",
        "ap-southeast-2",
        "eu-central-1",
        "eu-west-1",
        "eu-west-3",
        "us-east-1",
        "us-east-2",
        "us-west-2",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileRoute:
    """Where a call of a system-defined profile can run.

    Args:
        profile_id: The profile, such as "us.amazon.nova-lite-v1:0".
        model_id: The foundation model behind it.
        geography: "us", "eu" and so on, or "global".
        regions: Regions that a call can be routed to, sorted; empty for "global", which is any commercial
            one.
        listed: Whether the source names these regions for this profile and source region.
    """

    profile_id: str
    model_id: str
    geography: str
    regions: tuple[str, ...]
    listed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterModel:
    """A foundation model that intelligent prompt routing knows.

    Args:
        model_id: The foundation model.
        family: Routers mix models of one family only, such as "anthropic.claude".
        model_regions: Regions where a router takes the model itself.
        profile_regions: Regions where a router takes a cross-Region profile of it.
    """

    model_id: str
    family: str
    model_regions: tuple[str, ...]
    profile_regions: tuple[str, ...]


@functools.cache
def profile_table() -> dict[str, dict[str, tuple[str, ...]]]:
    """Return destination regions by profile and by source region; a global profile's are empty."""
    table: dict[str, dict[str, tuple[str, ...]]] = {}
    for row in rows("bedrock_profiles.csv"):
        destinations = tuple(row["destination_regions"].split())
        for source in row["source_regions"].split():
            table.setdefault(row["profile_id"], {})[source] = destinations
    return table


@functools.cache
def router_models() -> dict[str, RouterModel]:
    """Return the models of prompt routers by id.

    Source: "Understanding intelligent prompt routing in Amazon Bedrock" (Amazon Bedrock User Guide).
    """
    return {
        row["model_id"]: RouterModel(
            model_id=row["model_id"],
            family=row["family"],
            model_regions=tuple(row["model_regions"].split()),
            profile_regions=tuple(row["profile_regions"].split()),
        )
        for row in rows("bedrock_router_models.csv")
    }


def split_profile(model_id: str) -> tuple[str, str]:
    """Return geography and foundation model of an id; the geography is "" for a model of one region.

    Args:
        model_id: A foundation model's or a system-defined profile's id.
    """
    geography = profile_of(model_id)
    return geography, model_id.removeprefix(f"{geography}.") if geography else model_id


@functools.cache
def known_models() -> frozenset[str]:
    """Return every foundation model that the price table or the profiles name, without geographies."""
    named = {*bedrock_prices(), *profile_table(), *router_models()}
    return frozenset(split_profile(model_id)[1] for model_id in named)


def check_known(model_id: str) -> None:
    """Refuse a model that nothing in the data names, which is a typing error far more often than a new model.

    Args:
        model_id: A foundation model's or a system-defined profile's id.

    Raises:
        TokenmillError: The model is unknown; the message names near ones.
    """
    geography, foundation = split_profile(model_id)
    if foundation in known_models():
        return
    near = difflib.get_close_matches(foundation, sorted(known_models()), n=3, cutoff=0.5)
    prefix = f"{geography}." if geography else ""
    named = ", ".join(prefix + name for name in near) or "none"
    raise TokenmillError(
        f"{model_id!r} is no model of Amazon Bedrock that is known here; nearest known: {named}; for a model "
        "that is newer than this library, set allow_unlisted=True"
    )


@functools.cache
def geography_regions(geography: str) -> tuple[str, ...]:
    """Return every region that a profile of a geography is known to reach.

    Args:
        geography: "us", "eu" and so on.
    """
    reached = {
        region
        for profile_id, sources in profile_table().items()
        if split_profile(profile_id)[0] == geography
        for regions in sources.values()
        for region in regions
    }
    return tuple(sorted({*reached, *MORE_REGIONS.get(geography, ())}))


@functools.cache
def _callers(geography: str) -> frozenset[str]:
    named = {
        region
        for profile_id, sources in profile_table().items()
        if split_profile(profile_id)[0] == geography
        for region in sources
    }
    return frozenset({*named, *geography_regions(geography)})


def may_call(geography: str, region: str) -> bool:
    """Return whether a profile of a geography may be called from a region.

    Args:
        geography: "us", "eu" and so on, or "global".
        region: AWS region.
    """
    if geography == GLOBAL:
        return not region.startswith(NOT_COMMERCIAL)
    return region in _callers(geography)


def profile_route(profile_id: str, region: str | None = None, *, regions: Sequence[str] = ()) -> ProfileRoute:
    """Return where a call of a system-defined profile can run.

    Args:
        profile_id: The profile's id.
        region: The region that calls come from; None where only the deployment knows it, which takes the
            regions of every source region together.
        regions: Regions behind the profile as you know them, such as from GetInferenceProfile; they replace
            the data's.

    Raises:
        TokenmillError: The id has no geography, or the profile cannot be called from the region.
    """
    geography, model_id = split_profile(profile_id)
    if not geography:
        raise TokenmillError(
            f"{profile_id!r} is no cross-Region inference profile; its id begins with one of "
            f"{', '.join((*GEOGRAPHIES, GLOBAL))} and a dot, such as us.amazon.nova-lite-v1:0"
        )
    if region is not None and not may_call(geography, region):
        raise TokenmillError(_elsewhere(profile_id, region))
    found = _destinations(profile_id, region)
    if regions:
        chosen = {*regions}
    elif found or geography == GLOBAL:
        chosen = {*found}
    else:
        chosen = {*geography_regions(geography), *([region] if region else [])}
    return ProfileRoute(
        profile_id=profile_id,
        model_id=model_id,
        geography=geography,
        regions=() if geography == GLOBAL else tuple(sorted(chosen)),
        listed=bool(regions or found) or geography == GLOBAL,
    )


def _destinations(profile_id: str, region: str | None) -> tuple[str, ...]:
    sources = profile_table().get(profile_id, {})
    if region is not None:
        return sources.get(region, ())
    return tuple({name for regions in sources.values() for name in regions})


def _elsewhere(profile_id: str, region: str) -> str:
    geography, model_id = split_profile(profile_id)
    others = [
        f"{name}.{model_id}"
        for name in (*GEOGRAPHIES, GLOBAL)
        if may_call(name, region)
        and (f"{name}.{model_id}" in profile_table() or f"{name}.{model_id}" in bedrock_prices())
    ]
    allowed = "any commercial region" if geography == GLOBAL else ", ".join(sorted(_callers(geography)))
    return (
        f"the profile {profile_id!r} cannot be called from {region}; allowed: {allowed}; profiles of this "
        f"model for {region}: {', '.join(others) or 'none known'}"
    )
