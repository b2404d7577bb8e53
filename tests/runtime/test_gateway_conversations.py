"""Stored conversations: no turn is lost or overwritten, whoever dies."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import openai
import pytest

from support_runtime import PATIENCE, QWEN, FakeAws, Gateway, Reply, Ticks, chat, delta, post
from tokenmill_runtime import conversations
from tokenmill_runtime.conversations import ContentTooLongError, ConversationTable, Turn

if TYPE_CHECKING:
    from collections.abc import Callable


def says(*texts: str) -> Callable[[Reply], None]:
    def reply(to: Reply) -> None:
        to.begin()
        to.sse(*(delta(text) for text in texts), delta(finish="stop"), "[DONE]")
        to.end()

    return reply


def ask(client: openai.OpenAI, text: str, *, conversation: str = "c", **more: Any) -> str:
    messages: list[Any] = [{"role": "system", "content": "be kind"}, {"role": "user", "content": text}]
    stream = client.chat.completions.create(
        model=QWEN, messages=messages, stream=True, metadata={"conversation_id": conversation}, **more
    )
    with stream:
        return "".join(chunk.choices[0].delta.content or "" for chunk in stream)


def test_two_turns_of_one_conversation(aws: FakeAws, client: openai.OpenAI, ticks: Ticks) -> None:
    """The second request carries only its own message, and the model gets the whole conversation."""
    aws.model = says("It is ", "Paris")
    assert ask(client, "capital of France?") == "It is Paris"
    aws.model = says("2 million")
    ask(client, "how many people?")
    assert aws.requests[1].body["messages"] == [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "capital of France?"},
        {"role": "assistant", "content": "It is Paris"},
        {"role": "user", "content": "how many people?"},
    ]
    item = aws.items["anna#c", "0000000001"]
    assert item["reply_to"] == {"N": "0"}
    assert item["expires_at"] == {"N": str(int(ticks.now) + 30 * 86_400)}
    assert item["created_at"] == {"N": str(int(ticks.now))}
    assert len(aws.turns()) == 4


def test_the_caller_s_turn_is_stored_before_the_model_is_asked(aws: FakeAws, client: openai.OpenAI) -> None:
    """And a model that is gone does not take it along; asking again does not store it twice."""
    stored = []

    def reply(to: Reply) -> None:
        stored.append(aws.turns())
        to.json({"Message": "no copies"}, status=400, error="ValidationError")

    aws.model = reply
    for _ in range(2):
        with pytest.raises(openai.InternalServerError):
            ask(client, "hello")
    assert stored == [[("user", "hello", False)]] * 2
    aws.model = says("hi")
    ask(client, "hello")
    assert aws.turns() == [("user", "hello", False), ("assistant", "hi", False)]
    assert [message["role"] for message in aws.requests[-1].body["messages"]] == ["system", "user"]


def test_a_half_answer_is_stored_as_interrupted(aws: FakeAws, client: openai.OpenAI) -> None:
    """What the caller saw before the model died stays in the conversation."""

    def reply(to: Reply) -> None:
        to.begin()
        to.sse(delta("half"))
        to.end()

    aws.model = reply
    with pytest.raises(openai.APIError):
        ask(client, "hello")
    assert aws.turns() == [("user", "hello", False), ("assistant", "half", True)]


def test_an_answer_whose_caller_left_is_stored_as_interrupted(
    aws: FakeAws, gateway: Gateway, client: openai.OpenAI
) -> None:
    """The caller closes the connection after the first token."""

    def reply(to: Reply) -> None:
        to.begin()
        to.sse(delta("one"))
        to.caller_hung_up()

    aws.model = reply
    messages: list[Any] = [{"role": "user", "content": "count"}]
    with client.chat.completions.create(
        model=QWEN, messages=messages, stream=True, metadata={"conversation_id": "c"}
    ) as stream:
        next(iter(stream))
    gateway.close()
    assert aws.turns() == [("user", "count", False), ("assistant", "one", True)]


def test_a_whole_answer_is_stored_too(aws: FakeAws, client: openai.OpenAI) -> None:
    """Without streaming the conversation is the same."""
    aws.model = lambda to: to.whole("hi")
    client.chat.completions.create(
        model=QWEN, messages=[{"role": "user", "content": "hello"}], metadata={"conversation_id": "c"}
    )
    assert aws.turns() == [("user", "hello", False), ("assistant", "hi", False)]


def test_half_of_a_whole_answer_is_no_turn(aws: FakeAws, gateway: Gateway) -> None:
    """The caller saw none of it, so only the question stays, and asking again does not store it twice."""

    def cut(to: Reply) -> None:
        to.begin()
        to.sse(delta("half"))
        to.hang_up()

    aws.model = cut
    for _ in range(2):
        status, error = post(gateway, chat(metadata={"conversation_id": "c"}))
        assert (status, error["code"]) == (502, "model_error")
    assert aws.turns() == [("user", "Hello there", False)]


def test_an_empty_answer_is_no_turn(aws: FakeAws, client: openai.OpenAI) -> None:
    """Chat templates and Converse refuse empty messages."""
    aws.model = says()
    assert ask(client, "hello") == ""
    assert aws.turns() == [("user", "hello", False)]


def test_callers_cannot_read_each_other_s_conversations(aws: FakeAws, gateway: Gateway) -> None:
    """The same id under another key is another conversation."""
    aws.model = says("hi")
    for key in ("anna", "bert"):
        with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0) as client:
            ask(client, f"I am {key}")
    assert len(aws.requests[1].body["messages"]) == 2
    assert {partition for partition, _ in aws.items} == {"anna#c", "bert#c"}


def test_requests_at_the_same_time_overwrite_nothing(aws: FakeAws, client: openai.OpenAI) -> None:
    """Both read the empty conversation and both write turn 0; one moves on, and both answers stay."""
    together = threading.Barrier(2)
    first = {"anna#c"}

    def wait(item: dict[str, Any]) -> None:
        if item["role"]["S"] == "user" and item["sk"]["S"] == "0000000000" and first:
            together.wait(PATIENCE)

    aws.before_put = wait
    aws.model = lambda to: says(f"to {to.body['messages'][-1]['content']}")(to)
    callers = [threading.Thread(target=ask, args=(client, text)) for text in ("a", "b")]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(PATIENCE)
    assert sorted(aws.turns()) == [
        ("assistant", "to a", False),
        ("assistant", "to b", False),
        ("user", "a", False),
        ("user", "b", False),
    ]
    first.clear()
    ask(client, "c")
    texts = [message["content"] for message in aws.requests[-1].body["messages"][1:-1]]
    assert texts in (["a", "to a", "b", "to b"], ["b", "to b", "a", "to a"]), "answers behind their questions"


def test_old_turns_are_left_out_when_they_do_not_fit(aws: FakeAws, client: openai.OpenAI) -> None:
    """Context of 100 tokens, 20 for the answer: the newest turns that fit, beginning with a question."""
    aws.model = says("a" * 100)
    ask(client, "b" * 100, max_tokens=20)
    ask(client, "c" * 100, max_tokens=20)
    ask(client, "d", max_tokens=20)
    kept = [message["content"][0] for message in aws.requests[2].body["messages"]]
    assert kept == ["b", "c", "a", "d"], "system prompt, last question and answer, new question"
    ask(client, "e" * 100, max_tokens=20)
    assert [message["content"][0] for message in aws.requests[3].body["messages"]] == ["b", "d", "a", "e"]


def test_long_conversations_are_read_page_by_page(aws: FakeAws, ticks: Ticks) -> None:
    """More turns than DynamoDB gives at once."""
    table = ConversationTable("turns", ttl_days=1, clock=ticks.clock())
    for number in range(205):
        turn = Turn(sequence=number, role="user", content="x", request_id="r")
        assert table.append("anna", "c", turn) == number
    history = table.history("anna", "c", max_bytes=1000)
    assert [turn.sequence for turn in history.turns] == list(range(205))
    assert history.last == 204


def test_turns_past_their_time_to_live_are_not_read(aws: FakeAws, ticks: Ticks) -> None:
    """DynamoDB deletes late; their numbers stay taken until it does."""
    table = ConversationTable("turns", ttl_days=1, clock=ticks.clock())
    table.append("anna", "c", Turn(sequence=0, role="user", content="old", request_id="r"))
    ticks.now += 86_400
    history = table.history("anna", "c", max_bytes=1000)
    assert (history.turns, history.last) == ((), 0)


def test_a_repeated_write_finds_its_own_turn(aws: FakeAws, ticks: Ticks) -> None:
    """boto3 sends again when a response is lost; the turn is there already and is not written twice."""
    table = ConversationTable("turns", ttl_days=1, clock=ticks.clock())
    turn = Turn(sequence=0, role="user", content="hi", request_id="r")
    assert [table.append("anna", "c", turn), table.append("anna", "c", turn)] == [0, 0]
    other = Turn(sequence=0, role="user", content="hi", request_id="other")
    assert table.append("anna", "c", other) == 1


def test_endless_conflict_is_a_409(aws: FakeAws, client: openai.OpenAI) -> None:
    """Sixteen attempts, then the caller is told to send it again."""

    def steal(item: dict[str, Any]) -> None:
        key = (item["pk"]["S"], item["sk"]["S"])
        aws.items[key] = {**item, "request_id": {"S": "thief"}}

    aws.before_put = steal
    with pytest.raises(openai.ConflictError, match="16 attempts; send it again"):
        ask(client, "hello")
    assert len(aws.items) == conversations.MAX_ATTEMPTS


def test_a_store_that_refuses_is_a_503(aws: FakeAws, client: openai.OpenAI) -> None:
    """The caller gets the way out, the log the reason, and the model is not asked for a lost turn."""
    aws.refused = {"PutItem"}
    with pytest.raises(openai.InternalServerError, match="leave metadata.conversation_id out") as raised:
        ask(client, "hello")
    assert raised.value.code == "conversation_unavailable"
    assert "secret" not in str(raised.value)
    assert aws.requests == []


def test_the_end_is_not_announced_when_the_answer_was_not_stored(
    aws: FakeAws, client: openai.OpenAI, gateway: Gateway
) -> None:
    """A store that dies during the answer: all tokens, then APIError, and the log says what was lost."""

    def reply(to: Reply) -> None:
        aws.refused = {"PutItem"}
        says("hi")(to)

    aws.model = reply
    with pytest.raises(openai.APIError, match="cannot be read or stored"):
        ask(client, "hello")
    gateway.close()
    lost = [line for line in gateway.logged() if line["message"] == "interrupted turn not stored"]
    assert [line["code"] for line in lost] == ["conversation_unavailable"]


def test_a_message_larger_than_an_item_is_refused(
    aws: FakeAws, start_gateway: Callable[..., Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the model is asked, with the limit in bytes."""
    monkeypatch.setattr(conversations, "MAX_CONTENT_BYTES", 4)
    gateway = start_gateway(conversation_table="turns")
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="anna", max_retries=0) as client:
        with pytest.raises(openai.APIStatusError, match="at most 4 bytes, got 6") as raised:
            ask(client, "ééé")
    assert raised.value.status_code == 413
    with pytest.raises(ContentTooLongError):
        ConversationTable("t", ttl_days=1).append(
            "a", "c", Turn(sequence=0, role="user", content="12345", request_id="")
        )


def test_a_request_with_several_messages_stores_each(aws: FakeAws, client: openai.OpenAI) -> None:
    """An imported conversation, whose answers belong to their questions."""
    aws.model = says("4")
    messages: list[Any] = [
        {"role": "assistant", "content": "0"},
        {"role": "user", "content": "1"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "3"},
    ]
    with client.chat.completions.create(
        model=QWEN, messages=messages, stream=True, metadata={"conversation_id": "c"}
    ) as stream:
        list(stream)
    replies = [item.get("reply_to", {}).get("N") for _, item in sorted(aws.items.items())]
    assert replies == [None, None, "1", None, "3"]
    assert [content for _, content, _ in aws.turns()] == list("01234")
