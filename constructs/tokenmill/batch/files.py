"""Where a batch job finds its input and leaves its output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenmill.core._checks import plain_folder
from tokenmill.core._kinds import BUCKET, KEY, resource
from tokenmill.core.errors import TokenmillError
from tokenmill.security.bucket import private_bucket

if TYPE_CHECKING:
    from aws_cdk import aws_kms as kms
    from aws_cdk import aws_s3 as s3
    from constructs import Construct


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFiles:
    """A bucket with one folder to read from and another to write to.

    An execution names an object or a folder below each; it gets no further in the bucket.

    Args:
        bucket: The bucket, in the job's region; one of the job's own otherwise.
        input_prefix: Folder that inputs stand in, without a slash at either end.
        output_prefix: Folder that outputs go to, without a slash at either end.
        encryption_key: The key of the job's own bucket; S3's own otherwise. A given bucket's own key is used.

    Raises:
        TokenmillError: If a folder is not of this form, or one folder is inside the other: what a job wrote
            would be read by the next.
    """

    bucket: s3.IBucket | None = None
    input_prefix: str = "input"
    output_prefix: str = "output"
    encryption_key: kms.IKey | None = None

    def __post_init__(self) -> None:
        resource(BUCKET, **{"files.bucket": self.bucket})
        resource(KEY, **{"files.encryption_key": self.encryption_key})
        for name in ("input_prefix", "output_prefix"):
            value = getattr(self, name)
            # Step Functions, too, matches the input against the folder, where * would stand for anything.
            if not plain_folder(value):
                raise TokenmillError(
                    f"files.{name} is {value!r}; give a folder's name as text, without *, ? or $ and without "
                    "a slash at either end"
                )
        one, other = f"{self.input_prefix}/", f"{self.output_prefix}/"
        if one.startswith(other) or other.startswith(one):
            raise TokenmillError(
                f"files.input_prefix is {self.input_prefix!r} and files.output_prefix is "
                f"{self.output_prefix!r}; one is inside the other, so a job would read what another wrote; "
                "give two folders side by side"
            )
        if self.bucket is not None and self.encryption_key is not None:
            raise TokenmillError(
                "files.encryption_key is given with files.bucket; a given bucket has its own key, so leave "
                "encryption_key out"
            )

    def bucket_for(self, scope: Construct) -> s3.IBucket:
        """Return the bucket, made under a construct where none is given.

        Args:
            scope: The job.
        """
        if self.bucket is not None:
            return self.bucket
        return private_bucket(
            scope,
            "Files",
            reason_without_access_log="Inputs and outputs of one batch job, read by who may start it.",
            encryption_key=self.encryption_key,
        )
