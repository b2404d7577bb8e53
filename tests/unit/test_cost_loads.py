"""Price per million tokens at the planned load, and token quotas of Bedrock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support_cost import assembly, endpoint, managed, resource, template
from support_stack import candidate, plan
from tokenmill.core.errors import TokenmillError
from tokenmill.cost import CostReport, PlannedLoads, PriceList, TokenCost, cost_of

if TYPE_CHECKING:
    from pathlib import Path

PLAN = plan()
SETTINGS = """
[chat]
model = "{model}"
backend = "bedrock"
region = "us-east-1"
[chat.traffic]
requests_per_second = 2
input_tokens = 500
output_tokens = 100
[chat.slo]
ttft_ms = 2000
itl_ms = 60
[chat.limits]
context_tokens = 100000
"""


def served(metadata: object, **more: Any) -> dict[str, Any]:
    found = endpoint(variant=managed("ml.inf2.8xlarge", 1, 6), least=2)
    found["Model"]["Metadata"] = {"tokenmill": metadata}
    return found | more


def report_of(root: Path, resources: dict[str, Any], prices: dict[str, float] | None = None) -> CostReport:
    loads = PlannedLoads.beside([root])
    built = assembly(root / "cdk.out", **{"tokenmill-chat": template(**resources)})
    return cost_of(built, loads=loads, prices=PriceList(prices))


def only(report: CostReport) -> TokenCost:
    (found,) = report.tokens
    return found


def test_a_million_tokens_cost_the_planned_instances_over_the_planned_tokens(tmp_path: Path) -> None:
    """Two instances at 2.36 USD an hour, one request a second of 1,000 tokens; a NAT gateway besides."""
    PLAN.write(tmp_path / "chat.plan.json")
    resources = served({"model": "Qwen/Qwen3-8B", "plan": PLAN.hash}, Nat=resource("AWS::EC2::NatGateway"))
    found = only(report_of(tmp_path, resources, {"ml.inf2.8xlarge": 2.36}))
    assert found.usd_per_million == pytest.approx(2 * 2.36 / 3.6)
    assert found.usd_per_million_with_floor == pytest.approx((2 * 2.36 + 0.045) / 3.6)
    assert (found.load, found.tokens_per_hour) == ("1 requests/s of 800 + 200 tokens", 3.6e6)


def test_a_missing_price_of_the_floor_leaves_the_whole_unknown(tmp_path: Path) -> None:
    PLAN.write(tmp_path / "chat.plan.json")
    found = only(report_of(tmp_path, served({"plan": PLAN.hash}, Db=resource("AWS::RDS::DBInstance"))))
    assert found.usd_per_million is not None
    assert found.usd_per_million_with_floor is None
    assert found.model == "Model"


def test_a_plan_that_is_not_there_is_named(tmp_path: Path) -> None:
    found = only(report_of(tmp_path, served({"model": "m", "plan": "0123456789abcdef"})))
    assert found.usd_per_million is None
    assert found.note.startswith("plan 0123456789abcdef lies neither beside the assembly nor here")


@pytest.mark.parametrize("metadata", [{"model": "m"}, "text", {"plan": 5}])
def test_a_component_without_a_plan_has_no_known_load(metadata: object, tmp_path: Path) -> None:
    assert (
        only(report_of(tmp_path, served(metadata))).note
        == "its template names no plan, so its load is not known"
    )


def test_an_instance_type_without_a_price_is_named_with_its_load(tmp_path: Path) -> None:
    unpriced = plan(candidate(instance_type="ml.p9.48xlarge"))
    unpriced.write(tmp_path / "chat.plan.json")
    found = only(report_of(tmp_path, served({"plan": unpriced.hash})))
    assert found.note == "no price of ml.p9.48xlarge in us-east-1 is known; give --price ml.p9.48xlarge=USD"
    assert found.tokens_per_hour == 3.6e6


def test_a_plan_file_that_is_none_is_left_out_unless_the_user_names_it(tmp_path: Path) -> None:
    (tmp_path / "old.plan.json").write_text("{}")
    (tmp_path / "tokenmill.toml").write_text("chat = 1")
    loads = PlannedLoads.beside([tmp_path, tmp_path])
    assert [text.split(" is left out")[0] for text in loads.warnings] == [
        "plan file old.plan.json",
        "tokenmill.toml",
    ]
    with pytest.raises(TokenmillError, match="has schema None"):
        PlannedLoads.beside([], [tmp_path / "old.plan.json"])


def test_a_plan_that_the_user_names_is_used(tmp_path: Path) -> None:
    PLAN.write(tmp_path / "elsewhere.json")
    assert list(PlannedLoads.beside([], [tmp_path / "elsewhere.json"]).plans) == [PLAN.hash]


def bedrock(root: Path, model: str, resources: dict[str, Any] | None = None) -> CostReport:
    (root / "tokenmill.toml").write_text(SETTINGS.format(model=model))
    return report_of(
        root, resources or {"Log": resource("AWS::Logs::LogGroup"), "Key": resource("AWS::KMS::Key")}
    )


def test_bedrock_costs_by_the_mix_of_tokens_and_needs_a_token_quota(tmp_path: Path) -> None:
    report = bedrock(tmp_path, "amazon.nova-pro-v1:0")
    found = only(report)
    usd = (500 * 0.8 + 100 * 3.2) / 600
    assert found.usd_per_million == pytest.approx(usd)
    assert found.usd_per_million_with_floor == pytest.approx(usd + 1 / 730 / (2 * 3600 * 600) * 1e6)
    (need,) = report.quotas
    assert need.name == "On-demand InvokeModel tokens per minute for amazon.nova-pro-v1:0"
    assert (need.at_floor, need.at_most) == (0.0, 2 * 60 * (500 + 4 * 100))
    assert need.note.startswith("72,000 settled, an answer token counting 1; 108,000 reserved while")


def test_a_profile_and_a_burndown_make_another_quota(tmp_path: Path) -> None:
    """An answer token of Claude Sonnet 4 counts five."""
    (need,) = bedrock(tmp_path, "us.anthropic.claude-sonnet-4-20250514-v1:0").quotas
    assert need.name.startswith("Cross-Region InvokeModel tokens per minute for us.anthropic")
    assert need.at_most == 2 * 60 * (500 + 5 * 100)


def test_a_missing_price_of_the_floor_leaves_the_whole_of_bedrock_unknown(tmp_path: Path) -> None:
    found = only(bedrock(tmp_path, "amazon.nova-pro-v1:0", {"Db": resource("AWS::RDS::DBInstance")}))
    assert found.usd_per_million is not None
    assert found.usd_per_million_with_floor is None


def test_a_bedrock_model_without_a_price_says_so(tmp_path: Path) -> None:
    found = only(bedrock(tmp_path, "acme.unheard-of-v1:0"))
    assert "no price of Bedrock model 'acme.unheard-of-v1:0' is known" in found.note
    assert found.note.endswith("give yours to tokenmill advise with --token-price input=USD,output=USD")
    away = only(bedrock(tmp_path, "eu.amazon.nova-pro-v1:0"))
    assert away.usd_per_million is None
    assert away.note.startswith("no price of eu.amazon.nova-pro-v1:0 in us-east-1 is known")


def test_a_stack_that_serves_a_component_is_not_taken_for_bedrock(tmp_path: Path) -> None:
    report = bedrock(tmp_path, "amazon.nova-pro-v1:0", served({"model": "m"}))
    assert only(report).model == "m"
    assert not any(need.service == "bedrock" for need in report.quotas)


def test_a_section_that_runs_on_instances_is_no_load_of_bedrock(tmp_path: Path) -> None:
    text = SETTINGS.format(model="models/Qwen__Qwen3-8B.json").replace('"bedrock"', '"sagemaker"')
    (tmp_path / "tokenmill.toml").write_text(text)
    assert PlannedLoads.beside([tmp_path]).sections == {}
