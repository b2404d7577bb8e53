"""Custom models deployed for on-demand inference.

Sources: Amazon Bedrock API Reference, "CreateCustomModelDeployment" (names unique in account and region, the
model must be Active), "GetCustomModelDeployment" (Creating, Active, Failed; updateDetails with Updating,
UpdateCompleted, UpdateFailed), "UpdateCustomModelDeployment", "DeleteCustomModelDeployment".
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenmill.local.aws_requests import AwsError
from tokenmill.local.bedrock.paging import moment_of, page

if TYPE_CHECKING:
    from datetime import datetime

    from tokenmill.local.aws_requests import Operation, Params, Scope
    from tokenmill.local.bedrock.control import BedrockControl


@dataclass(slots=True, kw_only=True)
class Deployment:
    """One deployment.

    Args:
        arn: Its ARN, which is a model id for inference.
        name: Its name.
        model: ARN of the model that answers.
        description: Its description.
        created: When it was made.
        modified: When it changed last.
        ready: When its creation or update ends, in seconds since 1970.
        wanted: ARN of the model that an update puts behind it.
    """

    arn: str
    name: str
    model: str
    description: str | None
    created: datetime
    modified: datetime
    ready: float
    wanted: str | None = None

    def status(self, now: float) -> str:
        """Return "Creating" or "Active"; an update does not change it.

        Args:
            now: Seconds since 1970.
        """
        return "Creating" if self.wanted is None and now < self.ready else "Active"

    def serves(self, now: float) -> str:
        """Return the ARN of the model that answers.

        Args:
            now: Seconds since 1970.
        """
        return self.wanted if self.wanted is not None and now >= self.ready else self.model


class Deployments:
    """The deployments of every account.

    Args:
        control: The control plane.
    """

    def __init__(self, control: BedrockControl) -> None:
        self._control = control
        self._deployments: defaultdict[Scope, dict[str, Deployment]] = defaultdict(dict)

    def operations(self) -> dict[str, Operation]:
        """Return what runs the operations."""
        return {
            "CreateCustomModelDeployment": self._create,
            "GetCustomModelDeployment": self._get,
            "ListCustomModelDeployments": self._list,
            "UpdateCustomModelDeployment": self._update,
            "DeleteCustomModelDeployment": self._delete,
        }

    def find(self, scope: Scope, name_or_arn: str) -> Deployment | None:
        """Return a deployment by its name or ARN.

        Args:
            scope: Whose.
            name_or_arn: Its name or ARN.
        """
        found = self._deployments[scope]
        return found.get(name_or_arn) or next(
            (each for each in found.values() if each.name == name_or_arn), None
        )

    def using(self, scope: Scope, model: str) -> list[Deployment]:
        """Return the deployments of a model.

        Args:
            scope: Whose.
            model: Its ARN.
        """
        return [each for each in self._deployments[scope].values() if model in (each.model, each.wanted)]

    def _create(self, scope: Scope, params: Params) -> Params:
        control = self._control

        def make() -> str:
            self._check_model(scope, params["modelArn"])
            if self.find(scope, params["modelDeploymentName"]) is not None:
                raise AwsError(
                    control.behaviour.taken_name,
                    f"The deployment name {params['modelDeploymentName']} is already in use.",
                )
            arn = scope.arn("bedrock", f"custom-model-deployment/{control.new_id(scope)}")
            control.tags.add(scope, arn, params.get("tags"))
            self._deployments[scope][arn] = Deployment(
                arn=arn,
                name=params["modelDeploymentName"],
                model=params["modelArn"],
                description=params.get("description"),
                created=control.now(),
                modified=control.now(),
                ready=control.clock() + control.behaviour.creating_seconds,
            )
            return arn

        exists = self._deployments[scope].__contains__
        arn = control.tokens.once(scope, "CreateCustomModelDeployment", params, make=make, exists=exists)
        return {"customModelDeploymentArn": arn}

    def _check_model(self, scope: Scope, arn: str) -> None:
        model = self._control.custom_models.find(scope, arn)
        if model is None or model.imported:
            raise AwsError("ResourceNotFoundException", f"The custom model {arn} was not found.")
        if model.status(self._control.clock()) != "Active":
            raise AwsError("ValidationException", f"The custom model {arn} is not Active.")

    def _get(self, scope: Scope, params: Params) -> Params:
        deployment, now = self._existing(scope, params), self._control.clock()
        update = None
        if deployment.wanted is not None:
            state = "Updating" if now < deployment.ready else "UpdateCompleted"
            update = {"modelArn": deployment.wanted, "updateStatus": state}
        return {
            "customModelDeploymentArn": deployment.arn,
            "modelDeploymentName": deployment.name,
            "modelArn": deployment.serves(now),
            "createdAt": deployment.created,
            "status": deployment.status(now),
            "description": deployment.description,
            "updateDetails": update,
            "lastUpdatedAt": deployment.modified,
        }

    def _list(self, scope: Scope, params: Params) -> Params:
        now = self._control.clock()
        chosen: list[Params] = [
            {
                "customModelDeploymentArn": each.arn,
                "customModelDeploymentName": each.name,
                "modelArn": each.serves(now),
                "createdAt": each.created,
                "status": each.status(now),
                "lastUpdatedAt": each.modified,
            }
            for each in self._deployments[scope].values()
            if params.get("nameContains", "") in each.name
            and params.get("statusEquals", each.status(now)) == each.status(now)
            and params.get("modelArnEquals", each.serves(now)) == each.serves(now)
            and ("createdAfter" not in params or each.created > moment_of(params["createdAfter"]))
            and ("createdBefore" not in params or each.created < moment_of(params["createdBefore"]))
        ]
        chosen.sort(key=lambda one: one["createdAt"], reverse=params.get("sortOrder") != "Ascending")
        some, token = page(chosen, params)
        return {"modelDeploymentSummaries": some, "nextToken": token}

    def _update(self, scope: Scope, params: Params) -> Params:
        deployment, control = self._existing(scope, params), self._control
        now = control.clock()
        if now < deployment.ready:
            raise AwsError("ValidationException", f"{deployment.name} is being created or updated.")
        self._check_model(scope, params["modelArn"])
        deployment.model = deployment.serves(now)
        deployment.wanted = params["modelArn"]
        deployment.ready = now + control.behaviour.updating_seconds
        deployment.modified = control.now()
        return {"customModelDeploymentArn": deployment.arn}

    def _delete(self, scope: Scope, params: Params) -> Params:
        deployment = self._existing(scope, params)
        if deployment.status(self._control.clock()) == "Creating":
            raise AwsError("ConflictException", f"{deployment.name} is Creating; it cannot be deleted now.")
        del self._deployments[scope][deployment.arn]
        self._control.tags.drop(scope, deployment.arn)
        return {}

    def _existing(self, scope: Scope, params: Params) -> Deployment:
        identifier = params["customModelDeploymentIdentifier"]
        found = self.find(scope, identifier)
        if found is None:
            raise AwsError("ResourceNotFoundException", f"The deployment {identifier} was not found.")
        return found
