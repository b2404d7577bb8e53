"""Objects of a batch run in S3: read in pieces, written once, told apart from objects that are not there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from tokenmill_runtime.aws import s3

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

# "Amazon S3 multipart upload limits": every part but the last has 5 MiB at least.
PART_BYTES: Final = 8 * 1024 * 1024
READ_BYTES: Final = 1024 * 1024
PIECE_BYTES: Final = 4 * 1024 * 1024
MOST_LINE_BYTES: Final = 16 * 1024 * 1024
# HeadObject has no body and says "404"; GetObject says "NoSuchKey".
MISSING: Final = ("404", "NoSuchKey")
CHANGED: Final = ("412", "PreconditionFailed", "ConditionalRequestConflict")


class InputRefused(ValueError):
    """The run's input is not what it must be; another attempt would find the same."""


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and key of s3://bucket/key.

    Raises ValueError for another form.
    """
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not bucket or not key:
        raise ValueError(f"an object's address must be s3://bucket/key, got {uri!r}")
    return bucket, key


def exists(bucket: str, key: str) -> bool:
    """Whether there is such an object."""
    from botocore.exceptions import ClientError

    try:
        s3().head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] in MISSING:
            return False
        raise
    return True


def read(bucket: str, key: str) -> bytes:
    """A whole object."""
    return s3().get_object(Bucket=bucket, Key=key)["Body"].read()


def read_tagged(bucket: str, key: str) -> tuple[bytes, str] | None:
    """A whole object and its entity tag, or None where there is none."""
    from botocore.exceptions import ClientError

    try:
        found = s3().get_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] in MISSING:
            return None
        raise
    return found["Body"].read(), found["ETag"]


def lines(
    bucket: str, key: str, *, start: int = 0, end: int | None = None, etag: str | None = None
) -> tuple[str, Iterator[bytes]]:
    """An object's entity tag, and its lines with their ends, read piece by piece.

    ``start`` and ``end`` (exclusive) are bytes. Raises InputRefused when the object is not there, or has
    changed since ``etag`` was read, or, while lines are read, for one that is too long.
    """
    from botocore.exceptions import ClientError

    wanted = f"bytes={start}-{'' if end is None else end - 1}"
    condition: dict[str, Any] = {} if etag is None else {"IfMatch": etag, "Range": wanted}
    try:
        found = s3().get_object(Bucket=bucket, Key=key, **condition)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in CHANGED:
            raise InputRefused(
                f"s3://{bucket}/{key} has changed since the run began; start another run"
            ) from error
        if code in MISSING:
            raise InputRefused(f"there is no object s3://{bucket}/{key}") from error
        raise
    return found["ETag"], split_lines(found["Body"].iter_chunks(READ_BYTES), most_bytes=MOST_LINE_BYTES)


def pieces(bucket: str, key: str) -> Iterator[bytes]:
    """An object in pieces, each a request of its own, so that any time may pass between them.

    Raises InputRefused when the object changes in between.
    """
    from botocore.exceptions import ClientError

    head = s3().head_object(Bucket=bucket, Key=key)
    for start in range(0, head["ContentLength"], PIECE_BYTES):
        end = min(start + PIECE_BYTES, head["ContentLength"]) - 1
        try:
            found = s3().get_object(
                Bucket=bucket, Key=key, IfMatch=head["ETag"], Range=f"bytes={start}-{end}"
            )
        except ClientError as error:
            if error.response["Error"]["Code"] in CHANGED:
                raise InputRefused(f"s3://{bucket}/{key} has changed while it was read") from error
            raise
        yield found["Body"].read()


def tagged_lines(bucket: str, key: str) -> tuple[Mapping[str, str], Iterator[bytes]] | None:
    """An object's metadata and its lines, or None where there is none."""
    from botocore.exceptions import ClientError

    try:
        found = s3().get_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] in MISSING:
            return None
        raise
    return found["Metadata"], split_lines(found["Body"].iter_chunks(READ_BYTES))


def split_lines(pieces: Iterator[bytes], *, most_bytes: int | None = None) -> Iterator[bytes]:
    """Lines with their ends, from pieces of any size.

    Raises InputRefused for a line of more than `most_bytes`, which would not fit into the function's memory.
    """
    pending = bytearray()
    for piece in pieces:
        looked = len(pending)
        pending += piece
        while (at := pending.find(b"\n", looked)) >= 0:
            yield bytes(pending[: at + 1])
            del pending[: at + 1]
            looked = 0
        if most_bytes is not None and len(pending) > most_bytes:
            raise InputRefused(f"a line has more than {most_bytes} bytes; send such a request by itself")
    if pending:
        yield bytes(pending)


def write(bucket: str, key: str, body: bytes, *, metadata: Mapping[str, str] | None = None) -> None:
    """Write an object."""
    s3().put_object(Bucket=bucket, Key=key, Body=body, Metadata=dict(metadata or {}))


def write_document(bucket: str, key: str, document: Mapping[str, Any]) -> None:
    """Write a JSON object."""
    write(bucket, key, json.dumps(document, separators=(",", ":")).encode())


class ObjectWriter:
    """An object that is written while it is made, and is there when the ``with`` block ends without error."""

    def __init__(self, bucket: str, key: str, *, metadata: Mapping[str, str] | None = None) -> None:
        self._bucket, self._key = bucket, key
        self._metadata = dict(metadata or {})
        self._pending = bytearray()
        self._upload: str | None = None
        self._parts: list[CompletedPartTypeDef] = []

    def __enter__(self) -> ObjectWriter:
        return self

    def write(self, content: bytes) -> None:
        """Add bytes at the end."""
        self._pending += content
        if len(self._pending) >= PART_BYTES:
            self._flush()

    def __exit__(self, kind: object, value: object, trace: object) -> None:
        if kind is not None:
            if self._upload is not None:
                s3().abort_multipart_upload(Bucket=self._bucket, Key=self._key, UploadId=self._upload)
            return
        if self._upload is None:
            write(self._bucket, self._key, bytes(self._pending), metadata=self._metadata)
            return
        if self._pending:
            self._flush()
        s3().complete_multipart_upload(
            Bucket=self._bucket,
            Key=self._key,
            UploadId=self._upload,
            MultipartUpload={"Parts": self._parts},
        )

    def _flush(self) -> None:
        if self._upload is None:
            begun = s3().create_multipart_upload(Bucket=self._bucket, Key=self._key, Metadata=self._metadata)
            self._upload = begun["UploadId"]
        number = len(self._parts) + 1
        part = s3().upload_part(
            Bucket=self._bucket,
            Key=self._key,
            UploadId=self._upload,
            PartNumber=number,
            Body=bytes(self._pending),
        )
        self._parts.append({"ETag": part["ETag"], "PartNumber": number})
        self._pending.clear()
