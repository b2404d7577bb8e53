"""Where weights and image come from: variables, rights, and what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_secretsmanager as secretsmanager

from support_stack import REGION, statements, template_of
from tokenmill.core.errors import TokenmillError
from tokenmill.core.images import image
from tokenmill.endpoints.model_source import ModelSource, PrivateImage
from tokenmill.endpoints.serving import Serving

if TYPE_CHECKING:
    from collections.abc import Callable

MODEL = "Qwen/Qwen3-8B"
DIGEST = f"sha256:{'a' * 64}"
NEURON = {"instance_type": "ml.inf2.24xlarge", "tensor_parallel": 4}
LMI = {"instance_type": "ml.g6.12xlarge", "tensor_parallel": 4}
VLLM = {**LMI, "image": "vllm-sagemaker"}


def serving(**changes: Any) -> Serving:
    fields: dict[str, Any] = {
        "model": MODEL,
        "max_sequences": 8,
        "context_tokens": 8192,
        **NEURON,
        **changes,
    }
    if isinstance(fields.get("image"), str):
        fields["image"] = image(fields["image"])
    return Serving(**fields)


def bucket(stack: cdk.Stack, region: str | None = None) -> s3.IBucket:
    return s3.Bucket.from_bucket_attributes(stack, "Weights", bucket_name="weights", region=region)


def repository(stack: cdk.Stack, region: str = REGION) -> ecr.IRepository:
    arn = f"arn:aws:ecr:{region}:123456789012:repository/serving"
    return ecr.Repository.from_repository_arn(stack, "Images", arn)


def resolved(stack: cdk.Stack, source: ModelSource, served: Serving) -> dict[str, str]:
    """The variables, without those that only the deployment resolves."""
    found: dict[str, str] = stack.resolve(source.resolve(stack, served, REGION).environment)
    return found


@pytest.mark.parametrize(
    ("kind", "variables"),
    [
        (NEURON, {"SM_ON_MODEL": MODEL, "SM_ON_REVISION": "main"}),
        (LMI, {"HF_MODEL_ID": MODEL, "HF_REVISION": "main", "OPTION_SERVED_MODEL_NAME": MODEL}),
        (VLLM, {"SM_VLLM_MODEL": MODEL, "SM_VLLM_REVISION": "main"}),
    ],
    ids=["optimum-neuron", "lmi", "vllm"],
)
def test_the_hub_s_model_is_named_as_each_image_reads_it(
    stack: cdk.Stack, kind: dict[str, Any], variables: dict[str, str]
) -> None:
    """By its name, at the revision that was asked for, with nothing that keeps it off the Hub."""
    source = ModelSource.hugging_face(revision="main")
    assert resolved(stack, source, serving(**kind)) == variables
    found = source.resolve(stack, serving(**kind), REGION)
    assert found.needs_internet
    assert found.s3_uri is None


@pytest.mark.parametrize(
    ("kind", "variables"),
    [
        (NEURON, {"SM_ON_MODEL": "/opt/ml/model", "SM_ON_SERVED_MODEL_NAME": MODEL}),
        (
            LMI,
            {
                "HF_MODEL_ID": "/opt/ml/model",
                "OPTION_SERVED_MODEL_NAME": MODEL,
                "HF_HUB_OFFLINE": "1",
            },
        ),
        (
            VLLM,
            {
                "SM_VLLM_MODEL": "/opt/ml/model",
                "SM_VLLM_SERVED_MODEL_NAME": MODEL,
                "HF_HUB_OFFLINE": "1",
            },
        ),
    ],
    ids=["optimum-neuron", "lmi", "vllm"],
)
def test_mounted_weights_are_a_folder_under_the_model_s_name(
    stack: cdk.Stack, kind: dict[str, Any], variables: dict[str, str]
) -> None:
    """Requests still say the Hub's name; only optimum-neuron may ask the Hub, for compiled graphs."""
    source = ModelSource.s3(bucket(stack), "models/qwen/")
    assert resolved(stack, source, serving(**kind)) == variables
    found = source.resolve(stack, serving(**kind), REGION)
    assert (found.s3_uri, found.needs_internet) == ("s3://weights/models/qwen/", False)


def test_an_export_needs_nothing_of_the_hub(stack: cdk.Stack) -> None:
    """Its compiled graphs lie beside its weights."""
    source = ModelSource.s3(bucket(stack), "models/qwen/").as_exported()
    assert resolved(stack, source, serving())["HF_HUB_OFFLINE"] == "1"


def test_weights_in_an_image_are_at_their_path(stack: cdk.Stack) -> None:
    """No model data, the private image, its repository for the role."""
    private = PrivateImage(repository=repository(stack), tag_or_digest="1.0")
    source = ModelSource.in_image("/opt/model", image=private)
    found = source.resolve(stack, serving(**VLLM), REGION)
    assert found.environment["SM_VLLM_MODEL"] == "/opt/model"
    assert found.s3_uri is None
    assert stack.resolve(found.image_uri)["Fn::Join"][1][-1].endswith("/serving:1.0")
    assert found.image_repository_arn == f"arn:aws:ecr:{REGION}:123456789012:repository/serving"


@pytest.mark.parametrize(
    ("given", "end"),
    [("1.0", ":1.0"), (DIGEST, f"@{DIGEST}"), (cdk.Token.as_string({"Ref": "Digest"}), "@")],
    ids=["tag", "digest", "token"],
)
def test_a_private_image_is_named_by_tag_or_digest(stack: cdk.Stack, given: str, end: str) -> None:
    """A token is a digest: a build gives digests."""
    made = PrivateImage(repository=repository(stack), tag_or_digest=given)
    parts = [part for part in stack.resolve(made.uri)["Fn::Join"][1] if isinstance(part, str)]
    assert parts[-1].endswith(end)


def test_the_token_is_a_dynamic_reference(stack: cdk.Stack) -> None:
    """CloudFormation resolves it; the template has no secret."""
    secret = secretsmanager.Secret.from_secret_name_v2(stack, "Token", "hub/token")
    found = resolved(stack, ModelSource.hugging_face(token=secret), serving())
    assert "{{resolve:secretsmanager:" in json.dumps(found["HF_TOKEN"])


def test_a_role_reads_the_prefix_and_nothing_else(stack: cdk.Stack) -> None:
    """Objects, the list of them, and the key."""
    key = kms.Key(stack, "Key")
    role = iam.Role(stack, "Serving", assumed_by=iam.ServicePrincipal("sagemaker.amazonaws.com"))
    ModelSource.s3(bucket(stack), "models/qwen/", encryption_key=key).grant_read(role)
    found = statements(template_of(stack), "Serving")
    assert [(item["Action"], item["Resource"]) for item in found[:2]] == [
        ("s3:GetObject", "arn:aws:s3:::weights/models/qwen/*"),
        ("s3:ListBucket", "arn:aws:s3:::weights"),
    ]
    assert found[1]["Condition"] == {"StringLike": {"s3:prefix": ["models/qwen/*"]}}
    assert found[2]["Action"] == "kms:Decrypt"
    assert len(found) == 3


def test_the_hub_needs_no_right(stack: cdk.Stack) -> None:
    """Nothing is granted for weights that come over the internet."""
    role = iam.Role(stack, "Serving", assumed_by=iam.ServicePrincipal("sagemaker.amazonaws.com"))
    ModelSource.hugging_face().grant_read(role)
    assert statements(template_of(stack), "Serving") == []


REFUSED: list[tuple[Callable[[cdk.Stack], object], str]] = [
    (lambda stack: ModelSource.s3(bucket(stack), "models/qwen"), "with a slash at its end"),
    (lambda stack: ModelSource.s3(bucket(stack), "/models/"), "none before"),
    (lambda stack: ModelSource.s3(bucket(stack), "s3://weights/models/"), "a folder inside the bucket"),
    (lambda stack: ModelSource.s3(bucket(stack), "models/qwen.tar.gz"), "an archive"),
    (lambda stack: ModelSource.s3(bucket(stack), cdk.Token.as_string({"Ref": "P"})), "prefix is a token"),
    (lambda stack: ModelSource.hugging_face(revision=" "), "revision is ' '"),
    (lambda stack: ModelSource.hugging_face(revision=cdk.Token.as_string({"Ref": "P"})), "revision is"),
    (
        lambda stack: PrivateImage(repository=repository(stack), tag_or_digest="sha256:abc"),
        "tag_or_digest is 'sha256:abc'",
    ),
    (
        lambda stack: ModelSource.in_image(
            "model", image=PrivateImage(repository=repository(stack), tag_or_digest="1")
        ),
        "path is 'model'",
    ),
]


@pytest.mark.parametrize(("make", "says"), REFUSED, ids=[says for _, says in REFUSED])
def test_fails_on_a_value_that_names_nothing(
    stack: cdk.Stack, make: Callable[[cdk.Stack], object], says: str
) -> None:
    """At the call, with the value and what would do."""
    with pytest.raises(TokenmillError, match=says):
        make(stack)


def test_fails_in_isolation_without_weights_at_hand(stack: cdk.Stack) -> None:
    """The Hub is out of reach; the ways out are named."""
    with pytest.raises(
        TokenmillError, match="no way to the Hugging Face Hub; give the source of a ModelMirror"
    ):
        ModelSource.hugging_face().check(serving(), isolated=True, region=REGION)


def test_fails_in_isolation_where_the_server_asks_the_hub(stack: cdk.Stack) -> None:
    """optimum-neuron looks for compiled graphs on the Hub and ends without an answer; exports need none."""
    plain = ModelSource.s3(bucket(stack), "models/qwen/")
    with pytest.raises(TokenmillError, match="asks the Hugging Face Hub for compiled graphs"):
        plain.check(serving(), isolated=True, region=REGION)
    plain.check(serving(), isolated=False, region=REGION)
    plain.as_exported().check(serving(), isolated=True, region=REGION)
    plain.check(serving(**LMI), isolated=True, region=REGION)


def test_fails_on_another_region_s_bucket_or_repository(stack: cdk.Stack) -> None:
    """SageMaker loads both from its own region; a region that is not known is let through."""
    far = ModelSource.s3(bucket(stack, "eu-west-1"), "models/qwen/")
    with pytest.raises(TokenmillError, match="the bucket is in eu-west-1, but the endpoint is in us-east-1"):
        far.check(serving(), isolated=False, region=REGION)
    far.check(serving(), isolated=False, region=cdk.Aws.REGION)
    private = PrivateImage(repository=repository(stack, "eu-west-1"), tag_or_digest="1.0")
    with pytest.raises(TokenmillError, match="the repository is in eu-west-1.*replicate the image"):
        ModelSource.hugging_face(image=private).check(serving(), isolated=False, region=REGION)


def test_fails_on_an_image_that_has_to_be_built(stack: cdk.Stack) -> None:
    """The public gallery is no registry that an endpoint pulls from."""
    trn2 = serving(instance_type="ml.trn2.48xlarge", tensor_parallel=4)
    source = ModelSource.hugging_face()
    with pytest.raises(TokenmillError, match="build it with ServingImage"):
        source.check(trn2, isolated=False, region=REGION)
    private = PrivateImage(repository=repository(stack), tag_or_digest=DIGEST)
    source.with_image(private).check(trn2, isolated=False, region=REGION)


def test_several_problems_are_told_at_once(stack: cdk.Stack) -> None:
    """One line each."""
    private = PrivateImage(repository=repository(stack, "eu-west-1"), tag_or_digest="1.0")
    source = ModelSource.s3(bucket(stack, "eu-west-1"), "models/qwen/", image=private)
    with pytest.raises(TokenmillError) as found:
        source.check(serving(), isolated=True, region=REGION)
    assert len(str(found.value).splitlines()) == 3
