"""Bedrock's control plane, in process: what exists, who asked for it, and what goes wrong.

Source: Amazon Bedrock API Reference, and the service model that botocore ships; every request and every
answer is checked against that model.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tokenmill.local.aws_requests import AwsError, ModelledService
from tokenmill.local.bedrock.behaviour import Behaviour, UnitQuotas
from tokenmill.local.bedrock.client_tokens import ClientTokens
from tokenmill.local.bedrock.custom_models import CustomModels
from tokenmill.local.bedrock.deployments import Deployments
from tokenmill.local.bedrock.faults import ACTS, Faults, error_of
from tokenmill.local.bedrock.invocation_jobs import InvocationJobs
from tokenmill.local.bedrock.logging_settings import LoggingSettings
from tokenmill.local.bedrock.model_jobs import ModelJobs
from tokenmill.local.bedrock.models import FoundationModels
from tokenmill.local.bedrock.provisioned import ProvisionedModels
from tokenmill.local.bedrock.tags import Tags
from tokenmill.local.rest_json import RestShapes

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenmill.local.aws_requests import Operation, Params, Scope
    from tokenmill.local.rest_json import Answer, HttpRequest

    Publish = Callable[[Scope, str, str, Params, list[str]], None]


class BedrockControl(ModelledService):
    """The control plane.

    Args:
        clock: Seconds since 1970.
        behaviour: Times, and what AWS's pages leave open.
        quotas: Model units that every account may have.
    """

    title = "Bedrock"
    shapes = RestShapes("bedrock")

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        behaviour: Behaviour | None = None,
        quotas: UnitQuotas | None = None,
    ) -> None:
        self.clock = clock
        self.behaviour = behaviour or Behaviour()
        self.quotas = quotas or UnitQuotas()
        self.faults = Faults()
        self.lock = threading.RLock()
        self.publish: Publish = _unheard
        self.tags = Tags()
        self.tokens = ClientTokens(self)
        self.models = FoundationModels(self)
        self.custom_models = CustomModels(self)
        self.deployments = Deployments(self)
        self.provisioned = ProvisionedModels(self)
        self.model_jobs = ModelJobs(self)
        self.invocation_jobs = InvocationJobs(self)
        self.logging = LoggingSettings()
        self._made: defaultdict[Scope, int] = defaultdict(int)
        self._operations: dict[str, Operation] = {}
        for operations in (
            self.tags.operations(),
            self.models.operations(),
            self.custom_models.operations(),
            self.deployments.operations(),
            self.provisioned.operations(),
            self.model_jobs.operations(),
            self.invocation_jobs.operations(),
            self.logging.operations(),
        ):
            self.add_operations(operations)

    def call(self, scope: Scope, operation: str, params: Params) -> Params:
        """Run one operation; its answer is checked against the model as well.

        Args:
            scope: Whose resources.
            operation: Its name.
            params: Its validated members.

        Raises:
            AwsError: The service refuses, or does not model the operation.
        """
        with self.lock:
            answered = super().call(scope, operation, params)
            answer = {name: value for name, value in answered.items() if value is not None}
        self.shapes.check_answer(operation, answer)
        return answer

    def answer(self, scope: Scope, request: HttpRequest) -> Answer | None:
        """Answer one request over HTTP; None means that its connection breaks.

        Args:
            scope: Whose resources.
            request: The request.
        """
        try:
            operation, params = self.shapes.parse(request)
            fault = self.faults.take(operation)
            if fault is None:
                return self.shapes.render(operation, self.call(scope, operation, params))
        except AwsError as error:
            return self.shapes.refuse(error)
        if fault.kind in ACTS:
            self._act_unheard(scope, operation, params)
        if fault.kind in ("dropped", "lost"):
            return None
        return self.shapes.refuse(error_of(fault, operation))

    def _act_unheard(self, scope: Scope, operation: str, params: Params) -> None:
        with contextlib.suppress(AwsError):
            self.call(scope, operation, params)

    def tick(self) -> None:
        """Give jobs the statuses whose time has come, so that events are sent without anybody asking."""
        with self.lock:
            self.model_jobs.tick()
            self.invocation_jobs.tick()

    def now(self) -> datetime:
        """The time as the API shows it."""
        return datetime.fromtimestamp(self.clock(), UTC)

    def new_id(self, scope: Scope) -> str:
        """Return an id of twelve letters and digits that the account has not had.

        Args:
            scope: Whose id.
        """
        self._made[scope] += 1
        return hashlib.sha256(f"{scope.account}/{scope.region}/{self._made[scope]}".encode()).hexdigest()[:12]


def _unheard(scope: Scope, source: str, detail_type: str, detail: Params, resources: list[str]) -> None:
    """Nobody listens to events where no bus is."""
