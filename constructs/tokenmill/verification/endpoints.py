"""SageMaker endpoints that probes look at."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokenmill.core.errors import TokenmillError
from tokenmill.core.images import serving_image
from tokenmill.core.instances import instance_type
from tokenmill.verification.line import Deployment
from tokenmill.verification.lines import FOOTPRINTS
from tokenmill.verification.probe import create_bucket, create_role

if TYPE_CHECKING:
    from tokenmill.verification.aws import Aws

MODEL = "Qwen/Qwen3-0.6B"
VARIANT = "probe"
MODEL_KEY, MODEL_PROGRAM = "model.tar.gz", "code/inference.py"
EMF_NAMESPACE = "tokenmill-verify"
EMF_METRIC = "Printed"
# Variables of this prefix are counted in each line that the container prints, under the other name.
FILLER, FILLERS = "TOKENMILL_FILLER_", "Fillers"
ROLE_ACTIONS = (
    "ecr:GetAuthorizationToken", "ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer",
    "ecr:BatchGetImage", "logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents",
    "logs:DescribeLogStreams",
    "cloudwatch:PutMetricData", "s3:GetObject", "s3:ListBucket",
)  # fmt: skip
_ENDPOINT_SECONDS = 30 * 60
_COMPONENT_SECONDS = 50 * 60
_STARTUP_SECONDS = 2400
MEMORY_MIB = 8192
METRICS = {
    "EnableEnhancedMetrics": True,
    "EnableDetailedObservability": True,
    "MetricPublishFrequencyInSeconds": 10,
}
# Registry accounts of sagemaker-scikit-learn 1.2-1: aws/sagemaker-python-sdk@0828818,
# src/sagemaker/image_uri_config/sklearn.json (Apache-2.0).
_SKLEARN_ACCOUNTS = {
    "eu-central-1": "492215442770", "eu-west-1": "141502667606", "us-east-1": "683313688378",
    "us-east-2": "257758044811", "us-west-2": "246618743249",
}  # fmt: skip
# scikit-learn's container passes its workers' output on as it is; the Java front ends of others prefix it.
_PRINTING_MODEL = """\
import json, os, sys, threading, time

def say():
    while True:
        directive = {{"Namespace": "{namespace}", "Dimensions": [["Run"]],
                     "Metrics": [{{"Name": "{metric}", "Unit": "Count"}}]}}
        emf = {{"_aws": {{"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [directive]}},
               "Run": os.environ["TOKENMILL_RUN"], "{metric}": 1,
               "{fillers}": sum(name.startswith("{filler}") for name in os.environ)}}
        sys.stdout.write(json.dumps(emf) + chr(10))
        sys.stdout.flush()
        time.sleep(10)

def model_fn(model_dir):
    threading.Thread(target=say, daemon=True).start()
    return None

def predict_fn(data, model):
    return [0]
"""


@dataclass(frozen=True, slots=True)
class Status:
    """How a component or endpoint ended up.

    Args:
        value: SageMaker's word for it.
        reason: SageMaker's reason of a failure, or empty.
    """

    value: str
    reason: str

    @property
    def in_service(self) -> bool:
        """Whether it serves."""
        return self.value == "InService"


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """What one copy of a component runs and takes.

    Args:
        image: The container's image.
        environment: The container's environment.
        devices: `NumberOfAcceleratorDevicesRequired`.
        memory_mib: `MinMemoryRequiredInMb`.
        start_seconds: How long it may take to answer its first health check.
    """

    image: str
    environment: dict[str, str]
    devices: int
    memory_mib: int
    start_seconds: int = _STARTUP_SECONDS


def small_copy(aws: Aws, deployment: Deployment, *, devices: int, memory_mib: int = MEMORY_MIB) -> Copy:
    """Return a copy of a small model on a deployment's instance type.

    Args:
        aws: The run.
        deployment: Where it is to run.
        devices: `NumberOfAcceleratorDevicesRequired`.
        memory_mib: `MinMemoryRequiredInMb`.

    Raises:
        TokenmillError: The image is not in the region.
    """
    kind = instance_type(FOOTPRINTS[deployment].instance)
    image = serving_image(kind, aws.region)
    environment = image.environment(
        model=MODEL, max_sequences=1, context_tokens=2048, tensor_parallel=kind.accelerator.cores_per_chip
    )
    return Copy(image=image.uri(aws.region), environment=environment, devices=devices, memory_mib=memory_mib)


def create_accelerated_endpoint(aws: Aws, deployment: Deployment, suffix: str) -> str:
    """Create an endpoint with one accelerated instance and every metric on; return its name when it serves.

    Args:
        aws: The run.
        deployment: Whose instance type.
        suffix: What it is for.

    Raises:
        TokenmillError: The image is not in the region, or the endpoint failed.
    """
    kind = FOOTPRINTS[deployment].instance
    image = serving_image(instance_type(kind), aws.region)
    role = create_role(aws, suffix, service="sagemaker.amazonaws.com", actions=ROLE_ACTIONS)
    name = aws.name(suffix)
    variant = {**component_variant(kind), "InferenceAmiVersion": image.host_ami}
    create_endpoint(aws, name, variant, ExecutionRoleArn=role, MetricsConfig=METRICS)
    return name


def component_variant(kind: str) -> dict[str, Any]:
    """Return a variant for inference components: it names no model.

    Args:
        kind: Its instance type.
    """
    return {
        "VariantName": VARIANT,
        "InstanceType": kind,
        "InitialInstanceCount": 1,
        "RoutingConfig": {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"},
    }


def create_component(
    aws: Aws, endpoint: str, suffix: str, copy: Copy, *, model: str = ""
) -> tuple[str, Status]:
    """Create an inference component of one copy, and return its name and how it ended up.

    Args:
        aws: The run.
        endpoint: The endpoint's name.
        suffix: What it is for.
        copy: What it runs and takes.
        model: Name of a model in place of the copy's image and environment.
    """
    container = {"Container": {"Image": copy.image, "Environment": copy.environment}}
    name = aws.name(suffix)
    aws.declare("log-group", f"/aws/sagemaker/InferenceComponents/{name}")
    aws.declare("inference-component", name)
    client = aws.client("sagemaker")
    client.create_inference_component(
        InferenceComponentName=name,
        EndpointName=endpoint,
        VariantName=VARIANT,
        Specification={
            **({"ModelName": model} if model else container),
            "StartupParameters": {"ContainerStartupHealthCheckTimeoutInSeconds": copy.start_seconds},
            "ComputeResourceRequirements": {
                "NumberOfAcceleratorDevicesRequired": copy.devices,
                "MinMemoryRequiredInMb": copy.memory_mib,
            },
        },
        RuntimeConfig={"CopyCount": 1},
        Tags=aws.tags,
    )

    def look() -> Status | None:
        found = client.describe_inference_component(InferenceComponentName=name)
        status = Status(found["InferenceComponentStatus"], found.get("FailureReason", ""))
        return None if status.value == "Creating" else status

    seconds = _COMPONENT_SECONDS + max(0, copy.start_seconds - _STARTUP_SECONDS)
    status: Status = aws.wait(f"inference component {name}", look, seconds=seconds)
    return name, status


def create_printing_endpoint(aws: Aws) -> str:
    """Create a small endpoint whose container prints embedded metric format; return its name when it serves.

    Args:
        aws: The run.

    Raises:
        TokenmillError: The region's registry is not known, or the endpoint failed.
    """
    image = sklearn_image(aws)
    role = create_role(aws, "printing", service="sagemaker.amazonaws.com", actions=ROLE_ACTIONS)
    bucket = upload_model(aws)
    name = aws.name("printing")
    container = {
        "Image": image,
        "ModelDataUrl": model_data(bucket),
        "Environment": sklearn_environment(aws),
    }
    client = aws.client("sagemaker")
    aws.declare("model", name)
    aws.settle(
        lambda: client.create_model(
            ModelName=name, PrimaryContainer=container, ExecutionRoleArn=role, Tags=aws.tags
        ),
        codes=("ValidationException",),
    )
    kind = FOOTPRINTS[Deployment.LOG_ENDPOINT].instance
    variant = {"VariantName": VARIANT, "ModelName": name, "InstanceType": kind, "InitialInstanceCount": 1}
    create_endpoint(aws, name, variant)
    return name


def sklearn_image(aws: Aws) -> str:
    """Return the name of scikit-learn's image, which starts in minutes on a host without accelerator.

    Args:
        aws: The run.

    Raises:
        TokenmillError: The region's registry is not known.
    """
    if aws.region not in _SKLEARN_ACCOUNTS:
        regions = ", ".join(_SKLEARN_ACCOUNTS)
        raise TokenmillError(
            f"no scikit-learn image is known in {aws.region}; use --region with one of {regions}"
        )
    registry = f"{_SKLEARN_ACCOUNTS[aws.region]}.dkr.ecr.{aws.region}.amazonaws.com"
    return f"{registry}/sagemaker-scikit-learn:1.2-1-cpu-py3"


def sklearn_environment(aws: Aws, *, program: str = "inference.py") -> dict[str, str]:
    """Return the environment of scikit-learn's container.

    Args:
        aws: The run.
        program: The file that it loads; one that is not there keeps it from starting.
    """
    return {
        "SAGEMAKER_PROGRAM": program,
        "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
        "TOKENMILL_RUN": aws.run,
    }


def model_data(bucket: str) -> str:
    """Return where `upload_model` puts the model.

    Args:
        bucket: The bucket's name.
    """
    return f"s3://{bucket}/{MODEL_KEY}"


def ask(
    aws: Aws, endpoint: str, component: str, *, model: str | None = MODEL, **options: Any
) -> dict[str, Any]:
    """Ask a served model one question and return its answer.

    Args:
        aws: The run.
        endpoint: The endpoint's name.
        component: The component's name.
        model: What the body names as the model; None leaves it out, as the gateway does.
        **options: More of the body.

    Raises:
        TokenmillError: The answer is not a JSON object.
    """
    body: dict[str, Any] = {
        "messages": [{"role": "user", "content": "Say yes."}],
        "max_tokens": 16,
        **options,
    }
    if model is not None:
        body["model"] = model
    answer = aws.client("sagemaker-runtime").invoke_endpoint(
        EndpointName=endpoint,
        InferenceComponentName=component,
        ContentType="application/json",
        Body=json.dumps(body).encode(),
    )
    content = answer["Body"].read()
    try:
        document = json.loads(content)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise TokenmillError(f"component {component} answered {content[:80]!r}, which is not a JSON object")
    return document


def archive(files: dict[str, bytes]) -> bytes:
    """Return files as a compressed archive, as SageMaker takes models and adapters.

    Args:
        files: Contents by path.
    """
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as written:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            written.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def printing_model() -> str:
    """Return a program that prints a line of embedded metric format every ten seconds."""
    return _PRINTING_MODEL.format(namespace=EMF_NAMESPACE, metric=EMF_METRIC, filler=FILLER, fillers=FILLERS)


def upload_model(aws: Aws, *, program: str = "") -> str:
    """Put a model into a bucket of its own; return the bucket's name.

    Args:
        aws: The run.
        program: What scikit-learn's container runs; one that prints embedded metric format otherwise.
    """
    source = program or printing_model()
    bucket = create_bucket(aws, "model")
    content = archive({MODEL_PROGRAM: source.encode()})
    aws.client("s3").put_object(Bucket=bucket, Key=MODEL_KEY, Body=content)
    return bucket


def create_endpoint(aws: Aws, name: str, variant: dict[str, Any], **config: Any) -> None:
    """Create an endpoint of one variant and wait until it serves.

    Args:
        aws: The run.
        name: Its name, and its configuration's.
        variant: The variant.
        **config: More of the configuration.

    Raises:
        TokenmillError: The endpoint failed.
    """
    client = aws.client("sagemaker")
    aws.declare("log-group", f"/aws/sagemaker/Endpoints/{name}")
    aws.declare("endpoint-config", name)
    aws.settle(
        lambda: client.create_endpoint_config(
            EndpointConfigName=name, ProductionVariants=[variant], Tags=aws.tags, **config
        ),
        codes=("ValidationException",),
    )
    aws.declare("endpoint", name)
    client.create_endpoint(EndpointName=name, EndpointConfigName=name, Tags=aws.tags)

    def look() -> Status | None:
        found = client.describe_endpoint(EndpointName=name)
        status = Status(found["EndpointStatus"], found.get("FailureReason", ""))
        return None if status.value == "Creating" else status

    status: Status = aws.wait(f"endpoint {name}", look, seconds=_ENDPOINT_SECONDS)
    if not status.in_service:
        raise TokenmillError(f"endpoint {name} is {status.value}: {status.reason}")
