"""`tokenmill select` as a user calls it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from support_selection import population, write_lines
from support_stack import candidate, plan
from tokenmill.cli.select import register
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


def run(*arguments: object) -> Result:
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    result = CliRunner().invoke(app, ["select", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    drawn = population(800, np.random.default_rng(1))
    lines: list[dict[str, Any]] = []
    for number in range(800):
        tokens = {"example": number, "input_tokens": 600, "output_tokens": 200}
        sure = float(drawn["confidence"][number])
        small = {"model": "small", "correct": bool(drawn["small"][number]), "confidence": sure}
        lines += [small | tokens, {"model": "large", "score": float(drawn["large"][number])} | tokens]
    return write_lines(tmp_path_factory.mktemp("scores") / "s.jsonl", *lines)


PRICES = ("--cost", "small=0.05", "--cost", "large=0.5/2")


def test_the_choice_the_table_and_the_guarantee_are_printed(scores: Path) -> None:
    result = run(scores, "--bar", 0.77, *PRICES)
    assert result.exit_code == 0
    assert "cheapest over 0.77: large" in result.stdout
    assert "guarantee: in 95 % of samples" in result.stdout
    assert "800 examples, 95 % bounds, cheapest first" in result.stdout


def test_no_model_over_the_bar_exits_1(scores: Path) -> None:
    result = run(scores, "--bar", 0.99, *PRICES)
    assert result.exit_code == 1
    assert "no model is shown to be over 0.99 and has a cost" in result.stdout


def test_json_is_one_document_with_the_whole_curve(scores: Path) -> None:
    result = run(scores, "--bar", 0.77, *PRICES, "--cascade", "small,large", "--margin", 0.05, "--json")
    found = json.loads(result.stdout)
    assert found["selection"]["chosen"] == "large"
    assert found["cascade"]["serve"] == "cascade"
    curve = found["cascade"]["curve"]
    assert (curve[0]["serve"], curve[0]["threshold"]) == ("large", None)
    assert (curve[-1]["serve"], curve[-1]["threshold"]) == ("small", None)
    assert found["cascade"]["escalated"] < found["cascade"]["break_even"]
    assert found["prices"]["large"]["output_usd"] == 2.0


def test_json_without_a_cascade_has_none(scores: Path) -> None:
    assert json.loads(run(scores, "--bar", 0.77, *PRICES, "--json").stdout)["cascade"] is None


def test_the_same_seed_gives_the_same_bytes(scores: Path) -> None:
    asked = (scores, "--bar", 0.77, *PRICES, "--cascade", "small,large", "--margin", 0.05, "--json")
    assert run(*asked, "--seed", 4).stdout == run(*asked, "--seed", 4).stdout


def test_the_cascade_is_printed_beside_both_models_alone(scores: Path) -> None:
    out = run(scores, "--bar", 0.5, *PRICES, "--cascade", "small,large", "--margin", 0.05).stdout
    assert "cascade small -> large: keep answers of confidence" in out
    assert "cascade, as expected (cross-fitted): score" in out
    assert "note: small alone clears the bar and costs less than this cascade" in out
    assert "its score minus that of large, the best:" in out


def test_a_chart_is_written(scores: Path, tmp_path: Path) -> None:
    result = run(scores, "--bar", 0.77, *PRICES, "--chart", tmp_path / "c.html")
    assert f"wrote {tmp_path / 'c.html'}" in result.stdout.replace("\n", "")
    assert (tmp_path / "c.html").is_file()


def test_a_plan_and_bedrock_give_prices_with_their_source(scores: Path, tmp_path: Path) -> None:
    plan().write(tmp_path / "small.plan.json")
    costs = (
        "--cost",
        f"small={tmp_path / 'small.plan.json'}",
        "--cost",
        "large=bedrock:amazon.nova-pro-v1:0",
    )
    found = json.loads(run(scores, "--bar", 0.5, *costs, "--json").stdout)
    assert found["prices"]["small"]["input_usd"] == 1.9
    assert found["prices"]["large"]["input_usd"] == pytest.approx(0.8)
    assert "price of large: " in run(scores, "--bar", 0.5, *costs).stdout


def test_a_plan_without_a_price_says_how_to_get_one(scores: Path, tmp_path: Path) -> None:
    plan(candidate(usd_per_hour=None, usd_per_million_tokens=None)).write(tmp_path / "p.plan.json")
    with pytest.raises(TokenmillError, match="plan with --price ml.inf2.8xlarge=USD"):
        run(scores, "--bar", 0.5, "--cost", f"small={tmp_path / 'p.plan.json'}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--cost", "small"), "--cost must be MODEL=USD per million tokens, such as small=0.06, got 'small'"),
        (("--cost", "small="), "--cost must be MODEL=USD"),
        (("--cost", "small=cheap"), "--cost of small must be USD per million tokens"),
        (("--cost", "small=1/"), None),
        (("--cost", "small=-1"), "a price per million tokens must be 0 or more"),
        (
            ("--cost", "small=bedrock:amazon.nova-lite-v1:0", "--region", "mars-1"),
            "no price of amazon.nova-lite",
        ),
        (("--cost", "tiny=1"), "no scores of 'tiny'"),
        (("--cascade", "small"), "--cascade must be SMALL,LARGE"),
        (("--cascade", "small,"), "--cascade must be SMALL,LARGE"),
        (("--seed", "-1"), "--seed must be 0 or more, got -1"),
    ],
)
def test_bad_input_is_one_sentence(scores: Path, arguments: tuple[str, ...], message: str | None) -> None:
    if message is None:
        assert run(scores, "--bar", "0.5", *arguments).exit_code == 0
        return
    with pytest.raises(TokenmillError, match=message):
        run(scores, "--bar", "0.5", *arguments)


def test_what_the_means_alone_would_choose_is_said(tmp_path: Path) -> None:
    """A model at 0.82 of 100 is over 0.8 by its mean, and not shown to be."""
    lines = [{"model": "a", "example": n, "correct": n < 82, "cost_usd": 0.001} for n in range(100)]
    lines += [{"model": "b", "example": n, "correct": n < 97, "cost_usd": 0.01} for n in range(100)]
    path = write_lines(tmp_path / "s.jsonl", *lines)
    assert "cheapest over 0.8: b; by the means alone it would be a" in run(path, "--bar", 0.8).stdout
    assert "; by the means alone it would be b" in run(path, "--bar", 0.96).stdout


def test_fails_on_two_prices_of_a_model(scores: Path) -> None:
    with pytest.raises(TokenmillError, match="--cost has two prices of small; keep one"):
        run(scores, "--bar", 0.7, *PRICES, "--cost", "small=1")


def test_a_price_by_the_token_is_noted(scores: Path) -> None:
    """A millionth of what it should be would make any model the cheapest."""
    result = run(scores, "--bar", 0.7, "--cost", "small=0.00000005", "--cost", "large=0.5/2")
    assert "the price of small, 5e-08, is read as USD per million tokens; is it per token" in result.stdout
    assert "is read as" not in run(scores, "--bar", 0.7, *PRICES).stdout


def test_a_missing_bedrock_price_names_the_flag_of_this_command(scores: Path) -> None:
    with pytest.raises(TokenmillError, match="or give --cost small=INPUT/OUTPUT, USD per million tokens"):
        run(scores, "--bar", 0.7, "--cost", "small=bedrock:acme.none-v1:0")


def test_a_wrong_price_names_its_model(scores: Path) -> None:
    with pytest.raises(TokenmillError, match="--cost of small: a price per million tokens must be 0 or more"):
        run(scores, "--bar", 0.7, "--cost", "small=nan")
