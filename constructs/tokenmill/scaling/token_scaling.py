"""Scale the copies of an inference component on the work that tokens make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from aws_cdk import aws_applicationautoscaling as autoscaling
from constructs import Construct

from tokenmill.core.errors import TokenmillError
from tokenmill.endpoints.base import COPIES_DIMENSION, INSTANCES_DIMENSION, LlmEndpointBase
from tokenmill.scaling.policy import TokenScalingPolicy
from tokenmill.scaling.wake_up import START_SECONDS, WakeUp, check_start
from tokenmill_runtime.metric_contract import BY_NAME, COPIES, NAMESPACE, TARGET_DIMENSION, TOKEN_WORK

if TYPE_CHECKING:
    from tokenmill.core.plan import Plan
    from tokenmill.core.workload import Capacity
    from tokenmill.endpoints.base import EndpointBase
    from tokenmill.scaling.office_hours import OfficeHours

SECONDS_A_PERIOD = 60
SAFETY_METRICS = {
    COPIES_DIMENSION: "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution",
    INSTANCES_DIMENSION: "SageMakerVariantConcurrentRequestsPerModelHighResolution",
}


class TokenScaling(Construct):
    """Copies follow token work; concurrency is the safety net.

    Two target-tracking policies: percent of time that a copy is busy with token work (a custom metric, which
    Application Auto Scaling reads once a minute), and SageMaker's ten-second count of concurrent requests a
    copy, which only adds copies: without traffic it has no data, and a policy without data would hold every
    scale-in back ("Target tracking scaling policies for Application Auto Scaling").

    The percent is metric math, which the L2 construct refuses, so both policies are L1 ("Create a target
    tracking scaling policy for Application Auto Scaling using metric math"; at most 50 KB, SageMaker
    allowed). Copies are repeated over a missed heartbeat; token work is not filled, because missing must not
    read as idle.

    With a minimum of 0 an idle model has no copies, and `wake_up` starts one when a request found none.

    Args:
        scope: The parent construct.
        id: The construct's id.
        endpoint: The endpoint, or an imported component.
        capacity: Fewest and most copies.
        policy: When copies are added and removed.
        hours: When copies run at all; always otherwise.
        start_seconds: Longest time that a copy takes to start, in seconds; waking up waits so long.

    Raises:
        TokenmillError: If the endpoint is asynchronous, the fewest copies are 0 and the endpoint cannot be
            without copies, or hours are given and the fewest copies are not 0.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        endpoint: EndpointBase,
        capacity: Capacity,
        policy: TokenScalingPolicy,
        hours: OfficeHours | None = None,
        start_seconds: int = START_SECONDS,
    ) -> None:
        _check(endpoint, capacity, hours)
        check_start(start_seconds)
        super().__init__(scope, id)
        self.policy = policy
        self.target = autoscaling.CfnScalableTarget(
            self,
            "Target",
            service_namespace="sagemaker",
            scalable_dimension=endpoint.scalable_dimension,
            resource_id=endpoint.scaling_resource_id,
            min_capacity=capacity.minimum if hours is None else hours.copies,
            max_capacity=capacity.maximum,
            scheduled_actions=None if hours is None else _schedule(hours, capacity),
        )
        self._target_id = self.target.ref
        self.token_work_policy = self._policy("TokenWork", self._token_work(endpoint.metric_target))
        self.concurrency_policy = self._policy("Concurrency", self._concurrency(endpoint.scalable_dimension))
        self.wake_up: WakeUp | None = None
        if isinstance(endpoint, LlmEndpointBase) and _wakes(capacity, hours):
            self.wake_up = WakeUp(
                self, "WakeUp", endpoint=endpoint, target=self.target, start_seconds=start_seconds
            )

    @classmethod
    def from_plan(cls, scope: Construct, id: str, *, endpoint: EndpointBase, plan: Plan) -> Self:
        """Return the scaling of a plan's chosen candidate.

        Args:
            scope: The parent construct.
            id: The construct's id.
            endpoint: The endpoint that was made from the same plan.
            plan: The plan.

        Raises:
            NoPlanError: Nothing in the plan meets the goals.
        """
        chosen = plan.chosen
        policy = TokenScalingPolicy.from_candidate(chosen)
        return cls(scope, id, endpoint=endpoint, capacity=chosen.capacity, policy=policy)

    def _policy(
        self,
        name: str,
        tracking: autoscaling.CfnScalingPolicy.TargetTrackingScalingPolicyConfigurationProperty,
    ) -> autoscaling.CfnScalingPolicy:
        return autoscaling.CfnScalingPolicy(
            self,
            name,
            policy_name=name,
            policy_type="TargetTrackingScaling",
            scaling_target_id=self._target_id,
            target_tracking_scaling_policy_configuration=tracking,
        )

    def _token_work(
        self, component: str
    ) -> autoscaling.CfnScalingPolicy.TargetTrackingScalingPolicyConfigurationProperty:
        query = autoscaling.CfnScalingPolicy.TargetTrackingMetricDataQueryProperty
        busy = query(
            id="busy_percent",
            expression=f"100 * work / ({SECONDS_A_PERIOD} * FILL(copies, REPEAT))",
            label="Busy percent of a copy",
            return_data=True,
        )
        return autoscaling.CfnScalingPolicy.TargetTrackingScalingPolicyConfigurationProperty(
            target_value=self.policy.target_utilization_percent,
            scale_in_cooldown=self.policy.scale_in_cooldown_seconds,
            scale_out_cooldown=self.policy.scale_out_cooldown_seconds,
            customized_metric_specification=autoscaling.CfnScalingPolicy.CustomizedMetricSpecificationProperty(
                metrics=[
                    _stat("work", TOKEN_WORK, component),
                    _stat("copies", COPIES, component),
                    busy,
                ]
            ),
        )

    def _concurrency(
        self, dimension: str
    ) -> autoscaling.CfnScalingPolicy.TargetTrackingScalingPolicyConfigurationProperty:
        return autoscaling.CfnScalingPolicy.TargetTrackingScalingPolicyConfigurationProperty(
            target_value=self.policy.concurrent_requests_per_copy,
            disable_scale_in=True,
            scale_out_cooldown=self.policy.scale_out_cooldown_seconds,
            predefined_metric_specification=autoscaling.CfnScalingPolicy.PredefinedMetricSpecificationProperty(
                predefined_metric_type=SAFETY_METRICS[dimension]
            ),
        )


def _check(endpoint: EndpointBase, capacity: Capacity, hours: OfficeHours | None) -> None:
    if endpoint.answers_async:
        raise TokenmillError(
            "endpoint is asynchronous, where SageMaker publishes no concurrent requests and no gateway "
            "counts tokens; use BacklogScaling"
        )
    if endpoint.scalable_dimension == INSTANCES_DIMENSION and capacity.minimum == 0:
        raise TokenmillError(
            "capacity.minimum is 0, but only an endpoint of inference components can be without instances; "
            "give 1 or more, or use LlmEndpoint instead of VariantEndpoint"
        )
    fewest = endpoint.fewest_copies
    if capacity.minimum == 0 and fewest:
        raise TokenmillError(
            f"capacity.minimum is 0, but the endpoint keeps the instances of {fewest}; give the endpoint the "
            "same capacity, so that its instances may go too"
        )
    most = endpoint.most_copies
    if most is not None and capacity.maximum > most:
        raise TokenmillError(
            f"capacity.maximum is {capacity.maximum}, but the endpoint has room for {most} at the most; give "
            "the endpoint the same capacity, so that there may be instances for them"
        )
    if hours is None:
        return
    if capacity.minimum != 0:
        raise TokenmillError(
            f"hours are given and capacity.minimum is {capacity.minimum}; outside of the hours there is no "
            "copy, so give both endpoint and scaling capacity.minimum = 0, and hours.copies for the day"
        )
    if hours.copies > capacity.maximum:
        raise TokenmillError(
            f"hours.copies is {hours.copies}, but capacity.maximum is {capacity.maximum}; give "
            f"{capacity.maximum} or less"
        )


def _wakes(capacity: Capacity, hours: OfficeHours | None) -> bool:
    return capacity.minimum == 0 and (hours is None or hours.copies == 0)


def _schedule(
    hours: OfficeHours, capacity: Capacity
) -> list[autoscaling.CfnScalableTarget.ScheduledActionProperty]:
    cfn = autoscaling.CfnScalableTarget
    ranges = {"Start": (hours.start, hours.copies, capacity.maximum), "End": (hours.end, 0, 0)}
    return [
        cfn.ScheduledActionProperty(
            scheduled_action_name=name,
            schedule=hours.schedule(time),
            timezone=hours.timezone,
            scalable_target_action=cfn.ScalableTargetActionProperty(min_capacity=fewest, max_capacity=most),
        )
        for name, (time, fewest, most) in ranges.items()
    ]


def _stat(
    id: str, name: str, component: str
) -> autoscaling.CfnScalingPolicy.TargetTrackingMetricDataQueryProperty:
    definition = BY_NAME[name]
    dimension = autoscaling.CfnScalingPolicy.TargetTrackingMetricDimensionProperty(
        name=TARGET_DIMENSION, value=component
    )
    return autoscaling.CfnScalingPolicy.TargetTrackingMetricDataQueryProperty(
        id=id,
        metric_stat=autoscaling.CfnScalingPolicy.TargetTrackingMetricStatProperty(
            stat=definition.statistic,
            metric=autoscaling.CfnScalingPolicy.TargetTrackingMetricProperty(
                namespace=NAMESPACE, metric_name=name, dimensions=[dimension]
            ),
        ),
        return_data=False,
    )
