"""Names of endpoints that another instance type changes, so that a second endpoint takes over."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

LONGEST_BASE_NAME = 56


def replaceable_endpoint_name(base: str, instance_types: Sequence[str]) -> str:
    """Return an endpoint's name that another instance type changes, so that CloudFormation replaces it.

    SageMaker refuses to change the type of a variant that is a scalable target ("Update endpoints that use
    auto scaling", Amazon SageMaker AI developer guide). Deregistering it in between would delete policies
    that the template owns and give them other ARNs, which CloudFormation and alarms do not follow; a second
    endpoint has a target of its own, and the old one serves until it has taken over.

    Args:
        base: The name without the types, of which the first 56 characters are kept.
        instance_types: The types that the variant may run on.
    """
    digest = hashlib.sha256(",".join(instance_types).encode()).hexdigest()[:6]
    return f"{base[:LONGEST_BASE_NAME].rstrip('-')}-{digest}"


def replaceable_names(base: str) -> str:
    """Return the pattern of all names that `replaceable_endpoint_name` has for a base.

    Args:
        base: The name without the types.
    """
    return f"{base[:LONGEST_BASE_NAME].rstrip('-')}-*"
