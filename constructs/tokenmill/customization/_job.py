"""The construct behind every job that makes a version: state machine, roles, log, tags."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from tokenmill.customization._states import RECIPE_DIGITS, JobAbout, Naming, definition
from tokenmill.endpoints.job import job_tags
from tokenmill.security import actions
from tokenmill.security.acknowledge import acknowledge, any_resource
from tokenmill.security.json_text import json_text
from tokenmill.security.logs import log_group
from tokenmill.security.place import PARTITION, arn_in, place_of, stack_of
from tokenmill.security.printed import printed
from tokenmill.security.rights import Right, allow
from tokenmill.security.state_machine import logged_state_machine
from tokenmill_runtime import artifact_versions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aws_cdk import aws_kms as kms
    from aws_cdk import aws_s3 as s3
    from aws_cdk import aws_stepfunctions as stepfunctions

    from tokenmill.customization._tasks import Making
    from tokenmill.customization.artifact import ModelArtifact
    from tokenmill.security.hosting import FunctionHosting

# CustomModelName and ImportedModelName take 63: the base, a version and the beginning of the recipe.
BASE_NAME = 63 - artifact_versions.LONGEST_VERSION - RECIPE_DIGITS - 2
BEDROCK = "bedrock.amazonaws.com"
UNNAMED = (
    "Amazon Bedrock names jobs and models by random ids, which only a run knows; the role passes one "
    "service role alone."
)


class ArtifactJob(Construct):
    """What ModelImport and ModelCustomization have in common.

    Nothing starts a job but `tokenmill jobs run`; a run makes one version and records it for ever.
    """

    artifact: ModelArtifact
    state_machine: stepfunctions.CfnStateMachine
    service_role: iam.Role

    @property
    def job_name(self) -> str:
        """What `tokenmill jobs` calls the job."""
        return self.node.id

    def grant_start(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let a principal start runs and see how they end.

        Args:
            grantee: The principal.
        """
        runs = arn_in(self, "states", f"execution:{self.state_machine.attr_name}:*")
        watch = iam.Grant.add_to_principal(
            grantee=grantee, actions=list(actions.JOB_WATCH), resource_arns=[runs]
        )
        return iam.Grant.add_to_principal(
            grantee=grantee, actions=list(actions.JOB_START), resource_arns=[self.state_machine.ref]
        ).combine(watch)

    def _base_name(self) -> str:
        return cdk.Names.unique_resource_name(self, max_length=BASE_NAME, separator="-").lower()

    def _service_role(self, description: str, source: str | None) -> iam.Role:
        """Make the role that Bedrock works with, which no other account's jobs can have it take.

        "Cross-service confused deputy prevention" (Amazon Bedrock user guide); `source` is the kind of job
        that may take it, where AWS documents one.
        """
        conditions: dict[str, Any] = {"StringEquals": {"aws:SourceAccount": place_of(self).account}}
        if source is not None:
            conditions["ArnEquals"] = {"aws:SourceArn": self._bedrock_arn(source)}
        principal = iam.ServicePrincipal(BEDROCK, conditions=conditions)
        return iam.Role(self, "ServiceRole", assumed_by=principal, description=description)

    def _state_machine(
        self,
        about: JobAbout,
        making: Making,
        *,
        recipe: str,
        rights: Sequence[Right],
        hosting: FunctionHosting,
    ) -> stepfunctions.CfnStateMachine:
        naming = Naming(artifact=self.artifact.path, base=self._base_name(), recipe=recipe)
        document = definition(about, naming, making, partition=PARTITION)
        role = self._machine_role(about, rights)
        logs = log_group(self, "Logs", hosting)
        made = logged_state_machine(
            self,
            "Resource",
            definition=json_text(self, document),
            role_arn=role.role_arn,
            log_group_arn=logs.log_group_arn,
            tags=job_tags(self, kind=about.kind, name=about.name),
        )
        made.node.add_dependency(role)
        return made

    def _machine_role(self, about: JobAbout, rights: Sequence[Right]) -> iam.Role:
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("states.amazonaws.com"),
            description=f"Runs the job that {about.about}"[:1000],
        )
        versions = self.artifact.version_arns
        passed = {"StringEquals": {"iam:PassedToService": BEDROCK}}
        allow(
            role,
            *rights,
            Right(actions.PASS_ROLE, [self.service_role.role_arn], passed),
            Right([*actions.ARTIFACT_VERSION_READ, *actions.ARTIFACT_VERSION_CREATE], [versions]),
            iam.PolicyStatement(
                effect=iam.Effect.DENY,
                actions=list(actions.ARTIFACT_VERSION_CREATE),
                resources=[versions],
                conditions={"StringEquals": {"ssm:Overwrite": "true"}},
            ),
            Right([*actions.STATE_MACHINE_LOGS, *actions.STATE_MACHINE_TRACES], ["*"]),
        )
        wide = [arn for right in rights for arn in right.resources if arn.endswith("*")]
        acknowledge(
            role,
            {
                any_resource(): "Log deliveries, resource policies and X-Ray take no resource in a policy.",
                any_resource(printed(self, versions)): "A run says which version it makes.",
                **{any_resource(printed(self, arn)): UNNAMED for arn in wide},
            },
        )
        return role

    def _bedrock_arn(self, resource: str) -> str:
        return arn_in(self, "bedrock", f"{resource}/*")

    def _allow_folder(
        self, bucket: s3.IBucket, place: str, *, objects: Sequence[str], listing: Sequence[str]
    ) -> None:
        """Let the service role reach one folder ("name/*") or one object of a bucket of this account."""
        account = {"StringEquals": {"aws:ResourceAccount": place_of(self).account}}
        self._allow_place(bucket.bucket_arn, place, objects, listing, account)

    def _allow_place(
        self,
        bucket_arn: str,
        place: str,
        objects: Sequence[str],
        listing: Sequence[str],
        conditions: Mapping[str, Any],
    ) -> None:
        role, listed = self.service_role, {**conditions, "StringLike": {"s3:prefix": place}}
        allow(
            role,
            Right(objects, [f"{bucket_arn}/{place}"], conditions or None),
            Right(listing, [bucket_arn], listed),
        )
        if place.endswith("*"):
            reason = "Bedrock reads or writes all the files of one folder, whose names a run decides."
            acknowledge(role, {any_resource(f"{printed(self, bucket_arn)}/{place}"): reason})

    def _allow_key(self, key: kms.IKey | None, allowed: Sequence[str]) -> None:
        if key is not None:
            key.grant(self.service_role, *allowed)


def recipe_of(scope: Construct, document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of what a model is made of, the same for the same template.

    Args:
        scope: A construct of the stack.
        document: What it is made of, which may hold tokens.
    """
    text = json.dumps(stack_of(scope).resolve(dict(document)), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def tags_of(artifact: ModelArtifact) -> list[dict[str, str]]:
    """Return the tags of what a run makes, which say whose it is.

    Args:
        artifact: The artifact.
    """
    return [{"Key": "tokenmill:artifact", "Value": artifact.path}]
