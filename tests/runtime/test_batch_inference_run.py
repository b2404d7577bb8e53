"""A batch inference's steps over HTTP: jobs, events, order, what is sent again, and what it costs."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from support_batch import Context
from support_batch_inference import FakeBatchInference, event_of, running_inference
from tokenmill_runtime import batch_inference
from tokenmill_runtime.batch_inference_job import SubmitLater
from tokenmill_runtime.batch_objects import InputRefused

if TYPE_CHECKING:
    from collections.abc import Iterator

OUTPUT = "output/run"
EVENT = {"input": "input/requests.jsonl", "output": OUTPUT, "execution": "arn:run:1"}
STARTED = "2026-11-22T22:00:00.000Z"


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBatchInference]:
    yield from running_inference(monkeypatch)


def upload(cloud: FakeBatchInference, count: int) -> None:
    lines = [
        json.dumps(
            {"custom_id": f"c{n}", "body": {"messages": [{"role": "user", "content": f"question {n}"}]}}
        )
        for n in range(count)
    ]
    cloud.put("files", EVENT["input"], "\n".join(lines).encode())


def step(name: str, **changes: Any) -> dict[str, Any]:
    return batch_inference.handler({**EVENT, "step": name, **changes}, Context())


def parts(cloud: FakeBatchInference, round_number: int = 0) -> list[Any]:
    return cloud.lines("files", f"{OUTPUT}/progress/r{round_number}/parts.jsonl")


def submit_all(cloud: FakeBatchInference, round_number: int = 0) -> list[str]:
    before = set(cloud.jobs)
    for part in parts(cloud, round_number):
        assert step("submit", part=part, round=round_number) == {"submitted": True}
    return [arn for arn in cloud.jobs if arn not in before]


def gather_all(cloud: FakeBatchInference, round_number: int = 0) -> None:
    for part in parts(cloud, round_number):
        step("gather", part=part, round=round_number)


def results(cloud: FakeBatchInference, name: str = "results") -> list[Any]:
    return cloud.lines("files", f"{OUTPUT}/{name}.jsonl")


def test_answers_come_back_in_the_order_of_the_lines(cloud: FakeBatchInference) -> None:
    """Two jobs whose outputs are out of order; every answer with its place, name and a chat completion."""
    upload(cloud, 10)
    assert step("plan") == {
        "next": "jobs",
        "round": 0,
        "records": 10,
        "parts": 2,
        "parts_key": f"{OUTPUT}/progress/r0/parts.jsonl",
        "left": 0,
    }
    for arn in submit_all(cloud):
        cloud.end(arn)
    gather_all(cloud)
    assert step("review", round=0, started=STARTED)["next"] == "done"
    summary = step("collate", round=0, left=0)
    assert (summary["records"], summary["succeeded"], summary["failed"], summary["jobs"]) == (10, 10, 0, 2)
    found = results(cloud)
    assert [(item["index"], item["custom_id"]) for item in found] == [(n, f"c{n}") for n in range(10)]
    assert found[3]["response"] == {
        "object": "chat.completion",
        "model": "amazon.nova-lite-v1:0",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "re: question 3"},
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 2,
            "total_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
    }
    assert cloud.text("files", f"{OUTPUT}/errors.jsonl") == ""


def test_a_job_is_what_bedrock_asks_for(cloud: FakeBatchInference) -> None:
    """Name under the rule's prefix, Converse's records with our ids, and folders of the part's own."""
    upload(cloud, 4)
    step("plan")
    (arn,) = submit_all(cloud)
    job = cloud.jobs[arn]
    assert job["jobName"].startswith("0123456789ab-") and len(job["jobName"]) <= 63
    assert (job["modelInvocationType"], job["timeoutDurationInHours"]) == ("Converse", 24)
    folder = f"s3://files/{OUTPUT}/progress/r0/p00000000"
    assert job["inputDataConfig"]["s3InputDataConfig"]["s3Uri"] == f"{folder}/part.jsonl"
    assert job["outputDataConfig"]["s3OutputDataConfig"]["s3Uri"] == f"{folder}/out/"
    assert cloud.records(arn)[2] == {
        "recordId": "00000000002",
        "modelInput": {
            "messages": [{"role": "user", "content": [{"text": "question 2"}]}],
            "inferenceConfig": {"maxTokens": 64},
        },
    }


def test_a_part_is_submitted_once(cloud: FakeBatchInference) -> None:
    """Whether the step is run again, or Bedrock acted and its answer got lost."""
    upload(cloud, 4)
    step("plan")
    (part,) = parts(cloud)
    cloud.lost_answers = 1
    with pytest.raises(SubmitLater, match="InternalServerException"):
        step("submit", part=part, round=0)
    assert step("submit", part=part, round=0) == {"submitted": True}
    asked = cloud.asked
    assert step("submit", part=part, round=0) == {"submitted": True}
    assert (len(cloud.jobs), cloud.asked) == (1, asked)


def test_another_execution_submits_its_own_jobs(cloud: FakeBatchInference) -> None:
    """What stands in the same folder is of another run."""
    upload(cloud, 4)
    step("plan")
    submit_all(cloud)
    (part,) = parts(cloud)
    step("submit", part=part, round=0, execution="arn:run:2")
    assert len(cloud.jobs) == 2
    assert len({job["jobName"] for job in cloud.jobs.values()}) == 2


@pytest.mark.parametrize(
    ("status", "code"), [(400, "ServiceQuotaExceededException"), (429, "ThrottlingException")]
)
def test_a_job_too_many_is_asked_for_later(cloud: FakeBatchInference, status: int, code: str) -> None:
    """The state machine retries this error by name."""
    upload(cloud, 4)
    step("plan")
    cloud.refusals = [(status, code)]
    with pytest.raises(SubmitLater, match=code):
        step("submit", part=parts(cloud)[0], round=0)
    assert submit_all(cloud)


def test_a_job_that_bedrock_refuses_is_told_and_not_tried_again(cloud: FakeBatchInference) -> None:
    """Each of its records fails with the reason, and so does the run."""
    upload(cloud, 4)
    step("plan")
    cloud.refusals = [(403, "AccessDeniedException")]
    assert step("submit", part=parts(cloud)[0], round=0) == {"submitted": False}
    assert step("review", round=0, started=STARTED) == {
        "next": "done",
        "round": 0,
        "records": 0,
        "parts": 0,
        "parts_key": "",
        "left": 0,
    }
    summary = step("collate", round=0, left=0)
    assert (summary["failed"], summary["tolerated"]) == (4, False)
    assert summary["message"].endswith(
        "Bedrock refused a job: AccessDeniedException: AccessDeniedException of the test"
    )
    assert {item["error"]["kind"] for item in results(cloud, "errors")} == {"refused"}


def test_the_end_of_a_job_wakes_its_task(cloud: FakeBatchInference) -> None:
    """The token that waits is found by the job's own output folder, and answered once."""
    upload(cloud, 4)
    step("plan")
    (arn,) = submit_all(cloud)
    (part,) = parts(cloud)
    assert step("await", part=part, round=0, token="T1") == {"status": "Submitted"}
    assert cloud.answered == []
    event = cloud.end(arn)
    assert batch_inference.handler(event, Context()) == {"answered": True}
    assert batch_inference.handler(event, Context()) == {"answered": False}
    assert cloud.answered == [("T1", {"status": "Completed"})]


def test_a_lost_event_is_made_up_for(cloud: FakeBatchInference) -> None:
    """Who comes to wait for a job that has ended goes on at once, with a new token."""
    upload(cloud, 4)
    step("plan")
    (arn,) = submit_all(cloud)
    (part,) = parts(cloud)
    step("await", part=part, round=0, token="T1")
    cloud.gone.add("T1")
    cloud.end(arn)
    assert step("await", part=part, round=0, token="T2") == {"status": "Completed"}
    assert cloud.answered == [("T2", {"status": "Completed"})]


def test_events_of_others_are_left_alone(cloud: FakeBatchInference) -> None:
    """Of another bucket, of a job that runs, and before anybody waits."""
    upload(cloud, 4)
    step("plan")
    (arn,) = submit_all(cloud)
    job = cloud.jobs[arn]
    ended = cloud.end(arn)
    assert batch_inference.handler(ended, Context()) == {"answered": False}
    assert batch_inference.handler(event_of(job, status="InProgress"), Context()) == {"answered": False}
    job["outputDataConfig"] = {"s3OutputDataConfig": {"s3Uri": "s3://other/output/out/"}}
    assert batch_inference.handler(ended, Context()) == {"answered": False}


def test_failed_records_go_through_another_job(cloud: FakeBatchInference) -> None:
    """Throttled and missing ones again, refused ones not; the lines keep their order and their names."""
    upload(cloud, 10)
    step("plan")
    first, second = submit_all(cloud)
    cloud.end(first, errors={0: 429, 2: 400, 3: 503})
    cloud.end(second, "PartiallyCompleted", missing=(9,), message="not in time")
    gather_all(cloud)
    found = step("review", round=0, started=STARTED)
    assert (found["next"], found["round"], found["records"], found["left"]) == ("jobs", 1, 3, 0)
    (again,) = submit_all(cloud, 1)
    assert [record["recordId"] for record in cloud.records(again)] == [f"{n:011d}" for n in (0, 3, 9)]
    cloud.end(again, errors={3: 503})
    gather_all(cloud, 1)
    assert step("review", round=1, started=STARTED)["next"] == "on-demand"
    assert step("ask", round=2, turns=0)["settled"] is True
    summary = step("collate", round=2, left=0)
    assert (summary["succeeded"], summary["failed"], summary["tolerated"]) == (9, 1, True)
    assert [item["index"] for item in results(cloud)] == [0, 1, 3, 4, 5, 6, 7, 8, 9]
    assert results(cloud, "errors") == [
        {"index": 2, "custom_id": "c2", "error": {"kind": "failed", "code": 400, "message": "code 400"}}
    ]
    assert [item["messages"][0]["content"][0]["text"] for item in cloud.conversed] == ["question 3"]


def test_errors_stand_when_no_retry_is_left(cloud: FakeBatchInference) -> None:
    """As many as a job takes, after the last round: they are in the file of errors, with what was said."""
    upload(cloud, 6)
    step("plan")
    for _ in range(2):
        round_number = len(cloud.jobs)
        (arn,) = submit_all(cloud, round_number)
        cloud.end(arn, errors={0: 500, 3: 500, 5: 500})
        gather_all(cloud, round_number)
        found = step("review", round=round_number, started=STARTED)
    assert (found["next"], found["round"], found["left"]) == ("done", 1, 3)
    summary = step("collate", round=1, left=3)
    assert (summary["succeeded"], summary["failed"], summary["tolerated"]) == (3, 3, False)
    assert results(cloud, "errors") == [
        {"index": n, "custom_id": f"c{n}", "error": {"kind": "failed", "code": 500, "message": "code 500"}}
        for n in (0, 3, 5)
    ]


def test_no_job_is_started_that_could_miss_the_deadline(
    monkeypatch: pytest.MonkeyPatch, cloud: FakeBatchInference
) -> None:
    """After the first round there are 24 hours no more."""
    settings = json.loads(os.environ["TOKENMILL_BATCH_INFERENCE"])
    monkeypatch.setenv("TOKENMILL_BATCH_INFERENCE", json.dumps({**settings, "deadline_hours": 30}))
    upload(cloud, 6)
    step("plan")
    (arn,) = submit_all(cloud)
    cloud.end(arn, "Expired", missing=(0, 1, 2), message="the job expired")
    gather_all(cloud)
    late = step("review", round=0, started="2020-01-01T00:00:00Z")
    assert (late["next"], late["left"]) == ("done", 3)
    early = step("review", round=0, started="2999-01-01T00:00:00Z")
    assert (early["next"], early["records"]) == ("jobs", 3)
    step("collate", round=0, left=3)
    assert {item["error"]["message"] for item in results(cloud, "errors")} == {"the job expired"}


def test_a_stopped_job_is_not_started_again(cloud: FakeBatchInference) -> None:
    """Who stops a job wants it to end; what it has answered is kept."""
    upload(cloud, 6)
    step("plan")
    (arn,) = submit_all(cloud)
    cloud.end(arn, "Stopped", missing=(1, 2, 3, 4))
    gather_all(cloud)
    assert step("review", round=0, started=STARTED)["next"] == "done"
    summary = step("collate", round=0, left=0)
    assert (summary["succeeded"], summary["failed"]) == (2, 4)


def test_a_failed_job_is_sent_again_as_a_whole(cloud: FakeBatchInference) -> None:
    """It wrote nothing; its reason stands at every record if the second fails as well."""
    upload(cloud, 4)
    step("plan")
    cloud.end(submit_all(cloud)[0], "Failed", message="no access to the bucket")
    gather_all(cloud)
    assert step("review", round=0, started=STARTED)["records"] == 4
    cloud.end(submit_all(cloud, 1)[0], "Failed", message="no access to the bucket")
    gather_all(cloud, 1)
    assert step("review", round=1, started=STARTED)["left"] == 4
    step("collate", round=1, left=4)
    assert results(cloud, "errors")[0]["error"] == {
        "kind": "Failed",
        "code": None,
        "message": "no access to the bucket",
    }


def test_a_part_whose_steps_ended_is_sent_again(cloud: FakeBatchInference) -> None:
    """Also where its answers had been written: without its summary nothing of it counts."""
    upload(cloud, 10)
    step("plan")
    for arn in submit_all(cloud):
        cloud.end(arn)
    gather_all(cloud)
    del cloud.objects["files", f"{OUTPUT}/progress/r0/p00000001/summary.json"]
    assert step("review", round=0, started=STARTED)["records"] == 4
    cloud.end(submit_all(cloud, 1)[0])
    gather_all(cloud, 1)
    assert step("review", round=1, started=STARTED)["next"] == "done"
    summary = step("collate", round=1, left=0)
    assert (summary["succeeded"], summary["failed"]) == (10, 0)
    assert [item["index"] for item in results(cloud)] == list(range(10))


def test_the_bill_is_made_of_what_was_counted(cloud: FakeBatchInference) -> None:
    """Jobs at the batch price, records asked one by one at the standard one."""
    upload(cloud, 6)
    step("plan")
    cloud.end(submit_all(cloud)[0], errors={5: 500})
    gather_all(cloud)
    step("review", round=0, started=STARTED)
    step("ask", round=1, turns=0)
    report = step("collate", round=1, left=0)["report"]
    batch, standard = report["tiers"]["batch"], report["tiers"]["standard"]
    assert (batch["records"], batch["tokens"]["input"], batch["tokens"]["output"]) == (5, 15, 10)
    assert batch["usd"] == pytest.approx((15 * 0.5 + 10 * 2.0) / 1e6)
    assert standard["usd"] == pytest.approx((3 * 1.0 + 2 * 4.0) / 1e6)
    assert report["usd"] == pytest.approx(batch["usd"] + standard["usd"])
    assert json.loads(cloud.text("files", f"{OUTPUT}/cost.json")) == report


def test_a_missing_price_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """No number stands for what nobody knows; the tokens are there all the same."""
    for fake in running_inference(monkeypatch, {"prices": {}, "price_note": "no price is known"}):
        upload(fake, 4)
        step("plan")
        fake.end(submit_all(fake)[0])
        gather_all(fake)
        step("review", round=0, started=STARTED)
        report = step("collate", round=0, left=0)["report"]
    assert (report["usd"], report["note"]) == (None, "no price is known")
    assert report["tiers"]["batch"]["missing_prices"] == ["input", "output"]
    assert report["tiers"]["batch"]["tokens"]["input"] == 12


def test_an_unknown_step_is_refused(cloud: FakeBatchInference) -> None:
    """Only what the state machine sends is a step."""
    with pytest.raises(ValueError, match="step is 'sing'; it must be one of plan, submit"):
        step("sing")
    with pytest.raises(InputRefused, match="there is no object"):
        step("plan")
