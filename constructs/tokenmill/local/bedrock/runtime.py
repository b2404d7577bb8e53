"""Bedrock's runtime: Converse and ConverseStream, forwarded to a model server for the model.

Source: Amazon Bedrock API Reference, "Converse" and "ConverseStream" (paths, errors, events).
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

from tokenmill.local.aws_requests import AwsError
from tokenmill.local.event_stream import encode_exception
from tokenmill.local.sagemaker.fleet import Launch, LaunchError

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from tokenmill.local.sagemaker.fleet import Fleet

    Send = Callable[[MutableMapping[str, Any]], Any]

PATH = re.compile(r"^/model/(.+)/(converse|converse-stream|invoke|invoke-with-response-stream)$")
_MODEL_ID = re.compile(r"[a-zA-Z0-9.:/_-]{1,2048}")


class BedrockRuntime:
    """The runtime API; a model's server starts with the first request for it.

    Args:
        fleet: What runs the model servers.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._client = httpx.AsyncClient(timeout=httpx.Timeout(None, connect=5.0), trust_env=False)
        self._starting = asyncio.Lock()

    async def close(self) -> None:
        """Close the connections to the model servers."""
        await self._client.aclose()

    async def invoke(self, path: str, body: bytes, send: Send) -> None:
        """Answer one request.

        Args:
            path: The request's path, which `PATH` matches.
            body: Its body.
            send: ASGI send.
        """
        match = PATH.match(path)
        assert match is not None  # the router sends nothing else
        model, operation = match.group(1), match.group(2)
        try:
            response = await self._forward(model, operation, body)
        except AwsError as error:
            status, headers, document = error.json_response()
            await _start(send, status, headers)
            await send({"type": "http.response.body", "body": document})
            return
        try:
            kind = response.headers.get("content-type", "application/json")
            await _start(send, response.status_code, {"content-type": kind})
            await self._relay(response, send)
        finally:
            await response.aclose()

    async def _relay(self, response: httpx.Response, send: Send) -> None:
        try:
            async for chunk in response.aiter_raw():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except httpx.HTTPError as error:
            broken = encode_exception(
                "modelStreamErrorException",
                f"the model server went away in mid-answer ({str(error) or type(error).__name__})",
            )
            await send({"type": "http.response.body", "body": broken, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _forward(self, model: str, operation: str, body: bytes) -> httpx.Response:
        if not operation.startswith("converse"):
            raise AwsError(
                "ValidationException",
                f"the local cloud does not serve {operation}; use Converse or ConverseStream",
            )
        if not _MODEL_ID.fullmatch(model):
            raise AwsError("ValidationException", "The provided model identifier is invalid.")
        url = await self._server(model)
        target = f"{url}/model/{quote(model.rsplit('/', 1)[-1], safe='')}/{operation}"
        request = self._client.build_request(
            "POST", target, content=body, headers={"content-type": "application/json"}
        )
        try:
            response = await self._client.send(request, stream=True)
        except httpx.TransportError as error:
            raise AwsError(
                "ModelErrorException",
                f"the model server is not running ({str(error) or type(error).__name__}); "
                "run `tokenmill up` again to start it",
                status=424,
            ) from error
        if response.status_code >= 400:
            message = json.loads(await response.aread())["error"]["message"]
            code = "ValidationException" if response.status_code < 500 else "ModelErrorException"
            raise AwsError(code, message, status=400 if response.status_code < 500 else 424)
        return response

    async def _server(self, model: str) -> str:
        key = f"bedrock/{model.rsplit('/', 1)[-1]}"
        async with self._starting:
            if self._fleet.url(key) is None:
                launch = Launch(model=model, engine=None, context_tokens=None, copies=1)
                try:
                    await asyncio.to_thread(self._fleet.start, key, launch)
                except LaunchError as error:
                    raise AwsError("ServiceUnavailableException", str(error), status=503) from error
        url = self._fleet.url(key)
        assert url is not None  # it has just been started
        return url


async def _start(send: Send, status: int, headers: dict[str, str]) -> None:
    raw = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
