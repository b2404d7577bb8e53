"""Asynchronous inference: a queue before an endpoint, answers in S3, notifications through SNS.

Source: Amazon SageMaker Runtime API Reference, "InvokeEndpointAsync"; Amazon SageMaker AI Developer Guide,
"Alarms and logs for tracking metrics from asynchronous endpoints" (the queue's metrics have the endpoint as
their dimension).
"""

from __future__ import annotations

import json
import re
import threading
from collections import defaultdict, deque
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

from tokenmill.local.aws_requests import AwsError, Params, Scope, ServiceShapes
from tokenmill.local.clients import split_uri
from tokenmill.local.sagemaker.async_messages import Invocation
from tokenmill.local.sagemaker.async_run import AsyncRun, Outside
from tokenmill.local.sagemaker.control import in_a_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tokenmill.local.sagemaker.control import SageMaker
    from tokenmill.local.sagemaker.records import Endpoint

PATH = re.compile(r"^/endpoints/([^/]+)/async-invocations$")
# AsyncInferenceClientConfig: without a number SageMaker chooses one; this is the local cloud's.
CONCURRENT_WITHOUT_A_NUMBER = 4
# InvokeEndpointAsync: the defaults of RequestTTLSeconds and InvocationTimeoutSeconds.
TTL_SECONDS = 21_600
TIMEOUT_SECONDS = 900
_HEADERS = {
    "ContentType": "x-amzn-sagemaker-content-type",
    "Accept": "x-amzn-sagemaker-accept",
    "CustomAttributes": "x-amzn-sagemaker-custom-attributes",
    "InferenceId": "x-amzn-sagemaker-inference-id",
    "InputLocation": "x-amzn-sagemaker-inputlocation",
    "S3OutputPathExtension": "x-amzn-sagemaker-s3outputpathextension",
    "Filename": "x-amzn-sagemaker-filename",
    "RequestTTLSeconds": "x-amzn-sagemaker-requestttlseconds",
    "InvocationTimeoutSeconds": "x-amzn-sagemaker-invocationtimeoutseconds",
}


class AsyncInference:
    """The queues of every asynchronous endpoint.

    Args:
        control: The control plane, for endpoints and their instances.
        outside: What the requests reach.
        background: Runs a request beside the queue; a test runs it by hand.
    """

    shapes = ServiceShapes("sagemaker-runtime")

    def __init__(
        self,
        control: SageMaker,
        outside: Outside,
        *,
        background: Callable[[Callable[[], None]], None] = in_a_thread,
    ) -> None:
        self._control = control
        self._outside = outside
        self._background = background
        self._lock = threading.RLock()
        self._waiting: defaultdict[tuple[Scope, str], deque[Invocation]] = defaultdict(deque)
        self._running: defaultdict[tuple[Scope, str], int] = defaultdict(int)

    def answer(
        self, scope: Scope, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Answer one InvokeEndpointAsync: status, headers and body.

        Args:
            scope: Whose endpoint.
            path: The request's path, which `PATH` matches.
            headers: Its headers, names in lower case.
            body: Its body, when the input is given inline.
        """
        match = PATH.match(path)
        assert match is not None  # the router sends nothing else
        params: Params = {"EndpointName": match.group(1), **({"Body": body} if body else {})}
        params |= {name: headers[header] for name, header in _HEADERS.items() if header in headers}
        try:
            given = self.shapes.coerce("InvokeEndpointAsync", params)
            self.shapes.check("InvokeEndpointAsync", given)
            invocation = self.enqueue(scope, given)
        except AwsError as error:
            code = "ValidationError" if error.code == "ValidationException" else error.code
            return AwsError(code, error.message, status=error.status).json_response()
        told = {"content-type": "application/json", "x-amzn-sagemaker-outputlocation": invocation.output}
        if invocation.failure is not None:
            told["x-amzn-sagemaker-failurelocation"] = invocation.failure
        return 202, told, json.dumps({"InferenceId": invocation.id}).encode()

    def enqueue(self, scope: Scope, params: Params) -> Invocation:
        """Put a request into its endpoint's queue.

        Args:
            scope: Whose endpoint.
            params: Validated members of InvokeEndpointAsync.

        Raises:
            AwsError: The endpoint is not there, or has no queue, or the input is given twice or not at all.
        """
        name = params["EndpointName"]
        if name not in self._control.accounts[scope].endpoints:
            raise AwsError("ValidationError", f"Endpoint {name} of account {scope.account} not found.")
        config = self.configuration(scope, name)
        if config is None:
            raise AwsError(
                "ValidationError", f"Endpoint {name} is not configured for asynchronous inference."
            )
        if ("InputLocation" in params) == ("Body" in params):
            raise AwsError("ValidationError", "give the input as InputLocation or as Body, and only as one")
        invocation = _invocation(scope, params, config["OutputConfig"], self._outside.clock())
        with self._lock:
            self._waiting[(scope, name)].append(invocation)
        self.pump(scope, name)
        return invocation

    def configuration(self, scope: Scope, endpoint_name: str) -> Params | None:
        """Return an endpoint's AsyncInferenceConfig; nothing when it has none.

        Args:
            scope: Whose endpoint.
            endpoint_name: The endpoint.
        """
        account = self._control.accounts[scope]
        endpoint = account.endpoints.get(endpoint_name)
        config = account.configs.get(endpoint.config_name) if endpoint else None
        found: Params | None = (config or {}).get("AsyncInferenceConfig")
        return found

    def refusal(self, scope: Scope, endpoint_name: str) -> AwsError | None:
        """Return why an endpoint takes no InvokeEndpoint; nothing when it has no queue.

        Args:
            scope: Whose endpoint.
            endpoint_name: The endpoint.
        """
        if self.configuration(scope, endpoint_name) is None:
            return None
        return AwsError(
            "ValidationError",
            f"Endpoint {endpoint_name} takes asynchronous requests only; use InvokeEndpointAsync.",
        )

    def tick(self) -> None:
        """Publish the queues' metrics, expire what waited too long and start what has room by now."""
        for scope, account in list(self._control.accounts.items()):
            for endpoint in list(account.endpoints.values()):
                config = self.configuration(scope, endpoint.name)
                if config is not None:
                    for invocation in self._expired(scope, endpoint):
                        self._run_of(invocation, config, endpoint).expire()
                    self._publish_backlog(scope, endpoint)
                    self.pump(scope, endpoint.name)

    def pump(self, scope: Scope, endpoint_name: str) -> None:
        """Start waiting requests while the endpoint has room.

        Args:
            scope: Whose endpoint.
            endpoint_name: The endpoint.
        """
        key, config = (scope, endpoint_name), self.configuration(scope, endpoint_name)
        endpoint = self._control.accounts[scope].endpoints.get(endpoint_name)
        if config is None or endpoint is None or endpoint.status in ("Creating", "Failed", "Deleting"):
            return
        per_instance = (config.get("ClientConfig") or {}).get("MaxConcurrentInvocationsPerInstance")
        room = _instances(endpoint) * (per_instance or CONCURRENT_WITHOUT_A_NUMBER)
        started: list[Invocation] = []
        with self._lock:
            while self._waiting[key] and self._running[key] < room:
                self._running[key] += 1
                started.append(self._waiting[key].popleft())
        for invocation in started:
            self._background(partial(self._process, self._run_of(invocation, config, endpoint), key))

    def _process(self, run: AsyncRun, key: tuple[Scope, str]) -> None:
        try:
            run.process()
        finally:
            with self._lock:
                self._running[key] -= 1
        self.pump(*key)

    def _run_of(self, invocation: Invocation, config: Params, endpoint: Endpoint) -> AsyncRun:
        return AsyncRun(invocation, config, endpoint.variants[0].name, self._outside)

    def _expired(self, scope: Scope, endpoint: Endpoint) -> list[Invocation]:
        key, now = (scope, endpoint.name), self._outside.clock()
        with self._lock:
            waiting = list(self._waiting[key])
            old = [each for each in waiting if now - each.received > each.ttl_seconds]
            self._waiting[key] = deque(each for each in waiting if each not in old)
        return old

    def _publish_backlog(self, scope: Scope, endpoint: Endpoint) -> None:
        key, instances = (scope, endpoint.name), _instances(endpoint)
        with self._lock:
            waiting, running = list(self._waiting[key]), self._running[key]
        size, dimensions = len(waiting) + running, {"EndpointName": endpoint.name}
        oldest = self._outside.clock() - waiting[0].received if waiting else 0.0
        record = self._outside.record
        record(scope, "ApproximateBacklogSize", size, "Count", dimensions)
        if instances:
            record(scope, "ApproximateBacklogSizePerInstance", size / instances, "Count", dimensions)
        record(scope, "ApproximateAgeOfOldestRequest", oldest, "Seconds", dimensions)
        record(scope, "HasBacklogWithoutCapacity", float(size > 0 and not instances), "Count", dimensions)


def _instances(endpoint: Endpoint) -> int:
    return sum(variant.instances for variant in endpoint.variants)


def _invocation(scope: Scope, params: Params, output: Params, received: float) -> Invocation:
    token = str(uuid4())
    name: str = params.get("Filename") or f"{token}.out"
    extension: str = params.get("S3OutputPathExtension", "")
    failures: str | None = output.get("S3FailurePath")
    # AsyncInferenceOutputConfig: without a path the answers go to the account's own SageMaker bucket.
    answers = output.get("S3OutputPath") or f"s3://sagemaker-{scope.region}-{scope.account}"
    return Invocation(
        id=params.get("InferenceId") or str(uuid4()),
        scope=scope,
        endpoint=params["EndpointName"],
        input=params.get("InputLocation", ""),
        inline=params.get("Body"),
        output=_joined(answers, extension, name),
        failure=_joined(failures, extension, f"{token}-error.out") if failures else None,
        content_type=params.get("ContentType"),
        accept=params.get("Accept"),
        received=received,
        ttl_seconds=params.get("RequestTTLSeconds", TTL_SECONDS),
        timeout_seconds=params.get("InvocationTimeoutSeconds", TIMEOUT_SECONDS),
    )


def _joined(base: str, *parts: str) -> str:
    split_uri(base)
    return "/".join([base.rstrip("/"), *(part.strip("/") for part in parts if part)])
