"""A request's part in a stored conversation: what came before it, and its own turns."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from tokenmill_runtime.conversations import ContentTooLongError, ConversationConflictError, Turn
from tokenmill_runtime.gateway.chat_request import BYTES_PER_TOKEN, Message, estimate_tokens
from tokenmill_runtime.gateway.connection import connection_errors
from tokenmill_runtime.gateway.errors import GatewayError, invalid_request, server_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tokenmill_runtime.conversations import Conversations, Role
    from tokenmill_runtime.gateway.chat_request import ChatRequest


class Memory:
    """Reads and writes one conversation for one request.

    `recall` and `remember` block and raise GatewayError. Without a conversation id the request is its own
    whole conversation and nothing is stored.
    """

    def __init__(
        self, store: Conversations | None, chat: ChatRequest, *, principal: str, request_id: str
    ) -> None:
        self._store = store
        self._chat = chat
        self._principal = principal
        self._request_id = request_id
        self._asked = -1
        self._system = tuple(message for message in chat.messages if message.role == "system")
        self._new = tuple(message for message in chat.messages if message.role != "system")
        self._earlier: tuple[Turn, ...] = ()

    @property
    def messages(self) -> tuple[Message, ...]:
        """All messages for the model: system messages, which are never stored, stand first."""
        earlier = (Message(role=turn.role, content=turn.content) for turn in self._earlier)
        return (*self._system, *earlier, *self._new)

    def recall(self) -> None:
        """Read the earlier turns, and store the new messages before the model is called with them.

        The oldest turns that do not fit the context are left out.
        """
        if self._store is None or self._chat.conversation_id is None:
            return
        room = self._room()
        with _store_errors():
            # With room for the new messages as well, which stand there already when a client tries again.
            history = self._store.history(
                self._principal, self._chat.conversation_id, max_bytes=room + _size(self._new)
            )
            turns = history.turns
            if _is_repeated(turns, self._new):
                self._asked = turns[-1].sequence
                turns = turns[: -len(self._new)]
            else:
                self._store_asked(self._new, history.last)
        if self._chat.model.guardrail is not None:
            turns = _answered(turns)
        while turns and _size(turns) > room:
            turns = _without_oldest(turns, 1)
        self._earlier = turns

    def shorten(self) -> bool:
        """Leave out the older half of the earlier turns; False when there are none left to leave out."""
        found = bool(self._earlier)
        self._earlier = _without_oldest(self._earlier, (len(self._earlier) + 1) // 2)
        return found

    def remember(self, answer: str, *, interrupted: bool) -> None:
        """Store the answer, or what there is of it; an empty one is no turn."""
        if self._store is None or self._chat.conversation_id is None or not answer:
            return
        # A model's surrogate pairs may come in two halves; a half that stays alone is no character.
        answer = answer.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        with _store_errors():
            self._append("assistant", answer, self._asked + 1, interrupted=interrupted)

    def _room(self) -> int:
        """Bytes left for earlier turns when the new messages and the answer have theirs."""
        model = self._chat.model
        answer = self._chat.max_tokens or min(model.max_output_tokens, model.context_tokens // 4)
        return BYTES_PER_TOKEN * (model.context_tokens - answer - estimate_tokens(self._chat.messages))

    def _store_asked(self, asked: tuple[Message, ...], last: int) -> None:
        for message in asked:
            last = self._append(cast("Role", message.role), message.content, last + 1)
            if message.role == "user":
                self._asked = last

    def _append(self, role: Role, content: str, sequence: int, *, interrupted: bool = False) -> int:
        turn = Turn(
            sequence=sequence,
            role=role,
            content=content,
            request_id=self._request_id,
            interrupted=interrupted,
            reply_to=self._asked if role == "assistant" and self._asked >= 0 else None,
        )
        store, conversation = self._store, self._chat.conversation_id
        assert store is not None and conversation is not None
        return store.append(self._principal, conversation, turn)


def _is_repeated(turns: Sequence[Turn], asked: Sequence[Message]) -> bool:
    """Whether the newest turns are these very messages, still unanswered: a client trying again."""
    newest = [(turn.role, turn.content) for turn in turns[-len(asked) :]]
    return newest == [(message.role, message.content) for message in asked]


def _answered(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """The turns of requests that got an answer: what a guardrail blocked must not come back as history."""
    answers = {turn.reply_to for turn in turns}
    answered = {turn.request_id for turn in turns if turn.sequence in answers}
    return tuple(turn for turn in turns if turn.reply_to is not None or turn.request_id in answered)


def _size(texts: Sequence[Turn | Message]) -> int:
    return sum(len(text.content.encode()) for text in texts)


def _without_oldest(turns: tuple[Turn, ...], count: int) -> tuple[Turn, ...]:
    """The newer turns, beginning with a question."""
    while count < len(turns) and turns[count].role == "assistant":
        count += 1
    return turns[count:]


@contextmanager
def _store_errors() -> Iterator[None]:
    try:
        yield
    except ConversationConflictError as error:
        message = f"the conversation is being written by others: {error}"
        raise GatewayError(
            message, status=409, kind="conflict_error", code="conversation_conflict"
        ) from error
    except ContentTooLongError as error:
        raise invalid_request(str(error), param="messages", code="message_too_long", status=413) from error
    except connection_errors() as error:
        message = (
            "the conversation cannot be read or stored now; try again, or leave metadata.conversation_id out"
        )
        code = "conversation_unavailable"
        raise server_error(
            message, status=503, code=code, detail=f"{type(error).__name__}: {error}"
        ) from error
