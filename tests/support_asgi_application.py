"""ASGI applications for the bootstrap's tests: each path behaves, or misbehaves, in its own way."""

from __future__ import annotations

import json
import os
import socket
from typing import Any

START: dict[str, Any] = {
    "type": "http.response.start",
    "status": 201,
    "headers": [
        (b"content-type", b"text/plain"),
        (b"x-a", b"1"),
        (b"x-a", b"2"),
        (b"content-length", b"9"),
        (b"set-cookie", b"a=1"),
        (b"Set-Cookie", b"b=2"),
    ],
}


def piece(data: bytes, *, last: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": not last}


async def silent_failure(receive: Any, send: Any) -> None:
    raise ValueError("before the first byte")


async def started_failure(receive: Any, send: Any) -> None:
    await send(START)
    raise ValueError("after the head, before the first byte")


async def nothing(receive: Any, send: Any) -> None:
    return


async def out_of_order(receive: Any, send: Any) -> None:
    await send(piece(b"x"))


async def gated(receive: Any, send: Any) -> None:
    await send(START)
    with socket.create_connection(("127.0.0.1", int(os.environ["GATE"]))) as gate:
        for number in range(3):
            await send(piece(b"chunk %d" % number))
            assert gate.recv(1)
    await send(piece(b"", last=True))


async def broken(receive: Any, send: Any) -> None:
    await unfinished(receive, send)
    raise ValueError("in the middle")


async def unfinished(receive: Any, send: Any) -> None:
    await send(START)
    await send(piece(b"half"))


async def after_the_end(receive: Any, send: Any) -> None:
    await send(START)
    await send(piece(b"all", last=True))
    await send(piece(b"x"))


async def endless(receive: Any, send: Any) -> None:
    await send(START)
    try:
        while True:
            await send(piece(b"x" * 1000))
    except OSError:
        assert (await receive())["type"] == "http.request"
        assert (await receive())["type"] == "http.disconnect"
        try:
            await send(piece(b"x"))
        except OSError:
            print("the caller has gone", flush=True)
        raise


async def endless_ignored(receive: Any, send: Any) -> None:
    await send(START)
    try:
        while True:
            await send(piece(b"x" * 1000))
    except OSError:
        return


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    path = scope["path"].removeprefix(scope["root_path"])
    behave = globals().get(path.removeprefix("/").replace("-", "_"))
    if behave is not None:
        await behave(receive, send)
        return
    names = ("method", "path", "root_path", "query_string", "tokenmill.principal", "tokenmill.request_id")
    seen = [scope[name].decode() if name == "query_string" else scope.get(name) for name in names]
    body = (await receive())["body"].hex()
    trace = os.environ.get("_X_AMZN_TRACE_ID")
    found = [*seen, body, scope["tokenmill.deadline"], trace, scope["asgi"]["spec_version"]]
    await send(START)
    await send(piece(json.dumps(found).encode(), last=True))


async def lifespan(receive: Any, send: Any) -> None:
    assert (await receive())["type"] == "lifespan.startup"
    print("starting", flush=True)
    await send({"type": "lifespan.startup.complete"})
    assert (await receive())["type"] == "lifespan.shutdown"
    print("stopping", flush=True)
    await send({"type": "lifespan.shutdown.complete"})


def make() -> Any:
    print("making", flush=True)
    return app


def fails() -> Any:
    raise RuntimeError("no configuration")


def without_lifespan() -> Any:
    async def plain(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise NotImplementedError("only http")
        await app(scope, receive, send)

    return plain


def failing_lifespan() -> Any:
    async def failing(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no table"})
        raise RuntimeError("no table")

    return failing
