"""Records asked one by one: turns that end in time, throttling that passes, errors that stand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support_batch_inference import FakeBatchInference, running_inference
from tokenmill_runtime import batch_inference, batch_inference_rest

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENT = {"input": "input/a.jsonl", "output": "output/a", "execution": "arn:run:1"}


class Context:
    """Lambda's context: so many looks before time runs out."""

    def __init__(self, looks: int = 1000) -> None:
        self._looks = looks

    def get_remaining_time_in_millis(self) -> int:
        self._looks -= 1
        return 900_000 if self._looks >= 0 else 1_000


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBatchInference]:
    yield from running_inference(monkeypatch, {"minimum_records": 20, "part_records": 50})


def begin(cloud: FakeBatchInference, count: int) -> None:
    lines = [json.dumps({"messages": [{"role": "user", "content": f"q{n}"}]}) for n in range(count)]
    cloud.put("files", EVENT["input"], "\n".join(lines).encode())
    assert step("plan")["next"] == "on-demand"


def step(name: str, context: Context | None = None, **changes: Any) -> dict[str, Any]:
    return batch_inference.handler({**EVENT, "step": name, **changes}, context or Context())


def asked(cloud: FakeBatchInference) -> list[str]:
    return [item["messages"][0]["content"][0]["text"] for item in cloud.conversed]


def test_a_turn_that_runs_out_of_time_goes_on_in_the_next(cloud: FakeBatchInference) -> None:
    """What was answered is not asked again; the model was called once a record."""
    begin(cloud, 19)
    found = step("ask", Context(looks=1), turns=0)
    assert (found["settled"], found["wait_seconds"], found["turns"]) == (False, 1, 1)
    assert len(asked(cloud)) == 8
    assert step("ask", turns=1)["settled"] is True
    assert sorted(asked(cloud)) == sorted(f"q{n}" for n in range(19))
    summary = step("collate", round=0, left=0)
    assert (summary["succeeded"], summary["failed"]) == (19, 0)
    results = cloud.lines("files", "output/a/results.jsonl")
    assert [item["index"] for item in results] == list(range(19))
    assert results[7]["response"]["choices"][0]["message"]["content"] == "re: q7"


def test_a_model_that_throttles_is_waited_for(cloud: FakeBatchInference) -> None:
    """A throttled turn ends, and the state machine waits."""
    begin(cloud, 3)
    cloud.converse_refusals = {"q1": [(429, "ThrottlingException")]}
    found = step("ask", turns=0)
    assert (found["settled"], found["wait_seconds"]) == (False, 30)
    assert step("ask", turns=1)["settled"] is True
    assert sorted(asked(cloud)) == ["q0", "q1", "q2"]


def test_a_model_that_never_answers_becomes_an_error(cloud: FakeBatchInference) -> None:
    """After the last turn, so that a run ends."""
    begin(cloud, 2)
    cloud.converse_refusals = {"q1": [(503, "ServiceUnavailableException")] * 5}
    last = batch_inference_rest.MOST_TURNS - 1
    assert step("ask", turns=last)["settled"] is True
    step("collate", round=0, left=0)
    (error,) = cloud.lines("files", "output/a/errors.jsonl")
    assert (error["index"], error["error"]["kind"]) == (1, "throttled")


def test_a_request_that_the_model_refuses_is_not_asked_again(cloud: FakeBatchInference) -> None:
    """Its error is Bedrock's."""
    begin(cloud, 2)
    cloud.converse_refusals = {"q0": [(400, "ValidationException")]}
    assert step("ask", turns=0)["settled"] is True
    step("collate", round=0, left=0)
    (error,) = cloud.lines("files", "output/a/errors.jsonl")
    assert error["error"] == {
        "kind": "failed",
        "code": "ValidationException",
        "message": "ValidationException of the test",
    }


def test_another_execution_asks_anew(cloud: FakeBatchInference) -> None:
    """Answers of an older run in the same folder are not taken for its own."""
    begin(cloud, 2)
    step("ask", turns=0)
    cloud.put("files", EVENT["input"], b'{"messages": [{"role": "user", "content": "new"}]}\n')
    step("plan", execution="arn:run:2")
    step("ask", turns=0, execution="arn:run:2")
    assert asked(cloud)[-1] == "new"
