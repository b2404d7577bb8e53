"""The ASGI application of the local cloud: our services by their credential scope, MiniStack for the rest."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from tokenmill.core.errors import TokenmillError
from tokenmill.local.autoscaling import AutoScaling
from tokenmill.local.autoscaling.ministack_alarms import MinistackAlarms
from tokenmill.local.aws_requests import AwsError, ModelledService, Params, Scope, dispatch
from tokenmill.local.bedrock.service import ADMIN
from tokenmill.local.cloudformation import register
from tokenmill.local.cloudwatch.alarms import check_alarm, next_state
from tokenmill.local.cloudwatch.emf import metrics_of
from tokenmill.local.cloudwatch.metric_math import MetricMathError
from tokenmill.local.other_services import OtherServices
from tokenmill.local.rest_json import HttpRequest
from tokenmill.local.sagemaker import async_inference, runtime
from tokenmill.local.sagemaker.capacities import SageMakerCapacities
from tokenmill.local.sagemaker.control import STARTUP_SECONDS, SageMaker
from tokenmill.local.sagemaker.faults import FORM

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, MutableMapping

    from tokenmill.local.ministack_seams import Ministack
    from tokenmill.local.sagemaker.fleet import ModelServers

    Message = MutableMapping[str, Any]

ALARM_SECONDS = 5.0
ADMIN_PREFIX = "/_tokenmill/"
_CREDENTIAL = re.compile(r"Credential=([^/]+)/[^/]+/([^/]+)/([^/]+)/")


class LocalCloud:
    """MiniStack and the services that it lacks.

    Args:
        ministack: MiniStack's modules.
        fleet: The model servers.
        startup_seconds: How long an instance or a copy takes to come up.
    """

    def __init__(
        self, ministack: Ministack, fleet: ModelServers, *, startup_seconds: float = STARTUP_SECONDS
    ) -> None:
        self.ministack = ministack
        self.fleet = fleet
        self.sagemaker = SageMaker(fleet, startup_seconds=startup_seconds)
        alarms = MinistackAlarms(ministack)
        self.autoscaling = AutoScaling(
            capacities=SageMakerCapacities(self.sagemaker), alarms=alarms, statistic=ministack.statistic
        )
        self.sagemaker.alarm_state, self.sagemaker.scaling = alarms.state, self.autoscaling
        alarms.on_action(self.autoscaling.alarm_evaluated)
        self.sagemaker_runtime = runtime.SageMakerRuntime(
            self.sagemaker, record=partial(self._record, "AWS/SageMaker")
        )
        self.others = OtherServices(
            ministack,
            self.sagemaker,
            self.sagemaker_runtime,
            record=partial(self._record, "AWS/SageMaker"),
            record_bedrock=partial(self._record, "AWS/Bedrock"),
        )
        self.components = register(ministack, self.sagemaker, self.autoscaling, self.others.handlers)
        self.admin: dict[str, Callable[[Params], Params]] = {"faults": self._faults}
        self._inner = ministack.app.app
        ministack.on_log_events(self._metrics_from_logs)
        ministack.cloudwatch._evaluate_alarm = self._evaluate

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        path: str = scope["path"]
        if path.startswith(ADMIN_PREFIX):
            body = await _read(receive)
            await _send(send, *await self._answer_admin(path.removeprefix(ADMIN_PREFIX), body))
            return
        credential = _CREDENTIAL.search(headers.get("authorization", ""))
        service = credential.group(3) if credential else ""
        target = headers.get("x-amz-target", "")
        if service == "sagemaker" and runtime.PATH.match(path):
            body, caller = await _read(receive), self._scope(credential)
            refused = self.others.async_inference.refusal(caller, path.split("/")[2])
            if refused is not None:
                await _send(send, *refused.json_response())
                return
            answer = self.sagemaker_runtime.invoke(caller, path, headers, body, send)
            await _until_gone(receive, answer)
        elif service == "sagemaker" and async_inference.PATH.match(path):
            body = await _read(receive)
            queue = self.others.async_inference
            await _send(send, *queue.answer(self._scope(credential), path, headers, body))
        elif service == "sagemaker" and target:
            await self._json(self.sagemaker, self._scope(credential), target, receive, send)
        elif service == "codebuild":
            await self._json(self.others.codebuild, self._scope(credential), target, receive, send)
        elif service == "application-autoscaling":
            await self._json(self.autoscaling, self._scope(credential), target, receive, send)
        elif service == "servicequotas":
            await self._json(self.others.service_quotas, self._scope(credential), target, receive, send)
        elif service == "bedrock" and self.others.bedrock.serves(scope["method"], encoded := _encoded(scope)):
            request = HttpRequest(
                method=scope["method"],
                path=encoded,
                query=scope["query_string"].decode("latin-1"),
                headers=headers,
                body=await _read(receive),
            )
            await _until_gone(receive, self.others.bedrock.answer(self._scope(credential), request, send))
        else:
            await self._inner(scope, receive, send)

    async def watch_alarms(self) -> None:
        """Evaluate every alarm every five seconds; cancel the task to stop."""
        while True:
            await asyncio.sleep(ALARM_SECONDS)
            for account, region, _ in [key for key, _ in self.ministack.cloudwatch._alarms.all_items()]:
                scope = Scope(account, region)
                self.ministack.enter(scope)
                for alarm in self.ministack.alarms():
                    self._evaluate(alarm)
                    self.autoscaling.alarm_evaluated(scope, alarm)
            self.autoscaling.tick()
            self.others.async_inference.tick()

    async def close(self) -> None:
        """Stop the model servers and close the connections."""
        await asyncio.to_thread(self.fleet.stop_all)
        await self.sagemaker_runtime.close()
        await self.others.bedrock.close()

    def refresh_plans(self, scope: Scope, stack: str, components: Mapping[str, str]) -> None:
        """Give components the plans of their stack's template, and start those again whose plan changed.

        Args:
            scope: Whose stack.
            stack: Its name.
            components: Names of its components by their logical ids.
        """
        self.ministack.enter(scope)
        for logical_id, name in components.items():
            self.components.remember_plan(stack, logical_id, name)
            self.sagemaker.follow_plan(scope, name)

    async def _json(
        self, service: ModelledService, scope: Scope, target: str, receive: Any, send: Any
    ) -> None:
        body = await _read(receive)
        answer = dispatch(
            service.shapes, target, body, lambda name, params: service.call(scope, name, params)
        )
        await _send(send, *answer)

    def _scope(self, credential: re.Match[str] | None) -> Scope:
        assert credential is not None  # a service was named
        self.ministack.responses.set_request_account_id(credential.group(1))
        return Scope(self.ministack.responses.get_account_id(), credential.group(2))

    async def _answer_admin(self, name: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        kind = {"content-type": "application/json"}
        if name not in self.admin:
            return (
                404,
                kind,
                json.dumps({"error": f"no admin call {name}; there are {sorted(self.admin)}"}).encode(),
            )
        try:
            request = json.loads(body or b"{}")
        except ValueError as error:
            return 400, kind, json.dumps({"error": f"the body is not JSON: {error}"}).encode()
        try:
            answer = await asyncio.to_thread(self.admin[name], request)
        except (TokenmillError, AwsError) as error:
            return 400, kind, json.dumps({"error": str(error)}).encode()
        return 200, kind, json.dumps(answer, default=str).encode()

    def _faults(self, request: Params) -> Params:
        if not {"account", "region"} <= set(request):
            raise TokenmillError(f'{FORM}; "failing_builds": {{"PROJECT": "FAILED"}} makes builds end badly')
        scope = Scope(request["account"], request["region"])
        of_sagemaker = {k: v for k, v in request.items() if k not in ("failing_builds", *ADMIN)}
        self.others.bedrock.admin(scope, request)
        if "failing_builds" in request:
            self.others.codebuild.fail_builds(scope, request["failing_builds"])
        if len(of_sagemaker) > len(("account", "region")) or of_sagemaker == request:
            self.sagemaker.set_faults(scope, of_sagemaker)
        return request

    def _record(
        self, namespace: str, scope: Scope, name: str, value: float, unit: str, dimensions: Mapping[str, str]
    ) -> None:
        self.ministack.enter(scope)
        self.ministack.cloudwatch.record_metric(namespace, name, value, unit, dict(dimensions))

    def _metrics_from_logs(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            for datum in metrics_of(event["message"]):
                self.ministack.store(datum)

    def _evaluate(self, alarm: dict[str, Any]) -> None:
        now = time.time()
        changed: tuple[str, str] | None
        try:
            check_alarm(alarm)
            changed = next_state(alarm, self.ministack.statistic, now)
        except MetricMathError as error:
            changed = ("INSUFFICIENT_DATA", f"Not evaluated: {error}")
        if changed is not None:
            self.ministack.change_alarm(alarm, *changed, now)


def _encoded(scope: Message) -> str:
    """Return a request's path as it was sent: an ARN in it has its slashes percent-encoded."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.decode("latin-1").partition("?")[0]


async def _read(receive: Any) -> bytes:
    parts, more = [], True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


async def _until_gone(receive: Any, answer: Coroutine[Any, Any, None]) -> None:
    """Run an answer until its end, or until its client is gone: the model then stops, as vLLM does."""
    answering = asyncio.create_task(answer)
    watching = asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait((answering, watching), return_when=asyncio.FIRST_COMPLETED)
    finally:
        watching.cancel()
        if not answering.done():
            answering.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await answering


async def _gone(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send(send: Any, status: int, headers: Mapping[str, str], body: bytes) -> None:
    raw = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
    raw.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
