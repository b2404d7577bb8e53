"""What Bedrock may leave in a job's output: every record gets one outcome, whatever the lines are like."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support_batch import Context
from support_batch_inference import FakeBatchInference, running_inference
from tokenmill_runtime import batch_inference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Change = Callable[[list[bytes]], bytes]

OUTPUT = "output/run"
EVENT = {"input": "input/requests.jsonl", "output": OUTPUT, "execution": "arn:run:1"}
BOM = b"\xef\xbb\xbf"


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBatchInference]:
    yield from running_inference(monkeypatch)


def step(name: str, **changes: Any) -> dict[str, Any]:
    return batch_inference.handler({**EVENT, "step": name, **changes}, Context())


def gathered(cloud: FakeBatchInference, change: Change) -> dict[str, Any]:
    """Run four records through a job whose output's lines were changed; return what is told of the part."""
    bodies = [{"messages": [{"role": "user", "content": f"question {n}"}]} for n in range(4)]
    cloud.put("files", EVENT["input"], "\n".join(json.dumps(body) for body in bodies).encode())
    step("plan")
    (part,) = cloud.lines("files", f"{OUTPUT}/progress/r0/parts.jsonl")
    step("submit", part=part, round=0)
    (arn,) = cloud.jobs
    cloud.end(arn)
    key = f"{OUTPUT}/progress/r0/p00000000/out/{arn.rpartition('/')[2]}/part.jsonl.out"
    lines = cloud.objects["files", key].body.splitlines()
    cloud.put("files", key, change(lines))
    step("gather", part=part, round=0)
    return json.loads(cloud.text("files", f"{OUTPUT}/progress/r0/p00000000/summary.json"))


def ended(line: bytes, **changes: Any) -> bytes:
    return json.dumps({**json.loads(line), **changes}).encode()


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: BOM + b"\n".join(lines),
        lambda lines: b"\r\n".join(lines) + b"\r\n",
        lambda lines: b"\n\r\n \n" + b"\n\n".join(lines) + b"\n\n",
        lambda lines: b"\n".join([*lines, *lines]),
        lambda lines: b"\n".join([*lines, ended(lines[0], recordId="somebody else's")]),
        lambda lines: b"\n".join([*lines, json.dumps({"modelOutput": {}}).encode()]),
    ],
    ids=["byte order mark", "CRLF", "blank lines", "every id twice", "an unknown id", "no id"],
)
def test_every_record_is_answered_once(cloud: FakeBatchInference, change: Change) -> None:
    """Outcomes are counted by our records, not by the service's lines."""
    summary = gathered(cloud, change)
    assert (summary["succeeded"], summary["failed"], summary["again"]) == (4, 0, 0)
    assert summary["tokens"]["input"] == 4 * 3
    lines = cloud.lines("files", f"{OUTPUT}/progress/r0/p00000000/results.jsonl")
    assert [line["index"] for line in lines] == [0, 1, 2, 3]
    said = [line["response"]["choices"][0]["message"]["content"] for line in lines]
    assert said == [f"re: question {n}" for n in range(4)]


def test_an_answer_of_null_is_no_answer(cloud: FakeBatchInference) -> None:
    """A record that failed may have both members; the error counts."""
    error = {"errorCode": 400, "errorMessage": "refused"}

    def change(lines: list[bytes]) -> bytes:
        return b"\n".join([*lines[1:], ended(lines[0], modelOutput=None, error=error)])

    summary = gathered(cloud, change)
    assert (summary["succeeded"], summary["failed"], summary["again"]) == (3, 1, 0)
    (failed,) = cloud.lines("files", f"{OUTPUT}/progress/r0/p00000000/errors.jsonl")
    assert failed["error"] == {"kind": "failed", "code": 400, "message": "refused"}


def test_a_line_that_is_cut_off_costs_its_own_record_alone(cloud: FakeBatchInference) -> None:
    """Sending a whole job again for it would be paid for twice."""
    summary = gathered(cloud, lambda lines: b"\n".join(lines)[:-20])
    assert (summary["succeeded"], summary["failed"], summary["again"]) == (3, 0, 1)
    assert summary["unreadable_lines"] == 1
    (again,) = cloud.lines("files", f"{OUTPUT}/progress/r0/p00000000/again.jsonl")
    assert again["error"]["kind"] == "Missing"
