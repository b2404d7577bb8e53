"""How a state machine says that it is a job of tokenmill, to whoever starts it.

A job's state machine carries the tags below, and its definition begins with a Pass state whose result is the
job's description: a JSON object with ``kind``, ``schema`` and what the kind needs.
"""

from __future__ import annotations

import json
from typing import Any, Final

JOB_TAG: Final = "tokenmill:job"
STACK_TAG: Final = "tokenmill:stack"
NAME_TAG: Final = "tokenmill:job-name"
DESCRIPTION_STATE: Final = "Job"
SCHEMA: Final = 1
KINDS: Final = (
    "compile",
    "mirror",
    "transform",
    "fan-out",
    "import",
    "customize",
    "distill",
    "batch",
)
# Kinds whose runs make one version of a model artifact.
VERSION_KINDS: Final = ("import", "customize", "distill")


def description_state(description: dict[str, Any], *, following: str) -> dict[str, Any]:
    """The first state of a job: it hands the description on as ``$.job``."""
    return {
        "Type": "Pass",
        "Result": {"schema": SCHEMA, **description},
        "ResultPath": "$.job",
        "Next": following,
    }


def read_description(definition: str) -> dict[str, Any]:
    """The description in a state machine's definition.

    Raises ValueError where the definition does not begin with one.
    """
    try:
        document = json.loads(definition)
        state = document["States"][document["StartAt"]]
        result = state["Result"] if document["StartAt"] == DESCRIPTION_STATE else None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"the definition does not begin with a {DESCRIPTION_STATE} state") from error
    if not isinstance(result, dict) or result.get("schema") != SCHEMA or "kind" not in result:
        raise ValueError(
            f"the definition does not begin with a {DESCRIPTION_STATE} state of schema {SCHEMA}; deploy the "
            "stack with this version of tokenmill"
        )
    return result
