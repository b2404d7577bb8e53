"""API Gateway's part, locally: routes, the authorizer and its cache, gateway responses."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from tokenmill.local.front_door import Authorizer, DeployedApi, FrontDoor, GatewayRefusal

if TYPE_CHECKING:
    from collections.abc import Mapping

FUNCTION = "arn:aws:lambda:us-east-1:000000000000:function:authorizer"
DEFINITION = {
    "id": "a1",
    "name": "BearerKey",
    "type": "TOKEN",
    "identitySource": "method.request.header.Authorization",
    "identityValidationExpression": "^Bearer tm-",
    "authorizerResultTtlInSeconds": 60,
    "authorizerUri": f"arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/{FUNCTION}/invocations",
}
ALLOW = {
    "principalId": "key1",
    "policyDocument": {
        "Statement": [
            {
                "Effect": "Allow",
                "Action": "execute-api:Invoke",
                "Resource": "arn:aws:execute-api:us-east-1:000000000000:api1/api/*",
            }
        ]
    },
}


def api(**responses: Mapping[str, Any]) -> DeployedApi:
    guarded = {"authorizationType": "CUSTOM", "authorizerId": "a1"}
    return DeployedApi(
        api_id="api1",
        stage="api",
        account="000000000000",
        region="us-east-1",
        resources=(
            {"path": "/"},
            {"path": "/health", "resourceMethods": {"GET": {"authorizationType": "NONE"}}},
            {"path": "/{proxy+}", "resourceMethods": {"ANY": guarded}},
        ),
        authorizers={"a1": DEFINITION},
        responses=responses,
    )


class Function:
    """The authorizer's function; counts how often it is invoked."""

    def __init__(self, answer: Any = ALLOW, *, failed: bool = False) -> None:
        self.answer, self.failed = answer, failed
        self.events: list[Mapping[str, Any]] = []

    def __call__(self, name: str, event: Mapping[str, Any]) -> tuple[Any, bool]:
        assert name == FUNCTION
        self.events.append(event)
        return self.answer, self.failed


def principal(function: Function, token: str | None = "Bearer tm-x") -> str:
    authorizer = Authorizer(api(), DEFINITION, invoke=function)
    headers = {"authorization": token} if token else {}
    return asyncio.run(authorizer.principal(headers, "POST", "/v1/chat/completions"))


def answered(
    door: FrontDoor, path: str, method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], str]:
    """Status, headers and body of one request."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "path": path,
        "method": method,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    asyncio.run(door(scope, None, send))
    received = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], received, b"".join(m.get("body", b"") for m in sent[1:]).decode()


async def echo(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """An application that answers with who calls."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(scope.get("tokenmill.principal")).encode()})


def test_the_function_gets_the_event_that_api_gateway_sends() -> None:
    function = Function()
    assert principal(function) == "key1"
    assert function.events == [
        {
            "type": "TOKEN",
            "authorizationToken": "Bearer tm-x",
            "methodArn": "arn:aws:execute-api:us-east-1:000000000000:api1/api/POST/v1/chat/completions",
        }
    ]


def test_an_answer_is_kept_for_its_ttl_and_then_asked_for_again() -> None:
    now = [0.0]
    function = Function()
    authorizer = Authorizer(api(), DEFINITION, invoke=function, clock=lambda: now[0])
    for moment, expected in ((0.0, 1), (59.0, 1), (61.0, 2)):
        now[0] = moment
        asyncio.run(authorizer.principal({"authorization": "Bearer tm-x"}, "GET", "/v1/models"))
        assert len(function.events) == expected


@pytest.mark.parametrize("token", [None, "Basic x"])
def test_fails_without_asking_the_function_when_the_token_cannot_be_one(token: str | None) -> None:
    function = Function()
    with pytest.raises(GatewayRefusal) as raised:
        principal(function, token)
    assert raised.value.kind == "UNAUTHORIZED"
    assert function.events == []


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (Function({"errorMessage": "Unauthorized"}, failed=True), "UNAUTHORIZED"),
        (Function({"errorMessage": "boom"}, failed=True), "AUTHORIZER_FAILURE"),
        (Function({"no": "principal"}), "AUTHORIZER_CONFIGURATION_ERROR"),
        (Function({"principalId": "p", "policyDocument": {"Statement": []}}), "ACCESS_DENIED"),
        (
            Function(
                {
                    **ALLOW,
                    "policyDocument": {
                        "Statement": [{"Effect": "Deny", "Action": "execute-api:*", "Resource": "*"}]
                    },
                }
            ),
            "ACCESS_DENIED",
        ),
    ],
)
def test_fails_as_api_gateway_does_for_each_answer_of_the_function(function: Function, kind: str) -> None:
    with pytest.raises(GatewayRefusal) as raised:
        principal(function)
    assert raised.value.kind == kind


def test_a_refusal_is_rendered_from_the_deployed_gateway_response() -> None:
    response = {
        "statusCode": "401",
        "responseTemplates": {"application/json": '{"error": {"message": $context.error.messageString}}'},
        "responseParameters": {"gatewayresponse.header.WWW-Authenticate": "'Bearer'"},
    }
    door = FrontDoor(api(UNAUTHORIZED=response), echo, invoke=Function())
    status, headers, body = answered(door, "/v1/models")
    assert status == 401
    assert json.loads(body) == {"error": {"message": "Unauthorized"}}
    assert headers["www-authenticate"] == "Bearer"


def test_the_most_exact_route_decides_who_must_be_known() -> None:
    door = FrontDoor(api(), echo, invoke=Function())
    assert answered(door, "/health")[2] == "None"
    assert answered(door, "/v1/models", authorization="Bearer tm-x")[2] == "key1"


def test_an_unknown_route_is_api_gateways_403() -> None:
    missing = {"statusCode": "403", "responseTemplates": {}}
    door = FrontDoor(api(MISSING_AUTHENTICATION_TOKEN=missing), echo, invoke=Function())
    status, _, body = answered(door, "/")
    assert (status, json.loads(body)) == (403, {"message": "Missing Authentication Token"})


def test_a_body_above_api_gateways_limit_is_refused_unread() -> None:
    too_large = {"statusCode": "413", "responseTemplates": {}}
    door = FrontDoor(api(REQUEST_TOO_LARGE=too_large), echo, invoke=Function())
    headers = {"authorization": "Bearer tm-x", "content-length": str(10 * 1024 * 1024 + 1)}
    assert answered(door, "/v1/chat/completions", "POST", **headers)[0] == 413
