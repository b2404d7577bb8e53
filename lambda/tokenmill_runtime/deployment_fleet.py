"""A fleet that a deployment holds: copies of a component, or instances of a variant, and its scaling.

What this suspends, it marks on the scalable target before it suspends, and unmarks after it has resumed: a
crash in between leaves a mark that says what is left to do, and a suspension without a mark is a user's own
("Suspend and resume scaling for Application Auto Scaling", Application Auto Scaling user guide).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from tokenmill_runtime.custom_resource import Refused
from tokenmill_runtime.deployment_services import error_code, is_missing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenmill_runtime.deployment_services import Services

MARK: Final = "tokenmill:held"
COMPONENT_DIMENSION: Final = "sagemaker:inference-component:DesiredCopyCount"
VARIANT_DIMENSION: Final = "sagemaker:variant:DesiredInstanceCount"
# Statuses that end by themselves (botocore: InferenceComponentStatus, EndpointStatus).
PASSING_STATUSES: Final = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"})
POLL_SECONDS: Final = 5.0

Suspension = tuple[bool, bool, bool]
ALL: Final[Suspension] = (True, True, True)
_FLAGS: Final = ("DynamicScalingInSuspended", "DynamicScalingOutSuspended", "ScheduledScalingSuspended")
_MARK_FORM: Final = re.compile(r"v1 in=([01]) out=([01]) scheduled=([01]) copies=(\d+) by=(\w+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """What runs now.

    Args:
        status: SageMaker's status.
        desired: Copies or instances that SageMaker is to run.
        current: Copies or instances in service.
        description: The whole answer of the Describe call.
    """

    status: str
    desired: int
    current: int
    description: Mapping[str, Any]

    @property
    def settled(self) -> bool:
        """Whether nothing is on its way."""
        return self.status not in PASSING_STATUSES


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What a scalable target was before a deployment suspended it.

    Args:
        before: Suspended scale-in, scale-out and scheduled actions.
        copies: The fewest copies that the deployment must leave.
        by: Which request suspended it, so that a late delivery of an older one does not resume it.
    """

    before: Suspension
    copies: int
    by: str

    def text(self) -> str:
        """The mark as a tag's value."""
        inwards, out, scheduled = (int(flag) for flag in self.before)
        return f"v1 in={inwards} out={out} scheduled={scheduled} copies={self.copies} by={self.by}"

    @classmethod
    def read(cls, text: str) -> Mark:
        """The mark of a tag's value. Raises Refused for a text of another form."""
        found = _MARK_FORM.fullmatch(text)
        if found is None:
            raise Refused(
                f"the tag {MARK} is {text!r}, which this version does not know; remove the tag from the "
                "scalable target and resume its scaling by hand"
            )
        inwards, out, scheduled = (value == "1" for value in found.groups()[:3])
        return cls(before=(inwards, out, scheduled), copies=int(found[4]), by=found[5])


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A scalable target as it stands."""

    arn: str
    suspended: Suspension
    maximum: int
    mark: Mark | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """A component by its name, or a variant of an endpoint.

    Args:
        component: The inference component; None for a variant.
        endpoint: The endpoint of the variant; None for a component.
        variant: The variant; None for a component.
    """

    component: str | None = None
    endpoint: str | None = None
    variant: str | None = None

    @classmethod
    def read(cls, properties: Mapping[str, Any]) -> Fleet:
        """The fleet that a custom resource's properties name. Raises Refused where they name none."""
        component = properties.get("Component")
        if component:
            return cls(component=component)
        endpoint, variant = properties.get("Endpoint"), properties.get("Variant")
        if endpoint and variant:
            return cls(endpoint=endpoint, variant=variant)
        raise Refused(f"the properties name neither Component nor Endpoint and Variant: {sorted(properties)}")

    @classmethod
    def of_resource_id(cls, resource_id: str) -> Fleet:
        """The fleet that Application Auto Scaling calls so. Raises ValueError for another kind."""
        parts = resource_id.split("/")
        if len(parts) == 2 and parts[0] == "inference-component":
            return cls(component=parts[1])
        if len(parts) == 4 and (parts[0], parts[2]) == ("endpoint", "variant"):
            return cls(endpoint=parts[1], variant=parts[3])
        raise ValueError(f"{resource_id!r} is neither inference-component/… nor endpoint/…/variant/…")

    @property
    def resource_id(self) -> str:
        """The name that Application Auto Scaling gives it."""
        if self.component is not None:
            return f"inference-component/{self.component}"
        return f"endpoint/{self.endpoint}/variant/{self.variant}"

    @property
    def key(self) -> dict[str, Any]:
        """What names its scalable target."""
        return {
            "ServiceNamespace": "sagemaker",
            "ResourceId": self.resource_id,
            "ScalableDimension": COMPONENT_DIMENSION if self.component is not None else VARIANT_DIMENSION,
        }


class FleetControl:
    """Reads a fleet, suspends its scaling and resumes it."""

    def __init__(self, fleet: Fleet, services: Services) -> None:
        self.fleet = fleet
        self._services = services

    def live(self) -> Live | None:
        """What runs now; None where there is no such component, endpoint or variant."""
        from botocore.exceptions import ClientError

        try:
            return self._services.patiently(self._describe)
        except ClientError as error:
            if is_missing(error):
                return None
            raise

    def wait(self, deadline: float) -> Live | None:
        """What runs when nothing is on its way any more, or at the deadline on the monotonic clock."""
        live = self.live()
        while live is not None and not live.settled and self._services.monotonic() < deadline:
            self._services.sleep(POLL_SECONDS)
            live = self.live()
        return live

    def target(self) -> Target | None:
        """The scalable target, or None where scaling is not registered."""
        scaling, fleet = self._services.scaling(), self.fleet
        found = self._services.patiently(
            lambda: scaling.describe_scalable_targets(
                ServiceNamespace="sagemaker",
                ResourceIds=[fleet.resource_id],
                ScalableDimension=fleet.key["ScalableDimension"],
            )
        )["ScalableTargets"]
        if not found:
            return None
        arn = found[0]["ScalableTargetARN"]
        state: Mapping[str, Any] = found[0].get("SuspendedState", {})
        inwards, out, scheduled = (bool(state.get(flag, False)) for flag in _FLAGS)
        return Target(
            arn=arn,
            suspended=(inwards, out, scheduled),
            maximum=found[0]["MaxCapacity"],
            mark=self._mark(arn),
        )

    def suspend(self, copies: int, by: str) -> int:
        """Mark and suspend; return the fewest copies that the whole deployment must leave.

        A mark that a suspended target has already stays: it says what was before, and its copies count,
        because nobody scaled since.
        """
        target = self.target()
        if target is None:
            return copies
        if target.mark is not None and target.suspended == ALL:
            mark = replace(target.mark, copies=max(copies, target.mark.copies), by=by)
        else:
            mark = Mark(before=target.suspended, copies=copies, by=by)
        if mark != target.mark:
            self._tag(target.arn, mark)
        if target.suspended != ALL:
            self._register(ALL)
        return mark.copies

    def resume(self, target: Target, *, restore: bool, deadline: float) -> None:
        """Put back what `suspend` changed, and nothing that somebody else changed since.

        Args:
            target: The marked target, as it was read before the decision to resume it.
            restore: Whether copies that the deployment lost are asked for again.
            deadline: Until when a fleet on its way is waited for, on the monotonic clock.
        """
        if target.mark is None:
            return
        if target.suspended == ALL and target.mark.before != ALL:
            self._register(target.mark.before)
        if restore:
            self._restore(min(target.mark.copies, target.maximum), deadline)
        self._untag(target.arn)

    def set_count(self, count: int) -> None:
        """Ask for a number of copies or instances."""
        sagemaker, fleet = self._services.sagemaker(), self.fleet
        if fleet.component is not None:
            name = fleet.component
            self._services.patiently(
                lambda: sagemaker.update_inference_component_runtime_config(
                    InferenceComponentName=name, DesiredRuntimeConfig={"CopyCount": count}
                )
            )
            return
        endpoint, variant = str(fleet.endpoint), str(fleet.variant)
        self._services.patiently(
            lambda: sagemaker.update_endpoint_weights_and_capacities(
                EndpointName=endpoint,
                DesiredWeightsAndCapacities=[{"VariantName": variant, "DesiredInstanceCount": count}],
            )
        )

    def _restore(self, copies: int, deadline: float) -> None:
        live = self.wait(deadline)
        if live is not None and live.desired < copies:
            self.set_count(copies)

    def _describe(self) -> Live | None:
        sagemaker, fleet = self._services.sagemaker(), self.fleet
        if fleet.component is not None:
            found: Any = sagemaker.describe_inference_component(InferenceComponentName=fleet.component)
            counts = found.get("RuntimeConfig", {})
            desired, current = counts.get("DesiredCopyCount", 0), counts.get("CurrentCopyCount", 0)
            status = found["InferenceComponentStatus"]
            return Live(status=status, desired=desired, current=current, description=found)
        endpoint: Any = sagemaker.describe_endpoint(EndpointName=str(fleet.endpoint))
        for variant in endpoint.get("ProductionVariants", []):
            if variant["VariantName"] == fleet.variant:
                return Live(
                    status=endpoint["EndpointStatus"],
                    desired=variant.get("DesiredInstanceCount", 0),
                    current=variant.get("CurrentInstanceCount", 0),
                    description=endpoint,
                )
        return None

    def _register(self, suspended: Suspension) -> None:
        from botocore.exceptions import ClientError

        scaling = self._services.scaling()
        state: Any = dict(zip(_FLAGS, suspended, strict=True))
        try:
            self._services.patiently(
                lambda: scaling.register_scalable_target(**self.fleet.key, SuspendedState=state)
            )
        except ClientError as error:
            # Without its bounds the call cannot register anew: the target went away since it was read.
            if error_code(error) != "ValidationException" or self.target() is not None:
                raise

    def _mark(self, arn: str) -> Mark | None:
        scaling = self._services.scaling()
        tags = self._gone_or(
            lambda: self._services.patiently(lambda: scaling.list_tags_for_resource(ResourceARN=arn))
        )
        text = (tags or {}).get("Tags", {}).get(MARK)
        return None if text is None else Mark.read(text)

    def _tag(self, arn: str, mark: Mark) -> None:
        scaling = self._services.scaling()
        self._gone_or(
            lambda: self._services.patiently(
                lambda: scaling.tag_resource(ResourceARN=arn, Tags={MARK: mark.text()})
            )
        )

    def _untag(self, arn: str) -> None:
        scaling = self._services.scaling()
        self._gone_or(
            lambda: self._services.patiently(lambda: scaling.untag_resource(ResourceARN=arn, TagKeys=[MARK]))
        )

    @staticmethod
    def _gone_or(call: Any) -> Any:
        """What a call on a scalable target returns, or None where the target is gone."""
        from botocore.exceptions import ClientError

        try:
            return call()
        except ClientError as error:
            if error_code(error) != "ResourceNotFoundException":
                raise
            return None
