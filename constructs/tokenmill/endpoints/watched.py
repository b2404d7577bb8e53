"""What a resource will look like in the template, early enough to notice that it changes."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import jsii
from aws_cdk import aws_sagemaker as sagemaker

from tokenmill.security.place import stack_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

REFERENCES = ("Ref", "Fn::GetAtt", "Fn::ImportValue")
# Copies follow the live ones, so a change of them is none of the template's.
COUNTS = ("RuntimeConfig", "InitialInstanceCount")
DYNAMIC_REFERENCE = "{{resolve:"


class WatchedComponent(sagemaker.CfnInferenceComponent):
    """A component that remembers what is overridden: CDK keeps overrides to itself."""

    def __init__(self, scope: Any, id: str, **properties: Any) -> None:
        self._overridden: list[tuple[str, Any]] = []
        super().__init__(scope, id, **properties)

    def add_override(self, path: str, value: Any) -> None:
        """Override a part of the resource, as `CfnResource.add_override` does.

        Args:
            path: Names separated by periods.
            value: The value there.
        """
        self._overridden.append((path, value))
        super().add_override(path, value)

    def add_deletion_override(self, path: str) -> None:
        """Delete a part of the resource, as `CfnResource.add_deletion_override` does.

        Args:
            path: Names separated by periods.
        """
        self._overridden.append((path, None))
        super().add_deletion_override(path)

    def add_property_override(self, property_path: str, value: Any) -> None:
        """Override a property, as `CfnResource.add_property_override` does.

        Args:
            property_path: Names separated by periods.
            value: The value there.
        """
        self.add_override(f"Properties.{property_path}", value)

    def add_property_deletion_override(self, property_path: str) -> None:
        """Delete a property, as `CfnResource.add_property_deletion_override` does.

        Args:
            property_path: Names separated by periods.
        """
        self.add_deletion_override(f"Properties.{property_path}")

    @property
    def rendered(self) -> dict[str, Any]:
        """The properties as the template gets them, intrinsic functions and all."""
        found = properties_of(self)
        for path, value in self._overridden:
            kind, _, names = path.partition(".")
            if kind == "Properties" and names:
                _set(found, names.split("."), stack_of(self).resolve(value))
        return found


@jsii.implements(cdk.IAnyProducer)
class Late:
    """A value that is made anew whenever the template is, after every change of the constructs.

    Args:
        make: Returns the value.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def produce(self, _context: cdk.IResolveContext) -> Any:
        """Return the value.

        Args:
            _context: What is being resolved, which the value does not depend on.
        """
        return self._make()


def properties_of(resource: cdk.CfnResource) -> dict[str, Any]:
    """Return a resource's properties as the template gets them, overrides apart.

    Args:
        resource: An L1 resource.
    """
    rendered = resource._render_properties(resource._cfn_properties)
    found = stack_of(resource).resolve(rendered)
    return dict(found) if isinstance(found, dict) else {}


def fingerprint(resources: tuple[cdk.CfnResource, ...]) -> dict[str, Any]:
    """Return what changes whenever CloudFormation will change one of the resources.

    A digest of the properties notices another template, and the references in them another value behind the
    same reference, such as the name of a replaced model. Copies are left out, and so are dynamic references
    and parameters with NoEcho: the values stand in a custom resource's event.

    Args:
        resources: The resources that are watched; references between them are left out.
    """
    if not resources:
        return {}
    stack = stack_of(resources[0])
    documents = [_without_counts(_rendered(resource)) for resource in resources]
    own = {stack.resolve(resource.logical_id) for resource in resources}
    found = [item for document in documents for item in _references(document) if _target(item) not in own]
    # Looking for them costs a walk over the whole stack.
    secret = _secret_parameters(stack) if any("Ref" in item for item in found) else set()
    references = {json.dumps(item, sort_keys=True) for item in found if _target(item) not in secret}
    text = json.dumps([documents, sorted(stack.tags.tag_values().items())], sort_keys=True)
    return {
        "Digest": hashlib.sha256(text.encode()).hexdigest()[:32],
        "References": [json.loads(item) for item in sorted(references)],
    }


def asked_of(component: cdk.CfnResource) -> list[dict[str, Any]]:
    """Return what a component's specifications ask for, as the check after a deployment compares it.

    Args:
        component: The component.
    """
    properties = _rendered(component)
    return [_asked(item) for item in properties.get("Specifications") or [properties["Specification"]]]


def _asked(specification: Mapping[str, Any]) -> dict[str, Any]:
    container = specification.get("Container", {})
    needs = specification.get("ComputeResourceRequirements", {})
    found = {
        "instance_type": specification.get("InstanceType"),
        "image": container.get("Image"),
        "artifact": container.get("ArtifactUrl"),
        "model": specification.get("ModelName"),
        "base": specification.get("BaseInferenceComponentName"),
        "environment": _plain(container.get("Environment", {})) or None,
        "accelerators": needs.get("NumberOfAcceleratorDevicesRequired"),
        "memory_mib": needs.get("MinMemoryRequiredInMb"),
    }
    return {name: value for name, value in found.items() if value is not None}


def _plain(environment: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables that are no secret's: the others would stand resolved in the function's event."""
    return {
        name: value
        for name, value in environment.items()
        if isinstance(value, str) and DYNAMIC_REFERENCE not in value
    }


def _rendered(resource: cdk.CfnResource) -> dict[str, Any]:
    return resource.rendered if isinstance(resource, WatchedComponent) else properties_of(resource)


def _without_counts(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_counts(item) for key, item in value.items() if key not in COUNTS}
    if isinstance(value, list):
        return [_without_counts(item) for item in value]
    return value


def _references(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if len(value) == 1 and next(iter(value)) in REFERENCES:
            if not str(_target(value)).startswith("AWS::"):
                yield value
            return
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def _target(reference: Mapping[str, Any]) -> str:
    name = next(iter(reference.values()))
    return str(name[0] if isinstance(name, list) else name)


def _secret_parameters(stack: cdk.Stack) -> set[str]:
    return {
        stack.resolve(item.logical_id)
        for item in stack.node.find_all()
        if isinstance(item, cdk.CfnParameter) and item.no_echo
    }


def _set(document: dict[str, Any], names: list[str], value: Any) -> None:
    for name in names[:-1]:
        inner = document.get(name)
        if not isinstance(inner, dict):
            inner = document[name] = {}
        document = inner
    if value is None:
        document.pop(names[-1], None)
    else:
        document[names[-1]] = value
