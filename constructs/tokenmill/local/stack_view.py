"""What is deployed, read through the AWS API: a stack's gateway, its endpoints, the numbers for `status`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenmill.local.aws_requests import Params, Scope
from tokenmill.local.gateway_supervisor import GatewaySupervisor, find_gateway
from tokenmill.local.levels import level_of

if TYPE_CHECKING:
    from tokenmill.local.cloud_app import LocalCloud

CONTROL_LOOP = "target tracking, steps and schedules act on SageMaker's capacities, in real time"

# What the CDK names the outputs that one stack makes for another.
_BETWEEN_STACKS = "ExportsOutput"


class StackView:
    """Follows deployments and describes them.

    Args:
        cloud: The cloud.
        gateway: The gateway's process.
        endpoint: The cloud's AWS endpoint.
    """

    def __init__(self, cloud: LocalCloud, gateway: GatewaySupervisor, *, endpoint: str) -> None:
        self._cloud = cloud
        self._gateway = gateway
        self._endpoint = endpoint
        self._clients: dict[tuple[Scope, str], Any] = {}
        cloud.ministack.on_delete("AWS::ApiGateway::RestApi", gateway.leave)
        cloud.admin["settle"] = self.settle
        cloud.admin["status"] = self.status

    def client(self, scope: Scope, service: str) -> Any:
        """Return a boto3 client of the cloud.

        Args:
            scope: Whose resources it sees.
            service: boto3's name of the service.
        """
        import boto3

        if (scope, service) not in self._clients:
            make: Any = boto3.client  # its overloads want a literal name
            self._clients[(scope, service)] = make(
                service,
                endpoint_url=self._endpoint,
                region_name=scope.region,
                aws_access_key_id=scope.account,
                aws_secret_access_key="local",
            )
        return self._clients[(scope, service)]

    def settle(self, request: Params) -> Params:
        """Bring the processes into step with a stack: plans, model servers that died, the gateway.

        Args:
            request: `account`, `region` and `stack`.

        Raises:
            TokenmillError: A process does not come up.
        """
        scope = Scope(request["account"], request["region"])
        resources = self._resources(scope, request["stack"])
        components = {
            resource["LogicalResourceId"]: resource["PhysicalResourceId"].rsplit("/", 1)[-1]
            for resource in resources
            if resource["ResourceType"] == "AWS::SageMaker::InferenceComponent"
        }
        self._cloud.refresh_plans(scope, request["stack"], components)
        restarted = self._cloud.fleet.restart_dead()
        gateway = find_gateway(lambda service: self.client(scope, service), resources)
        answer: Params = {"restarted_models": restarted, "base_url": None, "gateway_restarted": False}
        if gateway is not None:
            answer["gateway_restarted"] = self._gateway.follow(
                gateway, account=scope.account, clients=lambda service: self.client(scope, service)
            )
            answer["base_url"] = f"http://127.0.0.1:{self._gateway.port}/v1"
        answer["levels"] = self._levels(resources)
        answer["outputs"] = self._outputs(scope, request["stack"])
        return answer

    def status(self, request: Params) -> Params:
        """Return what is there.

        Args:
            request: `account`, `region` and `stack`.
        """
        scope = Scope(request["account"], request["region"])
        resources = self._resources(scope, request["stack"])
        sagemaker = self._cloud.sagemaker
        endpoints = sagemaker.call(scope, "ListEndpoints", {})["Endpoints"]
        components = [
            sagemaker.call(scope, "DescribeInferenceComponent", {"InferenceComponentName": name})
            for name in sagemaker.accounts[scope].components
        ]
        alarms = self.client(scope, "cloudwatch").describe_alarms()["MetricAlarms"]
        pages = self.client(scope, "cloudwatch").get_paginator("list_metrics").paginate()
        return {
            "gateway": {
                "pid": self._gateway.pid,
                "running": self._gateway.running,
                "port": self._gateway.port,
            },
            "model_servers": self._cloud.fleet.describe(),
            "endpoints": endpoints,
            "components": [
                {
                    "name": component["InferenceComponentName"],
                    "status": component["InferenceComponentStatus"],
                    **component["RuntimeConfig"],
                }
                for component in components
            ],
            "scalable_targets": self._cloud.autoscaling.call(
                scope, "DescribeScalableTargets", {"ServiceNamespace": "sagemaker"}
            )["ScalableTargets"],
            "scaling_policies": self._cloud.autoscaling.call(
                scope, "DescribeScalingPolicies", {"ServiceNamespace": "sagemaker"}
            )["ScalingPolicies"],
            "control_loop": CONTROL_LOOP,
            "model_units": self._cloud.others.bedrock.units(scope),
            "alarms": [
                {"name": alarm["AlarmName"], "state": alarm["StateValue"], "reason": alarm["StateReason"]}
                for alarm in alarms
            ],
            "metrics": sorted(
                {
                    f"{metric['Namespace']} {metric['MetricName']}"
                    for page in pages
                    for metric in page["Metrics"]
                }
            ),
            "levels": self._levels(resources),
        }

    def _resources(self, scope: Scope, stack: str) -> list[dict[str, str]]:
        client = self.client(scope, "cloudformation")
        known = {found["StackName"]: found["StackStatus"] for found in client.describe_stacks()["Stacks"]}
        if stack not in known:
            return []
        pages = client.get_paginator("list_stack_resources").paginate(StackName=stack)
        return [resource for page in pages for resource in page["StackResourceSummaries"]]

    def _outputs(self, scope: Scope, stack: str) -> dict[str, str]:
        [found] = self.client(scope, "cloudformation").describe_stacks(StackName=stack)["Stacks"]
        outputs = {entry["OutputKey"]: entry["OutputValue"] for entry in found.get("Outputs", [])}
        return {name: value for name, value in outputs.items() if not name.startswith(_BETWEEN_STACKS)}

    def _levels(self, resources: list[dict[str, str]]) -> list[dict[str, Any]]:
        counts: dict[str, int] = {}
        for resource in resources:
            counts[resource["ResourceType"]] = counts.get(resource["ResourceType"], 0) + 1
        levels = [(level_of(name), count) for name, count in sorted(counts.items())]
        return [
            {"type": entry.type, "level": str(entry.level), "count": count, "note": entry.note}
            for entry, count in levels
        ]
