"""The custom resource of a custom model's on-demand deployment: made, updated in place, adopted, deleted.

Properties: ``Name`` (1 to 40 characters, the beginning of the deployment's name), ``ModelArn`` (a custom
model that is Active), ``Tags`` ([{"Key", "Value"}]). The physical id is the deployment's name, which follows
from the stack, the resource and ``Name``: the service takes a name once in an account and region, so the name
is the lock, and a repeated request finds what the first one made. Returned are ``Arn``, which Converse takes
as model id, and ``ModelArn``.

Each step looks first and does one thing ("CreateCustomModelDeployment", "UpdateCustomModelDeployment",
"GetCustomModelDeployment", Amazon Bedrock API Reference). A deployment without this stack's tags is somebody
else's: never changed, never deleted.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Final

from tokenmill_runtime.aws import bedrock
from tokenmill_runtime.custom_resource import Answer, Refused, Request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from botocore.exceptions import ClientError

RESOURCE_TYPE: Final = "Custom::TokenmillModelDeployment"
LONGEST_PREFIX: Final = 40
LONGEST_NAME: Final = 63
# botocore, bedrock: ModelDeploymentName and CustomModelArn.
NAME: Final = re.compile(r"([0-9a-zA-Z][_-]?){1,63}")
PREFIX: Final = re.compile(r"[0-9a-zA-Z](?:[_-]?[0-9a-zA-Z])*")
MODEL: Final = re.compile(r"arn:aws[^:]*:bedrock:[a-z0-9-]+:[0-9]{12}:custom-model/[^/]+/[a-z0-9]{12}")
STACK_TAG: Final = "tokenmill:stack"
RESOURCE_TAG: Final = "tokenmill:resource"
# The request that made the deployment, and the one that changed it last: what tells this request's failure
# from one that was there before.
MADE_TAG: Final = "tokenmill:made-by"
CHANGED_TAG: Final = "tokenmill:changed-by"
Deployment = dict[str, Any]


class ModelDeploymentResource:
    """A deployment from its first request to its last; see the module."""

    def begin(self, request: Request) -> str:
        """The physical id; nothing is made.

        Raises Refused for a name or a model that cannot be deployed.
        """
        if request.kind == "Delete":
            return request.physical_id or request.own_id
        wanted = request.properties
        prefix, model = str(wanted.get("Name", "")), str(wanted.get("ModelArn", ""))
        if not 1 <= len(prefix) <= LONGEST_PREFIX or not PREFIX.fullmatch(prefix):
            raise Refused(
                f"Name is {prefix!r:.80}; it must have 1 to {LONGEST_PREFIX} letters and digits, with single "
                "dashes or underscores between them"
            )
        if ":imported-model/" in model:
            raise Refused(
                f"{model} is an imported model, which is called as it is and cannot be deployed; give its "
                "ARN to the callers, or import with CreateCustomModel"
            )
        if not MODEL.fullmatch(model):
            raise Refused(f"ModelArn is {model!r:.200}; it must be the ARN of a custom model")
        return deployment_name(request)

    def advance(self, request: Request) -> Answer | None:
        """One step; None where there is another one to come.

        Raises Refused where the service refuses, and cleans up before it does.
        """
        from botocore.exceptions import ClientError

        try:
            if request.kind == "Delete":
                return _delete(request)
            return _reconcile(request)
        except ClientError as error:
            # The last step is still under way; errors that pass are left to the driver.
            if _code(error) != "ConflictException":
                raise
            return None


def deployment_name(request: Request) -> str:
    """The name of a request's deployment: the same for every request of one resource and one ``Name``."""
    digest = hashlib.sha256(f"{request.stack_id}/{request.logical_id}".encode()).hexdigest()
    return f"{request.properties['Name']}-{digest[:16]}"


def _reconcile(request: Request) -> Answer | None:
    name = deployment_name(request)
    found = _find(name)
    if found is None:
        _create(request, name)
        return None
    arn = found["customModelDeploymentArn"]
    tags = _tags(arn)
    if not _own(tags, request, name):
        raise Refused(
            f"a deployment {name} is there that this stack did not make; delete it with: aws bedrock "
            f"delete-custom-model-deployment --custom-model-deployment-identifier {name}"
        )
    if found["status"] == "Creating":
        return None
    if found["status"] == "Failed":
        _failed(request, found, tags)
        return None
    changing = found.get("updateDetails") or {}
    if changing.get("updateStatus") == "Updating":
        return None
    wanted = request.properties["ModelArn"]
    if _served(found) != wanted:
        _change(request, found, tags)
        return None
    _tag(arn, tags, request)
    return Answer(physical_id=name, data={"Arn": arn, "ModelArn": wanted})


def _create(request: Request, name: str) -> None:
    from botocore.exceptions import ClientError

    tags = {**_wanted_tags(request), **_marks(request, name), MADE_TAG: request.request_id}
    try:
        bedrock().create_custom_model_deployment(
            modelDeploymentName=name,
            modelArn=request.properties["ModelArn"],
            tags=_pairs(tags),
            clientRequestToken=request.token("create"),
        )
    except ClientError as error:
        if _code(error) == "ServiceQuotaExceededException":
            raise Refused(
                f"no more custom model deployments are allowed in this account and region: {_said(error)}; "
                "request the quota of Amazon Bedrock for custom model deployments in Service Quotas"
            ) from error
        if _code(error) not in ("ValidationException", "ResourceNotFoundException"):
            raise
        # The name is taken by what an earlier attempt made, or the model cannot be deployed.
        if _find(name) is None:
            raise Refused(f"{request.properties['ModelArn']} cannot be deployed: {_said(error)}") from error


def _failed(request: Request, found: Deployment, tags: Mapping[str, str]) -> None:
    name = found["modelDeploymentName"]
    bedrock().delete_custom_model_deployment(customModelDeploymentIdentifier=name)
    # One that failed for another request is cleared away, and made anew by the next step.
    if tags.get(MADE_TAG) == request.request_id:
        why = found.get("failureMessage") or "Bedrock does not say why"
        raise Refused(f"deployment {name} failed: {why}")


def _change(request: Request, found: Deployment, tags: Mapping[str, str]) -> None:
    name, arn = found["modelDeploymentName"], found["customModelDeploymentArn"]
    wanted = request.properties["ModelArn"]
    details = found.get("updateDetails") or {}
    mine = tags.get(CHANGED_TAG) == request.token(wanted)
    if mine and details.get("updateStatus") == "UpdateFailed" and details.get("modelArn") == wanted:
        why = found.get("failureMessage") or "Bedrock does not say why"
        raise Refused(
            f"deployment {name} could not change to {wanted}: {why}; it goes on with {found['modelArn']}"
        )
    bedrock().tag_resource(resourceARN=arn, tags=_pairs({CHANGED_TAG: request.token(wanted)}))
    bedrock().update_custom_model_deployment(customModelDeploymentIdentifier=name, modelArn=wanted)


def _delete(request: Request) -> Answer | None:
    gone = Answer(physical_id=request.physical_id or request.own_id)
    name = request.physical_id or request.own_id
    if name == request.own_id and request.properties.get("Name"):
        # A "Create" that ran out of time was answered without the name of what it had made.
        name = deployment_name(request)
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        return gone
    found = _find(name)
    if found is None or not _own(_tags(found["customModelDeploymentArn"]), request, name):
        return gone
    from botocore.exceptions import ClientError

    try:
        bedrock().delete_custom_model_deployment(customModelDeploymentIdentifier=name)
    except ClientError as error:
        if _code(error) != "ResourceNotFoundException":
            raise
        return gone
    return None


def _find(name: str) -> Deployment | None:
    from botocore.exceptions import ClientError

    try:
        return dict(bedrock().get_custom_model_deployment(customModelDeploymentIdentifier=name))
    except ClientError as error:
        if _code(error) != "ResourceNotFoundException":
            raise
        return None


def _served(found: Deployment) -> str:
    """The model that a deployment answers with: the last one that it changed to, or its first."""
    details = found.get("updateDetails") or {}
    return str(details["modelArn"] if details.get("updateStatus") == "UpdateCompleted" else found["modelArn"])


def _own(tags: Mapping[str, str], request: Request, name: str) -> bool:
    return all(tags.get(key) == value for key, value in _marks(request, name).items())


def _marks(request: Request, name: str) -> dict[str, str]:
    return {STACK_TAG: request.stack_id, RESOURCE_TAG: name}


def _wanted_tags(request: Request) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in request.properties.get("Tags") or ()}


def _tag(arn: str, tags: Mapping[str, str], request: Request) -> None:
    wanted = _wanted_tags(request)
    before = {tag["Key"] for tag in request.old_properties.get("Tags") or ()}
    missing = {key: value for key, value in wanted.items() if tags.get(key) != value}
    if missing:
        bedrock().tag_resource(resourceARN=arn, tags=_pairs(missing))
    over = sorted(before & set(tags) - set(wanted))
    if over:
        bedrock().untag_resource(resourceARN=arn, tagKeys=over)


def _tags(arn: str) -> dict[str, str]:
    found = bedrock().list_tags_for_resource(resourceARN=arn)
    return {tag["key"]: tag["value"] for tag in found.get("tags", [])}


def _pairs(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags.items()]


def _code(error: ClientError) -> str:
    return str(error.response["Error"]["Code"])


def _said(error: ClientError) -> str:
    return str(error.response["Error"].get("Message", _code(error))).rstrip(".")
