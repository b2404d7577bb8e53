"""Values of Bedrock that cannot be are refused when they are written, whatever they are made of."""

from __future__ import annotations

from typing import Any

import pytest

from tokenmill import OfficeHours
from tokenmill.batch import BatchFiles, InferenceJobs, InferenceRecords
from tokenmill.bedrock import (
    AnswerSettings,
    BedrockOptions,
    BlockedMessages,
    CacheAlarm,
    CacheRule,
    ContentFilter,
    CountedText,
    DeniedTopic,
    Grounding,
    Guardrail,
    GuardrailHook,
    GuardrailPolicies,
    Harm,
    InferenceProfile,
    LogBucket,
    LogStream,
    Message,
    NamedModel,
    Pattern,
    PersonalData,
    PromptUse,
    PromptVariable,
    PromptVariant,
    QuotaAlarms,
    Strength,
    Treatment,
    UnitAlarms,
    UnitCapacity,
    UnlistedModel,
    Words,
)
from tokenmill.core.batch_quotas import BatchQuota
from tokenmill.core.errors import TokenmillError
from tokenmill.core.token_quota import burndown
from tokenmill.customization import Distillation, FineTuning, ImportSource, TrainingData
from tokenmill.gateway import ServedModel, TokenLimits
from tokenmill_runtime.token_work import TokenWorkCoefficients

TOKEN, NUMBER = "${Token[TOKEN.1]}", -1.8881545897087973e289
# None of these is any field's value; what a field may take besides is left out where it is named below.
NOTHING = (object(), b"x", {"x"}, [None], {"a": 1}, [1], NUMBER, -1, TOKEN)
LITE, HARM = "amazon.nova-lite-v1:0", {"harm": Harm.HATE}
WORK = TokenWorkCoefficients(
    prefill_seconds_per_request=0.0, prefill_seconds_per_token=0.0005, decode_seconds_per_token=0.02
)
FRENCH = f"arn:aws:bedrock:eu-west-3::foundation-model/{LITE}"
UNITS = "arn:aws:bedrock:us-east-1:111122223333:provisioned-model/abcdefghijkl"
WORDS = Words(words=("a",))
LIMITS = TokenLimits(context_tokens=1000, max_output_tokens=100)


class Prompt:
    """A prompt with one variable."""

    prompt_version_arn = "arn"
    variables = frozenset({"q"})

    def grant_use(self, grantee: object) -> None:
        """Grant nothing."""


class Bucket:
    """What is told from a bucket's name by having an ARN."""

    bucket_arn = "arn:aws:s3:::data"


def profile(model: Any = "us.amazon.nova-lite-v1:0", **values: Any) -> NamedModel:
    return InferenceProfile.cross_region(model, **values)


def served(model: Any = LITE, **values: Any) -> ServedModel:
    return ServedModel.on_bedrock(model, **{"name": "x", "limits": LIMITS, "token_work": WORK, **values})


def logs(**values: Any) -> TrainingData:
    return TrainingData.of_logs(**{"bucket": Bucket(), "logs": "a", **values})


FIELDS: list[tuple[Any, dict[str, Any], tuple[str, ...]]] = [
    (UnitCapacity, {"input_tokens_per_minute": 1.0, "output_tokens_per_minute": 1.0}, ()),
    (UnitAlarms, {"topic": None, "expiry_days": 7, "idle_hours": 3}, ()),
    (ContentFilter, {**HARM, "question": Strength.LOW, "answer": Strength.LOW}, ()),
    (DeniedTopic, {"name": "a", "definition": "b", "examples": ()}, ()),
    (Words, {"words": ("a",), "profanity": False}, ()),
    (Pattern, {"name": "a", "regex": "b", "treatment": Treatment.BLOCK}, ()),
    (PersonalData, {"block": ("AGE",), "mask": (), "patterns": ()}, ()),
    (Grounding, {"grounded": 0.5, "relevant": 0.5}, ()),
    (BlockedMessages, {"question": "a", "answer": "b"}, ()),
    (
        GuardrailPolicies,
        {
            "filters": (),
            "topics": (),
            "words": WORDS,
            "personal_data": None,
            "grounding": None,
            "messages": BlockedMessages(),
        },
        (),
    ),
    (
        profile,
        {"model": "us.amazon.nova-lite-v1:0", "region": None, "regions": (), "allow_unlisted": False},
        (),
    ),
    (LogBucket, {"bucket": None, "prefix": "a", "expire_days": 9, "encryption_key": None}, ()),
    (LogStream, {"log_group": None, "retention_days": 90, "encryption_key": None, "large_data": None}, ()),
    (CountedText, {"text": "a", "tokens": 3}, ()),
    (Message, {"role": "user", "content": ("a",)}, ()),
    (AnswerSettings, {"max_tokens": 1, "temperature": 0.5, "top_p": 0.5, "stop_sequences": ()}, ()),
    (PromptVariable, {"name": "a", "max_tokens": 1}, ()),
    (CacheRule, {"minimum_tokens": 1, "maximum_points": 1, "fields": ("system",)}, ()),
    (CacheAlarm, {"topic": None, "calls": 1, "quarters": 4}, ()),
    (
        PromptVariant,
        {
            "name": "a",
            "model": LITE,
            "template": "x",
            "system": (),
            "messages": (),
            "answer": AnswerSettings(),
        },
        ("model",),
    ),
    (QuotaAlarms, {"headroom": 0.2, "topic": None}, ()),
    (
        BedrockOptions,
        {"service_tier": None, "latency": None, "guardrail": None, "prompt": None, "fallback": None},
        (),
    ),
    (PromptUse, {"prompt": Prompt(), "variables": {"q": "x"}, "question": None}, ()),
    (InferenceJobs, {"job_hours": 24, "deadline_hours": None, "retries": 1, "quota": None}, ()),
    (InferenceRecords, {"form": "chat", "max_tokens": 1}, ()),
    (BatchQuota, {"minimum_records": 100, "records_per_job": 5000, "file_gb": 1.0, "jobs_at_once": 1}, ()),
    (BatchFiles, {"bucket": None, "input_prefix": "i", "output_prefix": "o", "encryption_key": None}, ()),
    (FineTuning, {"epochs": 1, "batch_size": 1, "learning_rate": 0.1, "warmup_steps": 1, "more": {}}, ()),
    (Distillation, {"teacher": "amazon.nova-pro-v1:0", "max_response_tokens": 1}, ()),
    (TrainingData, {"bucket": Bucket(), "training": "a.jsonl", "validation": (), "encryption_key": None}, ()),
    (logs, {"logs": "a", "with_responses": False, "log_filter": None}, ()),
    (OfficeHours, {"start": "08:00", "end": "18:00", "days": "MON-FRI", "timezone": "Etc/UTC"}, ()),
    (TokenLimits, {"context_tokens": 1000, "max_output_tokens": 100}, ()),
    (served, {"model": LITE, "name": "x", "limits": LIMITS, "token_work": WORK, "options": None}, ()),
]


@pytest.mark.parametrize(
    ("make", "values", "name"),
    [
        pytest.param(make, values, name, id=f"{make.__name__}-{name}")
        for make, values, but in FIELDS
        for name in values
        if name not in but
    ],
)
def test_fails_for_a_value_of_another_kind(make: Any, values: dict[str, Any], name: str) -> None:
    """Never with an error of Python's or JavaScript's own, and never taken for something else."""
    make(**values)
    for wrong in NOTHING:
        with pytest.raises(TokenmillError) as raised:
            make(**values | {name: wrong})
        assert str(raised.value)[0] == str(raised.value)[0].lower()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: UnlistedModel("ü☃\r\n"), "give an id such as"),
        (lambda: UnlistedModel(7), "model must be a text"),
        (lambda: Guardrail.from_guardrail_arn(7, version="1"), "guardrail_arn is 7"),
        (lambda: GuardrailHook(guardrail="g"), "guardrail is 'g'"),
        (lambda: NamedModel("x y{}.z", allow_unlisted=True), "it must be an id such as"),
        (
            lambda: NamedModel(f"arn:aws:bedrock:eu-west-1::foundation-model/{LITE}", region="us-east-1"),
            "give the id",
        ),
        (lambda: NamedModel(LITE, region="us_east_1"), "region is 'us_east_1'"),
        (
            lambda: BedrockOptions(fallback="arn:aws:bedrock:us-east-1:1:provisioned-model/x"),
            "provisioned units",
        ),
        (lambda: burndown(7), "model_id must be a text"),
        (lambda: burndown(LITE, overrides=[]), "overrides is []"),
        (lambda: LogBucket(expire_days=10**30), "at most 36,500"),
        (lambda: LogBucket(prefix="a\r\nb"), "it must be a folder"),
        (lambda: BatchFiles(input_prefix="  "), "give a folder's name"),
        (lambda: BatchFiles(input_prefix="a" * 257), "give a folder's name"),
        (lambda: CacheAlarm(quarters=97), "so 1 to 96"),
        (lambda: ImportSource(), "a source has nothing"),
        (lambda: ImportSource.nova(7), "it must be the s3:// address"),
        (lambda: ImportSource.package(7), "model package's ARN"),
        (lambda: ImportSource.weights("s3://x"), "give ModelSource.s3"),
        (lambda: TrainingData(bucket=None, training="a"), "bucket is None"),
        (lambda: logs(log_filter={"a b*": "x"}), "log_filter has 'a b*'"),
        (lambda: logs(log_filter={f"k{n}": "x" for n in range(17)}), "log_filter has 17 entries"),
        (lambda: Words(words=("a", "a")), "words has a more than once"),
        (lambda: PersonalData(mask=("EMAIL", "EMAIL")), "mask has EMAIL more than once"),
    ],
)
def test_fails_for_what_no_service_takes(make: Any, says: str | None) -> None:
    """With the value and a way out."""
    if says is None:
        make()
        return
    with pytest.raises(TokenmillError) as raised:
        make()
    assert says in str(raised.value)


@pytest.mark.parametrize(
    "regex",
    ["(a+)+$", "([a-z]*)*", r"(?:\d+)+", "(a+)+?b", "(a+){2,}", "a{99999999999}", "(" * 240 + "a", "(?<!a)b"],
)
def test_fails_for_an_expression_that_never_ends_or_is_none(regex: str) -> None:
    """A repetition of a repetition takes exponential time where a text nearly fits."""
    with pytest.raises(TokenmillError, match="regex of the pattern 'n'"):
        Pattern(name="n", regex=regex, treatment=Treatment.BLOCK)


@pytest.mark.parametrize("regex", ["((a+)b)+", r"\((a)+", r"(\d{3}-)+", "(ab+)+", "[(a+)]+", r"(\d+)"])
def test_sound_expressions_are_taken(regex: str) -> None:
    """A group with something beside its repetition has one way to fit."""
    assert Pattern(name="n", regex=regex, treatment=Treatment.BLOCK).regex == regex


def test_fails_for_more_expressions_than_the_service_takes() -> None:
    """GuardrailRegexesConfig of the API takes ten, where CloudFormation's own limit is wider."""
    patterns = tuple(Pattern(name=f"n{n}", regex="a", treatment=Treatment.BLOCK) for n in range(11))
    with pytest.raises(TokenmillError, match="patterns has 11 entries; at most 10"):
        PersonalData(patterns=patterns)


@pytest.mark.parametrize("sign", ["\x00", "\ud800", "\x1b"])
def test_fails_for_characters_that_no_template_holds(sign: str) -> None:
    """CloudFormation would refuse the template, at deployment."""
    with pytest.raises(TokenmillError, match="which no template can hold"):
        PromptVariant(name="a", model=LITE, template=f"hello{sign}")


def test_line_ends_and_other_scripts_are_taken() -> None:
    """CRLF and Unicode are text."""
    assert PromptVariant(name="a", model=LITE, template="ü ☃\r\n\tend").parts[0].text == "ü ☃\r\n\tend"
