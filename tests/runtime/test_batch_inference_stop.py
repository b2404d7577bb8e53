"""An execution that is stopped: its jobs end with it, and no other's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from support_batch import Context
from support_batch_inference import FakeBatchInference, running_inference
from tokenmill_runtime import batch_inference, batch_inference_stop

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN, OTHER = (
    "arn:aws:states:us-east-1:1:execution:Nightly:1",
    "arn:aws:states:us-east-1:1:execution:Nightly:2",
)


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBatchInference]:
    yield from running_inference(monkeypatch)


def step(name: str, execution: str, **changes: Any) -> dict[str, Any]:
    event = {"input": "input/a.jsonl", "output": f"output/{execution[-1]}", "execution": execution}
    return batch_inference.handler({**event, "step": name, **changes}, Context())


def submitted(cloud: FakeBatchInference, execution: str, records: int = 12) -> list[str]:
    """Start the jobs of an execution, six records each."""
    body = json.dumps({"messages": [{"role": "user", "content": "hi"}]})
    cloud.put("files", "input/a.jsonl", f"{body}\n".encode() * records)
    step("plan", execution)
    before = set(cloud.jobs)
    for part in cloud.lines("files", f"output/{execution[-1]}/progress/r0/parts.jsonl"):
        assert step("submit", execution, part=part, round=0) == {"submitted": True}
    return [arn for arn in cloud.jobs if arn not in before]


def stop(execution: str, status: str = "ABORTED") -> dict[str, Any]:
    """The event of an execution's status ("Automating Step Functions event delivery with EventBridge")."""
    event = {
        "version": "0",
        "detail-type": "Step Functions Execution Status Change",
        "source": "aws.states",
        "detail": {"executionArn": execution, "status": status, "name": execution[-1]},
    }
    return batch_inference.handler(event, Context())


def statuses(cloud: FakeBatchInference, arns: list[str]) -> list[str]:
    return [cloud.jobs[arn]["status"] for arn in arns]


@pytest.mark.parametrize("status", ["ABORTED", "TIMED_OUT"])
def test_a_stopped_execution_takes_its_jobs_along(cloud: FakeBatchInference, status: str) -> None:
    """Every page of them, and none of another execution of the same construct."""
    mine, others = submitted(cloud, RUN, 18), submitted(cloud, OTHER)
    assert stop(RUN, status) == {"stopped": 3}
    assert (statuses(cloud, mine), statuses(cloud, others)) == (["Stopping"] * 3, ["Submitted"] * 2)


def test_jobs_that_have_ended_are_left_alone(cloud: FakeBatchInference) -> None:
    """An event that comes twice finds nothing to stop."""
    first, second = submitted(cloud, RUN)
    cloud.end(first)
    assert stop(RUN) == {"stopped": 1}
    assert stop(RUN) == {"stopped": 0}
    assert statuses(cloud, [first, second]) == ["Completed", "Stopping"]


@pytest.mark.parametrize("code", ["ValidationException", "ConflictException"])
def test_a_job_that_ends_between_look_and_stop_keeps_no_other_alive(
    cloud: FakeBatchInference, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """Bedrock refuses to stop what has ended, by one of two codes."""
    cloud.not_stopped = code
    first, second = submitted(cloud, RUN)
    look = batch_inference_stop.jobs_named

    def then_end(text: str) -> list[Any]:
        found = list(look(text))
        cloud.end(first)
        return found

    monkeypatch.setattr(batch_inference_stop, "jobs_named", then_end)
    assert stop(RUN) == {"stopped": 1}
    assert statuses(cloud, [first, second]) == ["Completed", "Stopping"]


def test_a_job_that_runs_and_is_not_stopped_is_told(cloud: FakeBatchInference) -> None:
    """The same code as of a job that has ended, but this one costs on."""
    submitted(cloud, RUN)
    cloud.unstoppable = True
    with pytest.raises(ClientError, match="ValidationException"):
        stop(RUN)


def test_other_errors_of_stopping_are_told(
    cloud: FakeBatchInference, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lambda tries the event again, and its dead letter is seen."""
    submitted(cloud, RUN)
    refused = ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "Stop")

    class Refusing:
        def stop_model_invocation_job(self, **_: Any) -> None:
            raise refused

    monkeypatch.setattr(batch_inference_stop, "bedrock", Refusing)
    with pytest.raises(ClientError, match="AccessDenied"):
        batch_inference_stop.stop_job("arn")


@pytest.mark.parametrize("status", ["RUNNING", "SUCCEEDED", "FAILED"])
def test_other_states_of_an_execution_stop_nothing(cloud: FakeBatchInference, status: str) -> None:
    """A failed execution can be redriven, and takes up the jobs that it has."""
    jobs = submitted(cloud, RUN)
    assert stop(RUN, status) == {"stopped": 0}
    assert statuses(cloud, jobs) == ["Submitted"] * 2


def test_a_job_that_was_being_started_meanwhile_is_stopped_too(cloud: FakeBatchInference) -> None:
    """Writing a part's file takes a while; the event found no job yet."""
    cloud.stopped_runs.add(RUN)
    assert stop(RUN) == {"stopped": 0}
    assert statuses(cloud, submitted(cloud, RUN)) == ["Stopping"] * 2
    assert statuses(cloud, submitted(cloud, OTHER)) == ["Submitted"] * 2


def test_a_lost_answer_is_found_among_many_jobs(cloud: FakeBatchInference) -> None:
    """A name is contained in others: p1 in p10 and all after it, on pages of their own."""
    body = json.dumps({"messages": [{"role": "user", "content": "hi"}]})
    cloud.put("files", "input/a.jsonl", f"{body}\n".encode() * 72)
    step("plan", RUN)
    parts = cloud.lines("files", "output/1/progress/r0/parts.jsonl")
    assert len(parts) == 12
    for part in [*parts[10:], *parts[:10]]:
        step("submit", RUN, part=part, round=0)
    job = json.loads(cloud.text("files", "output/1/progress/r0/p00000001/job.json"))["job"]
    del cloud.objects["files", "output/1/progress/r0/p00000001/job.json"]
    cloud.refusals = [(409, "ConflictException")]
    assert step("submit", RUN, part=parts[1], round=0) == {"submitted": True}
    assert json.loads(cloud.text("files", "output/1/progress/r0/p00000001/job.json"))["job"] == job
