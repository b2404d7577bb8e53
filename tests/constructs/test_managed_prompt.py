"""Managed prompts: checked at synthesis, in versions that follow their content, with a watch on the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns

from support_stack import make_app, of_type, only, statements, template_of
from tokenmill.bedrock.inference_profile import InferenceProfile
from tokenmill.bedrock.managed_prompt import ManagedPrompt
from tokenmill.bedrock.model import IManagedPrompt
from tokenmill.bedrock.prompt_values import (
    CACHE_POINT,
    AnswerSettings,
    CacheAlarm,
    CountedText,
    Message,
    PromptVariant,
)
from tokenmill.core.errors import TokenmillError
from tokenmill.core.prompt_text import CacheRule, PromptVariable

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "us.anthropic.claude-sonnet-5"
QUESTION = PromptVariable(name="question", max_tokens=500)
MANUAL = CountedText(text="You answer from this manual: …", tokens=1100)
ASK = Message(role="user", content=("{{question}}",))
CHAT = PromptVariant(
    name="chat",
    model=MODEL,
    system=(MANUAL, CACHE_POINT),
    messages=(ASK,),
    answer=AnswerSettings(max_tokens=800, temperature=0.2, stop_sequences=("END",)),
)
TEXT = PromptVariant(name="text", model="amazon.nova-lite-v1:0", template="Answer briefly: {{question}}")


def a_prompt(stack: cdk.Stack, *variants: PromptVariant, **changes: Any) -> ManagedPrompt:
    arguments: dict[str, Any] = {"variables": (QUESTION,), "max_prompt_tokens": 4000, **changes}
    return ManagedPrompt(stack, "Prompt", variants=variants or (CHAT,), **arguments)


def test_a_chat_prompt_keeps_order_cache_point_and_settings(stack: cdk.Stack) -> None:
    """What never changes, the cache point, then the caller's question."""
    a_prompt(stack, CHAT, TEXT)
    properties = only(template_of(stack), "AWS::Bedrock::Prompt")["Properties"]
    chat, text = properties["Variants"]
    assert properties["DefaultVariant"] == "chat"
    assert chat == {
        "Name": "chat",
        "ModelId": MODEL,
        "TemplateType": "CHAT",
        "TemplateConfiguration": {
            "Chat": {
                "InputVariables": [{"Name": "question"}],
                "System": [{"Text": MANUAL.text}, {"CachePoint": {"Type": "default"}}],
                "Messages": [{"Role": "user", "Content": [{"Text": "{{question}}"}]}],
            }
        },
        "InferenceConfiguration": {"Text": {"MaxTokens": 800, "Temperature": 0.2, "StopSequences": ["END"]}},
    }
    assert text["TemplateConfiguration"] == {
        "Text": {"Text": "Answer briefly: {{question}}", "InputVariables": [{"Name": "question"}]}
    }
    assert "InferenceConfiguration" not in text


def versions(tmp_path: Path, name: str, *variants: PromptVariant, **changes: Any) -> dict[str, Any]:
    stack = cdk.Stack(make_app(tmp_path / name), "test", env=cdk.Environment(region="us-east-1"))
    a_prompt(stack, *variants, **changes)
    return of_type(template_of(stack), "AWS::Bedrock::PromptVersion")


def test_a_change_of_the_content_makes_a_new_version_and_keeps_the_old(tmp_path: Path) -> None:
    """The description is create-only: another one replaces the version, and RETAIN keeps what it replaces."""
    warmer = PromptVariant(
        name="chat",
        model=MODEL,
        system=(MANUAL, CACHE_POINT),
        messages=(ASK,),
        answer=AnswerSettings(max_tokens=800, temperature=0.9, stop_sequences=("END",)),
    )
    first, same, second = (
        versions(tmp_path, "a"),
        versions(tmp_path, "b", CHAT, TEXT, cache_alarm=CacheAlarm(calls=5)),
        versions(tmp_path, "c", warmer),
    )
    assert first == same
    assert list(first) == list(second)
    ((old,), (new,)) = (first.values(), second.values())
    assert old["Properties"]["Description"] != new["Properties"]["Description"]
    assert (old["UpdateReplacePolicy"], old["DeletionPolicy"]) == ("Retain", "Retain")


def test_a_caller_may_render_the_prompt_and_call_its_model(stack: cdk.Stack) -> None:
    """Older versions too, because policies change before the callers that use them."""
    role = iam.Role(stack, "Caller", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
    prompt = a_prompt(stack)
    prompt.grant_use(role)
    found = statements(template_of(stack), "Caller")
    assert found[0]["Action"] == ["bedrock:GetPrompt", "bedrock:RenderPrompt"]
    assert [str(arn) for arn in found[0]["Resource"]] == [
        "{'Fn::GetAtt': ['PromptAE3D1BF0', 'Arn']}",
        "{'Fn::Join': ['', [{'Fn::GetAtt': ['PromptAE3D1BF0', 'Arn']}, ':*']]}",
    ]
    assert f"inference-profile/{MODEL}" in str(found[1:])
    assert "us-west-2::foundation-model/anthropic.claude-sonnet-5" in str(found[1:])


def test_a_prompt_of_a_tagged_profile_is_billed_to_it(stack: cdk.Stack) -> None:
    """The version calls the profile's ARN, and its cache is watched under the profile's id."""
    profile = InferenceProfile(stack, "Profile", model=MODEL, tags={"team": "support"})
    variant = PromptVariant(name="chat", model=profile, system=(MANUAL, CACHE_POINT), messages=(ASK,))
    a_prompt(stack, variant)
    template = template_of(stack)
    (made,) = only(template, "AWS::Bedrock::Prompt")["Properties"]["Variants"]
    assert made["ModelId"] == {"Fn::GetAtt": ["Profile6F32097C", "InferenceProfileArn"]}
    dimensions = [
        alarm["Properties"]["Dimensions"] for alarm in of_type(template, "AWS::CloudWatch::Alarm").values()
    ]
    own = {"Fn::GetAtt": ["Profile6F32097C", "InferenceProfileId"]}
    assert dimensions == [[{"Name": "ModelId", "Value": own}]] * 2


def test_a_cache_that_is_never_read_is_told_of(stack: cdk.Stack) -> None:
    """Called, and nothing read; a metric that does not exist counts as nothing read."""
    topic = sns.Topic(stack, "Topic")
    prompt = a_prompt(stack, cache_alarm=CacheAlarm(topic=topic, calls=50, quarters=2))
    template = template_of(stack)
    alarms = {
        alarm["Properties"]["MetricName"]: alarm["Properties"]
        for alarm in of_type(template, "AWS::CloudWatch::Alarm").values()
    }
    called, unread = alarms["Invocations"], alarms["CacheReadInputTokens"]
    assert (called["Threshold"], called["ComparisonOperator"]) == (50, "GreaterThanOrEqualToThreshold")
    assert (called["TreatMissingData"], unread["TreatMissingData"]) == ("notBreaching", "breaching")
    assert (unread["Threshold"], unread["ComparisonOperator"]) == (1, "LessThanThreshold")
    assert {alarm["EvaluationPeriods"] for alarm in alarms.values()} == {2}
    composite = only(template, "AWS::CloudWatch::CompositeAlarm")["Properties"]
    assert ") AND ALARM(" in str(composite["AlarmRule"])
    assert composite["AlarmActions"] == [stack.resolve(topic.topic_arn)]
    assert prompt.cache_alarm is not None


def test_a_prompt_without_a_cache_point_has_no_alarm(stack: cdk.Stack) -> None:
    """Nothing is cached, so nothing can be unread."""
    assert a_prompt(stack, TEXT).cache_alarm is None
    assert of_type(template_of(stack), "AWS::CloudWatch::CompositeAlarm") == {}


def test_the_gateway_takes_a_prompt(stack: cdk.Stack) -> None:
    """By the version's ARN and the names that have to be filled."""
    prompt = a_prompt(stack)
    assert isinstance(prompt, IManagedPrompt)
    assert prompt.variables == {"question"}
    assert stack.resolve(prompt.prompt_version_arn) == {"Fn::GetAtt": ["PromptVersion14ACCEAE", "Arn"]}
    assert stack.resolve(prompt.prompt_arn) == {"Fn::GetAtt": ["PromptAE3D1BF0", "Arn"]}


def test_a_customer_s_key_is_used_by_who_uses_the_prompt(stack: cdk.Stack) -> None:
    """Rendering decrypts."""
    key = kms.Key(stack, "Key")
    role = iam.Role(stack, "Caller", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
    a_prompt(stack, encryption_key=key).grant_use(role)
    template = template_of(stack)
    assert "CustomerEncryptionKeyArn" in only(template, "AWS::Bedrock::Prompt")["Properties"]
    assert [s["Action"] for s in statements(template, "Caller") if "kms" in str(s["Action"])] == [
        "kms:Decrypt"
    ]


def test_what_an_estimate_leaves_open_is_warned_of(stack: cdk.Stack) -> None:
    """A prefix that may be too short, a prompt that may be too long; a count settles either."""
    text = "The quick brown fox jumps over the lazy dog. " * 85
    unsure = PromptVariant(name="chat", model=MODEL, system=(text, CACHE_POINT), messages=(ASK,))
    a_prompt(stack, unsure, max_prompt_tokens=2000)
    messages = [str(m.entry.data) for m in cdk.App.of(stack).synth().get_stack_by_name("test").messages]
    assert len([m for m in messages if "cache point 1 of variant 'chat' may have only" in m]) == 1
    assert len([m for m in messages if "variant 'chat' may have up to" in m]) == 1


def other(**changes: Any) -> PromptVariant:
    arguments: dict[str, Any] = {"name": "a", "model": MODEL, "messages": (ASK,), **changes}
    return PromptVariant(**arguments)


@pytest.mark.parametrize(
    ("variants", "changes", "sentence"),
    [
        ((), {"variants": ()}, "variants has 0; give one to 3"),
        ((CHAT, CHAT), {}, "variants are called chat, chat; give each a name of its own"),
        ((CHAT,), {"variables": ()}, "uses {{question}}, which is not declared"),
        (
            (CHAT,),
            {"variables": (QUESTION, PromptVariable(name="tone", max_tokens=5))},
            "variant 'chat' does not use the declared variable 'tone'",
        ),
        ((CHAT,), {"max_prompt_tokens": 1500}, "has at least 1600 tokens when filled"),
        ((TEXT,), {"max_prompt_tokens": 400_000}, "the model of variant 'text' takes 300000 tokens"),
        ((CHAT,), {"max_prompt_tokens": 1500.5}, "max_prompt_tokens must be a whole number"),
        (
            (other(system=("short", CACHE_POINT)),),
            {},
            "tokens before it, and its model caches from 1024 tokens on",
        ),
        (
            (other(messages=(Message(role="user", content=("{{question}}", CACHE_POINT)),)),),
            {},
            "has the variable {{question}} before it",
        ),
        (
            (other(model="us.meta.llama3-3-70b-instruct-v1:0", system=(MANUAL, CACHE_POINT)),),
            {},
            "no cache of its model is known here",
        ),
        ((other(model="us.anthropic.claude-sonet-5"),), {}, "nearest known: us.anthropic.claude-sonnet-5"),
        ((other(model="eu.anthropic.claude-sonnet-5"),), {}, "cannot be called from us-east-1"),
    ],
)
def test_fails_for_a_prompt_that_cannot_work(
    stack: cdk.Stack, variants: tuple[PromptVariant, ...], changes: dict[str, Any], sentence: str
) -> None:
    """Each with the value and the way out, and before anything is made."""
    given = {"variants": variants, "variables": (QUESTION,), "max_prompt_tokens": 4000, **changes}
    with pytest.raises(TokenmillError) as raised:
        ManagedPrompt(stack, "Prompt", **given)
    assert sentence in str(raised.value)
    assert stack.node.try_find_child("Prompt") is None


def test_a_cache_that_the_library_does_not_know_can_be_given(stack: cdk.Stack) -> None:
    """From the model's card."""
    rule = CacheRule(minimum_tokens=1000, maximum_points=1, fields=("system",))
    variant = other(model="us.meta.llama3-3-70b-instruct-v1:0", system=(MANUAL, CACHE_POINT), cache=rule)
    assert a_prompt(stack, variant).cache_alarm is not None


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: other(name="two words"), "variant is 'two words'"),
        (lambda: other(messages=()), "variant 'a' has neither template nor messages"),
        (lambda: other(template="x"), "variant 'a' has both template and messages"),
        (lambda: other(messages=(), template="x", system=("y",)), "variant 'a' has system with template"),
        (
            lambda: other(messages=(Message(role="assistant", content=("x",)),)),
            "variant 'a' has messages of assistant; the first is the user's",
        ),
        (lambda: other(messages=(ASK, ASK)), "variant 'a' has messages of user, user"),
        (lambda: other(messages=(), template="x" * 200_001), "a text of 200001 characters"),
        (lambda: other(system=("",)), "system must be a text that is not empty"),
        (lambda: other(system=5), "system is 5; give a text or a tuple"),
        (lambda: Message(role="user", content=(CACHE_POINT,)), "the user message has no text"),
        (lambda: Message(role="tool", content=("x",)), "role is 'tool'"),
        (lambda: AnswerSettings(max_tokens=0), "max_tokens is 0; it must be from 1 to 512000"),
        (lambda: AnswerSettings(temperature=1.5), "temperature is 1.5; it must be from 0 to 1"),
        (lambda: AnswerSettings(top_p=-0.1), "top_p is -0.1"),
        (lambda: AnswerSettings(stop_sequences=tuple("abcde")), "stop_sequences has 5 texts"),
        (lambda: CountedText(text="x", tokens=0), "tokens is 0; it must be 1 or more"),
        (lambda: CacheAlarm(calls=0), "calls is 0; it must be 1 or more"),
        (lambda: other(messages=(), template=cdk.Fn.ref("P")), "is a value that only the deployment knows"),
    ],
)
def test_fails_for_a_part_that_is_none(make: Any, sentence: str) -> None:
    """A value that no prompt can have is refused where it is written."""
    with pytest.raises(TokenmillError) as raised:
        make()
    assert sentence in str(raised.value)
