"""The guard of a deployment: copies stay, scaling waits, and what runs afterwards is what was asked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import aws_cdk as cdk
from constructs import Construct

from tokenmill.endpoints.watched import Late, asked_of, fingerprint
from tokenmill.security import FunctionEntry, FunctionHosting, RuntimeFunction, actions
from tokenmill.security.acknowledge import acknowledge_resources
from tokenmill.security.custom_resource import custom_resource
from tokenmill.security.place import ACCOUNT_ID, PARTITION, REGION, STACK_ID
from tokenmill.security.rights import Right, allow
from tokenmill.security.rules import calling_rule
from tokenmill_runtime.deployment import (
    COPIES_ATTRIBUTE,
    EVENT_TYPE,
    FLEETS_VARIABLE,
    HELD_ATTRIBUTE,
    HOLD_TYPE,
    INSTANCES_ATTRIBUTE,
    RELEASE_TYPE,
    STACK_VARIABLE,
)
from tokenmill_runtime.deployment_fleet import Fleet
from tokenmill_runtime.functions import DEPLOYMENT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aws_cdk import aws_events as events
    from aws_cdk import aws_sagemaker as sagemaker
    from aws_cdk import aws_sqs as sqs

    from tokenmill.core.workload import Capacity
    from tokenmill.endpoints.update_policy import UpdatePolicy

ENTRY = FunctionEntry(
    runs=DEPLOYMENT,
    description="Keeps an endpoint's copies over a deployment and compares what runs with what was asked",
    timeout_seconds=900,
    memory_mb=256,
)
# Lambda runs an asynchronous event that broke once more after a minute and after another two.
ANSWER_SECONDS = 3000
# "Stack status codes" (AWS CloudFormation user guide): where a stack stands still, or only cleans up.
SETTLED = (
    "CREATE_COMPLETE",
    "CREATE_FAILED",
    "ROLLBACK_COMPLETE",
    "ROLLBACK_FAILED",
    "UPDATE_COMPLETE",
    "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS",
    "UPDATE_FAILED",
    "UPDATE_ROLLBACK_COMPLETE",
    "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS",
    "UPDATE_ROLLBACK_FAILED",
)


class Hold:
    """The resource that stands before a change. Made by `Deployment.hold_component` and `hold_variant`.

    Args:
        key: What its construct is named after.
        fleet: The component or the variant.
        capacity: Fewest, most and first copies or instances.
        resource: The custom resource; None where copies are not kept.
        watched: Where the watched resources are put.
    """

    def __init__(
        self,
        *,
        key: str,
        fleet: Fleet,
        capacity: Capacity,
        resource: cdk.CustomResource | None,
        watched: list[cdk.CfnResource],
    ) -> None:
        self.key = key
        self.fleet = fleet
        self.capacity = capacity
        self.resource = resource
        self._watched = watched

    @property
    def copies(self) -> int:
        """The copies to deploy with, a number token: those declared at first, those that run afterwards."""
        return self._attribute(COPIES_ATTRIBUTE, self.capacity.initial)

    @property
    def instances(self) -> int:
        """The same for InitialInstanceCount, which is 1 at least ("ProductionVariant", SageMaker API)."""
        return self._attribute(INSTANCES_ATTRIBUTE, max(1, self.capacity.initial))

    def watch(self, *changing: cdk.CfnResource) -> None:
        """Call the hold whenever one of these resources will change, and before it does.

        Args:
            changing: The component; or the endpoint and its configuration.
        """
        self._watched.extend(changing)
        if self.resource is not None:
            for resource in changing:
                resource.node.add_dependency(self.resource)

    def _attribute(self, name: str, declared: int) -> int:
        if self.resource is None:
            return declared
        # A token of a number is a float that only its encoding makes; whole numbers are what it stands for.
        return cast("int", cdk.Token.as_number(self.resource.get_att(name)))


class Deployment(Construct):
    """One function an endpoint that holds, releases and checks.

    A hold stands before what changes and a release after it; both are called when a digest of the watched
    properties, or the value of a reference in them, changes. A stack that goes back in between never reaches
    the release, so a rule on the stack's status calls the same function. It finds a running endpoint and its
    components by names that do not come from them, because it stands before them.

    Args:
        scope: The endpoint's construct.
        id: The construct's id.
        endpoint_name: The endpoint's name, in lower case and no token.
        policy: What is held and checked.
        replaces: A pattern of the names that the endpoint had before; only its own name otherwise.
        hosting: Network, keys and logs of the function.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        endpoint_name: str,
        policy: UpdatePolicy,
        replaces: str | None = None,
        hosting: FunctionHosting | None = None,
    ) -> None:
        super().__init__(scope, id)
        self.policy = policy
        self.endpoint_name = endpoint_name
        self._fleets: list[Fleet] = []
        self._endpoint_arns = [self._arn(f"endpoint/{name}") for name in (endpoint_name, replaces) if name]
        hosting = hosting or FunctionHosting()
        self.handler = RuntimeFunction(
            self,
            "Function",
            entry=ENTRY,
            environment={STACK_VARIABLE: STACK_ID, FLEETS_VARIABLE: "[]"},
            hosting=hosting,
        )
        self._allow(actions.STACK_READ, [STACK_ID])
        self._allow(actions.ENDPOINT_READ, self._endpoint_arns)
        if replaces is not None:
            reason = "The endpoint had another name with its former instance type, and serves until replaced."
            acknowledge_resources(self.handler.role, {self._endpoint_arns[1]: reason})
        if policy.check is not None and policy.check.prompt is not None:
            self._allow(actions.SMOKE_PROMPT, [self._endpoint_arns[0]])
        if policy.keep_copies:
            self._allow_scaling()
            self.rule = self._rule(hosting.dead_letter_queue)

    def hold_component(self, key: str, *, component_name: str, capacity: Capacity) -> Hold:
        """Return what stands before a component's changes.

        Args:
            key: What the construct is named after, unique in this endpoint.
            component_name: The component's own name, in lower case and no token.
            capacity: Fewest, most and first copies.
        """
        arn = self._arn(f"inference-component/{component_name}")
        self._allow(actions.COMPONENT_READ, [arn])
        if self.policy.keep_copies:
            self._allow(actions.COMPONENT_COUNT, [arn])
        if self.policy.check is not None and self.policy.check.prompt is not None:
            self._allow(actions.SMOKE_PROMPT, [arn])
        return self._hold(key, Fleet(component=component_name), capacity)

    def hold_variant(self, key: str, *, variant: str, capacity: Capacity) -> Hold:
        """Return what stands before a variant's changes.

        Args:
            key: What the construct is named after, unique in this endpoint.
            variant: The variant's name.
            capacity: Fewest, most and first instances.
        """
        if self.policy.keep_copies:
            configs = self._arn("endpoint-config/*")
            self._allow(actions.INSTANCE_COUNT, self._endpoint_arns)
            self._allow(actions.ENDPOINT_CONFIG_READ, [configs])
            reason = "CloudFormation names each configuration when it makes it, after this role is made."
            acknowledge_resources(self.handler.role, {configs: reason})
        return self._hold(key, Fleet(endpoint=self.endpoint_name, variant=variant), capacity)

    def check_component(
        self,
        hold: Hold,
        *,
        component: sagemaker.CfnInferenceComponent,
        endpoint: sagemaker.CfnEndpoint,
        config: sagemaker.CfnEndpointConfig,
        adapters: Sequence[sagemaker.CfnInferenceComponent] = (),
        smoke: bool = True,
    ) -> cdk.CustomResource:
        """Return what stands after a component's changes.

        Args:
            hold: What stands before them.
            component: The component.
            endpoint: Its endpoint.
            config: The endpoint's configuration.
            adapters: The components of its adapters; those that are added later, by `check_adapter`, too.
            smoke: Whether it is sent the policy's prompt.
        """

        return self._release(
            hold,
            asked=lambda: asked_of(component),
            adapters=lambda: [
                {"Component": adapter.inference_component_name, "Asked": asked_of(adapter)}
                for adapter in adapters
            ],
            after=(component, endpoint),
            config=config,
            smoke=smoke,
        )

    def check_adapter(self, release: cdk.CustomResource, *, adapter: sagemaker.CfnInferenceComponent) -> None:
        """Let what stands after a component's changes look at one of its adapters too.

        Args:
            release: What `check_component` returned.
            adapter: The adapter's component, with a name that is no token.
        """
        arn = self._arn(f"inference-component/{adapter.inference_component_name}")
        self._allow(actions.COMPONENT_READ, [arn])
        if self.policy.check is not None and self.policy.check.prompt is not None:
            self._allow(actions.SMOKE_PROMPT, [arn])
        release.node.add_dependency(adapter)

    def check_variant(
        self,
        hold: Hold,
        *,
        endpoint: sagemaker.CfnEndpoint,
        config: sagemaker.CfnEndpointConfig,
        image: str,
    ) -> cdk.CustomResource:
        """Return what stands after a variant's changes.

        Args:
            hold: What stands before them.
            endpoint: The endpoint.
            config: Its configuration.
            image: The URI of the image that the first instance type runs.
        """
        return self._release(
            hold,
            asked=lambda: [{"image": image}],
            adapters=list,
            after=(endpoint,),
            config=config,
            smoke=True,
        )

    def _hold(self, key: str, fleet: Fleet, capacity: Capacity) -> Hold:
        watched: list[cdk.CfnResource] = []
        resource = None
        if self.policy.keep_copies:
            self._fleets.append(fleet)
            ids = json.dumps([item.resource_id for item in self._fleets])
            self.handler.function.add_environment(FLEETS_VARIABLE, ids)
            resource = custom_resource(
                self,
                f"{key}Hold",
                function=self.handler.function,
                resource_type=HOLD_TYPE,
                properties={
                    **_names(fleet),
                    **_bounds(capacity),
                    "Watched": cdk.Lazy.uncached_any(Late(lambda: fingerprint(tuple(watched)))),
                },
                timeout_seconds=ANSWER_SECONDS,
            )
            # The rule has to be there before anything is suspended.
            resource.node.add_dependency(self.rule)
        return Hold(key=key, fleet=fleet, capacity=capacity, resource=resource, watched=watched)

    def _release(
        self,
        hold: Hold,
        *,
        asked: Callable[[], Any],
        adapters: Callable[[], Any],
        after: Sequence[cdk.CfnResource],
        config: sagemaker.CfnEndpointConfig,
        smoke: bool,
    ) -> cdk.CustomResource:
        properties: dict[str, object] = {**_names(hold.fleet), **_bounds(hold.capacity)}
        if hold.resource is None:
            properties["Watched"] = cdk.Lazy.uncached_any(Late(lambda: fingerprint((*after, config))))
        else:
            properties["Copies"] = hold.resource.get_att(COPIES_ATTRIBUTE)
            properties["Held"] = hold.resource.get_att(HELD_ATTRIBUTE)
        check = self.policy.check
        if check is not None:
            properties["EndpointName"] = self.endpoint_name
            properties["ConfigName"] = config.attr_endpoint_config_name
            properties["Asked"] = cdk.Lazy.uncached_any(Late(asked))
            properties["Adapters"] = cdk.Lazy.uncached_any(Late(lambda: adapters() or None))
            if smoke and check.prompt is not None:
                properties["Smoke"] = {
                    "prompt": check.prompt,
                    "max_tokens": check.max_tokens,
                    "wait_seconds": check.wait_seconds,
                }
        resource = custom_resource(
            self,
            f"{hold.key}Release",
            function=self.handler.function,
            resource_type=RELEASE_TYPE,
            properties=properties,
            timeout_seconds=ANSWER_SECONDS,
        )
        resource.node.add_dependency(*after)
        return resource

    def _arn(self, resource: str) -> str:
        return f"arn:{PARTITION}:sagemaker:{REGION}:{ACCOUNT_ID}:{resource}"

    def _allow(
        self, allowed: Sequence[str], resources: Sequence[str], conditions: dict[str, Any] | None = None
    ) -> None:
        allow(self.handler.role, Right(allowed, resources, conditions))

    def _allow_scaling(self) -> None:
        targets = f"arn:{PARTITION}:application-autoscaling:{REGION}:{ACCOUNT_ID}:scalable-target/*"
        self._allow(actions.SCALABLE_TARGET_LIST, ["*"])
        self._allow(
            actions.SCALABLE_TARGET_SUSPEND,
            [targets],
            {"StringEquals": {"application-autoscaling:service-namespace": "sagemaker"}},
        )
        self._allow(actions.SCALABLE_TARGET_MARK, [targets])
        acknowledge_resources(
            self.handler.role,
            {
                targets: "Application Auto Scaling gives a scalable target an id of its own when it is "
                "registered, after this role is made.",
                "*": "DescribeScalableTargets takes no resource in a policy, nor do X-Ray and the network "
                "interfaces of a VPC.",
            },
        )

    def _rule(self, queue: sqs.IQueue | None) -> events.CfnRule:
        return calling_rule(
            self,
            "Settled",
            function=self.handler.function,
            target="Deployment",
            dead_letters=queue,
            description="Resumes scaling when the stack stands still, also after it has gone back",
            event_pattern={
                "source": ["aws.cloudformation"],
                "detail-type": [EVENT_TYPE],
                "detail": {"stack-id": [STACK_ID], "status-details": {"status": list(SETTLED)}},
            },
        )


def _names(fleet: Fleet) -> dict[str, object]:
    if fleet.component is not None:
        return {"Component": fleet.component}
    return {"Endpoint": fleet.endpoint, "Variant": fleet.variant}


def _bounds(capacity: Capacity) -> dict[str, object]:
    return {"Declared": capacity.initial, "Minimum": capacity.minimum, "Maximum": capacity.maximum}
