"""What the gateway, batch jobs and prompts take as a model or a prompt, whichever construct made it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from aws_cdk import aws_iam as iam


@runtime_checkable
class IBedrockModel(Protocol):
    """A model that Bedrock's runtime API can be asked for: a profile, units, a router, a deployment.

    Everything is known when the construct exists, as a text or as a token.
    """

    @property
    def model_id(self) -> str:
        """What Converse takes as `modelId`: a model's or profile's id, or any ARN that Converse accepts."""

    @property
    def handle(self) -> str | None:
        """The name of the SSM parameter that says which models to call now; None where that never changes.

        Its document is ``{"models": [{"id": arn, "units": n}], "fallback": id, "state": "units"}`` or
        ``"overflow"``. Where there is one, callers read it and `model_id` is only what it began with.
        """

    @property
    def fallback_id(self) -> str | None:
        """What Converse is asked for instead while this model throttles or has no units; None for nothing."""

    @property
    def metric_dimension(self) -> str:
        """The value of the ModelId dimension of this model's metrics in the namespace AWS/Bedrock."""

    def grant_invoke(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let a principal call this model and its fallback, and read its handle, and nothing else.

        Args:
            grantee: The principal.
        """


class FixedModel:
    """A model that is called by one id for good, and that nothing stands in for."""

    @property
    def handle(self) -> str | None:
        """Nothing: the id never changes."""
        return None

    @property
    def fallback_id(self) -> str | None:
        """Nothing."""
        return None


@runtime_checkable
class IManagedPrompt(Protocol):
    """A version of a prompt that Converse takes instead of a model's id."""

    @property
    def prompt_version_arn(self) -> str:
        """The ARN with the version's number, which Converse takes as `modelId`."""

    @property
    def variables(self) -> AbstractSet[str]:
        """The names that must be filled when the prompt is used."""

    def grant_use(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let a principal render this prompt (`bedrock:RenderPrompt`) and call the model that it names.

        Args:
            grantee: The principal.
        """
