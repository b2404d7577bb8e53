"""A guardrail around one Converse call: its input, its answer, and its answer while it streams.

Source: Amazon Bedrock User Guide, "Include a guardrail with the Converse API" (what is assessed where
`guardContent` stands and where it does not) and "Configure streaming response behavior to filter content"
(sync buffers chunks until they are assessed, async sends them at once and cannot mask); Amazon Bedrock API
Reference, "GuardrailTraceAssessment".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenmill.local.bedrock.guardrail_rules import Finding, assess
from tokenmill.local.bedrock.guardrails import assessment, outputs

if TYPE_CHECKING:
    from tokenmill.local.aws_requests import Params, Scope
    from tokenmill.local.bedrock.guardrails import GuardrailRecord, Guardrails, Version

# How much of a streamed answer waits for what follows, so that no word or number is cut in two.
TAIL = 64
# How many characters a synchronous stream gathers before it assesses them.
WINDOW = 50
INTERVENED = "guardrail_intervened"


class Guarded:
    """One call's guardrail.

    Args:
        record: The guardrail.
        version: Its version.
        config: The call's `guardrailConfig`.
    """

    def __init__(self, record: GuardrailRecord, version: Version, config: Params) -> None:
        self._record = record
        self._version = version
        self.asynchronous = config.get("streamProcessingMode") == "async"
        self._traced = config.get("trace", "disabled") != "disabled"
        self._trace: Params = {}

    @classmethod
    def of(cls, guardrails: Guardrails, scope: Scope, request: Params) -> Guarded | None:
        """Return the guardrail of a call; nothing when it has none.

        Args:
            guardrails: Every guardrail.
            scope: Who calls.
            request: The Converse request's members.

        Raises:
            AwsError: It names a guardrail that does not exist.
        """
        config = request.get("guardrailConfig") or {}
        if not config.get("guardrailIdentifier"):
            return None
        number = config.get("guardrailVersion") or "DRAFT"
        return cls(*guardrails.version(scope, config["guardrailIdentifier"], number), config)

    @property
    def arn(self) -> str:
        """The guardrail's ARN."""
        return self._record.arn

    @property
    def version(self) -> str:
        """The guardrail's version."""
        return self._version.number

    def check_input(self, request: Params) -> str | None:
        """Assess what goes to the model; mask it, or return the message that stands for the answer.

        Args:
            request: The Converse request's members; masked parts are replaced in place.
        """
        texts = _guarded_blocks(request)
        findings = [assess(self._version.config, text, "INPUT") for _, _, text in texts]
        if texts:
            joined = " ".join(text for _, _, text in texts)
            told = assessment(self._record, self._version, _merged(findings), joined)
            self._trace["inputAssessment"] = {self._record.id: told}
        if any(finding.blocked for finding in findings):
            self._trace["actionReason"] = "Guardrail blocked."
            return outputs(self._version.config, "INPUT", [text for _, _, text in texts], findings)[0]
        for (block, member, text), finding in zip(texts, findings, strict=True):
            if finding.masks:
                block[member] = finding.masked(text)
        return None

    def check_output(self, text: str) -> tuple[str, bool]:
        """Assess an answer; return what stands for it and whether the guardrail intervened.

        Args:
            text: The answer.
        """
        finding = assess(self._version.config, text, "OUTPUT")
        self._told(finding, text)
        if not finding.intervenes:
            return text, False
        self._trace["modelOutput"] = [text]
        self._trace["actionReason"] = "Guardrail blocked." if finding.blocked else "Guardrail masked."
        return outputs(self._version.config, "OUTPUT", [text], [finding])[
            0
        ] if finding.blocked else finding.masked(text), True

    def trace(self) -> Params | None:
        """Return the call's trace; nothing when it asked for none."""
        return dict(self._trace) if self._traced and self._trace else None

    def stream(self) -> GuardedStream:
        """Return what assesses a streamed answer."""
        return GuardedStream(self)

    def assess_output(self, text: str) -> Finding:
        """Return what the guardrail finds in a part of an answer.

        Args:
            text: The answer so far.
        """
        return assess(self._version.config, text, "OUTPUT")

    def blocked_message(self) -> str:
        """Return the message that stands for a blocked answer."""
        return str(self._version.config["blockedOutputsMessaging"])

    def _told(self, finding: Finding, text: str) -> None:
        told = assessment(self._record, self._version, finding, text)
        self._trace["outputAssessments"] = {self._record.id: [told]}


class GuardedStream:
    """A streamed answer under a guardrail.

    Args:
        guarded: The call's guardrail.
    """

    def __init__(self, guarded: Guarded) -> None:
        self._guarded = guarded
        self._text = ""
        self._sent = 0
        self._assessed = 0
        self._found = False
        self.intervened = False
        self.blocked = False

    def take(self, piece: str) -> str:
        """Return what may be sent now that a further piece is there.

        Args:
            piece: The piece; once the answer is blocked, there are no more.
        """
        self._text += piece
        if self._guarded.asynchronous:
            return self._take_at_once(piece)
        if len(self._text) - self._assessed < WINDOW:
            return ""
        self._assessed = len(self._text)
        return self._release(len(self._text) - TAIL)

    def finish(self) -> str:
        """Return what is still to be sent at the answer's end."""
        _, intervened = self._guarded.check_output(self._text)
        if self._guarded.asynchronous:
            # It cannot mask: what was to be masked has been sent.
            return self._block() if self._guarded.assess_output(self._text).blocked else ""
        self.intervened = self.intervened or intervened
        return self._release(len(self._text))

    def _take_at_once(self, piece: str) -> str:
        if self._found:
            return self._block()
        if len(self._text) - self._assessed >= WINDOW:
            # What is found here stops the pieces after this one, which is on its way already.
            self._assessed = len(self._text)
            self._found = self._guarded.assess_output(self._text).blocked
        return piece

    def _release(self, upto: int) -> str:
        """Return the assessed text from what was sent to a place, masked."""
        finding = self._guarded.assess_output(self._text)
        if finding.blocked:
            return self._block()
        for start, end, _ in finding.masks:
            # What reaches over the place waits, so that it is masked as a whole.
            if start < upto < end:
                upto = start
        if upto <= self._sent:
            return ""
        masks = [span for span in finding.masks if self._sent <= span[0] and span[1] <= upto]
        self.intervened = self.intervened or bool(masks)
        shifted = [(start - self._sent, end - self._sent, label) for start, end, label in masks]
        text, self._sent = Finding(masks=shifted).masked(self._text[self._sent : upto]), upto
        return text

    def _block(self) -> str:
        self.blocked = self.intervened = True
        self._guarded.check_output(self._text)
        return self._guarded.blocked_message()


def _guarded_blocks(request: Params) -> list[tuple[Params, str, str]]:
    """Return the texts to assess with where they stand: those in `guardContent`, or every message."""
    blocks = [block for message in request.get("messages") or [] for block in message.get("content") or []]
    system = [block for block in request.get("system") or [] if "guardContent" in block]
    marked = [block for block in blocks if "guardContent" in block]
    found: list[tuple[Params, str, str]] = []
    for block in (*system, *(marked or blocks)):
        inside = block.get("guardContent", block)
        holder = inside["text"] if isinstance(inside.get("text"), dict) else inside
        if isinstance(holder.get("text"), str):
            found.append((holder, "text", holder["text"]))
    return found


def _merged(findings: list[Finding]) -> Finding:
    merged = Finding()
    for finding in findings:
        merged.blocked = merged.blocked or finding.blocked
        for policy, members in finding.assessment.items():
            kept = merged.assessment.setdefault(policy, {})
            for name, entries in members.items():
                kept[name] = [*kept.get(name, []), *entries]
    return merged
