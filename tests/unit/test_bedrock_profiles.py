"""Regions behind cross-Region profiles: AWS's page where it has them, the whole geography otherwise."""

from __future__ import annotations

import re

import pytest

from tokenmill.core.bedrock_prices import bedrock_prices
from tokenmill.core.bedrock_profiles import (
    GEOGRAPHIES,
    GLOBAL,
    check_known,
    geography_regions,
    known_models,
    may_call,
    profile_route,
    profile_table,
    router_models,
    split_profile,
)
from tokenmill.core.errors import TokenmillError

REGION = re.compile(r"[a-z]{2}(-gov)?-(north|south|east|west|central|northeast|southeast|northwest)-\d")
LITE = "amazon.nova-lite-v1:0"
NEWER = "us.anthropic.claude-opus-5"


def test_every_row_has_a_geography_and_regions_of_the_usual_form() -> None:
    """A typing error in the data would be an ARN that no call ever has."""
    for profile_id, sources in profile_table().items():
        assert split_profile(profile_id)[0] in (*GEOGRAPHIES, GLOBAL)
        named = {*sources, *(region for regions in sources.values() for region in regions)}
        assert [region for region in named if not REGION.fullmatch(region)] == []


def test_only_global_profiles_are_without_destinations() -> None:
    """A geography's profile without regions would be a grant of nothing."""
    without = {name for name, sources in profile_table().items() if not all(sources.values())}
    assert {split_profile(name)[0] for name in without} == {GLOBAL}


@pytest.mark.parametrize(
    ("profile_id", "source", "regions"),
    [
        (f"us.{LITE}", "us-east-1", ("us-east-1", "us-east-2", "us-west-2")),
        (f"us.{LITE}", "us-west-1", ("us-east-1", "us-east-2", "us-west-1", "us-west-2")),
        (
            "us.anthropic.claude-haiku-4-5-20251001-v1:0",
            "ca-central-1",
            ("ca-central-1", "us-east-1", "us-east-2", "us-west-2"),
        ),
        ("us-gov.anthropic.claude-sonnet-4-5-20250929-v1:0", "us-gov-east-1", ("us-gov-west-1",)),
        (f"eu.{LITE}", "eu-central-1", ("eu-central-1", "eu-north-1", "eu-west-1", "eu-west-3")),
        (
            "jp.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "ap-northeast-3",
            ("ap-northeast-1", "ap-northeast-3"),
        ),
    ],
)
def test_the_destinations_follow_the_source_region(
    profile_id: str, source: str, regions: tuple[str, ...]
) -> None:
    """AWS says that some profiles "route to different destination Regions" by source."""
    route = profile_route(profile_id, source)
    assert (route.regions, route.listed) == (regions, True)


def test_an_unknown_source_region_takes_every_destination() -> None:
    """A stack whose region only the deployment knows must work in each of them."""
    route = profile_route(f"eu.{LITE}")
    assert set(route.regions) >= {"eu-south-1", "eu-south-2", "il-central-1", "eu-central-1"}


def test_a_profile_that_is_not_in_the_data_reaches_the_whole_geography() -> None:
    """Too few regions would fail some calls; too many allow nothing, as the profile is a condition."""
    route = profile_route(NEWER, "us-east-1")
    assert not route.listed
    assert route.regions == geography_regions("us")
    assert {"us-east-1", "us-east-2", "us-west-2", "ca-central-1"} <= set(route.regions)


def test_regions_of_the_user_replace_the_data() -> None:
    """GetInferenceProfile knows better than a table."""
    route = profile_route(NEWER, "us-east-1", regions=("us-west-2", "us-east-1"))
    assert (route.regions, route.listed) == (("us-east-1", "us-west-2"), True)


def test_a_global_profile_has_no_regions_of_its_own() -> None:
    """AWS says that its destinations "include all commercial Regions", which grow."""
    route = profile_route("global.anthropic.claude-opus-5", "eu-west-2")
    assert (route.geography, route.regions, route.model_id) == (GLOBAL, (), "anthropic.claude-opus-5")


@pytest.mark.parametrize(
    ("profile_id", "region", "sentence"),
    [
        (
            f"us.{LITE}",
            "eu-west-1",
            "the profile 'us.amazon.nova-lite-v1:0' cannot be called from eu-west-1; allowed: ca-central-1, "
            "ca-west-1, us-east-1, us-east-2, us-west-1, us-west-2; profiles of this model for eu-west-1: "
            "eu.amazon.nova-lite-v1:0",
        ),
        ("global.amazon.nova-2-lite-v1:0", "us-gov-west-1", "allowed: any commercial region"),
        (LITE, None, "'amazon.nova-lite-v1:0' is no cross-Region inference profile"),
    ],
)
def test_fails_for_a_profile_that_cannot_be_called(
    profile_id: str, region: str | None, sentence: str
) -> None:
    """The message says what can be."""
    with pytest.raises(TokenmillError) as raised:
        profile_route(profile_id, region)
    assert sentence in str(raised.value)


def test_a_region_that_a_later_page_added_is_not_refused() -> None:
    """Source regions of a profile grow; only another geography is refused."""
    assert "us-west-1" not in profile_table()["us.amazon.nova-micro-v1:0"]
    route = profile_route("us.amazon.nova-micro-v1:0", "us-west-1")
    assert not route.listed
    assert "us-west-1" in route.regions


def test_every_priced_profile_has_regions() -> None:
    """Whatever the price table can name, a grant can be written for."""
    for model_id in bedrock_prices():
        geography, _ = split_profile(model_id)
        if geography not in ("", GLOBAL):
            assert profile_route(model_id).regions


def test_fails_for_a_model_that_nothing_names() -> None:
    """Near misses keep their geography."""
    with pytest.raises(TokenmillError) as raised:
        check_known("us.amazon.nova-light-v1:0")
    assert "nearest known: us.amazon.nova-lite-v1:0" in str(raised.value)
    assert "allow_unlisted=True" in str(raised.value)


def test_known_models_are_without_geography() -> None:
    """A geography is a way to call a model, not a model."""
    assert LITE in known_models()
    assert [name for name in known_models() if split_profile(name)[0]] == []
    check_known(f"apac.{LITE}")


def test_callers_of_a_geography() -> None:
    """Israel calls European profiles, and nobody calls a global one from GovCloud."""
    assert may_call("eu", "il-central-1")
    assert not may_call("eu", "us-east-1")
    assert may_call(GLOBAL, "sa-east-1")
    assert not may_call(GLOBAL, "cn-north-1")


def test_models_of_routers_are_known_and_of_few_families() -> None:
    """Routers mix models of one family."""
    assert {model.family for model in router_models().values()} == {
        "amazon.nova",
        "anthropic.claude",
        "meta.llama",
    }
    for model_id, model in router_models().items():
        check_known(model_id)
        assert model_id.startswith(model.family.split(".")[0])
        assert "us-east-1" in model.profile_regions
