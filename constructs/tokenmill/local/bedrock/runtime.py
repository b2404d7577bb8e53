"""Bedrock's runtime: Converse, ConverseStream, InvokeModel, CountTokens and ApplyGuardrail.

Answers come from a model server for each model. Source: Amazon Bedrock API Reference, the operations of
"Amazon Bedrock Runtime" (paths, errors, events).
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import uuid4

import httpx

from tokenmill.local.aws_requests import AwsError, Params, Scope
from tokenmill.local.bedrock.converse import Call, Desk, StreamedAnswer
from tokenmill.local.bedrock.invocation_logs import Invocation, streamed_answer
from tokenmill.local.bedrock.native_bodies import dialect_of
from tokenmill.local.bedrock.prompt_tokens import counted, plain_request
from tokenmill.local.event_stream import CONTENT_TYPE, encode_exception
from tokenmill.local.json_text import json_text
from tokenmill.local.rest_json import HttpRequest, RestShapes
from tokenmill.local.sagemaker.fleet import Launch, LaunchError

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from tokenmill.local.bedrock.invocation_logs import InvocationLogs
    from tokenmill.local.bedrock.routing import Route, Routing
    from tokenmill.local.sagemaker.fleet import Fleet

    Send = Callable[[MutableMapping[str, Any]], Any]

PATH = re.compile(r"^/(model/[^/]+/[a-z-]+|guardrail/[^/]+/version/[^/]+/apply)$")
_REFUSED_BY_CALLER = ("ValidationException", "ResourceNotFoundException", "AccessDeniedException")


class BedrockRuntime:
    """The runtime API; a model's server starts with the first request for it.

    Args:
        fleet: What runs the model servers.
        routing: Finds who answers.
        desk: Quotas, guardrails, caches and metrics.
        logs: Invocation logs.
    """

    shapes = RestShapes("bedrock-runtime")

    def __init__(self, fleet: Fleet, routing: Routing, desk: Desk, logs: InvocationLogs) -> None:
        self._fleet = fleet
        self._routing = routing
        self._desk = desk
        self._logs = logs
        self._client = httpx.AsyncClient(timeout=httpx.Timeout(None, connect=5.0), trust_env=False)
        self._starting = asyncio.Lock()

    async def close(self) -> None:
        """Close the connections to the model servers."""
        await self._client.aclose()
        self._logs.close()

    async def invoke(self, scope: Scope, request: HttpRequest, send: Send) -> None:
        """Answer one request.

        Args:
            scope: Who calls.
            request: The request, whose path `PATH` matches.
            send: ASGI send.
        """
        reply = _Reply(send)
        invocation, usage = None, None
        try:
            operation, params = self.shapes.parse(request)
            if self._logs.wanted(scope):
                invocation = Invocation(reply.id, operation, params, request.body)
            if operation == "ConverseStream":
                reply.kept = bytearray() if invocation is not None else None
                await self._converse_stream(scope, params, reply)
                answered = streamed_answer(bytes(reply.kept or b""))
                if invocation is not None and answered is not None:
                    self._logs.take(scope, invocation, answered, answered["usage"])
                return
            answer, usage = await self._answer(scope, operation, params)
            status, headers, body = self.shapes.render(operation, answer)
        except AwsError as error:
            status, headers, body = self.shapes.refuse(error)
        await _start(reply, status, headers)
        await reply({"type": "http.response.body", "body": body})
        if invocation is not None and usage is not None:
            self._logs.take(scope, invocation, json.loads(body), usage)

    async def converse(self, scope: Scope, model_id: str, request: Params) -> tuple[Params, Route]:
        """Answer one Converse request; return the answer and who gave it.

        Args:
            scope: Who calls.
            model_id: The model, profile, router, prompt, model units or deployment.
            request: Converse's members.

        Raises:
            AwsError: The service refuses.
        """
        call = Call(self._desk, scope, self._routing.find(scope, model_id, request))
        try:
            blocked = call.admit()
            if blocked is not None:
                return call.blocked_answer(blocked), call.route
            response = await self._ask(call.route, "converse")
            document: Params = json.loads(await response.aread())
            return call.answer(document), call.route
        except AwsError as error:
            _count_refusal(call, error)
            raise
        finally:
            call.give_back()

    async def _answer(self, scope: Scope, operation: str, params: Params) -> tuple[Params, Params | None]:
        """Return the answer, and the tokens of a call that is logged."""
        if operation == "ApplyGuardrail":
            return self._desk.guardrails.apply(scope, params), None
        model_id, request = params.get("modelId", ""), {k: v for k, v in params.items() if k != "modelId"}
        if operation == "Converse":
            _refuse_imported(self._routing.find(scope, model_id, request))
            answer, _ = await self.converse(scope, model_id, request)
            return answer, answer["usage"]
        if operation == "InvokeModel":
            return await self._invoke_model(scope, model_id, request)
        if operation == "CountTokens":
            return self._count(scope, model_id, request["input"]), None
        raise AwsError(
            "ValidationException",
            f"the local cloud does not serve {operation}; use Converse, ConverseStream or InvokeModel",
        )

    async def _invoke_model(self, scope: Scope, model_id: str, request: Params) -> tuple[Params, Params]:
        _json(request.get("requestMetadata") or "{}", "X-Amzn-Bedrock-Request-Metadata")
        route = self._routing.find(scope, model_id, {})
        dialect = dialect_of(route.model, imported=route.imported)
        made = dialect.read(_json(request.get("body") or b"{}"))
        identifier = request.get("guardrailIdentifier")
        if identifier:
            number = request.get("guardrailVersion", "DRAFT")
            made["guardrailConfig"] = {"guardrailIdentifier": identifier, "guardrailVersion": number}
        answer, route = await self.converse(scope, model_id, made)
        body: Params = dialect.write(answer, route.model)
        if identifier:
            intervened = answer["stopReason"] == "guardrail_intervened"
            body["amazon-bedrock-guardrailAction"] = "INTERVENED" if intervened else "NONE"
        return {"body": json_text(body), "contentType": "application/json"}, answer["usage"]

    def _count(self, scope: Scope, model_id: str, given: Params) -> Params:
        route = self._routing.find(scope, model_id, {})
        if "converse" in given:
            return {"inputTokens": counted(given["converse"]).tokens}
        dialect = dialect_of(route.model, imported=route.imported)
        return {"inputTokens": counted(dialect.read(_json(given["invokeModel"]["body"]))).tokens}

    async def _converse_stream(self, scope: Scope, params: Params, send: Send) -> None:
        request = {name: value for name, value in params.items() if name != "modelId"}
        call = Call(self._desk, scope, self._routing.find(scope, params["modelId"], request))
        try:
            _refuse_imported(call.route)
            blocked = call.admit()
            if blocked is not None:
                await _start(send, 200, {"content-type": CONTENT_TYPE})
                await send({"type": "http.response.body", "body": call.blocked_stream(blocked)})
                return
            response = await self._ask(call.route, "converse-stream")
        except AwsError as error:
            _count_refusal(call, error)
            call.give_back()
            raise
        try:
            await _start(send, 200, {"content-type": CONTENT_TYPE})
            await self._relay(StreamedAnswer(call), response, send)
        finally:
            call.give_back()
            await response.aclose()

    async def _relay(self, answer: StreamedAnswer, response: httpx.Response, send: Send) -> None:
        try:
            async for chunk in response.aiter_raw():
                for message in answer.take(chunk):
                    await send({"type": "http.response.body", "body": message, "more_body": True})
        except httpx.HTTPError as error:
            broken = encode_exception(
                "modelStreamErrorException",
                f"the model server went away in mid-answer ({str(error) or type(error).__name__})",
            )
            await send({"type": "http.response.body", "body": broken, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _ask(self, route: Route, operation: str) -> httpx.Response:
        url = await self.server(route.model)
        target = f"{url}/model/{quote(route.model, safe='')}/{operation}"
        document = json.dumps(plain_request(route.request), default=str).encode()
        headers = {"content-type": "application/json"}
        request = self._client.build_request("POST", target, content=document, headers=headers)
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

    async def server(self, model: str) -> str:
        """Return where a model's server answers; it is started when there is none.

        Args:
            model: The model's id.

        Raises:
            AwsError: It does not start.
        """
        key = f"bedrock/{model}"
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


class _Reply:
    """What goes back to a caller under an id of its own, as ASGI messages.

    `kept` gets the body's bytes as well where it is there.
    """

    def __init__(self, send: Send) -> None:
        self.id = str(uuid4())
        self.kept: bytearray | None = None
        self._send = send

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"x-amzn-requestid", self.id.encode())]
        elif self.kept is not None:
            self.kept += message["body"]
        await self._send(message)


def _refuse_imported(route: Route) -> None:
    if route.imported:
        raise AwsError("ValidationException", "Converse does not take imported models; use InvokeModel")


def _count_refusal(call: Call, error: AwsError) -> None:
    if error.code == "ThrottlingException":
        call.tell("InvocationThrottles", 1, "Count")
    elif error.code in _REFUSED_BY_CALLER:
        call.tell("InvocationClientErrors", 1, "Count")
    else:
        call.tell("InvocationServerErrors", 1, "Count")


def _json(given: bytes | str, name: str = "the body") -> Params:
    try:
        document = json.loads(given)
    except ValueError as error:
        raise AwsError(
            "ValidationException", f"Malformed input request: {name} is not JSON ({error})"
        ) from error
    if not isinstance(document, dict):
        raise AwsError("ValidationException", f"Malformed input request: {name} is not a JSON object")
    return document


async def _start(send: Send, status: int, headers: dict[str, str]) -> None:
    raw = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
