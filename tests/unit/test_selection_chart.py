"""The chart holds every model with a cost, the cascade, and needs nothing else to be looked at."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
import pytest

from support_selection import population, scores_of
from tokenmill.core.errors import TokenmillError
from tokenmill.planner.cascade import Cascade, cascade
from tokenmill.planner.selection import Selection, select
from tokenmill.planner.selection_chart import draw

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def made() -> tuple[Selection, Cascade]:
    drawn = population(800, np.random.default_rng(1))
    scores = scores_of(
        {"s<1>": drawn["small"], "large": drawn["large"], "free & unpriced": drawn["large"]},
        confidence={"s<1>": drawn["confidence"]},
        cost_usd={"s<1>": [0.0001] * 800, "large": [0.001] * 800},
    )
    return select(scores, bar=0.77), cascade(scores, small="s<1>", large="large", margin=0.05)


def test_a_png_is_a_png(made: tuple[Selection, Cascade], tmp_path: Path) -> None:
    draw(tmp_path / "c.png", made[0])
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


def test_an_svg_is_xml_with_the_models_and_the_cascade(
    made: tuple[Selection, Cascade], tmp_path: Path
) -> None:
    assert made[1].pays
    draw(tmp_path / "c.svg", *made)
    text = (tmp_path / "c.svg").read_text()
    ElementTree.fromstring(text)
    assert "cascade s&lt;1&gt; to large" in text
    assert "large (chosen)" in text
    assert "free &amp; unpriced" not in text


def test_the_page_needs_no_other_file_and_escapes_names(
    made: tuple[Selection, Cascade], tmp_path: Path
) -> None:
    draw(tmp_path / "c.html", *made)
    text = (tmp_path / "c.html").read_text()
    assert text.startswith("<!doctype html>")
    assert "<svg" in text
    assert "src=" not in text
    assert "<script" not in text
    assert "<td>s&lt;1&gt;</td>" in text
    assert "<td>free &amp; unpriced</td>" in text
    assert "unknown" in text
    assert made[1].verdict in text


def test_a_page_without_a_choice_or_a_cascade_says_no_model(tmp_path: Path) -> None:
    chosen = select(scores_of({"a": [1.0, 0.0] * 20}, cost_usd={"a": [0.1] * 40}), bar=0.9)
    draw(tmp_path / "c.html", chosen)
    assert "Cheapest over 0.9: no model" in (tmp_path / "c.html").read_text()


def test_a_cascade_that_does_not_pay_has_no_star(made: tuple[Selection, Cascade], tmp_path: Path) -> None:
    from dataclasses import replace

    draw(tmp_path / "c.svg", made[0], replace(made[1], pays=False))
    assert "cross-fitted" not in (tmp_path / "c.svg").read_text()


def test_another_ending_is_refused_with_the_allowed_ones(
    made: tuple[Selection, Cascade], tmp_path: Path
) -> None:
    with pytest.raises(TokenmillError, match=r"must end in .png, .html, .svg"):
        draw(tmp_path / "c.pdf", made[0])


def test_without_any_cost_there_is_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(TokenmillError, match="no model has a cost"):
        draw(tmp_path / "c.png", select(scores_of({"a": [1, 0]}), bar=0.5))


def test_without_matplotlib_the_extra_is_named(
    made: tuple[Selection, Cascade], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(TokenmillError, match=r"pip install 'tokenmill\[plot\]'"):
        draw(tmp_path / "c.png", made[0])
