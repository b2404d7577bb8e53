"""The picture of predicted over measured times."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from support_timing import GPU_ROW, NEURON_ROW
from tokenmill.core.errors import TokenmillError
from tokenmill.planner.accuracy import Accuracy, score
from tokenmill.planner.accuracy_chart import draw

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def made() -> Accuracy:
    """Decode steps on two chips, one of them extrapolated, a token on a GPU, prefills far apart."""
    extrapolated = NEURON_ROW | {"id": "3", "accelerator": "Trainium2", "ttft_ms": "3"}
    return score([dict(NEURON_ROW), dict(GPU_ROW), extrapolated])


def test_a_png_is_a_png(made: Accuracy, tmp_path: Path) -> None:
    draw(made, tmp_path / "c.PNG")
    assert (tmp_path / "c.PNG").read_bytes().startswith(b"\x89PNG")


def test_an_svg_names_metrics_chips_bands_and_how_many_rows_are_covered(
    made: Accuracy, tmp_path: Path
) -> None:
    draw(made, tmp_path / "c.svg")

    text = (tmp_path / "c.svg").read_text()
    ElementTree.fromstring(text)
    for words in (
        "time of a decode step on NeuronCores (itl)",
        "time per output token on GPUs (tpot)",
        "time to first token on NeuronCores (ttft)",
        "inf2 (1)",
        "trn2 (1)",
        "h100 (1)",
        "within 10 %",
        "within 25 %",
        "measured, ms",
        "predicted, ms",
        "2 rows, mean error",
        "5 published times, bars are 80 % intervals, hollow is extrapolated",
    ):
        assert words in text
    assert "used in the fit" not in text


def test_the_same_rows_give_the_same_bytes(made: Accuracy, tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg", "a.png", "b.png"):
        draw(made, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_file_of_rows_that_were_fitted_on_says_that_it_is_no_evidence(tmp_path: Path) -> None:
    seen = Accuracy(scored=score([dict(GPU_ROW)]).scored, skipped=(), fitted_on=1, duplicates=0)
    draw(seen, tmp_path / "c.svg")
    text = (tmp_path / "c.svg").read_text()
    assert "1 of them were used in the fit: their errors are no evidence" in text
    assert "(itl)" not in text


@pytest.mark.parametrize("name", ["c.pdf", "c", "c.html"])
def test_fails_for_another_ending_with_the_allowed_ones(made: Accuracy, tmp_path: Path, name: str) -> None:
    with pytest.raises(TokenmillError, match=r"chart .*c.* must end in .png or .svg"):
        draw(made, tmp_path / name)


def test_fails_where_nothing_was_scored(tmp_path: Path) -> None:
    with pytest.raises(TokenmillError, match="no row of the file could be scored"):
        draw(score([]), tmp_path / "c.svg")


def test_fails_where_the_file_cannot_be_written(made: Accuracy, tmp_path: Path) -> None:
    with pytest.raises(TokenmillError, match=r"none.c.svg cannot be written: No such file"):
        draw(made, tmp_path / "none" / "c.svg")


def test_fails_naming_the_extra_where_matplotlib_is_missing(
    made: Accuracy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(TokenmillError, match=r"pip install 'tokenmill\[plot\]'"):
        draw(made, tmp_path / "c.png")
