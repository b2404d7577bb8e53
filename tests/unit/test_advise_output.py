"""The record, the charts and the program that an answer is written as."""

from __future__ import annotations

import dataclasses
import html.parser
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock
from xml.etree import ElementTree

import pytest

from support_advise import NOVA, QWEN32, TOKENS, a_plan, ask, candidate
from tokenmill.core.errors import TokenmillError
from tokenmill.core.workload import Parallelism, Slo, Workload
from tokenmill.planner.advise import Need, Traffic, UnitCapacity, Usage
from tokenmill.planner.advise.charts import write_png
from tokenmill.planner.advise.code import code, code_problem
from tokenmill.planner.advise.page import page, svg
from tokenmill.planner.advise.picture import COLOURS, Mark, levelled, picture, short, spread, ticks
from tokenmill.planner.advise.record import record
from tokenmill.planner.advise.words import breaks, money, monthly_cost, names

if TYPE_CHECKING:
    from tokenmill.planner.advise import Advice

SVG = "{http://www.w3.org/2000/svg}"
MADE = a_plan(
    candidate(),
    candidate("L4", usd_per_hour=4.0, requests_per_second_per_copy=1.0),
    candidate("H100", usd_per_hour=None),
)


def both(**changes: Any) -> Advice:
    return ask(MADE, **({"bedrock_model": NOVA, "token_price": TOKENS} | changes))


def test_the_record_has_the_parts_of_a_decision() -> None:
    """Context, drivers, options with costs, rejections, decision, break-even, prices with dates."""
    text = record(both(usage=Usage(cached_share=0.5)))
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    assert heads == [
        "Serve Qwen/Qwen3-8B or amazon.nova-lite-v1:0: SageMaker on L40S",
        "Context",
        "What the needs decide",
        "Options that meet every need",
        "Rejected",
        "Decision",
        "When it changes",
        "Prices it rests on",
    ]
    assert "- date: 2026-11-22" in text
    assert "| SageMaker on L40S | 2,190 |" in text
    assert "no price; cheapest below 3.00 an hour" in text
    assert "Source: Service tiers for optimizing performance and cost" in text
    assert "| amazon.nova-lite-v1:0 standard input | 1.00 per million tokens |" in text
    assert "| yours |" in text
    assert "2026-08-17" in text
    assert "Confidence: medium." in text
    assert "below 0.543 requests/s Bedrock on demand is cheaper" in text


def test_the_record_says_that_units_are_not_public() -> None:
    """As the table and the chart do."""
    advice = both()
    said = "what a model unit delivers and costs is not public, so no break-even is drawn"
    assert said in record(advice)
    assert said in page(advice)
    shown = picture(advice)
    assert shown is not None
    assert any(said in note for note in shown.notes)
    unit = UnitCapacity(input_tpm=100_000, output_tpm=50_000, usd_per_hour=40)
    assert said not in record(both(unit=unit))


def test_the_record_of_no_recommendation_says_so() -> None:
    """No rule, no price, no doubt: every part still reads."""
    text = record(both(need=Need(regions=("eu-west-1",), control=("engine",))))
    assert text.startswith("# Serve Qwen/Qwen3-8B or amazon.nova-lite-v1:0: no option yet")
    assert "## Options that meet every need\n\nNone." in text
    assert "No option meets every need" in text
    assert "nothing is recommended, so nothing changes" in text


def test_the_record_of_a_close_call_says_what_would_decide() -> None:
    """In its own line."""
    load = Workload(requests_per_second=4, input_tokens=512, output_tokens=256)
    assert "What would decide: measure one copy" in record(
        both(workload=load, token_price={"input": 0.25, "output": 1.0})
    )


def test_a_record_without_rules_and_doubts_has_no_empty_list() -> None:
    """One priced option and a need that excludes the others."""
    advice = ask(
        a_plan(candidate()), need=Need(control=("engine",)), traffic=Traffic(shape="batch", **BATCH_HOURS)
    )
    assert record(advice).count("Confidence: high.\n\n## When it changes") == 1
    bare = ask(bedrock_model=QWEN32, traffic=Traffic(shape="batch", **BATCH_HOURS), need=Need())
    assert bare.quota is not None


BATCH_HOURS = {"hours_per_month": 700.0, "deadline_hours": 48.0}


class Reader(html.parser.HTMLParser):
    """Collects tags and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action")]


def test_the_page_stands_alone_and_can_be_read_aloud() -> None:
    """No script, no address of another file, a language, a title and a description of the chart."""
    text = page(both())
    reader = Reader()
    reader.feed(text)
    assert reader.addresses == []
    assert not {"script", "link", "img", "iframe"} & set(reader.tags)
    assert "url(" not in text and "@import" not in text
    assert '<html lang="en">' in text
    assert '<svg viewBox="0 0 960 560" role="img" aria-labelledby="chart-title chart-text">' in text
    assert reader.tags.count("table") == 3
    assert 'scope="col"' in text


def test_the_drawing_is_well_formed_and_labels_every_line() -> None:
    """A band, a line and a label for each option, in colours and dashes that differ."""
    advice = both()
    shown = picture(advice)
    assert shown is not None
    tree = ElementTree.fromstring(svg(shown))
    lines = tree.findall("polyline")
    assert len(lines) == len(tree.findall("polygon")) == len(advice.lines) == 3
    assert len({line.get("stroke") for line in lines}) == 3
    assert len({line.get("stroke-dasharray") for line in lines}) == 3
    texts = [text.text or "" for text in tree.findall("text")]
    assert {line.title for line in advice.lines} <= set(texts)
    assert "USD a month" in texts
    assert "asked: 2/s" in texts
    description = tree.find("desc")
    assert description is not None
    assert "Bedrock on demand: 8,073 USD a month." in (description.text or "")
    assert len(tree.findall("circle")) == len(shown.marks) > 0


def test_everything_is_inside_the_drawing() -> None:
    """Lines and labels keep to the view box."""
    shown = picture(both())
    assert shown is not None
    tree = ElementTree.fromstring(svg(shown))
    for line in tree.findall("polyline"):
        for point in (line.get("points") or "").split():
            x, y = (float(part) for part in point.split(","))
            assert 0 <= x <= 960
            assert 0 <= y <= 560


def test_a_page_without_prices_has_the_tables_only() -> None:
    """Nothing to draw, and it says so."""
    advice = ask(a_plan(candidate(usd_per_hour=None)))
    text = page(advice)
    assert picture(advice) is None
    assert "there is nothing to draw" in text
    assert "<svg" not in text


def test_a_rate_that_cannot_be_carried_is_no_number() -> None:
    """The line ends where the fleet does, and the table says why."""
    from tokenmill.core.workload import Limits

    made = a_plan(candidate(), limits=Limits(max_instances=1))
    advice = ask(made, bedrock_model=NOVA, token_price=TOKENS)
    assert "cannot carry it" in page(advice)
    assert advice.lines[0].expected[-1] is None


def test_marks_out_of_the_picture_are_left_out() -> None:
    """A break-even a hundred times away, and one of an option that is not drawn."""
    shown = picture(both(workload=Workload(requests_per_second=0.005, input_tokens=512, output_tokens=256)))
    assert shown is not None
    assert shown.marks == ()


def test_labels_keep_their_distance() -> None:
    """Even where lines end at the same height, and at the top."""
    placed = spread([1.0, 1.0, 0.2, 1.0])
    assert placed[2] == pytest.approx(0.2, abs=0.2)
    ordered = sorted(placed)
    assert max(ordered) <= 1.0 + 1e-9
    assert all(after - before >= 0.055 - 1e-9 for before, after in zip(ordered, ordered[1:], strict=False))


def test_ticks_are_round() -> None:
    """1, 2 and 5 where there are few decades, whole decades where there are many."""
    assert ticks((0.3, 30)) == pytest.approx([0.5, 1, 2, 5, 10, 20])
    assert ticks((1, 1e7)) == pytest.approx([10.0**power for power in range(8)])


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.25, "0.25"), (946, "946"), (2.5e3, "2.5 k"), (3e6, "3 M"), (9.46e9, "9.46 G"), (2e12, "2 T")],
)
def test_numbers_are_short(value: float, text: str) -> None:
    """Three digits and a prefix."""
    assert short(value) == text


def test_prices_show_their_digits() -> None:
    """Cents above a dollar, significant digits below."""
    assert (money(13.12), money(0.0375)) == ("13.12", "0.0375")


def test_a_cost_without_interval_is_one_number() -> None:
    """Interval in brackets elsewhere."""
    advice = both(workload=Workload(requests_per_second=4, input_tokens=512, output_tokens=256))
    shown = {item.id: monthly_cost(item) for item in advice.ranked}
    assert shown["bedrock-on-demand"] == "16,146"
    assert shown["sagemaker-l40s"] == "2,190 (2,190-4,380)"


def test_many_accelerators_are_named_as_one() -> None:
    """Where a rule concerns all of them."""
    advice = both()
    rule = next(rule for rule in advice.fired if rule.id == "latency-goal")
    assert names(advice, rule.options) == "SageMaker"
    assert names(advice, rule.options[:1]) == "SageMaker on L40S"


def test_no_break_even_is_a_sentence_too() -> None:
    """Priority and on demand never cross."""
    advice = ask(bedrock_model=QWEN32, unit=UnitCapacity(input_tpm=1e6, output_tpm=1e6, usd_per_hour=9999))
    assert advice.break_evens == ()
    assert "no other option with a price becomes cheaper" in breaks(advice)[0]


def test_a_fleet_can_be_cheaper_for_some_rates_only() -> None:
    """Just below a full copy, until the tokens cost less than an instance."""
    load = Workload(requests_per_second=4.2, input_tokens=512, output_tokens=256)
    advice = ask(
        a_plan(candidate()), bedrock_model=NOVA, token_price={"input": 0.25, "output": 1.0}, workload=load
    )
    (said,) = [line for line in breaks(advice) if line.startswith("below 4 requests/s")]
    assert "SageMaker on L40S is cheaper for some rates" in said


def test_a_fleet_can_be_cheaper_at_first_and_for_good_later() -> None:
    """From 2.17 requests/s to a full copy at 4, and again from 4.34."""
    load = Workload(requests_per_second=2, input_tokens=512, output_tokens=256)
    advice = ask(
        a_plan(candidate()), bedrock_model=NOVA, token_price={"input": 0.25, "output": 1.0}, workload=load
    )
    (said,) = [line for line in breaks(advice) if line.startswith("above 2.17 requests/s")]
    assert "cheaper at first, for good above 4.34, since fleets grow by whole instances" in said


def test_an_interval_without_an_end_says_so() -> None:
    """At the worst of both bands the other option never gets cheaper."""
    even = dataclasses.replace(both().break_evens[0], earliest=0.25, latest=None)
    (said,) = [
        line for line in breaks(dataclasses.replace(both(), break_evens=(even,))) if "is cheaper" in line
    ]
    assert "(interval 0.25 to never)" in said


def test_labels_of_near_marks_do_not_cover_each_other() -> None:
    """Each stands a line above the one that would be in its way; where there is no room, at its point."""
    shown = picture(both())
    assert shown is not None
    rates = [1 + 0.001 * number for number in range(8)]
    crowd = tuple(Mark(rate=rate, usd=1000.0, label="") for rate in rates)
    levels = [mark.level for mark in levelled(dataclasses.replace(shown, marks=crowd))]
    assert levels == [0, 1, 2, 3, 4, 5, 0, 0]


def test_bands_and_rings_are_explained_in_the_drawing() -> None:
    """Nobody has to guess what a band is."""
    assert ">bands: intervals; rings: break-even points</text>" in page(both())


def test_a_long_verdict_leaves_the_line_below_it_free() -> None:
    """The chart begins lower for each further line of the title."""
    drawn = []
    with mock.patch("matplotlib.figure.Figure.text", lambda _, x, y, text, **__: drawn.append((text, y))):
        for verdict in ("short", "a verdict of three lines " * 10):
            write_png(dataclasses.replace(both(), verdict=verdict), Path(os.devnull))
    heights = [y for text, y in drawn if "in the peak hour" in text]
    assert heights[0] - heights[1] == pytest.approx(2 * 0.034)


def test_the_record_names_inputs_that_look_like_a_mistake() -> None:
    """Seconds for milliseconds, so that who reads the record sees it too."""
    assert "- to check: slo.ttft_ms = 2 looks like seconds" in record(both(slo=Slo(ttft_ms=2, itl_ms=1.5)))


def test_the_png_is_small_and_always_the_same(tmp_path: Path) -> None:
    """An answer that did not change leaves no difference to commit."""
    advice = both()
    write_png(advice, tmp_path / "a.png")
    write_png(advice, tmp_path / "b.png")
    data = (tmp_path / "a.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert data == (tmp_path / "b.png").read_bytes()
    assert len(data) < 120_000


def test_fails_without_matplotlib_naming_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra `plot` brings it; HTML needs nothing."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(TokenmillError, match=r"pip install 'tokenmill\[plot\]', or write a \.html"):
        write_png(both(), tmp_path / "a.png")


def test_fails_to_draw_without_a_price(tmp_path: Path) -> None:
    """One sentence with the flags."""
    with pytest.raises(TokenmillError, match="nothing to draw; give --token-price or --price"):
        write_png(ask(a_plan(candidate(usd_per_hour=None))), tmp_path / "a.png")


def test_six_colours_are_enough() -> None:
    """Never more lines than colours."""
    many = a_plan(*(candidate(name) for name in ("L40S", "L4", "A10G", "H100", "H200", "B200", "T4")))
    advice = ask(many, bedrock_model=NOVA)
    assert len(advice.lines) <= len(COLOURS)


def test_the_program_names_what_was_recommended() -> None:
    """Bedrock by its id and the model's window, SageMaker by the candidate's shape."""
    load = Workload(requests_per_second=0.1, input_tokens=512, output_tokens=256)
    text = code(both(workload=load))
    compile(text, "bedrock", "exec")
    assert '"model": "amazon.nova-lite-v1:0"' in text
    assert '"limits.context_tokens": 300000' in text
    text = code(both())
    compile(text, "sagemaker", "exec")
    assert f'instance_type="{MADE.candidates[0].instance_type}"' in text
    assert "Capacity(minimum=1, maximum=4, initial=1)" in text


def test_a_model_without_a_known_window_gets_room_for_its_answers() -> None:
    """Prompt and four times the mean answer."""
    given = {"input": 0.01, "output": 0.01}
    assert ask(bedrock_model="a.b-v1:0", token_price=given).context_tokens == 512 + 4 * 256


def test_what_no_construct_builds_is_said() -> None:
    """Batch, a split by layers, nothing at all."""
    batch = ask(bedrock_model=QWEN32, traffic=Traffic(shape="batch", **BATCH_HOURS))
    assert "no construct builds Bedrock" in code_problem(batch)
    with pytest.raises(TokenmillError, match="no construct builds Bedrock"):
        code(batch)
    layers = a_plan(candidate(parallelism=Parallelism(tensor=2, pipeline=2)))
    assert "by layers or replicas" in code_problem(ask(layers))
    assert "nothing was recommended" in code_problem(both(need=Need(regions=("eu-west-1",))))
