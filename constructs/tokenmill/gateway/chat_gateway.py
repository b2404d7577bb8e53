"""The OpenAI-compatible front door: REST API with response streaming, bearer keys, one function."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import aws_cdk as cdk
import jsii
from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from tokenmill.gateway.layer import check_vendored, vendored_layer
from tokenmill.gateway.responses import add_gateway_responses
from tokenmill.security import FunctionEntry, FunctionHosting, LambdaFunction
from tokenmill.security.acknowledge import acknowledge, managed_policy
from tokenmill.security.logs import log_group
from tokenmill_runtime.api_keys import KEY_TABLE_VARIABLE
from tokenmill_runtime.functions import AUTHORIZER, GATEWAY
from tokenmill_runtime.gateway_config import GATEWAY_VARIABLE, GatewayConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aws_cdk import aws_ec2 as ec2

    from tokenmill.gateway.models import ServedModel
    from tokenmill.gateway.tables import ApiKeyTable, ConversationTable

# "Stream the integration response for your proxy integrations in API Gateway": 15 minutes at most, and a
# regional stream may be idle for 5 minutes where an edge-optimised one ends after 30 seconds.
STREAM_MINUTES = 15
STAGE = "api"
DEFAULT_RATE = 50
# An authorizer answers at once and is asked once a minute a key; the gateway is held for a whole answer.
AUTHORIZER_SHARE = 10
KEY_PATTERN = "^[Bb]earer tm-[0-9a-f]{12}-[A-Za-z0-9_-]{43}$"

GATEWAY_ENTRY = FunctionEntry(
    runs=GATEWAY,
    description="Answers OpenAI chat requests, streamed",
    timeout_seconds=STREAM_MINUTES * 60,
    memory_mb=512,
)
AUTHORIZER_ENTRY = FunctionEntry(
    runs=AUTHORIZER,
    description="Lets requests with a valid bearer key through",
    timeout_seconds=10,
    memory_mb=256,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayLimits:
    """How much a gateway takes from its callers.

    Args:
        requests_per_second: Sustained rate over all callers, in requests a second.
        burst: Requests that may come at once above that rate.
        max_body_bytes: Longest request body, in bytes.

    Raises:
        ValueError: If a limit is below 1 or a body is longer than API Gateway takes (10 MiB).
    """

    requests_per_second: float = DEFAULT_RATE
    burst: int = 2 * DEFAULT_RATE
    max_body_bytes: int = 1_048_576

    def __post_init__(self) -> None:
        if self.requests_per_second < 1 or self.burst < 1:
            raise ValueError(
                f"requests_per_second is {self.requests_per_second} and burst {self.burst}; both must "
                "be 1 or more"
            )
        if not 1 <= self.max_body_bytes <= 10 * 1_048_576:
            raise ValueError(f"max_body_bytes is {self.max_body_bytes}; it must be 1 to 10485760 (10 MiB)")

    @classmethod
    def for_rate(cls, requests_per_second: float) -> Self:
        """Return limits that let twice a planned rate in, and never less than the defaults.

        Args:
            requests_per_second: The planned rate of the peak hour, in requests a second.
        """
        rate = max(DEFAULT_RATE, math.ceil(2 * requests_per_second))
        return cls(requests_per_second=rate, burst=2 * rate)


@jsii.implements(iam.IGrantable)
class ChatGateway(Construct):
    """An OpenAI-compatible chat API in front of models on SageMaker and Bedrock.

    Every route needs a bearer key. The base URL for OpenAI clients is `base_url`, which ends in /v1: the
    stage is called "api" and the API has one proxy resource, so /api/v1/chat/completions reaches the function
    as /v1/chat/completions.

    Args:
        scope: The parent construct.
        id: The construct's id.
        models: What callers may name.
        api_keys: The table of key hashes.
        conversations: Where turns are kept; nothing is kept otherwise.
        limits: How much the gateway takes.
        hosting: Network, keys, retention, concurrency.
        private_endpoint: The VPC endpoint for execute-api that alone reaches the API; public otherwise.
        runtime_dependencies: A layer instead of the vendored libraries.

    Raises:
        ValueError: If there is no model, or two have one name.
        TokenmillError: If the libraries were not vendored and no layer is given, or Bedrock has no such model
            for calls from the stack's region.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        models: Sequence[ServedModel],
        api_keys: ApiKeyTable,
        conversations: ConversationTable | None = None,
        limits: GatewayLimits | None = None,
        hosting: FunctionHosting | None = None,
        private_endpoint: ec2.IVpcEndpoint | None = None,
        runtime_dependencies: lambda_.ILayerVersion | None = None,
    ) -> None:
        _check_models(models)
        for model in models:
            model.check(scope)
        if runtime_dependencies is None:
            check_vendored()
        super().__init__(scope, id)
        self.models = tuple(models)
        limits = limits or GatewayLimits()
        hosting = hosting or FunctionHosting()
        layer = runtime_dependencies or vendored_layer(self, "Libraries")
        config = _config(models, conversations, limits)
        self.handler = LambdaFunction(
            self,
            "Function",
            entry=GATEWAY_ENTRY,
            environment={GATEWAY_VARIABLE: cdk.Stack.of(self).to_json_string(config.to_document())},
            hosting=hosting,
            layers=[layer],
        )
        for model in models:
            model.grant_invoke(self.handler.role, scope=self.handler.role)
        if conversations is not None:
            conversations.grant_read_write(self.handler.role)
        self.authorizer_handler = LambdaFunction(
            self,
            "Authorizer",
            entry=AUTHORIZER_ENTRY,
            environment={KEY_TABLE_VARIABLE: api_keys.table_name},
            hosting=_authorizer_hosting(hosting),
        )
        api_keys.grant_read(self.authorizer_handler.role)
        self.api = self._api(limits, hosting, private_endpoint)
        self._route()
        add_gateway_responses(self.api)
        self._acknowledge()

    @property
    def function(self) -> lambda_.Function:
        """The function that answers."""
        return self.handler.function

    @property
    def grant_principal(self) -> iam.IPrincipal:
        """The function's role, so that the gateway can be given to other resources' grants."""
        return self.handler.role.grant_principal

    @property
    def base_url(self) -> str:
        """What an OpenAI client takes as its base URL; it ends in /v1."""
        return self.api.url_for_path("/v1")

    def add_function_url(self) -> lambda_.FunctionUrl:
        """Add a door for callers with AWS credentials: a streaming function URL behind IAM, never open."""
        return self.function.add_function_url(
            auth_type=lambda_.FunctionUrlAuthType.AWS_IAM, invoke_mode=lambda_.InvokeMode.RESPONSE_STREAM
        )

    def _api(
        self, limits: GatewayLimits, hosting: FunctionHosting, private_endpoint: ec2.IVpcEndpoint | None
    ) -> apigateway.RestApi:
        self.access_log = log_group(self, "AccessLog", hosting)
        api = apigateway.RestApi(
            self,
            "Api",
            rest_api_name=cdk.Names.unique_resource_name(self, max_length=128, separator="-"),
            description="OpenAI-compatible chat",
            endpoint_configuration=_endpoint_configuration(private_endpoint),
            policy=None if private_endpoint is None else _private_policy(private_endpoint),
            cloud_watch_role=True,
            deploy_options=apigateway.StageOptions(
                stage_name=STAGE,
                access_log_destination=apigateway.LogGroupLogDestination(self.access_log),
                access_log_format=apigateway.AccessLogFormat.json_with_standard_fields(
                    caller=True,
                    http_method=True,
                    ip=True,
                    protocol=True,
                    request_time=True,
                    resource_path=True,
                    response_length=True,
                    status=True,
                    user=True,
                ),
                logging_level=apigateway.MethodLoggingLevel.ERROR,
                metrics_enabled=True,
                throttling_rate_limit=limits.requests_per_second,
                throttling_burst_limit=limits.burst,
                tracing_enabled=True,
            ),
        )
        # The L2 construct adds an output of its own to the user's stack.
        api.node.try_remove_child("Endpoint")
        return api

    def _route(self) -> None:
        self.authorizer = apigateway.TokenAuthorizer(
            self,
            "BearerKey",
            handler=self.authorizer_handler.function,
            identity_source=apigateway.IdentitySource.header("Authorization"),
            results_cache_ttl=cdk.Duration.seconds(60),
            validation_regex=KEY_PATTERN,
        )
        integration = apigateway.LambdaIntegration(
            self.function,
            allow_test_invoke=False,
            response_transfer_mode=apigateway.ResponseTransferMode.STREAM,
            timeout=cdk.Duration.minutes(STREAM_MINUTES),
        )
        self.api.root.add_resource("{proxy+}").add_method(
            "ANY",
            integration,
            authorizer=self.authorizer,
            authorization_type=apigateway.AuthorizationType.CUSTOM,
        )

    def _acknowledge(self) -> None:
        acknowledge(
            self.api,
            {
                "AwsSolutions-APIG2": "The function validates every body and answers with an OpenAI "
                "error object, which a request validator cannot.",
                "AwsSolutions-COG4": "Callers are OpenAI clients, which send bearer keys and not "
                "Cognito tokens; a Lambda authorizer checks every request.",
                "AwsSolutions-APIG3": "Every route needs a key of 256 random bits and the stage is "
                "throttled; whoever asks for more associates a web ACL with api.deployment_stage.",
                managed_policy(
                    "AmazonAPIGatewayPushToCloudWatchLogs"
                ): "API Gateway writes logs with one role an "
                "account, for which AWS documents this managed policy.",
            },
        )


def _config(
    models: Sequence[ServedModel], conversations: ConversationTable | None, limits: GatewayLimits
) -> GatewayConfig:
    config = GatewayConfig(
        plan_hash="+".join(sorted({model.plan_hash for model in models})),
        models=tuple(model.to_gateway_model() for model in models),
        max_body_bytes=limits.max_body_bytes,
    )
    if conversations is None:
        return config
    return replace(
        config,
        conversation_table=conversations.table_name,
        conversation_ttl_days=conversations.time_to_live_days,
    )


def _authorizer_hosting(hosting: FunctionHosting) -> FunctionHosting:
    reserved = hosting.reserved_concurrency
    if reserved is None:
        return hosting
    return replace(hosting, reserved_concurrency=math.ceil(reserved / AUTHORIZER_SHARE))


def _check_models(models: Sequence[ServedModel]) -> None:
    if not models:
        raise ValueError("models is empty; give the models that callers may name")
    names = [model.name for model in models]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"models has {', '.join(map(repr, twice))} more than once; give each its own name")


def _endpoint_configuration(private_endpoint: ec2.IVpcEndpoint | None) -> apigateway.EndpointConfiguration:
    if private_endpoint is None:
        return apigateway.EndpointConfiguration(types=[apigateway.EndpointType.REGIONAL])
    return apigateway.EndpointConfiguration(
        types=[apigateway.EndpointType.PRIVATE], vpc_endpoints=[private_endpoint]
    )


def _private_policy(private_endpoint: ec2.IVpcEndpoint) -> iam.PolicyDocument:
    """Let requests in through one VPC endpoint only ("API Gateway resource policy examples")."""
    everything = ["execute-api:/*"]
    through = {"aws:SourceVpce": private_endpoint.vpc_endpoint_id}
    anyone = [iam.AnyPrincipal()]
    return iam.PolicyDocument(
        statements=[
            iam.PolicyStatement(actions=["execute-api:Invoke"], resources=everything, principals=anyone),
            iam.PolicyStatement(
                effect=iam.Effect.DENY,
                actions=["execute-api:Invoke"],
                resources=everything,
                principals=anyone,
                conditions={"StringNotEquals": through},
            ),
        ]
    )
