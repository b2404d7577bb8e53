"""Custom and imported models, which jobs make and which are deleted by hand.

Sources: Amazon Bedrock API Reference, "GetCustomModel", "ListCustomModels", "DeleteCustomModel",
"CreateCustomModel", "GetImportedModel", "ListImportedModels", "DeleteImportedModel" (statuses Creating,
Active, Failed of a custom model; ConflictException of a model that is in use).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tokenmill.local.aws_requests import AwsError
from tokenmill.local.bedrock.paging import moment_of, page

if TYPE_CHECKING:
    from datetime import datetime

    from tokenmill.local.aws_requests import Operation, Params, Scope
    from tokenmill.local.bedrock.control import BedrockControl


@dataclass(slots=True, kw_only=True)
class CustomModel:
    """One custom or imported model.

    Args:
        arn: Its ARN.
        name: Its name.
        base: ARN of the base model; nothing for weights of one's own.
        created: When it was made.
        ready: When it becomes Active, in seconds since 1970.
        details: Further members of GetCustomModel or GetImportedModel.
    """

    arn: str
    name: str
    base: str | None
    created: datetime
    ready: float = 0.0
    details: Params = field(default_factory=dict)

    @property
    def imported(self) -> bool:
        """Whether CreateModelImportJob made it."""
        return ":imported-model/" in self.arn

    def status(self, now: float) -> str:
        """Return "Creating" or "Active".

        Args:
            now: Seconds since 1970.
        """
        return "Creating" if now < self.ready else "Active"


class CustomModels:
    """The custom and imported models of every account.

    Args:
        control: The control plane.
    """

    def __init__(self, control: BedrockControl) -> None:
        self._control = control
        self._models: defaultdict[Scope, dict[str, CustomModel]] = defaultdict(dict)

    def operations(self) -> dict[str, Operation]:
        """Return what runs the operations."""
        return {
            "CreateCustomModel": self._create,
            "GetCustomModel": self._get,
            "ListCustomModels": self._list,
            "DeleteCustomModel": self._delete,
            "GetImportedModel": self._get_imported,
            "ListImportedModels": self._list_imported,
            "DeleteImportedModel": self._delete_imported,
        }

    def find(self, scope: Scope, name_or_arn: str) -> CustomModel | None:
        """Return a model by its name or ARN.

        Args:
            scope: Whose.
            name_or_arn: Its name or ARN.
        """
        models = self._models[scope]
        if name_or_arn in models:
            return models[name_or_arn]
        return next((model for model in models.values() if model.name == name_or_arn), None)

    def add(self, scope: Scope, model: CustomModel, tags: list[Params] | None) -> None:
        """Take a model that a job made.

        Args:
            scope: Whose.
            model: The model.
            tags: Its tags.
        """
        self._control.tags.add(scope, model.arn, tags)
        self._models[scope][model.arn] = model

    def check_name(self, scope: Scope, name: str) -> None:
        """Refuse a name that a model has.

        Args:
            scope: Whose.
            name: The name.

        Raises:
            AwsError: It is taken.
        """
        if any(model.name == name for model in self._models[scope].values()):
            raise AwsError("ConflictException", f"A model with the name {name} already exists.")

    def _create(self, scope: Scope, params: Params) -> Params:
        control = self._control

        def make() -> str:
            self.check_name(scope, params["modelName"])
            model = CustomModel(
                arn=scope.arn("bedrock", f"custom-model/imported/{control.new_id(scope)}"),
                name=params["modelName"],
                base=None,
                created=control.now(),
                ready=control.clock() + control.behaviour.creating_seconds,
            )
            self.add(scope, model, params.get("modelTags"))
            return model.arn

        exists = self._models[scope].__contains__
        arn = control.tokens.once(scope, "CreateCustomModel", params, make=make, exists=exists)
        return {"modelArn": arn}

    def _get(self, scope: Scope, params: Params) -> Params:
        model = self._existing(scope, params, imported=False)
        return {
            "modelArn": model.arn,
            "modelName": model.name,
            "creationTime": model.created,
            "baseModelArn": model.base,
            "modelStatus": model.status(self._control.clock()),
            **model.details,
        }

    def _get_imported(self, scope: Scope, params: Params) -> Params:
        model = self._existing(scope, params, imported=True)
        shown = {"modelArn": model.arn, "modelName": model.name, "creationTime": model.created}
        return {**shown, **model.details}

    def _list(self, scope: Scope, params: Params) -> Params:
        now = self._control.clock()
        some, token = page(
            [
                {
                    "modelArn": model.arn,
                    "modelName": model.name,
                    "creationTime": model.created,
                    # Weights of one's own have no base model, and the summary's shape demands one.
                    "baseModelArn": model.base or model.arn,
                    "baseModelName": (model.base or "imported.weights").rpartition("/")[2].partition(":")[0],
                    "customizationType": model.details.get("customizationType", "IMPORTED"),
                    "ownerAccountId": scope.account,
                    "modelStatus": model.status(now),
                }
                for model in self._chosen(scope, params, imported=False)
                if params.get("modelStatus", model.status(now)) == model.status(now)
                and params.get("baseModelArnEquals", model.base) == model.base
                and params.get("foundationModelArnEquals", model.base) == model.base
                and params.get("isOwned", True)
            ],
            params,
        )
        return {"modelSummaries": some, "nextToken": token}

    def _list_imported(self, scope: Scope, params: Params) -> Params:
        some, token = page(
            [
                {
                    "modelArn": model.arn,
                    "modelName": model.name,
                    "creationTime": model.created,
                    "instructSupported": model.details.get("instructSupported", True),
                    "modelArchitecture": model.details.get("modelArchitecture", "unknown"),
                }
                for model in self._chosen(scope, params, imported=True)
            ],
            params,
        )
        return {"modelSummaries": some, "nextToken": token}

    def _chosen(self, scope: Scope, params: Params, *, imported: bool) -> list[CustomModel]:
        after, before = params.get("creationTimeAfter"), params.get("creationTimeBefore")
        chosen = [
            model
            for model in self._models[scope].values()
            if model.imported == imported
            and params.get("nameContains", "") in model.name
            and (after is None or model.created > moment_of(after))
            and (before is None or model.created < moment_of(before))
        ]
        return sorted(chosen, key=lambda one: one.created, reverse=params.get("sortOrder") != "Ascending")

    def _delete(self, scope: Scope, params: Params) -> Params:
        return self._remove(scope, self._existing(scope, params, imported=False))

    def _delete_imported(self, scope: Scope, params: Params) -> Params:
        return self._remove(scope, self._existing(scope, params, imported=True))

    def _remove(self, scope: Scope, model: CustomModel) -> Params:
        control = self._control
        units = [one for one in control.provisioned.owned(scope) if model.arn in (one.model, one.desired)]
        if units or control.deployments.using(scope, model.arn):
            raise AwsError("ConflictException", f"{model.name} is in use; delete what serves it first.")
        del self._models[scope][model.arn]
        control.tags.drop(scope, model.arn)
        return {}

    def _existing(self, scope: Scope, params: Params, *, imported: bool) -> CustomModel:
        found = self.find(scope, params["modelIdentifier"])
        if found is None or found.imported != imported:
            raise AwsError(
                "ResourceNotFoundException", f"The model {params['modelIdentifier']} was not found."
            )
        return found
