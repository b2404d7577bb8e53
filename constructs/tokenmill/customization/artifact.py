"""A model artifact: versions that jobs make once, and that consumers pin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import aws_cdk as cdk
from constructs import Construct

from tokenmill.bedrock.homes import check_place
from tokenmill.core._checks import is_token
from tokenmill.core.errors import TokenmillError
from tokenmill.security import actions
from tokenmill.security.place import arn_in, stack_of
from tokenmill.security.rights import Right
from tokenmill_runtime import artifact_versions
from tokenmill_runtime.model_artifact import RESOURCE_TYPE

if TYPE_CHECKING:
    from constructs import IConstruct

LONGEST_NAME = 100
VERSION_ID = "ArtifactVersion"


class ModelArtifact(Construct):
    """The versions of one model, each made by one run of a job and never changed afterwards.

    A version is a parameter of the Parameter Store that says which model of Bedrock it is and what it was
    made of. It is recorded when the model is ready, by a role that may create parameters and is denied to
    overwrite them; it stays when the stack goes. Give the artifact to a ModelImport or a ModelCustomization,
    run `tokenmill jobs run`, and pin `artifact.version("1")` where the model is used: a deployment that pins
    a version which is not there fails and names the command that builds it.

    The job and its consumers stand in two stacks, since a refused deployment rolls its own stack back.

    Args:
        scope: The parent construct.
        id: The construct's id.

    Raises:
        TokenmillError: If the id is taken, or the parent is in no stack.
    """

    def __init__(self, scope: Construct, id: str) -> None:
        check_place(scope, id, {})
        super().__init__(scope, id)
        unique = cdk.Names.unique_resource_name(self, max_length=LONGEST_NAME, separator="-")
        self.path = f"{artifact_versions.ROOT}{unique}"
        self._built_by: tuple[str, Construct] | None = None

    @property
    def version_arns(self) -> str:
        """The parameters of all versions, as a pattern of ARNs."""
        return _parameter_arn(self, f"{self.path}/*")

    def version(self, version: str) -> ArtifactVersion:
        """Return one version, which a consumer pins; the deployment fails where it is not there.

        Args:
            version: 1 to 16 letters or digits, with single dashes between them, such as "1" or "2026-07-01".

        Raises:
            TokenmillError: If the version is not of that form, or only known to a deployment.
        """
        if isinstance(version, str) and is_token(version):
            raise TokenmillError("version is a token, which only a deployment knows; pin a version as text")
        problem = artifact_versions.version_problem(version)
        if problem:
            raise TokenmillError(problem)
        return ArtifactVersion(artifact=self, version=version)

    @property
    def built_by(self) -> tuple[str, Construct] | None:
        """The kind of the job that makes versions, and the job; None before there is one."""
        return self._built_by

    def _claim(self, kind: str, job: Construct) -> None:
        """Be the only job that makes versions of this artifact."""
        self._built_by = (kind, job)

    def _refuse_second(self) -> None:
        if self._built_by is not None:
            raise TokenmillError(
                f"{self.node.path} has a job already, {self._built_by[1].node.path}; give each job an "
                "artifact of its own"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactVersion:
    """A version that a consumer pins; made by `ModelArtifact.version`.

    Args:
        artifact: The artifact.
        version: The version.
    """

    artifact: ModelArtifact
    version: str

    def check(self, scope: Construct) -> None:
        """Refuse a consumer that could never be deployed; nothing is made yet.

        Args:
            scope: Where the consumer will stand.

        Raises:
            TokenmillError: If no job makes the artifact, or it stands in the consumer's own stack.
        """
        if self.artifact.built_by is None:
            raise TokenmillError(
                f"no job makes versions of {self.artifact.node.path}; give it to a ModelImport or a "
                "ModelCustomization first"
            )
        stack, home = stack_of(scope), stack_of(self.artifact.built_by[1])
        if home is stack:
            raise TokenmillError(
                f"{self.artifact.built_by[1].node.path} and what pins its version are both in stack "
                f"{stack.stack_name}; a deployment that misses the version rolls back the state machine that "
                "would make it, so give the job a stack of its own"
            )

    def resolve(self, scope: Construct) -> cdk.CustomResource:
        """Return the resource that looks the version up, with the attributes ModelArn, ModelName and Recipe.

        Args:
            scope: The consumer, which has one of these at the most.

        Raises:
            TokenmillError: As `check`.
        """
        from tokenmill.bedrock.resources import BedrockResources

        self.check(scope)
        kind, job = self.artifact.built_by or ("", self.artifact)
        resources = BedrockResources.of(scope)
        path = self.artifact.path
        one = _parameter_arn(scope, artifact_versions.parameter_name(path, self.version))
        return resources.resource(
            scope,
            VERSION_ID,
            resource_type=RESOURCE_TYPE,
            properties={
                "Artifact": path,
                "Version": self.version,
                "Kind": kind,
                "Stack": stack_of(job).stack_name,
                "Job": job.node.id,
            },
            statements=[
                Right(actions.ARTIFACT_VERSION_READ, [one]),
                Right(actions.ARTIFACT_VERSION_LIST, [_parameter_arn(scope, path)]),
            ],
        )


def _parameter_arn(scope: IConstruct, name: str) -> str:
    return arn_in(scope, "ssm", f"parameter/{name.removeprefix('/')}")
