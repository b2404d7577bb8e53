"""Events of services in MiniStack: what ours send, and what CloudFormation says about its stacks.

Source: AWS CloudFormation User Guide, "Stack Status Change event detail"; Amazon ECR API Reference,
"DescribeImages" (ImageNotFoundException).
"""

from __future__ import annotations

import contextvars
import importlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokenmill.local.aws_requests import Params, Scope
from tokenmill.local.ministack_seams import CLOUDFORMATION, STACK_EVENT_HOLDERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenmill.local.ministack_seams import Ministack

STACK = "AWS::CloudFormation::Stack"


@dataclass(frozen=True, slots=True, kw_only=True)
class StackEvent:
    """A stack went to another status."""

    stack_id: str
    status: str
    reason: str
    client_request_token: str

    @property
    def scope(self) -> Scope:
        """Account and region of the stack."""
        parts = self.stack_id.split(":")
        return Scope(parts[4], parts[3])

    @property
    def detail(self) -> Params:
        """The detail of its event."""
        detail: Params = {
            "stack-id": self.stack_id,
            "status-details": {"status": self.status, "status-reason": self.reason},
        }
        if self.client_request_token:
            detail["client-request-token"] = self.client_request_token
        return detail


class EventBus:
    """The default event bus of every account and region.

    Args:
        ministack: MiniStack's modules.
    """

    def __init__(self, ministack: Ministack) -> None:
        self._ministack = ministack

    def publish(
        self, scope: Scope, source: str, detail_type: str, detail: Params, resources: list[str]
    ) -> None:
        """Send an event of a service, which the bus's rules then bring to their targets.

        Args:
            scope: Whose event bus.
            source: Such as `aws.codebuild`.
            detail_type: The event's name.
            detail: Its document.
            resources: ARNs that it is about.
        """
        entry = {
            "Source": source,
            "DetailType": detail_type,
            "Detail": json.dumps(detail),
            "Resources": resources,
        }

        def put() -> None:
            self._ministack.enter(scope)
            self._ministack.events._put_events({"Entries": [entry]}, allow_aws_source=True)

        # The caller's own account and region stay as they are.
        contextvars.copy_context().run(put)

    def publish_stack_statuses(self) -> None:
        """Send "CloudFormation Stack Status Change" from now on."""

        def send(event: StackEvent) -> None:
            self.publish(
                event.scope,
                "aws.cloudformation",
                "CloudFormation Stack Status Change",
                event.detail,
                [event.stack_id],
            )

        token = self._ministack.stack_tasks.CLIENT_REQUEST_TOKEN
        for name in STACK_EVENT_HOLDERS:
            module: Any = importlib.import_module(f"{CLOUDFORMATION}.{name}")
            module._add_event = _telling(module._add_event, send, token)


def pushed_digest(ministack: Ministack, scope: Scope, image: str) -> str | None:
    """Return the digest of a tag in one of the cloud's own repositories; nothing when it is in none.

    Args:
        ministack: MiniStack's modules.
        scope: Whose registry.
        image: URI of the image.
    """
    registry, _, rest = image.partition("/")
    name, _, tag = rest.partition(":")
    if not registry.startswith(f"{scope.account}.dkr.ecr.{scope.region}.") or not tag:
        return None

    def find() -> str | None:
        ministack.enter(scope)
        found = ministack.ecr._find_image(name, {"imageTag": tag})
        return None if found is None else str(found["imageDigest"])

    return contextvars.copy_context().run(find)


def refuse_unknown_images(ministack: Ministack) -> None:
    """Let ECR's DescribeImages refuse an image that is not there, as the service does.

    Args:
        ministack: MiniStack's modules.
    """
    ecr = ministack.ecr
    describe = ecr._describe_images

    def describe_known(data: Params) -> Any:
        repository = data.get("repositoryName", "")
        wanted = (data.get("imageIds") or []) if repository in ecr._repositories else []
        for image in wanted:
            if ecr._find_image(repository, image) is None:
                told = ", ".join(
                    f"{part}:'{image.get(part, 'null')}'" for part in ("imageDigest", "imageTag")
                )
                return ministack.responses.error_response_json(
                    "ImageNotFoundException",
                    f"The image with imageId {{{told}}} does not exist within the repository "
                    f"with name '{repository}' in the registry with id '{ministack.scope().account}'",
                    400,
                )
        return describe(data)

    ecr._describe_images = describe_known


def _telling(
    record: Callable[..., Any], listen: Callable[[StackEvent], None], token: Any
) -> Callable[..., Any]:
    def record_and_tell(
        stack_id: str,
        stack_name: str,
        logical_id: str,
        resource_type: str,
        status: str,
        reason: str = "",
        physical_id: str = "",
        detailed_status: str = "",
    ) -> Any:
        answer = record(
            stack_id, stack_name, logical_id, resource_type, status, reason, physical_id, detailed_status
        )
        if resource_type == STACK and logical_id == stack_name:
            listen(
                StackEvent(stack_id=stack_id, status=status, reason=reason, client_request_token=token.get())
            )
        return answer

    return record_and_tell
