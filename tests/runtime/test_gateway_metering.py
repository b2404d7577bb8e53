"""What the gateway publishes while a request runs, seen on standard output's lines."""

from __future__ import annotations

import threading
from typing import Any

import openai
import pytest

from support_runtime import (
    COEFFICIENTS,
    PATIENCE,
    QWEN,
    FakeAws,
    Gateway,
    Reply,
    Ticks,
    chat,
    delta,
    gateway_config,
    post,
    usage,
)
from tokenmill_runtime.gateway.metering import Meters, Usage
from tokenmill_runtime.token_work import token_work

HELLO: list[Any] = [{"role": "user", "content": "x" * 40}]
MODEL = gateway_config().models[0]


def test_demand_is_published_when_it_arrives(aws: FakeAws, gateway: Gateway) -> None:
    """Before the model has answered: prefill work of the estimated tokens, one request, one in flight."""
    before: list[dict[str, Any]] = []

    def reply(to: Reply) -> None:
        before.extend(gateway.metrics())
        to.begin()
        to.sse(delta("a", finish="stop"), "[DONE]")
        to.end()

    aws.model = reply
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="a", max_retries=0) as client:
        with client.chat.completions.create(model=QWEN, messages=HELLO, stream=True) as stream:
            list(stream)
    (line,) = before
    assert (line["Target"], line["Requests"], line["InputTokens"], line["InFlight"]) == ("comp", 1, 10, 1)
    assert line["TokenWork"] == pytest.approx(0.01 + 10 * 0.001)
    assert "OutputTokens" not in line


def test_a_long_stream_publishes_every_five_seconds_and_corrects_itself(
    aws: FakeAws, gateway: Gateway, ticks: Ticks
) -> None:
    """Deltas while it streams; the last line takes back what was estimated too high, and all adds up."""
    seen = [threading.Event() for _ in range(4)]

    def reply(to: Reply) -> None:
        to.begin()
        for event in seen:
            to.sse(delta("tok"))
            assert event.wait(PATIENCE)
        to.sse(delta(finish="stop"), usage(8, 3, cached=2), "[DONE]")
        to.end()

    aws.model = reply
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="a", max_retries=0) as client:
        with client.chat.completions.create(model=QWEN, messages=HELLO, stream=True) as stream:
            number = 0
            for chunk in stream:
                if chunk.choices[0].delta.content:
                    ticks.now += 3
                    seen[number].set()
                    number += 1
    lines = gateway.metrics()
    assert [line.get("OutputTokens", 0) for line in lines] == [0, 3, 0], "3 s, 6 s (published), 9 s, end"
    last = lines[-1]
    assert last["InputTokens"] == -2
    assert last["CachedInputTokens"] == 2
    assert last["TimeToFirstToken"] == 0
    assert last["InterTokenLatency"] == pytest.approx(9000 / 2)
    assert last["Errors"] == 0
    whole = token_work(input_tokens=8, cached_input_tokens=2, output_tokens=3, coefficients=COEFFICIENTS)
    assert gateway.total("TokenWork") == pytest.approx(whole)
    assert gateway.total("OutputTokens") == 3


def test_requests_in_flight_are_counted_by_target(ticks: Ticks) -> None:
    """Each line carries how many run at that moment; the count falls when one ends."""
    lines: list[str] = []
    meters = Meters(clock=ticks.clock(), emit=lines.append)
    first = meters.start(MODEL, input_tokens=1, request_id="1", arrived=ticks.now)
    second = meters.start(MODEL, input_tokens=1, request_id="2", arrived=ticks.now)
    assert meters.in_flight["comp"] == 2
    first.finish(failed=False, streamed=True)
    second.finish(failed=True, streamed=True)
    assert meters.in_flight["comp"] == 0
    assert ['"InFlight":2' in line for line in lines] == [False, True, True, False]


def test_one_token_has_no_time_between_tokens(ticks: Ticks) -> None:
    """And a request without tokens has no latency at all."""
    lines: list[str] = []
    meters = Meters(clock=ticks.clock(), emit=lines.append)
    single = meters.start(MODEL, input_tokens=1, request_id="1", arrived=ticks.now)
    ticks.now += 0.5
    single.text("a", single_token=True)
    single.finish(failed=False, streamed=True)
    assert '"TimeToFirstToken":500.0' in lines[-1] and "InterTokenLatency" not in lines[-1]
    silent = meters.start(MODEL, input_tokens=1, request_id="2", arrived=ticks.now)
    silent.finish(failed=False, streamed=True)
    assert "TimeToFirstToken" not in lines[-1]


def test_what_the_model_refuses_is_no_demand_for_tokens(aws: FakeAws, gateway: Gateway) -> None:
    """A body that no copy can answer must not add copies; the request itself was one."""
    aws.model = lambda to: to.json(
        {"Message": "no", "OriginalStatusCode": 400, "OriginalMessage": "bad top_k"},
        status=424,
        error="ModelError",
    )
    assert post(gateway, chat(top_k=-7))[0] == 400
    assert (gateway.total("Requests"), gateway.total("Errors"), gateway.total("InputTokens")) == (1, 0, 0)
    assert gateway.total("TokenWork") == pytest.approx(COEFFICIENTS.prefill_seconds_per_request)


def test_the_first_token_s_time_begins_when_the_request_arrives(
    aws: FakeAws, gateway: Gateway, client: openai.OpenAI, ticks: Ticks
) -> None:
    """Reading and storing the conversation is time that the caller waits too."""

    def slow(item: dict[str, Any]) -> None:
        ticks.now += 2

    def reply(to: Reply) -> None:
        to.begin()
        to.sse(delta("a"), delta(finish="stop"), "[DONE]")
        to.end()

    aws.before_put, aws.model = slow, reply
    list(
        client.chat.completions.create(
            model=QWEN, messages=HELLO, stream=True, metadata={"conversation_id": "c"}
        )
    )
    assert gateway.metrics()[-1]["TimeToFirstToken"] == 2000


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (None, None),
        ("many", None),
        ({}, None),
        ({"prompt_tokens": -1, "completion_tokens": 1}, None),
        ({"prompt_tokens": 1, "completion_tokens": "1"}, None),
        ({"prompt_tokens": 1, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2}}, None),
        (
            {"prompt_tokens": 2, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2}},
            Usage(input_tokens=2, output_tokens=1, cached_input_tokens=2),
        ),
        (
            {"prompt_tokens": 2, "completion_tokens": 1, "prompt_tokens_details": [1]},
            Usage(input_tokens=2, output_tokens=1),
        ),
        (
            {"prompt_tokens": 2, "completion_tokens": 0, "prompt_tokens_details": None},
            Usage(input_tokens=2, output_tokens=0),
        ),
    ],
)
def test_a_usage_that_cannot_be_true_is_not_believed(found: object, expected: Usage | None) -> None:
    """A wrong count would move the fleet."""
    assert Usage.from_openai(found) == expected
