"""One run of a fan-out: what it reads, where it writes, and the records of its file.

A line of the file is a request's JSON body, or the form of OpenAI's batch files: ``{"custom_id": ..., "body":
{...}}`` with further keys, which are not read.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from tokenmill_runtime.batch_objects import InputRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE: Final = "TOKENMILL_FAN_OUT"
# "InferenceId" of InvokeEndpointAsync: 1 to 64 characters.
ID_CHARACTERS: Final = 48


class RenderedSettings:
    """A function's settings, which a construct renders into a variable of its environment."""

    __slots__ = ()
    variable: ClassVar[str]
    rendered_by: ClassVar[str]

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """The settings in the function's environment.

        Raises ValueError naming the variable when they are not there or not of their form.
        """
        text = environment.get(cls.variable)
        if text is None:
            raise ValueError(f"environment variable {cls.variable} is not set; {cls.rendered_by} renders it")
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{cls.variable} must be the document that {cls.rendered_by} renders, got {text!r}"
            ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(RenderedSettings):
    """What the template says of a fan-out.

    ``bucket`` holds input and output, ``requests`` is the folder (s3://bucket/folder) that the endpoint reads
    requests from; times are in seconds.
    """

    variable: ClassVar = VARIABLE
    rendered_by: ClassVar = "AsyncFanOut"

    endpoint: str
    bucket: str
    requests: str
    shard_records: int
    request_ttl_seconds: int
    invocation_timeout_seconds: int
    tolerated_failure_percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One execution: its input's key, its output's folder, and the name of the execution."""

    input: str
    output: str
    execution: str

    @classmethod
    def read(cls, event: Mapping[str, Any]) -> Self:
        """The run that an event of the state machine is about.

        Raises InputRefused when a part is missing.
        """
        for name in ("input", "output", "execution"):
            if not isinstance(event.get(name), str) or not event[name]:
                raise InputRefused(f"{name} is {event.get(name)!r}; it must be a text that is not empty")
        return cls(input=event["input"], output=event["output"].rstrip("/"), execution=event["execution"])

    @property
    def shards(self) -> str:
        """Key of the list of shards, one JSON object a line."""
        return f"{self.output}/progress/shards.jsonl"

    @property
    def results(self) -> str:
        """Key of the answers, in the order of the input."""
        return f"{self.output}/results.jsonl"

    @property
    def errors(self) -> str:
        """Key of the failures, in the order of the input."""
        return f"{self.output}/errors.jsonl"

    @property
    def summary(self) -> str:
        """Key of the counts."""
        return f"{self.output}/summary.json"

    def ledger(self, shard: int) -> str:
        """Key of what is known of a shard's requests."""
        return f"{self.output}/progress/ledger/{shard:08d}.json"

    def part(self, kind: str, shard: int) -> str:
        """Key of a shard's own results or errors."""
        return f"{self.output}/progress/{kind}/{shard:08d}.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """Consecutive records of the input: which, and at which bytes of which version they stand."""

    number: int
    first: int
    count: int
    start: int
    end: int
    etag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One request: its place in the file, the caller's name for it, and the body for the model."""

    index: int
    custom_id: str | None
    body: bytes

    def inference_id(self, endpoint: str) -> str:
        """The request's name at SageMaker: the same for the same line at the same place, in every run."""
        digest = hashlib.sha256()
        for part in (endpoint.encode(), str(self.index).encode(), (self.custom_id or "").encode(), self.body):
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
        return digest.hexdigest()[:ID_CHARACTERS]

    def labels(self) -> dict[str, Any]:
        """What tells its result from others': index, and the caller's name if there is one."""
        named = {} if self.custom_id is None else {"custom_id": self.custom_id}
        return {"index": self.index, **named}


def read_record(line: bytes, *, index: int, line_number: int) -> Record:
    """The record of one line.

    Raises InputRefused naming line and form when it has none.
    """
    try:
        # Files that were joined may have a byte order mark at any line, which no server takes in a body.
        text = line.decode("utf-8-sig")
        document = json.loads(text, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise InputRefused(f"line {line_number} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise InputRefused(
            f"line {line_number} is a {type(document).__name__}; every line must be a JSON object"
        )
    if "custom_id" not in document:
        return Record(index=index, custom_id=None, body=text.strip().encode())
    custom_id, body = document["custom_id"], document.get("body")
    if not isinstance(custom_id, str) or not isinstance(body, dict):
        raise InputRefused(
            f'line {line_number} has a custom_id, so it must be {{"custom_id": "<text>", "body": {{...}}}}'
        )
    return Record(index=index, custom_id=custom_id, body=json.dumps(body, separators=(",", ":")).encode())


def _finite(text: str) -> float:
    """A number; Python's reader also takes NaN, Infinity and 1e999, and would write them as no JSON."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no number of JSON")
    return value
