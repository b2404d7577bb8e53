"""The SageMaker control plane: models, endpoint configurations, endpoints and inference components.

States and transitions are those of the Amazon SageMaker API Reference, "DescribeEndpoint" (EndpointStatus)
and "DescribeInferenceComponent" (InferenceComponentStatus); how long a transition takes locally is
`startup_seconds`. Wordings of errors are what users of the real service reported, where a report was found.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from tokenmill.local.aws_requests import AwsError, Params, Scope, ServiceShapes
from tokenmill.local.sagemaker import describe
from tokenmill.local.sagemaker.components import ComponentOperations, insufficient_capacity
from tokenmill.local.sagemaker.records import Account, Endpoint, Variant

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenmill.local.sagemaker.fleet import Fleet

STARTUP_SECONDS = 1.0


def in_a_thread(job: Callable[[], None]) -> None:
    """Run a job beside the caller.

    Args:
        job: What to run.
    """
    threading.Thread(target=job, daemon=True).start()


class SageMaker(ComponentOperations):
    """The control plane.

    Args:
        fleet: What runs the copies.
        background: Runs a transition beside its request; a test runs it by hand.
        sleep: Waits that many seconds inside a transition.
        startup_seconds: How long an instance or a copy takes to come up.
    """

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
        self._operations: dict[str, Callable[[Scope, Params], Params]] = {
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

    def call(self, scope: Scope, operation: str, params: Params) -> Params:
        """Run one operation.

        Args:
            scope: Whose resources.
            operation: Its name.
            params: Its validated members.

        Raises:
            AwsError: The service refuses, or does not model the operation.
        """
        if operation not in self._operations:
            raise AwsError(
                "UnknownOperationException", f"SageMaker {operation} is not modelled by the local cloud"
            )
        with self.lock:
            return self._operations[operation](scope, params)

    def fail_capacity(self, scope: Scope, instance_types: list[str]) -> None:
        """Make launches of these instance types fail for want of capacity; an empty list ends it.

        Args:
            scope: Whose launches.
            instance_types: SageMaker's names.
        """
        with self.lock:
            self.accounts[scope].capacity_errors = set(instance_types)

    def _create_model(self, scope: Scope, params: Params) -> Params:
        account, name = self.accounts[scope], params["ModelName"]
        arn = scope.arn("sagemaker", f"model/{name.lower()}")
        _refuse_existing(account.models, name, "model", arn)
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
        return {}

    def _create_config(self, scope: Scope, params: Params) -> Params:
        account, name = self.accounts[scope], params["EndpointConfigName"]
        arn = scope.arn("sagemaker", f"endpoint-config/{name.lower()}")
        _refuse_existing(account.configs, name, "endpoint configuration", arn)
        for variant in params["ProductionVariants"]:
            if "ModelName" in variant:
                account.model(variant["ModelName"], scope)
            elif "ExecutionRoleArn" not in params:
                raise AwsError(
                    "ValidationException",
                    "ExecutionRoleArn is required for an endpoint configuration whose variants name no model",
                )
        account.configs[name] = {**params, "EndpointConfigArn": arn, "CreationTime": describe.now()}
        self._tag(scope, arn, params)
        return {"EndpointConfigArn": arn}

    def _describe_config(self, scope: Scope, params: Params) -> Params:
        return describe.without_tags(self.accounts[scope].config(params["EndpointConfigName"], scope))

    def _list_configs(self, scope: Scope, params: Params) -> Params:
        configs = self.accounts[scope].configs.values()
        return {"EndpointConfigs": describe.listed(configs, "EndpointConfig", params)}

    def _delete_config(self, scope: Scope, params: Params) -> Params:
        self.accounts[scope].config(params["EndpointConfigName"], scope)
        del self.accounts[scope].configs[params["EndpointConfigName"]]
        return {}

    def _create_endpoint(self, scope: Scope, params: Params) -> Params:
        account, name = self.accounts[scope], params["EndpointName"]
        config = account.config(params["EndpointConfigName"], scope)
        _refuse_existing(account.endpoints, name, "endpoint", scope.arn("sagemaker", f"endpoint/{name}"))
        endpoint = Endpoint(
            name=name, scope=scope, config_name=params["EndpointConfigName"], variants=_variants(config)
        )
        account.endpoints[name] = endpoint
        self._tag(scope, endpoint.arn, params)
        self.background(lambda: self._bring_up(endpoint, endpoint.variants))
        return {"EndpointArn": endpoint.arn}

    def _describe_endpoint(self, scope: Scope, params: Params) -> Params:
        account = self.accounts[scope]
        return describe.endpoint(account.endpoint(params["EndpointName"], scope), account)

    def _update_endpoint(self, scope: Scope, params: Params) -> Params:
        account = self.accounts[scope]
        endpoint = account.endpoint(params["EndpointName"], scope)
        config = account.config(params["EndpointConfigName"], scope)
        if endpoint.status != "InService":
            raise AwsError("ValidationException", f'Cannot update in-progress endpoint "{endpoint.arn}".')
        variants = _variants(config)
        endpoint.config_name = params["EndpointConfigName"]
        endpoint.deployment = params.get("DeploymentConfig")
        endpoint.move("Updating")
        self.background(lambda: self._bring_up(endpoint, variants))
        return {"EndpointArn": endpoint.arn}

    def _list_endpoints(self, scope: Scope, params: Params) -> Params:
        account = self.accounts[scope]
        found = [describe.endpoint(endpoint, account) for endpoint in account.endpoints.values()]
        return {"Endpoints": describe.listed(found, "Endpoint", params, "EndpointStatus", "LastModifiedTime")}

    def _delete_endpoint(self, scope: Scope, params: Params) -> Params:
        account = self.accounts[scope]
        endpoint = account.endpoint(params["EndpointName"], scope)
        if any(component.endpoint == endpoint.name for component in account.components.values()):
            raise AwsError(
                "ValidationException",
                f'Cannot delete endpoint "{endpoint.arn}" while it hosts inference components.',
            )
        if endpoint.status in ("Creating", "Updating"):
            raise AwsError("ValidationException", f'Cannot delete in-progress endpoint "{endpoint.arn}".')
        endpoint.move("Deleting")
        self.background(lambda: self._take_down(account, endpoint))
        return {}

    def _bring_up(self, endpoint: Endpoint, variants: list[Variant]) -> None:
        """Launch a configuration's instances: Creating or Updating, then InService or Failed."""
        account = self.accounts[endpoint.scope]
        self.sleep(self.startup_seconds)
        refused = [v.instance_type for v in variants if v.instance_type in account.capacity_errors]
        failure = None
        if refused:
            failure = insufficient_capacity(refused[0])
        for variant in variants:
            if failure is None and "ModelName" in variant.config:
                failure = self.launch_variant(endpoint, variant)
        with self.lock:
            updating = endpoint.status == "Updating"
            if failure is None:
                endpoint.variants = variants
                for variant in variants:
                    variant.instances = variant.desired
                self.fit_instances(account, endpoint)
            endpoint.move("InService" if failure is None or updating else "Failed", failure)

    def _take_down(self, account: Account, endpoint: Endpoint) -> None:
        for variant in endpoint.variants:
            self.fleet.stop(f"{endpoint.name}/{variant.name}")
        with self.lock:
            account.endpoints.pop(endpoint.name, None)

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


def _refuse_existing(records: dict[str, Any], name: str, noun: str, arn: str) -> None:
    if name in records:
        raise AwsError("ValidationException", f'Cannot create already existing {noun} "{arn}".')


def _variants(config: Params) -> list[Variant]:
    variants = []
    for variant in config["ProductionVariants"]:
        desired = int(variant.get("InitialInstanceCount", 1))
        variants.append(Variant(config=variant, instances=0, desired=desired))
    return variants
