"""What a serving value's fields are by themselves: kinds, names, texts; asked before they are compared."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, SupportsIndex

from tokenmill.core._checks import is_token
from tokenmill.core.engine_options import EngineOptions
from tokenmill.core.errors import TokenmillError
from tokenmill.core.images import CatalogImage
from tokenmill.core.instances import instance_type

if TYPE_CHECKING:
    from tokenmill.endpoints.serving import Serving

NUMBERS = ("tensor_parallel", "pipeline_parallel", "max_sequences", "context_tokens", "host_memory_mib")
VARIABLE = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,1023}")
"""The name of a container's variable (botocore: EnvironmentKey)."""
ONLY_LATER = (
    "is a value that only the deployment knows, but it is checked at synthesis; give it as a plain value"
)


def field_problems(serving: Serving) -> list[str]:
    """Return a sentence for each field that is not of its kind.

    Args:
        serving: What is served.
    """
    problems = [
        f"{name} is {getattr(serving, name)!r}; give a text, such as {example!r}"
        for name, example in (("model", "Qwen/Qwen3-8B"), ("instance_type", "ml.inf2.8xlarge"))
        if not isinstance(getattr(serving, name), str) or not getattr(serving, name).strip()
    ]
    for name in NUMBERS:
        value = getattr(serving, name)
        counts = isinstance(value, SupportsIndex) and not isinstance(value, bool)
        if not counts and (value is not None or name != "host_memory_mib"):
            problems.append(f"{name} is {value!r}; it must be a whole number")
    if serving.image is not None and not isinstance(serving.image, CatalogImage):
        problems.append(
            f"image is {serving.image!r:.80}; give an image of the catalog, such as image('lmi-vllm')"
        )
    if not isinstance(serving.options, EngineOptions):
        problems.append(f"options is {serving.options!r:.80}; give EngineOptions(...), or leave it out")
    return problems or [*_variable_problems(serving), *_option_tokens(serving), *_type_problems(serving)]


def _variable_problems(serving: Serving) -> list[str]:
    if not isinstance(serving.environment, Mapping):
        return [f"environment is {serving.environment!r:.80}; give names with their texts"]
    problems = []
    for name, value in serving.environment.items():
        if not isinstance(name, str) or not VARIABLE.fullmatch(name):
            problems.append(
                f"environment has a variable {name!r:.80}; give a name of letters, digits and underscores "
                "that begins with no digit"
            )
        elif not isinstance(value, str):
            problems.append(
                f"environment has {value!r:.80} for {name}; give a text, such as {str(value)[:80]!r}"
            )
    return problems


def _option_tokens(serving: Serving) -> list[str]:
    tools, speculative = serving.options.tools, serving.options.speculative
    given = {
        "tools.parser": tools and tools.parser,
        "tools.reasoning_parser": tools and tools.reasoning_parser,
        "tools.chat_template": tools and tools.chat_template,
        "speculative.model": speculative and speculative.model,
    }
    return [f"options.{name} {ONLY_LATER}" for name, value in given.items() if is_token(value)]


def _type_problems(serving: Serving) -> list[str]:
    if serving.unlisted is not None:
        return []
    try:
        instance_type(serving.instance_type)
    except TokenmillError as error:
        return [
            f"{error}; for a type that hosting has and the catalog lacks, say what it is with "
            "unlisted=UnlistedInstance(accelerator=..., chips=..., vcpu=..., host_memory_gib=...)"
        ]
    return []
