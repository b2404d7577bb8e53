"""A real OpenAI-compatible server behind the model server: streams pass through as they are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx

from tokenmill.local.model_server.requests import RequestError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_CONNECT_SECONDS = 5.0


class Upstream:
    """An OpenAI-compatible server.

    Args:
        url: Its base URL, as an OpenAI client takes it (`http://127.0.0.1:8000/v1`).
        model: Name that the server knows the model by; none keeps the name of the request.
        key: Bearer key for the server; none sends none.
    """

    def __init__(self, url: str, *, model: str | None = None, key: str | None = None) -> None:
        self.url = url.rstrip("/")
        self._model = model
        # Streams pass through as they are, so they must not come compressed.
        headers = {"accept-encoding": "identity", **({"authorization": f"Bearer {key}"} if key else {})}
        timeout = httpx.Timeout(None, connect=_CONNECT_SECONDS)
        self._client = httpx.AsyncClient(headers=headers, timeout=timeout, trust_env=False)

    async def check(self) -> None:
        """Ask the server for its models.

        Raises:
            RequestError: It does not answer, or not as an OpenAI-compatible server.
        """
        try:
            response = await self._client.get(f"{self.url}/models", timeout=_CONNECT_SECONDS)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if response.status_code >= 400:
            raise RequestError(
                f"TOKENMILL_MODEL_URL={self.url}: GET /models answered {response.status_code}; "
                "it must be the base URL of an OpenAI-compatible server, such as http://127.0.0.1:8000/v1",
                status=502,
            )

    async def open(self, body: dict[str, Any]) -> httpx.Response:
        """Send a chat request and return its answer while it arrives; the caller closes it.

        Args:
            body: The OpenAI request.

        Raises:
            RequestError: The server does not answer, or refuses.
        """
        document = {**body, "model": self._model or body.get("model") or ""}
        request = self._client.build_request("POST", f"{self.url}/chat/completions", json=document)
        try:
            response = await self._client.send(request, stream=True)
            if response.status_code < 400:
                return response
            detail = (await response.aread()).decode(errors="replace")[:500]
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        raise RequestError(
            f"the server behind TOKENMILL_MODEL_URL ({self.url}) answered {response.status_code}: {detail}",
            status=response.status_code,
        )

    async def chunks(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """Yield an answer's bytes as they arrive, and close it.

        Args:
            response: An open answer.

        Raises:
            RequestError: The server goes away before the end.
        """
        try:
            async for chunk in response.aiter_raw():
                yield chunk
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        finally:
            await response.aclose()

    async def whole(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a chat request that is not streamed.

        Args:
            body: The OpenAI request.

        Raises:
            RequestError: The server does not answer, or not with a chat completion.
        """
        response = await self.open(body)
        data = b"".join([chunk async for chunk in self.chunks(response)])
        document = self._document(data)
        if not document.get("choices"):
            raise self._odd("an answer without choices", data)
        return document

    async def events(self, response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
        """Yield the documents of a stream of server-sent events, until `[DONE]`.

        Args:
            response: An open streaming answer.

        Raises:
            RequestError: The server goes away before the end, or sends what is no event.
        """
        rest, ended = b"", False
        async for chunk in self.chunks(response):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                data = line.removeprefix(b"data:").strip()
                ended = ended or data == b"[DONE]"
                if line.startswith(b"data:") and data != b"[DONE]":
                    yield self._document(data)
        if not ended:
            raise self._odd("a stream that ends without [DONE]", rest)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _document(self, data: bytes) -> dict[str, Any]:
        try:
            document = json.loads(data)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise self._odd("what is not a JSON object", data)
        return document

    def _odd(self, what: str, data: bytes) -> RequestError:
        shown = data[:80].decode(errors="replace")
        return RequestError(
            f"the server behind TOKENMILL_MODEL_URL ({self.url}) sent {what} ({shown!r}); "
            "it must be an OpenAI-compatible server",
            status=502,
        )

    def _unreachable(self, error: httpx.HTTPError) -> RequestError:
        return RequestError(
            f"the server behind TOKENMILL_MODEL_URL ({self.url}) does not answer: "
            f"{str(error) or type(error).__name__}; start it, "
            "or unset TOKENMILL_MODEL_URL",
            status=502,
        )
