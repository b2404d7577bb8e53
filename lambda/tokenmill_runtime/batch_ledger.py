"""What is known of a shard's requests: sent or not, where the answer will stand, and how it ended.

The ledger is an object, written after every turn, so that a function that is run twice, retried or redriven
goes on where it stopped.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, Self

from tokenmill_runtime import batch_objects
from tokenmill_runtime.aws import s3
from tokenmill_runtime.batch_objects import CHANGED

Outcome = Literal["answered", "failed", "expired"]
SCHEMA: Final = 1


class LedgerTaken(RuntimeError):
    """Somebody else has written the ledger since it was read: two runs write to one folder."""


@dataclass(slots=True, kw_only=True)
class Entry:
    """One request that SageMaker has taken; times are epoch seconds.

    ``answer`` and ``failure`` are where SageMaker said that it would write; ``sent_by`` is the execution that
    sent it.
    """

    inference_id: str
    labels: dict[str, Any]
    answer: str
    failure: str | None
    sent_at: float
    sent_by: str
    outcome: Outcome | None = None


@dataclass(slots=True, kw_only=True)
class Ledger:
    """The entries of a shard by inference id.

    ``whole_for`` is the execution whose records all have an entry; the input need not be read again for it.
    """

    bucket: str
    key: str
    entries: dict[str, Entry]
    whole_for: str | None = None
    etag: str | None = None
    body: bytes | None = None

    @classmethod
    def read(cls, bucket: str, key: str) -> Self:
        """The ledger, empty where none was written yet.

        Raises ValueError when there is one of another schema.
        """
        found = batch_objects.read_tagged(bucket, key)
        if found is None:
            return cls(bucket=bucket, key=key, entries={})
        document = json.loads(found[0])
        if document.get("schema") != SCHEMA:
            raise ValueError(
                f"s3://{bucket}/{key} has schema {document.get('schema')!r} and this version reads {SCHEMA}; "
                "give the run another output"
            )
        entries = [Entry(**item) for item in document["entries"]]
        return cls(
            bucket=bucket,
            key=key,
            entries={entry.inference_id: entry for entry in entries},
            whole_for=document["whole_for"],
            etag=found[1],
            body=found[0],
        )

    def write(self) -> None:
        """Write the ledger if it has changed, and nobody else has written it since it was read.

        Raises LedgerTaken otherwise.
        """
        from botocore.exceptions import ClientError

        document = {
            "schema": SCHEMA,
            "whole_for": self.whole_for,
            "entries": [asdict(entry) for entry in self.entries.values()],
        }
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if self.etag is None else {"IfMatch": self.etag}
        body = json.dumps(document, separators=(",", ":")).encode()
        if body == self.body:
            return
        try:
            written = s3().put_object(Bucket=self.bucket, Key=self.key, Body=body, **condition)
        except ClientError as error:
            if error.response["Error"]["Code"] in CHANGED:
                raise LedgerTaken(
                    f"s3://{self.bucket}/{self.key} was written by another run at the same time; give every "
                    "run that goes on a folder of its own"
                ) from error
            raise
        self.etag, self.body = written["ETag"], body

    @property
    def open(self) -> list[Entry]:
        """Entries without an outcome."""
        return [entry for entry in self.entries.values() if entry.outcome is None]
