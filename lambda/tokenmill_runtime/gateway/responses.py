"""HTTP answers of the gateway."""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import TYPE_CHECKING

import anyio
from starlette.responses import JSONResponse, Response

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from tokenmill_runtime.gateway.errors import GatewayError
    from tokenmill_runtime.gateway.exchange import Exchange

REQUEST_ID_HEADER = "x-request-id"


class AsciiJSONResponse(JSONResponse):
    """JSON with escapes, which encodes any text: a model's or a caller's may have half a surrogate pair."""

    def render(self, content: object) -> bytes:
        return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()


def error_response(error: GatewayError, request_id: str) -> JSONResponse:
    """The error object with its status."""
    headers = {REQUEST_ID_HEADER: request_id}
    if error.retry_after is not None:
        headers["retry-after"] = str(error.retry_after)
    return AsciiJSONResponse(error.document(), status_code=error.status, headers=headers)


class EventStreamResponse(Response):
    """Streams an exchange and closes it however the connection ends.

    Starlette's own StreamingResponse leaves an iterator that it stopped reading to the garbage collector;
    here the model's connection and the partial answer depend on its end.
    """

    media_type = "text/event-stream"

    def __init__(self, exchange: Exchange, request_id: str) -> None:
        super().__init__(headers={REQUEST_ID_HEADER: request_id, "cache-control": "no-cache"})
        # Set by Response for its empty body; a stream's length is unknown.
        del self.headers["content-length"]
        self._exchange = exchange

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with anyio.create_task_group() as group:
                # A caller who reads too slowly must not take the time that storing the answer needs.
                group.cancel_scope.deadline = anyio.current_time() + self._exchange.seconds_to_send()
                group.start_soon(_cancel_when_gone, receive, group.cancel_scope)
                await self._send(send)
                group.cancel_scope.cancel()
        finally:
            await self._exchange.close()

    async def _send(self, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async with aclosing(self._exchange.events()) as events:
                async for event in events:
                    await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except OSError:
            # ASGI 2.4: sending to a client that has gone; the exchange is closed by the caller.
            return


async def _cancel_when_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
