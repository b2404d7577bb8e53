"""A request's part in a stored conversation: what came before it, and its own turns."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from tokenmill_runtime.conversations import ContentTooLongError, ConversationConflictError, Turn
from tokenmill_runtime.gateway.chat_request import CHARACTERS_PER_TOKEN, Message, estimate_tokens
from tokenmill_runtime.gateway.connection import connection_errors
from tokenmill_runtime.gateway.errors import GatewayError, invalid_request, server_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokenmill_runtime.conversations import Conversations, History, Role
    from tokenmill_runtime.gateway.chat_request import ChatRequest


class Memory:
    """Reads and writes one conversation for one request; both methods block and raise GatewayError.

    Without a conversation id the request is its own whole conversation and nothing is stored.
    """

    def __init__(
        self, store: Conversations | None, chat: ChatRequest, *, principal: str, request_id: str
    ) -> None:
        self._store = store
        self._chat = chat
        self._principal = principal
        self._request_id = request_id
        self._asked = -1

    def recall(self) -> tuple[Message, ...]:
        """All messages for the model; the new ones are stored before it is called, so they cannot be lost.

        System messages are never stored and stand first. The oldest turns that do not fit the context are
        left out.
        """
        system = tuple(message for message in self._chat.messages if message.role == "system")
        asked = tuple(message for message in self._chat.messages if message.role != "system")
        if self._store is None or self._chat.conversation_id is None:
            return (*system, *asked)
        with _store_errors():
            history = self._store.history(
                self._principal, self._chat.conversation_id, max_characters=self._room()
            )
            earlier = [Message(role=turn.role, content=turn.content) for turn in history.turns]
            if _is_repeated(history, asked):
                self._asked = history.turns[-1].sequence
                earlier.pop()
            else:
                self._store_asked(asked, history.last)
        return (*system, *earlier, *asked)

    def remember(self, answer: str, *, interrupted: bool) -> None:
        """Store the answer, or what there is of it; an empty one is no turn."""
        if self._store is None or self._chat.conversation_id is None or not answer:
            return
        with _store_errors():
            self._append("assistant", answer, self._asked + 1, interrupted=interrupted)

    def _room(self) -> int:
        """Characters left for earlier turns when the new messages and the answer have theirs."""
        model = self._chat.model
        answer = self._chat.max_tokens or min(model.max_output_tokens, model.context_tokens // 4)
        return CHARACTERS_PER_TOKEN * (model.context_tokens - answer - estimate_tokens(self._chat.messages))

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


def _is_repeated(history: History, asked: tuple[Message, ...]) -> bool:
    """Whether the newest stored turn is this very question, still unanswered: a client trying again."""
    if not history.turns or len(asked) != 1:
        return False
    newest = history.turns[-1]
    return newest.role == "user" and newest.content == asked[0].content


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
