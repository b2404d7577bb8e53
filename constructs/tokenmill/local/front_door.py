"""API Gateway's part in front of the gateway application: routes, the deployed authorizer, gateway responses.

Everything is read from the deployed REST API; the authorizer is the deployed function, invoked for real.
Source: Amazon API Gateway Developer Guide, "Use API Gateway Lambda authorizers" (TOKEN authorizers: missing
token 401, `Unauthorized` raised 401, Deny 403, anything else 500), "Set up gateway responses to customize
error responses", "Quotas for configuring and running a REST API" (payload 10 MB).
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping

    Message = MutableMapping[str, Any]
    Application = Callable[..., Awaitable[None]]

PRINCIPAL = "tokenmill.principal"
REQUEST_ID = "tokenmill.request_id"
_MAX_BODY_BYTES = 10 * 1024 * 1024
_NAME = r"((?:context\.[A-Za-z.]*[A-Za-z])|(?:stageVariables\.\w+))"
_VARIABLE = re.compile(rf"\$\{{{_NAME}\}}|\${_NAME}")
_DEFAULT_TEMPLATE = '{"message":$context.error.messageString}'


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedApi:
    """What the front door needs of a REST API, as its control plane describes it."""

    api_id: str
    stage: str
    account: str
    region: str
    resources: tuple[Mapping[str, Any], ...]
    authorizers: Mapping[str, Mapping[str, Any]]
    responses: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, *, api_id: str, stage: str, account: str, region: str) -> DeployedApi:
        """Read a REST API through the AWS API.

        Args:
            api_id: Its id.
            stage: Its stage.
            account: Its account.
            region: Its region.
        """
        import boto3

        client = boto3.client("apigateway", region_name=region)
        resources = client.get_resources(restApiId=api_id, limit=500, embed=["methods"])["items"]
        authorizers = client.get_authorizers(restApiId=api_id, limit=500)["items"]
        responses = client.get_gateway_responses(restApiId=api_id, limit=500)["items"]
        return cls(
            api_id=api_id,
            stage=stage,
            account=account,
            region=region,
            resources=tuple(resources),
            authorizers={authorizer["id"]: authorizer for authorizer in authorizers},
            responses={response["responseType"]: response for response in responses},
        )

    def method(self, path: str, verb: str) -> Mapping[str, Any] | None:
        """Return the method that serves a request; the most exact resource path wins.

        Args:
            path: The request's path, without the stage.
            verb: Its HTTP method.
        """
        segments = [segment for segment in path.split("/") if segment]
        found = []
        for resource in self.resources:
            rank = _match(str(resource["path"]), segments)
            methods = resource.get("resourceMethods") or {}
            method = methods.get(verb) or methods.get("ANY")
            if rank is not None and method is not None:
                found.append((rank, method))
        return max(found, key=lambda entry: entry[0])[1] if found else None


class GatewayRefusal(Exception):
    """An answer that API Gateway itself gives.

    Args:
        kind: The gateway response's type.
        message: `$context.error.message`.
    """

    def __init__(self, kind: str, message: str | None) -> None:
        self.kind = kind
        self.message = message
        super().__init__(kind)


class Authorizer:
    """A TOKEN authorizer, whose function is invoked and whose answers are kept for its TTL.

    Args:
        api: The REST API.
        definition: The authorizer as the control plane describes it.
        invoke: Invokes the function: its name and event in, its answer and whether it failed out.
        clock: Seconds on a clock that never goes back.
    """

    def __init__(
        self,
        api: DeployedApi,
        definition: Mapping[str, Any],
        *,
        invoke: Callable[[str, Mapping[str, Any]], tuple[Any, bool]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if definition["type"] != "TOKEN":
            raise TokenmillError(
                f"authorizer {definition['name']} is of type {definition['type']}; "
                "the local front door serves TOKEN only"
            )
        self._api = api
        self._invoke = invoke
        self._clock = clock
        self._header = str(definition["identitySource"]).removeprefix("method.request.header.").lower()
        self._pattern = definition.get("identityValidationExpression")
        self._ttl = int(definition.get("authorizerResultTtlInSeconds", 300))
        match = re.search(r"functions/(arn:[^/]+)/invocations", str(definition["authorizerUri"]))
        if match is None:
            raise ValueError(
                f"authorizer {definition['name']} names no function: {definition['authorizerUri']}"
            )
        self._function = match.group(1)
        self._kept: dict[str, tuple[float, Mapping[str, Any]]] = {}

    async def principal(self, headers: Mapping[str, str], verb: str, path: str) -> str:
        """Return who calls.

        Args:
            headers: The request's headers, names in lower case.
            verb: Its HTTP method.
            path: Its path.

        Raises:
            GatewayRefusal: Nobody who may.
        """
        token = headers.get(self._header)
        if not token or (self._pattern and not re.search(self._pattern, token)):
            raise GatewayRefusal("UNAUTHORIZED", "Unauthorized")
        method_arn = (
            f"arn:aws:execute-api:{self._api.region}:{self._api.account}:"
            f"{self._api.api_id}/{self._api.stage}/{verb}{path}"
        )
        answer = await self._answer(token, method_arn)
        statements = (answer.get("policyDocument") or {}).get("Statement") or []
        effects = {str(s.get("Effect")) for s in statements if _covers(s, method_arn)}
        if "Deny" in effects:
            raise GatewayRefusal(
                "ACCESS_DENIED",
                "User is not authorized to access this resource with an explicit deny "
                "in an identity-based policy",
            )
        if "Allow" not in effects:
            raise GatewayRefusal("ACCESS_DENIED", "User is not authorized to access this resource")
        return str(answer["principalId"])

    async def _answer(self, token: str, method_arn: str) -> Mapping[str, Any]:
        kept = self._kept.get(token)
        if kept is not None and kept[0] > self._clock():
            return kept[1]
        event = {"type": "TOKEN", "authorizationToken": token, "methodArn": method_arn}
        answer, failed = await asyncio.to_thread(self._invoke, self._function, event)
        if failed and isinstance(answer, dict) and answer.get("errorMessage") == "Unauthorized":
            raise GatewayRefusal("UNAUTHORIZED", "Unauthorized")
        if failed:
            raise GatewayRefusal("AUTHORIZER_FAILURE", None)
        if not isinstance(answer, dict) or not answer.get("principalId"):
            raise GatewayRefusal("AUTHORIZER_CONFIGURATION_ERROR", None)
        if self._ttl:
            self._kept[token] = (self._clock() + self._ttl, answer)
        return answer


class FrontDoor:
    """The ASGI application in front of the gateway application.

    Args:
        api: The REST API.
        application: The gateway application.
        invoke: Invokes a function.
    """

    def __init__(
        self,
        api: DeployedApi,
        application: Application,
        *,
        invoke: Callable[[str, Mapping[str, Any]], tuple[Any, bool]],
    ) -> None:
        self._api = api
        self._application = application
        self._authorizers = {
            name: Authorizer(api, definition, invoke=invoke) for name, definition in api.authorizers.items()
        }

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        """Let a request through, or answer it as API Gateway does."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        request_id = str(uuid4())
        scope[REQUEST_ID] = request_id
        try:
            await self._admit(scope, headers)
        except GatewayRefusal as refusal:
            await self._refuse(refusal, request_id, headers, send)
            return
        await self._application(scope, receive, send)

    async def _admit(self, scope: Message, headers: Mapping[str, str]) -> None:
        method = self._api.method(scope["path"], scope["method"])
        if method is None:
            raise GatewayRefusal("MISSING_AUTHENTICATION_TOKEN", "Missing Authentication Token")
        kind = method.get("authorizationType", "NONE")
        if kind == "CUSTOM":
            authorizer = self._authorizers[method["authorizerId"]]
            scope[PRINCIPAL] = await authorizer.principal(headers, scope["method"], scope["path"])
        elif kind != "NONE":
            raise GatewayRefusal("ACCESS_DENIED", f"authorization type {kind} is not served locally")
        if int(headers.get("content-length") or 0) > _MAX_BODY_BYTES:
            raise GatewayRefusal("REQUEST_TOO_LARGE", "Request Too Long")

    async def _refuse(
        self, refusal: GatewayRefusal, request_id: str, request: Mapping[str, str], send: Any
    ) -> None:
        response = self._api.responses.get(refusal.kind) or {}
        template = (response.get("responseTemplates") or {}).get("application/json", _DEFAULT_TEMPLATE)
        variables = {
            "context.error.message": refusal.message or "",
            "context.error.messageString": json.dumps(refusal.message),
            "context.error.responseType": refusal.kind,
            "context.requestId": request_id,
        }
        body = _VARIABLE.sub(lambda match: variables.get(match[1] or match[2], ""), template).encode()
        headers = {"content-type": "application/json", "x-amzn-requestid": request_id}
        for target, source in (response.get("responseParameters") or {}).items():
            name = target.removeprefix("gatewayresponse.header.").lower()
            if source.startswith("'"):
                headers[name] = source.strip("'")
            elif source.startswith("method.request.header."):
                value = request.get(source.removeprefix("method.request.header.").lower())
                headers.update({name: value} if value else {})
        headers["content-length"] = str(len(body))
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        status = int(response.get("statusCode") or 500)
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": body})


def _match(resource: str, segments: list[str]) -> tuple[int, ...] | None:
    """Return how exactly a resource path fits: 2 for an exact segment, 1 for a parameter, 0 for the rest."""
    pattern = [segment for segment in resource.split("/") if segment]
    rank: list[int] = []
    for index, part in enumerate(pattern):
        if part.endswith("+}"):
            return (*rank, 0) if len(segments) > index else None
        if index >= len(segments):
            return None
        if part.startswith("{"):
            rank.append(1)
        elif part == segments[index]:
            rank.append(2)
        else:
            return None
    return tuple(rank) if len(pattern) == len(segments) else None


def _covers(statement: Mapping[str, Any], method_arn: str) -> bool:
    def listed(name: str) -> list[str]:
        value = statement.get(name) or []
        return [value] if isinstance(value, str) else list(value)

    invokes = any(fnmatchcase("execute-api:invoke", action.lower()) for action in listed("Action"))
    return invokes and any(fnmatchcase(method_arn, resource) for resource in listed("Resource"))
