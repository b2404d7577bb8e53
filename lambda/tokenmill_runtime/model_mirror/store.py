"""The bucket: what is there, uploads in parts that a later run goes on with, records of what was checked."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tokenmill_runtime.model_mirror.parts import MIB, part_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

READ_BYTES: Final = 4 * MIB


@dataclass
class Upload:
    """An upload in parts: its id and the parts that are there, from the first on without a gap."""

    key: str
    upload_id: str
    part_bytes: int
    parts: list[dict[str, Any]] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        """Bytes that are there."""
        return sum(part["Size"] for part in self.parts)


class Store:
    """A bucket as the copy needs it."""

    def __init__(self, client: Any, bucket: str, *, key_id: str | None = None) -> None:
        self._s3 = client
        self._bucket = bucket
        # Without a key the bucket's own default encryption holds.
        self._encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key_id} if key_id else {}

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the size of every object by its key."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        return {item["Key"]: item["Size"] for page in pages for item in page.get("Contents", [])}

    def document(self, key: str) -> dict[str, Any]:
        """Return a JSON object, empty where there is none.

        It is looked for in the list, because S3 says 403 of what is not there to a role that may list some
        prefixes only ("GetObject", Amazon S3 API Reference).
        """
        if key not in self.sizes(key):
            return {}
        body = self._s3.get_object(Bucket=self._bucket, Key=key)["Body"]
        try:
            found: dict[str, Any] = json.loads(body.read())
        finally:
            body.close()
        return found

    def put(self, key: str, body: bytes) -> None:
        """Write an object in one piece."""
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=body, **self._encryption)

    def read(self, key: str) -> Iterator[bytes]:
        """Yield an object's bytes."""
        body = self._s3.get_object(Bucket=self._bucket, Key=key)["Body"]
        try:
            yield from body.iter_chunks(READ_BYTES)
        finally:
            body.close()

    def resume(self, key: str, size: int) -> Upload:
        """Return the latest upload of a key with its parts, or a new one; earlier ones are aborted."""
        pages = self._s3.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=key)
        found = [item for page in pages for item in page.get("Uploads", []) if item["Key"] == key]
        found.sort(key=lambda item: (item["Initiated"], item["UploadId"]))
        for stale in found[:-1]:
            self.abort(Upload(key, stale["UploadId"], 0))
        if not found:
            return self.begin(key, size)
        upload = Upload(key, found[-1]["UploadId"], part_bytes(size))
        pages = self._s3.get_paginator("list_parts").paginate(
            Bucket=self._bucket, Key=key, UploadId=upload.upload_id
        )
        for part in (part for page in pages for part in page.get("Parts", [])):
            expected = min(upload.part_bytes, size - upload.bytes)
            if part["PartNumber"] != len(upload.parts) + 1 or part["Size"] != expected:
                break
            upload.parts.append(part)
        return upload

    def begin(self, key: str, size: int) -> Upload:
        """Begin an upload in parts."""
        answer = self._s3.create_multipart_upload(Bucket=self._bucket, Key=key, **self._encryption)
        return Upload(key, answer["UploadId"], part_bytes(size))

    def add(self, upload: Upload, body: bytearray) -> None:
        """Write the next part."""
        number = len(upload.parts) + 1
        answer = self._s3.upload_part(
            Bucket=self._bucket,
            Key=upload.key,
            UploadId=upload.upload_id,
            PartNumber=number,
            Body=bytes(body),
        )
        # A checksum that S3 kept of a part has to come back when the upload is completed.
        kept = {name: value for name, value in answer.items() if name.startswith("Checksum")}
        upload.parts.append({"PartNumber": number, "ETag": answer["ETag"], "Size": len(body), **kept})

    def complete(self, upload: Upload) -> None:
        """Make the object of its parts."""
        parts = [
            {
                name: value
                for name, value in part.items()
                if name in ("PartNumber", "ETag") or (name.startswith("Checksum") and name != "ChecksumType")
            }
            for part in upload.parts
        ]
        self._s3.complete_multipart_upload(
            Bucket=self._bucket,
            Key=upload.key,
            UploadId=upload.upload_id,
            MultipartUpload={"Parts": parts},
        )

    def abort(self, upload: Upload) -> None:
        """Forget an upload and its parts."""
        self._s3.abort_multipart_upload(Bucket=self._bucket, Key=upload.key, UploadId=upload.upload_id)
