"""Which models have a service tier or a faster version, as far as sources say."""

from __future__ import annotations

import pytest

from tokenmill.core.bedrock_profiles import known_models
from tokenmill.core.serving_modes import latency_optimized, serving_notes


@pytest.mark.parametrize("model", ["amazon.nova-pro-v1:0", "us.amazon.nova-pro-v1:0"])
def test_a_model_with_a_faster_version_and_the_tier_has_no_note(model: str) -> None:
    """A profile has what its model has."""
    assert serving_notes(model, service_tier="flex", optimized=True) == []


def test_a_model_without_a_faster_version_is_told_with_those_that_have_one() -> None:
    """Each request would be refused."""
    [note] = serving_notes("us.amazon.nova-lite-v1:0", optimized=True)
    assert note.startswith("no faster version of amazon.nova-lite-v1:0 is known")
    assert "amazon.nova-pro-v1:0" in note


@pytest.mark.parametrize(
    ("tier", "notes"), [("flex", 1), ("priority", 1), ("default", 0), ("reserved", 0), (None, 0)]
)
def test_a_tier_that_the_price_table_does_not_have_is_told(tier: str | None, notes: int) -> None:
    """This Claude has a standard price and one for batches; the account team arranges reserved."""
    found = serving_notes("us.anthropic.claude-sonnet-4-5-20250929-v1:0", service_tier=tier)
    assert [note.endswith("known: standard") for note in found] == [True] * notes


def test_a_model_that_no_table_knows_has_no_tier_to_miss() -> None:
    """Nothing is known of it, so nothing is said."""
    assert serving_notes("acme.new-model-v1:0", service_tier="flex") == []


def test_the_data_names_models_that_are_known() -> None:
    """A typing error in the file would never match."""
    assert latency_optimized() <= known_models()
