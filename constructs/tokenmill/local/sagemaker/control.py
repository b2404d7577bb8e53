"""The SageMaker control plane: models, endpoint configurations, endpoints and inference components.

States and transitions are those of the Amazon SageMaker API Reference, "DescribeEndpoint" (EndpointStatus)
and "DescribeInferenceComponent" (InferenceComponentStatus); how long a transition takes locally is
`startup_seconds`. Wordings of errors are what users of the real service reported, where a report was found.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from tokenmill.local.aws_requests import ModelledService, Params, Scope, ServiceShapes
from tokenmill.local.sagemaker import describe
from tokenmill.local.sagemaker.component_fleet import model_plan
from tokenmill.local.sagemaker.endpoints import EndpointOperations, refuse_existing
from tokenmill.local.sagemaker.records import Account

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tokenmill.local.aws_requests import Operation
    from tokenmill.local.sagemaker.endpoints import ScalingRegistry
    from tokenmill.local.sagemaker.fleet import Fleet

STARTUP_SECONDS = 1.0


def in_a_thread(job: Callable[[], None]) -> None:
    """Run a job beside the caller.

    Args:
        job: What to run.
    """
    threading.Thread(target=job, daemon=True).start()


def no_alarms(_scope: Scope, _name: str) -> str | None:
    """Know of no alarm."""
    return None


def derived_digest(_scope: Scope, image: str) -> str | None:
    """Return an image's digest as its URI gives it: its own, or one that follows from the URI.

    Args:
        image: URI of the image.
    """
    if "@" in image:
        return image.partition("@")[2]
    return f"sha256:{hashlib.sha256(image.encode()).hexdigest()}"


class SageMaker(EndpointOperations, ModelledService):
    """The control plane.

    Args:
        fleet: What runs the copies.
        background: Runs a transition beside its request; a test runs it by hand.
        sleep: Waits that many seconds inside a transition.
        startup_seconds: How long an instance or a copy takes to come up.
    """

    title = "SageMaker"
    shapes = ServiceShapes("sagemaker")

    def __init__(
        self,
        fleet: Fleet,
        *,
        background: Callable[[Callable[[], None]], None] = in_a_thread,
        sleep: Callable[[float], None] = time.sleep,
        startup_seconds: float = STARTUP_SECONDS,
    ) -> None:
        self.fleet = fleet
        self.background = background
        self.sleep = sleep
        self.startup_seconds = startup_seconds
        self.lock = threading.RLock()
        self.accounts: defaultdict[Scope, Account] = defaultdict(Account)
        self.plans: dict[tuple[Scope, str], Params] = {}
        self.alarm_state: Callable[[Scope, str], str | None] = no_alarms
        self.resolve_image: Callable[[Scope, str], str | None] = derived_digest
        self.scaling: ScalingRegistry | None = None
        self._operations: dict[str, Operation] = {
            "CreateModel": self._create_model,
            "DescribeModel": self._describe_model,
            "ListModels": self._list_models,
            "DeleteModel": self._delete_model,
            "CreateEndpointConfig": self._create_config,
            "DescribeEndpointConfig": self._describe_config,
            "ListEndpointConfigs": self._list_configs,
            "DeleteEndpointConfig": self._delete_config,
            "CreateEndpoint": self._create_endpoint,
            "DescribeEndpoint": self._describe_endpoint,
            "UpdateEndpoint": self._update_endpoint,
            "UpdateEndpointWeightsAndCapacities": self._update_capacities,
            "ListEndpoints": self._list_endpoints,
            "DeleteEndpoint": self._delete_endpoint,
            "CreateInferenceComponent": self._create_component,
            "DescribeInferenceComponent": self._describe_component,
            "UpdateInferenceComponent": self._update_component,
            "UpdateInferenceComponentRuntimeConfig": self._update_copies,
            "ListInferenceComponents": self._list_components,
            "DeleteInferenceComponent": self._delete_component,
            "AddTags": self._add_tags,
            "ListTags": self._list_tags,
            "DeleteTags": self._delete_tags,
        }

    def set_faults(self, scope: Scope, request: Mapping[str, Any]) -> None:
        """Inject faults; those that the request does not name stay.

        Args:
            scope: Whose.
            request: The admin call's body.

        Raises:
            TokenmillError: It has another form.
        """
        with self.lock:
            self.accounts[scope].faults.inject(request)

    def _create_model(self, scope: Scope, params: Params) -> Params:
        account, name = self.accounts[scope], params["ModelName"]
        arn = scope.arn("sagemaker", f"model/{name.lower()}")
        refuse_existing(account.models, name, "model", arn)
        account.models[name] = {**params, "ModelArn": arn, "CreationTime": describe.now()}
        self._tag(scope, arn, params)
        return {"ModelArn": arn}

    def _describe_model(self, scope: Scope, params: Params) -> Params:
        return describe.without_tags(self.accounts[scope].model(params["ModelName"], scope))

    def _list_models(self, scope: Scope, params: Params) -> Params:
        return {"Models": describe.listed(self.accounts[scope].models.values(), "Model", params)}

    def _delete_model(self, scope: Scope, params: Params) -> Params:
        self.accounts[scope].model(params["ModelName"], scope)
        del self.accounts[scope].models[params["ModelName"]]
        self.plans.pop((scope, model_plan(params["ModelName"])), None)
        return {}

    def _tag(self, scope: Scope, arn: str, params: Params) -> None:
        tags = {tag["Key"]: tag["Value"] for tag in params.get("Tags") or []}
        self.accounts[scope].tags.setdefault(arn, {}).update(tags)

    def _add_tags(self, scope: Scope, params: Params) -> Params:
        self._tag(scope, params["ResourceArn"], params)
        return {"Tags": self._list_tags(scope, params)["Tags"]}

    def _list_tags(self, scope: Scope, params: Params) -> Params:
        tags = self.accounts[scope].tags.get(params["ResourceArn"], {})
        return {"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}

    def _delete_tags(self, scope: Scope, params: Params) -> Params:
        tags = self.accounts[scope].tags.get(params["ResourceArn"], {})
        for key in params["TagKeys"]:
            tags.pop(key, None)
        return {}
