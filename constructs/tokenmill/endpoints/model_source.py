"""Where an endpoint's weights and its image come from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

from tokenmill.core._checks import is_token
from tokenmill.core.errors import TokenmillError
from tokenmill.endpoints.image_uri import image_uri, repository_arn
from tokenmill.endpoints.private_image import PrivateImage
from tokenmill.security import actions
from tokenmill.security.acknowledge import acknowledge_resources

if TYPE_CHECKING:
    import aws_cdk as cdk
    from aws_cdk import aws_iam as iam
    from aws_cdk import aws_kms as kms
    from aws_cdk import aws_s3 as s3
    from aws_cdk import aws_secretsmanager as secretsmanager
    from constructs import Construct, IDependable

    from tokenmill.endpoints.serving import Serving

__all__ = ["ModelSource", "PrivateImage", "ResolvedSource"]

# "S3ModelDataSource" (Amazon SageMaker API Reference): objects under the prefix are files below this folder.
MODEL_FOLDER = "/opt/ml/model"
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".zip")
OPTIMUM = "SM_ON_"
LMI = "OPTION_"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Names:
    """What an image calls the variables of a model: where it is, its name in requests, its revision."""

    location: str
    served: str
    revision: str


# SM_ON_: huggingface/optimum-neuron v0.4.5, docker/vllm/Dockerfile (variables become flags) and
# optimum/commands/neuron/serve.py (--model takes a path, --served_model_name, others go on to vLLM).
# HF_: deepjavalibrary/djl-serving, "LMI Starting Guide": HF_MODEL_ID may be /opt/ml/model, HF_REVISION;
# without OPTION_SERVED_MODEL_NAME its vLLM answers to "lmi" alone (lmi_vllm/vllm_async_service.py).
# SM_VLLM_: AWS Deep Learning Containers, vLLM, "Amazon SageMaker AI Deployment": variables are vLLM's flags.
NAMES = {
    OPTIMUM: _Names(location="SM_ON_MODEL", served="SM_ON_SERVED_MODEL_NAME", revision="SM_ON_REVISION"),
    LMI: _Names(location="HF_MODEL_ID", served="OPTION_SERVED_MODEL_NAME", revision="HF_REVISION"),
    "SM_VLLM_": _Names(
        location="SM_VLLM_MODEL", served="SM_VLLM_SERVED_MODEL_NAME", revision="SM_VLLM_REVISION"
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedSource:
    """What an endpoint's resources need of a source.

    Args:
        image_uri: The image's full name.
        image_repository_arn: The repository that it is pulled from.
        environment: The variables that name the model; they win over the serving's derived ones.
        s3_uri: The prefix that SageMaker mounts at /opt/ml/model, or None.
        needs_internet: Whether the container loads from the Hugging Face Hub.
        after: What must exist before a copy starts.
    """

    image_uri: str
    image_repository_arn: str
    environment: dict[str, str]
    s3_uri: str | None
    needs_internet: bool
    after: tuple[IDependable, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """Where weights and image come from; made by its class methods, or by a ModelMirror.

    Args:
        model: The model's name on the Hub, where the source has just one; any otherwise.
        revision: Its commit, branch or tag.
        token: The Hub's token.
        bucket: The bucket of the weights.
        prefix: Their prefix.
        encryption_key: The key of the objects.
        path: The weights' folder in the image.
        image: The image; the catalog's otherwise.
        exported: Whether the weights are an export of optimum-neuron, with its compiled graphs.
        after: What must exist before a copy starts.
    """

    model: str | None = None
    revision: str | None = None
    token: secretsmanager.ISecret | None = None
    bucket: s3.IBucket | None = None
    prefix: str | None = None
    encryption_key: kms.IKey | None = None
    path: str | None = None
    image: PrivateImage | None = None
    exported: bool = False
    after: tuple[IDependable, ...] = field(default=())

    @classmethod
    def hugging_face(
        cls,
        *,
        revision: str | None = None,
        token: secretsmanager.ISecret | None = None,
        image: PrivateImage | None = None,
    ) -> Self:
        """Return the Hugging Face Hub: every copy loads the weights when it starts.

        The token becomes the container's HF_TOKEN by a dynamic reference, which CloudFormation resolves: it
        is in no template, but whoever may describe the component or the model reads it. A ModelMirror reads
        the token while it copies and needs none afterwards.

        Args:
            revision: Commit, branch or tag; the default branch as it is at each start otherwise.
            token: A secret whose whole text is the token, for gated and private models.
            image: The image; the catalog's otherwise.

        Raises:
            TokenmillError: If the revision is empty or a token of CDK.
        """
        refuse_plain_token(token)
        if revision is not None and (
            not isinstance(revision, str) or is_token(revision) or not revision.strip()
        ):
            raise TokenmillError(
                f"revision is {revision!r}; give a commit, branch or tag as text, or leave it out"
            )
        return cls(revision=revision, token=token, image=image)

    @classmethod
    def s3(
        cls,
        bucket: s3.IBucket,
        prefix: str,
        *,
        encryption_key: kms.IKey | None = None,
        image: PrivateImage | None = None,
    ) -> Self:
        """Return uncompressed weights in a bucket: SageMaker mounts what is under the prefix.

        Args:
            bucket: The bucket, in the endpoint's region.
            prefix: Folder of the weights and nothing else, such as "models/qwen3-8b/".
            encryption_key: The key of the objects; the bucket's own otherwise.
            image: The image; the catalog's otherwise.

        Raises:
            TokenmillError: If the prefix is no folder.
        """
        if isinstance(bucket, str):
            raise TokenmillError(
                f"bucket is {bucket!r}, a text; give the bucket itself, such as "
                "s3.Bucket.from_bucket_name(self, 'Weights', ...)"
            )
        return cls(
            bucket=bucket,
            prefix=_checked_prefix(prefix),
            encryption_key=encryption_key,
            image=image,
        )

    @classmethod
    def in_image(cls, path: str, *, image: PrivateImage) -> Self:
        """Return weights that are baked into a private image.

        Args:
            path: Their folder in the container, such as "/opt/model".
            image: The image.

        Raises:
            TokenmillError: If the path is not absolute.
        """
        if is_token(path) or not isinstance(path, str) or not path.startswith("/"):
            raise TokenmillError(f"path is {path!r}; give an absolute folder of the image, as '/opt/model'")
        if not isinstance(image, PrivateImage):
            raise TokenmillError(
                f"image is {image!r:.80}; give the PrivateImage(repository=..., tag_or_digest=...) that "
                "holds the weights"
            )
        return cls(path=path, image=image)

    def with_image(self, image: PrivateImage) -> Self:
        """Return the same weights on another image.

        Args:
            image: The image, such as a ServingImage's.
        """
        return replace(self, image=image)

    def as_exported(self) -> Self:
        """Return the same weights, said to be an export of optimum-neuron with its compiled graphs."""
        return replace(self, exported=True)

    def check(self, serving: Serving, *, isolated: bool, region: str) -> None:
        """Refuse what cannot work, before any resource exists.

        Args:
            serving: What the endpoint serves.
            isolated: Whether its containers have no network.
            region: The endpoint's region, or a token for it.

        Raises:
            TokenmillError: If the weights are of another model or out of reach, bucket or repository are in
                another region, or the image has to be built and none is given.
        """
        found = [
            *self._model_problems(serving),
            *self._network_problems(serving, isolated=isolated),
            *self._region_problems(region),
            *self._image_problems(serving),
        ]
        if found:
            raise TokenmillError("\n".join(found))

    def check_stack(self, stack: cdk.Stack) -> None:
        """Refuse a stack that the source cannot be in, before any resource exists; most may be in any.

        Args:
            stack: The stack of what serves.
        """

    def resolve(self, scope: Construct, serving: Serving, region: str) -> ResolvedSource:
        """Return what the endpoint's resources need.

        Args:
            scope: The construct that gets a mapping of registries where the region is not known.
            serving: What is served.
            region: The region, or a token for it.

        Raises:
            TokenmillError: If the catalog's image is not in the region.
        """
        catalog, image = serving.serving_image, self.image
        return ResolvedSource(
            image_uri=image_uri(scope, catalog, region) if image is None else image.uri,
            image_repository_arn=repository_arn(scope, catalog, region)
            if image is None
            else image.repository.repository_arn,
            environment=self._environment(serving),
            s3_uri=None if self.bucket is None else self.bucket.s3_url_for_object(self.prefix),
            needs_internet=self._from_hub,
            after=self.after,
        )

    def grant_read(self, role: iam.IRole) -> None:
        """Let a role read the weights, and nothing else of their bucket.

        Args:
            role: The execution role, with which SageMaker loads a model's weights.
        """
        if self.bucket is None:
            return
        from aws_cdk import aws_iam as iam

        objects = self.bucket.arn_for_objects(f"{self.prefix}*")
        role.add_to_principal_policy(
            iam.PolicyStatement(actions=list(actions.MODEL_READ), resources=[objects])
        )
        role.add_to_principal_policy(
            iam.PolicyStatement(
                actions=list(actions.MODEL_LIST),
                resources=[self.bucket.bucket_arn],
                conditions={"StringLike": {"s3:prefix": [f"{self.prefix}*"]}},
            )
        )
        reason = "A model is all that is under its prefix; the model's repository decides the names."
        acknowledge_resources(role, {objects: reason})
        key = self.encryption_key or self.bucket.encryption_key
        if key is not None:
            key.grant(role, *actions.MODEL_KEY_READ)

    @property
    def _from_hub(self) -> bool:
        return self.bucket is None and self.path is None

    def _environment(self, serving: Serving) -> dict[str, str]:
        style = serving.serving_image.environment_style
        names = NAMES.get(style)
        if names is None:
            raise TokenmillError(
                f"image {serving.serving_image.key!r} has variables of style {style!r}; which one says where "
                f"the model is, is known for {', '.join(NAMES)}"
            )
        if self._from_hub:
            variables = {names.location: serving.model}
            if style == LMI:
                variables[names.served] = serving.model
            if self.revision is not None:
                variables[names.revision] = self.revision
            if self.token is not None:
                variables["HF_TOKEN"] = self.token.secret_value.unsafe_unwrap()
            return variables
        variables = {names.location: self.path or MODEL_FOLDER, names.served: serving.model}
        # Weights that are there need nothing of the Hub ("Environment variables", huggingface_hub), but
        # optimum-neuron looks for compiled graphs there unless they lie beside the weights.
        if style != OPTIMUM or self.exported:
            variables["HF_HUB_OFFLINE"] = "1"
        return variables

    def _model_problems(self, serving: Serving) -> list[str]:
        if self.model is None or self.model.lower() == serving.model.lower():
            return []
        return [
            f"the source holds {self.model!r}, but the endpoint serves {serving.model!r}; give both the same"
        ]

    def _network_problems(self, serving: Serving, *, isolated: bool) -> list[str]:
        if not isolated:
            return []
        if self._from_hub:
            return [
                "isolated is True, which leaves no way to the Hugging Face Hub; give the source of a "
                "ModelMirror, ModelSource.s3(...) or ModelSource.in_image(...)"
            ]
        if serving.serving_image.environment_style == OPTIMUM and not self.exported:
            # huggingface/optimum-neuron v0.4.5 serve.py and vllm/model_loader.py call
            # select_hub_cached_entries, which lets a failed request through; issues #535 and #741 there.
            return [
                f"isolated is True, but image {serving.serving_image.key!r} asks the Hugging Face Hub for "
                "compiled graphs before it serves weights that are not exported for Neuron, and ends without "
                "an answer; give isolated=False, or weights of `optimum-cli export neuron`, marked with "
                ".as_exported()"
            ]
        return []

    def _region_problems(self, region: str) -> list[str]:
        found = []
        for what, resource, remedy in (
            ("bucket", self.bucket, "copy the weights, such as with a ModelMirror in the endpoint's stack"),
            (
                "repository",
                None if self.image is None else self.image.repository,
                "replicate the image ('Private image replication in Amazon ECR')",
            ),
        ):
            if resource is None or is_token(region):
                continue
            home = resource.env.region
            if not is_token(home) and home != region:
                # "ContainerDefinition" (Amazon SageMaker API Reference): both in the model's region.
                found.append(
                    f"the {what} is in {home}, but the endpoint is in {region}, and SageMaker loads from its "
                    f"own region only; {remedy}"
                )
        return found

    def _image_problems(self, serving: Serving) -> list[str]:
        image = serving.serving_image
        if self.image is not None or (image.registry_accounts and not serving.needs_built_image):
            return []
        return [
            f"image {image.key!r} is in no registry that an endpoint pulls from; build it with "
            "ServingImage(self, 'Image') and give its .image to the source, such as "
            "ModelSource.hugging_face(image=serving_image.image)"
        ]


def refuse_plain_token(token: object) -> None:
    """Refuse a Hub token as text, which would stand in the template; the sentence does not repeat it.

    Args:
        token: What was given as a secret.

    Raises:
        TokenmillError: If it is a text.
    """
    if isinstance(token, str):
        raise TokenmillError(
            "token is a text, which would stand in the template for everybody to read; put it into Secrets "
            "Manager and give the secret, such as secretsmanager.Secret.from_secret_name_v2(self, 'Hub', ...)"
        )


def _checked_prefix(prefix: str) -> str:
    if is_token(prefix):
        raise TokenmillError("prefix is a token; give the folder's name as text, such as 'models/qwen3-8b/'")
    if prefix.endswith(ARCHIVES):
        raise TokenmillError(
            f"prefix is {prefix!r}, an archive; give the folder of the unpacked files, such as "
            "'models/qwen3-8b/', which also starts faster"
        )
    if not prefix.endswith("/") or prefix.startswith(("/", "s3:")):
        raise TokenmillError(
            f"prefix is {prefix!r}; give a folder inside the bucket with a slash at its end and none before, "
            "such as 'models/qwen3-8b/'"
        )
    if "//" in prefix or any(sign in prefix for sign in "*?$"):
        # A policy reads * and ? as any characters and $ as a variable, and // is a folder without a name.
        raise TokenmillError(
            f"prefix is {prefix!r}; give one folder by its name, without *, ?, $ or //, such as "
            "'models/qwen3-8b/'"
        )
    return prefix
