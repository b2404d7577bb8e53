"""A chat request whose answer is shown as it arrives, with its time to first token and its rate."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_TIMEOUT = httpx.Timeout(120.0, connect=5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer and its timing."""

    text: str
    pieces: int
    ttft_ms: float
    tokens_per_second: float

    @property
    def summary(self) -> str:
        """The timing in one line."""
        rate = f"{self.tokens_per_second:.1f} tokens/s"
        return f"{self.pieces} tokens, first after {self.ttft_ms:.0f} ms, then {rate}"


class ChatClient:
    """An OpenAI-compatible server.

    Args:
        base_url: Its base URL, which ends in /v1.
        key: Bearer key.
    """

    def __init__(self, base_url: str, key: str) -> None:
        self._url = base_url.rstrip("/")
        self._client = httpx.Client(
            headers={"authorization": f"Bearer {key}"}, timeout=_TIMEOUT, trust_env=False
        )

    def models(self) -> list[str]:
        """Return the models that the server serves.

        Raises:
            TokenmillError: It does not answer, or refuses.
        """
        try:
            response = self._client.get(f"{self._url}/models")
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        _raise_for(response.status_code, response.content)
        return [entry["id"] for entry in response.json()["data"]]

    def stream(
        self,
        model: str,
        messages: list[dict[str, str]],
        *,
        conversation: str | None,
        show: Callable[[str], None],
    ) -> Answer:
        """Ask, and show each piece of the answer when it arrives.

        Args:
            model: Model to ask.
            messages: The messages of this turn.
            conversation: Id of a conversation that the server remembers.
            show: Takes each piece.

        Raises:
            TokenmillError: The server does not answer, refuses, or breaks off.
        """
        body: dict[str, Any] = {"model": model, "messages": messages, "stream": True}
        if conversation:
            body["metadata"] = {"conversation_id": conversation}
        began = time.monotonic()
        arrivals: list[float] = []
        text: list[str] = []
        try:
            with self._client.stream("POST", f"{self._url}/chat/completions", json=body) as response:
                if response.status_code != 200:
                    _raise_for(response.status_code, response.read())
                for piece in _pieces(response):
                    arrivals.append(time.monotonic())
                    text.append(piece)
                    show(piece)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if not arrivals:
            raise TokenmillError(f"{self._url} answered with no text")
        spread = arrivals[-1] - arrivals[0]
        return Answer(
            text="".join(text),
            pieces=len(text),
            ttft_ms=(arrivals[0] - began) * 1000,
            tokens_per_second=(len(text) - 1) / spread if spread else 0.0,
        )

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _unreachable(self, error: httpx.HTTPError) -> TokenmillError:
        return TokenmillError(
            f"{self._url} does not answer ({str(error) or type(error).__name__}); see `tokenmill status`, "
            "and run `tokenmill up` again when the gateway is not running"
        )


def _pieces(response: httpx.Response) -> Iterator[str]:
    for line in response.iter_lines():
        if not line.startswith("data:") or line == "data: [DONE]":
            continue
        document = json.loads(line[5:])
        if "error" in document:
            raise TokenmillError(f"the answer broke off: {document['error']['message']}")
        for choice in document.get("choices") or []:
            if content := (choice.get("delta") or {}).get("content"):
                yield content


def _raise_for(status: int, body: bytes) -> None:
    if status == 200:
        return
    try:
        message = json.loads(body)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = body.decode(errors="replace")[:300]
    raise TokenmillError(f"the server answered {status}: {message}")
