"""Which models have units, where, and what an hour of one costs: from dated tables, never guessed."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.core.errors import TokenmillError
from tokenmill.core.model_units import (
    UnlistedModel,
    monthly_usd,
    unit_model,
    unit_offers,
    unit_price,
)

LITE = "amazon.nova-lite-v1:0:24k"
CUSTOM = f"arn:aws:bedrock:us-east-1:111122223333:custom-model/{LITE}/abcdefghij12"


def test_a_price_is_the_second_s_price_of_the_source_times_3600() -> None:
    """LiteLLM states 0.011 USD a second for Cohere Command with one month; AWS prints 39.60 an hour."""
    price = unit_price("cohere.command-text-v14:7:4k", "us-east-1", "ONE_MONTH")
    assert price is not None
    assert price.usd_per_hour == pytest.approx(39.60)
    assert "LiteLLM 1.109.1" in price.source


@pytest.mark.parametrize("model", ["anthropic.claude-v2:1:18k", "anthropic.claude-v2:1:200k"])
def test_a_context_length_costs_what_the_model_does(model: str) -> None:
    """The source has one price for all context lengths."""
    price = unit_price(model, "eu-central-1", "SIX_MONTHS")
    assert price is not None
    assert price.usd_per_hour == pytest.approx(82.98)


@pytest.mark.parametrize(
    ("model", "region", "commitment"),
    [
        (LITE, "us-east-1", "NONE"),
        ("anthropic.claude-v2:1:18k", "us-east-1", "NONE"),
        ("anthropic.claude-v2:1:18k", "eu-west-1", "ONE_MONTH"),
        ("anthropic.claude-v2:0:18k", "us-east-1", "ONE_MONTH"),
    ],
)
def test_a_missing_price_is_missing(model: str, region: str, commitment: str) -> None:
    """Neither another region's price, nor another commitment's, nor another version's stands in."""
    assert unit_price(model, region, commitment) is None


def test_every_row_has_a_source_and_a_date() -> None:
    """A row without them could not be checked."""
    for offer in unit_offers().values():
        assert offer.source
        assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", offer.source_date)
        assert all(re.fullmatch(r"[a-z]{2}-[a-z]+-\d", region) for region in offer.regions)


def test_a_listed_model_is_known_by_id_and_by_arn() -> None:
    """A purchase takes both."""
    assert unit_model(LITE, "us-east-1").base == LITE
    by_arn = unit_model(f"arn:aws:bedrock:us-east-1::foundation-model/{LITE}", "us-east-1")
    assert (by_arn.base, by_arn.custom) == (LITE, False)


def test_a_custom_model_says_what_it_is_made_from() -> None:
    """Its ARN carries the base model, whose price it has."""
    found = unit_model(CUSTOM, "us-east-1")
    assert (found.base, found.custom, found.note) == (LITE, True, "")


def test_a_custom_model_may_stand_where_its_base_has_no_units() -> None:
    """The page lists base models; GovCloud sells units of custom models only."""
    arn = CUSTOM.replace("arn:aws:", "arn:aws-us-gov:").replace("us-east-1", "us-gov-west-1")
    assert unit_model(arn, "us-gov-west-1").custom


@pytest.mark.parametrize(
    ("model", "region", "says"),
    [
        ("amazon.nova-lite-v1:0", "us-east-1", "amazon.nova-lite-v1:0:24k, amazon.nova-lite-v1:0:300k"),
        ("amazon.nova-light-v1:0:24k", "us-east-1", "nearest: amazon.nova-lite-v1:0:24k"),
        ("us.amazon.nova-lite-v1:0:24k", "us-east-1", "leave the profile's prefix away"),
        ("nothing.like-this", "us-east-1", "UnlistedModel('nothing.like-this')"),
        (LITE, "eu-west-1", "not sold in eu-west-1; they are in us-east-1"),
        (LITE, "us-gov-west-1", "custom models only"),
        (CUSTOM, "us-west-2", "is in us-east-1, but the stack in us-west-2"),
        ("arn:aws:bedrock:us-east-1:111122223333:inference-profile/x", "us-east-1", "is no ARN"),
        (f"arn:aws:bedrock:us-east-1:111122223333:custom-model/{LITE}", "us-east-1", "is no ARN"),
        ("", "us-east-1", "must be a text that is not empty"),
    ],
)
def test_fails_for_a_model_without_units_there(model: str, region: str, says: str) -> None:
    """The complaint names what there is, and the way out."""
    with pytest.raises(TokenmillError, match=re.escape(says)):
        unit_model(model, region)


def test_an_unknown_region_is_a_note() -> None:
    """A stack without a region may be deployed anywhere; the deployment tells."""
    assert "us-east-1 only" in unit_model(LITE, None).note


def test_a_model_whose_regions_no_source_says_is_a_note() -> None:
    """It is neither refused nor called fine."""
    assert "check us-east-1" in unit_model("anthropic.claude-3-haiku-20240307-v1:0:48k", "us-east-1").note
    assert unit_model("anthropic.claude-3-haiku-20240307-v1:0:48k", None).note == ""


def test_fails_for_an_unlisted_model_that_bedrock_would_not_take() -> None:
    """The API takes 2,048 characters and no empty text."""
    with pytest.raises(TokenmillError, match="2049 characters"):
        UnlistedModel("x" * 2049)
    with pytest.raises(TokenmillError, match="not empty"):
        UnlistedModel(" ")


@given(units=st.floats(0, 1000), usd=st.floats(0.01, 500))
def test_a_month_has_730_hours(units: float, usd: float) -> None:
    """Units are paid for around the clock."""
    assert monthly_usd(units, usd) == pytest.approx(units * usd * 730)
