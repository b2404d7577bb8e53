"""Provisioned units of a Bedrock model, with a whole life."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from tokenmill.bedrock.resources import BedrockResources
from tokenmill.bedrock.unit_alarms import UnitAlarmSet
from tokenmill.bedrock.unit_checks import FloorNote, check_can_close, declare, shown, whole_units
from tokenmill.bedrock.unit_metrics import UnitMetrics
from tokenmill.bedrock.unit_rights import (
    HANDLE_PREFIX,
    arn,
    bought,
    model_arn,
    unit_reasons,
    unit_statements,
)
from tokenmill.bedrock.unit_scaling import UnitScaling
from tokenmill.bedrock.unit_schedule import (
    CLOSE,
    EVERY_FIVE_MINUTES,
    HOURLY,
    HOURS_A_WEEK,
    OPEN,
    RETRY_SECONDS,
    SCALE,
    WATCH,
    UnitHours,
    check_apart,
    check_hours,
    hours_text,
    unit_hours,
)
from tokenmill.bedrock.unit_values import Commitment, Replacement, UnitAlarms
from tokenmill.core.errors import TokenmillError
from tokenmill.core.model_units import monthly_usd
from tokenmill.security import actions
from tokenmill.security.acknowledge import acknowledge_resources
from tokenmill.security.json_text import json_text
from tokenmill.security.place import STACK_ID

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aws_cdk import aws_scheduler as scheduler

    from tokenmill.bedrock.model import IBedrockModel
    from tokenmill.bedrock.unit_values import UnitCapacity
    from tokenmill.core.model_units import UnlistedModel
    from tokenmill.scaling.office_hours import OfficeHours

RESOURCE_TYPE = "Custom::TokenmillProvisionedThroughput"
# Bedrock takes 63 characters for a name; the function adds what tells one purchase from another.
LONGEST_NAME = 40
INVOKE_REASON = (
    "Bedrock makes the id of units up when they are bought, and schedules buy new ones after the deployment."
)


@dataclass(frozen=True, slots=True)
class _Task:
    """A schedule, and what it says besides the resource's properties."""

    schedule: scheduler.CfnSchedule
    event: Mapping[str, object]


class ProvisionedThroughput(UnitMetrics):
    """Model units that are owned while this construct is in the stack, and not after.

    Callers read the handle, an SSM parameter that says which units there are now; while there are none, or
    they throttle, they use the fallback. A deployment buys units without commitment only; a commitment that
    is declared is bought by `tokenmill jobs run commit-units`, which shows price and term and asks. Units
    that cannot be given up, since they are protected or committed, stay when the stack goes: tagged, in the
    ledger under /tokenmill/units with their daily cost, and under an alarm of their own. The next deployment
    of the same resource adopts them. Source: "Increase model invocation capacity with Provisioned Throughput
    in Amazon Bedrock" (Amazon Bedrock User Guide).

    Args:
        scope: The parent construct.
        id: The construct's id.
        model: What is bought: an id with its context length, a custom model's ARN, also as a token, or an
            `UnlistedModel`.
        units: How many model units, 1 to 100.
        commitment: What `tokenmill jobs run commit-units` buys when the stack is healthy.
        replacement: What happens when model or number change, neither of which changes in place.
        protected: Whether the units stay when the resource goes.
        fallback: What callers use while units are missing: an on-demand model's id or a construct such as
            `InferenceProfile`.
        alarms: Whom the alarms tell, and when.
        hourly_usd: US dollars a unit and hour without commitment, in place of the table's.

    Raises:
        TokenmillError: If the model has no units in the region, or a value cannot be.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        model: str | UnlistedModel,
        units: int,
        commitment: Commitment,
        replacement: Replacement = Replacement.REFUSE,
        protected: bool = False,
        fallback: IBedrockModel | str | None = None,
        alarms: UnitAlarms | None = None,
        hourly_usd: float | None = None,
    ) -> None:
        self._declared = declare(
            scope,
            id,
            model=model,
            units=units,
            commitment=commitment,
            replacement=replacement,
            fallback=fallback,
            hourly_usd=hourly_usd,
            protected=protected,
            alarms=alarms,
        )
        super().__init__(scope, id)
        self._hours: list[UnitHours] = []
        self._scaling: UnitScaling | None = None
        self._always = self._declared.units
        self._tasks: list[_Task] = []
        self._alarms = alarms or UnitAlarms()
        self.name = cdk.Names.unique_resource_name(self, max_length=LONGEST_NAME, separator="-")
        self.handle_name = f"{HANDLE_PREFIX}/{self.name}"
        self._properties = self._first_properties(protected=protected)
        self._bedrock = BedrockResources.of(self)
        self.resource = self._resource()
        self.alarms = UnitAlarmSet(
            self, "Alarms", target=self.handle_name, model_arn=self.model_id, alarms=self._alarms
        )
        self.watch = self._task("Watch", HOURLY, {"UnitsTask": WATCH})
        for note, sentence in self._declared.notes.items():
            cdk.Validations.of(self).add_warning(note, sentence)
        self._say_cost()

    @property
    def model_id(self) -> str:
        """The ARN of the first units, as a token; a schedule buys others, which the handle names."""
        return self.resource.get_att_string("ModelArn")

    @property
    def handle(self) -> str | None:
        """The name of the SSM parameter that callers read."""
        return self.handle_name

    @property
    def handle_arn(self) -> str:
        """The ARN of the SSM parameter that callers read."""
        return arn("ssm", f"parameter{self.handle_name}")

    @property
    def fallback_id(self) -> str | None:
        """What callers use while units are missing; None for nothing."""
        fallback = self._declared.fallback
        return fallback if fallback is None or isinstance(fallback, str) else fallback.model_id

    @property
    def metric_dimension(self) -> str:
        """The ModelId of the first units' metrics in AWS/Bedrock, as a token."""
        return self.model_id

    @property
    def fewest_monthly_usd(self) -> float | None:
        """What the units cost a month without traffic, in US dollars; None where no source states a price."""
        price = self._declared.hourly_usd
        return None if price is None else monthly_usd(self._mean_units(), price)

    def grant_invoke(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let a principal call the units and the fallback, and read the handle, and nothing else.

        Args:
            grantee: The principal.
        """
        fallback, models = self._declared.fallback, [bought()]
        if isinstance(fallback, str):
            models.append(model_arn(fallback))
        grant = iam.Grant.add_to_principal(
            grantee=grantee, actions=list(actions.BEDROCK_INVOKE), resource_arns=models
        ).combine(
            iam.Grant.add_to_principal(
                grantee=grantee, actions=list(actions.UNITS_HANDLE_READ), resource_arns=[self.handle_arn]
            )
        )
        if isinstance(grantee, Construct):
            acknowledge_resources(grantee, {bought(): INVOKE_REASON})
        if fallback is None or isinstance(fallback, str):
            return grant
        return grant.combine(fallback.grant_invoke(grantee))

    def add_schedule(
        self, id: str, hours: OfficeHours, *, units: int | None = None
    ) -> tuple[scheduler.CfnSchedule, scheduler.CfnSchedule]:
        """Own units in some hours only; outside of them they cost nothing, and callers use the fallback.

        In the morning units are bought without commitment, and whether there are any is up to the service:
        where there are none the handle stays on the fallback, an alarm says so, and the watch tries again
        every hour while the hours last.

        Args:
            id: The schedule's construct id.
            hours: When units are owned; its copies are not asked for.
            units: How many more are owned in these hours; the resource's own units otherwise, which are then
                owned in scheduled hours only.

        Returns:
            What opens and what closes the hours.

        Raises:
            TokenmillError: If the id is taken, the number cannot be, hours of own units overlap, the
                resource's own units cannot be given up every evening, or a day would cost more than the
                spend guard of `scale_on_tokens`.
        """
        check_hours(id, hours, self._hours)
        counted = self._declared.units if units is None else whole_units(units)
        made = UnitHours(id=id, hours=hours, units=counted, own=units is None)
        check_apart(made, self._hours)
        if self._scaling is not None and units is not None:
            self._guard(self._scaling, [*self._hours, made])
        if units is None:
            check_can_close(
                id,
                commitment=self._declared.commitment,
                protected=self._properties["Protected"] == "true",
                floor=self._scaling is not None,
            )
            self._always = 0
            self.alarms.drop_throttles()
            self._set("Scheduled", "true")
        self._hours.append(made)
        self._set("Hours", hours_text(self._hours) or "")
        event = {"Schedule": made.document()}
        opens = self._task(
            f"{id}Open", hours.schedule(hours.start), {"UnitsTask": OPEN, **event}, time_zone=hours.timezone
        )
        closes = self._task(
            f"{id}Close", hours.schedule(hours.end), {"UnitsTask": CLOSE, **event}, time_zone=hours.timezone
        )
        return opens, closes

    def scale_on_tokens(
        self, *, capacity: UnitCapacity, floor: int, ceiling: int, daily_usd: float
    ) -> scheduler.CfnSchedule:
        """Buy further units while tokens use up those that are there, and give them up again.

        Every five minutes the tokens of the last minutes are held against what the units process. A purchase
        takes the service minutes, so this follows the hour of the day, not a burst; a burst goes to the
        fallback.

        Args:
            capacity: What one unit processes, as the account manager or a load test says it.
            floor: Fewest units, the resource's own included.
            ceiling: Most units, the resource's own included.
            daily_usd: US dollars that all of them, scheduled units too, may cost a day; none is bought for
                tokens above it.

        Returns:
            What calls the function.

        Raises:
            TokenmillError: If the ceiling is below the floor, floor and scheduled units cost more than a
                day's money, no source states the price, or the units follow the clock or the tokens already.
        """
        if self._scaling is not None:
            raise TokenmillError("the units scale on tokens already; give one capacity, floor and ceiling")
        if self._always == 0:
            raise TokenmillError(
                "the units are owned in scheduled hours only, so there is no floor that could scale; give "
                "add_schedule units= of its own"
            )
        scaling = UnitScaling(capacity=capacity, floor=floor, ceiling=ceiling, daily_usd=daily_usd)
        self._guard(scaling, self._hours)
        self._scaling = scaling
        document = scaling.document()
        self._set("Scaling", json.dumps(document, separators=(",", ":")))
        return self._task("Scale", EVERY_FIVE_MINUTES, {"UnitsTask": SCALE, "Scaling": document})

    def _guard(self, scaling: UnitScaling, hours: Sequence[UnitHours]) -> None:
        scaling.check(units=self._declared.units, hourly_usd=self._declared.hourly_usd, hours=hours)

    def _first_properties(self, *, protected: bool) -> dict[str, str]:
        declared = self._declared
        found = {
            "Name": self.name,
            "ModelId": declared.model.model,
            "ModelUnits": str(declared.units),
            "Commitment": declared.commitment.value,
            "Replacement": declared.replacement.value,
            "Protected": "true" if protected else "false",
            "HourlyUsd": None if declared.hourly_usd is None else str(declared.hourly_usd),
            "Handle": self.handle_name,
            "Fallback": self.fallback_id,
            "AlarmTopic": None if self._alarms.topic is None else self._alarms.topic.topic_arn,
        }
        return {name: value for name, value in found.items() if value is not None}

    def _resource(self) -> cdk.CustomResource:
        made = self._bedrock.resource(
            self,
            "Resource",
            resource_type=RESOURCE_TYPE,
            properties=self._properties,
            statements=unit_statements(self._declared.model, handle=self.handle_name),
        )
        acknowledge_resources(self._bedrock.handler.role, unit_reasons())
        return made

    def _set(self, name: str, value: str) -> None:
        """Add a property, and let every schedule say it too."""
        self._properties[name] = value
        self._own.add_property_override(name, value)
        for task in self._tasks:
            task.schedule.add_property_override("Target.Input", self._input(task.event))

    @functools.cached_property
    def _own(self) -> cdk.CfnResource:
        found = self.resource.node.default_child
        assert isinstance(found, cdk.CfnResource)
        return found

    @functools.cached_property
    def _identity(self) -> dict[str, str]:
        """What names the resource to the function, asked of CDK once for all schedules."""
        return {
            "PhysicalResourceId": self.resource.ref,
            "StackId": STACK_ID,
            "LogicalResourceId": self._own.logical_id,
        }

    def _task(
        self, id: str, expression: str, event: Mapping[str, object], *, time_zone: str = "Etc/UTC"
    ) -> scheduler.CfnSchedule:
        made = self._bedrock.schedule(
            self,
            id,
            expression=expression,
            event=self._event(event),
            time_zone=time_zone,
            retry_seconds=RETRY_SECONDS[str(event["UnitsTask"])],
        )
        self._tasks.append(_Task(made, event))
        return made

    def _input(self, event: Mapping[str, object]) -> str:
        return json_text(self, self._event(event))

    def _event(self, event: Mapping[str, object]) -> dict[str, object]:
        return {**event, **self._identity, "Properties": dict(self._properties)}

    def _mean_units(self) -> float:
        """Units without traffic, as a mean over the hours of a week."""
        floor = 0 if self._scaling is None else self._scaling.floor
        return sum(unit_hours(self._hours, always=self._always, floor=floor)) / HOURS_A_WEEK

    def _say_cost(self) -> None:
        self.node.add_validation(FloorNote(self, self._cost_note))

    def _cost_note(self) -> str:
        usd = self.fewest_monthly_usd
        units = f"{self._mean_units():.3g} model units of {shown(self._declared.model)}"
        if self._hours:
            units += ", as a mean over the week,"
        if usd is None:
            return f"{units}: no price of an hour is known, so the monthly floor is not"
        committed = self._declared.committed_usd
        note = f"{units} cost {usd:,.0f} USD a month without a request"
        if self._declared.commitment is Commitment.NONE:
            return note
        then = "a price that no source states" if committed is None else f"{committed:g} USD an hour each"
        return f"{note}; from `tokenmill jobs run commit-units` on {then}"
