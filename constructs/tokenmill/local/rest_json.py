"""Requests of AWS's REST-JSON protocol: which operation a method and path are, its members, its answer.

Source: Smithy 2.0 specification, "AWS restJson1 protocol" and "HTTP bindings" (labels, query, headers,
payload, timestamp formats), read from the service models that botocore ships.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote

import botocore.session
from botocore.model import ListShape, MapShape, ServiceModel, StructureShape
from botocore.utils import parse_timestamp

from tokenmill.local.aws_requests import AwsError, Params, ServiceShapes
from tokenmill.local.json_text import json_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from botocore.model import OperationModel, Shape

Answer = tuple[int, dict[str, str], bytes]
_LABEL = re.compile(r"\\\{(\w+)(\\\+)?\\\}")
_KIND = {"content-type": "application/json"}
# Patterns of service models that refuse what the service itself makes. Custom prompt routers have ARNs of
# their own kind, which bedrock-runtime's pattern of `modelId` knows; bedrock-agent writes /d for a digit.
_ROUTER = r"arn:aws(-[^:]+)?:bedrock:[a-z0-9-]{1,20}:[0-9]{12}:(default-)?prompt-router/[a-zA-Z0-9-:.]+"
_PROMPT = r"arn:aws(-[^:]+)?:bedrock:[a-z0-9-]{1,20}:[0-9]{12}:[a-z-]+/[a-zA-Z0-9/]+(:[0-9]+)?"
_CORRECTED = {
    "bedrock": {"PromptRouterArn": _ROUTER},
    "bedrock-agent": {"TaggableResourcesArn": _PROMPT},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """One request as it came over HTTP.

    Args:
        method: Its method.
        path: Its path, still percent-encoded: a label may be an ARN with slashes in it.
        query: Its query string.
        headers: Its headers, names in lower case.
        body: Its body.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


class RestShapes(ServiceShapes):
    """The operations of a service that speaks REST-JSON.

    Args:
        service: botocore's name, such as `bedrock`.
    """

    @cached_property
    def model(self) -> ServiceModel:
        """The service's model; read from botocore's data on first use."""
        described = botocore.session.get_session().get_service_data(self.service)
        for name, pattern in _CORRECTED.get(self.service, {}).items():
            described["shapes"][name]["pattern"] = pattern
        return ServiceModel(described, self.service)

    @cached_property
    def _routes(self) -> dict[str, list[tuple[re.Pattern[str], OperationModel]]]:
        routes: dict[str, list[tuple[re.Pattern[str], OperationModel]]] = {}
        for name in self.model.operation_names:
            operation = self.model.operation_model(name)
            uri = operation.http["requestUri"].partition("?")[0].rstrip("/")
            pattern = _LABEL.sub(
                lambda found: rf"(?P<{found[1]}>.+)" if found[2] else rf"(?P<{found[1]}>[^/]+)",
                re.escape(uri),
            )
            routes.setdefault(operation.http["method"], []).append((re.compile(f"{pattern}/?"), operation))
        for found in routes.values():
            # A path without labels wins over one with a label in the same place.
            found.sort(key=lambda route: route[0].groups)
        return routes

    def find(self, method: str, path: str) -> str | None:
        """Return the operation that serves a method and path; nothing when the service has none.

        Args:
            method: HTTP method.
            path: Path, still percent-encoded.
        """
        found = self._find(method, path)
        return None if found is None else found[0].name

    def parse(self, request: HttpRequest) -> tuple[str, Params]:
        """Return the operation and the members of a request, validated.

        Args:
            request: The request.

        Raises:
            AwsError: No operation has this path, or a member is refused.
        """
        found = self._find(request.method, request.path)
        if found is None:
            raise AwsError(
                "UnknownOperationException",
                f"{self.service} has no operation {request.method} {request.path}",
                status=404,
            )
        operation, labels = found
        params = self._members(operation, labels, request)
        self.check(operation.name, params)
        return operation.name, params

    def members(self, operation: str, document: Params) -> Params:
        """Return the members of a request that stand in a JSON document, decoded and validated.

        Args:
            operation: Name of the operation.
            document: Its members as JSON has them.

        Raises:
            AwsError: A member is refused.
        """
        shape = self._operation(operation).input_shape
        members: Params = document if shape is None else _typed(shape, document)
        self.check(operation, members)
        return members

    def render(self, operation: str, answer: Params) -> Answer:
        """Return status, headers and body of an answer.

        Args:
            operation: Name of the operation.
            answer: Its members.
        """
        model = self.model.operation_model(operation)
        status, headers, shape = int(model.http.get("responseCode", 200)), dict(_KIND), model.output_shape
        if shape is None:
            return status, headers, b"{}"
        document: Params = {}
        for name, value in answer.items():
            member = shape.members[name]
            wire, place = member.serialization.get("name", name), member.serialization.get("location")
            if place == "header":
                headers[wire.lower()] = str(value)
            elif place == "statusCode":
                status = int(value)
            elif shape.serialization.get("payload") == name and member.type_name == "blob":
                return status, headers, bytes(value)
            else:
                document[wire] = _plain(member, value)
        return status, headers, json_text(document)

    def refuse(self, error: AwsError) -> Answer:
        """Return status, headers and body of an error, with the status that the model gives its code.

        Args:
            error: The error.
        """
        _, headers, body = error.json_response()
        status = error.status
        if error.code in self.model.shape_names:
            traits = self.model.shape_for(error.code).metadata
            status = int((traits.get("error") or {}).get("httpStatusCode", status))
        return status, {**headers, **_KIND}, body

    def answer(self, request: HttpRequest, call: Callable[[str, Params], Params]) -> Answer:
        """Answer one request.

        Args:
            request: The request.
            call: Runs an operation with validated members.
        """
        try:
            operation, params = self.parse(request)
            return self.render(operation, call(operation, params))
        except AwsError as error:
            return self.refuse(error)

    def _find(self, method: str, path: str) -> tuple[OperationModel, Params] | None:
        for pattern, operation in self._routes.get(method, []):
            match = pattern.fullmatch(path)
            if match is not None:
                return operation, {name: unquote(value) for name, value in match.groupdict().items()}
        return None

    def _members(self, operation: OperationModel, labels: Params, request: HttpRequest) -> Params:
        shape = operation.input_shape
        if shape is None:
            return {}
        params, query = dict[str, Any](), parse_qs(request.query, keep_blank_values=True)
        in_body: dict[str, str] = {}
        for name, member in shape.members.items():
            wire, place = member.serialization.get("name", name), member.serialization.get("location")
            if place == "uri":
                params[name] = _from_text(member, [labels[wire]])
            elif place == "querystring" and wire in query:
                params[name] = _from_text(member, query[wire])
            elif place == "header" and wire.lower() in request.headers:
                params[name] = _from_text(member, [request.headers[wire.lower()]])
            elif place is None:
                in_body[wire] = name
        payload = shape.serialization.get("payload")
        if payload is not None:
            blob = shape.members[payload].type_name == "blob"
            return {**params, payload: request.body if blob else _document(request.body)}
        for wire, value in _document(request.body).items():
            # A member that the model does not know stays, so that validation names it.
            name = in_body.get(wire, wire)
            if value is not None:
                params[name] = _typed(shape.members[name], value) if wire in in_body else value
        return params


def _document(body: bytes) -> Params:
    try:
        document = json.loads(body or b"{}")
    except ValueError as error:
        raise AwsError("SerializationException", f"the body is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise AwsError("SerializationException", "the body is not a JSON object")
    return document


def _from_text(shape: Shape, texts: list[str]) -> Any:
    if isinstance(shape, ListShape):
        return [_from_text(shape.member, [text]) for text in texts]
    text = texts[-1]
    try:
        if shape.type_name in ("integer", "long"):
            return int(text)
        if shape.type_name in ("float", "double"):
            return float(text)
        if shape.type_name == "timestamp":
            return parse_timestamp(text)
    except ValueError as error:
        raise AwsError("ValidationException", f"{text!r} is no {shape.type_name}") from error
    return text == "true" if shape.type_name == "boolean" else text


def _typed(shape: Shape, value: Any) -> Any:
    """Return a member of a JSON body under the model's names, decoded, without its nulls.

    What has another type than the model's stays as it is, to be refused by validation.
    """
    if isinstance(shape, StructureShape) and isinstance(value, dict) and not shape.is_document_type:
        names = {member.serialization.get("name", name): name for name, member in shape.members.items()}
        return {
            names.get(key, key): _typed(shape.members[names[key]], item) if key in names else item
            for key, item in value.items()
            if item is not None
        }
    if isinstance(shape, ListShape) and isinstance(value, list):
        return [_typed(shape.member, item) for item in value]
    if isinstance(shape, MapShape) and isinstance(value, dict):
        return {key: _typed(shape.value, item) for key, item in value.items()}
    try:
        if shape.type_name == "timestamp" and isinstance(value, str | int | float):
            return _moment(value)
        if shape.type_name == "blob" and isinstance(value, str):
            return base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error) as error:
        raise AwsError("SerializationException", f"{value!r} is no {shape.type_name}") from error
    return value


def _moment(value: Any) -> Any:
    """Return a time of a JSON body, seconds or ISO 8601; botocore reads both."""
    return parse_timestamp(value)


def _plain(shape: Shape, value: Any) -> Any:
    """Return a member as JSON has it."""
    if isinstance(shape, StructureShape) and not shape.is_document_type:
        return {
            shape.members[name].serialization.get("name", name): _plain(shape.members[name], item)
            for name, item in value.items()
            if item is not None
        }
    if isinstance(shape, ListShape):
        return [_plain(shape.member, item) for item in value]
    if isinstance(shape, MapShape):
        return {key: _plain(shape.value, item) for key, item in value.items()}
    if isinstance(value, datetime):
        if shape.serialization.get("timestampFormat") == "iso8601":
            return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return round(value.timestamp(), 3)
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value
