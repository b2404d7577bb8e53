"""How the gateway asks Bedrock: tier, latency, managed prompts, caches, reserved tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import openai
import pytest

from support_runtime import CLAUDE, FakeAws, Gateway, Reply, chat, gateway_config, post
from tokenmill_runtime.gateway_config import GatewayConfig, GatewayConfigError
from tokenmill_runtime.gateway_options import BedrockUse, GuardrailUse, PromptUse

if TYPE_CHECKING:
    from collections.abc import Callable

HELLO: list[Any] = [{"role": "user", "content": "Hello there"}]
ARN = "arn:aws:bedrock:us-east-1:111122223333:prompt/PROMPT1:3"


def claude(**changes: Any) -> dict[str, Any]:
    """The configuration's models with Claude changed."""
    _, model = gateway_config().models
    return {"models": (replace(model, **changes),)}


def whole(to: Reply, usage: dict[str, int] | None = None) -> None:
    """An answer in one piece."""
    counts = usage or {"inputTokens": 5, "outputTokens": 3, "totalTokens": 8}
    message = {"role": "assistant", "content": [{"text": "Hi"}]}
    to.json(
        {
            "output": {"message": message},
            "stopReason": "end_turn",
            "usage": counts,
            "metrics": {"latencyMs": 1},
        }
    )


def streamed(to: Reply, *, trace: dict[str, Any] | None = None) -> None:
    """An answer in a stream."""
    to.begin()
    to.event("messageStart", {"role": "assistant"})
    to.event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hi"}})
    to.event("messageStop", {"stopReason": "end_turn"})
    usage = {"inputTokens": 5, "outputTokens": 3, "totalTokens": 8}
    extra = {} if trace is None else {"trace": trace}
    to.event("metadata", {"usage": usage, "metrics": {"latencyMs": 1}, **extra})
    to.end()


def asked(gateway: Gateway, **changes: Any) -> Any:
    """One question to Claude."""
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="anna", max_retries=0) as client:
        found = client.chat.completions.create(
            **{"model": CLAUDE, "messages": HELLO, "max_tokens": 9, **changes}
        )
        return list(found) if changes.get("stream") else found


@pytest.mark.parametrize("stream", [False, True])
def test_tier_and_latency_are_sent(aws: FakeAws, start_gateway: Callable[..., Gateway], stream: bool) -> None:
    """Under Converse's names, in both of its forms."""
    aws.model = streamed if stream else whole
    use = BedrockUse(service_tier="flex", latency="optimized")
    asked(start_gateway(**claude(bedrock=use)), stream=stream)
    body = aws.requests[0].body
    assert body["serviceTier"] == {"type": "flex"}
    assert body["performanceConfig"] == {"latency": "optimized"}


def test_nothing_is_sent_that_nobody_asked_for(aws: FakeAws, gateway: Gateway) -> None:
    """A model without options is asked as it always was."""
    aws.model = whole
    asked(gateway)
    assert set(aws.requests[0].body) == {"messages", "inferenceConfig"}


def test_a_prompt_s_variables_are_filled_and_messages_follow(
    aws: FakeAws, start_gateway: Callable[..., Gateway]
) -> None:
    """The prompt's ARN stands for the model, and no inference parameters stand beside it."""
    aws.model = whole
    prompt = PromptUse(arn=ARN, variables={"tone": "short"})
    asked(start_gateway(**claude(bedrock=BedrockUse(prompt=prompt))), max_tokens=openai.omit)
    request = aws.requests[0]
    assert "prompt%2FPROMPT1%3A3" in request.path or "prompt/PROMPT1:3" in request.path
    assert request.body == {
        "messages": [{"role": "user", "content": [{"text": "Hello there"}]}],
        "promptVariables": {"tone": {"text": "short"}},
    }


def test_a_question_fills_its_variable(aws: FakeAws, start_gateway: Callable[..., Gateway]) -> None:
    """The caller's message is no message of its own then."""
    aws.model = whole
    prompt = PromptUse(arn=ARN, question="question")
    asked(start_gateway(**claude(bedrock=BedrockUse(prompt=prompt))), max_tokens=openai.omit)
    assert aws.requests[0].body == {"promptVariables": {"question": {"text": "Hello there"}}}


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"max_tokens": 5}, "max_tokens"),
        ({"max_completion_tokens": 5}, "max_completion_tokens"),
        ({"temperature": 0.5}, "temperature"),
        ({"messages": [{"role": "system", "content": "s"}, *HELLO]}, "messages[0].role"),
        ({"messages": [*HELLO, *HELLO]}, "messages"),
        ({"metadata": {"conversation_id": "c"}}, "metadata.conversation_id"),
    ],
)
def test_what_a_prompt_sets_itself_is_refused_by_name(
    aws: FakeAws, start_gateway: Callable[..., Gateway], changes: dict[str, Any], param: str
) -> None:
    """Bedrock refuses it too, in words that name no parameter of the caller's."""
    use = BedrockUse(prompt=PromptUse(arn=ARN, question="question"))
    gateway = start_gateway(conversation_table="turns", **claude(bedrock=use))
    status, error = post(gateway, chat(**{"model": CLAUDE, "messages": HELLO, **changes}))
    assert (status, error["code"], error["param"]) == (400, "unsupported_parameter", param)
    assert aws.requests == []


def test_tokens_written_to_the_cache_are_metered(aws: FakeAws, gateway: Gateway) -> None:
    """Read ones and written ones are part of the input, and each has its metric."""
    counts = {
        "inputTokens": 5,
        "outputTokens": 3,
        "totalTokens": 20,
        "cacheReadInputTokens": 10,
        "cacheWriteInputTokens": 2,
    }
    aws.model = lambda to: whole(to, counts)
    done = asked(gateway)
    assert done.usage.prompt_tokens_details.cache_write_tokens == 2
    found = [gateway.total(name) for name in ("InputTokens", "CachedInputTokens", "CacheWriteTokens")]
    assert found == [17, 10, 2]


def test_what_the_quota_reserves_is_published_at_arrival(aws: FakeAws, gateway: Gateway) -> None:
    """Estimated input and the longest answer asked for, once, before the model is asked."""
    before: list[float] = []

    def reply(to: Reply) -> None:
        before.append(gateway.total("ReservedTokens"))
        whole(to)

    aws.model = reply
    asked(gateway)
    # "Hello there" has eleven bytes, three tokens of four.
    assert before == [3 + 9]
    assert gateway.total("ReservedTokens") == 3 + 9


def test_sagemaker_reserves_nothing(aws: FakeAws, gateway: Gateway) -> None:
    """Its models have no quota of tokens."""
    aws.model = lambda to: to.whole()
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="anna", max_retries=0) as client:
        client.chat.completions.create(model="Qwen/Qwen3-8B", messages=HELLO)
    assert not any("ReservedTokens" in line for line in gateway.metrics())


def test_the_log_names_the_model_that_a_router_chose(aws: FakeAws, gateway: Gateway) -> None:
    """A prompt router's choice changes the price, so it can be found."""
    aws.model = lambda to: streamed(to, trace={"promptRouter": {"invokedModelId": "amazon.nova-pro-v1:0"}})
    asked(gateway, stream=True)
    (line,) = [line for line in gateway.logged() if line["message"] == "chat"]
    assert line["served_by"] == "amazon.nova-pro-v1:0"


def test_options_come_back_from_the_document() -> None:
    """What the construct renders is what the function reads; what is not used is not rendered."""
    use = BedrockUse(
        service_tier="priority",
        handle="/tokenmill/handle",
        fallback_id="us.x",
        prompt=PromptUse(arn=ARN, variables={"a": "b"}, question="q"),
    )
    guardrail = GuardrailUse(id="abc", version="2", mode="async", blocked_input="no")
    config = gateway_config(**claude(bedrock=use, guardrail=guardrail))
    assert GatewayConfig.from_document(config.to_document()) == config
    (plain,) = gateway_config(**claude()).to_document()["models"]
    assert "guardrail" not in plain and "bedrock" not in plain


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"bedrock": {"service_tier": "fast"}}, "models[0].bedrock.service_tier must be one of priority, "),
        ({"bedrock": {"latency": 3}}, "models[0].bedrock.latency must be one of standard, optimized, got 3"),
        ({"bedrock": {"speed": 1}}, "models[0].bedrock.speed is unknown; known are fallback_id"),
        ({"bedrock": {"prompt": {"arn": ""}}}, "models[0].bedrock.prompt.arn must be a text, got ''"),
        (
            {"bedrock": {"prompt": {"arn": ARN, "variables": {"a": 1}}}},
            "models[0].bedrock.prompt.variables must be a JSON object of texts",
        ),
        ({"guardrail": {"id": "x"}}, "models[0].guardrail.version must be a text, got None"),
        (
            {"guardrail": {"id": "x", "version": "1", "mode": "off"}},
            "guardrail.mode must be one of sync, async",
        ),
        ({"guardrail": "x"}, "models[0].guardrail must be a JSON object or null, got 'x'"),
    ],
)
def test_wrong_options_are_told(changed: dict[str, Any], problem: str) -> None:
    """With the key, its value and what is allowed."""
    document = gateway_config(**claude()).to_document()
    (model,) = document["models"]
    with pytest.raises(GatewayConfigError) as raised:
        GatewayConfig.from_document({**document, "models": [{**model, **changed}]})
    assert problem in str(raised.value)
