"""A model over files of requests, on instances that are there for the job only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_iam as iam

from tokenmill.batch.files import BatchFiles
from tokenmill.batch.job import BatchJob, States
from tokenmill.batch.transform_types import TRANSFORM_TYPES
from tokenmill.core._checks import as_whole, as_whole_or_none
from tokenmill.core.errors import TokenmillError
from tokenmill.endpoints.component import environment, metadata
from tokenmill.endpoints.endpoint_checks import check_same_region
from tokenmill.endpoints.hosting import EndpointHosting
from tokenmill.endpoints.model import Models
from tokenmill.endpoints.model_source import ModelSource
from tokenmill.endpoints.role import serving_role
from tokenmill.security import actions
from tokenmill.security.acknowledge import acknowledge, any_resource
from tokenmill.security.printed import printed

if TYPE_CHECKING:
    from aws_cdk import aws_sagemaker as sagemaker
    from constructs import Construct

    from tokenmill.endpoints.model_source import ResolvedSource
    from tokenmill.endpoints.serving import Serving

# "CreateTransformJob", "TransformResources" and "ModelClientConfig" (Amazon SageMaker API Reference).
STRATEGIES = ("SingleRecord", "MultiRecord")
MOST_INSTANCES = 100
MOST_PAYLOAD_MB = 100
USUAL_PAYLOAD_MB = 6
MOST_INVOCATION_SECONDS = 3600
MOST_RETRIES = 3
# A year, after which an execution ends ("Quotas related to state machine executions", AWS Step Functions).
MOST_LIMIT_HOURS = 8760
JOB_PREFIX = "tokenmill"
JOBS_REASON = "Jobs get their names when they start, and every name begins with the library's own word."
EVENTS_RULE = "StepFunctionsGetEventsForSageMakerTransformJobsRule"


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformJob:
    """How a job goes through its files.

    Args:
        instances: How many instances share the files, 1 to 100. A file goes to one instance as a whole, so
            more instances than files are idle.
        strategy: "SingleRecord" sends a line at a time, which is what chat completions take; "MultiRecord"
            as many lines as the payload holds, for a container that takes JSON lines.
        concurrent: Requests that an instance has at once; the batch that the serving decodes together
            otherwise.
        payload_mb: Largest request, in MB; 6, or less where so many requests at once leave less, otherwise.
        invocation_seconds: Longest answer, in seconds, 1 to 3,600.
        retries: How often a request that failed is sent again, 0 to 3.
        limit_hours: After how many hours the job is stopped, 1 to 8,760.

    Raises:
        TokenmillError: If a number is out of SageMaker's range.
    """

    instances: int = 1
    strategy: str = "SingleRecord"
    concurrent: int | None = None
    payload_mb: int | None = None
    invocation_seconds: int = 900
    retries: int = MOST_RETRIES
    limit_hours: int = 24

    def __post_init__(self) -> None:
        as_whole(self, "instances", "invocation_seconds", "retries", "limit_hours")
        as_whole_or_none(self, "concurrent", "payload_mb")
        if self.strategy not in STRATEGIES:
            raise TokenmillError(f"strategy is {self.strategy!r}; allowed are {', '.join(STRATEGIES)}")
        ranges = {
            "instances": (self.instances, 1, MOST_INSTANCES),
            "concurrent": (self.concurrent, 1, None),
            "payload_mb": (self.payload_mb, 1, MOST_PAYLOAD_MB),
            "invocation_seconds": (self.invocation_seconds, 1, MOST_INVOCATION_SECONDS),
            "retries": (self.retries, 0, MOST_RETRIES),
            "limit_hours": (self.limit_hours, 1, MOST_LIMIT_HOURS),
        }
        for name, (value, least, most) in ranges.items():
            if value is not None and (value < least or (most is not None and value > most)):
                allowed = f"{least} to {most:,}" if most is not None else f"{least} or more"
                raise TokenmillError(f"{name} is {value}; it must be {allowed}")

    def shape(self, serving: Serving) -> tuple[int, int]:
        """Return requests at once and the largest request in MB.

        Args:
            serving: What is served.

        Raises:
            TokenmillError: If SageMaker would not hold so much at once.
        """
        concurrent = self.concurrent or min(serving.max_sequences, MOST_PAYLOAD_MB)
        payload = self.payload_mb or min(USUAL_PAYLOAD_MB, max(1, MOST_PAYLOAD_MB // concurrent))
        if concurrent * payload > MOST_PAYLOAD_MB:
            raise TokenmillError(
                f"concurrent {concurrent} times payload_mb {payload} is {concurrent * payload} MB; SageMaker "
                f"holds {MOST_PAYLOAD_MB} MB at once, so give less of either"
            )
        return concurrent, payload


class BatchTransform(BatchJob):
    """Files of JSON lines in, files of JSON lines out; nothing runs and nothing costs between the jobs.

    An execution takes {"input": "input/<object or folder>", "output": "output/<folder>"}. For every input
    object there is one with .out behind its name, line for line. SageMaker stops at the first request that
    its retries do not mend and writes nothing of that file ("TransformOutput", Amazon SageMaker API
    Reference); where some requests may fail, use `AsyncFanOut`.

    Args:
        scope: The parent construct.
        id: The construct's id.
        serving: The model, the instance type and how the copy on an instance is cut.
        source: Where weights and image come from; the Hugging Face Hub otherwise.
        files: The bucket and its folders.
        job: How a job goes through its files.
        hosting: Role, network, keys, isolation, logs.

    Raises:
        TokenmillError: If batch transform does not have the instance type, the weights lie under a prefix
            of a bucket, or the parts do not fit each other.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        serving: Serving,
        source: ModelSource | None = None,
        files: BatchFiles | None = None,
        job: TransformJob | None = None,
        hosting: EndpointHosting | None = None,
    ) -> None:
        source, hosting = source or ModelSource.hugging_face(), hosting or EndpointHosting()
        job = job or TransformJob()
        region = cdk.Stack.of(scope).region
        _check(serving, source, hosting, region)
        check_same_region(
            region,
            {
                "files.bucket": None if files is None else files.bucket,
                "hosting.encryption_key": hosting.encryption_key,
            },
        )
        source.check_stack(cdk.Stack.of(scope))
        concurrent, payload = job.shape(serving)
        super().__init__(scope, id)
        self.serving, self.job, self.files = serving, job, files or BatchFiles()
        self.bucket = self.files.bucket_for(self)
        resolved = source.resolve(self, serving, region)
        self.role = hosting.role or self._role(source, resolved, hosting)
        self.model = self._model(resolved, hosting)
        parameters = self._parameters(concurrent, payload, hosting)
        self.state_machine = self._machine(
            _definition(self, parameters, job),
            kind="transform",
            description={
                "instance_type": serving.instance_type,
                "instance_count": job.instances,
                "limit_seconds": job.limit_hours * 3600,
                "about": f"{serving.model} over files of requests",
            },
            statements=self._statements(),
            hosting=hosting.functions,
        )
        acknowledge(self.state_machine.role, {any_resource(printed(self, self._jobs())): JOBS_REASON})
        self._warn()

    def _role(self, source: ModelSource, resolved: ResolvedSource, hosting: EndpointHosting) -> iam.Role:
        role = serving_role(
            self, "Role", image_repository_arns=[resolved.image_repository_arn], hosting=hosting
        )
        source.grant_read(role)
        self._grant_files(role, read_output=False)
        self._grant_key(role, actions.BATCH_OUTPUT_KEY)
        return role

    def _model(self, resolved: ResolvedSource, hosting: EndpointHosting) -> sagemaker.CfnModel:
        models = Models(self, role=self.role, hosting=hosting)
        model = models.model(resolved, environment(self.serving, resolved))
        model.add_metadata("tokenmill", metadata(self.serving))
        return model

    def _parameters(self, concurrent: int, payload: int, hosting: EndpointHosting) -> States:
        """Return the parameters of CreateTransformJob."""
        name, key = self.bucket.bucket_name, self.bucket.encryption_key
        volume = hosting.encryption_key
        return {
            "TransformJobName.$": f"States.Format('{JOB_PREFIX}-{{}}', States.UUID())",
            "ModelName": self.model.attr_model_name,
            "MaxConcurrentTransforms": concurrent,
            "MaxPayloadInMB": payload,
            "BatchStrategy": self.job.strategy,
            "ModelClientConfig": {
                "InvocationsTimeoutInSeconds": self.job.invocation_seconds,
                "InvocationsMaxRetries": self.job.retries,
            },
            "TransformInput": {
                "ContentType": "application/json"
                if self.job.strategy == "SingleRecord"
                else "application/jsonlines",
                "SplitType": "Line",
                "CompressionType": "None",
                "DataSource": {
                    "S3DataSource": {
                        "S3DataType": "S3Prefix",
                        "S3Uri.$": f"States.Format('s3://{name}/{{}}', $.input)",
                    }
                },
            },
            "TransformOutput": {
                "S3OutputPath.$": f"States.Format('s3://{name}/{{}}', $.output)",
                "Accept": "application/json",
                "AssembleWith": "Line",
                **({} if key is None else {"KmsKeyId": key.key_arn}),
            },
            "TransformResources": {
                "InstanceType": self.serving.instance_type,
                "InstanceCount": self.job.instances,
                **({} if volume is None else {"VolumeKmsKeyId": volume.key_arn}),
            },
            "Tags": [{"Key": "tokenmill:job", "Value": "transform"}],
        }

    def _jobs(self) -> str:
        return cdk.Stack.of(self).format_arn(
            service="sagemaker", resource="transform-job", resource_name=f"{JOB_PREFIX}-*"
        )

    def _statements(self) -> list[iam.PolicyStatement]:
        stack = cdk.Stack.of(self)
        rule = stack.format_arn(service="events", resource="rule", resource_name=EVENTS_RULE)
        return [
            iam.PolicyStatement(actions=list(actions.TRANSFORM_JOB_RUN), resources=[self._jobs()]),
            iam.PolicyStatement(actions=list(actions.TRANSFORM_JOB_LIST_TAGS), resources=["*"]),
            iam.PolicyStatement(actions=list(actions.JOB_EVENTS), resources=[rule]),
        ]

    def _warn(self) -> None:
        """Tell what no source shows and what is paid for unused."""
        serving, validations = self.serving, cdk.Validations.of(self)
        validations.add_warning(
            "tokenmill:TransformExperimental",
            f"no source shows image {serving.serving_image.key} under batch transform on "
            f"{serving.instance_type}: SageMaker does not say which driver its hosts there have, and the "
            f"image needs {serving.serving_image.driver_needed}",
        )
        if serving.chips < serving.instance.chips:
            validations.add_warning(
                "tokenmill:IdleChips",
                f"a job runs one copy an instance and {serving.instance_type} has {serving.instance.chips} "
                f"chips, of which the copy takes {serving.chips}; give a smaller type, or more "
                "tensor_parallel",
            )


def _definition(scope: BatchTransform, parameters: States, job: TransformJob) -> States:
    partition = cdk.Stack.of(scope).partition
    return {
        "Comment": "A SageMaker batch transform job, waited for",
        "StartAt": "Transform",
        "States": {
            "Transform": {
                "Type": "Task",
                "Resource": f"arn:{partition}:states:::sagemaker:createTransformJob.sync",
                "Parameters": parameters,
                "TimeoutSeconds": job.limit_hours * 3600,
                "ResultSelector": {"name.$": "$.TransformJobName", "status.$": "$.TransformJobStatus"},
                "ResultPath": "$.transform",
                "Catch": [
                    {"ErrorEquals": ["States.ALL"], "ResultPath": "$.failure", "Next": "TransformFailed"}
                ],
                "Next": "Transformed",
            },
            "Transformed": {"Type": "Succeed"},
            "TransformFailed": {
                "Type": "Fail",
                "ErrorPath": "$.failure.Error",
                "CausePath": "$.failure.Cause",
            },
        },
    }


def _check(serving: Serving, source: ModelSource, hosting: EndpointHosting, region: str) -> None:
    if serving.instance_type not in TRANSFORM_TYPES:
        raise TokenmillError(
            f"instance_type is {serving.instance_type!r}, which batch transform does not have; allowed are "
            f"{', '.join(TRANSFORM_TYPES)}; on other types use AsyncFanOut over an AsyncEndpoint"
        )
    if hosting.encryption_key is not None and serving.instance.local_nvme:
        raise TokenmillError(
            f"hosting.encryption_key is given, but {serving.instance_type} has local NVMe storage, which its "
            "hardware encrypts and for which SageMaker refuses a key; leave encryption_key out for this "
            "instance type"
        )
    if hosting.data_capture is not None:
        raise TokenmillError(
            "hosting.data_capture is given, but a batch transform job's input and output are in the bucket "
            "already; leave data_capture out"
        )
    if source.prefix is not None:
        # "ContainerDefinition" (Amazon SageMaker API Reference): "you cannot use ModelDataSource in
        # conjunction with SageMaker batch transform".
        raise TokenmillError(
            f"the source has weights under {source.prefix!r} of a bucket, which batch transform does not "
            "load; give ModelSource.hugging_face(), or ModelSource.in_image(), or use AsyncFanOut over an "
            "AsyncEndpoint, which loads them"
        )
    source.check(serving, isolated=hosting.isolated, region=region)
