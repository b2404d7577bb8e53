"""The gateway: OpenAI's chat completions in front of SageMaker and Bedrock.

The front (the Lambda bootstrap, or a local server) authenticates and puts the caller's key id into the ASGI
scope as ``tokenmill.principal``; without one nothing but the health check answers.
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tokenmill_runtime import aws
from tokenmill_runtime.clock import SYSTEM_CLOCK
from tokenmill_runtime.conversations import ConversationTable
from tokenmill_runtime.gateway.backend import Threads
from tokenmill_runtime.gateway.bedrock_backend import BedrockBackend
from tokenmill_runtime.gateway.bedrock_routes import Routes
from tokenmill_runtime.gateway.chat_request import find_model, parse_chat_request
from tokenmill_runtime.gateway.errors import GatewayError, invalid_request
from tokenmill_runtime.gateway.exchange import Caller, Exchange, Services, internal_error
from tokenmill_runtime.gateway.log import log_line, print_line
from tokenmill_runtime.gateway.metering import Meters
from tokenmill_runtime.gateway.responses import (
    REQUEST_ID_HEADER,
    AsciiJSONResponse,
    EventStreamResponse,
    error_response,
)
from tokenmill_runtime.gateway.sagemaker_backend import SageMakerBackend
from tokenmill_runtime.gateway_config import GatewayConfig

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

    from starlette.requests import Request

    from tokenmill_runtime.clock import Clock
    from tokenmill_runtime.conversations import Conversations
    from tokenmill_runtime.gateway.backend import Backend

PRINCIPAL: Final = "tokenmill.principal"
REQUEST_ID: Final = "tokenmill.request_id"
DEADLINE: Final = "tokenmill.deadline"


def create_app(
    config: GatewayConfig,
    *,
    backends: Mapping[str, Backend] | None = None,
    conversations: Conversations | None = None,
    clock: Clock = SYSTEM_CLOCK,
    emit: Callable[[str], None] = print_line,
) -> Starlette:
    """The application for this configuration.

    ``backends`` by name and ``conversations`` replace the AWS ones; ``emit`` takes metric and log lines.
    """
    makers: list[Callable[[], object]] = []
    if backends is None:
        backends = {
            "sagemaker": SageMakerBackend(),
            "bedrock": BedrockBackend(Routes(clock, emit=emit)),
        }
        makers += _clients(config)
    if conversations is None and config.conversation_table is not None:
        makers.append(aws.dynamodb)
        conversations = ConversationTable(
            config.conversation_table, ttl_days=config.conversation_ttl_days, clock=clock
        )
    services = Services(
        backends=backends,
        conversations=conversations,
        meters=Meters(clock=clock, emit=emit),
        threads=Threads(),
    )
    routes = _Routes(config, services)
    return Starlette(
        routes=[
            Route("/v1/chat/completions", routes.guard(routes.chat), methods=["POST"]),
            Route("/v1/models", routes.guard(routes.models), methods=["GET"]),
            Route("/v1/models/{model_id:path}", routes.guard(routes.model), methods=["GET"]),
            Route("/health", _health, methods=["GET"]),
            Route("/ping", _health, methods=["GET"]),
        ],
        exception_handlers={HTTPException: _http_error},
        lifespan=_lifespan(makers),
    )


def application() -> Starlette:
    """The application of the function's environment; raises GatewayConfigError."""
    return create_app(GatewayConfig.from_environment(os.environ))


def _clients(config: GatewayConfig) -> set[Callable[[], object]]:
    """What makes the clients that these models are called with."""
    found: set[Callable[[], object]] = set()
    for model in config.models:
        if model.backend == "sagemaker":
            found.add(aws.sagemaker_runtime)
        if model.backend == "bedrock" or model.guardrail is not None:
            found.add(aws.bedrock_runtime)
        if model.bedrock is not None and model.bedrock.handle is not None:
            found.add(aws.ssm_handles)
    return found


def _lifespan(makers: list[Callable[[], object]]) -> Any:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        # Clients are made while the function initialises, which the first caller does not wait for.
        for make in makers:
            make()
        yield

    return lifespan


class _Routes:
    def __init__(self, config: GatewayConfig, services: Services) -> None:
        self._config = config
        self._services = services

    def guard(
        self, endpoint: Callable[[Request, Caller], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Let authenticated callers in, and answer every failure with an error object."""

        async def guarded(request: Request) -> Response:
            request_id = request.scope.get(REQUEST_ID) or uuid4().hex
            try:
                return await endpoint(request, _caller(request, request_id))
            except GatewayError as error:
                return error_response(error, request_id)
            except Exception as error:  # noqa: BLE001 - the boundary: callers get an error object, never a traceback
                failure = internal_error(error)
                line = log_line("error", "request failed", request_id=request_id, detail=failure.detail)
                self._services.meters.emit(line)
                return error_response(failure, request_id)

        return guarded

    async def chat(self, request: Request, caller: Caller) -> Response:
        chat = parse_chat_request(await _body(request, self._config.max_body_bytes), self._config)
        exchange = Exchange(self._services, chat, caller)
        if chat.stream:
            await exchange.begin()
            return EventStreamResponse(exchange, caller.request_id)
        return AsciiJSONResponse(await exchange.complete(), headers={REQUEST_ID_HEADER: caller.request_id})

    async def models(self, request: Request, caller: Caller) -> Response:
        data = [_model_object(model.name) for model in self._config.models]
        return JSONResponse({"object": "list", "data": data}, headers={REQUEST_ID_HEADER: caller.request_id})

    async def model(self, request: Request, caller: Caller) -> Response:
        model = find_model(request.path_params["model_id"], self._config)
        return JSONResponse(_model_object(model.name), headers={REQUEST_ID_HEADER: caller.request_id})


def _caller(request: Request, request_id: str) -> Caller:
    principal = request.scope.get(PRINCIPAL)
    if not isinstance(principal, str) or not principal:
        raise invalid_request(
            "no valid API key; send it as Authorization: Bearer tm-...", code="invalid_api_key", status=401
        )
    return Caller(principal=principal, request_id=request_id, deadline=request.scope.get(DEADLINE))


async def _body(request: Request, limit: int) -> bytes:
    parts, size = [], 0
    try:
        async for part in request.stream():
            parts.append(part)
            size += len(part)
            if size > limit:
                message = f"the body must have at most {limit} bytes; send less"
                raise invalid_request(message, code="body_too_long", status=413)
    except ClientDisconnect as error:
        raise invalid_request("the body ended before its end", code="invalid_json") from error
    return b"".join(parts)


def _model_object(name: str) -> dict[str, object]:
    # OpenAI's "created" is when a model was made, which a deployment does not know.
    return {"id": name, "object": "model", "created": 0, "owned_by": "tokenmill"}


async def _health(request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _http_error(request: Request, error: Exception) -> Response:
    """Unknown routes and methods, in the same form as every other error."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    what = f"{request.method} {request.url.path}"
    known = "POST /v1/chat/completions, GET /v1/models, GET /v1/models/{id}, GET /health"
    failure = invalid_request(f"there is no {what}; there are {known}", code="unknown_url", status=status)
    return error_response(failure, request.scope.get(REQUEST_ID) or uuid4().hex)
