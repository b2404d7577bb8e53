"""Options of a model of Bedrock behind the gateway that the model may not have."""

from __future__ import annotations

import aws_cdk as cdk
import pytest

from support_stack import WORK
from tokenmill import ServedModel
from tokenmill.bedrock import BedrockOptions, InferenceProfile, Latency, ServiceTier
from tokenmill.gateway import TokenLimits

LITE, PRO = "us.amazon.nova-lite-v1:0", "us.amazon.nova-pro-v1:0"
LIMITS = TokenLimits(context_tokens=20_000, max_output_tokens=1000)
FAST = BedrockOptions(latency=Latency.OPTIMIZED)


def told(stack: cdk.Stack) -> list[str]:
    """Return the warnings of a stack."""
    assembly = cdk.App.of(stack).synth()
    return [str(message.entry.data) for artifact in assembly.stacks for message in artifact.messages]


@pytest.mark.parametrize(
    ("model", "options", "notes"),
    [
        (PRO, BedrockOptions(latency=Latency.OPTIMIZED, service_tier=ServiceTier.FLEX), []),
        (LITE, FAST, ["no faster version of amazon.nova-lite-v1:0 is known"]),
        (LITE, BedrockOptions(latency=Latency.STANDARD), []),
        (LITE, BedrockOptions(service_tier=ServiceTier.PRIORITY), ["in the tier priority is known"]),
        (
            PRO,
            BedrockOptions(latency=Latency.OPTIMIZED, fallback=LITE),
            ["no faster version of amazon.nova-l"],
        ),
        (LITE, None, []),
    ],
)
def test_an_option_that_the_model_is_not_known_to_have_is_a_warning(
    stack: cdk.Stack, model: str, options: BedrockOptions | None, notes: list[str]
) -> None:
    """Synth says it before the first request is refused, and does not know better than AWS."""
    served = ServedModel.on_bedrock(model, name="n", limits=LIMITS, token_work=WORK, options=options)
    served.check(stack)
    found = told(stack)
    assert len(found) == len(notes)
    assert all(note in text for note, text in zip(notes, found, strict=True))


def test_a_profile_of_one_s_own_is_looked_through(stack: cdk.Stack) -> None:
    """What it stands for is known here."""
    profile = InferenceProfile(stack, "Profile", model=LITE)
    ServedModel.on_bedrock(profile, name="n", limits=LIMITS, token_work=WORK, options=FAST).check(stack)
    [warning] = told(stack)
    assert "model 'n': no faster version of amazon.nova-lite-v1:0" in warning
