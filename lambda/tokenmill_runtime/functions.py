"""What each Lambda function of the runtime runs, and the files of this package that it imports.

The template makes a function's code from exactly these files, so that a change elsewhere does not redeploy
it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionParts:
    """One function: Lambda's handler, modules and folders of ``tokenmill_runtime``, fixed environment."""

    handler: str
    parts: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


AUTHORIZER: Final = FunctionParts(
    handler="tokenmill_runtime.authorizer.handler",
    parts=("authorizer.py", "api_keys.py", "aws.py"),
)

HEARTBEAT: Final = FunctionParts(
    handler="tokenmill_runtime.heartbeat.handler",
    parts=("heartbeat.py", "emf.py", "metric_contract.py", "aws.py"),
)

# Needs the layer with Starlette and anyio besides.
GATEWAY: Final = FunctionParts(
    handler="tokenmill_runtime.gateway.app:application",
    parts=(
        "gateway/",
        "streaming/",
        "conversations.py",
        "gateway_config.py",
        "gateway_options.py",
        "token_work.py",
        "emf.py",
        "metric_contract.py",
        "clock.py",
        "aws.py",
    ),
    environment={"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/tokenmill_runtime/streaming/run.sh"},
)

WAKE_UP_QUEUE: Final = FunctionParts(
    handler="tokenmill_runtime.wake_up_queue.handler",
    parts=(
        "wake_up_queue.py",
        "gateway/__init__.py",
        "gateway/assembling.py",
        "gateway/aws_errors.py",
        "gateway/connection.py",
        "gateway/errors.py",
        "gateway/sagemaker_backend.py",
        "gateway/sse.py",
        "aws.py",
    ),
)

BUILD_RUN: Final = FunctionParts(
    handler="tokenmill_runtime.build_run.handler",
    parts=("build_run.py", "custom_resource.py", "aws.py"),
)

COMPILED_MODEL: Final = FunctionParts(
    handler="tokenmill_runtime.compiled_model.handler",
    parts=("compiled_model.py", "compiled_artifact.py", "custom_resource.py", "aws.py"),
)

BATCH_FAN_OUT: Final = FunctionParts(
    handler="tokenmill_runtime.batch_fan_out.handler",
    parts=(
        "batch_collate.py",
        "batch_fan_out.py",
        "batch_ledger.py",
        "batch_objects.py",
        "batch_plan.py",
        "batch_run.py",
        "batch_shard.py",
        "clock.py",
        "aws.py",
    ),
)

DEPLOYMENT: Final = FunctionParts(
    handler="tokenmill_runtime.deployment.handler",
    parts=(
        "deployment.py",
        "deployment_check.py",
        "deployment_fleet.py",
        "deployment_services.py",
        "custom_resource.py",
        "aws.py",
    ),
)

BATCH_INFERENCE: Final = FunctionParts(
    handler="tokenmill_runtime.batch_inference.handler",
    parts=(
        "batch_inference.py",
        "batch_inference_collate.py",
        "batch_inference_contract.py",
        "batch_inference_gather.py",
        "batch_inference_job.py",
        "batch_inference_part.py",
        "batch_inference_plan.py",
        "batch_inference_records.py",
        "batch_inference_rest.py",
        "batch_inference_review.py",
        "batch_inference_run.py",
        "batch_inference_stop.py",
        "batch_ledger.py",
        "batch_objects.py",
        "batch_run.py",
        "batch_shard.py",
        "clock.py",
        "aws.py",
    ),
)

BEDROCK_RESOURCES: Final = FunctionParts(
    handler="tokenmill_runtime.bedrock_resources.handler",
    parts=(
        "artifact_versions.py",
        "bedrock_resources.py",
        "clock.py",
        "custom_resource.py",
        "emf.py",
        "invocation_logging.py",
        "metric_contract.py",
        "model_artifact.py",
        "model_deployment.py",
        "provisioned_throughput.py",
        "units_alarms.py",
        "units_handle.py",
        "units_ledger.py",
        "units_market.py",
        "units_plan.py",
        "units_purchase.py",
        "units_quota.py",
        "units_release.py",
        "units_scaling.py",
        "units_schedule.py",
        "units_stack.py",
        "units_tasks.py",
        "units_watch.py",
        "waited_resource.py",
        "aws.py",
    ),
)
