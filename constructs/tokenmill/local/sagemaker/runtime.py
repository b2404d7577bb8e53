"""SageMaker's runtime: InvokeEndpoint and its streaming form, forwarded to the component's model server.

Source: Amazon SageMaker Runtime API Reference, "InvokeEndpoint" and "InvokeEndpointWithResponseStream"
(status codes, ModelError's members, ModelStreamError's code StreamBroken).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from tokenmill.local.aws_requests import AwsError, Scope
from tokenmill.local.event_stream import CONTENT_TYPE, encode_event, encode_exception
from tokenmill.local.sagemaker.component_fleet import container_of, specification_on
from tokenmill.local.sagemaker.records import new_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, MutableMapping

    from tokenmill.local.aws_requests import Params
    from tokenmill.local.sagemaker.control import SageMaker
    from tokenmill.local.sagemaker.records import Account, Endpoint

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


# What SageMaker's routing tells a container that serves several adapters (DJL Serving, "Adapters API").
ADAPTER_HEADER = "x-amzn-sagemaker-adapter-identifier"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Who answers an invocation.

    Args:
        url: Address of the model server.
        variant: The variant that is named in the answer.
        dimensions: Dimensions of the metrics.
        capacity: Copies or instances that answer.
        adapter: The adapter that is asked for.
        failing: Whether the image fails on request.
        latency_seconds: How much later the answer comes, in seconds.
    """

    url: str
    variant: str
    dimensions: Mapping[str, str]
    capacity: int
    adapter: str | None = None
    failing: bool = False
    latency_seconds: float = 0.0

    @property
    def per_capacity(self) -> tuple[str, str]:
        """Metrics of invocations and of concurrent requests, divided by the capacity."""
        if "InferenceComponentName" in self.dimensions:
            return "InvocationsPerCopy", "ConcurrentRequestsPerCopy"
        return "InvocationsPerInstance", "ConcurrentRequestsPerModel"


class SageMakerRuntime:
    """The runtime API.

    Args:
        control: The control plane, for the endpoints' states.
        record: Takes a metric of the `AWS/SageMaker` namespace: scope, name, value, unit, dimensions.
        pause: Waits that many seconds before an answer that is to come late.
    """

    def __init__(
        self,
        control: SageMaker,
        *,
        record: Callable[[Scope, str, float, str, Mapping[str, str]], None],
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._control = control
        self._record = record
        self._pause = pause
        self._running: dict[tuple[object, ...], int] = {}
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
        try:
            target = self.target(scope, endpoint, component)
        except AwsError as error:
            if error.message == NO_CAPACITY and component is not None:
                dimensions = {"InferenceComponentName": component}
                self._record(scope, "NoCapacityInvocationFailures", 1, "Count", dimensions)
            await _send_whole(send, *error.json_response())
            return
        began = time.monotonic()
        with self._counted(scope, target):
            status = await self._relay(scope, endpoint, target, headers, body, send, streaming=streaming)
        for name, first in (("Invocation4XXErrors", 400), ("Invocation5XXErrors", 500)):
            self._record(scope, name, float(first <= status < first + 100), "None", target.dimensions)
        if status >= 400:
            self._record(scope, "InvocationModelErrors", 1, "Count", target.dimensions)
        latency = (time.monotonic() - began) * 1e6
        self._record(scope, "ModelLatency", latency, "Microseconds", target.dimensions)

    def target(self, scope: Scope, endpoint_name: str, component_name: str | None) -> Target:
        """Return who answers an invocation.

        Args:
            scope: Whose endpoint.
            endpoint_name: The endpoint.
            component_name: The inference component, when the request names one.

        Raises:
            AwsError: There is none, or it has no capacity.
        """
        account = self._control.accounts[scope]
        endpoint = account.endpoints.get(endpoint_name)
        if endpoint is None:
            raise AwsError(
                "ValidationError", f"Endpoint {endpoint_name} of account {scope.account} not found."
            )
        if component_name is None:
            return self._variant_target(account, endpoint)
        component = account.components.get(component_name)
        if component is None or component.endpoint != endpoint.name:
            raise AwsError(
                "ValidationError",
                f"Inference Component {component_name} of endpoint {endpoint_name} not found.",
            )
        serving = account.components.get(component.base or component.name, component)
        for each in (component, serving):
            if each.current < 1 or each.status in ("Creating", "Failed", "Deleting"):
                raise AwsError("ValidationError", NO_CAPACITY)
        new = serving.split.takes_new()
        specifications = serving.specifications
        return Target(
            url=self._url(new_key(serving.name) if new else serving.name, serving.name),
            variant=component.variant,
            dimensions={"InferenceComponentName": component.name},
            capacity=serving.current,
            adapter=component.name if component.base else None,
            failing=_failing(account, specification_on(specifications, serving.placed)),
            latency_seconds=_latency(account, component.name, endpoint.name),
        )

    def _variant_target(self, account: Account, endpoint: Endpoint) -> Target:
        pending = endpoint.pending
        new = pending is not None and pending.split.takes_new()
        variants = pending.variants if pending is not None and new else endpoint.variants
        variant = variants[0]
        if not variant.serves_model:
            raise AwsError("ValidationError", _COMPONENT_NEEDED)
        return Target(
            url=self._url(endpoint.key(variant, new=new), endpoint.key(variant)),
            variant=variant.name,
            dimensions={"EndpointName": endpoint.name, "VariantName": variant.name},
            capacity=max(1, variant.instances),
            failing=_failing(account, {"ModelName": variant.model_name}),
            latency_seconds=_latency(account, endpoint.name),
        )

    @contextlib.contextmanager
    def _counted(self, scope: Scope, target: Target) -> Iterator[None]:
        """Count an invocation, and those that run at the same time, a copy or an instance."""
        key = (scope, *target.dimensions.values())
        self._running[key] = self._running.get(key, 0) + 1
        invocations, concurrent = target.per_capacity
        self._record(scope, "Invocations", 1, "Count", target.dimensions)
        self._record(scope, invocations, 1 / target.capacity, "None", target.dimensions)
        self._record(scope, concurrent, self._running[key] / target.capacity, "Count", target.dimensions)
        try:
            yield
        finally:
            self._running[key] -= 1

    async def _relay(
        self,
        scope: Scope,
        endpoint: str,
        target: Target,
        headers: Mapping[str, str],
        body: bytes,
        send: Send,
        *,
        streaming: bool,
    ) -> int:
        """Send the model's answer on; return the status that the model answered with."""
        if target.latency_seconds:
            await self._pause(target.latency_seconds)
        if target.failing:
            refused = self._model_error(scope, endpoint, 500, "the image fails on request")
            await _send_whole(send, *refused.json_response())
            return 500
        try:
            response = await self.forward(target, headers, body)
        except AwsError as error:
            await _send_whole(send, *error.json_response())
            return 503
        try:
            if response.status_code >= 400:
                detail = (await response.aread()).decode(errors="replace")
                refused = self._model_error(scope, endpoint, response.status_code, detail)
                await _send_whole(send, *refused.json_response())
            elif streaming:
                await self._send_stream(send, response, target.variant)
            else:
                answer = await response.aread()
                kind = response.headers.get("content-type", "application/json")
                shown = {"content-type": kind, "x-amzn-invoked-production-variant": target.variant}
                await _send_whole(send, 200, shown, answer)
        except httpx.HTTPError as error:
            broken = self._model_error(scope, endpoint, 503, f"the model server went away: {error}")
            await _send_whole(send, *broken.json_response())
            return 503
        finally:
            await response.aclose()
        return response.status_code

    def _url(self, *keys: str) -> str:
        """Return the address of the first that is there: a new server may just have got its final name."""
        for key in keys:
            url = self._control.fleet.url(key)
            if url is not None:
                return url
        raise AwsError("ServiceUnavailable", f"no model server runs for {keys[-1]}", status=503)

    async def forward(self, target: Target, headers: Mapping[str, str], body: bytes) -> httpx.Response:
        """Send a request to the model server; the caller reads and closes the answer.

        Args:
            target: Who answers.
            headers: The invocation's headers, names in lower case.
            body: Its body.

        Raises:
            AwsError: No model server answers.
        """
        sent = {"content-type": headers.get("content-type", "application/json")}
        if target.adapter is not None:
            sent[ADAPTER_HEADER] = target.adapter
        request = self._client.build_request("POST", f"{target.url}/invocations", content=body, headers=sent)
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


def _failing(account: Account, specification: Params) -> bool:
    return account.faults.failing(container_of(account, specification).get("Image", ""))


def _latency(account: Account, *names: str) -> float:
    return max(account.faults.latency_ms.get(name, 0.0) for name in names) / 1000


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
