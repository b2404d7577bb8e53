"""What a guardrail finds in a text: words, personal data, patterns, topics, filters and grounding.

Words, patterns, personal data of a fixed form and grounding are really matched. Topics and content filters
have no classifier behind them here: a topic is found by the words of its name and examples, a filter by a
short list. Source: Amazon Bedrock User Guide, "Components of a guardrail"; Amazon Bedrock API Reference,
"GuardrailAssessment".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from tokenmill.local.bedrock.personal_data import find_personal_data

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tokenmill.local.aws_requests import Params

Source = Literal["INPUT", "OUTPUT"]
Spans = list[tuple[int, int, str]]
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_COMMON = frozenset(
    "about after also another because been before could does from give good have help here into just know "
    "like make many more most much need only other over please should some such than that their them then "
    "there these they this those very want what when where which while will with would your".split()
)
# The managed list of profanity is not published; these stand for it.
PROFANITY = ("damn", "bastard", "bullshit", "crap", "shit", "fuck", "asshole")
FILTER_PHRASES = {
    "HATE": ("subhuman", "racial slur", "ethnic cleansing", "hate all"),
    "INSULTS": ("idiot", "moron", "you are stupid", "shut up", "worthless"),
    "SEXUAL": ("pornographic", "explicit sex", "nude photos"),
    "VIOLENCE": ("kill him", "kill her", "kill them", "build a bomb", "make a bomb", "stab", "massacre"),
    "MISCONDUCT": ("launder money", "hack into", "steal a car", "forge a passport", "phishing email"),
    "PROMPT_ATTACK": (
        "ignore previous instructions",
        "ignore all previous instructions",
        "ignore your instructions",
        "disregard the above",
        "reveal your system prompt",
        "you are now dan",
    ),
}


@dataclass(slots=True)
class Finding:
    """What one guardrail found in one text.

    Args:
        assessment: The members of `GuardrailAssessment`.
        blocked: Whether a rule that blocks matched.
        masks: Parts of the text to replace: start, end, what stands there instead.
    """

    assessment: Params = field(default_factory=dict)
    blocked: bool = False
    masks: Spans = field(default_factory=list)

    @property
    def intervenes(self) -> bool:
        """Whether the text may not pass as it is."""
        return self.blocked or bool(self.masks)

    def masked(self, text: str) -> str:
        """Return the text with its masks in place.

        Args:
            text: The text that was assessed.
        """
        for start, end, label in sorted(self.masks, reverse=True):
            text = text[:start] + label + text[end:]
        return text


def assess(guardrail: Params, text: str, source: Source, *, grounding: str = "", query: str = "") -> Finding:
    """Return what a guardrail finds in a text.

    Args:
        guardrail: The members of `CreateGuardrail`.
        text: The text.
        source: Whether it goes to the model or comes from it.
        grounding: The grounding source; contextual grounding is only looked at with one, on output.
        query: The user's question, for relevance.
    """
    finding = Finding()
    _topics(guardrail, text, source, finding)
    _filters(guardrail, text, source, finding)
    _words(guardrail, text, source, finding)
    _sensitive(guardrail, text, source, finding)
    if source == "OUTPUT" and grounding:
        _grounding(guardrail, text, finding, grounding=grounding, query=query)
    return finding


def _rules(guardrail: Params, policy: str, member: str) -> list[Params]:
    rules: list[Params] = (guardrail.get(policy) or {}).get(member) or []
    return rules


def _action(rule: Params, source: Source, default: str = "BLOCK") -> str | None:
    """Return what a rule does on this side of the model: BLOCK, ANONYMIZE or NONE; nothing when it is off."""
    side = source.lower()
    if not rule.get(f"{side}Enabled", True):
        return None
    return str(rule.get(f"{side}Action") or rule.get("action") or default)


def _add(finding: Finding, policy: str, kind: str, entry: Params, action: str) -> None:
    told = {"BLOCK": "BLOCKED", "ANONYMIZE": "ANONYMIZED", "NONE": "NONE"}[action]
    members = finding.assessment.setdefault(policy, _empty(policy))
    members[kind].append({**entry, "action": told, "detected": True})
    finding.blocked = finding.blocked or action == "BLOCK"


def _empty(policy: str) -> Params:
    lists = {
        "topicPolicy": ("topics",),
        "contentPolicy": ("filters",),
        "wordPolicy": ("customWords", "managedWordLists"),
        "sensitiveInformationPolicy": ("piiEntities", "regexes"),
        "contextualGroundingPolicy": ("filters",),
    }
    return {name: [] for name in lists[policy]}


@cache
def _phrase(text: str) -> re.Pattern[str]:
    inside = r"\s+".join(re.escape(word) for word in text.split())
    return re.compile(rf"(?<!\w){inside}(?!\w)", re.IGNORECASE)


def _words(guardrail: Params, text: str, source: Source, finding: Finding) -> None:
    for rule in _rules(guardrail, "wordPolicyConfig", "wordsConfig"):
        action, found = _action(rule, source), _phrase(rule["text"]).search(text)
        if action is not None and found is not None:
            _add(finding, "wordPolicy", "customWords", {"match": found.group()}, action)
    for rule in _rules(guardrail, "wordPolicyConfig", "managedWordListsConfig"):
        action = _action(rule, source)
        for word in PROFANITY if action is not None else ():
            found = _phrase(word).search(text)
            if found is not None and action is not None:
                entry = {"match": found.group(), "type": rule["type"]}
                _add(finding, "wordPolicy", "managedWordLists", entry, action)


def _sensitive(guardrail: Params, text: str, source: Source, finding: Finding) -> None:
    policy = "sensitiveInformationPolicyConfig"
    for rule in _rules(guardrail, policy, "piiEntitiesConfig"):
        action = _action(rule, source, rule["action"])
        spans = list(find_personal_data(rule["type"], text)) if action is not None else []
        for start, end in spans:
            entry = {"match": text[start:end], "type": rule["type"]}
            _hide(finding, "piiEntities", entry, str(action), (start, end, f"{{{rule['type']}}}"))
    for rule in _rules(guardrail, policy, "regexesConfig"):
        action = _action(rule, source, rule["action"])
        for found in re.finditer(rule["pattern"], text) if action is not None else ():
            entry = {"name": rule["name"], "match": found.group(), "regex": rule["pattern"]}
            span = (found.start(), found.end(), f"{{{rule['name']}}}")
            _hide(finding, "regexes", entry, str(action), span)


def _hide(finding: Finding, kind: str, entry: Params, action: str, span: tuple[int, int, str]) -> None:
    _add(finding, "sensitiveInformationPolicy", kind, entry, action)
    overlaps = any(span[0] < end and start < span[1] for start, end, _ in finding.masks)
    if action == "ANONYMIZE" and not overlaps:
        finding.masks.append(span)


def _topics(guardrail: Params, text: str, source: Source, finding: Finding) -> None:
    said = _content_words(text)
    for rule in _rules(guardrail, "topicPolicyConfig", "topicsConfig"):
        action = _action(rule, source)
        if action is not None and any(_about(said, example) for example in _examples(rule)):
            _add(finding, "topicPolicy", "topics", {"name": rule["name"], "type": "DENY"}, action)


def _examples(rule: Params) -> Iterator[frozenset[str]]:
    yield _content_words(rule["name"])
    for example in rule.get("examples") or []:
        yield _content_words(example)


def _about(said: frozenset[str], topic: frozenset[str]) -> bool:
    """Whether every content word of a short text stands in what was said, or half of a longer one's."""
    shared = len(said & topic)
    return bool(topic) and shared >= (len(topic) if len(topic) <= 2 else max(2, len(topic) / 2))


def _content_words(text: str) -> frozenset[str]:
    return frozenset(_stems(word.lower() for word in _WORD.findall(text)))


def _stems(words: Iterable[str]) -> Iterator[str]:
    for word in words:
        if len(word) >= 4 and word not in _COMMON:
            yield re.sub(r"(?:ing|ments?|es|s)$", "", word) if len(word) > 5 else word.removesuffix("s")


def _filters(guardrail: Params, text: str, source: Source, finding: Finding) -> None:
    for rule in _rules(guardrail, "contentPolicyConfig", "filtersConfig"):
        action, strength = _action(rule, source), rule[f"{source.lower()}Strength"]
        if action is None or strength == "NONE":
            continue
        if any(_phrase(phrase).search(text) for phrase in FILTER_PHRASES[rule["type"]]):
            entry = {"type": rule["type"], "confidence": "HIGH", "filterStrength": strength}
            _add(finding, "contentPolicy", "filters", entry, action)


def _grounding(guardrail: Params, text: str, finding: Finding, *, grounding: str, query: str) -> None:
    """Score an answer by its content words that are in the source, and the question's that are in it."""
    answer = _content_words(text)
    scores = {
        "GROUNDING": _share(answer, _content_words(grounding)),
        "RELEVANCE": _share(_content_words(query), answer),
    }
    for rule in _rules(guardrail, "contextualGroundingPolicyConfig", "filtersConfig"):
        if not rule.get("enabled", True):
            continue
        score, threshold = scores[rule["type"]], float(rule["threshold"])
        low = score < threshold
        action = str(rule.get("action") or "BLOCK") if low else "NONE"
        entry: dict[str, Any] = {"type": rule["type"], "threshold": threshold, "score": round(score, 2)}
        _add(finding, "contextualGroundingPolicy", "filters", entry, action)
        finding.assessment["contextualGroundingPolicy"]["filters"][-1]["detected"] = low


def _share(words: frozenset[str], within: frozenset[str]) -> float:
    return len(words & within) / len(words) if words else 1.0
