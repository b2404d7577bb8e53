"""The chat stack as one would write it by hand with aws_cdk alone: the yardstick for the cost of synth.

It emits the same resource types in the same numbers as ChatStack, which a test compares.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_applicationautoscaling as autoscaling
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sagemaker as sagemaker

if TYPE_CHECKING:
    from constructs import Construct

ROOT = Path(__file__).resolve().parents[2]
CODE = ROOT / "lambda"
LIBRARIES = ROOT / "constructs" / "tokenmill" / "gateway" / "_layer"
IMAGE = (
    "763104351884.dkr.ecr.us-east-1.amazonaws.com/huggingface-vllm-inference-neuronx:"
    "0.11.0-optimum0.4.5-neuronx-py310-sdk2.26.1-ubuntu22.04"
)
ENDPOINT = "plain-chat"
MINUTE = cdk.Duration.minutes(1)
ANSWERS = {
    "UNAUTHORIZED": 401,
    "ACCESS_DENIED": 403,
    "INVALID_API_KEY": 401,
    "THROTTLED": 429,
    "REQUEST_TOO_LARGE": 413,
    "INTEGRATION_TIMEOUT": 504,
    "INTEGRATION_FAILURE": 502,
    "DEFAULT_4_XX": None,
    "DEFAULT_5_XX": None,
}


class PlainChatStack(cdk.Stack):
    """A model on SageMaker, a gateway in front of it, tables, alarms."""

    def __init__(self, scope: Construct, id: str) -> None:
        super().__init__(scope, id, env=cdk.Environment(region="us-east-1"))
        self.endpoint, self.component = self._model()
        self._guard()
        name = cdk.Fn.select(1, cdk.Fn.split("/", self.component.ref))
        self._scale(name)
        keys = self._table("Keys", "key_id", None, None)
        conversations = self._table("Conversations", "pk", "sk", "expires_at")
        gateway = self._gateway(name, conversations)
        api = self._api(gateway, self._authorizer(keys))
        self._heartbeat(name)
        self._watch(name, gateway)
        outputs = {
            "BaseUrl": api.url_for_path("/v1"),
            "ApiKeyTable": keys.table_name,
            "GatewayFunction": gateway.function_name,
            "EndpointName": self.endpoint.attr_endpoint_name,
            "ComponentName": name,
        }
        for key, value in outputs.items():
            cdk.CfnOutput(self, key, value=value)

    def _model(self) -> tuple[sagemaker.CfnEndpoint, sagemaker.CfnInferenceComponent]:
        role = iam.Role(self, "ModelRole", assumed_by=iam.ServicePrincipal("sagemaker.amazonaws.com"))
        repository = "arn:aws:ecr:us-east-1:763104351884:repository/huggingface-vllm-inference-neuronx"
        pull = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
        write = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"]
        groups = f"arn:aws:logs:us-east-1:{self.account}:log-group:/aws/sagemaker/*"
        role.add_to_policy(iam.PolicyStatement(actions=pull, resources=[repository]))
        role.add_to_policy(iam.PolicyStatement(actions=write, resources=[groups]))
        role.add_to_policy(
            iam.PolicyStatement(
                actions=["cloudwatch:PutMetricData", "ecr:GetAuthorizationToken"], resources=["*"]
            )
        )
        variant = sagemaker.CfnEndpointConfig.ProductionVariantProperty(
            variant_name="AllTraffic",
            instance_type="ml.inf2.8xlarge",
            initial_instance_count=2,
            inference_ami_version="al2-ami-sagemaker-inference-neuron-2",
            container_startup_health_check_timeout_in_seconds=3600,
            model_data_download_timeout_in_seconds=3600,
            managed_instance_scaling=sagemaker.CfnEndpointConfig.ManagedInstanceScalingProperty(
                status="ENABLED", min_instance_count=2, max_instance_count=9
            ),
            routing_config=sagemaker.CfnEndpointConfig.RoutingConfigProperty(
                routing_strategy="LEAST_OUTSTANDING_REQUESTS"
            ),
        )
        config = sagemaker.CfnEndpointConfig(
            self, "ModelConfig", execution_role_arn=role.role_arn, production_variants=[variant]
        )
        config.node.add_dependency(role)
        endpoint = sagemaker.CfnEndpoint(
            self,
            "ModelEndpoint",
            endpoint_name=ENDPOINT,
            endpoint_config_name=config.attr_endpoint_config_name,
        )
        cfn = sagemaker.CfnInferenceComponent
        component = cfn(
            self,
            "Model",
            inference_component_name=f"{ENDPOINT}-model",
            endpoint_name=endpoint.attr_endpoint_name,
            variant_name="AllTraffic",
            runtime_config=cfn.InferenceComponentRuntimeConfigProperty(copy_count=2),
            specification=cfn.InferenceComponentSpecificationProperty(
                container=cfn.InferenceComponentContainerSpecificationProperty(
                    image=IMAGE, environment={"SM_ON_MODEL": "Qwen/Qwen3-8B"}
                ),
                compute_resource_requirements=cfn.InferenceComponentComputeResourceRequirementsProperty(
                    number_of_accelerator_devices_required=1, min_memory_required_in_mb=40_000
                ),
            ),
        )
        return endpoint, component

    def _guard(self) -> None:
        """What keeps a grown fleet over a deployment: before the component, after it and in the end."""
        component = f"{ENDPOINT}-model"
        function = self._function(
            "Guard",
            "tokenmill_runtime.deployment.handler",
            {
                "TOKENMILL_STACK": self.stack_id,
                "TOKENMILL_FLEETS": json.dumps([f"inference-component/{component}"]),
            },
        )
        mine = f"arn:aws:sagemaker:us-east-1:{self.account}"
        allowed = {
            "cloudformation:DescribeStacks": self.stack_id,
            "sagemaker:*Endpoint*": f"{mine}:endpoint/*",
            "sagemaker:*InferenceComponent*": f"{mine}:inference-component/*",
            "application-autoscaling:*ScalableTarget*": "*",
        }
        for action, resource in allowed.items():
            function.add_to_role_policy(iam.PolicyStatement(actions=[action], resources=[resource]))
        rule = events.CfnRule(
            self,
            "Settled",
            event_pattern={
                "source": ["aws.cloudformation"],
                "detail-type": ["CloudFormation Stack Status Change"],
                "detail": {"stack-id": [self.stack_id]},
            },
            targets=[events.CfnRule.TargetProperty(id="Guard", arn=function.function_arn)],
        )
        function.add_permission(
            "Rule", principal=iam.ServicePrincipal("events.amazonaws.com"), source_arn=rule.attr_arn
        )
        bounds = {"Component": component, "Declared": 2, "Minimum": 2, "Maximum": 6}
        for id, kind in (("Hold", "Custom::TokenmillHold"), ("Release", "Custom::TokenmillRelease")):
            cdk.CustomResource(
                self, id, service_token=function.function_arn, resource_type=kind, properties=bounds
            )

    def _scale(self, component: str) -> None:
        cfn = autoscaling.CfnScalingPolicy
        target = autoscaling.CfnScalableTarget(
            self,
            "Scaling",
            service_namespace="sagemaker",
            scalable_dimension="sagemaker:inference-component:DesiredCopyCount",
            resource_id=f"inference-component/{component}",
            min_capacity=2,
            max_capacity=6,
        )
        metrics = [
            cfn.TargetTrackingMetricDataQueryProperty(
                id=id,
                return_data=False,
                metric_stat=cfn.TargetTrackingMetricStatProperty(
                    stat=stat,
                    metric=cfn.TargetTrackingMetricProperty(
                        namespace="tokenmill",
                        metric_name=metric,
                        dimensions=[
                            cfn.TargetTrackingMetricDimensionProperty(name="Target", value=component)
                        ],
                    ),
                ),
            )
            for id, metric, stat in (("work", "TokenWork", "Sum"), ("copies", "Copies", "Maximum"))
        ]
        busy = cfn.TargetTrackingMetricDataQueryProperty(
            id="busy", expression="100 * work / (60 * FILL(copies, REPEAT))", return_data=True
        )
        configurations = {
            "TokenWork": cfn.TargetTrackingScalingPolicyConfigurationProperty(
                target_value=70,
                customized_metric_specification=cfn.CustomizedMetricSpecificationProperty(
                    metrics=[*metrics, busy]
                ),
            ),
            "Concurrency": cfn.TargetTrackingScalingPolicyConfigurationProperty(
                target_value=6,
                disable_scale_in=True,
                predefined_metric_specification=cfn.PredefinedMetricSpecificationProperty(
                    predefined_metric_type="SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution"
                ),
            ),
        }
        for name, configuration in configurations.items():
            cfn(
                self,
                name,
                policy_name=name,
                policy_type="TargetTrackingScaling",
                scaling_target_id=target.ref,
                target_tracking_scaling_policy_configuration=configuration,
            )

    def _table(self, id: str, key: str, sort: str | None, expiry: str | None) -> dynamodb.Table:
        text = dynamodb.AttributeType.STRING
        return dynamodb.Table(
            self,
            id,
            partition_key=dynamodb.Attribute(name=key, type=text),
            sort_key=None if sort is None else dynamodb.Attribute(name=sort, type=text),
            time_to_live_attribute=expiry,
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            encryption=dynamodb.TableEncryption.AWS_MANAGED,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
        )

    def _function(
        self,
        id: str,
        handler: str,
        environment: dict[str, str],
        layers: list[lambda_.LayerVersion] | None = None,
    ) -> lambda_.Function:
        group = logs.LogGroup(self, f"{id}Logs", retention=logs.RetentionDays.ONE_WEEK)
        role = iam.Role(self, f"{id}Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        group.grant_write(role)
        return lambda_.Function(
            self,
            id,
            runtime=lambda_.Runtime.PYTHON_3_13,
            architecture=lambda_.Architecture.ARM_64,
            code=lambda_.Code.from_asset(str(CODE), exclude=["**/__pycache__", "*.pyc"]),
            handler=handler,
            environment=environment,
            layers=layers,
            log_group=group,
            role=role,
            tracing=lambda_.Tracing.ACTIVE,
            timeout=cdk.Duration.minutes(15),
        )

    def _gateway(self, component: str, conversations: dynamodb.Table) -> lambda_.Function:
        layer = lambda_.LayerVersion(
            self,
            "Libraries",
            code=lambda_.Code.from_asset(str(LIBRARIES), exclude=["**/__pycache__", "*.pyc"]),
        )
        document = {"component": component, "conversation_table": conversations.table_name}
        function = self._function(
            "Gateway",
            "tokenmill_runtime.gateway.app:application",
            {"TOKENMILL_GATEWAY": self.to_json_string(document)},
            [layer],
        )
        function.add_to_role_policy(
            iam.PolicyStatement(
                actions=["sagemaker:InvokeEndpoint", "sagemaker:InvokeEndpointWithResponseStream"],
                resources=[self.endpoint.ref, self.component.ref],
            )
        )
        conversations.grant_read_write_data(function)
        return function

    def _authorizer(self, keys: dynamodb.Table) -> apigateway.TokenAuthorizer:
        function = self._function(
            "Authorizer", "tokenmill_runtime.authorizer.handler", {"TOKENMILL_KEY_TABLE": keys.table_name}
        )
        keys.grant_read_data(function)
        return apigateway.TokenAuthorizer(self, "BearerKey", handler=function)

    def _api(self, function: lambda_.Function, authorizer: apigateway.TokenAuthorizer) -> apigateway.RestApi:
        api = apigateway.RestApi(
            self,
            "Api",
            endpoint_types=[apigateway.EndpointType.REGIONAL],
            cloud_watch_role=True,
            deploy_options=apigateway.StageOptions(
                stage_name="api",
                access_log_destination=apigateway.LogGroupLogDestination(logs.LogGroup(self, "AccessLog")),
                logging_level=apigateway.MethodLoggingLevel.ERROR,
                throttling_rate_limit=50,
                throttling_burst_limit=100,
                tracing_enabled=True,
            ),
        )
        integration = apigateway.LambdaIntegration(
            function,
            allow_test_invoke=False,
            response_transfer_mode=apigateway.ResponseTransferMode.STREAM,
            timeout=cdk.Duration.minutes(15),
        )
        api.root.add_resource("{proxy+}").add_method("ANY", integration, authorizer=authorizer)
        for name, status in ANSWERS.items():
            api.add_gateway_response(
                name,
                type=getattr(apigateway.ResponseType, name),
                status_code=None if status is None else str(status),
                templates={"application/json": json.dumps({"error": {"message": name, "code": status}})},
            )
        return api

    def _heartbeat(self, component: str) -> None:
        document = {"targets": [{"target": component, "component": component}]}
        function = self._function(
            "Heartbeat",
            "tokenmill_runtime.heartbeat.handler",
            {"TOKENMILL_HEARTBEAT": self.to_json_string(document)},
        )
        function.add_to_role_policy(
            iam.PolicyStatement(
                actions=["sagemaker:DescribeInferenceComponent"], resources=[self.component.ref]
            )
        )
        rule = events.CfnRule(
            self,
            "Minute",
            schedule_expression="rate(1 minute)",
            targets=[events.CfnRule.TargetProperty(id="Heartbeat", arn=function.function_arn)],
        )
        function.add_permission(
            "Rule", principal=iam.ServicePrincipal("events.amazonaws.com"), source_arn=rule.attr_arn
        )

    def _watch(self, component: str, gateway: lambda_.Function) -> None:
        def metric(name: str, statistic: str) -> cloudwatch.Metric:
            return cloudwatch.Metric(
                namespace="tokenmill",
                metric_name=name,
                dimensions_map={"Target": component},
                statistic=statistic,
                period=MINUTE,
            )

        errors = cloudwatch.MathExpression(
            expression="IF(requests > 0, 100 * FILL(errors, 0) / requests, 0)",
            using_metrics={"errors": metric("Errors", "Sum"), "requests": metric("Requests", "Sum")},
            period=MINUTE,
        )
        alarmed: dict[str, tuple[cloudwatch.IMetric, float]] = {
            "SlowFirstToken": (metric("TimeToFirstToken", "p95"), 2000),
            "ManyErrors": (errors, 5),
            "Throttles": (gateway.metric_throttles(period=MINUTE), 0),
            "NoCopies": (metric("Copies", "Maximum"), 1),
        }
        for id, (watched, threshold) in alarmed.items():
            cloudwatch.Alarm(
                self, id, metric=watched, threshold=threshold, evaluation_periods=5, datapoints_to_alarm=3
            )
        graphs = [
            cloudwatch.GraphWidget(title=name, left=[metric(name, "Sum")], width=12)
            for name in ("TimeToFirstToken", "InterTokenLatency", "TokenWork", "OutputTokens", "Requests")
        ]
        cloudwatch.Dashboard(self, "Dashboard", widgets=[graphs])


app = cdk.App()
PlainChatStack(app, "plain-chat")
app.synth()
