"""BatchStack: what the plan chose is what stands in the template, with the reason beside it."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import pytest

from support_batch_stack import LOAD, build, chosen, settings
from support_example_apps import synthesize
from support_stack import make_app, of_type, template_of
from support_states import flat
from tokenmill.core.batch_plan import BatchOption
from tokenmill.core.batch_settings import ASYNC, BEDROCK_BATCH, TRANSFORM
from tokenmill.core.errors import NoPlanError, TokenmillError
from tokenmill_stacks import BatchStack

if TYPE_CHECKING:
    from pathlib import Path


def test_bedrock_s_batch_is_a_profile_and_its_jobs(tmp_path: Path) -> None:
    """The model under a tagged name; answers get four times the mean, and the deadline is kept."""
    _, template = build(tmp_path, BEDROCK_BATCH)
    assert len(of_type(template, "AWS::Bedrock::ApplicationInferenceProfile")) == 1
    (function,) = of_type(template, "AWS::Lambda::Function").values()
    text = function["Properties"]["Environment"]["Variables"]["TOKENMILL_BATCH_INFERENCE"]
    told = json.loads(flat(text, {}))
    assert (told["max_tokens"], told["deadline_hours"]) == (200, 30.0)
    assert set(template["Outputs"]) == {"Files", "StateMachine"}


def test_no_answer_is_asked_for_that_the_model_cannot_give(tmp_path: Path) -> None:
    """Four times 3,000 tokens would be above Nova Lite's 10,000, and Bedrock would refuse every record."""
    long = dataclasses.replace(LOAD, output_tokens=3000)
    _, template = build(tmp_path, BEDROCK_BATCH, load=long)
    (function,) = of_type(template, "AWS::Lambda::Function").values()
    text = function["Properties"]["Environment"]["Variables"]["TOKENMILL_BATCH_INFERENCE"]
    assert json.loads(flat(text, {}))["max_tokens"] == 10_000


def test_a_transform_has_the_plan_s_instances(tmp_path: Path) -> None:
    """As many as are in time, and no longer than the deadline."""
    _, template = build(tmp_path, TRANSFORM)
    (machine,) = of_type(template, "AWS::StepFunctions::StateMachine").values()
    text = flat(machine["Properties"]["DefinitionString"], {})
    states = json.loads(text)["States"]
    assert states["Transform"]["Parameters"]["TransformResources"]["InstanceCount"] == 3
    assert states["Transform"]["TimeoutSeconds"] == 30 * 3600


def test_a_queue_is_an_endpoint_that_sleeps(tmp_path: Path) -> None:
    """From none to the plan's instances, and a job that sends the lines."""
    stack, template = build(tmp_path, ASYNC)
    assert len(of_type(template, "AWS::SageMaker::Endpoint")) == 1
    (target,) = of_type(template, "AWS::ApplicationAutoScaling::ScalableTarget").values()
    assert (target["Properties"]["MinCapacity"], target["Properties"]["MaxCapacity"]) == (0, 3)
    assert type(stack.job).__name__ == "AsyncFanOut"


@pytest.mark.parametrize("kind", [BEDROCK_BATCH, TRANSFORM, ASYNC])
def test_the_reason_stands_in_the_template_and_is_printed(tmp_path: Path, kind: str) -> None:
    """Who reads either knows why this service and not another."""
    stack, template = build(tmp_path, kind)
    assert template["Metadata"]["tokenmill"] == {
        "kind": kind,
        "reason": f"{kind} is cheapest",
        "plan": stack.plan.hash,
    }
    infos = [entry.data for entry in stack.node.metadata if entry.type == "aws:cdk:info"]
    assert any(f"batch: {kind} is cheapest" in str(info) for info in infos)


def test_fails_for_a_plan_that_has_nothing(tmp_path: Path) -> None:
    """With the planner's reasons."""
    refused = BatchOption(kind=TRANSFORM, runs_on="", refused="late")
    with pytest.raises(NoPlanError, match="nothing answers"):
        build(tmp_path, TRANSFORM, options=(refused,), reason="nothing answers a run in time (late)")


def test_fails_for_a_plan_of_another_region(tmp_path: Path) -> None:
    """Prices and images are a region's."""
    with pytest.raises(TokenmillError, match="the plan is for eu-west-1 and batch.region is us-east-1"):
        build(tmp_path, BEDROCK_BATCH, region="eu-west-1")


def test_fails_for_instances_without_a_plan(tmp_path: Path) -> None:
    """A file written by hand."""
    with pytest.raises(TokenmillError, match="says nothing of its instances; run: tokenmill plan batch"):
        build(tmp_path, TRANSFORM, serving=None)


def test_prod_keeps_its_logs(tmp_path: Path) -> None:
    """Ninety days in place of a week."""
    app = make_app(tmp_path)
    prod = settings(tmp_path, profile="prod")
    stack = BatchStack(app, "tokenmill-batch", settings=prod, plan=chosen(BEDROCK_BATCH))
    days = {
        group["Properties"]["RetentionInDays"]
        for group in of_type(template_of(stack), "AWS::Logs::LogGroup").values()
    }
    assert days == {90}


def test_the_example_s_night_is_bedrock_s(tmp_path: Path) -> None:
    """examples/nightly_batch synthesizes from its committed plan, and refuses one of other settings."""
    found = synthesize("nightly_batch", tmp_path / "out")
    assert found.returncode == 0, found.stderr
    template = json.loads((tmp_path / "out" / "nightly-batch.template.json").read_text(encoding="utf-8"))
    assert template["Metadata"]["tokenmill"]["kind"] == BEDROCK_BATCH
    stale = synthesize("nightly_batch", tmp_path / "stale", **{"tokenmill:batch.run.deadline_hours": 8})
    assert stale.returncode != 0
    assert "was made from other settings" in stale.stderr
