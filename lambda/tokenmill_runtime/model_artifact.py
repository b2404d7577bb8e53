"""The custom resource of a consumer that pins a version of a model artifact: found, or refused.

Properties: ``Artifact`` (its path), ``Version``, and the job that builds it: ``Kind``, ``Stack``, ``Job``.
The physical id is the version's parameter; returned are ``ModelArn``, ``ModelName`` and ``Recipe``. It owns
nothing: a delete leaves the version where it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tokenmill_runtime.artifact_versions import missing_version, parameter_name, read_manifest
from tokenmill_runtime.aws import ssm
from tokenmill_runtime.custom_resource import Answer, Refused, Request

if TYPE_CHECKING:
    from collections.abc import Mapping

RESOURCE_TYPE: Final = "Custom::TokenmillModelArtifact"
# As many as a sentence can name.
MOST_NAMED: Final = 10


class ModelArtifactResource:
    """Looks a version up; see the module."""

    def begin(self, request: Request) -> str:
        """The physical id.

        Raises Refused where the version is not there.
        """
        if request.kind == "Delete":
            return request.physical_id or request.own_id
        wanted = request.properties
        pinned(wanted)
        return parameter_name(wanted["Artifact"], wanted["Version"])

    def advance(self, request: Request) -> Answer | None:
        """The attributes of the version.

        Raises Refused where the version is not there.
        """
        if request.kind == "Delete":
            return Answer(physical_id=request.physical_id or request.own_id)
        wanted = request.properties
        manifest = pinned(wanted)
        return Answer(
            physical_id=parameter_name(wanted["Artifact"], wanted["Version"]),
            data={
                "ModelArn": manifest["model_arn"],
                "ModelName": manifest["model_name"],
                "Recipe": manifest["recipe"],
            },
        )


def pinned(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest of the version that is pinned.

    Raises Refused naming the command that builds it, and the versions that are there.
    """
    from botocore.exceptions import ClientError

    name = parameter_name(wanted["Artifact"], wanted["Version"])
    try:
        text = ssm().get_parameter(Name=name)["Parameter"]["Value"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ParameterNotFound":
            raise
        raise Refused(missing_version(wanted, _there(wanted["Artifact"]))) from error
    try:
        return read_manifest(text)
    except ValueError as error:
        raise Refused(f"parameter {name}: {error}") from error


def _there(artifact: str) -> list[str]:
    found = ssm().get_parameters_by_path(Path=artifact, MaxResults=MOST_NAMED)
    return [entry["Name"].rpartition("/")[2] for entry in found.get("Parameters", [])]
