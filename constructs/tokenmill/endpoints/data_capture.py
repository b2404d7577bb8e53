"""What an endpoint writes down of its requests and answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenmill.core._checks import as_whole, plain_folder
from tokenmill.core.errors import TokenmillError
from tokenmill.security import actions
from tokenmill.security.acknowledge import acknowledge_resources

if TYPE_CHECKING:
    from aws_cdk import aws_iam as iam
    from aws_cdk import aws_kms as kms
    from aws_cdk import aws_s3 as s3
    from aws_cdk import aws_sagemaker as sagemaker

MODES = {"input": ("Input",), "output": ("Output",), "both": ("Input", "Output")}
# SageMaker writes other content types in base64 ("CaptureContentTypeHeader").
JSON_CONTENT_TYPES = ("application/json",)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataCapture:
    """Requests and answers, written to a bucket as JSON lines by endpoint, variant and hour.

    Prompts are in there: choose the bucket, its key and its lifecycle accordingly. SageMaker writes less than
    the share under load: it stops while the disk is nearly full ("Capture data from real-time endpoint",
    Amazon SageMaker developer guide).

    Args:
        bucket: Where it is written; in the endpoint's region.
        prefix: Folder in the bucket, without a slash at either end.
        percent: Share of the requests that is written, 0 to 100.
        what: "input", "output" or "both".
        encryption_key: The key of the written objects; the bucket's own, or its default encryption otherwise.

    Raises:
        TokenmillError: If share, prefix or `what` is out of range ("DataCaptureConfig", Amazon SageMaker API
            Reference).
    """

    bucket: s3.IBucket
    prefix: str = "captured"
    percent: int = 100
    what: str = "both"
    encryption_key: kms.IKey | None = None

    def __post_init__(self) -> None:
        as_whole(self, "percent")
        if not 0 <= self.percent <= 100:
            raise TokenmillError(f"data_capture.percent is {self.percent}; it must be 0 to 100")
        if self.what not in MODES:
            raise TokenmillError(f"data_capture.what is {self.what!r}; allowed are {', '.join(MODES)}")
        if not plain_folder(self.prefix):
            raise TokenmillError(
                f"data_capture.prefix is {self.prefix!r}; give a folder's name as text, without a slash at "
                "either end, *, ? or $"
            )

    @property
    def key(self) -> kms.IKey | None:
        """The key that the objects are written with, where it is a customer's."""
        return self.encryption_key or self.bucket.encryption_key

    def property(self) -> sagemaker.CfnEndpointConfig.DataCaptureConfigProperty:
        """Return the property of the endpoint configuration."""
        from aws_cdk import aws_sagemaker as sagemaker

        config = sagemaker.CfnEndpointConfig
        return config.DataCaptureConfigProperty(
            enable_capture=True,
            initial_sampling_percentage=self.percent,
            destination_s3_uri=self.bucket.s3_url_for_object(self.prefix),
            kms_key_id=None if self.key is None else self.key.key_arn,
            capture_options=[config.CaptureOptionProperty(capture_mode=mode) for mode in MODES[self.what]],
            capture_content_type_header=config.CaptureContentTypeHeaderProperty(
                json_content_types=list(JSON_CONTENT_TYPES)
            ),
        )

    def grant_write(self, role: iam.IRole) -> None:
        """Let a role write what is captured, and nothing else in the bucket.

        Args:
            role: The endpoint's role.
        """
        from aws_cdk import aws_iam as iam

        objects = self.bucket.arn_for_objects(f"{self.prefix}/*")
        role.add_to_principal_policy(
            iam.PolicyStatement(actions=list(actions.CAPTURE_WRITE), resources=[objects])
        )
        reason = "SageMaker names what it captures by endpoint, variant and time, below this one folder."
        acknowledge_resources(role, {objects: reason})
        if self.key is not None:
            self.key.grant(role, *actions.CAPTURE_KEY)
