"""The front door: what API Gateway, the function and the authorizer are told."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_s3 as s3

from support_stack import REGION, WORK, make_app, of_type, only, plan, statements, template_of
from tokenmill.core.errors import TokenmillError
from tokenmill.core.workload import Capacity
from tokenmill.endpoints import LlmEndpoint, Serving
from tokenmill.gateway import ApiKeyTable, ChatGateway, GatewayLimits, ServedModel, TokenLimits
from tokenmill.gateway.chat_gateway import KEY_PATTERN
from tokenmill.gateway.layer import check_vendored
from tokenmill.security import FunctionHosting
from tokenmill_runtime.api_keys import new_key
from tokenmill_runtime.gateway_config import GatewayConfig

if TYPE_CHECKING:
    from pathlib import Path

LIMITS = TokenLimits(context_tokens=8192, max_output_tokens=1024)
NOVA = ServedModel.on_bedrock("amazon.nova-lite-v1:0", name="nova", limits=LIMITS, token_work=WORK)
METHOD = "AWS::ApiGateway::Method"


def gateway(stack: cdk.Stack, *models: ServedModel, **options: Any) -> ChatGateway:
    keys = ApiKeyTable(stack, "Keys")
    return ChatGateway(stack, "Gateway", models=models or (NOVA,), api_keys=keys, **options)


def functions(template: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = of_type(template, "AWS::Lambda::Function").values()
    return {item["Properties"]["Handler"]: item["Properties"] for item in found}


def rendered(value: Any) -> str:
    """Put a text for every reference of a joined string, as CloudFormation would."""
    if isinstance(value, str):
        return value
    return "".join(part if isinstance(part, str) else "resolved" for part in value["Fn::Join"][1])


def test_answers_are_streamed_for_as_long_as_lambda_runs(prod: dict[str, Any]) -> None:
    """STREAM needs Lambda's streaming invocation path; fifteen minutes is the longest of both services."""
    integration = only(prod, METHOD)["Properties"]["Integration"]
    assert integration["ResponseTransferMode"] == "STREAM"
    assert integration["TimeoutInMillis"] == 900_000
    parts = integration["Uri"]["Fn::Join"][1]
    assert parts[0].endswith("lambda:path/2021-11-15/functions/")
    assert parts[-1] == "/response-streaming-invocations"


def test_every_route_needs_a_key(prod: dict[str, Any]) -> None:
    """One proxy resource, one method, one authorizer, which remembers a key for a minute."""
    method = only(prod, METHOD)["Properties"]
    assert (method["HttpMethod"], method["AuthorizationType"]) == ("ANY", "CUSTOM")
    assert only(prod, "AWS::ApiGateway::Resource")["Properties"]["PathPart"] == "{proxy+}"
    authorizer = only(prod, "AWS::ApiGateway::Authorizer")["Properties"]
    assert authorizer["Type"] == "TOKEN"
    assert authorizer["IdentitySource"] == "method.request.header.Authorization"
    assert authorizer["AuthorizerResultTtlInSeconds"] == 60
    assert authorizer["IdentityValidationExpression"] == KEY_PATTERN


def test_the_base_url_ends_in_v1_and_reaches_the_function_as_v1(prod: dict[str, Any]) -> None:
    """The stage is no part of the path that the function sees, so /v1 is in the resource."""
    parts = prod["Outputs"]["BaseUrl"]["Value"]["Fn::Join"][1]
    assert parts[-1] == "/v1"
    assert only(prod, "AWS::ApiGateway::Stage")["Properties"]["StageName"] == "api"


def test_the_pattern_lets_real_keys_through_and_nothing_else() -> None:
    """API Gateway turns others away without asking the authorizer."""
    key, _ = new_key()
    assert re.fullmatch(KEY_PATTERN, f"Bearer {key}")
    for wrong in (key, f"Basic {key}", f"Bearer {key}x", f"Bearer {key[:-1]}", "Bearer sk-1"):
        assert not re.fullmatch(KEY_PATTERN, wrong)


def test_the_function_starts_through_the_streaming_bootstrap(prod: dict[str, Any]) -> None:
    """python3.13 on arm64 with the wrapper script and the library layer."""
    function = functions(prod)["tokenmill_runtime.gateway.app:application"]
    assert (function["Runtime"], function["Architectures"]) == ("python3.13", ["arm64"])
    variables = function["Environment"]["Variables"]
    assert variables["AWS_LAMBDA_EXEC_WRAPPER"] == "/var/task/tokenmill_runtime/streaming/run.sh"
    assert len(function["Layers"]) == 1
    assert function["Timeout"] == 900


def test_the_function_reads_the_document_that_the_construct_renders(prod: dict[str, Any]) -> None:
    """One dataclass on both sides, so names cannot drift apart."""
    function = functions(prod)["tokenmill_runtime.gateway.app:application"]
    text = rendered(function["Environment"]["Variables"]["TOKENMILL_GATEWAY"])
    config = GatewayConfig.from_environment({"TOKENMILL_GATEWAY": text})
    (model,) = config.models
    assert (model.name, model.backend, model.context_tokens) == ("Qwen/Qwen3-8B", "sagemaker", 8192)
    name = only(prod, "AWS::SageMaker::InferenceComponent")["Properties"]["InferenceComponentName"]
    assert (model.target, model.endpoint, model.component) == (name, "resolved", "resolved")
    assert model.token_work == WORK
    assert (config.plan_hash, config.conversation_table) == (plan().hash, "resolved")


def test_the_function_may_call_its_model_and_keep_turns(prod: dict[str, Any]) -> None:
    """No wildcard but X-Ray's."""
    by_action = {
        action: found["Resource"]
        for found in statements(prod, "GatewayFunctionRole")
        for action in ([found["Action"]] if isinstance(found["Action"], str) else found["Action"])
    }
    assert set(by_action) == {
        "dynamodb:GetItem",
        "dynamodb:PutItem",
        "dynamodb:Query",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
        "sagemaker:InvokeEndpoint",
        "sagemaker:InvokeEndpointWithResponseStream",
        "xray:PutTelemetryRecords",
        "xray:PutTraceSegments",
    }
    open_to_all = {action for action, resource in by_action.items() if "*" in json.dumps(resource)}
    assert open_to_all == {"xray:PutTelemetryRecords", "xray:PutTraceSegments"}


def test_the_authorizer_may_look_one_key_up(prod: dict[str, Any]) -> None:
    """It cannot list, scan or change keys."""
    allowed = [found["Action"] for found in statements(prod, "GatewayAuthorizerRole")]
    assert "dynamodb:GetItem" in allowed
    assert "Scan" not in str(allowed)


def test_api_gateway_answers_in_openai_error_objects(prod: dict[str, Any]) -> None:
    """An OpenAI client shows message and code, whoever answered."""
    answers = {}
    for item in of_type(prod, "AWS::ApiGateway::GatewayResponse").values():
        body = item["Properties"]["ResponseTemplates"]["application/json"]
        error = json.loads(body.replace("$context.error.messageString", '"text of API Gateway"'))["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"]
        answers[item["Properties"]["ResponseType"]] = (item["Properties"].get("StatusCode"), error["code"])
    assert answers == {
        "UNAUTHORIZED": ("401", "invalid_api_key"),
        "ACCESS_DENIED": ("403", "access_denied"),
        "INVALID_API_KEY": ("401", "invalid_api_key"),
        "THROTTLED": ("429", "rate_limit_exceeded"),
        "REQUEST_TOO_LARGE": ("413", "request_too_large"),
        "INTEGRATION_TIMEOUT": ("504", "timeout"),
        "INTEGRATION_FAILURE": ("502", "bad_gateway"),
        "DEFAULT_4XX": (None, None),
        "DEFAULT_5XX": (None, None),
    }


def test_the_stage_logs_traces_and_throttles(prod: dict[str, Any]) -> None:
    """Access logs, X-Ray, and fifty requests a second."""
    stage = only(prod, "AWS::ApiGateway::Stage")["Properties"]
    assert stage["TracingEnabled"] is True
    assert "DestinationArn" in stage["AccessLogSetting"]
    (methods,) = stage["MethodSettings"]
    assert (methods["ThrottlingRateLimit"], methods["ThrottlingBurstLimit"]) == (50, 100)
    assert (methods["LoggingLevel"], methods["DataTraceEnabled"]) == ("ERROR", False)


def test_the_api_is_regional(prod: dict[str, Any]) -> None:
    """A stream through an edge-optimised API ends after thirty idle seconds."""
    api = only(prod, "AWS::ApiGateway::RestApi")["Properties"]
    assert api["EndpointConfiguration"] == {"Types": ["REGIONAL"]}


def test_a_private_gateway_is_reached_through_one_vpc_endpoint(stack: cdk.Stack) -> None:
    """The resource policy denies whatever comes another way."""
    door = ec2.InterfaceVpcEndpoint.from_interface_vpc_endpoint_attributes(
        stack, "Door", vpc_endpoint_id="vpce-1", port=443
    )
    gateway(stack, private_endpoint=door)
    api = only(template_of(stack), "AWS::ApiGateway::RestApi")["Properties"]
    assert api["EndpointConfiguration"] == {"Types": ["PRIVATE"], "VpcEndpointIds": ["vpce-1"]}
    denied = [found for found in api["Policy"]["Statement"] if found["Effect"] == "Deny"]
    assert [found["Condition"] for found in denied] == [{"StringNotEquals": {"aws:SourceVpce": "vpce-1"}}]


def test_there_is_no_function_url_unless_asked_and_never_an_open_one(
    prod: dict[str, Any], stack: cdk.Stack
) -> None:
    """It takes AWS credentials."""
    assert of_type(prod, "AWS::Lambda::Url") == {}
    gateway(stack).add_function_url()
    url = only(template_of(stack), "AWS::Lambda::Url")["Properties"]
    assert (url["AuthType"], url["InvokeMode"]) == ("AWS_IAM", "RESPONSE_STREAM")


def test_a_gateway_can_be_granted_things(stack: cdk.Stack) -> None:
    """Its function's role is the principal."""
    s3.Bucket(stack, "Bucket").grant_read(gateway(stack))
    granted = [found["Action"] for found in statements(template_of(stack), "GatewayFunctionRole")]
    assert any("s3:GetObject*" in found for found in granted)


def test_limits_reach_the_stage_and_the_function(stack: cdk.Stack) -> None:
    """Rates are API Gateway's, the body's length is the function's."""
    gateway(stack, limits=GatewayLimits(requests_per_second=5, burst=7, max_body_bytes=2048))
    template = template_of(stack)
    (methods,) = only(template, "AWS::ApiGateway::Stage")["Properties"]["MethodSettings"]
    assert (methods["ThrottlingRateLimit"], methods["ThrottlingBurstLimit"]) == (5, 7)
    variables = functions(template)["tokenmill_runtime.gateway.app:application"]["Environment"]["Variables"]
    assert json.loads(rendered(variables["TOKENMILL_GATEWAY"]))["max_body_bytes"] == 2048


def test_bedrock_is_called_by_converse_s_actions_on_one_model(stack: cdk.Stack) -> None:
    """There is no action called Converse."""
    gateway(stack)
    (granted,) = [
        found
        for found in statements(template_of(stack), "GatewayFunctionRole")
        if "bedrock" in json.dumps(found["Action"])
    ]
    assert granted["Action"] == ["bedrock:InvokeModel", "bedrock:InvokeModelWithResponseStream"]
    assert rendered(granted["Resource"]).endswith("::foundation-model/amazon.nova-lite-v1:0")


def test_a_cross_region_profile_is_granted_in_the_regions_behind_it(stack: cdk.Stack) -> None:
    """A profile's call is checked against itself and its model there; no region is left open."""
    gateway(
        stack, ServedModel.on_bedrock("us.amazon.nova-lite-v1:0", name="n", limits=LIMITS, token_work=WORK)
    )
    granted = [
        rendered(resource)
        for found in statements(template_of(stack), "GatewayFunctionRole")
        if "bedrock" in json.dumps(found["Action"])
        for resource in (found["Resource"] if isinstance(found["Resource"], list) else [found["Resource"]])
    ]
    assert any(arn.endswith(":inference-profile/us.amazon.nova-lite-v1:0") for arn in granted)
    models = [arn for arn in granted if arn.endswith("::foundation-model/amazon.nova-lite-v1:0")]
    assert any(":us-west-2::" in arn for arn in models)
    assert not any("*" in arn for arn in granted)


def test_what_only_an_arn_is_known_of_is_granted_alone(stack: cdk.Stack) -> None:
    """Units of another stack have no model behind them to grant."""
    arn = "arn:aws:bedrock:us-east-1:111122223333:provisioned-model/x"
    gateway(stack, ServedModel.on_bedrock(arn, name="n", limits=LIMITS, token_work=WORK))
    granted = [
        found["Resource"]
        for found in statements(template_of(stack), "GatewayFunctionRole")
        if "bedrock" in json.dumps(found["Action"])
    ]
    assert granted == [arn]


def test_fails_for_a_model_that_bedrock_has_not(tmp_path: Path) -> None:
    """Near names are told, and no half gateway is left in the tree."""
    stack = cdk.Stack(make_app(tmp_path), "test", env=cdk.Environment(region=REGION))
    unknown = ServedModel.on_bedrock("amazon.nova-light-v1:0", name="n", limits=LIMITS, token_work=WORK)
    keys = ApiKeyTable(stack, "Keys")
    with pytest.raises(TokenmillError, match=r"amazon.nova-lite-v1:0"):
        ChatGateway(stack, "Gateway", models=[unknown], api_keys=keys)
    assert [child.node.id for child in stack.node.children] == ["Keys"]


def test_a_model_on_a_single_variant_has_no_component(stack: cdk.Stack) -> None:
    """The function calls the endpoint alone, and is granted no more."""
    from tokenmill.endpoints import VariantEndpoint

    capacity = Capacity(minimum=2, maximum=4, initial=2)
    endpoint = VariantEndpoint(stack, "Llm", serving=Serving.from_plan(plan()), capacity=capacity)
    model = ServedModel.from_plan(endpoint, plan())
    assert model.to_gateway_model().component is None
    assert model.heartbeat_target.variant_of == endpoint.endpoint_name
    gateway(stack, model)


def test_fails_for_a_model_on_an_asynchronous_endpoint(stack: cdk.Stack) -> None:
    """It answers into a bucket, where no caller waits."""
    from tokenmill.endpoints import AsyncEndpoint

    capacity = Capacity(minimum=1, maximum=2, initial=1)
    endpoint = AsyncEndpoint(stack, "Llm", serving=Serving.from_plan(plan()), capacity=capacity)
    with pytest.raises(ValueError, match="is on an asynchronous endpoint, which answers into a bucket"):
        ServedModel.from_plan(endpoint, plan())


def test_two_models_share_one_door(stack: cdk.Stack) -> None:
    """SageMaker and Bedrock in one document."""
    endpoint = LlmEndpoint.from_component_name(stack, "Llm", endpoint_name="chat", component_name="chat-1")
    gateway(stack, NOVA, ServedModel.from_plan(endpoint, plan()))
    variables = functions(template_of(stack))["tokenmill_runtime.gateway.app:application"]["Environment"]
    config = GatewayConfig.from_environment(
        {"TOKENMILL_GATEWAY": rendered(variables["Variables"]["TOKENMILL_GATEWAY"])}
    )
    assert [(model.backend, model.target) for model in config.models] == [
        ("bedrock", "amazon.nova-lite-v1:0"),
        ("sagemaker", "chat-1"),
    ]
    assert config.conversation_table is None


def test_a_layer_of_one_s_own_replaces_the_vendored_one(stack: cdk.Stack) -> None:
    """Nothing of ours is then uploaded as a layer."""
    arn = "arn:aws:lambda:us-east-1:123456789012:layer:mine:1"
    gateway(stack, runtime_dependencies=lambda_.LayerVersion.from_layer_version_arn(stack, "Mine", arn))
    template = template_of(stack)
    assert of_type(template, "AWS::Lambda::LayerVersion") == {}
    assert functions(template)["tokenmill_runtime.gateway.app:application"]["Layers"] == [arn]


def test_limits_leave_room_above_the_planned_rate() -> None:
    """A quiet plan keeps the defaults; a busy one is not throttled at what it was planned for."""
    assert GatewayLimits.for_rate(2) == GatewayLimits()
    assert GatewayLimits.for_rate(300.5) == GatewayLimits(requests_per_second=601, burst=1202)


def test_the_authorizer_reserves_less_than_the_function(stack: cdk.Stack) -> None:
    """It is asked once a minute a key and answers at once, where an answer takes seconds."""
    gateway(stack, hosting=FunctionHosting(reserved_concurrency=200))
    made = functions(template_of(stack))
    assert made["tokenmill_runtime.gateway.app:application"]["ReservedConcurrentExecutions"] == 200
    assert made["tokenmill_runtime.authorizer.handler"]["ReservedConcurrentExecutions"] == 20


def test_fails_without_the_vendored_libraries(tmp_path: Path) -> None:
    """The message names the command and the other way out."""
    with pytest.raises(TokenmillError) as caught:
        check_vendored(tmp_path)
    assert str(caught.value) == (
        f"the gateway's libraries are not in {tmp_path}; run `make setup`, or give runtime_dependencies= a "
        "layer with starlette and anyio"
    )


def test_fails_without_a_model(tmp_path: Path) -> None:
    """A gateway for nothing is a mistake, and leaves no half tree."""
    stack = cdk.Stack(make_app(tmp_path), "test", env=cdk.Environment(region=REGION))
    keys = ApiKeyTable(stack, "Keys")
    with pytest.raises(ValueError, match="models is empty; give the models that callers may name"):
        ChatGateway(stack, "Gateway", models=[], api_keys=keys)
    assert [child.node.id for child in stack.node.children] == ["Keys"]


def test_fails_when_two_models_have_one_name(stack: cdk.Stack) -> None:
    """A caller could not say which one."""
    with pytest.raises(ValueError, match="models has 'nova' more than once; give each its own name"):
        gateway(stack, NOVA, NOVA)


def test_fails_for_a_model_on_nothing_or_on_both() -> None:
    """A model is served in one place."""
    with pytest.raises(ValueError, match="'nova' must have an endpoint or a Bedrock model, and not both"):
        ServedModel(name="nova", limits=LIMITS, token_work=WORK)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (
            {"requests_per_second": 0},
            "requests_per_second is 0 and burst 100; both must be 1 or more",
        ),
        (
            {"max_body_bytes": 20_000_000},
            "max_body_bytes is 20000000; it must be 1 to 10485760 (10 MiB)",
        ),
    ],
)
def test_fails_for_limits_that_api_gateway_does_not_have(limits: dict[str, Any], message: str) -> None:
    """Its payload limit is 10 MiB."""
    with pytest.raises(ValueError) as caught:
        GatewayLimits(**limits)
    assert str(caught.value) == message


def test_fails_when_an_answer_is_longer_than_the_context() -> None:
    """Both numbers are in the message."""
    with pytest.raises(
        ValueError, match="max_output_tokens is 9000 and context_tokens 8192; they must satisfy"
    ):
        TokenLimits(context_tokens=8192, max_output_tokens=9000)
