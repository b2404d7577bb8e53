"""SageMaker's runtime: InvokeEndpoint and its streaming form, forwarded to the component's model server.

Source: Amazon SageMaker Runtime API Reference, "InvokeEndpoint" and "InvokeEndpointWithResponseStream"
(status codes, ModelError's members, ModelStreamError's code StreamBroken).
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import httpx

from tokenmill.local.aws_requests import AwsError, Scope
from tokenmill.local.event_stream import CONTENT_TYPE, encode_event, encode_exception

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, MutableMapping

    from tokenmill.local.sagemaker.control import SageMaker

    Send = Callable[[MutableMapping[str, Any]], Any]

PATH = re.compile(r"^/endpoints/([^/]+)/invocations(-response-stream)?$")
NO_CAPACITY = (
    "Inference Component has no capacity to process this request. ApplicationAutoScaling may be in-progress "
    "(if configured) or try to increase the capacity by invoking UpdateInferenceComponentRuntimeConfig API."
)
_COMPONENT_NEEDED = (
    "Inference Component Name header is required for endpoints to which you plan to deploy inference "
    "components. Please include Inference Component Name header or consider using SageMaker models."
)


class SageMakerRuntime:
    """The runtime API.

    Args:
        control: The control plane, for the endpoints' states.
        record: Takes a metric of the `AWS/SageMaker` namespace: scope, name, value, unit, dimensions.
    """

    def __init__(
        self, control: SageMaker, *, record: Callable[[Scope, str, float, str, Mapping[str, str]], None]
    ) -> None:
        self._control = control
        self._record = record
        self._client = httpx.AsyncClient(timeout=httpx.Timeout(None, connect=5.0), trust_env=False)

    async def close(self) -> None:
        """Close the connections to the model servers."""
        await self._client.aclose()

    async def invoke(
        self, scope: Scope, path: str, headers: Mapping[str, str], body: bytes, send: Send
    ) -> None:
        """Answer one invocation.

        Args:
            scope: Whose endpoint.
            path: The request's path, which `PATH` matches.
            headers: Its headers, names in lower case.
            body: Its body.
            send: ASGI send.
        """
        match = PATH.match(path)
        assert match is not None  # the router sends nothing else
        endpoint, streaming = match.group(1), match.group(2) is not None
        component = headers.get("x-amzn-sagemaker-inference-component")
        dimensions = {"InferenceComponentName": component} if component else {"EndpointName": endpoint}
        began = time.monotonic()
        try:
            url, variant = self._target(scope, endpoint, component)
            response = await self._forward(url, headers, body)
        except AwsError as error:
            if error.message == NO_CAPACITY:
                self._record(scope, "NoCapacityInvocationFailures", 1, "Count", dimensions)
            await _send_whole(send, *error.json_response())
            return
        self._record(scope, "Invocations", 1, "Count", dimensions)
        try:
            if response.status_code >= 400:
                detail = (await response.aread()).decode(errors="replace")
                refused = self._model_error(scope, endpoint, response.status_code, detail)
                self._record(scope, "InvocationModelErrors", 1, "Count", dimensions)
                await _send_whole(send, *refused.json_response())
            elif streaming:
                await self._send_stream(send, response, variant)
            else:
                answer = await response.aread()
                kind = response.headers.get("content-type", "application/json")
                await _send_whole(
                    send, 200, {"content-type": kind, "x-amzn-invoked-production-variant": variant}, answer
                )
        except httpx.HTTPError as error:
            broken = self._model_error(scope, endpoint, 503, f"the model server went away: {error}")
            await _send_whole(send, *broken.json_response())
        finally:
            await response.aclose()
        self._record(scope, "ModelLatency", (time.monotonic() - began) * 1e6, "Microseconds", dimensions)

    def _target(self, scope: Scope, endpoint_name: str, component_name: str | None) -> tuple[str, str]:
        account = self._control.accounts[scope]
        endpoint = account.endpoints.get(endpoint_name)
        if endpoint is None:
            raise AwsError(
                "ValidationError", f"Endpoint {endpoint_name} of account {scope.account} not found."
            )
        if component_name is None:
            key = f"{endpoint.name}/{endpoint.variants[0].name}"
            if "ModelName" not in endpoint.variants[0].config:
                raise AwsError("ValidationError", _COMPONENT_NEEDED)
            return self._url(key), endpoint.variants[0].name
        component = account.components.get(component_name)
        if component is None or component.endpoint != endpoint.name:
            raise AwsError(
                "ValidationError",
                f"Inference Component {component_name} of endpoint {endpoint_name} not found.",
            )
        if component.current < 1 or component.status in ("Creating", "Failed", "Deleting"):
            raise AwsError("ValidationError", NO_CAPACITY)
        base = component.specification.get("BaseInferenceComponentName", component.name)
        return self._url(base), component.variant

    def _url(self, key: str) -> str:
        url = self._control.fleet.url(key)
        if url is None:
            raise AwsError("ServiceUnavailable", f"no model server runs for {key}", status=503)
        return url

    async def _forward(self, url: str, headers: Mapping[str, str], body: bytes) -> httpx.Response:
        content = headers.get("content-type", "application/json")
        request = self._client.build_request(
            "POST", f"{url}/invocations", content=body, headers={"content-type": content}
        )
        try:
            return await self._client.send(request, stream=True)
        except httpx.TransportError as error:
            raise AwsError(
                "ModelError",
                "Received server error (503) from model: the model server is not running "
                f"({str(error) or type(error).__name__}); run `tokenmill up` again to start it",
                status=424,
                OriginalStatusCode=503,
                OriginalMessage="the model server is not running",
            ) from error

    def _model_error(self, scope: Scope, endpoint: str, status: int, detail: str) -> AwsError:
        side = "client" if status < 500 else "server"
        return AwsError(
            "ModelError",
            f'Received {side} error ({status}) from model with message "{detail}". '
            f"See log group /aws/sagemaker/Endpoints/{endpoint} in account {scope.account}.",
            status=424,
            OriginalStatusCode=status,
            OriginalMessage=detail,
        )

    async def _send_stream(self, send: Send, response: httpx.Response, variant: str) -> None:
        kind = response.headers.get("content-type", "application/json")
        headers = {
            "content-type": CONTENT_TYPE,
            "x-amzn-sagemaker-content-type": kind,
            "x-amzn-invoked-production-variant": variant,
        }
        await send({"type": "http.response.start", "status": 200, "headers": _raw(headers)})
        async for message in _payload_parts(response):
            await send({"type": "http.response.body", "body": message, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _payload_parts(response: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in response.aiter_raw():
            yield encode_event("PayloadPart", chunk, content_type="application/octet-stream")
    except httpx.HTTPError as error:
        yield encode_exception(
            "ModelStreamError",
            f"the model server went away in the middle of its answer ({str(error) or type(error).__name__})",
            ErrorCode="StreamBroken",
        )


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]


async def _send_whole(send: Send, status: int, headers: Mapping[str, str], body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": _raw(headers)})
    await send({"type": "http.response.body", "body": body})
