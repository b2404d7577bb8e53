"""CloudFormation handlers of Bedrock's types, over the same control plane as the API.

What `Ref` and `Fn::GetAtt` give is that of the CloudFormation Template Reference: `Ref` is the primary
identifier.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from tokenmill.local.aws_requests import AwsError
from tokenmill.local.member_names import members_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tokenmill.local.aws_requests import Params, Scope, ServiceShapes
    from tokenmill.local.cloudformation.common import Outcome
    from tokenmill.local.ministack_seams import Ministack

GONE = ("ResourceNotFoundException",)


class Service(Protocol):
    """An API that a resource type stands for."""

    @property
    def shapes(self) -> ServiceShapes:
        """The service's operations."""

    def call(self, scope: Scope, operation: str, params: Params) -> Params:
        """Run one operation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How a resource type maps to an API.

    Args:
        create: Operation that makes it.
        get: Operation that describes it.
        delete: Operation that deletes it.
        update: Operation that changes it in place; nothing where every change replaces it.
        identity: Members of create's answer, or of the request, that name it in get, update and delete.
        physical: Physical id from what get answers.
        attributes: Members of get's answer that are attributes, or what makes the attributes of it.
        tag: Operation that tags it, and the member that takes its ARN; nothing where tags replace it.
        renamed: Properties under other names than the API's members.
    """

    create: str
    get: str
    delete: str
    update: str | None = None
    identity: Mapping[str, str]
    physical: Callable[[Params], str]
    attributes: tuple[str, ...]
    tag: tuple[str, str] | None = None
    renamed: Mapping[str, str]


class BedrockHandler:
    """One resource type.

    Args:
        ministack: MiniStack's modules.
        service: The API.
        kind: How the type maps to it.
    """

    def __init__(self, ministack: Ministack, service: Service, kind: Kind) -> None:
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
        same = {k: v for k, v in before.items() if k != "Tags"} == {
            k: v for k, v in after.items() if k != "Tags"
        }
        if kind.update is None and not (same and kind.tag is not None):
            return self.create(logical_id, after, stack)
        identity = self._identity(physical_id)
        if kind.update is not None and not same:
            params = self._members(kind.update, {k: v for k, v in after.items() if k != "Tags"})
            self._call(kind.update, {**params, **identity})
        if kind.tag is not None and before.get("Tags") != after.get("Tags"):
            operation, member = kind.tag
            self._call(operation, {member: physical_id, **self._tags(operation, after.get("Tags") or [])})
        return self._outcome(identity)

    def delete(self, physical_id: str, properties: Params) -> None:
        """Delete the resource; one that is gone is fine."""
        try:
            self._call(self._kind.delete, self._identity(physical_id))
        except AwsError as error:
            if error.code not in GONE:
                raise

    def _outcome(self, known: Params) -> Outcome:
        kind = self._kind
        identity = {
            member: known[source] if source in known else known[member]
            for member, source in kind.identity.items()
        }
        described = self._call(kind.get, identity)
        attributes = {_pascal(name): _shown(described[name]) for name in kind.attributes if name in described}
        return kind.physical(described), attributes

    def _identity(self, physical_id: str) -> Params:
        return dict(zip(self._kind.identity, physical_id.split("|"), strict=False))

    def _call(self, operation: str, params: Params) -> Params:
        typed = self._service.shapes.coerce(operation, params)
        self._service.shapes.check(operation, typed)
        return self._service.call(self._ministack.scope(), operation, typed)

    def _members(self, operation: str, properties: Params) -> Params:
        given = {self._kind.renamed.get(name, name): value for name, value in properties.items()}
        shape = self._service.shapes.model.operation_model(operation).input_shape
        members: Params = members_of(shape, given)
        return members

    def _tags(self, operation: str, tags: Any) -> Params:
        return self._members(operation, {"Tags": tags})


def bedrock_handlers(ministack: Ministack, control: Service, prompts: Service) -> dict[str, BedrockHandler]:
    """Return the handlers by resource type.

    Args:
        ministack: MiniStack's modules.
        control: Bedrock's control plane.
        prompts: The agent API's prompts.
    """
    agent = ("AWS::Bedrock::Prompt", "AWS::Bedrock::PromptVersion")
    return {
        name: BedrockHandler(ministack, prompts if name in agent else control, kind)
        for name, kind in KINDS.items()
    }


def _pascal(name: str) -> str:
    return name[0].upper() + name[1:]


def _shown(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value


KINDS: dict[str, Kind] = {
    "AWS::Bedrock::ApplicationInferenceProfile": Kind(
        create="CreateInferenceProfile",
        get="GetInferenceProfile",
        delete="DeleteInferenceProfile",
        identity={"inferenceProfileIdentifier": "inferenceProfileArn"},
        physical=lambda described: str(described["inferenceProfileArn"]),
        attributes=("inferenceProfileArn", "inferenceProfileId", "status", "type", "createdAt", "updatedAt"),
        tag=("TagResource", "resourceARN"),
        renamed={},
    ),
    "AWS::Bedrock::IntelligentPromptRouter": Kind(
        create="CreatePromptRouter",
        get="GetPromptRouter",
        delete="DeletePromptRouter",
        identity={"promptRouterArn": "promptRouterArn"},
        physical=lambda described: str(described["promptRouterArn"]),
        attributes=("promptRouterArn", "status", "type", "createdAt", "updatedAt"),
        tag=("TagResource", "resourceARN"),
        renamed={},
    ),
    "AWS::Bedrock::Guardrail": Kind(
        create="CreateGuardrail",
        get="GetGuardrail",
        delete="DeleteGuardrail",
        update="UpdateGuardrail",
        identity={"guardrailIdentifier": "guardrailArn"},
        physical=lambda described: str(described["guardrailArn"]),
        attributes=("guardrailArn", "guardrailId", "version", "status", "createdAt", "updatedAt"),
        tag=("TagResource", "resourceARN"),
        renamed={"KmsKeyArn": "KmsKeyId"},
    ),
    "AWS::Bedrock::GuardrailVersion": Kind(
        create="CreateGuardrailVersion",
        get="GetGuardrail",
        delete="DeleteGuardrail",
        identity={"guardrailIdentifier": "guardrailId", "guardrailVersion": "version"},
        physical=lambda described: f"{described['guardrailId']}|{described['version']}",
        attributes=("guardrailArn", "guardrailId", "version"),
        renamed={},
    ),
    "AWS::Bedrock::Prompt": Kind(
        create="CreatePrompt",
        get="GetPrompt",
        delete="DeletePrompt",
        update="UpdatePrompt",
        identity={"promptIdentifier": "arn"},
        physical=lambda described: str(described["arn"]),
        attributes=("arn", "id", "version", "createdAt", "updatedAt"),
        tag=("TagResource", "resourceArn"),
        renamed={},
    ),
    "AWS::Bedrock::PromptVersion": Kind(
        create="CreatePromptVersion",
        get="GetPrompt",
        delete="DeletePrompt",
        identity={"promptIdentifier": "arn"},
        physical=lambda described: str(described["arn"]),
        attributes=("arn", "version", "name", "defaultVariant", "createdAt", "updatedAt"),
        renamed={"PromptArn": "PromptIdentifier"},
    ),
}
