"""What the gateway needs of a model's back end, and how blocking calls run beside the event loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from tokenmill_runtime.aws import MAX_CONNECTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tokenmill_runtime.gateway.chat_request import Message
    from tokenmill_runtime.gateway_config import GatewayModel

T = TypeVar("T")
Document = dict[str, Any]

END: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCall:
    """One question to a model: all messages, earlier turns included, and how to answer.

    ``overflowed`` is called, from any thread, when another model than the wanted one is asked.
    """

    model: GatewayModel
    messages: tuple[Message, ...]
    max_tokens: int | None
    options: Mapping[str, Any]
    overflowed: Callable[[], None] = lambda: None


class ModelStream(Protocol):
    """Chunks of an answer in OpenAI's form, each as the model gives it; iterating blocks.

    A chunk may say in ``served_by`` which model it comes from, where that is not the one asked for.

    Raises GatewayError when the model fails or stops before its answer is finished.
    """

    def __iter__(self) -> Iterator[Document]: ...

    def cancel(self) -> None:
        """Stop reading, from any thread, and let go of the connection."""


class Backend(Protocol):
    """A service that runs models. Both methods block and raise GatewayError."""

    @property
    def single_token_chunks(self) -> bool:
        """Whether a chunk is one token, as engines send them, or a piece of text."""

    def complete(self, call: ModelCall) -> Document:
        """The whole answer, as a chat completion."""

    def stream(self, call: ModelCall) -> ModelStream:
        """Begin an answer."""


class Threads:
    """Runs blocking calls of many requests without blocking the event loop."""

    def __init__(self, limit: int = MAX_CONNECTIONS) -> None:
        from anyio import CapacityLimiter

        self._limiter = CapacityLimiter(limit)

    async def run(self, function: Callable[[], T]) -> T:
        """The function's result; a cancelled caller does not wait for it."""
        from anyio import to_thread

        return await to_thread.run_sync(function, limiter=self._limiter, abandon_on_cancel=True)
