"""The input of a batch inference job: its files, its records, and what the service says of them beforehand.

A job is validated before any of its records is answered: a line that is no record fails the job, while one
whose `modelInput` the model refuses is an error of its own. Sources: Amazon Bedrock User Guide, "Format and
upload your batch inference data" (.jsonl files; recordId may be left out, and is then added); Amazon Bedrock
API Reference, "GetModelInvocationJob" (Validating: "each individual record is a JSON object in the correct
format. Note that validation doesn't check if the modelInput value matches the request body"); "Quotas for
Amazon Bedrock" (fewest and most records of a job, largest file). AWS's pages say nothing of blank lines, of a
byte order mark and of ids that come twice: the first are no records, the others are taken.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokenmill.core.batch_quotas import batch_quota
from tokenmill.local.clients import split_uri

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokenmill.local.aws_requests import Params
    from tokenmill.local.bedrock.job_records import Job

SUFFIX = ".jsonl"
RECORD = (
    'a record is a JSON object like {"recordId": "TEXT", "modelInput": {...}}, whose recordId may be left out'
)


class JobError(Exception):
    """A job cannot be run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFile:
    """One file of a job's input.

    Args:
        bucket: Its bucket.
        key: Its key.
        name: Its key below the folder that the job names.
        size: Its size, in bytes.
    """

    bucket: str
    key: str
    name: str
    size: int

    def records(self, s3: Any) -> Iterator[Params]:
        """Yield the records, each with `recordId` and `modelInput`.

        Args:
            s3: A boto3 client.

        Raises:
            JobError: A line is no record.
        """
        # StreamingBody's own context manager gives the raw connection, which has no lines.
        with closing(s3.get_object(Bucket=self.bucket, Key=self.key)["Body"]) as body:
            for number, line in enumerate(body.iter_lines(chunk_size=1 << 20), 1):
                if line.strip():
                    yield self._record(line, number)

    def _record(self, line: bytes, number: int) -> Params:
        try:
            record = json.loads(line)
        except ValueError as error:
            raise self._malformed(number, str(error)) from error
        if not isinstance(record, dict) or not isinstance(record.get("modelInput"), dict):
            raise self._malformed(number, "it has no modelInput that is a JSON object")
        identity = record.get("recordId")
        if identity is not None and not isinstance(identity, str):
            raise self._malformed(number, f"recordId is {identity!r}")
        place = f"{self.key}/{number}".encode()
        return {
            "recordId": identity or hashlib.sha256(place).hexdigest()[:11].upper(),
            "modelInput": record["modelInput"],
        }

    def _malformed(self, number: int, why: str) -> JobError:
        return JobError(f"line {number} of s3://{self.bucket}/{self.key} is no record: {why}; {RECORD}")


def input_files(s3: Any, uri: str) -> list[InputFile]:
    """Return a job's input: one file, or every .jsonl file under a folder.

    Args:
        s3: A boto3 client.
        uri: The file or the folder.

    Raises:
        JobError: There is none.
    """
    bucket, key = split_uri(uri)
    folder = f"{key.rstrip('/')}/" if key else ""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key.rstrip("/"))
    sizes = {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", [])}
    if key in sizes:
        named = {key: key.rsplit("/", 1)[-1]}
    else:
        named = {found: found.removeprefix(folder) for found in sizes if found.startswith(folder)}
    files = [
        InputFile(bucket=bucket, key=found, name=name, size=sizes[found])
        for found, name in sorted(named.items())
        if found.endswith(SUFFIX)
    ]
    if not files:
        raise JobError(f"there is no {SUFFIX} file at {uri}")
    return files


def validated_total(s3: Any, job: Job, files: list[InputFile]) -> int:
    """Return how many records a job has.

    Args:
        s3: A boto3 client.
        job: The job.
        files: Its input.

    Raises:
        JobError: A line is no record, or the job is outside the service's quotas.
    """
    quota = batch_quota(job.request["modelId"].rsplit("/", 1)[-1])
    large = [file.key for file in files if file.size > quota.file_bytes]
    if large:
        told = f"input files are over the allowed maximum of {quota.file_bytes} bytes: {', '.join(large)}"
        raise JobError(told)
    total = sum(1 for file in files for _ in file.records(s3))
    if total < quota.minimum_records:
        raise JobError(
            f"Batch job {job.arn} contains less records ({total}) than the required minimum of: "
            f"{quota.minimum_records}"
        )
    if total > quota.records_per_job:
        raise JobError(
            f"Batch job {job.arn} contains more records ({total}) than the allowed maximum of: "
            f"{quota.records_per_job}"
        )
    return total
