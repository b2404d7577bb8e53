"""CloudFormation handlers of Bedrock's types, over the same control plane as the API.

What `Ref` and `Fn::GetAtt` give is that of the CloudFormation Template Reference: `Ref` is the primary
identifier.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tokenmill.local.aws_requests import AwsError
from tokenmill.local.cloudformation.common import call
from tokenmill.local.member_names import members_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenmill.local.aws_requests import ModelledService, Params
    from tokenmill.local.cloudformation.common import Outcome
    from tokenmill.local.ministack_seams import Ministack

GONE = ("ResourceNotFoundException",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How a resource type maps to an API.

    Args:
        noun: What stands behind Create, Get, Update and Delete in the operations' names.
        identity: Members of Get, Update and Delete that name it, and the member of an answer or of the
            request that each is; their values, joined by "|", are the physical id.
        attributes: Members of Get's answer that are attributes.
        version: Whether it is a version of what the noun says.
        updates: Whether it is changed in place; every change replaces it otherwise.
        tags: Member of TagResource that takes its ARN; nothing where tags replace it.
        renamed: Properties under other names than the API's members.
    """

    noun: str
    identity: Mapping[str, str]
    attributes: tuple[str, ...]
    version: bool = False
    updates: bool = False
    tags: str | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)

    @property
    def create(self) -> str:
        """The operation that makes it."""
        return f"Create{self.noun}{'Version' if self.version else ''}"


class BedrockHandler:
    """One resource type.

    Args:
        ministack: MiniStack's modules.
        service: The API.
        kind: How the type maps to it.
    """

    def __init__(self, ministack: Ministack, service: ModelledService, kind: Kind) -> None:
        self._ministack = ministack
        self._service = service
        self._kind = kind

    def create(self, logical_id: str, properties: Params, stack: str) -> Outcome:
        """Create the resource."""
        params = self._members(self._kind.create, properties)
        answer = self._call(self._kind.create, params)
        return self._outcome({**params, **answer})

    def update(self, physical_id: str, before: Params, after: Params, stack: str, logical_id: str) -> Outcome:
        """Change the resource in place, or make another one; CloudFormation then deletes the old one."""
        kind = self._kind
        changed = _untagged(before) != _untagged(after)
        tagged = before.get("Tags") != after.get("Tags")
        if (changed and not kind.updates) or (tagged and kind.tags is None):
            return self.create(logical_id, after, stack)
        identity = self._identity(physical_id)
        if changed:
            operation = f"Update{kind.noun}"
            self._call(operation, {**self._members(operation, _untagged(after)), **identity})
        if tagged and kind.tags is not None:
            given = self._members("TagResource", {"Tags": after.get("Tags") or []})
            self._call("TagResource", {kind.tags: physical_id, **given})
        return self._outcome(identity)

    def delete(self, physical_id: str, properties: Params) -> None:
        """Delete the resource; one that is gone is fine."""
        try:
            self._call(f"Delete{self._kind.noun}", self._identity(physical_id))
        except AwsError as error:
            if error.code not in GONE:
                raise

    def _outcome(self, known: Params) -> Outcome:
        kind = self._kind
        identity = {
            member: known[source] if source in known else known[member]
            for member, source in kind.identity.items()
        }
        described = self._call(f"Get{kind.noun}", identity)
        attributes = {_pascal(name): _shown(described[name]) for name in kind.attributes if name in described}
        return "|".join(str(described[source]) for source in kind.identity.values()), attributes

    def _identity(self, physical_id: str) -> Params:
        return dict(zip(self._kind.identity, physical_id.split("|"), strict=False))

    def _call(self, operation: str, params: Params) -> Params:
        return call(self._service, self._ministack.scope(), operation, params)

    def _members(self, operation: str, properties: Params) -> Params:
        given = {self._kind.renamed.get(name, name): value for name, value in properties.items()}
        shape = self._service.shapes.model.operation_model(operation).input_shape
        members: Params = members_of(shape, given)
        return members


def bedrock_handlers(
    ministack: Ministack, control: ModelledService, prompts: ModelledService
) -> dict[str, BedrockHandler]:
    """Return the handlers by resource type.

    Args:
        ministack: MiniStack's modules.
        control: Bedrock's control plane.
        prompts: The agent API's prompts.
    """
    return {
        name: BedrockHandler(ministack, prompts if kind.noun == "Prompt" else control, kind)
        for name, kind in KINDS.items()
    }


def _untagged(properties: Params) -> Params:
    return {name: value for name, value in properties.items() if name != "Tags"}


def _pascal(name: str) -> str:
    return name[0].upper() + name[1:]


def _shown(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value


_TIMES = ("createdAt", "updatedAt")
KINDS: dict[str, Kind] = {
    "AWS::Bedrock::ApplicationInferenceProfile": Kind(
        noun="InferenceProfile",
        identity={"inferenceProfileIdentifier": "inferenceProfileArn"},
        attributes=("inferenceProfileArn", "inferenceProfileId", "status", "type", *_TIMES),
        tags="resourceARN",
    ),
    "AWS::Bedrock::IntelligentPromptRouter": Kind(
        noun="PromptRouter",
        identity={"promptRouterArn": "promptRouterArn"},
        attributes=("promptRouterArn", "status", "type", *_TIMES),
        tags="resourceARN",
    ),
    "AWS::Bedrock::Guardrail": Kind(
        noun="Guardrail",
        identity={"guardrailIdentifier": "guardrailArn"},
        attributes=("guardrailArn", "guardrailId", "version", "status", *_TIMES),
        updates=True,
        tags="resourceARN",
        renamed={"KmsKeyArn": "KmsKeyId"},
    ),
    "AWS::Bedrock::GuardrailVersion": Kind(
        noun="Guardrail",
        identity={"guardrailIdentifier": "guardrailId", "guardrailVersion": "version"},
        attributes=("guardrailArn", "guardrailId", "version"),
        version=True,
    ),
    "AWS::Bedrock::Prompt": Kind(
        noun="Prompt",
        identity={"promptIdentifier": "arn"},
        attributes=("arn", "id", "version", *_TIMES),
        updates=True,
        tags="resourceArn",
    ),
    "AWS::Bedrock::PromptVersion": Kind(
        noun="Prompt",
        identity={"promptIdentifier": "arn"},
        attributes=("arn", "version", "name", "defaultVariant", *_TIMES),
        version=True,
        renamed={"PromptArn": "PromptIdentifier"},
    ),
}
