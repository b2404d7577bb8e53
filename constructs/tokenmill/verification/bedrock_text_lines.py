"""Guardrails on small texts: what they block and mask, how that is said, and what they take."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from tokenmill.security import actions
from tokenmill.verification import bedrock_asks, looking
from tokenmill.verification.bedrock_asks import model_here, tried
from tokenmill.verification.bedrock_model_lines import bedrock_quotas
from tokenmill.verification.job_lines import create_key
from tokenmill.verification.probe import Outcome, Verdict, holds
from tokenmill_runtime.gateway.guardrail import PIECE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from tokenmill.verification.aws import Aws

# A word that no question may have, one that no answer may have, and a number that is masked.
BLOCKED, UNSAID, MASKED = "quetzalcoatl", "pelican", "TICKET-1234"
TOLD_INPUT, TOLD_OUTPUT = "The probe blocks this question.", "The probe blocks this answer."
MOST_VERSIONS = 20
VERSIONS_QUOTA = "versions per guardrail"
NAMESPACE = "AWS/Bedrock/Guardrails"
DRAFT = "DRAFT"
INTERVENED = "guardrail_intervened"
_READY_SECONDS = 300
_MESSAGES = {"blockedInputMessaging": TOLD_INPUT, "blockedOutputsMessaging": TOLD_OUTPUT}
_WORDS: dict[str, Any] = {
    "wordPolicyConfig": {
        "wordsConfig": [{"text": BLOCKED}, {"text": UNSAID, "inputEnabled": False, "outputEnabled": True}]
    },
    "sensitiveInformationPolicyConfig": {
        "regexesConfig": [{"name": "ticket", "pattern": "TICKET-[0-9]{4}", "action": "ANONYMIZE"}]
    },
    "contentPolicyConfig": {
        "filtersConfig": [{"type": "INSULTS", "inputStrength": "LOW", "outputStrength": "LOW"}]
    },
}


def guardrail_lines(aws: Aws, wanted: Collection[str]) -> Iterator[tuple[str, Outcome]]:
    """Have small texts assessed.

    Args:
        aws: The run.
        wanted: Ids of the lines that were asked for.
    """
    if "guardrail-versions" in wanted:
        yield "guardrail-versions", tried(lambda: _versions(aws))
    if "guardrail-limits" in wanted:
        yield "guardrail-limits", tried(lambda: _limits(aws))
    if set(_BY_WORDS) & set(wanted):
        guardrail = _create(aws, "words", **_WORDS)
        for line, look in _BY_WORDS.items():
            if line in wanted:
                yield line, tried(functools.partial(look, aws, guardrail))
    if "guardrail-grounding" in wanted:
        yield "guardrail-grounding", tried(lambda: _grounding(aws))
    if "guardrail-key" in wanted:
        yield "guardrail-key", tried(lambda: _key(aws))


def _create(aws: Aws, suffix: str, **policies: Any) -> dict[str, str]:
    """Create a guardrail, wait until it is ready, and return its id and ARN."""
    name, client = aws.name(suffix), aws.client("bedrock")
    aws.declare("guardrail", name)
    made = client.create_guardrail(name=name, tags=bedrock_asks.tags(aws), **_MESSAGES, **policies)

    def ready() -> bool:
        found = client.get_guardrail(guardrailIdentifier=made["guardrailId"])
        return str(found["status"]) in ("READY", "FAILED")

    aws.wait(f"guardrail {name}", ready, seconds=_READY_SECONDS)
    return {"id": made["guardrailId"], "arn": made["guardrailArn"]}


def _use(guardrail: dict[str, str], **more: str) -> dict[str, str]:
    return {"guardrailIdentifier": guardrail["id"], "guardrailVersion": DRAFT, **more}


def _apply(aws: Aws, guardrail: dict[str, str], text: str) -> dict[str, Any]:
    answer: dict[str, Any] = aws.client("bedrock-runtime").apply_guardrail(
        **_use(guardrail), source="INPUT", content=[{"text": {"text": text}}]
    )
    return answer


def _blocked_input(aws: Aws, guardrail: dict[str, str]) -> Outcome:
    answer = bedrock_asks.ask(
        aws.client("bedrock-runtime"),
        model_here(aws).id,
        f"Who is {BLOCKED}?",
        guardrailConfig=_use(guardrail),
    )
    seen = {"stop_reason": answer["stopReason"], "text": bedrock_asks.said(answer)}
    if answer["stopReason"] != INTERVENED:
        return Outcome(Verdict.UNCLEAR, seen)
    return Outcome(holds(seen["text"] == TOLD_INPUT), seen)


def _masked_stop(aws: Aws, guardrail: dict[str, str]) -> Outcome:
    answer = bedrock_asks.ask(
        aws.client("bedrock-runtime"),
        model_here(aws).id,
        f"Repeat this word for word: {MASKED} is open.",
        guardrailConfig=_use(guardrail, trace="enabled"),
    )
    seen = {
        "stop_reason": answer["stopReason"],
        "text": bedrock_asks.said(answer),
        "trace": answer.get("trace", {}).get("guardrail"),
    }
    masked = "ANONYMIZED" in str(seen["trace"])
    return Outcome(holds(answer["stopReason"] == INTERVENED) if masked else Verdict.UNCLEAR, seen)


def _stream_end(aws: Aws, guardrail: dict[str, str]) -> Outcome:
    seen: dict[str, dict[str, Any]] = {}
    for mode in ("sync", "async"):
        answer = aws.client("bedrock-runtime").converse_stream(
            modelId=model_here(aws).id,
            messages=[{"role": "user", "content": [{"text": "Which bird has a pouch below its bill?"}]}],
            system=[{"text": f"Say nothing but the one word {UNSAID}."}],
            inferenceConfig={"maxTokens": bedrock_asks.MAX_TOKENS},
            guardrailConfig=_use(guardrail, streamProcessingMode=mode),
        )
        deltas: list[str] = []
        reason = ""
        for event in answer["stream"]:
            deltas += (
                [event["contentBlockDelta"]["delta"].get("text", "")] if "contentBlockDelta" in event else []
            )
            reason = event.get("messageStop", {}).get("stopReason", reason)
        seen[mode] = {"deltas": deltas, "stop_reason": reason}
    if any(each["stop_reason"] != INTERVENED for each in seen.values()):
        # The model may have said something else.
        return Outcome(Verdict.UNCLEAR, seen)
    return Outcome(holds(all(each["deltas"][-1:] == [TOLD_OUTPUT] for each in seen.values())), seen)


def _masking(aws: Aws, guardrail: dict[str, str]) -> Outcome:
    blocked = _apply(aws, guardrail, f"Who is {BLOCKED}?")
    masked = _apply(aws, guardrail, f"When was {MASKED} opened?")
    seen = {name: _told(answer) for name, answer in (("blocked", blocked), ("masked", masked))}
    if {blocked["action"], masked["action"]} != {"GUARDRAIL_INTERVENED"}:
        return Outcome(Verdict.UNCLEAR, seen)
    text = "".join(output.get("text", "") for output in masked["outputs"])
    told = (
        "'BLOCKED'" in str(blocked["assessments"])
        and "'BLOCKED'" not in str(masked["assessments"])
        and MASKED not in text
        and text.startswith("When was")
    )
    return Outcome(holds(told), seen)


def _told(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: answer[name] for name in ("action", "outputs", "assessments")}


def _piece(aws: Aws, guardrail: dict[str, str]) -> Outcome:
    text = ("word " * PIECE)[:PIECE]
    refused = bedrock_asks.told(lambda: _apply(aws, guardrail, text))
    seen = {"characters": PIECE, **refused}
    too_long = ("ValidationException", "ServiceQuotaExceededException")
    if refused["code"] in ("", *too_long):
        return Outcome(holds(not refused["code"]), seen)
    return Outcome(Verdict.UNCLEAR, seen)


def _metrics(aws: Aws, guardrail: dict[str, str]) -> Outcome:
    _apply(aws, guardrail, "word")

    def look() -> list[dict[str, str]]:
        pages = aws.client("cloudwatch").get_paginator("list_metrics").paginate(Namespace=NAMESPACE)
        listed = [
            {dimension["Name"]: dimension["Value"] for dimension in metric.get("Dimensions", [])}
            for page in pages
            for metric in page["Metrics"]
        ]
        return [dimensions for dimensions in listed if dimensions.get("GuardrailArn") == guardrail["arn"]]

    found = looking.or_nothing(lambda: aws.wait("guardrail metrics", look, seconds=looking.METRIC_SECONDS))
    if not found:
        return Outcome(Verdict.UNCLEAR, {"dimensions": []})
    wanted = {"GuardrailArn": guardrail["arn"], "GuardrailVersion": DRAFT}
    return Outcome(holds(wanted in found), {"dimensions": found})


def _versions(aws: Aws) -> Outcome:
    found = {name: value for name, value in bedrock_quotas(aws).items() if VERSIONS_QUOTA in name.lower()}
    right = all(value == MOST_VERSIONS for value in found.values())
    return Outcome(holds(right) if found else Verdict.UNCLEAR, found)


def _limits(aws: Aws) -> Outcome:
    around = {"name": "around", "pattern": "(?<=A)[0-9]{4}", "action": "BLOCK"}
    asked: dict[str, dict[str, Any]] = {
        "look_around": {"sensitiveInformationPolicyConfig": {"regexesConfig": [around]}},
        "threshold": {
            "contextualGroundingPolicyConfig": {"filtersConfig": [{"type": "GROUNDING", "threshold": 1.0}]}
        },
    }
    seen: dict[str, dict[str, str]] = {}
    for name, policies in asked.items():
        suffix = name.replace("_", "-")
        seen[name] = bedrock_asks.told(functools.partial(_create, aws, suffix, **policies))
    codes = {each["code"] for each in seen.values()}
    if codes <= {"", "ValidationException"}:
        return Outcome(holds("" not in codes), seen)
    return Outcome(Verdict.UNCLEAR, seen)


def _grounding(aws: Aws) -> Outcome:
    filters = [{"type": name, "threshold": 0.99} for name in ("GROUNDING", "RELEVANCE")]
    guardrail = _create(aws, "grounding", contextualGroundingPolicyConfig={"filtersConfig": filters})
    answer = bedrock_asks.ask(
        aws.client("bedrock-runtime"),
        model_here(aws).id,
        guardrailConfig=_use(guardrail, trace="enabled"),
    )
    trace = answer.get("trace", {}).get("guardrail", {})
    seen = {"stop_reason": answer["stopReason"], "trace": trace}
    assessed = "'contextualGroundingPolicy':" in str(trace)
    return Outcome(holds(answer["stopReason"] != INTERVENED and not assessed), seen)


def _key(aws: Aws) -> Outcome:
    key = create_key(aws, "guardrail")
    guardrail = _create(aws, "encrypted", kmsKeyId=key, wordPolicyConfig=_WORDS["wordPolicyConfig"])
    use = bedrock_asks.allow(actions.GUARDRAIL_APPLY, guardrail["arn"])
    allowed = bedrock_asks.caller(
        aws, "guardrail-key", use, bedrock_asks.allow(actions.GUARDRAIL_KEY_USE, key)
    )
    lacking = bedrock_asks.caller(aws, "guardrail-alone", use)
    asked = {**_use(guardrail), "source": "INPUT", "content": [{"text": {"text": "word"}}]}
    return bedrock_asks.rights(
        aws, lambda: allowed.apply_guardrail(**asked), without=lambda: lacking.apply_guardrail(**asked)
    )


_BY_WORDS: dict[str, Callable[[Aws, dict[str, str]], Outcome]] = {
    "guardrail-blocked-input": _blocked_input,
    "guardrail-masked-stop": _masked_stop,
    "guardrail-stream-end": _stream_end,
    "guardrail-masking": _masking,
    "guardrail-piece": _piece,
    "guardrail-metrics": _metrics,
}
