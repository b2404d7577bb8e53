"""The shipped streaming bootstrap behind a REST API, without CDK so that only the two are under test."""

from __future__ import annotations

import http.client
import io
import json
import time
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import tokenmill_runtime
from tokenmill.verification.probe import create_role

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokenmill.verification.aws import Aws

CHUNKS = 8
SECONDS_BETWEEN = 0.5
RUNTIME = "python3.13"
WRAPPER = "/var/task/tokenmill_runtime/streaming/run.sh"
STAGE = "probe"
EMF_NAMESPACE = "tokenmill-verify"
EMF_METRIC = "Wrapped"
# A stream long enough for a caller to leave in its middle; the function's time-out is longer.
LEAVING_LINES = 60
ANSWERED = "probe answered every line"
TIMEOUT_SECONDS = 60
_APPLICATION = f"""\
import asyncio, json, os, platform, time
from urllib.parse import parse_qs

def say():
    directive = {{"Namespace": "{EMF_NAMESPACE}", "Dimensions": [["Run"]],
                 "Metrics": [{{"Name": "{EMF_METRIC}", "Unit": "Count"}}]}}
    emf = {{"_aws": {{"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [directive]}},
           "Run": os.environ["TOKENMILL_RUN"], "{EMF_METRIC}": 1}}
    print(json.dumps(emf), flush=True)

def application():
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({{"type": message["type"] + ".complete"}})
                if message["type"] == "lifespan.shutdown":
                    return
        asked = parse_qs(scope["query_string"].decode())
        lines = int(asked.get("lines", ["{CHUNKS}"])[0])
        say()
        headers = [(b"content-type", b"application/x-ndjson")]
        await send({{"type": "http.response.start", "status": 200, "headers": headers}})
        for number in range(lines):
            if "break" in asked and number == lines // 2:
                raise RuntimeError("the probe breaks here")
            line = json.dumps({{"number": number, "machine": platform.machine()}}) + chr(10)
            await send({{"type": "http.response.body", "body": line.encode(), "more_body": True}})
            await asyncio.sleep({SECONDS_BETWEEN})
        await send({{"type": "http.response.body", "body": b"", "more_body": False}})
        print("{ANSWERED}", lines, flush=True)
    return app
"""


@dataclass(frozen=True, slots=True)
class Streamed:
    """What came through the front door.

    Args:
        status: HTTP status.
        lines: The lines of the body.
        arrivals: When each line came, in seconds after the request.
    """

    status: int
    lines: tuple[str, ...]
    arrivals: tuple[float, ...]

    @property
    def spread_seconds(self) -> float:
        """Time between the first line and the last."""
        return self.arrivals[-1] - self.arrivals[0] if self.arrivals else 0.0

    @property
    def machines(self) -> tuple[str, ...]:
        """Processor names in the lines."""
        try:
            return tuple(sorted({json.loads(line)["machine"] for line in self.lines}))
        except (ValueError, KeyError, TypeError):
            return ()


@dataclass(frozen=True, slots=True)
class Broken:
    """What a caller gets of a stream that fails in its middle.

    Args:
        status: HTTP status.
        body: What came of the body.
        cut_off: Whether the body ended without the end that HTTP asks for.
    """

    status: int
    body: str
    cut_off: bool


def function_package() -> bytes:
    """Return the function's zip: the shipped runtime package with its file modes, and a small application."""
    root = Path(tokenmill_runtime.__file__).parent
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(root.rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                member = zipfile.ZipInfo(f"{root.name}/{path.relative_to(root).as_posix()}")
                member.external_attr = path.stat().st_mode << 16
                archive.writestr(member, path.read_bytes())
        application = zipfile.ZipInfo("probe_application.py")
        application.external_attr = 0o100644 << 16
        archive.writestr(application, _APPLICATION)
    return packed.getvalue()


def create_front_door(aws: Aws) -> str:
    """Create the function and the API before it, open to signed requests only, and return the address.

    Args:
        aws: The run.
    """
    function_arn = _create_function(aws)
    client = aws.client("apigateway")
    name = aws.name("front-door")
    aws.declare("rest-api", name)
    tags = {tag["Key"]: tag["Value"] for tag in aws.tags}
    api = client.create_rest_api(name=name, endpointConfiguration={"types": ["REGIONAL"]}, tags=tags)["id"]
    root = client.get_resources(restApiId=api)["items"][0]["id"]
    client.put_method(restApiId=api, resourceId=root, httpMethod="GET", authorizationType="AWS_IAM")
    # Amazon API Gateway Developer Guide: "Set up a Lambda proxy integration with payload response streaming".
    path = f"lambda:path/2021-11-15/functions/{function_arn}/response-streaming-invocations"
    client.put_integration(
        restApiId=api,
        resourceId=root,
        httpMethod="GET",
        type="AWS_PROXY",
        integrationHttpMethod="POST",
        uri=f"arn:{aws.partition}:apigateway:{aws.region}:{path}",
        responseTransferMode="STREAM",
    )
    aws.client("lambda").add_permission(
        FunctionName=aws.name("front-door"),
        StatementId="api",
        Action="lambda:InvokeFunction",
        Principal="apigateway.amazonaws.com",
        SourceArn=f"arn:{aws.partition}:execute-api:{aws.region}:{aws.account}:{api}/*",
    )
    client.create_deployment(restApiId=api, stageName=STAGE)
    if aws.local:
        return f"{aws.endpoint}/restapis/{api}/{STAGE}/_user_request_/"
    suffix = "amazonaws.com.cn" if aws.partition == "aws-cn" else "amazonaws.com"
    return f"https://{api}.execute-api.{aws.region}.{suffix}/{STAGE}/"


def stream(aws: Aws, url: str) -> Streamed:
    """Make one signed request and note when each line of the answer comes.

    Args:
        aws: The run.
        url: The address.
    """
    lines: list[str] = []
    arrivals: list[float] = []
    begin = time.monotonic()
    with _answer(aws, url) as response:
        while line := response.readline():
            lines.append(line.decode(errors="replace").rstrip("\n"))
            arrivals.append(round(time.monotonic() - begin, 3))
        return Streamed(response.status, tuple(lines), tuple(arrivals))


def leave(aws: Aws, url: str) -> str:
    """Ask for a long stream, read its first line, hang up, and return that line.

    Args:
        aws: The run.
        url: The address.
    """
    with _answer(aws, f"{url}?lines={LEAVING_LINES}") as response:
        return response.readline().decode(errors="replace").rstrip("\n")


def break_off(aws: Aws, url: str) -> Broken:
    """Ask for a stream whose application fails in the middle, and return what comes.

    Args:
        aws: The run.
        url: The address.
    """
    with _answer(aws, f"{url}?break=1") as response:
        try:
            return Broken(response.status, response.read().decode(errors="replace"), cut_off=False)
        except (http.client.IncompleteRead, ConnectionError) as error:
            partial = error.partial if isinstance(error, http.client.IncompleteRead) else b""
            return Broken(response.status, partial.decode(errors="replace"), cut_off=True)


@contextmanager
def _answer(aws: Aws, url: str) -> Iterator[http.client.HTTPResponse]:
    """Make one signed request; leaving the block hangs up."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest

    request = AWSRequest(method="GET", url=url)
    SigV4Auth(aws.credentials, "execute-api", aws.region).add_auth(request)
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.netloc, timeout=60)
    try:
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request("GET", target, headers=dict(request.headers.items()))
        with connection.getresponse() as response:
            yield response
    finally:
        connection.close()


def _create_function(aws: Aws) -> str:
    actions = ("logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents")
    role = create_role(aws, "function", service="lambda.amazonaws.com", actions=actions)
    name = aws.name("front-door")
    client = aws.client("lambda")
    aws.declare("log-group", f"/aws/lambda/{name}")
    aws.declare("function", name)
    function: dict[str, Any] = aws.settle(
        lambda: client.create_function(
            FunctionName=name,
            Runtime=RUNTIME,
            Architectures=["arm64"],
            Role=role,
            Handler="probe_application:application",
            Code={"ZipFile": function_package()},
            Environment={"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": WRAPPER, "TOKENMILL_RUN": aws.run}},
            Timeout=TIMEOUT_SECONDS,
            MemorySize=512,
            Tags={tag["Key"]: tag["Value"] for tag in aws.tags},
        ),
        codes=("InvalidParameterValueException",),
    )
    aws.wait(
        f"function {name}",
        lambda: client.get_function_configuration(FunctionName=name)["State"] == "Active",
        seconds=300,
    )
    return str(function["FunctionArn"])
