"""The price table of Bedrock: what it holds, where a price holds, what is said when none does."""

from __future__ import annotations

import datetime

import pytest

from tokenmill.core.bedrock_prices import (
    BedrockPrice,
    TokenPrice,
    bedrock_price,
    bedrock_price_date,
    bedrock_prices,
    in_geography,
    nearest_ids,
    plain_id,
    profile_of,
)
from tokenmill.core.errors import TokenmillError

QWEN = "qwen.qwen3-32b-v1:0"


def test_a_price_of_the_table_is_per_million_tokens_with_source_and_date() -> None:
    """Qwen3 32B in us-east-1, whose source is AWS's own price list of that region."""
    quote = bedrock_price(QWEN, "us-east-1")
    assert quote.note == ""
    assert quote.price is not None
    assert quote.price.tiers["standard"] == TokenPrice(input=0.15, output=0.6)
    assert quote.price.tiers["batch"] == TokenPrice(input=0.075, output=0.3)
    assert "us-east-1/index.json" in quote.price.source
    assert quote.price.source_date == "2026-11-11" == bedrock_price_date()


def test_every_row_has_a_source_a_date_and_a_usable_price() -> None:
    """Nothing in the table is undated or free."""
    rows = [row for scopes in bedrock_prices().values() for row in scopes.values()]
    assert len(rows) > 400
    for row in rows:
        assert row.source
        assert datetime.date.fromisoformat(row.source_date)
        assert row.tiers["standard"].input > 0


def test_where_the_table_lists_batch_it_is_about_half_price() -> None:
    """AWS states half; rounding of small prices leaves a tenth more or less."""
    pairs = [
        (row.tiers["batch"].input, row.tiers["standard"].input)
        for scopes in bedrock_prices().values()
        for row in scopes.values()
        if "batch" in row.tiers
    ]
    assert len(pairs) > 50
    assert all(0.4 <= batch / standard <= 0.6 for batch, standard in pairs)


def test_a_price_of_another_region_is_never_used() -> None:
    """us-east-1's price says nothing about Frankfurt."""
    quote = bedrock_price(QWEN, "eu-central-1")
    assert quote.price is None
    assert "no price of qwen.qwen3-32b-v1:0 in eu-central-1 is known" in quote.note
    assert "known: us-east-1" in quote.note
    assert "--token-price" in quote.note


def test_a_missing_price_names_profiles_that_have_one() -> None:
    """A model that Frankfurt reaches through profiles only."""
    quote = bedrock_price("anthropic.claude-sonnet-5-5", "eu-central-1")
    assert quote.price is None
    assert "eu.anthropic.claude-sonnet-5-5, global.anthropic.claude-sonnet-5-5" in quote.note


def test_a_source_without_a_region_is_taken_for_us_east_1_and_said() -> None:
    """Ambiguous rows are used in one region, with a note."""
    quote = bedrock_price("anthropic.claude-sonnet-5-5", "us-east-1")
    assert quote.price is not None
    assert "names no region" in quote.note


@pytest.mark.parametrize(
    ("model", "region", "scope"),
    [
        ("us.amazon.nova-lite-v1:0", "us-west-2", "us"),
        ("eu.amazon.nova-lite-v1:0", "eu-central-1", "eu"),
        ("apac.amazon.nova-lite-v1:0", "ap-northeast-1", "apac"),
        ("global.anthropic.claude-sonnet-5-5", "ap-south-1", "global"),
        ("qwen.qwen3-coder-next", "eu-west-2", "eu-west-2"),
    ],
)
def test_a_price_holds_in_its_region_or_geography(model: str, region: str, scope: str) -> None:
    """Profiles are priced by geography, models by region."""
    found = bedrock_price(model, region).price
    assert found is not None
    assert found.scope == scope


def test_a_profile_of_another_geography_has_no_price() -> None:
    """us. profiles are called from the United States."""
    assert bedrock_price("us.amazon.nova-lite-v1:0", "eu-central-1").price is None


@pytest.mark.parametrize(
    ("model", "profile"),
    [("us.amazon.nova-lite-v1:0", "us"), ("global.x.y", "global"), ("amazon.nova-lite-v1:0", "")],
)
def test_the_prefix_names_the_geography(model: str, profile: str) -> None:
    """No prefix, no profile."""
    assert profile_of(model) == profile


def test_global_profiles_leave_out_the_closed_partitions() -> None:
    """ "Commercial regions" are neither GovCloud nor China."""
    assert in_geography("global", "eu-west-1")
    assert not in_geography("global", "us-gov-west-1")
    assert not in_geography("us", "us-gov-west-1")


def test_an_unknown_model_names_near_ones() -> None:
    """A typing mistake is told from a new model."""
    with pytest.raises(TokenmillError, match=r"nearest known: qwen\.qwen3-32b-v1:0.*or give --token-price"):
        bedrock_price("qwen.qwen3-32b", "us-east-1")
    with pytest.raises(TokenmillError, match="nearest known: none"):
        bedrock_price("xx", "us-east-1")


def test_an_id_without_its_provider_is_found_by_its_name() -> None:
    """The name in the middle is what people remember."""
    assert "amazon.nova-lite-v1:0" in nearest_ids("nova-lite")


def test_arns_of_models_and_system_profiles_are_read() -> None:
    """An ARN of anything else does not say which model it runs."""
    arn = "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-lite-v1:0"
    assert plain_id(arn) == "amazon.nova-lite-v1:0"
    profile = "arn:aws:bedrock:us-east-1:111122223333:inference-profile/us.amazon.nova-lite-v1:0"
    assert bedrock_price(profile, "us-east-1").price is not None
    with pytest.raises(TokenmillError, match="does not say which model it runs"):
        plain_id("arn:aws:bedrock:us-east-1:111122223333:application-inference-profile/abc")


def test_a_given_price_replaces_the_row_and_leaves_other_tiers_missing() -> None:
    """What is not given is not guessed from the table."""
    quote = bedrock_price(QWEN, "us-east-1", given={"input": 0.2, "output": 0.8, "cache_read": 0.02})
    assert quote.note == ""
    assert quote.price is not None
    assert quote.price.tiers == {"standard": TokenPrice(input=0.2, output=0.8, cache_read=0.02)}
    assert quote.price.source == "given on the command line"
    assert quote.price.max_input_tokens == 32768
    assert not quote.price.stale(datetime.date(2030, 1, 1))


def test_a_given_price_can_be_of_a_model_that_the_table_lacks() -> None:
    """And says so, with what it may have been meant for."""
    given = {"input": 1.0, "output": 2.0, "batch_input": 0.5, "batch_output": 1.0}
    quote = bedrock_price("qwen.qwen9-32b", "us-east-1", given=given)
    assert quote.price is not None
    assert set(quote.price.tiers) == {"standard", "batch"}
    assert quote.note.startswith("qwen.qwen9-32b is not in the price table (nearest: qwen")
    assert bedrock_price("zz", "us-east-1", given=given).note == (
        "zz is not in the price table; only the price given is used"
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"input": 1.0}, "standard tier needs input and output, got input"),
        ({}, "needs input and output, got neither"),
        ({"input": 1.0, "output": 1.0, "flex_input": 1.0}, "flex tier needs flex_input and flex_output"),
        ({"in": 1.0, "output": 1.0}, "unknown token price in; allowed: input, output"),
        ({"input": 2.5e-7, "output": 1e-6}, "price per token times 1,000,000"),
        ({"input": float("nan"), "output": 1.0}, "token price input is nan"),
        ({"input": -1.0, "output": 1.0}, "token price input is -1.0"),
        ({"input": 1.0, "output": 5000.0}, "token price output is 5000.0"),
    ],
)
def test_fails_on_a_price_that_is_not_usable(given: dict[str, float], message: str) -> None:
    """Halves of a price, unknown parts, and prices per token instead of per million."""
    with pytest.raises(TokenmillError, match=message):
        bedrock_price(QWEN, "us-east-1", given=given)


def test_a_price_is_stale_after_180_days_and_a_model_ends_on_its_day() -> None:
    """The day itself counts."""
    price = BedrockPrice(
        model_id="a.b", scope="", tiers={}, source_date="2026-01-01", end_of_life="2026-11-22"
    )
    assert not price.stale(datetime.date(2026, 6, 30))
    assert price.stale(datetime.date(2026, 7, 1))
    assert not price.ended(datetime.date(2026, 11, 21))
    assert price.ended(datetime.date(2026, 11, 22))
