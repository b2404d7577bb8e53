"""Guardrails: what they find, and what becomes of calls that have one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from support_local import SCOPE, client
from tokenmill.local.aws_requests import AwsError
from tokenmill.local.bedrock.control import BedrockControl
from tokenmill.local.bedrock.guarded import Guarded
from tokenmill.local.bedrock.guardrail_rules import assess
from tokenmill.local.bedrock.guardrails import Guardrails

if TYPE_CHECKING:
    from tokenmill.local.cloud_process import CloudProcess

MODEL = "amazon.nova-lite-v1:0"
MESSAGES = {"blockedInputMessaging": "NO INPUT", "blockedOutputsMessaging": "NO OUTPUT"}
WORDS = {"wordPolicyConfig": {"wordsConfig": [{"text": "acme corp"}]}}


def pii(kind: str, action: str = "ANONYMIZE") -> dict[str, Any]:
    return {"sensitiveInformationPolicyConfig": {"piiEntitiesConfig": [{"type": kind, "action": action}]}}


def made(config: dict[str, Any]) -> tuple[Guardrails, str]:
    guardrails = Guardrails(BedrockControl())
    answer = guardrails.operations()["CreateGuardrail"](SCOPE, {"name": "one", **MESSAGES, **config})
    return guardrails, answer["guardrailId"]


def guarded(config: dict[str, Any], **how: str) -> Guarded:
    guardrails, identity = made(config)
    call = Guarded.of(guardrails, SCOPE, {"guardrailConfig": {"guardrailIdentifier": identity, **how}})
    assert call is not None
    return call


def test_a_word_is_found_as_a_word_in_any_case() -> None:
    """A word policy matches whole words in any case and spacing, and no part of a word."""
    assert assess(WORDS, "Buy from ACME   Corp today", "INPUT").blocked
    assert not assess(WORDS, "Buy from acme corporation", "INPUT").intervenes


@pytest.mark.parametrize(
    ("kind", "text", "masked"),
    [
        ("EMAIL", "mail a.b@example.co.uk now", "mail {EMAIL} now"),
        ("US_SOCIAL_SECURITY_NUMBER", "ssn 123-45-6789.", "ssn {US_SOCIAL_SECURITY_NUMBER}."),
        ("CREDIT_DEBIT_CARD_NUMBER", "card 4111 1111 1111 1111 ok", "card {CREDIT_DEBIT_CARD_NUMBER} ok"),
        ("IP_ADDRESS", "host 10.1.2.3 up", "host {IP_ADDRESS} up"),
        ("PHONE", "call (206) 555-0100 or not", "call {PHONE} or not"),
        (
            "INTERNATIONAL_BANK_ACCOUNT_NUMBER",
            "DE89 3704 0044 0532 0130 00",
            "{INTERNATIONAL_BANK_ACCOUNT_NUMBER}",
        ),
        ("AWS_ACCESS_KEY", "key AKIAIOSFODNN7EXAMPLE", "key {AWS_ACCESS_KEY}"),
        ("URL", "see https://example.com/a?b=c.", "see {URL}."),
    ],
)
def test_personal_data_with_a_form_is_masked(kind: str, text: str, masked: str) -> None:
    """Each kind is found where it stands and replaced by its name."""
    finding = assess(pii(kind), text, "OUTPUT")
    assert finding.masked(text) == masked
    assert finding.assessment["sensitiveInformationPolicy"]["piiEntities"][0]["action"] == "ANONYMIZED"


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("CREDIT_DEBIT_CARD_NUMBER", "order 4111 1111 1111 1112"),
        ("IP_ADDRESS", "version 999.1.2.3"),
        ("INTERNATIONAL_BANK_ACCOUNT_NUMBER", "DE00 3704 0044 0532 0130 00"),
        ("US_SOCIAL_SECURITY_NUMBER", "000-12-3456"),
        ("NAME", "I am Jane Doe"),
    ],
)
def test_what_only_looks_like_personal_data_stays(kind: str, text: str) -> None:
    """Check digits and ranges count; data without a form of its own is not found here."""
    assert not assess(pii(kind), text, "INPUT").intervenes


def test_rules_may_be_off_or_only_tell_on_one_side() -> None:
    """inputEnabled false leaves a rule out, outputAction NONE reports what it found."""
    rule = {"text": "secret", "inputEnabled": False, "outputAction": "NONE"}
    config = {"wordPolicyConfig": {"wordsConfig": [rule]}}
    assert assess(config, "a secret", "INPUT").assessment == {}
    told = assess(config, "a secret", "OUTPUT")
    assert not told.intervenes
    assert told.assessment["wordPolicy"]["customWords"] == [
        {"match": "secret", "action": "NONE", "detected": True}
    ]


def test_topics_are_found_by_the_words_of_their_examples() -> None:
    """A question that shares half the content words of an example is about the topic."""
    topic = {
        "name": "Investment advice",
        "definition": "Recommending securities.",
        "examples": ["Which stocks should I invest my savings in?"],
        "type": "DENY",
    }
    config = {"topicPolicyConfig": {"topicsConfig": [topic]}}
    assert assess(config, "Where do I invest my savings, stocks or gold?", "INPUT").blocked
    assert assess(config, "I need investment advice", "INPUT").blocked
    assert not assess(config, "Where is my parcel?", "INPUT").intervenes


def test_an_answer_without_ground_is_blocked_with_its_scores() -> None:
    """Grounding is the share of the answer's words in the source, relevance the question's in the answer."""
    filters = [{"type": "GROUNDING", "threshold": 0.6}, {"type": "RELEVANCE", "threshold": 0.3}]
    config = {"contextualGroundingPolicyConfig": {"filtersConfig": filters}}
    source, query = "Parcels arrive within three working days.", "When do parcels arrive?"
    good = assess(config, "Parcels arrive in three working days.", "OUTPUT", grounding=source, query=query)
    bad = assess(config, "Elephants usually live seventy years.", "OUTPUT", grounding=source, query=query)
    assert (good.blocked, bad.blocked) == (False, True)
    assert bad.assessment["contextualGroundingPolicy"]["filters"][0]["score"] == 0.0


def test_versions_keep_what_they_were_made_of() -> None:
    """A version does not change with the draft, and a deleted one's number is not given again."""
    guardrails, identity = made(WORDS)
    run = guardrails.operations()
    first = run["CreateGuardrailVersion"](SCOPE, {"guardrailIdentifier": identity})["version"]
    run["UpdateGuardrail"](
        SCOPE, {"guardrailIdentifier": identity, "name": "one", **MESSAGES, **pii("EMAIL")}
    )
    content = [{"text": {"text": "acme corp"}}]
    apply = {"guardrailIdentifier": identity, "source": "INPUT", "content": content}
    assert guardrails.apply(SCOPE, {**apply, "guardrailVersion": first})["action"] == "GUARDRAIL_INTERVENED"
    assert guardrails.apply(SCOPE, {**apply, "guardrailVersion": "DRAFT"})["action"] == "NONE"
    run["DeleteGuardrail"](SCOPE, {"guardrailIdentifier": identity, "guardrailVersion": first})
    with pytest.raises(AwsError, match="has no version 1"):
        guardrails.apply(SCOPE, {**apply, "guardrailVersion": first})
    assert run["CreateGuardrailVersion"](SCOPE, {"guardrailIdentifier": identity})["version"] == "2"


def test_only_what_is_marked_is_assessed_where_something_is_marked() -> None:
    """guardContent narrows the assessment to its own text; without it every message is assessed."""
    call = guarded(WORDS)
    plain = {"text": "acme corp"}
    marked = {"guardContent": {"text": {"text": "good morning"}}}
    assert call.check_input({"messages": [{"role": "user", "content": [plain, marked]}]}) is None
    assert call.check_input({"messages": [{"role": "user", "content": [plain]}]}) == "NO INPUT"


def test_what_is_masked_on_the_way_in_reaches_the_model_masked() -> None:
    """The request that goes to the model has the mask in it."""
    request = {"messages": [{"role": "user", "content": [{"text": "I am a@b.org"}]}]}
    assert guarded(pii("EMAIL")).check_input(request) is None
    assert request["messages"][0]["content"][0]["text"] == "I am {EMAIL}"


PIECES = [f"word{n} " for n in range(40)]


def test_a_synchronous_stream_holds_back_what_it_blocks() -> None:
    """No part of a blocked word is sent, however it is cut, and nothing after the message."""
    stream = guarded(WORDS).stream()
    sent = [stream.take(piece) for piece in [*PIECES, "ac", "me c", "orp ", *PIECES] if not stream.blocked]
    text = "".join(sent)
    assert stream.blocked
    assert text.endswith("NO OUTPUT")
    assert "acme" not in text
    assert text.startswith("word0 ")


def test_a_synchronous_stream_masks_across_pieces() -> None:
    """An address that comes in pieces is sent as its mask, once; the text before and after is whole."""
    stream = guarded(pii("EMAIL")).stream()
    pieces = [*PIECES, "a.b", "@exam", "ple.org", " and ", *PIECES]
    text = "".join([*(stream.take(piece) for piece in pieces), stream.finish()])
    assert text == "".join(PIECES) + "{EMAIL} and " + "".join(PIECES)
    assert stream.intervened
    assert not stream.blocked


def test_an_asynchronous_stream_sends_first_and_stops_later() -> None:
    """Pieces go out as they come, the blocked word with them; then the message ends the answer."""
    stream = guarded(WORDS, streamProcessingMode="async").stream()
    sent = [stream.take(piece) for piece in [*PIECES, "acme corp ", *PIECES] if not stream.blocked]
    assert sent[0] == PIECES[0]
    assert "acme corp " in sent
    assert sent[-1] == "NO OUTPUT"
    assert len(sent) < 2 * len(PIECES)


@pytest.fixture
def guardrail(cloud: CloudProcess) -> Any:
    bedrock = client(cloud.endpoint, "bedrock")
    config = WORDS | pii("EMAIL") | {"name": "cloud", **MESSAGES}
    # What the local model always says is a word of this policy.
    config["wordPolicyConfig"] = {"wordsConfig": [{"text": "acme corp"}, {"text": "local model server"}]}
    answer = bedrock.create_guardrail(**config)
    yield answer["guardrailId"]
    bedrock.delete_guardrail(guardrailIdentifier=answer["guardrailId"])


def test_calls_are_guarded_and_traced(cloud: CloudProcess, guardrail: str) -> None:
    """A blocked input costs no tokens; a blocked answer has the message, the reason and its trace."""
    runtime = client(cloud.endpoint, "bedrock-runtime")
    config = {"guardrailIdentifier": guardrail, "guardrailVersion": "DRAFT", "trace": "enabled"}

    def ask(text: str) -> Any:
        messages = [{"role": "user", "content": [{"text": text}]}]
        return runtime.converse(modelId=MODEL, messages=messages, guardrailConfig=config)

    blocked = ask("What about acme corp?")
    assert blocked["output"]["message"]["content"] == [{"text": "NO INPUT"}]
    assert (blocked["stopReason"], blocked["usage"]["totalTokens"]) == ("guardrail_intervened", 0)
    assert blocked["trace"]["guardrail"]["inputAssessment"][guardrail]["wordPolicy"]["customWords"]
    answer = ask("Hello")
    assert answer["output"]["message"]["content"] == [{"text": "NO OUTPUT"}]
    assert answer["stopReason"] == "guardrail_intervened"
    assert answer["usage"]["outputTokens"] > 0
    assert "local model server" in answer["trace"]["guardrail"]["modelOutput"][0]


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_streams_are_guarded(cloud: CloudProcess, guardrail: str, mode: str) -> None:
    """A streamed answer ends with the message and guardrail_intervened; sync never sends the word."""
    stream = client(cloud.endpoint, "bedrock-runtime").converse_stream(
        modelId=MODEL,
        messages=[{"role": "user", "content": [{"text": "Hello"}]}],
        guardrailConfig={
            "guardrailIdentifier": guardrail,
            "guardrailVersion": "DRAFT",
            "streamProcessingMode": mode,
            "trace": "enabled",
        },
    )
    events = list(stream["stream"])
    text = "".join(e["contentBlockDelta"]["delta"]["text"] for e in events if "contentBlockDelta" in e)
    assert text.endswith("NO OUTPUT")
    assert ("local model server" in text) == (mode == "async")
    [stop] = [event["messageStop"]["stopReason"] for event in events if "messageStop" in event]
    assert stop == "guardrail_intervened"
    [metadata] = [event["metadata"] for event in events if "metadata" in event]
    assert metadata["trace"]["guardrail"]["outputAssessments"][guardrail][0]["wordPolicy"]["customWords"]


def test_apply_guardrail_tells_its_outcome_and_units(cloud: CloudProcess, guardrail: str) -> None:
    """ApplyGuardrail masks, counts text units and tells the characters it covered."""
    apply = client(cloud.endpoint, "bedrock-runtime").apply_guardrail
    asked = {"guardrailIdentifier": guardrail, "guardrailVersion": "DRAFT", "source": "OUTPUT"}
    answer = apply(**asked, content=[{"text": {"text": "write to a@b.org"}}])
    assert answer["action"] == "GUARDRAIL_INTERVENED"
    assert answer["outputs"] == [{"text": "write to {EMAIL}"}]
    assert answer["usage"]["wordPolicyUnits"] == 1
    assert answer["guardrailCoverage"]["textCharacters"] == {"guarded": 16, "total": 16}
    assert apply(**asked, content=[{"text": {"text": "fine"}}])["action"] == "NONE"


def test_guardrails_without_rules_or_with_a_taken_name_are_refused(
    cloud: CloudProcess, guardrail: str
) -> None:
    """The control plane refuses an empty guardrail and a second one of the same name."""
    bedrock = client(cloud.endpoint, "bedrock")
    with pytest.raises(ClientError, match="At least one policy"):
        bedrock.create_guardrail(name="empty", **MESSAGES)
    with pytest.raises(ClientError, match="ConflictException"):
        bedrock.create_guardrail(name="cloud", **MESSAGES, **WORDS)
