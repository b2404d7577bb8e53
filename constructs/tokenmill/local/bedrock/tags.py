"""Tags of every resource, by its ARN.

Source: Amazon Bedrock API Reference, "TagResource", "UntagResource", "ListTagsForResource",
"TooManyTagsException".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenmill.local.aws_requests import AwsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenmill.local.aws_requests import Operation, Params, Scope

    Changed = Callable[[Scope, str], None]
    Reader = Callable[[Scope, str], dict[str, str] | None]

# "Tagging Amazon Bedrock resources": the number of tags of one resource.
MOST_TAGS = 50


class Tags:
    """Tags by scope and ARN; a resource has an entry as long as it exists.

    `changed` is told of a change; `readers` may show the tags of some resources later than they are, by the
    kind in their ARN ("provisioned-model").
    """

    def __init__(self) -> None:
        self._tags: dict[tuple[Scope, str], dict[str, str]] = {}
        self.changed: Changed = lambda scope, arn: None
        self.readers: dict[str, Reader] = {}

    def operations(self) -> dict[str, Operation]:
        """Return what runs the operations."""
        return {
            "TagResource": self._tag,
            "UntagResource": self._untag,
            "ListTagsForResource": self._list,
        }

    def add(self, scope: Scope, arn: str, tags: list[Params] | None) -> None:
        """Begin a resource's tags.

        Args:
            scope: Whose resource.
            arn: Its ARN.
            tags: Tags of the request that makes it.

        Raises:
            AwsError: There are too many.
        """
        given = {tag["key"]: tag["value"] for tag in tags or []}
        _check_count(given)
        self._tags[scope, arn] = given

    def of(self, scope: Scope, arn: str) -> dict[str, str]:
        """Return the tags of a resource as they are; empty for one that does not exist.

        Args:
            scope: Whose resource.
            arn: Its ARN.
        """
        return dict(self._tags.get((scope, arn), {}))

    def drop(self, scope: Scope, arn: str) -> None:
        """Forget a resource that is deleted.

        Args:
            scope: Whose resource.
            arn: Its ARN.
        """
        self._tags.pop((scope, arn), None)

    def _tag(self, scope: Scope, params: Params) -> Params:
        tags = self._existing(scope, params["resourceARN"])
        wanted = tags | {tag["key"]: tag["value"] for tag in params["tags"]}
        _check_count(wanted)
        tags.update(wanted)
        self.changed(scope, params["resourceARN"])
        return {}

    def _untag(self, scope: Scope, params: Params) -> Params:
        tags = self._existing(scope, params["resourceARN"])
        for key in params["tagKeys"]:
            tags.pop(key, None)
        self.changed(scope, params["resourceARN"])
        return {}

    def _list(self, scope: Scope, params: Params) -> Params:
        arn = params["resourceARN"]
        reader = self.readers.get(arn.split(":")[5].split("/")[0]) if arn.count(":") >= 5 else None
        tags = reader(scope, arn) if reader is not None else self._existing(scope, arn)
        if tags is None:
            raise _missing(arn)
        return {"tags": [{"key": key, "value": value} for key, value in tags.items()]}

    def _existing(self, scope: Scope, arn: str) -> dict[str, str]:
        if (scope, arn) not in self._tags:
            raise _missing(arn)
        return self._tags[scope, arn]


def _missing(arn: str) -> AwsError:
    return AwsError("ResourceNotFoundException", f"The specified resource ARN was not found: {arn}")


def _check_count(tags: dict[str, str]) -> None:
    if len(tags) > MOST_TAGS:
        raise AwsError("TooManyTagsException", f"a resource takes {MOST_TAGS} tags, not {len(tags)}")
