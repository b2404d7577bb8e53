"""An AWS endpoint on loopback HTTP that knows botocore's models: what the real client sends is what it reads.

A test gives it answers by (service, operation); it speaks the JSON, query and REST protocols for them.
"""

from __future__ import annotations

import json
import re
import threading
from collections import defaultdict
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

import botocore.session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from botocore.model import OperationModel, ServiceModel, Shape

# Name in the signature -> botocore's service.
SIGNING_NAMES = {"servicequotas": "service-quotas", "monitoring": "cloudwatch", "states": "stepfunctions"}
ACCOUNT = "123456789012"


class AwsError(Exception):
    """An error that a service answers with."""

    def __init__(self, code: str, message: str = "", status: int = 400) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


class FakeAws:
    """Answers by (service, operation); everything asked is in `calls`, `caller` is the last one's key."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, dict[str, Any]]] = []
        self.answers: dict[tuple[str, str], Callable[[dict[str, Any]], dict[str, Any]]] = {}
        self.raw: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        self.caller = ""
        self.answers["sts", "GetCallerIdentity"] = lambda _: {
            "Account": ACCOUNT,
            "Arn": f"arn:aws:iam::{ACCOUNT}:user/tester",
        }
        handler = type("Handler", (_Handler,), {"fake": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def operations(self, service: str) -> list[str]:
        return [operation for called, operation, _ in self.calls if called == service]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    fake: FakeAws
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = do_GET

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        path = urlsplit(self.path).path
        for prefix, answer in self.fake.raw.items():
            if path.startswith(prefix):
                answer(self)
                return
        signing = self.headers["Authorization"].split("/")[3]
        service = SIGNING_NAMES.get(signing, signing)
        if service == "sagemaker" and path.startswith("/endpoints/"):
            service = "sagemaker-runtime"
        if service == "bedrock":
            service = _bedrock_service(path)
        self.fake.caller = self.headers["Authorization"].partition("Credential=")[2].partition("/")[0]
        operation, parameters = _read(service, self, body)
        self.fake.calls.append((service, operation.name, parameters))
        try:
            result = self.fake.answers[service, operation.name](parameters)
        except AwsError as error:
            self._send(error.status, *_error(operation, error))
        except KeyError as error:
            self._send(501, "application/json", json.dumps({"message": f"not answered: {error}"}).encode())
        else:
            self._send(200, *_write(operation, result), headers=_headers(operation, result))

    def _send(
        self, status: int, content_type: str, body: bytes, headers: dict[str, str] | None = None
    ) -> None:
        code = json.loads(body).get("__type", "") if status >= 400 and "json" in content_type else ""
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if code:
            self.send_header("x-amzn-ErrorType", code)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _bedrock_service(path: str) -> str:
    """Return which of the services is asked that sign as bedrock."""
    if path.startswith("/model/") or re.fullmatch("/guardrail/[^/]+/version/[^/]+/apply", path):
        return "bedrock-runtime"
    return "bedrock-agent" if path.startswith("/prompts") else "bedrock"


@cache
def _service(name: str) -> ServiceModel:
    return botocore.session.get_session().get_service_model(name)


def _read(
    service: str, request: BaseHTTPRequestHandler, body: bytes
) -> tuple[OperationModel, dict[str, Any]]:
    model = _service(service)
    if "X-Amz-Target" in request.headers:
        operation = model.operation_model(request.headers["X-Amz-Target"].rpartition(".")[2])
        return operation, json.loads(body or b"{}")
    if model.metadata["protocol"] == "query":
        fields = dict(parse_qsl(body.decode()))
        return model.operation_model(fields["Action"]), fields
    matches: list[tuple[int, OperationModel, dict[str, str]]] = []
    for name in model.operation_names:
        operation = model.operation_model(name)
        found = _match(operation, request)
        if found is not None:
            matches.append((len(operation.http["requestUri"]), operation, found))
    if not matches:
        raise AssertionError(f"{service} has no operation for {request.command} {request.path}")
    _, operation, found = max(matches, key=lambda match: match[0])
    payload = operation.input_shape.serialization.get("payload") if operation.input_shape else None
    if payload and _members(operation.input_shape)[payload].type_name == "blob":
        return operation, {payload: _content(request, body), **found}
    is_json = request.headers.get("Content-Type", "").startswith("application/json")
    return operation, {**(json.loads(body) if body and is_json else {}), **found}


def _content(request: BaseHTTPRequestHandler, body: bytes) -> bytes:
    """The bytes of an upload; boto3 sends them in signed chunks with a checksum behind."""
    if "aws-chunked" not in request.headers.get("Content-Encoding", ""):
        return body
    content, rest = b"", body
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size.split(b";")[0], 16)
        if not length:
            break
        content, rest = content + rest[:length], rest[length + 2 :]
    return content


def _match(operation: OperationModel, request: BaseHTTPRequestHandler) -> dict[str, str] | None:
    template, _, wanted = operation.http["requestUri"].partition("?")
    pattern = re.sub(r"\\\{(\w+)\\\+\\\}", r"(?P<\1>.+)", re.escape(template).rstrip("/"))
    pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", pattern)
    address = urlsplit(request.path)
    match = re.fullmatch(f"{pattern}/?", address.path)
    if operation.http["method"] != request.command or match is None:
        return None
    given = dict(parse_qsl(address.query, keep_blank_values=True))
    # S3 tells operations on one path apart by words in the query and by required headers.
    if any(given.get(key) != value for key, value in parse_qsl(wanted, keep_blank_values=True)):
        return None
    if not wanted and any(value == "" for value in given.values()):
        return None
    members = _members(operation.input_shape)
    for key in getattr(operation.input_shape, "required_members", ()):
        place, name = members[key].serialization.get("location"), members[key].serialization.get("name", key)
        if (place == "header" and name not in request.headers) or (
            place == "querystring" and name not in given
        ):
            return None
    names = {member.serialization.get("name", key): key for key, member in members.items()}
    path = {names.get(key, key): unquote(value) for key, value in match.groupdict().items()}
    asked = {names[key]: value for key, value in given.items() if key in names}
    told = {
        key: request.headers[member.serialization["name"]]
        for key, member in members.items()
        if member.serialization.get("location") == "header"
        and member.serialization["name"] in request.headers
    }
    return {**told, **asked, **path}


def _members(shape: Shape | None) -> dict[str, Any]:
    return dict(getattr(shape, "members", {})) if shape is not None else {}


def _write(operation: OperationModel, result: dict[str, Any]) -> tuple[str, bytes]:
    protocol = operation.service_model.metadata["protocol"]
    if protocol == "query":
        name = operation.name
        inner = "".join(
            _xml(key, operation.output_shape.members[key], value) for key, value in result.items()
        )
        return "text/xml", f"<{name}Response><{name}Result>{inner}</{name}Result></{name}Response>".encode()
    streamed = operation.output_shape.serialization.get("payload") if operation.output_shape else None
    if streamed and isinstance(result.get(streamed), bytes):
        return "application/octet-stream", result[streamed]
    if protocol == "rest-xml":
        inner = "".join(
            _xml(key, operation.output_shape.members[key], value) for key, value in result.items()
        )
        return "application/xml", f"<Result>{inner}</Result>".encode() if inner else b""
    members = _members(operation.output_shape)
    if streamed and streamed in result:
        return "application/json", json.dumps(result[streamed]).encode()
    named = {members[key].serialization.get("name", key): value for key, value in result.items()}
    return "application/json", json.dumps(named).encode()


def _headers(operation: OperationModel, result: dict[str, Any]) -> dict[str, str]:
    places = {key: member.serialization for key, member in _members(operation.output_shape).items()}
    return {
        places[key]["name"]: str(value)
        for key, value in result.items()
        if places.get(key, {}).get("location") == "header"
    }


def _xml(name: str, shape: Shape, value: Any) -> str:
    name = shape.serialization.get("name", name)
    if shape.type_name == "structure":
        inner = "".join(_xml(key, shape.members[key], item) for key, item in value.items())
        return f"<{name}>{inner}</{name}>"
    if shape.type_name == "list":
        if shape.serialization.get("flattened"):
            return "".join(_xml(name, shape.member, item) for item in value)
        return f"<{name}>{''.join(_xml('member', shape.member, item) for item in value)}</{name}>"
    return f"<{name}>{value}</{name}>"


def _error(operation: OperationModel, error: AwsError) -> tuple[str, bytes]:
    if operation.service_model.metadata["protocol"] in ("query", "rest-xml"):
        inner = f"<Error><Code>{error.code}</Code><Message>{error.message}</Message></Error>"
        wrapped = inner if operation.service_model.metadata["protocol"] == "rest-xml" else f"<R>{inner}</R>"
        return "text/xml", wrapped.encode()
    return "application/json", json.dumps({"__type": error.code, "message": error.message}).encode()


class Resources:
    """What probes create, as the services would hold it; deleting what is not there is an error."""

    def __init__(self, fake: FakeAws) -> None:
        self.fake = fake
        self.live: dict[str, set[str]] = defaultdict(set)
        self.ever: set[str] = set()
        self.status: dict[str, str] = defaultdict(lambda: "InService")
        for kind, key in (("EndpointConfig", "EndpointConfigName"), ("Endpoint", "EndpointName")):
            self._sagemaker(kind, key)
        for kind, key in (("Model", "ModelName"), ("InferenceComponent", "InferenceComponentName")):
            self._sagemaker(kind, key)
        self._iam()
        self._s3()
        self._functions()
        fake.answers["logs", "FilterLogEvents"] = lambda _: {"events": [{"message": "started"}]}
        fake.answers["logs", "DeleteLogGroup"] = self._refuse(
            "ResourceNotFoundException", "no such log group"
        )
        fake.answers["cloudwatch", "ListMetrics"] = lambda _: {"Metrics": [{"MetricName": "CPUUtilization"}]}
        fake.answers["sagemaker-runtime", "InvokeEndpoint"] = lambda _: {"Body": {"choices": [{"index": 0}]}}

    @property
    def left(self) -> set[str]:
        return {f"{kind} {name}" for kind, names in self.live.items() for name in names}

    def create(self, kind: str, name: str) -> None:
        self.live[kind].add(name)
        self.ever.add(kind)

    def delete(self, kind: str, name: str, *, code: str, message: str) -> dict[str, Any]:
        if name not in self.live[kind]:
            raise AwsError(code, message)
        self.live[kind].remove(name)
        return {}

    @staticmethod
    def _refuse(code: str, message: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
        def answer(_: dict[str, Any]) -> dict[str, Any]:
            raise AwsError(code, message)

        return answer

    def _sagemaker(self, kind: str, key: str) -> None:
        def create(parameters: dict[str, Any]) -> dict[str, Any]:
            self.create(kind, parameters[key])
            arn = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:{kind.lower()}/{parameters[key]}"
            return {f"{kind}Arn": arn}

        def describe(parameters: dict[str, Any]) -> dict[str, Any]:
            if parameters[key] not in self.live[kind]:
                raise AwsError("ValidationException", f"Could not find {kind} {parameters[key]}")
            status = self.status[parameters[key].rpartition("-")[2]]
            return {key: parameters[key], f"{kind}Status": status, "FailureReason": f"status is {status}"}

        def delete(parameters: dict[str, Any]) -> dict[str, Any]:
            if self.status[parameters[key].rpartition("-")[2]] == "Creating":
                raise AwsError("ValidationException", f"Cannot update in-progress {kind}")
            return self.delete(
                kind, parameters[key], code="ValidationException", message=f"Could not find {kind}"
            )

        self.fake.answers["sagemaker", f"Create{kind}"] = create
        self.fake.answers["sagemaker", f"Describe{kind}"] = describe
        self.fake.answers["sagemaker", f"Delete{kind}"] = delete

    def _iam(self) -> None:
        def create(parameters: dict[str, Any]) -> dict[str, Any]:
            self.create("Role", parameters["RoleName"])
            arn = f"arn:aws:iam::{ACCOUNT}:role/{parameters['RoleName']}"
            role = {"Path": "/", "RoleName": parameters["RoleName"], "RoleId": "AROA", "Arn": arn}
            return {"Role": role}

        answers = self.fake.answers
        answers["iam", "CreateRole"] = create
        answers["iam", "PutRolePolicy"] = lambda _: {}
        answers["iam", "ListRolePolicies"] = lambda _: {"PolicyNames": ["probe"]}
        answers["iam", "DeleteRolePolicy"] = lambda _: {}
        answers["iam", "DeleteRole"] = lambda p: self.delete(
            "Role", p["RoleName"], code="NoSuchEntity", message="The role cannot be found"
        )

    def _s3(self) -> None:
        answers = self.fake.answers
        answers["s3", "CreateBucket"] = lambda p: self.create("Bucket", p["Bucket"]) or {}
        answers["s3", "PutBucketTagging"] = lambda _: {}
        answers["s3", "PutObject"] = lambda _: {}
        answers["s3", "ListObjectsV2"] = lambda _: {"Contents": [{"Key": "model.tar.gz"}]}
        answers["s3", "DeleteObject"] = lambda _: {}
        answers["s3", "DeleteBucket"] = lambda p: self.delete(
            "Bucket", p["Bucket"], code="NoSuchBucket", message="The bucket does not exist"
        )

    def _functions(self) -> None:
        def function(parameters: dict[str, Any]) -> dict[str, Any]:
            self.create("Function", parameters["FunctionName"])
            return {
                "FunctionArn": f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:{parameters['FunctionName']}"
            }

        def rest_api(parameters: dict[str, Any]) -> dict[str, Any]:
            self.create("RestApi", parameters["name"])
            return {"id": "api1"}

        def delete_rest_api(_: dict[str, Any]) -> dict[str, Any]:
            self.live["RestApi"].clear()
            return {}

        answers = self.fake.answers
        answers["lambda", "CreateFunction"] = function
        answers["lambda", "GetFunctionConfiguration"] = lambda _: {"State": "Active"}
        answers["lambda", "AddPermission"] = lambda _: {}
        answers["lambda", "DeleteFunction"] = lambda p: self.delete(
            "Function", p["FunctionName"], code="ResourceNotFoundException", message="Function not found"
        )
        answers["apigateway", "CreateRestApi"] = rest_api
        answers["apigateway", "GetResources"] = lambda _: {"items": [{"id": "root"}]}
        for operation in ("PutMethod", "PutIntegration", "CreateDeployment"):
            answers["apigateway", operation] = lambda _: {}
        answers["apigateway", "GetRestApis"] = lambda _: {
            "items": [{"id": "api1", "name": name} for name in self.live["RestApi"]]
        }
        answers["apigateway", "DeleteRestApi"] = delete_rest_api


def running() -> Iterator[FakeAws]:
    """A fake that is closed afterwards, for a fixture to yield from."""
    fake = FakeAws()
    try:
        yield fake
    finally:
        fake.close()
