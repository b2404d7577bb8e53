"""What is kept of a part that has settled: answers, errors, records to send again, counts and tokens."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from tokenmill_runtime.batch_inference_records import USAGE, response, usage
from tokenmill_runtime.batch_inference_run import write_line
from tokenmill_runtime.batch_objects import ObjectWriter

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from tokenmill_runtime.batch_inference_run import BatchRun, Part, Settings
    from tokenmill_runtime.batch_run import Record


class PartWriter:
    """Results, errors and records to send again of one part, and what they add up to."""

    def __init__(self, run: BatchRun, settings: Settings, part: Part, round_number: int) -> None:
        def writer(name: str) -> ObjectWriter:
            return ObjectWriter(
                settings.bucket, run.of_part(round_number, part.number, name), metadata=run.mark
            )

        self._settings = settings
        self._open = ExitStack()
        self._results, self._errors = writer("results.jsonl"), writer("errors.jsonl")
        self._again = writer("again.jsonl")
        self.counts = {"succeeded": 0, "failed": 0, "again": 0}
        self.tokens = dict.fromkeys(USAGE, 0)

    def __enter__(self) -> PartWriter:
        for writer in (self._results, self._errors, self._again):
            self._open.enter_context(writer)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, value, trace)

    def answer(self, record: Record, answer: Mapping[str, Any]) -> None:
        """Take an answer in Converse's form."""
        for name, count in usage(answer).items():
            self.tokens[name] += count
        self.counts["succeeded"] += 1
        self._results.write(write_line(record, response=response(answer, self._settings)))

    def fail(self, record: Record, error: Mapping[str, Any]) -> None:
        """Take an error that stands."""
        self.counts["failed"] += 1
        self._errors.write(write_line(record, error=error))

    def send_again(self, record: Record, error: Mapping[str, Any]) -> None:
        """Take a record that another job may answer; the error stands if there is none."""
        self.counts["again"] += 1
        self._again.write(write_line(record, body=json.loads(record.body), error=error))


def summary_of(written: PartWriter, *, tier: str) -> dict[str, Any]:
    """Counts and tokens of a part; ``tier`` is what its tokens are priced as."""
    return {"tier": tier, **written.counts, "tokens": written.tokens}
