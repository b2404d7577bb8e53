"""Where a model comes from that Amazon Bedrock imports."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from tokenmill.core._checks import is_token, known
from tokenmill.core._kinds import BUCKET, KEY, resource
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from aws_cdk import aws_kms as kms
    from aws_cdk import aws_s3 as s3

    from tokenmill.endpoints.model_source import ModelSource

# botocore, bedrock: S3Uri and ModelPackageArn.
S3_URI = re.compile(r"s3://[a-z0-9][-.a-z0-9]{1,61}[a-z0-9](?:/[-!_*'().a-z0-9A-Z]+)+/?")
PREFIX = re.compile(r"[-!_*'().a-z0-9A-Z]+(?:/[-!_*'().a-z0-9A-Z]+)*")
PACKAGE = re.compile(r"arn:aws[a-z-]*:sagemaker:[a-z0-9-]{9,16}:[0-9]{12}:model-package/\S+")
LONGEST_URI = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportSource:
    """What is imported; made by one of the class methods.

    Args:
        bucket: The bucket of open weights.
        prefix: Their folder.
        encryption_key: The key of the objects.
        s3_uri: The folder of a model of Amazon Nova in SageMaker's own bucket.
        model_package: The model package of a model of Amazon Nova.

    Raises:
        TokenmillError: If it names none of the three places, or two.
    """

    bucket: s3.IBucket | None = None
    prefix: str = ""
    encryption_key: kms.IKey | None = None
    s3_uri: str = ""
    model_package: str = ""

    def __post_init__(self) -> None:
        resource(BUCKET, bucket=self.bucket)
        resource(KEY, encryption_key=self.encryption_key)
        if self.prefix != "" and (not isinstance(self.prefix, str) or not PREFIX.fullmatch(self.prefix)):
            raise TokenmillError(f"prefix is {self.prefix!r:.80}; make the source with ImportSource.weights")
        given = [name for name in ("bucket", "s3_uri", "model_package") if getattr(self, name)]
        if len(given) != 1:
            raise TokenmillError(
                f"a source has {' and '.join(given) or 'nothing'}; make it with ImportSource.weights, "
                ".nova or .package"
            )

    @classmethod
    def weights(cls, source: ModelSource) -> Self:
        """Return open weights in a bucket of the account, in the Hugging Face format.

        They become an imported model, which is called as it is, without a deployment ("Use Custom model
        import to import a customized open-source model into Amazon Bedrock", Amazon Bedrock user guide).

        Args:
            source: A bucket and a prefix: `ModelSource.s3(...)`, or the source of a ModelMirror.

        Raises:
            TokenmillError: If the source has no bucket, or its folder's name is not one that Bedrock takes.
        """
        if not hasattr(source, "prefix"):
            raise TokenmillError(
                f"source is {source!r:.80}; give ModelSource.s3(bucket, prefix=...) or a ModelMirror's source"
            )
        prefix = (source.prefix or "").strip("/")
        if source.bucket is None:
            raise TokenmillError(
                "the source has no weights in a bucket, which is what Bedrock imports from; give "
                "ModelSource.s3(bucket, prefix=...) or the source of a ModelMirror"
            )
        if is_token(prefix) or not PREFIX.fullmatch(prefix):
            raise TokenmillError(
                f"the weights' prefix is {prefix!r:.80}; it must name a folder, known at synth, of letters, "
                "digits and -!_*'(). between slashes"
            )
        key = source.encryption_key or source.bucket.encryption_key
        return cls(bucket=source.bucket, prefix=prefix, encryption_key=key)

    @classmethod
    def nova(cls, s3_uri: str) -> Self:
        """Return a model of Amazon Nova that SageMaker trained, in the bucket that SageMaker keeps it in.

        It becomes a custom model; one with a parameter-efficient adapter can be deployed on demand, one of
        full rank needs provisioned throughput ("On-demand inference on Custom Models", Amazon Nova user
        guide).

        Args:
            s3_uri: The checkpoint that the training job's manifest names, such as
                "s3://customer-escrow-111122223333-smtj-abcd/.../checkpoint/".

        Raises:
            TokenmillError: If it is no such address.
        """
        if not isinstance(s3_uri, str) or not S3_URI.fullmatch(s3_uri) or len(s3_uri) > LONGEST_URI:
            raise TokenmillError(
                f"s3_uri is {s3_uri!r:.200}; it must be the s3:// address of a folder, which stands in the "
                "manifest.json of the training job's output"
            )
        return cls(s3_uri=s3_uri)

    @classmethod
    def package(cls, model_package: str) -> Self:
        """Return a model of Amazon Nova as a model package of SageMaker, whose data Bedrock reads itself.

        Args:
            model_package: The package's ARN.

        Raises:
            TokenmillError: If it is no such ARN.
        """
        known("model_package", model_package)
        if not isinstance(model_package, str) or not PACKAGE.fullmatch(model_package):
            raise TokenmillError(f"model_package is {model_package!r:.200}; it must be a model package's ARN")
        return cls(model_package=model_package)
