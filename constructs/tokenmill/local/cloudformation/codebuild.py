"""CloudFormation's handler of CodeBuild projects.

Source: AWS CloudFormation Template Reference, "AWS::CodeBuild::Project" (`Ref` is the name; a change of Name
replaces); the API writes the same members with a small first letter, and the buildspec as one word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenmill.local.codebuild.recipe import METADATA

if TYPE_CHECKING:
    from tokenmill.local.aws_requests import Params
    from tokenmill.local.cloudformation.common import Outcome
    from tokenmill.local.codebuild.service import CodeBuild
    from tokenmill.local.ministack_seams import Ministack

_RENAMED = {"BuildSpec": "buildspec", "Triggers": None, "Visibility": None, "ResourceAccessRole": None}


class ProjectHandler:
    """Projects.

    Args:
        ministack: MiniStack's modules.
        codebuild: The API.
    """

    def __init__(self, ministack: Ministack, codebuild: CodeBuild) -> None:
        self._ministack = ministack
        self._codebuild = codebuild

    def create(self, logical_id: str, properties: Params, stack: str) -> Outcome:
        """Create the project."""
        name = properties.get("Name") or self._ministack.physical_name(stack, logical_id, longest=255)
        self._call("CreateProject", api_members({**properties, "Name": name}))
        return self._created(name, logical_id, stack)

    def update(self, physical_id: str, before: Params, after: Params, stack: str, logical_id: str) -> Outcome:
        """Update the project; another name makes another one."""
        if after.get("Name") not in (None, physical_id):
            return self.create(logical_id, after, stack)
        self._call("UpdateProject", api_members({**after, "Name": physical_id}))
        return self._created(physical_id, logical_id, stack)

    def delete(self, physical_id: str, properties: Params) -> None:
        """Delete the project; one that is gone is fine."""
        self._call("DeleteProject", {"name": physical_id})

    def _created(self, name: str, logical_id: str, stack: str) -> Outcome:
        scope = self._ministack.scope()
        metadata: Params = self._ministack.template_resource(stack, logical_id).get("Metadata") or {}
        recipe = (metadata.get("tokenmill") or {}).get(METADATA) or {}
        self._codebuild.remember_recipe(scope, name, recipe)
        return name, {"Arn": scope.arn("codebuild", f"project/{name}")}

    def _call(self, operation: str, params: Params) -> None:
        typed = self._codebuild.shapes.coerce(operation, params)
        self._codebuild.shapes.check(operation, typed)
        self._codebuild.call(self._ministack.scope(), operation, typed)


def api_members(value: Any) -> Any:
    """Return properties under the API's names.

    Args:
        value: Properties, or a part of them.
    """
    if isinstance(value, dict):
        names = {name: _RENAMED.get(name, f"{name[0].lower()}{name[1:]}") for name in value}
        return {names[name]: api_members(member) for name, member in value.items() if names[name]}
    if isinstance(value, list):
        return [api_members(member) for member in value]
    return value
