"""What a prompt router decides, beside the other lines that need requests to Amazon Bedrock alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenmill.verification import bedrock_asks
from tokenmill.verification.bedrock_asks import model_here, tried
from tokenmill.verification.bedrock_model_lines import DIFFERENCE, model_lines
from tokenmill.verification.probe import Outcome, Verdict, holds

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tokenmill.verification.aws import Aws

CHEAPER, TRACE = "router-cheaper-model", "router-trace-model"
# No model of a family answers them better than another.
EASY = (bedrock_asks.QUESTION, "What is 2 plus 2? Answer with the number.", "Spell the word cat.")


def requested_lines(aws: Aws, wanted: Collection[str]) -> Iterator[tuple[str, Outcome]]:
    """Ask a router with each of its models as the fallback, and then what `model_lines` asks.

    Args:
        aws: The run.
        wanted: Ids of the lines that were asked for.
    """
    own = {CHEAPER, TRACE} & set(wanted)
    if own:
        outcomes: dict[str, Outcome] = {}
        unclear = tried(lambda: _decided(aws, outcomes))
        for line in sorted(own):
            yield line, outcomes.get(line, unclear)
    others = set(wanted) - own
    if others:
        yield from model_lines(aws, others)


def _decided(aws: Aws, outcomes: dict[str, Outcome]) -> Outcome:
    cheaper, dearer = (model_here(aws, name).arn for name in (bedrock_asks.SMALL, bedrock_asks.LARGER))
    invoked: dict[str, dict[str, str]] = {}
    for suffix, fallback in (("cheaper", cheaper), ("dearer", dearer)):
        router = _create(aws, f"{suffix}-fallback", (cheaper, dearer), fallback)
        invoked[suffix] = {question: _invoked(aws, router, question) for question in EASY}
    seen = {"models": [cheaper, dearer], "difference": DIFFERENCE, "invoked_by_fallback": invoked}
    named = [model for answers in invoked.values() for model in answers.values()]
    by_cheaper = [_name(model) == _name(cheaper) for model in named]
    outcomes[CHEAPER] = Outcome(holds(all(by_cheaper)) if all(named) else Verdict.UNCLEAR, seen)
    outcomes[TRACE] = Outcome(holds(set(named) <= {cheaper, dearer}), seen)
    return outcomes[TRACE]


def _invoked(aws: Aws, router: str, question: str) -> str:
    answer = bedrock_asks.ask(aws.client("bedrock-runtime"), router, question)
    return str(answer.get("trace", {}).get("promptRouter", {}).get("invokedModelId", ""))


def _create(aws: Aws, suffix: str, models: tuple[str, str], fallback: str) -> str:
    name = aws.name(suffix)
    aws.declare("prompt-router", name)
    made = aws.client("bedrock").create_prompt_router(
        promptRouterName=name,
        models=[{"modelArn": model} for model in models],
        fallbackModel={"modelArn": fallback},
        routingCriteria={"responseQualityDifference": DIFFERENCE},
        tags=bedrock_asks.tags(aws),
    )
    return str(made["promptRouterArn"])


def _name(arn: str) -> str:
    """Return a foundation model's id: profiles put their geography before it."""
    id_ = arn.rpartition("/")[2]
    return next(
        (name for name in (bedrock_asks.SMALL, bedrock_asks.LARGER) if id_.endswith(name)),
        id_,
    )
