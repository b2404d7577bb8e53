"""The public surface is a contract: what is listed can be imported, and nothing else is promised."""

from __future__ import annotations

import pytest

import tokenmill


def test_all_lists_what_the_package_exports() -> None:
    """`__all__` is sorted and equals the table that loads the names."""
    assert list(tokenmill.__all__) == sorted(tokenmill._HOME)


@pytest.mark.parametrize("name", tokenmill.__all__)
def test_a_listed_name_can_be_imported(name: str) -> None:
    """Each name loads from its home and knows its own name."""
    assert getattr(tokenmill, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A typing mistake reads like one of any module."""
    with pytest.raises(AttributeError, match="module 'tokenmill' has no attribute 'LlmEndpiont'"):
        tokenmill.LlmEndpiont  # noqa: B018
