"""Scores are read whole, or refused with the line and the field."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support_selection import scores_of, write_lines
from tokenmill.core.errors import TokenmillError
from tokenmill.planner.scores import _parse, read_scores, scores_from

if TYPE_CHECKING:
    from pathlib import Path

GOOD = {"model": "a", "example": 1, "score": 0.5}


def test_examples_that_a_model_lacks_are_left_out_and_counted(tmp_path: Path) -> None:
    lines = [{**GOOD, "model": model, "example": n} for model in "ab" for n in range(12)]
    path = write_lines(tmp_path / "s.jsonl", *lines, {**GOOD, "example": "only a"}, "")
    found = read_scores(path)
    assert (found.models, len(found.examples)) == (("a", "b"), 12)
    assert found.warnings == ("1 of 13 examples are left out: not every model has a score there",)


def test_correct_true_and_false_are_scores_of_1_and_0(tmp_path: Path) -> None:
    lines = [{"model": "a", "example": n, "correct": n % 2 == 0} for n in range(10)]
    found = read_scores(write_lines(tmp_path / "s.jsonl", *lines))
    assert found.values.tolist() == [[1.0, 0.0] * 5]
    assert found.binary


def test_graded_scores_are_not_binary() -> None:
    assert not scores_of({"a": [0.5, 1.0]}).binary


def test_a_measure_that_one_line_lacks_is_no_measure(tmp_path: Path) -> None:
    lines = [{**GOOD, "example": n, "cost_usd": 0.1} for n in range(3)]
    del lines[1]["cost_usd"]
    found = read_scores(
        write_lines(
            tmp_path / "s.jsonl",
            *lines,
        )
    )
    assert found.measure("cost_usd", "a") is None


def test_a_measure_of_null_is_absent(tmp_path: Path) -> None:
    lines = [{**GOOD, "example": n, "cost_usd": None} for n in range(3)]
    assert read_scores(write_lines(tmp_path / "s.jsonl", *lines)).measure("cost_usd", "a") is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1 is not JSON"),
        ("[" * 100_000, "line 1 is not JSON"),
        ("[]", "is no JSON object"),
        ({**GOOD, "Score": 1}, "unknown fields Score"),
        ({**GOOD, "model": " "}, "model must be a text"),
        ({"example": 1, "score": 1}, "model must be a text, got None"),
        ({**GOOD, "example": True}, "example must be a text, got True"),
        ({"model": "a", "example": 1}, "either score"),
        ({**GOOD, "correct": True}, "either score"),
        ({"model": "a", "example": 1, "correct": 1}, "correct must be true or false, got 1"),
        ({**GOOD, "score": 85}, "score must be 0 to 1, got 85; a percentage. divide it by 100"),
        ({**GOOD, "score": -0.1}, "score must be 0 to 1, got -0.1$"),
        ({**GOOD, "score": "1"}, "score must be a number, got '1'"),
        ('{"model": "a", "example": 1, "score": NaN}', "score must be a finite number, got nan"),
        (
            '{"model": "a", "example": 1, "score": 1' + "0" * 400 + "}",
            "score must be a finite number, got inf",
        ),
        ({**GOOD, "cost_usd": -1}, "cost_usd must be 0 or more, got -1"),
        ({**GOOD, "latency_ms": False}, "latency_ms must be a number"),
    ],
)
def test_a_bad_line_is_named_with_its_field(line: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(TokenmillError, match=message):
        read_scores(write_lines(tmp_path / "s.jsonl", line))


def test_a_confidence_may_be_negative_as_log_probabilities_are(tmp_path: Path) -> None:
    lines = [{**GOOD, "example": n, "confidence": -1.5} for n in range(2)]
    found = read_scores(write_lines(tmp_path / "s.jsonl", *lines)).measure("confidence", "a")
    assert found is not None
    assert found.tolist() == [-1.5, -1.5]


def test_two_scores_of_one_answer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenmillError, match="two scores of 'a' on example '1'; keep one"):
        read_scores(write_lines(tmp_path / "s.jsonl", GOOD, GOOD))


def test_an_empty_file_says_what_a_line_looks_like(tmp_path: Path) -> None:
    with pytest.raises(
        TokenmillError, match="has no scores; write one JSON object a line with model, example"
    ):
        read_scores(write_lines(tmp_path / "s.jsonl", ""))


def test_models_without_common_examples_cannot_be_compared(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "s.jsonl", GOOD, {**GOOD, "model": "b", "example": 2})
    with pytest.raises(TokenmillError, match="too few examples that every one of a, b answered, 0"):
        read_scores(path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "s.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(TokenmillError, match="is not UTF-8 text"):
        read_scores(tmp_path / "s.jsonl")


def test_numbers_in_an_implausible_unit_are_questioned() -> None:
    rows = {"a": [1.0] * 12}
    found = scores_of(rows, cost_usd={"a": [15.0] * 12}, latency_ms={"a": [0.8] * 12})
    assert "is it a price per million tokens?" in found.warnings[0]
    assert "median of 0.8; is it in seconds?" in found.warnings[1]
    plain = scores_of(rows, cost_usd={"a": [0.01] * 12}, latency_ms={"a": [800.0] * 12})
    assert plain.warnings == ()


def test_few_examples_are_said_to_be_few() -> None:
    assert "3 examples are too few" in scores_of({"a": [1, 0, 1]}).warnings[0]


def test_an_unknown_model_is_refused_with_the_known_ones() -> None:
    with pytest.raises(TokenmillError, match="no scores of 'c'; the file has a, b"):
        scores_of({"a": [1, 0], "b": [1, 1]}).row("c")


@given(
    st.text(max_size=60)
    | st.dictionaries(st.text(max_size=8), st.none() | st.floats() | st.text(max_size=5)).map(repr)
)
def test_any_line_is_a_score_or_one_error(line: str) -> None:
    """No line of any text ends in another exception than ours."""
    try:
        scores_from([_parse(line, "line"), _parse('{"model": "a", "example": 1, "score": 1}', "line")])
    except TokenmillError:
        pass
