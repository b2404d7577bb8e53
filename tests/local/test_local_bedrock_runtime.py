"""Bedrock's runtime in a running cloud: who answers a model id, what is counted, what is throttled."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from support_local import ACCOUNT, REGION, client

if TYPE_CHECKING:
    from tokenmill.local.cloud_process import CloudProcess

LITE, PRO = "amazon.nova-lite-v1:0", "amazon.nova-pro-v1:0"
UNITS_MODEL = "amazon.nova-lite-v1:0:300k"
SHORT = {"inferenceConfig": {"maxTokens": 4}}


def arn_of(model: str) -> str:
    return f"arn:aws:bedrock:{REGION}::foundation-model/{model}"


def said(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"text": text}]}]


def until(condition: Any, seconds: float = 20.0) -> Any:
    """Ask again until there is an answer."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("it did not come true")


def refused(call: Any, **params: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**params)
    return caught.value.response["Error"]["Code"], caught.value.response["Error"]["Message"]


def faults(cloud: CloudProcess, **members: Any) -> None:
    cloud.admin("faults", {"account": ACCOUNT, "region": REGION, **members})


@pytest.fixture
def runtime(cloud: CloudProcess) -> Any:
    return client(cloud.endpoint, "bedrock-runtime")


@pytest.fixture
def control(cloud: CloudProcess) -> Any:
    return client(cloud.endpoint, "bedrock")


def test_a_model_answers_and_is_counted_as_count_tokens_says(runtime: Any) -> None:
    """usage.inputTokens of a call without a cache is what CountTokens says of the same request."""
    request = {"messages": said("Hello there"), "system": [{"text": "Be brief."}]}
    answer = runtime.converse(modelId=LITE, **request, **SHORT)
    counted = runtime.count_tokens(modelId=LITE, input={"converse": request})
    assert answer["usage"]["inputTokens"] == counted["inputTokens"] > 0
    assert answer["usage"]["outputTokens"] == 4
    assert answer["stopReason"] == "max_tokens"


def test_profiles_answer_under_ids_and_arns(runtime: Any, control: Any) -> None:
    """An application profile of a cross-region profile answers as the model behind it, and is deleted."""
    source = f"arn:aws:bedrock:{REGION}:{ACCOUNT}:inference-profile/us.{LITE}"
    made = control.create_inference_profile(
        inferenceProfileName="search", modelSource={"copyFrom": source}, tags=[{"key": "team", "value": "a"}]
    )
    arn = made["inferenceProfileArn"]
    described = control.get_inference_profile(inferenceProfileIdentifier=arn)
    assert {model["modelArn"].split("/")[-1] for model in described["models"]} == {LITE}
    assert len(described["models"]) > 1
    assert control.list_tags_for_resource(resourceARN=arn)["tags"] == [{"key": "team", "value": "a"}]
    for model_id in (arn, described["inferenceProfileId"], f"us.{LITE}"):
        answer = runtime.converse(modelId=model_id, messages=said("Hi"), inferenceConfig={"maxTokens": 60})
        assert LITE in answer["output"]["message"]["content"][0]["text"]
    control.delete_inference_profile(inferenceProfileIdentifier=arn)
    assert refused(runtime.converse, modelId=arn, messages=said("Hi"))[0] == "ValidationException"


def test_a_profile_of_another_geography_is_refused(control: Any, runtime: Any) -> None:
    """A profile that cannot be called from the region does not answer."""
    code, _ = refused(runtime.converse, modelId=f"eu.{LITE}", messages=said("Hi"))
    assert code == "ValidationException"


@pytest.mark.parametrize("fallback", [PRO, LITE])
def test_a_router_chooses_by_its_criteria_and_says_whom(runtime: Any, control: Any, fallback: str) -> None:
    """A short prompt goes to the cheap model, a long one to the dear one, whichever is the fallback."""
    router = control.create_prompt_router(
        promptRouterName="two models",
        models=[{"modelArn": arn_of(PRO)}, {"modelArn": arn_of(LITE)}],
        routingCriteria={"responseQualityDifference": 10},
        fallbackModel={"modelArn": arn_of(fallback)},
    )["promptRouterArn"]
    assert control.get_prompt_router(promptRouterArn=router)["type"] == "custom"
    short = runtime.converse(modelId=router, messages=said("Hi"), **SHORT)
    assert short["trace"]["promptRouter"]["invokedModelId"] == arn_of(LITE)
    long = runtime.converse(modelId=router, messages=said("word " * 400), **SHORT)
    assert long["trace"]["promptRouter"]["invokedModelId"] == arn_of(PRO)
    control.delete_prompt_router(promptRouterArn=router)
    assert control.list_prompt_routers()["promptRouterSummaries"] == []


def test_a_prompts_variables_and_cache_points_reach_the_model(cloud: CloudProcess, runtime: Any) -> None:
    """A call to a prompt's version renders it; a missing variable and a second system are refused."""
    agent = client(cloud.endpoint, "bedrock-agent")
    static = "You answer questions about shipping. " * 250
    variant = {
        "name": "main",
        "templateType": "CHAT",
        "modelId": LITE,
        "templateConfiguration": {
            "chat": {
                "system": [{"text": static}, {"cachePoint": {"type": "default"}}],
                "messages": [{"role": "user", "content": [{"text": "Where is {{parcel}}?"}]}],
                "inputVariables": [{"name": "parcel"}],
            }
        },
        "inferenceConfiguration": {"text": {"maxTokens": 40}},
    }
    made = agent.create_prompt(name="shipping", variants=[variant], defaultVariant="main", tags={"a": "b"})
    version = agent.create_prompt_version(promptIdentifier=made["id"])
    assert version["arn"] == f"{made['arn']}:1"
    assert agent.list_tags_for_resource(resourceArn=made["arn"])["tags"] == {"a": "b"}
    variables = {"parcel": {"text": "number 17"}}
    first = runtime.converse(modelId=version["arn"], promptVariables=variables)
    assert "Where is number 17?" in first["output"]["message"]["content"][0]["text"]
    assert first["usage"]["cacheWriteInputTokens"] > 1000
    again = runtime.converse(modelId=version["arn"], promptVariables={"parcel": {"text": "number 18"}})
    assert again["usage"]["cacheReadInputTokens"] == first["usage"]["cacheWriteInputTokens"]
    assert again["usage"]["cacheWriteInputTokens"] == 0
    code, message = refused(runtime.converse, modelId=version["arn"], promptVariables={})
    assert (code, "parcel" in message) == ("ValidationException", True)
    code, message = refused(
        runtime.converse, modelId=version["arn"], promptVariables=variables, system=[{"text": "no"}]
    )
    assert (code, "system" in message) == ("ValidationException", True)
    agent.delete_prompt(promptIdentifier=made["id"])
    assert refused(agent.get_prompt, promptIdentifier=made["id"])[0] == "ResourceNotFoundException"


def test_units_answer_until_their_tokens_are_used_up(cloud: CloudProcess, runtime: Any, control: Any) -> None:
    """A purchase is watched until it serves; its ARN answers, and throttles above its units' tokens."""
    bought = control.create_provisioned_model_throughput(
        modelUnits=1, provisionedModelName="watched", modelId=UNITS_MODEL
    )["provisionedModelArn"]
    assert (
        refused(runtime.converse, modelId=bought, messages=said("Hi"), **SHORT)[0] == "ModelNotReadyException"
    )
    get = control.get_provisioned_model_throughput
    until(lambda: get(provisionedModelId=bought)["status"] == "InService")
    faults(cloud, bedrock_capacity={"unit": {UNITS_MODEL: 100, LITE: 100}})
    answers, throttled = 0, None
    while throttled is None and answers < 40:
        try:
            runtime.converse(modelId=bought, messages=said("one two three four"), **SHORT)
            answers += 1
        except ClientError as error:
            throttled = error.response["Error"]
    assert answers >= 5
    assert throttled is not None
    assert throttled["Code"] == "ThrottlingException"
    assert throttled["Message"] == "Too many tokens, please wait before trying again."
    assert runtime.converse(modelId=LITE, messages=said("overflow"), **SHORT)["usage"]["outputTokens"] == 4
    faults(cloud, bedrock_capacity={"unit": {UNITS_MODEL: None, LITE: None}})
    control.delete_provisioned_model_throughput(provisionedModelId=bought)
    assert refused(runtime.converse, modelId=bought, messages=said("Hi"))[0] == "ResourceNotFoundException"


def test_what_a_call_may_use_is_reserved_on_demand(cloud: CloudProcess, runtime: Any) -> None:
    """A large maxTokens alone uses up the quota while the call runs, and is given back at its end."""
    model = "amazon.nova-micro-v1:0"
    faults(cloud, bedrock_capacity={"on_demand": {model: 1000}})
    for _ in range(3):
        runtime.converse(modelId=model, messages=said("Hi"), inferenceConfig={"maxTokens": 800})
    stream = runtime.converse_stream(modelId=model, messages=said("Hi"), inferenceConfig={"maxTokens": 800})
    code, _ = refused(
        runtime.converse, modelId=model, messages=said("Hi"), inferenceConfig={"maxTokens": 800}
    )
    assert code == "ThrottlingException"
    list(stream["stream"])
    faults(cloud, bedrock_capacity={"on_demand": {model: None}})


def test_calls_are_metrics_of_their_model(cloud: CloudProcess, runtime: Any) -> None:
    """Invocations, tokens and the time to the first token stand under the id that was called."""
    model = "meta.llama3-8b-instruct-v1:0"
    answer = runtime.converse(modelId=model, messages=said("Hello"), **SHORT)
    list(runtime.converse_stream(modelId=model, messages=said("Hello"), **SHORT)["stream"])
    watch = client(cloud.endpoint, "cloudwatch")

    def total(name: str) -> float:
        now = time.time()
        points = watch.get_metric_statistics(
            Namespace="AWS/Bedrock",
            MetricName=name,
            Dimensions=[{"Name": "ModelId", "Value": model}],
            StartTime=now - 300,
            EndTime=now + 60,
            Period=3600,
            Statistics=["Sum"],
        )["Datapoints"]
        return sum(point["Sum"] for point in points)

    assert total("Invocations") == 2
    assert total("InputTokenCount") == 2 * answer["usage"]["inputTokens"]
    assert total("OutputTokenCount") == 8
    assert total("EstimatedTPMQuotaUsage") == 2 * answer["usage"]["inputTokens"] + 8
    assert total("TimeToFirstToken") > 0


@pytest.mark.parametrize(
    ("model", "body", "text"),
    [
        (
            "anthropic.claude-3-haiku-20240307-v1:0",
            {
                "anthropic_version": "bedrock-2023-05-31",
                "max_tokens": 30,
                "messages": [{"role": "user", "content": "Hello"}],
            },
            lambda answer: answer["content"][0]["text"],
        ),
        (
            LITE,
            {"messages": said("Hello"), "inferenceConfig": {"maxTokens": 30}},
            lambda answer: answer["output"]["message"]["content"][0]["text"],
        ),
        (
            "meta.llama3-8b-instruct-v1:0",
            {"prompt": "Hello", "max_gen_len": 30},
            lambda answer: answer["generation"],
        ),
    ],
)
def test_invoke_model_takes_the_providers_own_bodies(runtime: Any, model: str, body: Any, text: Any) -> None:
    """Claude, Nova and Llama are asked and answer in their own forms."""
    answer = runtime.invoke_model(modelId=model, body=json.dumps(body))
    assert 'You asked "Hello"' in text(json.loads(answer["body"].read()))


def test_bodies_that_are_not_the_models_are_refused(runtime: Any) -> None:
    """A missing key is named; a provider without known bodies is refused with the way out."""
    code, message = refused(
        runtime.invoke_model, modelId="anthropic.claude-3-haiku-20240307-v1:0", body=b"{}"
    )
    assert (code, "max_tokens" in message) == ("ValidationException", True)
    code, message = refused(runtime.invoke_model, modelId="cohere.command-r-v1:0", body=b"{}")
    assert "use Converse" in message
    code, message = refused(
        runtime.converse,
        modelId=f"arn:aws:bedrock:{REGION}:{ACCOUNT}:custom-model/amazon.nova-lite-v1/abcdefghijkl",
        messages=said("Hi"),
    )
    assert "on-demand throughput isn't supported" in message


def test_half_a_surrogate_pair_is_text(runtime: Any) -> None:
    """A text that was cut between its UTF-16 units is answered, at once, as a stream and natively."""
    asked = {"messages": said("cut \ud83d"), "inferenceConfig": {"maxTokens": 200}}
    answer = runtime.converse(modelId=LITE, **asked)
    assert "\ud83d" in answer["output"]["message"]["content"][0]["text"]
    events = list(runtime.converse_stream(modelId=LITE, **asked)["stream"])
    deltas = [event["contentBlockDelta"]["delta"]["text"] for event in events if "contentBlockDelta" in event]
    assert "\ud83d" in "".join(deltas)
    native = runtime.invoke_model(modelId=LITE, body=json.dumps({"messages": said("cut \ud83d")}))
    assert "\ud83d" in json.loads(native["body"].read())["output"]["message"]["content"][0]["text"]
