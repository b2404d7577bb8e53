"""A serving image of the account's own, built at deployment from one that no endpoint can pull or start."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_iam as iam
from constructs import Construct

from tokenmill.core._checks import whole
from tokenmill.core.errors import TokenmillError
from tokenmill.core.images import CatalogImage, image
from tokenmill.endpoints.build_run import BuildJob, BuildRun
from tokenmill.endpoints.model_source import PrivateImage
from tokenmill.security import actions
from tokenmill.security.acknowledge import acknowledge, any_resource
from tokenmill.security.code import PACKAGE, runtime_root
from tokenmill.security.hosting import FunctionHosting

if TYPE_CHECKING:
    from pathlib import Path

    from aws_cdk import aws_kms as kms

BUILT_IMAGE = "tokenmill-vllm-neuronx"
"""The catalog's row for what this construct builds."""
PUBLIC_REGISTRY = "public.ecr.aws/"
# What the image gets of the runtime package: the program and the key formula that it shares with the stack.
PARTS = ("__init__.py", "compiled_artifact.py", "serving_image")
DIGEST = "IMAGE_DIGEST"
MOST_IMAGES = 1000
# "Lambda limits" do not bind a build: pulling and pushing some 10 GB takes minutes, not an hour.
BUILD_MINUTES = 50


class ServingImage(Construct):
    """A thin image that serves as SageMaker asks, on top of AWS's vLLM-Neuron image.

    AWS publishes that image on its public gallery only, and it starts whatever it is told to (entrypoint
    vllm_entrypoint.py of aws-neuron/deep-learning-containers), while an endpoint pulls from Amazon ECR, runs
    `serve` and asks GET /ping and POST /invocations on port 8080 ("Use Your Own Inference Code with Hosting
    Services", Amazon SageMaker developer guide). CodeBuild builds it when the stack is created and whenever
    its content changes; the tag is a hash of that content, so one that exists is never built again.

    Experimental: nobody has served it on an account yet.

    Args:
        scope: The parent construct.
        id: The construct's id.
        base: The catalog's image to build from, one that stands on the public gallery.
        encryption_key: The key of the repository; ECR's own encryption otherwise. It cannot change later.
        keep_images: How many built images the repository keeps, 2 to 1,000; older ones go.
        hosting: Logs, keys and retention of the build and of the function that starts it; an ephemeral one
            lets the repository go with the stack.

    Raises:
        TokenmillError: If the base is not on the public gallery, or the number of images is out of bounds.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        base: str = "aws-vllm-neuronx",
        encryption_key: kms.IKey | None = None,
        keep_images: int = 20,
        hosting: FunctionHosting | None = None,
    ) -> None:
        self.base = _base(base)
        if not 2 <= whole("keep_images", keep_images) <= MOST_IMAGES:
            raise TokenmillError(
                f"keep_images is {keep_images}; it must be 2 to {MOST_IMAGES}, so that the image before an "
                "update is there to roll back to"
            )
        hosting = hosting or FunctionHosting()
        super().__init__(scope, id)
        self.repository = self._repository(encryption_key, keep_images, ephemeral=hosting.ephemeral)
        self.tag = content_tag(self.base)
        self.build = self._build(hosting)
        self._grant_push(encryption_key)
        cdk.Validations.of(self).add_warning(
            "tokenmill:ServingImageExperimental",
            f"an image built from {self.base.key} is experimental: it has not been served on an account yet; "
            "docs/unverified.md lists what is open",
        )

    @property
    def digest(self) -> str:
        """The image's digest, as a token: "sha256:" and 64 hexadecimal digits."""
        return self.build.get(DIGEST)

    @property
    def uri(self) -> str:
        """The image's full name by digest, as a token."""
        return f"{self.repository.repository_uri}@{self.digest}"

    @property
    def image(self) -> PrivateImage:
        """What an endpoint of the same stack takes: the image by digest."""
        return PrivateImage(repository=self.repository, tag_or_digest=self.digest)

    @property
    def tagged_image(self) -> PrivateImage:
        """What an endpoint of another stack takes: the image by its tag, which nobody can move.

        A digest would be an export that CloudFormation refuses to change while the other stack imports it.
        """
        return PrivateImage(repository=self.repository, tag_or_digest=self.tag)

    def _repository(
        self, encryption_key: kms.IKey | None, keep_images: int, *, ephemeral: bool
    ) -> ecr.Repository:
        kind = ecr.RepositoryEncryption.KMS if encryption_key else ecr.RepositoryEncryption.AES_256
        return ecr.Repository(
            self,
            "Repository",
            empty_on_delete=ephemeral,
            encryption=kind,
            encryption_key=encryption_key,
            image_scan_on_push=True,
            image_tag_mutability=ecr.TagMutability.IMMUTABLE,
            lifecycle_rules=[
                ecr.LifecycleRule(
                    description="builds that were cut off",
                    max_image_age=cdk.Duration.days(1),
                    rule_priority=1,
                    tag_status=ecr.TagStatus.UNTAGGED,
                ),
                ecr.LifecycleRule(description="old images", max_image_count=keep_images, rule_priority=2),
            ],
            removal_policy=cdk.RemovalPolicy.DESTROY if ephemeral else cdk.RemovalPolicy.RETAIN,
        )

    def _build(self, hosting: FunctionHosting) -> BuildRun:
        return BuildRun(
            self,
            "Build",
            build=BuildJob(
                description=f"Builds the serving image from {self.base.repository}",
                commands=COMMANDS,
                outputs=(DIGEST,),
                source=runtime_root(),
                exclude=_exclude(),
                environment={
                    "BASE": f"{self.base.repository}:{self.base.tag}",
                    "TAG": self.tag,
                    "REPOSITORY": self.repository.repository_name,
                    "REPOSITORY_URI": self.repository.repository_uri,
                },
                privileged=True,
                compute="BUILD_GENERAL1_LARGE",
                timeout_minutes=BUILD_MINUTES,
            ),
            properties={"Tag": self.tag, "Repository": self.repository.repository_name},
            hosting=hosting,
        )

    def _grant_push(self, encryption_key: kms.IKey | None) -> None:
        role = self.build.role
        for names, resource in (
            (actions.IMAGE_PUSH, self.repository.repository_arn),
            (actions.IMAGE_LOGIN, "*"),
        ):
            role.add_to_policy(iam.PolicyStatement(actions=list(names), resources=[resource]))
        if encryption_key is not None:
            encryption_key.grant(role, *actions.OBJECT_KEY_WRITE)
        acknowledge(role, {any_resource(): "ecr:GetAuthorizationToken takes no resource in a policy."})


# CodeBuild's shell is sh; each command is one step of the buildspec and shares its variables.
COMMANDS = (
    'digest() { aws ecr describe-images --repository-name "$REPOSITORY" --image-ids imageTag="$TAG" '
    "--query 'imageDetails[0].imageDigest' --output text; }",
    'if digest > /dev/null 2>&1; then echo "$TAG is built already"; else '
    'aws ecr get-login-password | docker login --username AWS --password-stdin "${REPOSITORY_URI%%/*}" && '
    f"docker build --platform linux/amd64 --file {PACKAGE}/serving_image/Dockerfile "
    '--build-arg BASE="$BASE" --build-arg CONTENT="$TAG" --tag "$REPOSITORY_URI:$TAG" . && '
    'docker push "$REPOSITORY_URI:$TAG"; fi',
    f'{DIGEST}="$(digest)"',
    f"export {DIGEST}",
)


def content_tag(base: CatalogImage) -> str:
    """Return the tag of what would be built: the base's version, and a hash of everything that goes in.

    Args:
        base: The image to build from.
    """
    digest = hashlib.sha256(f"{base.repository}:{base.tag}\n".encode())
    for path in content_files():
        digest.update(f"{path.relative_to(runtime_root()).as_posix()}\n".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    version = base.tag.partition("-")[0]
    return f"{version}-{digest.hexdigest()[:16]}"


def content_files() -> tuple[Path, ...]:
    """Return the files that go into the image, the Dockerfile among them, in a fixed order."""
    package = runtime_root() / PACKAGE
    found: list[Path] = []
    for part in PARTS:
        path = package / part
        found += path.rglob("*") if path.is_dir() else [path]
    return tuple(sorted(path for path in found if path.is_file() and "__pycache__" not in path.parts))


def _exclude() -> tuple[str, ...]:
    kept = [f"!{PACKAGE}/", *(f"!{PACKAGE}/{part}" for part in PARTS), f"!{PACKAGE}/serving_image/**"]
    return ("*", *kept, "__pycache__", "*.pyc")


def _base(key: str) -> CatalogImage:
    found = image(key)
    if not found.repository.startswith(PUBLIC_REGISTRY):
        raise TokenmillError(
            f"base is {key!r}, which endpoints pull from {found.repository} as it is; give an image of "
            f"{PUBLIC_REGISTRY.rstrip('/')}, such as 'aws-vllm-neuronx', or leave ServingImage out"
        )
    return found
