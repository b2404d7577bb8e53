"""Guardrails with versions, and how a gateway uses one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

import aws_cdk as cdk
from aws_cdk import aws_bedrock as bedrock
from aws_cdk import aws_iam as iam
from constructs import Construct

from tokenmill.bedrock.guardrail_values import GuardrailPolicies
from tokenmill.bedrock.homes import WITHOUT_GUARDRAILS, check_place, check_type
from tokenmill.core._checks import is_token
from tokenmill.core._kinds import KEY, choice, instance, resource, texts
from tokenmill.core.errors import TokenmillError
from tokenmill.security import actions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aws_cdk import aws_cloudwatch as cloudwatch
    from aws_cdk import aws_kms as kms

NAMESPACE = "AWS/Bedrock/Guardrails"
LONGEST_NAME = 50
# "Quotas for Amazon Bedrock": versions per guardrail.
MOST_VERSIONS = 20
DIGEST = re.compile(r"[0-9a-f]{8}")
VERSION = re.compile(r"[1-9][0-9]{0,7}")
ARN = re.compile(r"arn:aws(-[^:]+)?:bedrock:[a-z0-9-]{1,20}:[0-9]{12}:guardrail/[a-z0-9]+")


class GuardrailMode(StrEnum):
    """When a guardrail looks at an answer that streams.

    SYNC holds the text until it was assessed. ASYNC sends it at once and ends the answer when an assessment
    says so: some of what is blocked has been read by then, and nothing is masked. Source: "Configure
    streaming response behavior to filter content" (Amazon Bedrock User Guide).
    """

    SYNC = "sync"
    ASYNC = "async"


class IGuardrail(Protocol):
    """A version of a guardrail, made here or elsewhere."""

    @property
    def guardrail_arn(self) -> str:
        """The guardrail's ARN, without a version."""

    @property
    def guardrail_version(self) -> str:
        """The version's number."""

    @property
    def blocked_question(self) -> str | None:
        """What stands for a blocked question; None where that is not known here."""

    @property
    def masks(self) -> bool:
        """Whether it changes texts, and not only lets them through or blocks them; False if not known."""

    def grant_apply(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let a principal have texts assessed, by Converse or by ApplyGuardrail.

        Args:
            grantee: The principal.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardrailHook:
    """A guardrail as a gateway uses it. Made by `hook`.

    Args:
        guardrail: The guardrail.
        mode: When it looks at an answer that streams.

    Raises:
        TokenmillError: If it masks and the mode is ASYNC, which masks nothing.
    """

    guardrail: IGuardrail
    mode: GuardrailMode = GuardrailMode.SYNC

    def __post_init__(self) -> None:
        choice(GuardrailMode, mode=self.mode)
        if not hasattr(self.guardrail, "guardrail_version"):
            raise TokenmillError(
                f"guardrail is {self.guardrail!r:.80}; give a Guardrail, or Guardrail.from_guardrail_arn(…)"
            )
        if self.mode == GuardrailMode.ASYNC and self.guardrail.masks:
            raise TokenmillError(
                "mode is ASYNC, but the guardrail masks personal data, which it only does in SYNC; use SYNC, "
                "or block what is masked now"
            )


class Guardrail(Construct):
    """A guardrail and the version of what it does now.

    A version is a snapshot that never changes; a change of the policies makes a new one, and callers that
    are given `guardrail_version` move to it in the same deployment. The version before is deleted when they
    have, unless `kept_versions` names it for callers elsewhere.

    Args:
        scope: The parent construct.
        id: The construct's id.
        policies: All that it does.
        kept_versions: Digests of earlier policies whose versions stay, as `digest` gave them then.
        encryption_key: The key that the policies are encrypted with; one of AWS's otherwise.

    Raises:
        TokenmillError: If a kept version is no digest, is today's, or there are too many.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        policies: GuardrailPolicies,
        kept_versions: Sequence[str] = (),
        encryption_key: kms.IKey | None = None,
    ) -> None:
        instance(GuardrailPolicies, policies=policies)
        _check_kept(policies.digest, kept_versions)
        resource(KEY, encryption_key=encryption_key)
        check_place(scope, id, {"encryption_key": encryption_key})
        check_type(scope, "AWS::Bedrock::Guardrail", WITHOUT_GUARDRAILS)
        super().__init__(scope, id)
        self.policies = policies
        self.encryption_key = encryption_key
        self.resource = bedrock.CfnGuardrail(
            self,
            "Resource",
            name=cdk.Names.unique_resource_name(self, max_length=LONGEST_NAME, separator="-"),
            kms_key_arn=None if encryption_key is None else encryption_key.key_arn,
            **policies.to_properties(),
        )
        for digest in kept_versions:
            self._version(digest)
        self.version = self._version(policies.digest)

    @staticmethod
    def from_guardrail_arn(arn: str, *, version: str) -> IGuardrail:
        """Return a guardrail that stands elsewhere.

        Args:
            arn: Its ARN, without a version.
            version: The version's number; "DRAFT" changes under its callers and is refused.

        Raises:
            TokenmillError: If one of them is not of its form.
        """
        return ImportedGuardrail(guardrail_arn=arn, guardrail_version=version)

    @property
    def guardrail_id(self) -> str:
        """The guardrail's id."""
        return self.resource.attr_guardrail_id

    @property
    def guardrail_arn(self) -> str:
        """The guardrail's ARN, without a version."""
        return self.resource.attr_guardrail_arn

    @property
    def guardrail_version(self) -> str:
        """The number of the version of these policies."""
        return self.version.attr_version

    @property
    def digest(self) -> str:
        """What `kept_versions` is given to keep the version of these policies later."""
        return self.policies.digest

    @property
    def blocked_question(self) -> str:
        """What stands for a blocked question."""
        return self.policies.messages.question

    @property
    def masks(self) -> bool:
        """Whether it changes texts, and not only lets them through or blocks them."""
        return self.policies.masks

    def hook(self, *, mode: GuardrailMode = GuardrailMode.SYNC) -> GuardrailHook:
        """Return what a gateway's model takes.

        Args:
            mode: When it looks at an answer that streams.

        Raises:
            TokenmillError: If it masks and the mode is ASYNC.
        """
        return GuardrailHook(guardrail=self, mode=mode)

    def grant_apply(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let a principal have texts assessed, by Converse or by ApplyGuardrail.

        Args:
            grantee: The principal.
        """
        if self.encryption_key is not None:
            self.encryption_key.grant(grantee, *actions.GUARDRAIL_KEY_USE)
        return _grant_apply(self.guardrail_arn, grantee)

    def metric_interventions(self) -> cloudwatch.Metric:
        """Return how many texts were blocked or masked, a minute."""
        return self._metric("InvocationsIntervened")

    def metric_text_units(self) -> cloudwatch.Metric:
        """Return the text units of up to 1,000 characters that were assessed, a minute; they are paid for."""
        return self._metric("TextUnitCount")

    def _metric(self, name: str) -> cloudwatch.Metric:
        from aws_cdk import aws_cloudwatch as cloudwatch

        return cloudwatch.Metric(
            namespace=NAMESPACE,
            metric_name=name,
            dimensions_map={
                "GuardrailArn": self.guardrail_arn,
                "GuardrailVersion": self.guardrail_version,
            },
            statistic="Sum",
            period=cdk.Duration.minutes(1),
        )

    def _version(self, digest: str) -> bedrock.CfnGuardrailVersion:
        return bedrock.CfnGuardrailVersion(
            self,
            f"Version{digest}",
            guardrail_identifier=self.guardrail_id,
            # Changing it would replace the version, so it has nothing but what the version is named by.
            description=f"policies {digest}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedGuardrail:
    """A guardrail that stands elsewhere. Made by `Guardrail.from_guardrail_arn`.

    Args:
        guardrail_arn: Its ARN, without a version.
        guardrail_version: The version's number.

    Raises:
        TokenmillError: If one of them is not of its form.
    """

    guardrail_arn: str
    guardrail_version: str

    def __post_init__(self) -> None:
        for name in ("guardrail_arn", "guardrail_version"):
            if not isinstance(getattr(self, name), str):
                raise TokenmillError(f"{name} is {getattr(self, name)!r:.80}; give it as a text")
        if not is_token(self.guardrail_arn) and not ARN.fullmatch(self.guardrail_arn):
            raise TokenmillError(
                f"guardrail_arn is {self.guardrail_arn!r}; it must be of the form "
                "arn:aws:bedrock:us-east-1:111122223333:guardrail/abc123, without a version"
            )
        version = self.guardrail_version
        if not is_token(version) and not VERSION.fullmatch(version):
            raise TokenmillError(
                f"guardrail_version is {version!r}; it must be a number such as '3' (DRAFT would change "
                "under its callers)"
            )

    @property
    def blocked_question(self) -> None:
        """Not known here."""
        return None

    @property
    def masks(self) -> bool:
        """Not known here, so taken as no."""
        return False

    def hook(self, *, mode: GuardrailMode = GuardrailMode.SYNC) -> GuardrailHook:
        """Return what a gateway's model takes.

        Args:
            mode: When it looks at an answer that streams.
        """
        return GuardrailHook(guardrail=self, mode=mode)

    def grant_apply(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let a principal have texts assessed; a key of its own must be granted where it stands.

        Args:
            grantee: The principal.
        """
        return _grant_apply(self.guardrail_arn, grantee)


def _check_kept(today: str, kept_versions: Sequence[str]) -> None:
    kept = texts("kept_versions", kept_versions)
    for digest in kept:
        if not DIGEST.fullmatch(digest):
            raise TokenmillError(
                f"kept_versions has {digest!r}; give eight hex digits, as `digest` of the guardrail gave them"
            )
        if digest == today or kept.count(digest) > 1:
            raise TokenmillError(f"kept_versions has {digest}, which is kept anyway; leave it out")
    if len(kept) >= MOST_VERSIONS:
        raise TokenmillError(
            f"kept_versions has {len(kept)} entries; a guardrail has at most {MOST_VERSIONS} versions, "
            "today's included"
        )


def _grant_apply(arn: str, grantee: iam.IGrantable) -> iam.Grant:
    return iam.Grant.add_to_principal(
        grantee=grantee, actions=list(actions.GUARDRAIL_APPLY), resource_arns=[arn]
    )
