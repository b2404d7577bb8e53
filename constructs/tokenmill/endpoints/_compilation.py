"""What a compiled model depends on, and the state machine that compiles it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aws_cdk as cdk

from tokenmill.core.compiled_artifact import REVISION, UNKNOWN_DIGEST, CompiledArtifact
from tokenmill.endpoints.serving_image import BUILT_IMAGE
from tokenmill_runtime import jobs
from tokenmill_runtime.compiled_artifact import PREFIX, RUN_COMMAND

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenmill.endpoints.compilation import CompiledModel
    from tokenmill.endpoints.model_source import ModelSource
    from tokenmill.endpoints.serving import Serving

MODEL_FOLDER = "/opt/ml/model"
# botocore, TrainingInstanceType: the accelerator types that training jobs run on; no Inferentia among them.
TRAINING_TYPES = ("ml.trn1.2xlarge", "ml.trn1.32xlarge", "ml.trn1n.32xlarge", "ml.trn2.48xlarge")
# botocore, TrainingEnvironmentValue.
LONGEST_VALUE = 512
JOB_PREFIX = "tokenmill-compile-"
# A job waits for its machine before its own time begins.
PENDING_SECONDS = 6 * 3600
VOLUME_GIB = 500
# What the function returns of each step.
LOOKED = ("key", "built", "image_digest", "image_uri", "output")
RECORDED = ("key", "built", "uri")
COMPILING_PREFIXES = ("SM_VLLM_", "VLLM_", "NEURON_")
# What the server says and how it reads requests, not what it compiles.
NEUTRAL = frozenset(
    {
        "SM_VLLM_CHAT_TEMPLATE",
        "SM_VLLM_ENABLE_AUTO_TOOL_CHOICE",
        "SM_VLLM_MODEL",
        "SM_VLLM_REASONING_PARSER",
        "SM_VLLM_SERVED_MODEL_NAME",
        "SM_VLLM_TOOL_CALL_PARSER",
    }
)


def problems(serving: Serving, source: ModelSource) -> list[str]:
    """Return a sentence for each reason why a model cannot be compiled ahead of time.

    Args:
        serving: What will be served.
        source: Its weights.
    """
    found = []
    key = serving.serving_image.key
    if key != BUILT_IMAGE:
        found.append(
            f"serving has image {key!r}, which ServingImage does not build; give image=image({BUILT_IMAGE!r})"
        )
    if serving.instance_type not in TRAINING_TYPES:
        found.append(
            f"instance_type is {serving.instance_type}, which training jobs do not offer, so nothing can be "
            f"compiled on it; give one of {', '.join(TRAINING_TYPES)}"
        )
    return [*found, *_source_problems(source), *_environment_problems(serving)]


def _source_problems(source: ModelSource) -> list[str]:
    if source.bucket is None or source.prefix is None:
        return [
            "the source has no weights in a bucket, which a job without network loads from; give the source "
            "of a ModelMirror"
        ]
    if not REVISION.fullmatch(source.revision or ""):
        return [
            f"the source's revision is {source.revision!r}; a compiled model belongs to one commit of 40 "
            "hexadecimal digits, so give the source of a ModelMirror"
        ]
    return []


def _environment_problems(serving: Serving) -> list[str]:
    found = []
    for name, value in compile_environment(serving).items():
        if cdk.Token.is_unresolved(value):
            found.append(
                f"variable {name} is a token, whose value only the deployment knows, while it decides "
                "what is compiled; give the value itself"
            )
        elif len(value) > LONGEST_VALUE:
            found.append(
                f"variable {name} has {len(value)} characters; a training job takes {LONGEST_VALUE}, so give "
                "fewer buckets or options"
            )
    return found


def compile_environment(serving: Serving) -> dict[str, str]:
    """Return the container's variables, the same when it compiles and when it serves.

    Args:
        serving: What will be served.
    """
    return {
        "SM_VLLM_SERVED_MODEL_NAME": serving.model,
        # Weights lie in the container and a job has no network: nothing may ask the Hub.
        "HF_HUB_OFFLINE": "1",
        **serving.container_environment(),
        "SM_VLLM_MODEL": MODEL_FOLDER,
    }


def artifact_of(serving: Serving, source: ModelSource) -> CompiledArtifact:
    """Return what a compiled model is compiled for, but for the image's digest, which the deployment knows.

    Args:
        serving: What will be served.
        source: Its weights, with a pinned revision.
    """
    options = serving.options
    flags = {
        name: value
        for name, value in compile_environment(serving).items()
        if name.startswith(COMPILING_PREFIXES) and name not in NEUTRAL
    }
    return CompiledArtifact(
        image_digest=UNKNOWN_DIGEST,
        model=serving.model,
        revision=source.revision or "",
        accelerator=serving.instance.accelerator.name,
        tensor_parallel=serving.tensor_parallel,
        pipeline_parallel=serving.pipeline_parallel,
        max_sequences=serving.max_sequences,
        context_tokens=serving.context_tokens,
        buckets=options.buckets,
        dtype=options.dtype or "auto",
        quantization=options.quantization,
        flags=flags,
    )


def definition(
    compiled: CompiledModel, *, environment: Mapping[str, str], limit_seconds: int
) -> dict[str, Any]:
    """Return the state machine: look, compile where nothing is there, record.

    "Create and manage Amazon SageMaker AI jobs with Step Functions" (AWS Step Functions developer guide).

    Args:
        compiled: The compiled model.
        environment: The container's variables.
        limit_seconds: After how long the job is stopped, in seconds.
    """
    return {
        "Comment": f"Compiles {compiled.serving.model} ahead of time; start it with: {RUN_COMMAND}",
        "StartAt": jobs.DESCRIPTION_STATE,
        "States": {
            jobs.DESCRIPTION_STATE: jobs.description_state(
                _description(compiled, limit_seconds), following="Look"
            ),
            "Look": {
                **_step(compiled, "look", {"job.$": "$.job"}, LOOKED),
                "ResultPath": "$.artifact",
                "Next": "IsBuilt",
            },
            "IsBuilt": {
                "Type": "Choice",
                "Choices": [{"Variable": "$.artifact.built", "BooleanEquals": True, "Next": "AlreadyBuilt"}],
                "Default": "Compile",
            },
            "AlreadyBuilt": {"Type": "Succeed", "InputPath": "$.artifact"},
            "Compile": _compile(compiled, environment, limit_seconds),
            "Record": {
                **_step(
                    compiled,
                    "record",
                    {"job.$": "$.job", "artifact.$": "$.artifact", "training.$": "$.training"},
                    RECORDED,
                ),
                "End": True,
            },
        },
    }


def _description(compiled: CompiledModel, limit_seconds: int) -> dict[str, Any]:
    image = compiled.serving_image
    document = compiled.artifact.to_json()
    del document["image_digest"]
    return {
        "kind": "compile",
        "name": compiled.job_name,
        "about": f"compiles {compiled.serving.model} for {compiled.serving.instance_type}",
        "instance_type": compiled.serving.instance_type,
        "instance_count": 1,
        "limit_seconds": limit_seconds,
        "bucket": compiled.bucket.bucket_name,
        "prefix": PREFIX,
        "repository": image.repository.repository_name,
        "repository_uri": image.repository.repository_uri,
        "tag": image.tag,
        "artifact": document,
    }


def _step(
    compiled: CompiledModel, step: str, payload: Mapping[str, str], kept: tuple[str, ...]
) -> dict[str, Any]:
    return {
        "Type": "Task",
        "Resource": f"arn:{cdk.Aws.PARTITION}:states:::lambda:invoke",
        "Parameters": {
            "FunctionName": compiled.function.function.function_arn,
            "Payload": {"step": step, **payload},
        },
        "ResultSelector": {f"{name}.$": f"$.Payload.{name}" for name in kept},
        # "Handle transient Lambda service exceptions" (AWS Step Functions developer guide).
        "Retry": [
            {
                "ErrorEquals": [
                    "Lambda.ClientExecutionTimeoutException",
                    "Lambda.ServiceException",
                    "Lambda.AWSLambdaException",
                    "Lambda.SdkClientException",
                    "Lambda.TooManyRequestsException",
                ],
                "IntervalSeconds": 2,
                "MaxAttempts": 6,
                "BackoffRate": 2,
            }
        ],
    }


def _compile(compiled: CompiledModel, environment: Mapping[str, str], limit_seconds: int) -> dict[str, Any]:
    return {
        "Type": "Task",
        "Resource": f"arn:{cdk.Aws.PARTITION}:states:::sagemaker:createTrainingJob.sync",
        "Parameters": _training_job(compiled, environment, limit_seconds),
        "ResultSelector": {
            "name.$": "$.TrainingJobName",
            "output.$": "$.ModelArtifacts.S3ModelArtifacts",
        },
        "ResultPath": "$.training",
        "TimeoutSeconds": limit_seconds + PENDING_SECONDS,
        "Next": "Record",
    }


def _training_job(
    compiled: CompiledModel, environment: Mapping[str, str], limit_seconds: int
) -> dict[str, Any]:
    weights, key = compiled.weights, compiled.encryption_key
    bucket = "" if weights.bucket is None else weights.bucket.bucket_name
    output: dict[str, Any] = {"S3OutputPath.$": "$.artifact.output", "CompressionType": "NONE"}
    if key is not None:
        output["KmsKeyId"] = key.key_arn
    return {
        # A job's name is used once in an account, and an execution may be the second try.
        "TrainingJobName.$": f"States.Format('{JOB_PREFIX}{{}}', States.Hash($$.Execution.Id, 'SHA-1'))",
        "AlgorithmSpecification": {
            "TrainingImage.$": "$.artifact.image_uri",
            "TrainingInputMode": "File",
        },
        "RoleArn": compiled.training_role.role_arn,
        "InputDataConfig": [
            {
                "ChannelName": "model",
                "InputMode": "File",
                "DataSource": {
                    "S3DataSource": {
                        "S3DataType": "S3Prefix",
                        "S3Uri": f"s3://{bucket}/{(weights.prefix or '').strip('/')}/",
                        "S3DataDistributionType": "FullyReplicated",
                    }
                },
            }
        ],
        "OutputDataConfig": output,
        "ResourceConfig": {
            "InstanceType": compiled.serving.instance_type,
            "InstanceCount": 1,
            "VolumeSizeInGB": VOLUME_GIB,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": limit_seconds},
        "EnableNetworkIsolation": True,
        "Environment": {**environment, "TOKENMILL_ARTIFACT_KEY.$": "$.artifact.key"},
    }
