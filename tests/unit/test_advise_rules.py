"""Each rule of the framework by itself: what it excludes or favours, and on which page it rests."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from support_advise import NOVA, QWEN32, TOKENS, a_plan, ask, candidate, rejected
from support_planner import model
from tokenmill.core.workload import Workload
from tokenmill.planner.advise import Need, Traffic, Usage
from tokenmill.planner.advise.options import BASE, BEDROCK, IMPORT, ON_DEMAND, PROVISIONED
from tokenmill.planner.advise.rules import RULES

GPU = a_plan(candidate())
OTHER = dataclasses.replace(model("Qwen__Qwen3-8B"), architecture="BloomForCausalLM")
LLAMA_4 = dataclasses.replace(OTHER, architecture="Llama4ForConditionalGeneration")
OSS = model("openai__gpt-oss-20b")
LARGE = model("Qwen__Qwen3-235B-A22B")
LONG = dataclasses.replace(model("Qwen__Qwen3-8B"), max_context_tokens=262_144)


@pytest.mark.parametrize(
    ("rule", "changes", "gone"),
    [
        ("no-open-model", {"model": None}, {"sagemaker", IMPORT}),
        ("region-not-allowed", {"need": Need(regions=("eu-central-1",))}, BEDROCK | {"sagemaker-l40s"}),
        ("own-architecture", {"need": Need(customization="own-architecture")}, BEDROCK),
        ("own-weights", {"need": Need(customization="own-weights")}, BASE | {PROVISIONED}),
        ("tuned-on-demand", {"need": Need(customization="lora"), "bedrock_model": QWEN32}, {ON_DEMAND}),
        (
            "tuned-tiers",
            {"need": Need(customization="full-fine-tune")},
            {"bedrock-flex", "bedrock-priority", "bedrock-reserved", "bedrock-batch"},
        ),
        ("import-architecture", {"model": OTHER}, {IMPORT}),
        ("import-architecture", {"model": LLAMA_4}, {IMPORT}),
        ("import-region", {"region": "eu-west-2", "bedrock_model": "minimax.minimax-m2.5"}, {IMPORT}),
        ("import-region", {"region": "us-west-2", "bedrock_model": QWEN32, "model": OSS}, {IMPORT}),
        ("import-size", {"model": LARGE}, {IMPORT}),
        ("import-size", {"model": LONG}, {IMPORT}),
        ("engine-control", {"need": Need(control=("engine",))}, BEDROCK),
        ("engine-control", {"need": Need(control=("kernel",))}, BEDROCK),
        ("network-isolation", {"need": Need(control=("network-isolation",))}, BEDROCK),
        ("withdrawn-weights", {"need": Need(control=("pinned-weights",))}, BASE | {PROVISIONED}),
        ("withdrawn-weights", {"need": Need(control=("lifecycle",))}, BASE | {PROVISIONED}),
        (
            "cross-region-none",
            {"bedrock_model": "us.amazon.nova-lite-v1:0", "need": Need(cross_region="none")},
            BASE,
        ),
        (
            "cross-region-geography",
            {"bedrock_model": "global.amazon.nova-2-lite-v1:0", "need": Need(cross_region="geography")},
            BASE,
        ),
        (
            "profile-regions",
            {"bedrock_model": "us.amazon.nova-lite-v1:0", "need": Need(regions=("us-east-1", "us-east-2"))},
            BASE,
        ),
        ("profile-units", {"bedrock_model": "us.amazon.nova-lite-v1:0"}, {PROVISIONED}),
        ("interactive", {}, {"bedrock-flex", "bedrock-batch"}),
        (
            "near-deadline",
            {"traffic": Traffic(shape="batch", hours_per_month=10, deadline_hours=8)},
            {"bedrock-batch"},
        ),
        (
            "prompt-too-long",
            {
                "bedrock_model": QWEN32,
                "workload": Workload(requests_per_second=2, input_tokens=40_000, output_tokens=10),
            },
            BASE | {PROVISIONED},
        ),
        ("quota", {"usage": Usage(quota_tpm=50_000)}, {ON_DEMAND, "bedrock-flex", "bedrock-priority"}),
        ("no-operations", {"need": Need(operations="none")}, {"sagemaker-l40s"}),
    ],
)
def test_a_rule_rejects_its_options_with_its_sentence(
    rule: str, changes: dict[str, Any], gone: set[str]
) -> None:
    """Each rule by itself: it fires, names its options, and each is rejected with the rule's words."""
    made = None if changes.get("model", 0) is None else GPU
    asked = {"bedrock_model": NOVA, "token_price": TOKENS} | changes
    if made is None:
        asked.pop("model")
    advice = ask(made, **asked)
    fired = next(item for item in advice.fired if item.id == rule)
    assert fired.effect == "excludes"
    assert set(fired.options) == gone
    reasons = rejected(advice)
    assert all(fired.sentence in reasons[option] for option in gone)
    assert all(rule in item.rules for item in advice.rejected if item.id in gone)


@pytest.mark.parametrize(
    ("rule", "changes"),
    [
        ("steady-traffic", {}),
        ("repeated-prompts", {"usage": Usage(cached_share=0.5)}),
        ("latency-goal", {}),
        ("little-operations", {"need": Need(operations="part-time")}),
        ("scale-to-zero", {"traffic": Traffic(hours_per_month=100, scale_to_zero=True)}),
    ],
)
def test_a_rule_that_favours_is_shown_with_the_options(rule: str, changes: dict[str, Any]) -> None:
    """It changes no rank; it stands beside the option."""
    advice = ask(GPU, **({"bedrock_model": NOVA, "token_price": TOKENS} | changes))
    fired = next(item for item in advice.fired if item.id == rule)
    assert fired.effect == "favours"
    assert all((rule in item.favoured_by) == (item.id in fired.options) for item in advice.ranked)


def test_every_rule_has_a_source_or_follows_from_the_input() -> None:
    """Ids are unique; what rests on AWS's word names the page."""
    assert len({rule.id for rule in RULES}) == len(RULES)
    bare = {rule.id for rule in RULES if not rule.source}
    assert bare == {"no-bedrock-model", "no-open-model", "region-not-allowed", "prompt-too-long"}
