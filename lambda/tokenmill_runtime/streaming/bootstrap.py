"""A Lambda runtime for ASGI applications that streams: one event, one request, chunks as they are made.

`run.sh` starts it in place of the managed Python runtime, which cannot stream. The handler names an ASGI
factory as ``module:function``.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING, Any

from tokenmill_runtime.streaming.events import NotHttpError, prelude, scope_and_body
from tokenmill_runtime.streaming.runtime_api import FunctionError, ResponseStream, RuntimeApi

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tokenmill_runtime.streaming.runtime_api import Invocation

    Message = dict[str, Any]
    App = Callable[
        [dict[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
        Awaitable[None],
    ]


class StartError(RuntimeError):
    """The application could not be started; the message says why in the owner's terms."""


class IncompleteResponseError(RuntimeError):
    """The application returned before its response was finished."""


def main() -> None:
    """Serve the function's events until Lambda ends the process."""
    shutdown = _Shutdown()
    signal.signal(signal.SIGTERM, shutdown)
    api = RuntimeApi(os.environ["AWS_LAMBDA_RUNTIME_API"])
    with asyncio.Runner() as runner:
        try:
            app = load_app(os.environ["_HANDLER"])
            lifespan = runner.run(Lifespan.start(app))
        except Exception as error:
            api.init_error(function_error(error, "Runtime.InitError"))
            raise
        try:
            while True:
                # in this order, so that no signal falls between the question and the wait
                shutdown.waiting = True
                if shutdown.asked:
                    break
                invocation = api.next()
                shutdown.waiting = False
                serve(runner, api, app, invocation)
        finally:
            runner.run(lifespan.stop())


class _Shutdown:
    """Ends the process on SIGTERM: at once while it waits for an event, else after the answer in hand.

    Raising in the middle of an answer would come up inside the event loop and tear its tasks apart.
    """

    def __init__(self) -> None:
        self.asked = False
        self.waiting = False

    def __call__(self, number: int, frame: object) -> None:
        self.asked = True
        if self.waiting:
            self.waiting = False
            sys.exit(0)


def load_app(handler: str) -> App:
    """The application that ``module:function`` makes; raises StartError or what the module raises."""
    module, separator, name = handler.partition(":")
    factory = getattr(importlib.import_module(module), name, None) if separator else None
    if factory is None:
        raise StartError(f"the handler must be module:function of an ASGI factory, got {handler!r}")
    app: App = factory()
    return app


def function_error(error: BaseException, kind: str = "") -> FunctionError:
    """An exception in Lambda's form."""
    return FunctionError(
        kind=kind or f"Runtime.{type(error).__name__}",
        message=f"{type(error).__name__}: {error}",
        stack=tuple(traceback.format_exception(error)),
    )


def serve(runner: asyncio.Runner, api: RuntimeApi, app: App, invocation: Invocation) -> None:
    """Answer one event; whatever the application raises ends this invocation and not the process."""
    if invocation.trace_id is None:
        os.environ.pop("_X_AMZN_TRACE_ID", None)
    else:
        os.environ["_X_AMZN_TRACE_ID"] = invocation.trace_id
    try:
        scope, body = scope_and_body(invocation.event)
    except NotHttpError as error:
        api.invocation_error(invocation.request_id, function_error(error))
        return
    scope["tokenmill.request_id"] = invocation.request_id
    scope["tokenmill.deadline"] = invocation.deadline
    runner.run(_Cycle(api, invocation.request_id, body).run(app, scope))


class _Cycle:
    """One request of the application and its streamed response."""

    def __init__(self, api: RuntimeApi, request_id: str, body: bytes) -> None:
        self._api = api
        self._request_id = request_id
        self._body: bytes | None = body
        self._head: dict[str, object] | None = None
        self._stream: ResponseStream | None = None
        self._complete = False
        self._gone = asyncio.Event()

    async def run(self, app: App, scope: dict[str, Any]) -> None:
        try:
            await app(scope, self._receive, self._send)
            if not self._complete and not self._gone.is_set():
                raise IncompleteResponseError("the application returned before its response was finished")
        except Exception as error:  # noqa: BLE001 - reported to Lambda; the next event must still be served
            await asyncio.to_thread(self._fail, function_error(error))
        finally:
            if self._stream is not None:
                self._stream.close()

    async def _receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if self._gone.is_set():
            raise OSError("the caller has gone")
        if message["type"] == "http.response.start":
            self._head = prelude(message["status"], message.get("headers", ()))
            return
        if self._head is None or self._complete:
            raise RuntimeError(f"{message['type']} is out of its order in a response")
        try:
            await asyncio.to_thread(self._write, message.get("body", b""), message.get("more_body", False))
        except OSError as error:
            self._gone.set()
            _log("warning", "Lambda takes no more of the response", self._request_id, str(error))
            raise

    def _write(self, body: bytes, more: bool) -> None:
        if self._stream is None:
            self._stream = self._api.response(self._request_id, self._head or {})
        self._stream.write(body)
        if not more:
            self._stream.finish()
            self._complete = True

    def _fail(self, error: FunctionError) -> None:
        """Tell Lambda by the way that is still open: the error endpoint, or the trailers of the response."""
        _log("error", "request failed", self._request_id, "".join(error.stack) or error.message)
        if self._complete or self._gone.is_set():
            return
        if self._stream is None:
            self._api.invocation_error(self._request_id, error)
            return
        try:
            self._stream.fail(error)
        except OSError as failure:
            _log("warning", "Lambda takes no more of the response", self._request_id, str(failure))


class Lifespan:
    """ASGI's lifespan protocol around all requests; an application that knows it not is served without."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._answer: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._known = False

    @classmethod
    async def start(cls, app: App) -> Lifespan:
        """Run the application's start-up; raises StartError when it fails."""
        lifespan = cls()
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
        lifespan._task = asyncio.ensure_future(lifespan._run(app, scope))
        answer = await lifespan._exchange("lifespan.startup")
        if answer["type"] == "lifespan.startup.failed":
            raise StartError(f"the application's start-up failed: {answer.get('message', '')}")
        return lifespan

    async def stop(self) -> None:
        """Run the application's shut-down, if it still listens."""
        if self._task is not None and not self._task.done():
            await self._exchange("lifespan.shutdown")

    async def _run(self, app: App, scope: dict[str, Any]) -> None:
        try:
            await app(scope, self._messages.get, self._send)
        except Exception as error:  # noqa: BLE001 - ASGI: raising here says that there is no lifespan support
            if not self._known:
                _log("warning", "the application has no lifespan", "", str(error))
        await self._answer.put({"type": "lifespan.ended"})

    async def _send(self, message: Message) -> None:
        self._known = True
        await self._answer.put(message)

    async def _exchange(self, kind: str) -> Message:
        await self._messages.put({"type": kind})
        return await self._answer.get()


def _log(level: str, message: str, request_id: str, detail: str) -> None:
    line = {"level": level, "message": message, "request_id": request_id, "detail": detail}
    sys.stdout.write(json.dumps(line, separators=(",", ":")) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
