"""Bedrock in the local cloud, put together: one state behind the APIs, CloudFormation and jobs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tokenmill.core.batch_quotas import batch_quota
from tokenmill.core.errors import TokenmillError
from tokenmill.core.token_quota import burndown
from tokenmill.local.bedrock.batch_run import BatchFaults, BatchRun
from tokenmill.local.bedrock.behaviour import Behaviour, UnitQuotas
from tokenmill.local.bedrock.capacity import Capacity
from tokenmill.local.bedrock.control import BedrockControl
from tokenmill.local.bedrock.converse import Desk
from tokenmill.local.bedrock.guardrails import Guardrails
from tokenmill.local.bedrock.invocation_logs import InvocationLogs
from tokenmill.local.bedrock.profiles import Profiles
from tokenmill.local.bedrock.prompt_tokens import PromptCache
from tokenmill.local.bedrock.prompts import Prompts
from tokenmill.local.bedrock.routing import Routing
from tokenmill.local.bedrock.runtime import PATH, BedrockRuntime
from tokenmill.local.cloudformation.bedrock import bedrock_handlers
from tokenmill_runtime.units_plan import quota_name

if TYPE_CHECKING:
    from tokenmill.local.aws_requests import Params, Scope
    from tokenmill.local.bedrock.control import Publish
    from tokenmill.local.bedrock.converse import Record
    from tokenmill.local.clients import CloudClients
    from tokenmill.local.ministack_seams import Ministack
    from tokenmill.local.rest_json import HttpRequest
    from tokenmill.local.sagemaker.fleet import Fleet

# An account's quotas begin with 0; a local cloud in which nothing can be bought would show nothing.
LOCAL_QUOTAS = {"base": 10, "custom": 10, "committed": 10}
QUOTA_FORM = 'bedrock_quotas takes {"base": UNITS, "custom": UNITS, "committed": UNITS}; each may be left out'
TICK_SECONDS = 0.25
WITHOUT_FORM = "bedrock_without_capacity takes a list of models whose units end Failed; an empty list ends it"
ADMIN = (
    "bedrock_faults",
    "bedrock_capacity",
    "bedrock_quotas",
    "bedrock_batch",
    "bedrock_without_capacity",
)


class Bedrock:
    """The service.

    Args:
        fleet: What runs the model servers.
        clients: boto3 clients of the cloud.
        publish: Sends an event: scope, source, detail type, detail, resources.
        record: Takes a metric of `AWS/Bedrock`.
        startup_seconds: What a step of a purchase or a job takes.
    """

    def __init__(
        self,
        fleet: Fleet,
        clients: CloudClients,
        *,
        publish: Publish,
        record: Record,
        startup_seconds: float,
    ) -> None:
        self.control = BedrockControl(
            behaviour=Behaviour(
                creating_seconds=3 * startup_seconds,
                updating_seconds=2 * startup_seconds,
                job_seconds=4 * startup_seconds,
                job_step_seconds=startup_seconds,
            ),
            quotas=UnitQuotas(**LOCAL_QUOTAS),
        )
        self.control.publish = publish
        self.guardrails, self.profiles = Guardrails(self.control), Profiles(self.control)
        for part in (self.guardrails, self.profiles):
            self.control.add_operations(part.operations())
        self.prompts = Prompts(self.control)
        self.capacity = Capacity()
        routing = Routing(self.control, self.profiles, self.prompts)
        desk = Desk(
            capacity=self.capacity,
            guardrails=self.guardrails,
            cache=PromptCache(),
            burndown=lambda model: burndown(model).factor,
            record=record,
        )
        logs = InvocationLogs(self.control.logging, clients, record)
        self.runtime = BedrockRuntime(fleet, routing, desk, logs)
        self.batch = BatchRun(self.control, routing, clients, fleet)

    def serves(self, method: str, path: str) -> bool:
        """Whether a request is one of those that are modelled here.

        Args:
            method: Its method.
            path: Its path, percent-encoded.
        """
        control = self.control.shapes.find(method, path) is not None
        return PATH.match(path) is not None or control or self.prompts.serves(method, path)

    async def answer(self, scope: Scope, request: HttpRequest, send: Any) -> None:
        """Answer a request that `serves` knows.

        Args:
            scope: Who calls.
            request: The request.
            send: ASGI send.
        """
        if PATH.match(request.path):
            await self.runtime.invoke(scope, request, send)
            return
        if self.prompts.serves(request.method, request.path):
            answer = self.prompts.shapes.answer(
                request, lambda name, params: self.prompts.call(scope, name, params)
            )
        else:
            # A change of a job's status sends events, whose targets may call back.
            told = await asyncio.to_thread(self.control.answer, scope, request)
            # What breaks a connection elsewhere is an answer without a reason here.
            answer = told or (500, {}, b"{}")
        status, headers, body = answer
        raw = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": body})

    def handlers(self, ministack: Ministack) -> dict[str, Any]:
        """Return the CloudFormation handlers by resource type.

        Args:
            ministack: MiniStack's modules.
        """
        return dict(bedrock_handlers(ministack, self.control, self.prompts))

    async def keep_time(self) -> None:
        """Give jobs their statuses when their time comes; cancel the task to stop."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            await asyncio.to_thread(self.control.tick)

    def admin(self, scope: Scope, request: Params) -> None:
        """Set faults, capacities and quotas; those that the request does not name stay.

        Args:
            scope: Whose.
            request: The admin call's body.

        Raises:
            TokenmillError: It has another form.
        """
        if "bedrock_faults" in request:
            self.control.faults.inject(request["bedrock_faults"])
        if "bedrock_capacity" in request:
            self.capacity.set_limits(scope, request["bedrock_capacity"])
        if "bedrock_batch" in request:
            self.batch.faults[scope] = BatchFaults.of(request["bedrock_batch"])
        if "bedrock_quotas" in request:
            self._set_quotas(request["bedrock_quotas"])
        if "bedrock_without_capacity" in request:
            self._set_without_capacity(request["bedrock_without_capacity"])

    def _set_quotas(self, request: object) -> None:
        if not isinstance(request, dict) or not set(request) <= set(LOCAL_QUOTAS):
            raise TokenmillError(QUOTA_FORM)
        if not all(type(units) is int and units >= 0 for units in request.values()):
            raise TokenmillError(QUOTA_FORM)
        for name, units in request.items():
            setattr(self.control.quotas, name, units)

    def _set_without_capacity(self, request: object) -> None:
        if not isinstance(request, list) or not all(isinstance(model, str) for model in request):
            raise TokenmillError(WITHOUT_FORM)
        self.control.provisioned.without_capacity = set(request)

    def quotas(self, scope: Scope) -> dict[str, float]:
        """Return the quotas that are applied, by their names in Service Quotas.

        Args:
            scope: Whose.
        """
        units, batch = self.control.quotas, batch_quota()
        named: dict[str, float] = {
            quota_name(custom=False): units.base,
            quota_name(custom=True): units.custom,
            "Minimum number of records per batch inference job": batch.minimum_records,
            "Records per batch inference job": batch.records_per_job,
        }
        for model, tokens in self.capacity.limits(scope)["on_demand"].items():
            named[f"On-demand model inference tokens per minute for {model}"] = tokens
        return named

    def units(self, scope: Scope) -> list[Params]:
        """Return the model units that are paid for, as `tokenmill status` shows them.

        Args:
            scope: Whose.
        """
        now = self.control.clock()
        return [
            {
                "name": model.name,
                "model": model.model.rsplit("/", 1)[-1],
                "units": model.units,
                "status": model.status(now),
                "commitment": model.commitment or "none",
            }
            for model in self.control.provisioned.owned(scope)
        ]

    async def close(self) -> None:
        """Close the connections."""
        await self.runtime.close()
