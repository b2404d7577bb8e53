"""Properties of AWS::Bedrock::Guardrail, in the form that its L1 construct takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenmill.bedrock.guardrail_values import (
        ContentFilter,
        DeniedTopic,
        Grounding,
        GuardrailPolicies,
        PersonalData,
        Words,
    )

BLOCK, MASK = "BLOCK", "ANONYMIZE"


def guardrail_properties(policies: GuardrailPolicies) -> dict[str, Any]:
    """Return the properties of all that a guardrail does.

    Args:
        policies: What it does.
    """
    found: dict[str, Any] = {
        "blocked_input_messaging": policies.messages.question,
        "blocked_outputs_messaging": policies.messages.answer,
    }
    if policies.filters:
        found["content_policy_config"] = {"filtersConfig": [_filter(item) for item in policies.filters]}
    if policies.topics:
        found["topic_policy_config"] = {"topicsConfig": [_topic(item) for item in policies.topics]}
    if policies.words is not None:
        found["word_policy_config"] = _words(policies.words)
    if policies.personal_data is not None:
        found["sensitive_information_policy_config"] = _personal_data(policies.personal_data)
    if policies.grounding is not None:
        found["contextual_grounding_policy_config"] = {"filtersConfig": _grounding(policies.grounding)}
    return found


def _filter(item: ContentFilter) -> dict[str, str]:
    return {
        "type": item.harm.value,
        "inputStrength": item.question.value,
        "outputStrength": item.answer.value,
    }


def _topic(item: DeniedTopic) -> dict[str, Any]:
    topic: dict[str, Any] = {"name": item.name, "definition": item.definition, "type": "DENY"}
    return topic | ({"examples": list(item.examples)} if item.examples else {})


def _words(item: Words) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if item.words:
        found["wordsConfig"] = [{"text": word} for word in item.words]
    if item.profanity:
        found["managedWordListsConfig"] = [{"type": "PROFANITY"}]
    return found


def _personal_data(item: PersonalData) -> dict[str, Any]:
    treated = [(kind, BLOCK) for kind in item.block] + [(kind, MASK) for kind in item.mask]
    found: dict[str, Any] = {}
    if treated:
        found["piiEntitiesConfig"] = [{"type": kind, "action": how} for kind, how in treated]
    if item.patterns:
        found["regexesConfig"] = [
            {"name": pattern.name, "pattern": pattern.regex, "action": pattern.treatment.value}
            for pattern in item.patterns
        ]
    return found


def _grounding(item: Grounding) -> list[dict[str, Any]]:
    thresholds = {"GROUNDING": item.grounded, "RELEVANCE": item.relevant}
    return [{"type": kind, "threshold": value} for kind, value in thresholds.items() if value is not None]
