"""The difference of two assemblies, and reports as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support_cost import cost, endpoint, managed, resource
from tokenmill.cost import CostReport, TokenCost, compare, difference_markdown, report_markdown
from tokenmill.cost.difference import LineChange
from tokenmill.cost.markdown import usd

if TYPE_CHECKING:
    from pathlib import Path

KEY, NAT = resource("AWS::KMS::Key"), resource("AWS::EC2::NatGateway")
DATABASE = resource("AWS::RDS::DBInstance", DBInstanceClass="db.t4g.medium")
LARGE = "ml.inf2.24xlarge"


def fleet(fewest: int, most: int = 4) -> dict[str, Any]:
    return endpoint(variant=managed(LARGE, fewest, most), copies=0)


def test_the_same_assembly_changes_nothing(tmp_path: Path) -> None:
    report = cost(tmp_path, Key=KEY, **fleet(1))
    found = compare(report, report)
    assert (found.lines, found.quotas, found.tokens, found.usd_per_month) == ((), (), (), 0.0)
    assert difference_markdown(found).startswith("### Cost: no change ($5,687.70 a month with no traffic)")


def test_added_removed_and_changed_lines_add_up_to_the_delta(tmp_path: Path) -> None:
    before = cost(tmp_path / "a", Key=KEY, Nat=NAT, **fleet(1))
    after = cost(tmp_path / "b", Key=KEY, Dash=resource("AWS::CloudWatch::Dashboard"), **fleet(2, 6))
    found = compare(before, after)
    kinds = {(change.kind, change.line.resource): change.usd_per_month for change in found.lines}
    assert kinds == {
        ("changed", "Endpoint"): pytest.approx(5686.7),
        ("removed", "Nat"): pytest.approx(-32.85),
        ("added", "Dash"): pytest.approx(3.0),
    }
    assert found.usd_per_month == pytest.approx(sum(kinds.values()))
    assert [change.line.resource for change in found.lines] == ["Endpoint", "Nat", "Dash"]
    assert [(item.before, item.after) for item in found.quotas] == [(4, 6)]


def test_turning_the_two_sides_turns_the_signs(tmp_path: Path) -> None:
    one, other = cost(tmp_path / "a", Key=KEY), cost(tmp_path / "b", Nat=NAT, **fleet(1))
    there, back = compare(one, other), compare(other, one)
    assert there.usd_per_month == pytest.approx(-back.usd_per_month)
    assert (
        {change.kind for change in there.lines}
        == {change.kind for change in back.lines}
        == {"added", "removed"}
    )


def test_a_change_without_a_price_has_no_delta_and_comes_first(tmp_path: Path) -> None:
    found = compare(cost(tmp_path / "a", Nat=NAT), cost(tmp_path / "b", Db=DATABASE))
    assert [change.usd_per_month for change in found.lines] == [None, pytest.approx(-32.85)]
    assert [line.resource for line in found.newly_missing] == ["Db"]
    assert "-$32.85 a month with no traffic, and 1 changes of unknown cost" in difference_markdown(found)
    gone = compare(cost(tmp_path / "b", Db=DATABASE), cost(tmp_path / "a", Nat=NAT))
    assert gone.newly_missing == ()


def test_two_variants_of_an_endpoint_are_told_apart(tmp_path: Path) -> None:
    found = fleet(1)
    found["Config"]["Properties"]["ProductionVariants"].append(
        {"VariantName": "B", "InstanceType": "ml.inf2.xlarge", "InitialInstanceCount": 1}
    )
    before = cost(tmp_path, **found)
    found["Config"]["Properties"]["ProductionVariants"][1]["InitialInstanceCount"] = 2
    (change,) = compare(before, cost(tmp_path, **found)).lines
    assert change.line.item == "ml.inf2.xlarge"


def test_a_change_has_a_line() -> None:
    with pytest.raises(ValueError, match="before or after"):
        _ = LineChange(kind="added", before=None, after=None).line


def with_tokens(usd_per_million: float | None, model: str = "m") -> CostReport:
    token = TokenCost(
        stack="Demo",
        model=model,
        load="",
        tokens_per_hour=None,
        usd_per_million=usd_per_million,
        usd_per_million_with_floor=None,
    )
    return CostReport(
        assembly="x",
        stacks=(),
        lines=(),
        by_use=(),
        unknown=(),
        quotas=(),
        tokens=(token,),
        runs=(),
        warnings=(),
    )


def test_a_price_per_million_tokens_that_moves_is_shown() -> None:
    found = compare(with_tokens(1.5), with_tokens(None))
    assert [(item.before, item.after) for item in found.tokens] == [(1.5, None)]
    assert "| `m` | $1.50 | not known |" in difference_markdown(found)
    assert len(compare(with_tokens(1.5), with_tokens(1.5, "other")).tokens) == 2


def test_markdown_of_a_difference_is_tables_with_escaped_cells(tmp_path: Path) -> None:
    named = {**KEY, "Metadata": {"aws:cdk:path": "Demo/a|b`<c>/Resource"}}
    text = difference_markdown(
        compare(cost(tmp_path / "a", Nat=NAT), cost(tmp_path / "b", Key=named, **fleet(1)))
    )
    assert "| + | `Demo` | `a\\|b&lt;c>` | KMS key |  | 1 x kms-key | +$1.00 |" in text
    assert "| - | `Demo` | `Nat` | NAT gateway | 1 x nat-gateway |  | -$32.85 |" in text
    assert f"| {LARGE} for endpoint usage | us-east-1 | 0 | 4 | +4 |" in text
    widths = {line.count(" | ") for line in text.splitlines() if line.startswith("| + |")}
    assert len(widths) == 1


def test_markdown_of_a_report_has_lines_quotas_use_and_what_is_unknown(tmp_path: Path) -> None:
    text = report_markdown(
        cost(tmp_path, Db=DATABASE, Log=resource("AWS::Logs::LogGroup"), C=resource("Custom::X"), **fleet(1))
    )
    assert text.startswith("### Cost: at least $5,686.70 a month with no traffic; 1 line has no known cost")
    assert "| `Demo` | `Db` | DBInstance db.t4g.medium | 1 x AWS::RDS::DBInstance | not known |" in text
    assert f"| {LARGE} for endpoint usage | L-9C39178F | us-east-1 | 1 | 4 |" in text
    assert "By use: AWS::Logs::LogGroup (log data and its storage)" in text
    assert "> cost not known: 1 x Custom::X" in text


def test_markdown_of_a_report_names_unknown_quantities_and_counts_missing_lines(tmp_path: Path) -> None:
    stream = resource("AWS::Kinesis::Stream", ShardCount={"Ref": "P"})
    text = report_markdown(cost(tmp_path, A=stream, B=stream))
    assert "2 lines have no known cost" in text
    assert "| ? | not known |" in text
    assert "By use" not in text


@pytest.mark.parametrize(
    ("amount", "signed", "text"),
    [
        (None, True, "not known"),
        (0.0, True, "$0.00"),
        (-0.001, True, "$0.00"),
        (2.5, True, "+$2.50"),
        (-1200, False, "-$1,200.00"),
    ],
)
def test_amounts_are_written_with_a_sign_only_where_something_changes(
    amount: float | None, signed: bool, text: str
) -> None:
    assert usd(amount, signed=signed) == text
