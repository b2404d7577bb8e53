"""The thin image on Trainium2: built as ServingImage builds it, served, and served compiled."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokenmill.core._option_rendering import option_environment
from tokenmill.core.engine_options import EngineOptions, SpeculativeDraft
from tokenmill.core.errors import TokenmillError
from tokenmill.core.images import image
from tokenmill.core.instances import instance_type
from tokenmill.verification import endpoints, looking, served, small_host
from tokenmill.verification.line import Deployment
from tokenmill.verification.lines import FOOTPRINTS
from tokenmill.verification.probe import Outcome, Verdict, create_role, holds

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tokenmill.verification.aws import Aws

DEPLOYMENT = Deployment.TRAINIUM_ENDPOINT
KEY = "0" * 64
# The smallest Qwen3 that has a public draft.
TARGET, DRAFT = "Qwen/Qwen3-1.7B", "AngelSlim/Qwen3-1.7B_eagle3"
_BUILD_MINUTES, _JOB_SECONDS, _START_SECONDS = 50, 3600, 3600
_BUILD_ACTIONS = (
    "logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents", "s3:GetObject", "s3:PutObject",
    "ecr:GetAuthorizationToken", "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage",
    "ecr:CompleteLayerUpload", "ecr:DescribeImages", "ecr:GetDownloadUrlForLayer", "ecr:InitiateLayerUpload",
    "ecr:PutImage", "ecr:UploadLayerPart",
)  # fmt: skip
_WEIGHTS = (
    "pip install --quiet huggingface_hub",
    'python -c "from huggingface_hub import snapshot_download; '
    f"snapshot_download({endpoints.MODEL!r}, local_dir='/tmp/w')\"",
    'aws s3 cp --quiet --recursive --exclude ".cache/*" /tmp/w "s3://$BUCKET/weights/"',
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What the copies are made from.

    Args:
        image: The built image, by digest.
        host: Role and bucket.
    """

    image: str
    host: small_host.Host

    def address(self, prefix: str) -> str:
        """Return an address in the bucket.

        Args:
            prefix: What stands there.
        """
        return f"s3://{self.host.bucket}/{prefix}/"


def trainium_lines(aws: Aws, wanted: Collection[str]) -> Iterator[tuple[str, Outcome]]:
    """Build the image, serve a small model with it, and serve what a training job compiled.

    Args:
        aws: The run.
        wanted: Ids of the lines that were asked for.

    Raises:
        TokenmillError: The build or the endpoint failed.
    """
    host = small_host.create_host(aws, "trainium")
    place = Place(image=_build(aws, host), host=host)
    role = create_role(
        aws, "trainium-hosts", service="sagemaker.amazonaws.com", actions=endpoints.ROLE_ACTIONS
    )
    kind = FOOTPRINTS[DEPLOYMENT].instance
    ami = image("tokenmill-vllm-neuronx").host_ami
    compiled = _compile(aws, place) if "trn2-artifact-reuse" in wanted else {}
    endpoint = aws.name("trainium")
    variant = {**endpoints.component_variant(kind), "InferenceAmiVersion": ami}
    endpoints.create_endpoint(aws, endpoint, variant, ExecutionRoleArn=role)
    if "trn2-thin-image" in wanted:
        component, status = _serve(aws, place, endpoint, "plain", place.address("weights"))
        yield "trn2-thin-image", served.image_driver(aws, endpoint, component, status)
        served.delete(aws, component)
    if "trn2-eagle3" in wanted:
        option = _speculation()
        component, status = _serve(
            aws, place, endpoint, "eagle3", place.address("weights"), **option.environment
        )
        yield "trn2-eagle3", served.accepts(aws, endpoint, component, status, option)
        served.delete(aws, component)
    if compiled:
        yield "trn2-artifact-reuse", _reuse(aws, place, endpoint, compiled)


def _build(aws: Aws, host: small_host.Host) -> str:
    """Build with the construct's own commands and files, and return the image's name by digest."""
    # The construct brings the CDK along, which takes seconds; only this probe needs it.
    from tokenmill.endpoints.serving_image import COMMANDS, DIGEST, content_files, content_tag
    from tokenmill.security.code import runtime_root

    base = image("aws-vllm-neuronx")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in content_files():
            archive.writestr(path.relative_to(runtime_root()).as_posix(), path.read_bytes())
    aws.client("s3").put_object(Bucket=host.bucket, Key="source.zip", Body=packed.getvalue())
    repository = aws.name("image")
    aws.declare("repository", repository)
    uri: str = aws.client("ecr").create_repository(repositoryName=repository, tags=aws.tags)["repository"][
        "repositoryUri"
    ]
    spec = {
        "version": "0.2",
        "env": {"shell": "bash", "exported-variables": [DIGEST]},
        "phases": {"build": {"on-failure": "ABORT", "commands": [*COMMANDS, *_WEIGHTS]}},
    }
    values = {
        "BASE": f"{base.repository}:{base.tag}",
        "TAG": content_tag(base),
        "REPOSITORY": repository,
        "REPOSITORY_URI": uri,
        "BUCKET": host.bucket,
    }
    found = _run_build(aws, host, spec, values)
    made = {item["name"]: item.get("value", "") for item in found.get("exportedEnvironmentVariables", [])}
    if found["buildStatus"] != "SUCCEEDED" or not made.get(DIGEST):
        raise TokenmillError(f"build {found['id']} is {found['buildStatus']}; see its log")
    return f"{uri}@{made[DIGEST]}"


def _run_build(
    aws: Aws, host: small_host.Host, spec: dict[str, Any], values: dict[str, str]
) -> dict[str, Any]:
    from tokenmill.endpoints.build_run import IMAGE

    name, client = aws.name("image"), aws.client("codebuild")
    role = create_role(aws, "image", service="codebuild.amazonaws.com", actions=_BUILD_ACTIONS)
    aws.declare("log-group", f"/aws/codebuild/{name}")
    aws.declare("build-project", name)
    aws.settle(
        lambda: client.create_project(
            name=name,
            source={
                "type": "S3",
                "location": f"{host.bucket}/source.zip",
                "buildspec": json.dumps(spec),
            },
            artifacts={"type": "NO_ARTIFACTS"},
            environment={
                "type": "LINUX_CONTAINER",
                "image": IMAGE,
                "computeType": "BUILD_GENERAL1_LARGE",
                "privilegedMode": True,
                "environmentVariables": [
                    {"name": key, "value": value, "type": "PLAINTEXT"} for key, value in values.items()
                ],
            },
            serviceRole=role,
            timeoutInMinutes=_BUILD_MINUTES,
            tags=[{"key": tag["Key"], "value": tag["Value"]} for tag in aws.tags],
        ),
        codes=("InvalidInputException",),
    )
    build = client.start_build(projectName=name)["build"]["id"]

    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = client.batch_get_builds(ids=[build])["builds"][0]
        return None if found["buildStatus"] == "IN_PROGRESS" else found

    found: dict[str, Any] = aws.wait(f"build {build}", look, seconds=_BUILD_MINUTES * 60)
    return found


def _environment() -> dict[str, str]:
    kind = instance_type(FOOTPRINTS[DEPLOYMENT].instance)
    plain = image("tokenmill-vllm-neuronx").environment(
        model="/opt/ml/model",
        max_sequences=1,
        context_tokens=2048,
        tensor_parallel=kind.accelerator.cores_per_chip,
    )
    own = {"SM_VLLM_MODEL": "/opt/ml/model", "SM_VLLM_SERVED_MODEL_NAME": endpoints.MODEL}
    return {**plain, **own, "HF_HUB_OFFLINE": "1"}


def _speculation() -> served.Option:
    """Return the option as LlmEndpoint renders it, of a model and a draft that come from the Hub."""
    options = EngineOptions(speculative=SpeculativeDraft(method="eagle3", model=DRAFT, tokens=3))
    environment = option_environment(options, image("tokenmill-vllm-neuronx"))
    # vLLM prints these metrics of requests that it has speculated for (vllm-project/vllm: v1/spec_decode).
    return served.Option(
        environment={**environment, "SM_VLLM_MODEL": TARGET, "HF_HUB_OFFLINE": "0"},
        shown=("SpecDecoding metrics",),
        otherwise="speculative_config=None",
        word="specul|eagle|draft",
    )


def _compile(aws: Aws, place: Place) -> dict[str, Any]:
    """Run the training job that CompiledModel runs, and return how it ended."""
    job, client = aws.name("compile"), aws.client("sagemaker")
    aws.declare("training-job", job)
    source = {
        "S3DataType": "S3Prefix",
        "S3Uri": place.address("weights"),
        "S3DataDistributionType": "FullyReplicated",
    }
    client.create_training_job(
        TrainingJobName=job,
        AlgorithmSpecification={"TrainingImage": place.image, "TrainingInputMode": "File"},
        RoleArn=place.host.role,
        InputDataConfig=[
            {"ChannelName": "model", "InputMode": "File", "DataSource": {"S3DataSource": source}}
        ],
        OutputDataConfig={"S3OutputPath": place.address("compiled"), "CompressionType": "NONE"},
        ResourceConfig={
            "InstanceType": FOOTPRINTS[DEPLOYMENT].instance,
            "InstanceCount": 1,
            "VolumeSizeInGB": 100,
        },
        StoppingCondition={"MaxRuntimeInSeconds": _JOB_SECONDS},
        EnableNetworkIsolation=True,
        Environment={**_environment(), "TOKENMILL_ARTIFACT_KEY": KEY},
        Tags=aws.tags,
    )

    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = client.describe_training_job(TrainingJobName=job)
        return None if found["TrainingJobStatus"] in ("InProgress", "Stopping") else found

    found: dict[str, Any] = aws.wait(f"job {job}", look, seconds=_JOB_SECONDS)
    return found


def _serve(
    aws: Aws, place: Place, endpoint: str, suffix: str, weights: str, **environment: str
) -> tuple[str, endpoints.Status]:
    """Create a component of a model whose weights stand uncompressed under a prefix."""
    container = {
        "Image": place.image,
        "Environment": {**_environment(), **environment},
        "ModelDataSource": {
            "S3DataSource": {"S3Uri": weights, "S3DataType": "S3Prefix", "CompressionType": "None"}
        },
    }
    model = small_host.create_model(aws, suffix, container, place.host.role)
    copy = endpoints.Copy(
        image="", environment={}, devices=1, memory_mib=endpoints.MEMORY_MIB, start_seconds=_START_SECONDS
    )
    return endpoints.create_component(aws, endpoint, suffix, copy, model=model)


def _reuse(aws: Aws, place: Place, endpoint: str, job: dict[str, Any]) -> Outcome:
    status, reason = job["TrainingJobStatus"], job.get("FailureReason", "")
    seen: dict[str, Any] = {"job": status, "job_failure": reason}
    if status != "Completed":
        return Outcome(Verdict.UNCLEAR if "capacity" in reason.lower() else Verdict.FAILS, seen)
    weights = job["ModelArtifacts"]["S3ModelArtifacts"].rstrip("/") + "/"
    # Where an artifact is served, the image makes every graph that is missing an error, so that a copy which
    # starts has compiled nothing.
    component, served_as = _serve(aws, place, endpoint, "compiled", weights, TOKENMILL_ARTIFACT_KEY=KEY)
    seen |= {"artifact": weights, "status": served_as.value, "failure_reason": served_as.reason}
    seen["log"] = looking.log_lines(aws, looking.component_log(component))
    return Outcome(holds(served_as.in_service), seen)
