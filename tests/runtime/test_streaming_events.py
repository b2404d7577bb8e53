"""Lambda's HTTP events as ASGI scopes."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from starlette.requests import Request

from tokenmill_runtime.streaming.events import NotHttpError, prelude, scope_and_body


def rest(**changes: Any) -> dict[str, Any]:
    context = {"path": "/prod/v1/models", "stage": "prod", **changes.pop("context", {})}
    event = {"resource": "/v1/models", "path": "/v1/models", "httpMethod": "GET", "requestContext": context}
    return {**event, **changes}


def url(**changes: Any) -> dict[str, Any]:
    context = {"stage": "$default", "http": {"method": "GET", "path": "/", "sourceIp": "192.0.2.1"}}
    context.update(changes.pop("context", {}))
    return {"version": "2.0", "rawPath": "/v1/models", "requestContext": context, **changes}


def paths(event: dict[str, Any]) -> tuple[str, str]:
    scope, _ = scope_and_body(event)
    return scope["root_path"], scope["path"]


def test_a_stage_is_the_root_path() -> None:
    """Links that the application makes must lead back through the stage."""
    assert paths(rest()) == ("/prod", "/prod/v1/models")
    scope, _ = scope_and_body(rest())
    assert scope["raw_path"] == b"/prod/v1/models"
    assert Request(scope).url.path == "/prod/v1/models"


def test_a_custom_domain_s_base_path_is_the_root_path() -> None:
    """There the event's path begins with the mapping; the resource tells where the API's own path begins."""
    event = rest(
        resource="/{proxy+}",
        path="/llm/v1/models",
        pathParameters={"proxy": "v1/models"},
        context={"path": "/llm/v1/models"},
    )
    assert paths(event) == ("/llm", "/llm/v1/models")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"context": {"path": None}}, ("", "/v1/models")),
        ({"context": {"path": "/elsewhere"}}, ("", "/v1/models")),
        ({"resource": None}, ("/prod", "/prod/v1/models")),
        ({"resource": None, "path": None, "context": {"path": None}}, ("", "/")),
        (
            {
                "resource": "/v1/models/{id}",
                "pathParameters": {"id": "Qwen%2FQwen3-8B"},
                "context": {"path": "/prod/v1/models/Qwen%2FQwen3-8B"},
            },
            ("/prod", "/prod/v1/models/Qwen/Qwen3-8B"),
        ),
    ],
)
def test_paths_of_rest_events(changes: dict[str, Any], expected: tuple[str, str]) -> None:
    """Incomplete events, as a console's test sends them, and encoded segments."""
    assert paths(rest(**changes)) == expected


def test_headers_and_queries_of_a_rest_event() -> None:
    """Lists where the event has them, single values where not, none at all."""
    scope, _ = scope_and_body(rest(headers={"X-Ä": "ö"}, queryStringParameters={"a": "1 2"}))
    assert scope["headers"] == [("x-ä".encode(), "ö".encode())]
    assert scope["query_string"] == b"a=1+2"
    scope, _ = scope_and_body(rest(multiValueHeaders={"A": ["1", "2"]}, headers={"A": "2"}))
    assert scope["headers"] == [(b"a", b"1"), (b"a", b"2")]
    scope, _ = scope_and_body(rest(headers=None, multiValueHeaders=None))
    assert (scope["headers"], scope["query_string"]) == ([], b"")
    assert (scope["client"], scope["server"], scope["scheme"]) == (None, ("localhost", 443), "https")


def test_the_server_is_the_host_header() -> None:
    """With its port, if it has one."""
    headers = {"Host": "api.example:8443", "X-Forwarded-Proto": "http"}
    scope, _ = scope_and_body(rest(headers=headers, context={"identity": {"sourceIp": "192.0.2.1"}}))
    assert (scope["client"], scope["server"]) == (("192.0.2.1", 0), ("api.example", 8443))
    assert scope["scheme"] == "http"


@pytest.mark.parametrize(
    ("event", "body"),
    [
        (rest(body=None), b""),
        (rest(body="é"), "é".encode()),
        (rest(body=base64.b64encode(b"\xff\x00").decode(), isBase64Encoded=True), b"\xff\x00"),
        (url(body="x"), b"x"),
    ],
)
def test_bodies(event: dict[str, Any], body: bytes) -> None:
    """Text, bytes and none."""
    assert scope_and_body(event)[1] == body


@pytest.mark.parametrize(
    ("authorizer", "principal"),
    [
        (None, None),
        ({}, None),
        ("anna", None),
        ({"principalId": "anna"}, "anna"),
        ({"principalId": ""}, None),
        ({"principalId": 7}, None),
        ({"iam": {"userArn": "arn:aws:iam::1:user/anna"}}, "arn:aws:iam::1:user/anna"),
        ({"iam": None}, None),
        ({"iam": {}}, None),
    ],
)
def test_the_principal_comes_from_the_front_only(authorizer: Any, principal: str | None) -> None:
    """What the front's authorizer said; no header can set it."""
    headers = {"tokenmill.principal": "mallory", "x-tokenmill-principal": "mallory"}
    for event in (
        rest(headers=headers, context={"authorizer": authorizer}),
        url(headers=headers, context={"authorizer": authorizer}),
    ):
        assert scope_and_body(event)[0].get("tokenmill.principal") == principal


def test_a_function_url_s_event() -> None:
    """Raw path and query, cookies apart from the headers."""
    scope, _ = scope_and_body(
        url(rawPath="/a%20b", rawQueryString="x=%20", headers={"A": "1"}, cookies=["a=1", "b=2"])
    )
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a b", b"/a%20b", b"x=%20")
    assert scope["headers"] == [(b"a", b"1"), (b"cookie", b"a=1; b=2")]
    assert (scope["method"], scope["client"]) == ("GET", ("192.0.2.1", 0))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ("", "/v1/models")),
        ({"rawPath": None}, ("", "/")),
        ({"context": {"stage": "prod"}, "rawPath": "/prod/v1"}, ("/prod", "/prod/v1")),
        ({"context": {"stage": "prod"}, "rawPath": "/v1"}, ("", "/v1")),
        ({"context": {"stage": None}}, ("", "/v1/models")),
    ],
)
def test_paths_of_function_url_events(changes: dict[str, Any], expected: tuple[str, str]) -> None:
    """The default stage has no path, another one has."""
    assert paths(url(**changes)) == expected


@pytest.mark.parametrize(
    ("event", "found"),
    [
        (None, "NoneType"),
        ([], "list"),
        ({}, "nothing"),
        ({"requestContext": 1}, "requestContext"),
        ({"requestContext": {}, "version": "2.0"}, "requestContext, version"),
        ({"requestContext": {"http": {}}, "version": "1.0"}, "requestContext, version"),
    ],
)
def test_other_events_are_refused(event: Any, found: str) -> None:
    """With what they have."""
    with pytest.raises(NotHttpError, match=f"got one with {found}"):
        scope_and_body(event)


def test_the_prelude_joins_headers_and_keeps_cookies_apart() -> None:
    """A cookie's value may have commas, so cookies cannot be joined; framing is the front's affair."""
    headers = [(b"A", b"1"), (b"a", b"2"), (b"Set-Cookie", b"x"), (b"Connection", b"close"), (b"B", b"\xe9")]
    assert prelude(200, headers) == {
        "statusCode": 200,
        "headers": {"a": "1, 2", "b": "é"},
        "cookies": ["x"],
    }
