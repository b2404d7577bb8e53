"""A fan-out's steps over HTTP: what is sent once, what comes back in order, what is told of the rest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support_batch import Context, FakeBatchCloud, running
from tokenmill_runtime import batch_fan_out, batch_plan, batch_shard
from tokenmill_runtime.batch_ledger import LedgerTaken
from tokenmill_runtime.batch_objects import InputRefused, split_uri
from tokenmill_runtime.batch_run import Run, Settings, Shard
from tokenmill_runtime.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Iterator

OUTPUT = "output/run"
EVENT = {"input": "input/requests.jsonl", "output": OUTPUT, "execution": "arn:run:1"}
SETTINGS = {
    "endpoint": "chat",
    "bucket": "files",
    "requests": "s3://mailbox/async/requests",
    "shard_records": 2,
    "request_ttl_seconds": 600,
    "invocation_timeout_seconds": 300,
    "tolerated_failure_percent": 25.0,
}


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBatchCloud]:
    yield from running(monkeypatch, SETTINGS)


def upload(cloud: FakeBatchCloud, *documents: Any) -> None:
    cloud.put("files", EVENT["input"], b"".join(json.dumps(item).encode() + b"\n" for item in documents))


def ask(step: str, **changes: Any) -> dict[str, Any]:
    extra = {"failure": {"Error": "", "Cause": ""}} if step == "collate" else {}
    return batch_fan_out.handler({**EVENT, "step": step, **extra, **changes}, Context())


def shards(cloud: FakeBatchCloud) -> list[Any]:
    return cloud.lines("files", f"{OUTPUT}/progress/shards.jsonl")


def turn(cloud: FakeBatchCloud, number: int, *, turns: int = 0, **changes: Any) -> dict[str, Any]:
    return ask("shard", shard=shards(cloud)[number], turns=turns, **changes)


def prompts(count: int) -> list[dict[str, Any]]:
    return [{"messages": [{"role": "user", "content": f"question {index}"}]} for index in range(count)]


def test_answers_come_back_in_the_order_of_the_lines(cloud: FakeBatchCloud) -> None:
    """Whatever the order in which shards run and requests end."""
    upload(cloud, *prompts(5))
    assert ask("plan") == {"records": 5, "shards": 3, "shards_key": f"{OUTPUT}/progress/shards.jsonl"}
    for number in (2, 0, 1):
        assert turn(cloud, number)["settled"] is False
    for taken in reversed(cloud.taken):
        cloud.answer(taken, {"text": taken.body["messages"][0]["content"]})
    for number in (1, 2, 0):
        assert turn(cloud, number, turns=1)["settled"] is True
    summary = ask("collate")
    assert (summary["records"], summary["succeeded"], summary["failed"]) == (5, 5, 0)
    assert summary["tolerated"] is True
    results = cloud.lines("files", f"{OUTPUT}/results.jsonl")
    assert [item["index"] for item in results] == [0, 1, 2, 3, 4]
    assert [item["response"]["text"] for item in results] == [f"question {index}" for index in range(5)]
    assert cloud.text("files", f"{OUTPUT}/errors.jsonl") == ""
    assert summary["results"] == f"s3://files/{OUTPUT}/results.jsonl"
    assert json.loads(cloud.text("files", f"{OUTPUT}/summary.json")) == summary


def test_a_request_is_what_the_line_says(cloud: FakeBatchCloud) -> None:
    """The bare body, or the body of OpenAI's batch form, with the limits that the template sets."""
    upload(
        cloud, {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"n": 1}}, {"n": 2}
    )
    ask("plan")
    turn(cloud, 0)
    assert [taken.body for taken in cloud.taken] == [{"n": 1}, {"n": 2}]
    headers = cloud.taken[0].headers
    assert headers["endpoint"] == "chat"
    assert headers["InputLocation"] == f"s3://mailbox/async/requests/{cloud.taken[0].inference_id}.json"
    assert (headers["RequestTTLSeconds"], headers["InvocationTimeoutSeconds"]) == ("600", "300")
    assert headers["Content-Type"] == "application/json"
    for taken in cloud.taken:
        cloud.answer(taken, "ok")
    turn(cloud, 0, turns=1)
    ask("collate")
    results = cloud.lines("files", f"{OUTPUT}/results.jsonl")
    assert [item.get("custom_id") for item in results] == ["a", None]


def test_nothing_is_sent_twice_however_often_a_turn_runs(cloud: FakeBatchCloud) -> None:
    """A retried task, a second execution of the same function, a waiting shard: one request a line."""
    upload(cloud, *prompts(2))
    ask("plan")
    for turns in range(3):
        assert turn(cloud, 0, turns=turns)["settled"] is False
    assert len(cloud.taken) == 2
    assert len({taken.inference_id for taken in cloud.taken}) == 2


def test_equal_lines_are_requests_of_their_own(cloud: FakeBatchCloud) -> None:
    """Somebody may want three samples of one prompt."""
    upload(cloud, {"n": 1}, {"n": 1})
    ask("plan")
    turn(cloud, 0)
    assert len({taken.inference_id for taken in cloud.taken}) == 2


def test_another_run_sends_only_what_has_no_answer(cloud: FakeBatchCloud) -> None:
    """Answered lines keep their answers, failed lines are tried again, waiting ones are waited for."""
    upload(cloud, *prompts(4))
    ask("plan")
    turn(cloud, 0), turn(cloud, 1)
    first, second, third, fourth = cloud.taken
    cloud.answer(first, "kept")
    cloud.fail(second, "out of memory")
    cloud.answer(third, "third")
    turn(cloud, 0, turns=1)
    again = {"execution": "arn:run:2"}
    ask("plan", **again)
    turn(cloud, 0, **again), turn(cloud, 1, **again)
    assert [taken.inference_id for taken in cloud.taken[4:]] == [second.inference_id]
    cloud.answer(cloud.taken[4], "mended")
    cloud.answer(fourth, "fourth")
    assert turn(cloud, 0, turns=1, **again)["settled"] and turn(cloud, 1, turns=1, **again)["settled"]
    assert ask("collate", **again)["failed"] == 0
    results = cloud.lines("files", f"{OUTPUT}/results.jsonl")
    assert [item["response"] for item in results] == ["kept", "mended", "third", "fourth"]


def test_an_answer_that_the_bucket_dropped_since_is_asked_for_again(cloud: FakeBatchCloud) -> None:
    """The endpoint's bucket keeps answers for some days only."""
    upload(cloud, *prompts(1))
    ask("plan")
    turn(cloud, 0)
    cloud.answer(cloud.taken[0], "old")
    assert turn(cloud, 0, turns=1)["settled"] is True
    bucket, key = split_uri(cloud.taken[0].answer)
    del cloud.objects[bucket, key]
    turn(cloud, 0, execution="arn:run:2")
    assert len(cloud.taken) == 2


def test_failures_are_told_beside_the_answers(cloud: FakeBatchCloud) -> None:
    """With what SageMaker wrote; the share of failures decides whether the execution fails."""
    upload(cloud, *prompts(2))
    ask("plan")
    turn(cloud, 0)
    cloud.answer(cloud.taken[0], {"text": "fine"})
    cloud.fail(cloud.taken[1], '{"message": "prompt is too long"}')
    assert turn(cloud, 0, turns=1)["settled"] is True
    summary = ask("collate")
    assert (summary["succeeded"], summary["failed"], summary["tolerated"]) == (1, 1, False)
    assert summary["message"].startswith(
        "1 of 2 records failed (50 percent, tolerated are 25); see s3://files/"
    )
    (error,) = cloud.lines("files", f"{OUTPUT}/errors.jsonl")
    assert error == {
        "index": 1,
        "inference_id": cloud.taken[1].inference_id,
        "error": {"kind": "failed", "message": {"message": "prompt is too long"}},
    }


def test_an_answer_wins_over_a_failure(cloud: FakeBatchCloud) -> None:
    """A queue delivers at least once, so a request may fail and be answered."""
    upload(cloud, *prompts(1))
    ask("plan")
    turn(cloud, 0)
    cloud.fail(cloud.taken[0], "worker died")
    cloud.answer(cloud.taken[0], "answered by another")
    turn(cloud, 0, turns=1)
    assert ask("collate")["succeeded"] == 1


def test_a_request_without_any_outcome_expires(cloud: FakeBatchCloud) -> None:
    """After the time that SageMaker may keep it and work on it, and not before."""
    upload(cloud, *prompts(1))
    ask("plan")
    now = [1000.0]
    arguments = (Run.read(EVENT), Settings(**SETTINGS), Shard(**shards(cloud)[0]))
    clock = Clock(wall=lambda: now[0])

    def again() -> dict[str, Any]:
        return batch_shard.turn(*arguments, turns=1, clock=clock, context=Context())

    again()
    now[0] += 600 + 300 + batch_shard.GRACE_SECONDS
    assert again()["settled"] is False
    now[0] += 1
    assert again()["settled"] is True
    ask("collate")
    (error,) = cloud.lines("files", f"{OUTPUT}/errors.jsonl")
    assert error["error"]["kind"] == "expired"
    assert "within 900 seconds" in error["error"]["message"]


def test_a_shard_that_never_ended_is_counted_record_by_record(cloud: FakeBatchCloud) -> None:
    """Parts of an earlier run do not stand in for it, and the reason that the shards ended is told."""
    upload(cloud, *prompts(3))
    ask("plan")
    turn(cloud, 0), turn(cloud, 1)
    for taken in cloud.taken:
        cloud.answer(taken, "early")
    turn(cloud, 0, turns=1), turn(cloud, 1, turns=1)
    again = {"execution": "arn:run:2"}
    ask("plan", **again)
    turn(cloud, 1, **again)
    failure = {"Error": "States.ExceedToleratedFailureThreshold", "Cause": "too many"}
    summary = ask("collate", failure=failure, **again)
    assert (summary["succeeded"], summary["failed"]) == (1, 2)
    assert summary["message"].endswith(
        "the shards ended early: States.ExceedToleratedFailureThreshold: too many"
    )
    errors = cloud.lines("files", f"{OUTPUT}/errors.jsonl")
    assert [(item["index"], item["error"]["kind"]) for item in errors] == [
        (0, "unfinished"),
        (1, "unfinished"),
    ]


def test_a_turn_that_runs_out_of_time_goes_on_in_the_next(cloud: FakeBatchCloud) -> None:
    """It writes down what SageMaker took and comes back soon."""
    upload(cloud, *prompts(2))
    ask("plan")
    event = {**EVENT, "step": "shard", "shard": shards(cloud)[0], "turns": 0}
    found = batch_fan_out.handler(event, Context(turns=1))
    assert (found["settled"], found["wait_seconds"], len(cloud.taken)) == (False, 1, 1)
    assert batch_fan_out.handler(event, Context())["wait_seconds"] == batch_shard.FIRST_WAIT_SECONDS
    assert len(cloud.taken) == 2


@pytest.mark.parametrize("code", ["ThrottlingException", "ServiceUnavailable", "InternalFailure"])
def test_what_passes_by_itself_is_waited_for(cloud: FakeBatchCloud, code: str) -> None:
    """Requests that were taken before stay taken."""
    upload(cloud, *prompts(2))
    ask("plan")
    cloud.refusals = [None, (429, code)]
    assert turn(cloud, 0)["settled"] is False
    assert len(cloud.taken) == 1
    turn(cloud, 0, turns=1)
    assert len(cloud.taken) == 2


def test_what_does_not_pass_ends_the_shard_and_is_remembered(cloud: FakeBatchCloud) -> None:
    """An endpoint that is gone is no reason to send again what it had taken."""
    from botocore.exceptions import ClientError

    upload(cloud, *prompts(2))
    ask("plan")
    cloud.refusals = [None, (400, "ValidationError")]
    with pytest.raises(ClientError, match="ValidationError"):
        turn(cloud, 0)
    turn(cloud, 0)
    assert len(cloud.taken) == 2


def test_two_runs_in_one_folder_are_told_apart(
    cloud: FakeBatchCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The later write is refused by S3, not merged."""
    upload(cloud, *prompts(1))
    ask("plan")
    turn(cloud, 0)
    look = batch_shard._look

    def beside(*arguments: Any, **named: Any) -> None:
        cloud.objects["files", f"{OUTPUT}/progress/ledger/00000000.json"].body += b" "
        look(*arguments, **named)

    cloud.answer(cloud.taken[0], "answered")
    monkeypatch.setattr(batch_shard, "_look", beside)
    with pytest.raises(LedgerTaken, match="was written by another run at the same time"):
        turn(cloud, 0, turns=1)


def test_an_input_that_changes_under_a_run_is_refused(cloud: FakeBatchCloud) -> None:
    """Byte ranges of one version mean nothing in another."""
    upload(cloud, *prompts(4))
    ask("plan")
    turn(cloud, 0)
    upload(cloud, *prompts(5))
    with pytest.raises(InputRefused, match="has changed since the run began; start another run"):
        turn(cloud, 1)


def test_a_whole_shard_is_not_read_again_while_it_waits(cloud: FakeBatchCloud) -> None:
    """A file of gigabytes is read once a run, and a turn that finds nothing new writes nothing."""
    upload(cloud, *prompts(2))
    ask("plan")
    turn(cloud, 0)
    cloud.reads.clear()
    before = dict(cloud.objects)
    turn(cloud, 0, turns=1)
    assert EVENT["input"] not in cloud.reads
    assert all(cloud.objects[place] is stored for place, stored in before.items())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no records"),
        (b"\n \n", "has no records"),
        (b'{"n": 1}\n{n}\n', "line 2 is not JSON"),
        (b"[1]\n", "line 1 is a list; every line must be a JSON object"),
        (b'\n{"custom_id": 1, "body": {}}\n', "line 2 has a custom_id, so it must be"),
        (b'{"custom_id": "a"}\n', 'must be {"custom_id": "<text>", "body"'),
    ],
)
def test_fails_before_anything_is_sent(cloud: FakeBatchCloud, content: bytes, message: str) -> None:
    """A bad line is named by its number."""
    cloud.put("files", EVENT["input"], content)
    with pytest.raises(InputRefused, match=message):
        ask("plan")
    assert cloud.taken == []


def test_fails_when_the_input_is_not_there(cloud: FakeBatchCloud) -> None:
    """By its address."""
    with pytest.raises(InputRefused, match="there is no object s3://files/input/requests.jsonl"):
        ask("plan")


def test_fails_for_more_shards_than_a_map_can_have(
    cloud: FakeBatchCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the two ways out, and without half a list of shards."""
    monkeypatch.setattr(batch_plan, "MOST_SHARDS", 1)
    upload(cloud, *prompts(3))
    with pytest.raises(
        InputRefused, match="more than 1 times 2 records; give AsyncFanOut more shard_records"
    ):
        ask("plan")
    assert ("files", f"{OUTPUT}/progress/shards.jsonl") not in cloud.objects


def test_blank_lines_and_a_missing_end_of_line_make_no_records(cloud: FakeBatchCloud) -> None:
    """Indices count records, bytes count everything."""
    cloud.put("files", EVENT["input"], b'\n{"n": 1}\n\n{"n": 2}\r\n\n{"n": 3}')
    assert ask("plan")["records"] == 3
    turn(cloud, 0), turn(cloud, 1)
    assert [taken.body["n"] for taken in cloud.taken] == [1, 2, 3]


def test_waits_grow_and_end_at_five_minutes() -> None:
    """A queue that drains in a minute is not looked at after an hour, and hours cost few turns."""
    waits = [batch_shard.wait_seconds(turns) for turns in range(12)]
    assert waits[0] == 15
    assert waits == sorted(waits)
    assert waits[-1] == batch_shard.wait_seconds(1000) == 300


def test_a_ledger_of_another_schema_is_not_overwritten(cloud: FakeBatchCloud) -> None:
    """A folder that a later version wrote stays as it is."""
    upload(cloud, *prompts(1))
    ask("plan")
    cloud.put("files", f"{OUTPUT}/progress/ledger/00000000.json", b'{"schema": 2}')
    with pytest.raises(
        ValueError, match="has schema 2 and this version reads 1; give the run another output"
    ):
        turn(cloud, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step": "other"}, "step is 'other'; it must be plan, shard or collate"),
        ({"input": ""}, "input is ''; it must be a text that is not empty"),
        ({"output": None}, "output is None; it must be a text that is not empty"),
    ],
)
def test_fails_for_events_of_another_form(
    cloud: FakeBatchCloud, changes: dict[str, Any], message: str
) -> None:
    """By the name of what is wrong."""
    with pytest.raises(ValueError, match=message):
        batch_fan_out.handler({**EVENT, "step": "plan", **changes}, Context())
