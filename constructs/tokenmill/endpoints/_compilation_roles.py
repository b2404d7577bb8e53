"""Who may do what while a model is compiled, and afterwards: each role exactly its part."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Aws
from aws_cdk import aws_iam as iam

from tokenmill.endpoints._compilation import JOB_PREFIX
from tokenmill.security import actions
from tokenmill.security.acknowledge import acknowledge, any_resource
from tokenmill.security.printed import printed
from tokenmill_runtime.compiled_artifact import COMPILED_FOLDER, MANIFEST, PREFIX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aws_cdk import aws_s3 as s3
    from constructs import Construct

    from tokenmill.endpoints.compilation import CompiledModel

TRAINING_LOGS = "log-group:/aws/sagemaker/TrainingJobs"
TRAINING_NAMESPACE = "/aws/sagemaker/TrainingJobs"
EVENTS_RULE = "rule/StepFunctionsGetEventsForSageMakerTrainingJobsRule"
UNKEYED = (
    "Artifacts lie under a key that the image's digest decides, and a job's files under its name, which "
    "only a deployment and a run know."
)


def training_role(scope: Construct, id: str, *, compiled: CompiledModel) -> iam.Role:
    """Make the role of the job that compiles.

    Its actions are those of "CreateTrainingJob API: Execution Role Permissions" (Amazon SageMaker developer
    guide), less what a job without network cannot use.

    Args:
        scope: The parent construct.
        id: The construct's id.
        compiled: The compiled model.
    """
    role = iam.Role(
        scope,
        id,
        assumed_by=iam.ServicePrincipal("sagemaker.amazonaws.com"),
        description=f"Compiles {compiled.serving.model}: reads weights, writes what was compiled",
    )
    weights = compiled.weights
    if weights.bucket is not None:
        folder = f"{(weights.prefix or '').strip('/')}/*"
        _read(role, weights.bucket, objects=folder, listed=folder, read=actions.WEIGHTS_READ)
        key = weights.encryption_key or weights.bucket.encryption_key
        if key is not None:
            key.grant(role, *actions.OBJECT_KEY_READ)
    _allow_objects(role, actions.ARTIFACT_WRITE, compiled.bucket, f"{PREFIX}*")
    if compiled.encryption_key is not None:
        compiled.encryption_key.grant(role, *actions.OBJECT_KEY_WRITE)
    _allow(role, actions.IMAGE_PULL, compiled.serving_image.repository.repository_arn)
    _allow(role, actions.IMAGE_LOGIN, "*")
    group = f"arn:{Aws.PARTITION}:logs:{Aws.REGION}:{Aws.ACCOUNT_ID}:{TRAINING_LOGS}"
    _allow(role, actions.CONTAINER_LOGS, group, f"{group}:*")
    role.add_to_policy(
        iam.PolicyStatement(
            actions=list(actions.CONTAINER_METRICS),
            resources=["*"],
            conditions={"StringEquals": {"cloudwatch:namespace": TRAINING_NAMESPACE}},
        )
    )
    acknowledge(
        role,
        {
            any_resource(): "ecr:GetAuthorizationToken and cloudwatch:PutMetricData (in the namespace of "
            "training jobs) take no resource in a policy.",
            any_resource(
                f"arn:<AWS::Partition>:logs:<AWS::Region>:<AWS::AccountId>:{TRAINING_LOGS}:*"
            ): "SageMaker names the streams of a training job's log.",
        },
    )
    return role


def machine_role(scope: Construct, id: str, *, compiled: CompiledModel) -> iam.Role:
    """Make the role of the state machine.

    Its actions are those of "IAM policies for Amazon SageMaker", "Run a Job (.sync)" (AWS Step Functions
    developer guide), and sagemaker:AddTags, because Step Functions tags the jobs that it starts
    (aws/aws-cdk#32294).

    Args:
        scope: The parent construct.
        id: The construct's id.
        compiled: The compiled model.
    """
    role = iam.Role(
        scope,
        id,
        assumed_by=iam.ServicePrincipal("states.amazonaws.com"),
        description=f"Starts the job that compiles {compiled.serving.model}",
    )
    here = f"{Aws.REGION}:{Aws.ACCOUNT_ID}"
    jobs = f"arn:{Aws.PARTITION}:sagemaker:{here}:training-job/{JOB_PREFIX}*"
    _allow(role, (*actions.TRAINING_JOB_RUN, *actions.TRAINING_JOB_TAG), jobs)
    _allow(role, actions.TRAINING_JOB_LIST_TAGS, "*")
    _allow(role, actions.JOB_EVENTS, f"arn:{Aws.PARTITION}:events:{here}:{EVENTS_RULE}")
    role.add_to_policy(
        iam.PolicyStatement(
            actions=list(actions.PASS_ROLE),
            resources=[compiled.training_role.role_arn],
            conditions={"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
        )
    )
    _allow(role, actions.CALL_FUNCTION, compiled.function.function.function_arn)
    _allow(role, (*actions.STATE_MACHINE_LOGS, *actions.STATE_MACHINE_TRACES), "*")
    acknowledge(
        role,
        {
            any_resource(): "Log deliveries, resource policies, X-Ray and sagemaker:ListTags of a job that "
            "is yet to be made take no resource in a policy.",
            any_resource(
                f"arn:<AWS::Partition>:sagemaker:<AWS::Region>:<AWS::AccountId>:training-job/{JOB_PREFIX}*"
            ): "A job's name is made of the execution's, so only its beginning is known.",
        },
    )
    return role


def function_grants(role: iam.IRole, compiled: CompiledModel, *, write: bool) -> None:
    """Let a function find the image and its manifests, and write one where it records.

    Args:
        role: The function's role.
        compiled: The compiled model.
        write: Whether it records.
    """
    manifests = f"{PREFIX}*/{MANIFEST}"
    read = actions.MANIFEST_WRITE if write else actions.MANIFEST_READ
    _read(role, compiled.bucket, objects=manifests, listed=f"{PREFIX}*", read=read)
    if write:
        # What a job left, in its own folder below the key.
        left = f"{PREFIX}*/{COMPILED_FOLDER}/{MANIFEST}"
        _allow_objects(role, actions.MANIFEST_READ, compiled.bucket, left)
    if compiled.encryption_key is not None:
        names = actions.OBJECT_KEY_WRITE if write else actions.OBJECT_KEY_READ
        compiled.encryption_key.grant(role, *names)
    _allow(role, actions.IMAGE_DIGEST_READ, compiled.serving_image.repository.repository_arn)


def reader_grants(role: iam.IRole, compiled: CompiledModel, *, objects: str, read: Sequence[str]) -> None:
    """Let a role read artifacts.

    Args:
        role: The role.
        compiled: The compiled model.
        objects: Pattern of their names.
        read: The actions.
    """
    _read(role, compiled.bucket, objects=objects, listed=f"{PREFIX}*", read=read)
    if compiled.encryption_key is not None:
        compiled.encryption_key.grant(role, *actions.OBJECT_KEY_READ)


def _read(role: iam.IRole, bucket: s3.IBucket, *, objects: str, listed: str, read: Sequence[str]) -> None:
    _allow_objects(role, read, bucket, objects)
    role.add_to_principal_policy(
        iam.PolicyStatement(
            actions=list(actions.ARTIFACT_LIST),
            resources=[bucket.bucket_arn],
            conditions={"StringLike": {"s3:prefix": listed}},
        )
    )


def _allow_objects(role: iam.IRole, names: Sequence[str], bucket: s3.IBucket, pattern: str) -> None:
    _allow(role, names, bucket.arn_for_objects(pattern))
    finding = any_resource(f"{printed(role, bucket.bucket_arn)}/{pattern}")
    acknowledge(role, {finding: UNKEYED})


def _allow(role: iam.IRole, names: Sequence[str], *resources: str) -> None:
    role.add_to_principal_policy(iam.PolicyStatement(actions=list(names), resources=list(resources)))
