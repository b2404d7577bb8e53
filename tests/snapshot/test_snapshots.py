"""Golden files: logical ids and the whole template. `make snapshot` rewrites them; read the difference.

A logical id that changes replaces a user's resource, so its file is an interface and not a by-product.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from support_batch_stack import batch_stack
from support_golden import compare
from support_stack import chat_stack, template_of
from tokenmill.core.workload import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

# API Gateway deploys anew when its routes change, which CDK makes visible by a hash in the id.
DEPLOYMENT = re.compile(r"(Deployment[0-9A-F]{8})[0-9a-f]{32}")
ASSET = re.compile(r"\b[0-9a-f]{64}\b")
KINDS: dict[str, dict[str, Any]] = {
    "chat": {},
    "chat_bedrock": {
        "backend": "bedrock",
        "model": "us.amazon.nova-lite-v1:0",
        "limits": Limits(context_tokens=100_000),
    },
    "chat_compliant": {"compliance": True},
}
BATCH = "batch"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """Return a stack's template, without what changes with every edit of a function's code."""
    built: dict[str, dict[str, Any]] = {}

    def build(kind: str) -> dict[str, Any]:
        if kind not in built:
            folder = tmp_path_factory.mktemp(kind)
            stack = batch_stack(folder) if kind == BATCH else chat_stack(folder, **KINDS[kind])
            text = json.dumps(template_of(stack))
            built[kind] = json.loads(ASSET.sub("<asset>", DEPLOYMENT.sub(r"\1<routes>", text)))
        return built[kind]

    return build


@pytest.mark.parametrize("kind", [*KINDS, BATCH])
def test_logical_ids_stay(kind: str, template: Callable[[str], dict[str, Any]]) -> None:
    """An id that is gone deletes or replaces what a user has deployed."""
    resources = template(kind)["Resources"]
    lines = [f"{key} {resource['Type']}" for key, resource in sorted(resources.items())]
    compare(f"{kind}.ids.txt", "\n".join(lines) + "\n")


@pytest.mark.parametrize("kind", ["chat", BATCH])
def test_the_template_stays(kind: str, template: Callable[[str], dict[str, Any]]) -> None:
    """Every property that changes is read by whoever changes it."""
    compare(f"{kind}.template.json", json.dumps(template(kind), indent=1, sort_keys=True) + "\n")
