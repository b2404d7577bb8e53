"""Units behind a handle: who is asked, what stands in for them, and what is published of it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import httpx
import openai
import pytest

from support_runtime import CLAUDE, PATIENCE, FakeAws, Gateway, Reply, Ticks, gateway_config
from tokenmill_runtime.gateway.bedrock_routes import HANDLE_SECONDS, Handle, Routes, read_handle
from tokenmill_runtime.gateway_options import BedrockUse

if TYPE_CHECKING:
    from collections.abc import Callable

HELLO: list[Any] = [{"role": "user", "content": "Hello there"}]
UNIT = "arn:aws:bedrock:us-east-1:111122223333:provisioned-model/abcdefghij01"
OTHER = "arn:aws:bedrock:us-east-1:111122223333:provisioned-model/abcdefghij02"
PROFILE = "us.anthropic.c"
HANDLE = "/tokenmill/units/handle"
USE = BedrockUse(handle=HANDLE, fallback_id=PROFILE)


class Cloud:
    """What the handle says and which models have room; counts who asked."""

    def __init__(self, aws: FakeAws) -> None:
        self.text: str | None = handle(UNIT)
        self.refusing: dict[str, tuple[int, str]] = {}
        self.reads = 0
        self.asked: list[str] = []
        self.in_stream = False
        aws.model = self.reply
        aws.table_call = self.call

    def call(self, operation: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        assert (operation, body) == ("GetParameter", {"Name": HANDLE})
        self.reads += 1
        if self.text is None:
            return 400, {"__type": "ParameterNotFound", "message": "no"}
        return 200, {"Parameter": {"Name": HANDLE, "Value": self.text}}

    def reply(self, to: Reply) -> None:
        model = unquote(to.path.split("/")[2])
        if model.startswith("arn"):
            model = unquote(to.path.removeprefix("/model/").rpartition("/")[0])
        self.asked.append(model)
        refusal = self.refusing.get(model)
        if refusal is not None and self.in_stream:
            to.begin()
            to.failure("throttlingException", {"message": "slow down"})
            to.end()
        elif refusal is not None:
            to.json({"message": "no room here"}, status=refusal[0], error=refusal[1])
        elif to.path.endswith("converse-stream"):
            answer(to)
        else:
            message = {"role": "assistant", "content": [{"text": "Hi"}]}
            usage = {"inputTokens": 5, "outputTokens": 3, "totalTokens": 8}
            output = {"output": {"message": message}, "stopReason": "end_turn"}
            to.json({**output, "usage": usage, "metrics": {"latencyMs": 1}})


def answer(to: Reply) -> None:
    to.begin()
    to.event("messageStart", {"role": "assistant"})
    to.event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hi"}})
    to.event("messageStop", {"stopReason": "end_turn"})
    usage = {"inputTokens": 5, "outputTokens": 3, "totalTokens": 8}
    to.event("metadata", {"usage": usage, "metrics": {"latencyMs": 1}})
    to.end()


def handle(*ids: str, fallback: str | None = PROFILE, state: str = "units") -> str:
    models = [{"id": id, "units": 1} for id in ids]
    return json.dumps({"models": models, "fallback": fallback, "state": state})


@pytest.fixture
def cloud(aws: FakeAws) -> Cloud:
    """SSM and Bedrock."""
    return Cloud(aws)


@pytest.fixture
def gateway(start_gateway: Callable[..., Gateway], cloud: Cloud) -> Gateway:
    """A gateway with one model behind a handle."""
    _, model = gateway_config().models
    return start_gateway(models=(replace(model, bedrock=USE),))


def ask(gateway: Gateway, *, stream: bool = False) -> int:
    """The status of one question."""
    body = {"model": CLAUDE, "messages": HELLO, "stream": stream, "max_tokens": 9}
    url, headers = f"{gateway.url}/v1/chat/completions", {"authorization": "Bearer anna"}
    return httpx.post(url, json=body, headers=headers, timeout=PATIENCE).status_code


def served_by(gateway: Gateway) -> list[str | None]:
    return [line.get("served_by") for line in gateway.logged() if line["message"] == "chat"]


def test_the_units_are_asked_while_they_have_room(gateway: Gateway, cloud: Cloud) -> None:
    """No overflow, and nothing that stood in."""
    assert ask(gateway) == 200
    assert cloud.asked == [UNIT]
    assert gateway.total("Overflow") == 0
    assert served_by(gateway) == [None]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (429, "ThrottlingException"),
        (503, "ServiceUnavailableException"),
        (400, "ServiceQuotaExceededException"),
        (404, "ResourceNotFoundException"),
    ],
)
def test_without_room_the_fallback_answers(
    gateway: Gateway, cloud: Cloud, status: int, kind: str, stream: bool
) -> None:
    """The caller sees an answer; the metric and the log see where it came from."""
    cloud.refusing[UNIT] = (status, kind)
    assert ask(gateway, stream=stream) == 200
    assert cloud.asked == [UNIT, PROFILE]
    assert gateway.total("Overflow") == 1
    assert gateway.total("Requests") == 1
    assert gateway.total("Errors") == 0
    if not stream:
        assert served_by(gateway) == [PROFILE]


def test_tier_and_latency_are_for_what_stands_in(
    start_gateway: Callable[..., Gateway], cloud: Cloud, aws: FakeAws
) -> None:
    """Units are capacity of their own; the fallback is asked on demand, as the options say."""
    _, model = gateway_config().models
    use = replace(USE, service_tier="priority", latency="optimized")
    cloud.refusing[UNIT] = (429, "ThrottlingException")
    assert ask(start_gateway(models=(replace(model, bedrock=use),))) == 200
    bodies = [request.body for request in aws.requests if request.path.startswith("/model/")]
    sent = [{"serviceTier", "performanceConfig"} & body.keys() for body in bodies]
    assert cloud.asked == [UNIT, PROFILE]
    assert sent == [set(), {"serviceTier", "performanceConfig"}]


def test_a_stream_that_is_throttled_in_its_first_event_goes_elsewhere(gateway: Gateway, cloud: Cloud) -> None:
    """Nothing was said yet, so nothing is lost."""
    cloud.refusing[UNIT] = (200, "")
    cloud.in_stream = True
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="anna", max_retries=0) as client:
        chunks = list(client.chat.completions.create(model=CLAUDE, messages=HELLO, stream=True, max_tokens=9))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hi"
    assert cloud.asked == [UNIT, PROFILE]
    assert gateway.total("Overflow") == 1


def test_a_mistake_of_the_caller_goes_nowhere_else(gateway: Gateway, cloud: Cloud) -> None:
    """Another model would refuse it too, and a second prefill is paid for."""
    cloud.refusing[UNIT] = (400, "ValidationException")
    assert ask(gateway) == 400
    assert cloud.asked == [UNIT]


def test_a_failure_that_may_have_cost_a_prefill_goes_nowhere_else(gateway: Gateway, cloud: Cloud) -> None:
    """Only refusals before any work are tried again."""
    cloud.refusing[UNIT] = (500, "InternalServerException")
    assert ask(gateway) == 502
    assert cloud.asked == [UNIT]


def test_when_the_fallback_throttles_too_the_caller_hears_it(gateway: Gateway, cloud: Cloud) -> None:
    """As of any model without room."""
    cloud.refusing = {UNIT: (429, "ThrottlingException"), PROFILE: (429, "ThrottlingException")}
    assert ask(gateway) == 429
    assert gateway.total("Errors") == 1


def test_overflow_in_the_handle_sends_everything_to_the_fallback(gateway: Gateway, cloud: Cloud) -> None:
    """As on a morning without units: nobody waits for what is not there, and each request is counted."""
    cloud.text = handle(UNIT, state="overflow")
    assert [ask(gateway), ask(gateway)] == [200, 200]
    assert cloud.asked == [PROFILE, PROFILE]
    assert gateway.total("Overflow") == 2


def test_the_handle_is_read_at_most_every_fifteen_seconds(
    gateway: Gateway, cloud: Cloud, ticks: Ticks
) -> None:
    """New units are used from then on."""
    ask(gateway)
    cloud.text = handle(OTHER)
    ticks.now += HANDLE_SECONDS - 0.1
    ask(gateway)
    assert (cloud.asked, cloud.reads) == ([UNIT, UNIT], 1)
    ticks.now += 0.2
    ask(gateway)
    assert (cloud.asked[-1], cloud.reads) == (OTHER, 2)


def test_units_that_are_gone_make_the_handle_be_read_again(gateway: Gateway, cloud: Cloud) -> None:
    """They were replaced a moment ago, so fifteen seconds of fallback are fifteen too many."""
    cloud.refusing[UNIT] = (404, "ResourceNotFoundException")
    assert ask(gateway) == 200
    cloud.text = handle(OTHER)
    assert ask(gateway) == 200
    assert cloud.asked == [UNIT, PROFILE, OTHER]


@pytest.mark.parametrize("text", [None, "not JSON", '{"models": [{"id": "x"}]}', "[]"])
def test_a_handle_that_cannot_be_read_keeps_its_last_value(
    gateway: Gateway, cloud: Cloud, ticks: Ticks, text: str | None
) -> None:
    """And is not asked for with every request; the log says what is wrong."""
    ask(gateway)
    cloud.text = text
    ticks.now += HANDLE_SECONDS
    assert [ask(gateway), ask(gateway)] == [200, 200]
    assert cloud.asked == [UNIT] * 3
    assert cloud.reads == 2
    assert [line["handle"] for line in gateway.logged() if line["level"] == "error"] == [HANDLE]


def test_a_handle_that_never_could_be_read_leaves_the_declared_model(gateway: Gateway, cloud: Cloud) -> None:
    """The template knows where the model began."""
    cloud.text = None
    assert ask(gateway) == 200
    assert cloud.asked == ["anthropic.c"]


def test_several_units_share_by_weight(ticks: Ticks) -> None:
    """Three units get three times the first tries of one; the others come next, the fallback last."""
    routes = Routes(ticks.clock(), emit=lambda line: None)
    routes._handle = lambda name: Handle(models=((UNIT, 3), (OTHER, 1)), fallback=PROFILE)
    _, model = gateway_config().models
    first = []
    for _ in range(2000):
        found = [route.id for route in routes.of(replace(model, bedrock=USE))]
        assert sorted(found[:2]) == sorted([UNIT, OTHER]) and found[2] == PROFILE
        first.append(found[0])
    # Six standard deviations of a binomial of 2000 with three quarters.
    assert abs(first.count(UNIT) - 1500) < 6 * (2000 * 0.75 * 0.25) ** 0.5


def test_nothing_to_ask_is_said(gateway: Gateway, cloud: Cloud) -> None:
    """A handle without units and no fallback anywhere: unavailable, with a time to try again."""
    _, model = gateway_config().models
    cloud.text = handle(fallback=None)
    routes = Routes(Ticks().clock(), emit=lambda line: None)
    with pytest.raises(Exception, match="is not available now"):
        routes.of(replace(model, bedrock=BedrockUse(handle=HANDLE)))


def test_the_form_of_a_handle() -> None:
    """Overflow counts only where there is something to overflow to."""
    assert read_handle(handle(UNIT)) == Handle(models=((UNIT, 1),), fallback=PROFILE)
    assert read_handle(handle(UNIT, state="overflow")) == Handle(models=(), fallback=PROFILE)
    assert read_handle(handle(UNIT, state="overflow", fallback=None)) == Handle(
        models=((UNIT, 1),), fallback=None
    )


@pytest.mark.parametrize(
    "text",
    [
        '{"models": 1}',
        '{"models": [{"id": "", "units": 1}]}',
        '{"models": [{"id": "a", "units": 0}]}',
        '{"models": [], "fallback": 3}',
    ],
)
def test_other_forms_are_refused(text: str) -> None:
    """Instead of calling what nobody meant."""
    with pytest.raises(ValueError, match="must be"):
        read_handle(text)
