"""Lambda's HTTP events as ASGI scopes, and ASGI's response head as the prelude of a streamed response.

AWS pages "Lambda proxy integrations in API Gateway", section "Input format of a Lambda function for proxy
integration" (REST APIs), and "Invoking Lambda function URLs", section "Request and response payloads" (format
2.0).
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote, urlencode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Headers = list[tuple[bytes, bytes]]

# The service in front frames the body itself.
_NOT_FORWARDED: Final = frozenset({b"connection", b"content-length", b"keep-alive", b"transfer-encoding"})


class NotHttpError(ValueError):
    """The event comes from no HTTP front."""


def scope_and_body(event: Any) -> tuple[dict[str, Any], bytes]:
    """The ASGI scope and the body of an event; raises NotHttpError naming what the event has instead."""
    if isinstance(event, dict) and isinstance(event.get("requestContext"), dict):
        if isinstance(event.get("httpMethod"), str):
            return _scope(event, **_rest_request(event)), _body(event)
        if event.get("version") == "2.0" and isinstance(event["requestContext"].get("http"), dict):
            return _scope(event, **_url_request(event)), _body(event)
    found = ", ".join(sorted(event)) if isinstance(event, dict) else type(event).__name__
    raise NotHttpError(
        f"the event must come from a REST API or a function URL, got one with {found or 'nothing'}"
    )


def prelude(status: int, headers: Iterable[tuple[bytes, bytes]]) -> dict[str, object]:
    """Status, headers and cookies in the form that a streamed response begins with."""
    joined: dict[str, str] = {}
    cookies = []
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        if name == "set-cookie":
            cookies.append(value)
        elif raw_name.lower() not in _NOT_FORWARDED:
            joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return {"statusCode": status, "headers": joined, "cookies": cookies}


def _scope(
    event: Mapping[str, Any],
    *,
    method: str,
    root_path: str,
    path: str,
    query: str,
    headers: Headers,
    client: str | None,
) -> dict[str, Any]:
    named = {name.lower(): value for name, value in headers}
    host, _, port = named.get(b"host", b"localhost").decode("latin-1").partition(":")
    scope: dict[str, Any] = {
        "type": "http",
        # 2.4: a send to a caller who has gone raises OSError.
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": named.get(b"x-forwarded-proto", b"https").decode("latin-1"),
        "path": root_path + unquote(path),
        "raw_path": quote(root_path + path, safe="/%").encode(),
        "root_path": root_path,
        "query_string": query.encode(),
        "headers": headers,
        "client": (client, 0) if client else None,
        "server": (host, int(port) if port.isdigit() else 443),
    }
    principal = _principal(event["requestContext"].get("authorizer"))
    return {**scope, "tokenmill.principal": principal} if principal else scope


def _principal(authorizer: Any) -> str | None:
    """Who the front let in: a Lambda authorizer's principal, or the IAM identity at a function URL."""
    if not isinstance(authorizer, dict):
        return None
    iam = authorizer.get("iam")
    found = authorizer.get("principalId") or (iam.get("userArn") if isinstance(iam, dict) else None)
    return found if isinstance(found, str) and found else None


def _rest_request(event: Mapping[str, Any]) -> dict[str, Any]:
    context = event["requestContext"]
    path = _resource_path(event)
    # The caller's path begins with the stage, or with the base path of a custom domain; routes begin after
    # it.
    whole = context.get("path") or path
    root_path = whole.removesuffix(path) if whole.endswith(path) else ""
    lists = event.get("multiValueHeaders") or _in_lists(event.get("headers"))
    query = event.get("multiValueQueryStringParameters") or _in_lists(event.get("queryStringParameters"))
    identity = context.get("identity")
    return {
        "method": event["httpMethod"],
        "root_path": root_path.rstrip("/"),
        "path": path,
        "query": urlencode(query, doseq=True),
        "headers": [_header(name, value) for name, values in lists.items() for value in values],
        "client": identity.get("sourceIp") if isinstance(identity, dict) else None,
    }


def _resource_path(event: Mapping[str, Any]) -> str:
    """The path below the API, from its resource: a custom domain's base path stands in ``path`` only."""
    resource = event.get("resource")
    if not isinstance(resource, str) or not resource.startswith("/"):
        return str(event.get("path") or "/")
    path = resource
    for name, value in (event.get("pathParameters") or {}).items():
        path = path.replace(f"{{{name}+}}", value).replace(f"{{{name}}}", value)
    return path


def _url_request(event: Mapping[str, Any]) -> dict[str, Any]:
    context = event["requestContext"]
    stage, path = context.get("stage"), event.get("rawPath") or "/"
    root_path = f"/{stage}" if stage not in (None, "$default") and path.startswith(f"/{stage}/") else ""
    headers = [_header(name, value) for name, value in (event.get("headers") or {}).items()]
    if event.get("cookies"):
        headers.append((b"cookie", "; ".join(event["cookies"]).encode()))
    return {
        "method": context["http"].get("method", "GET"),
        "root_path": root_path,
        "path": path.removeprefix(root_path),
        "query": event.get("rawQueryString") or "",
        "headers": headers,
        "client": context["http"].get("sourceIp"),
    }


def _header(name: str, value: str) -> tuple[bytes, bytes]:
    return name.lower().encode(), str(value).encode()


def _in_lists(single: Any) -> dict[str, list[str]]:
    return {name: [value] for name, value in (single or {}).items()}


def _body(event: Mapping[str, Any]) -> bytes:
    body = event.get("body") or ""
    return base64.b64decode(body) if event.get("isBase64Encoded") else body.encode()
