"""Provisioned throughput: model units that are bought, seen, changed and given back.

Sources: Amazon Bedrock User Guide, "Purchase a Provisioned Throughput", "View information about a Provisioned
Throughput", "Modify a Provisioned Throughput", "Delete a Provisioned Throughput or cancel auto renew"; API
Reference, "CreateProvisionedModelThroughput" and its kin (errors of each operation).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from tokenmill.local.aws_requests import AwsError
from tokenmill.local.bedrock.paging import moment_of, page

if TYPE_CHECKING:
    from tokenmill.local.aws_requests import Operation, Params, Scope
    from tokenmill.local.bedrock.control import BedrockControl

TERM_DAYS = {"OneMonth": 30, "SixMonths": 180}
KIND = "provisioned-model"
NO_CAPACITY = "There is not enough capacity for the requested model units."


@dataclass(slots=True, kw_only=True)
class ProvisionedModel:
    """One provisioned throughput.

    Args:
        arn: Its ARN.
        name: Its name, unique in the account and region.
        model: ARN of its model.
        foundation: ARN of the base model behind it.
        units: Model units.
        commitment: "OneMonth", "SixMonths" or nothing.
        created: When it was bought.
        modified: When it changed last.
        ready: When its creation or its change ends, in seconds since 1970.
        failure: Why its creation fails, if it does.
        desired: ARN of the model that it changes to.
        tags: Its tags.
    """

    arn: str
    name: str
    model: str
    foundation: str
    units: int
    commitment: str | None
    created: datetime
    modified: datetime
    ready: float
    failure: str | None = None
    desired: str | None = None
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def expires(self) -> datetime | None:
        """When the commitment ends."""
        days = TERM_DAYS.get(self.commitment or "")
        return None if days is None else self.created + timedelta(days=days)

    def status(self, now: float) -> str:
        """Return its status: Creating, then InService or Failed; Updating while its model changes.

        Args:
            now: Seconds since 1970.
        """
        if now < self.ready:
            return "Creating" if self.desired is None else "Updating"
        return "Failed" if self.failure is not None else "InService"

    def describe(self, now: float) -> Params:
        """Return it as GetProvisionedModelThroughput does; what is None is left out.

        Args:
            now: Seconds since 1970.
        """
        updating = self.desired is not None and now < self.ready
        return {
            "modelUnits": self.units,
            "desiredModelUnits": self.units,
            "provisionedModelName": self.name,
            "provisionedModelArn": self.arn,
            "modelArn": self.model if updating or self.desired is None else self.desired,
            "desiredModelArn": self.desired or self.model,
            "foundationModelArn": self.foundation,
            "status": self.status(now),
            "creationTime": self.created,
            "lastModifiedTime": self.modified,
            "failureMessage": self.failure if self.status(now) == "Failed" else None,
            "commitmentDuration": self.commitment,
            "commitmentExpirationTime": self.expires,
        }


class _Seen:
    """What reads show of one resource: its states with the times from which they are true."""

    def __init__(self) -> None:
        self._states: list[tuple[float, ProvisionedModel | None]] = []

    def change(self, at: float, state: ProvisionedModel | None) -> None:
        copied = None if state is None else replace(state, tags=dict(state.tags))
        self._states.append((at, copied))

    def at(self, moment: float) -> ProvisionedModel | None:
        state = None
        for since, value in self._states:
            if since <= moment:
                state = value
        return state


class ProvisionedModels:
    """The provisioned throughput of every account.

    Args:
        control: The control plane.
    """

    def __init__(self, control: BedrockControl) -> None:
        self._control = control
        self._owned: defaultdict[Scope, dict[str, ProvisionedModel]] = defaultdict(dict)
        self._seen: defaultdict[Scope, dict[str, _Seen]] = defaultdict(dict)
        self._freed: defaultdict[Scope, dict[str, float]] = defaultdict(dict)
        self.without_capacity: set[str] = set()
        control.tags.changed = self._tags_changed
        control.tags.readers[KIND] = self._tags_shown

    def operations(self) -> dict[str, Operation]:
        """Return what runs the operations."""
        return {
            "CreateProvisionedModelThroughput": self._create,
            "GetProvisionedModelThroughput": self._get,
            "ListProvisionedModelThroughputs": self._list,
            "UpdateProvisionedModelThroughput": self._update,
            "DeleteProvisionedModelThroughput": self._delete,
        }

    def owned(self, scope: Scope) -> list[ProvisionedModel]:
        """Return everything that is paid for, as it is and not as reads show it.

        Args:
            scope: Whose.
        """
        return list(self._owned[scope].values())

    def find(self, scope: Scope, name_or_arn: str) -> ProvisionedModel | None:
        """Return one by its name or ARN, as it is.

        Args:
            scope: Whose.
            name_or_arn: Its name or ARN.
        """
        owned = self._owned[scope]
        if name_or_arn in owned:
            return owned[name_or_arn]
        return next((model for model in owned.values() if model.name == name_or_arn), None)

    def _create(self, scope: Scope, params: Params) -> Params:
        arn = self._control.tokens.once(
            scope,
            "CreateProvisionedModelThroughput",
            params,
            make=lambda: self._make(scope, params),
            exists=lambda made: made in self._owned[scope],
        )
        return {"provisionedModelArn": arn}

    def _make(self, scope: Scope, params: Params) -> str:
        control, now = self._control, self._control.clock()
        commitment = params.get("commitmentDuration")
        model, foundation = control.models.for_units(scope, params["modelId"], commitment)
        self._check_name(scope, params["provisionedModelName"])
        self._check_quota(scope, model, params["modelUnits"], commitment)
        arn = scope.arn("bedrock", f"{KIND}/{control.new_id(scope)}")
        control.tags.add(scope, arn, params.get("tags"))
        self._owned[scope][arn] = ProvisionedModel(
            arn=arn,
            name=params["provisionedModelName"],
            model=model,
            foundation=foundation,
            units=params["modelUnits"],
            commitment=commitment,
            created=control.now(),
            modified=control.now(),
            ready=now + control.behaviour.creating_seconds,
            failure=NO_CAPACITY if model.rpartition("/")[2] in self.without_capacity else None,
            tags=control.tags.of(scope, arn),
        )
        self._changed(scope, arn)
        return arn

    def _check_name(self, scope: Scope, name: str) -> None:
        held = self._control.clock() < self._freed[scope].get(name, 0.0)
        if held or any(model.name == name for model in self._owned[scope].values()):
            raise AwsError(
                self._control.behaviour.taken_name,
                f"The provisioned model name {name} is already in use. Provide another name.",
            )

    def _check_quota(self, scope: Scope, model: str, units: int, commitment: str | None) -> None:
        quotas = self._control.quotas
        custom = ":custom-model/" in model
        if units > quotas.per_model:
            raise _over_quota(f"model units per provisioned model for {model.rpartition('/')[2]}")
        if commitment is not None:
            kind, limit = "with commitment", quotas.committed
            alike = [other for other in self._owned[scope].values() if other.commitment is not None]
        else:
            kind = f"no-commitment Provisioned Throughputs across {'custom' if custom else 'base'} models"
            limit = quotas.custom if custom else quotas.base
            alike = [
                other
                for other in self._owned[scope].values()
                if other.commitment is None and (":custom-model/" in other.model) == custom
            ]
        if sum(other.units for other in alike) + units > limit:
            raise _over_quota(f"model units {kind}")

    def _get(self, scope: Scope, params: Params) -> Params:
        found = self._shown(scope, params["provisionedModelId"], self._control.behaviour.get_lag_seconds)
        if found is None:
            raise _missing(params["provisionedModelId"])
        return found.describe(self._control.clock())

    def _shown(self, scope: Scope, name_or_arn: str, lag: float) -> ProvisionedModel | None:
        moment = self._control.clock() - lag
        seen = self._seen[scope]
        states = [seen[name_or_arn]] if name_or_arn in seen else list(seen.values())
        shown = [state for each in states if (state := each.at(moment)) is not None]
        return next((state for state in reversed(shown) if name_or_arn in (state.arn, state.name)), None)

    def _list(self, scope: Scope, params: Params) -> Params:
        now = self._control.clock()
        moment = now - self._control.behaviour.list_lag_seconds
        shown = [state for each in self._seen[scope].values() if (state := each.at(moment)) is not None]
        chosen = [model.describe(now) for model in shown if _asked_for(model, params, now)]
        chosen.sort(key=lambda one: one["creationTime"], reverse=params.get("sortOrder") != "Ascending")
        some, token = page(chosen, params)
        summaries = [
            {key: value for key, value in one.items() if value is not None and key != "failureMessage"}
            for one in some
        ]
        return {"provisionedModelSummaries": summaries, "nextToken": token}

    def _update(self, scope: Scope, params: Params) -> Params:
        model, control = self._existing(scope, params["provisionedModelId"]), self._control
        now = control.clock()
        if model.status(now) in ("Creating", "Updating"):
            raise AwsError(
                "ValidationException", f"{model.name} is {model.status(now)}; it cannot be updated now."
            )
        name, wanted = params.get("desiredProvisionedModelName"), params.get("desiredModelId")
        if wanted is not None:
            if ":custom-model/" not in model.model:
                raise AwsError(
                    "ValidationException",
                    "The model cannot change: the Provisioned Throughput is associated with a base model.",
                )
            arn, foundation = control.models.for_units(scope, wanted, model.commitment)
            if foundation != model.foundation:
                raise AwsError("ValidationException", f"{wanted} is not of the same base model.")
        if name is not None and name != model.name:
            self._check_name(scope, name)
            model.name = name
        if wanted is not None:
            model.model = model.desired or model.model
            model.desired, model.ready = arn, now + control.behaviour.updating_seconds
        model.modified = control.now()
        self._changed(scope, model.arn)
        return {}

    def _delete(self, scope: Scope, params: Params) -> Params:
        model, control = self._existing(scope, params["provisionedModelId"]), self._control
        status = model.status(control.clock())
        if status in ("Creating", "Updating"):
            raise AwsError("ConflictException", f"{model.name} is {status}; it cannot be deleted now.")
        if model.expires is not None and control.now() < model.expires:
            raise AwsError(
                control.behaviour.early_delete,
                f"You can't delete {model.name} before its commitment term is over.",
            )
        del self._owned[scope][model.arn]
        control.tags.drop(scope, model.arn)
        self._freed[scope][model.name] = control.clock() + control.behaviour.held_name_seconds
        self._changed(scope, model.arn)
        return {}

    def _existing(self, scope: Scope, name_or_arn: str) -> ProvisionedModel:
        found = self.find(scope, name_or_arn)
        if found is None:
            raise _missing(name_or_arn)
        return found

    def _changed(self, scope: Scope, arn: str) -> None:
        seen = self._seen[scope].setdefault(arn, _Seen())
        seen.change(self._control.clock(), self._owned[scope].get(arn))

    def _tags_changed(self, scope: Scope, arn: str) -> None:
        if arn in self._owned[scope]:
            self._owned[scope][arn].tags = self._control.tags.of(scope, arn)
            self._changed(scope, arn)

    def _tags_shown(self, scope: Scope, arn: str) -> dict[str, str] | None:
        found = self._shown(scope, arn, self._control.behaviour.get_lag_seconds)
        return None if found is None else found.tags


def _asked_for(model: ProvisionedModel, params: Params, now: float) -> bool:
    return not (
        ("statusEquals" in params and model.status(now) != params["statusEquals"])
        or ("modelArnEquals" in params and model.describe(now)["modelArn"] != params["modelArnEquals"])
        or ("nameContains" in params and params["nameContains"] not in model.name)
        or ("creationTimeAfter" in params and model.created <= moment_of(params["creationTimeAfter"]))
        or ("creationTimeBefore" in params and model.created >= moment_of(params["creationTimeBefore"]))
    )


def _missing(name_or_arn: str) -> AwsError:
    return AwsError("ResourceNotFoundException", f"The provisioned model {name_or_arn} was not found.")


def _over_quota(quota: str) -> AwsError:
    return AwsError("ServiceQuotaExceededException", f"The request exceeds your account's quota of {quota}.")
