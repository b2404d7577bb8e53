"""A custom model that answers on demand, and an imported model, as models of Bedrock."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from tokenmill.bedrock.foundation_model import check_model_home
from tokenmill.bedrock.homes import check_place
from tokenmill.bedrock.options import check_fallback
from tokenmill.bedrock.resources import BedrockResources
from tokenmill.core._kinds import instance, text_map
from tokenmill.core.errors import TokenmillError
from tokenmill.customization.artifact import ArtifactVersion
from tokenmill.security import actions
from tokenmill.security.acknowledge import acknowledge, any_resource
from tokenmill.security.place import arn_in
from tokenmill.security.printed import printed
from tokenmill.security.rights import Right
from tokenmill_runtime.model_deployment import LONGEST_PREFIX, RESOURCE_TYPE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenmill.bedrock.model import IBedrockModel

# "Tag" (Amazon Bedrock API Reference); the handler and CloudFormation add a few of the 50 that AWS takes.
TAG_KEY, TAG_VALUE = (
    re.compile(r"[\w\s.:/=+@-]{1,128}", re.ASCII),
    re.compile(r"[\w\s.:/=+@-]{0,256}", re.ASCII),
)
MOST_TAGS = 40
UNNAMED = "Bedrock names deployments and custom models by random ids, which only a deployment knows."


class _Called(Construct):
    """A model that is called by one ARN, with a fallback where one is given."""

    model_arn: str

    def __init__(self, scope: Construct, id: str, *, fallback: IBedrockModel | None) -> None:
        super().__init__(scope, id)
        self.fallback = fallback

    @property
    def model_id(self) -> str:
        """What Converse takes as `modelId`."""
        return self.model_arn

    @property
    def handle(self) -> str | None:
        """None: the ARN never changes."""
        return None

    @property
    def fallback_id(self) -> str | None:
        """What is asked instead while this model throttles."""
        return None if self.fallback is None else self.fallback.model_id

    @property
    def metric_dimension(self) -> str:
        """The value of the ModelId dimension of its metrics."""
        return self.model_arn

    def grant_invoke(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let a principal call the model and its fallback.

        Args:
            grantee: The principal.
        """
        granted = iam.Grant.add_to_principal(
            grantee=grantee, actions=list(actions.BEDROCK_INVOKE), resource_arns=[self.model_arn]
        )
        return granted if self.fallback is None else granted.combine(self.fallback.grant_invoke(grantee))


class ModelDeployment(_Called):
    """A custom model deployed on demand: paid for by the token, without units.

    Another version changes the deployment in place; it goes on with the old one until the new one is ready,
    and stays with it where the new one fails. It is deleted with the stack; the version stays.

    Args:
        scope: The parent construct.
        id: The construct's id.
        model: The version that is deployed, of a ModelCustomization or of an import of Amazon Nova.
        fallback: What callers are sent to while the model throttles, such as an InferenceProfile.
        tags: Tags of the deployment, beside the stack's own.

    Raises:
        TokenmillError: If the version's job stands in the same stack, or makes models that are not deployed.
    """

    in_batch_jobs = False
    """Bedrock runs no batch inference on a deployment."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        model: ArtifactVersion,
        fallback: IBedrockModel | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        _check(scope, id, model, fallback)
        tags = _checked_tags(tags)
        if _is_open(model):
            raise TokenmillError(
                f"{model.artifact.node.path} holds open weights, which are called as they are once they are "
                "imported; give ImportedModel the version"
            )
        super().__init__(scope, id, fallback=fallback)
        self.version = model
        found = model.resolve(self)
        name = cdk.Names.unique_resource_name(self, max_length=LONGEST_PREFIX, separator="-")
        resources = BedrockResources.of(self)
        self.resource = resources.resource(
            self,
            "Resource",
            resource_type=RESOURCE_TYPE,
            properties={
                "Name": name,
                "ModelArn": found.get_att_string("ModelArn"),
                "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
            },
            statements=self._rights(resources),
        )
        self.model_arn = self.resource.get_att_string("Arn")

    @property
    def deployment_arn(self) -> str:
        """The deployment's ARN."""
        return self.model_arn

    def _rights(self, resources: BedrockResources) -> list[Right]:
        deployments, models = (
            arn_in(self, "bedrock", f"{kind}/*") for kind in ("custom-model-deployment", "custom-model")
        )
        role = resources.handler.role
        acknowledge(role, {any_resource(printed(role, arn)): UNNAMED for arn in (deployments, models)})
        return [
            Right(actions.MODEL_DEPLOYMENT_CREATE, [models, deployments]),
            Right(actions.MODEL_DEPLOYMENT_OWN, [deployments]),
        ]


class ImportedModel(_Called):
    """Open weights that were imported: called by the imported model's own ARN.

    Amazon Bedrock loads a copy when it is called and bills it by the minute while it answers; a call may be
    refused with ModelNotReadyException until the copy is there ("Invoke your imported model", Amazon Bedrock
    user guide).

    Args:
        scope: The parent construct.
        id: The construct's id.
        model: The version, of a ModelImport of open weights.
        fallback: What callers are sent to while the model throttles.

    Raises:
        TokenmillError: If the version's job stands in the same stack, or makes models that are deployed.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        model: ArtifactVersion,
        fallback: IBedrockModel | None = None,
    ) -> None:
        _check(scope, id, model, fallback)
        if not _is_open(model):
            raise TokenmillError(
                f"{model.artifact.node.path} holds custom models, which answer once they are deployed; give "
                "ModelDeployment the version"
            )
        super().__init__(scope, id, fallback=fallback)
        self.version = model
        self.model_arn = model.resolve(self).get_att_string("ModelArn")


def _check(scope: Construct, id: str, model: ArtifactVersion, fallback: IBedrockModel | None) -> None:
    check_place(scope, id, {})
    instance(ArtifactVersion, model=model)
    check_fallback(fallback)
    if isinstance(fallback, str):
        raise TokenmillError(
            f"fallback is {fallback!r:.80}; give a model whose rights are known, such as "
            "InferenceProfile.cross_region(…) or an InferenceProfile"
        )
    if fallback is not None:
        check_model_home(scope, fallback, name="fallback")
    model.check(scope)


def _checked_tags(given: Mapping[str, str] | None) -> dict[str, str]:
    tags = {} if given is None else text_map("tags", given)
    if len(tags) > MOST_TAGS:
        raise TokenmillError(
            f"tags has {len(tags)} tags; Bedrock takes 50 a resource, of which {MOST_TAGS} are yours"
        )
    for key, value in tags.items():
        taken = key.lower().startswith(("aws:", "tokenmill:"))
        if taken or not (TAG_KEY.fullmatch(key) and TAG_VALUE.fullmatch(value)):
            raise TokenmillError(
                f"tags has {key!r:.60}: {value!r:.60}; a key has 1 to 128 and a value at most 256 letters, "
                "digits, blanks and _ . : / = + @ -, and no key begins with aws: or tokenmill:"
            )
    return tags


def _is_open(model: ArtifactVersion) -> bool:
    from tokenmill.customization.model_import import ModelImport

    job = None if model.artifact.built_by is None else model.artifact.built_by[1]
    return isinstance(job, ModelImport) and job.source.bucket is not None
