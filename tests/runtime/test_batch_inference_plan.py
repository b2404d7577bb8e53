"""Cutting records into jobs: every line in one part, none below the service's minimum, budgets kept."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support_batch_inference import SETTINGS, FakeBatchInference, running_inference
from tokenmill_runtime.batch_inference_job import submit
from tokenmill_runtime.batch_inference_plan import Cutter, plan
from tokenmill_runtime.batch_inference_records import (
    estimated_tokens,
    model_input,
    response,
    usage,
)
from tokenmill_runtime.batch_inference_run import (
    PART_FILE,
    BatchRun,
    Settings,
    read_parts,
    read_source,
)
from tokenmill_runtime.batch_objects import InputRefused
from tokenmill_runtime.batch_run import Record

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN = BatchRun(input="input/a.jsonl", output="output/a", execution="arn:run:1")


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBatchInference]:
    yield from running_inference(monkeypatch)


def settings(**changes: Any) -> Settings:
    return Settings(**{**SETTINGS, **changes})


def record(body: object) -> Record:
    return Record(index=6, custom_id=None, body=json.dumps(body).encode())


def cut(weights: list[tuple[int, int]], **changes: Any) -> list[Any]:
    """Cut records of these bytes and tokens that stand one behind the other."""
    cutter, position, parts = Cutter(settings(**changes), "e"), 0, []
    for size, tokens in weights:
        parts += cutter.add(position, position + size, size, tokens)
        position += size
    return [*parts, *cutter.finish()]


@given(
    weights=st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=200),
    minimum=st.integers(1, 8),
    factor=st.integers(2, 5),
    tokens=st.integers(1, 400),
)
def test_parts_cover_the_records_and_keep_the_quotas(
    weights: list[tuple[int, int]], minimum: int, factor: int, tokens: int
) -> None:
    """Side by side without a gap, at most so many records, and never fewer than the service takes."""
    most = minimum * factor
    parts = cut(weights, minimum_records=minimum, part_records=most, part_tokens=tokens)
    assert [part.number for part in parts] == list(range(len(parts)))
    assert sum(part.count for part in parts) == len(weights)
    edges = [0]
    for part in parts:
        assert (part.first, part.start) == (sum(p.count for p in parts[: part.number]), edges[-1])
        within = weights[part.first : part.first + part.count]
        assert part.end - part.start == sum(size for size, _ in within)
        assert part.tokens == sum(count for _, count in within)
        assert part.count <= most
        edges.append(part.end)
    if len(weights) >= minimum:
        assert min(part.count for part in parts) >= minimum


@given(weights=st.lists(st.integers(1, 40), min_size=6, max_size=150), limit=st.integers(240, 600))
def test_no_file_is_larger_than_the_service_takes(weights: list[int], limit: int) -> None:
    """A minimum of three records of at most 40 bytes always fits twice."""
    parts = cut([(size, 1) for size in weights], part_bytes=limit, minimum_records=3, part_records=100)
    assert all(part.end - part.start <= limit for part in parts)


def test_the_token_budget_makes_more_jobs() -> None:
    """It is ours, so it waits for twice the service's minimum."""
    parts = cut([(1, 100)] * 30, minimum_records=3, part_records=100, part_tokens=1000)
    assert [part.count for part in parts] == [10, 10, 10]
    parts = cut([(1, 100)] * 30, minimum_records=6, part_records=100, part_tokens=100)
    assert [part.count for part in parts] == [12, 12, 6]


def test_records_too_large_for_a_smallest_job_are_refused() -> None:
    """Two would fill the file, and a job has three at least."""
    with pytest.raises(InputRefused, match="fewer than 3 fit into the 100 bytes of a job's file"):
        cut([(50, 1)] * 6, part_bytes=100)
    with pytest.raises(InputRefused, match="fewer than 3 fit into the 100 bytes of a job's file"):
        cut([(25, 1)] * 5, part_bytes=100)


def test_parts_stand_where_their_lines_stand(cloud: FakeBatchInference) -> None:
    """Blank lines and long characters do not shift a part's bytes; the records come back as they were."""
    texts = [f"question {n} {'ä' * n}" for n in range(14)]
    lines = [
        json.dumps({"messages": [{"role": "user", "content": text}]}, ensure_ascii=False) for text in texts
    ]
    cloud.put("files", RUN.input, "\n\n".join(lines).encode())
    found = plan(RUN, settings())
    assert (found["records"], found["parts"]) == (14, 3)
    from tokenmill_runtime.batch_inference_run import read_parts

    read = [item for part in read_parts(RUN, settings(), 0) for item in read_source(RUN, settings(), part, 0)]
    assert [item.index for item in read] == list(range(14))
    assert [json.loads(item.body)["messages"][0]["content"] for item in read] == texts


BODY = json.dumps({"messages": [{"role": "user", "content": "hi"}]})
BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    "content",
    [
        BOM + f"{BODY}\n{BODY}\n{BODY}\n".encode(),
        f"{BODY}\r\n{BODY}\r\n{BODY}\r\n".encode(),
        f"\n\r\n{BODY}\n  \t\r\n\n{BODY}\n\n{BODY}\n\n \r\n".encode(),
        f"{BODY}\n{BODY}\n  {BODY}  ".encode(),
        "\n".join([f'{{"custom_id": "same", "body": {BODY}}}'] * 3).encode(),
        BOM + "\r\n\r\n".join([f'{{"custom_id": "same", "body": {BODY}}}'] * 3).encode(),
    ],
    ids=["byte order mark", "CRLF", "blank lines", "no last end", "one custom_id", "all of it"],
)
def test_a_records_request_is_free_of_what_editors_leave(cloud: FakeBatchInference, content: bytes) -> None:
    """Three lines are three records with the same request, each sent under an id of its own."""
    cloud.put("files", RUN.input, content)
    assert plan(RUN, settings())["records"] == 3
    (part,) = read_parts(RUN, settings(), 0)
    records = list(read_source(RUN, settings(), part, 0))
    assert [record.index for record in records] == [0, 1, 2]
    assert {json.dumps(json.loads(record.body)) for record in records} == {BODY}
    assert all(record.body.startswith(b"{") and record.body.endswith(b"}") for record in records)
    submit(RUN, settings(), part, round_number=0)
    sent = cloud.lines("files", RUN.of_part(0, 0, PART_FILE))
    assert [line["recordId"] for line in sent] == ["00000000000", "00000000001", "00000000002"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (BODY.encode("utf-16"), "line 2 is not JSON: 'utf-8' codec can't decode"),
        (BODY.encode("utf-16-le"), "line 2 is not JSON"),
        (b'{"messages": "caf\xe9"}', "line 2 is not JSON: 'utf-8' codec can't decode"),
        (BOM, "line 2 is not JSON"),
        (f"{BODY}\r{BODY}".encode(), "line 2 is not JSON: Extra data"),
        (f"{BODY},".encode(), "line 2 is not JSON: Extra data"),
        (b"[" * 100_000, "line 2 is not JSON"),
        (f'{{"temperature": NaN, {BODY[1:]}'.encode(), "line 2 is not JSON: NaN is no number of JSON"),
        (f'{{"temperature": -Infinity, {BODY[1:]}'.encode(), "line 2 is not JSON: -Infinity is no number"),
        (f'{{"top_p": 1e999, {BODY[1:]}'.encode(), "line 2 is not JSON: 1e999 is no number"),
        (
            f'{{"recordId": "1", "modelInput": {BODY}}}'.encode(),
            "line 2 is a record of a Bedrock job; give the request in its modelInput as the line",
        ),
    ],
    ids=[
        "UTF-16 with its mark",
        "UTF-16",
        "Latin 1",
        "a mark alone",
        "two requests",
        "a comma behind",
        "nested",
        "NaN",
        "Infinity",
        "too large",
        "Bedrock's own form",
    ],
)
def test_a_line_that_no_job_could_take_is_refused_before_anything_is_paid_for(
    cloud: FakeBatchInference, line: bytes, message: str
) -> None:
    """One such line in a job's file would fail the whole job, hours later."""
    cloud.put("files", RUN.input, BODY.encode() + b"\n" + line + b"\n" + BODY.encode() + b"\n")
    with pytest.raises(InputRefused, match=message):
        plan(RUN, settings())


def test_an_input_that_changes_is_refused(cloud: FakeBatchInference) -> None:
    """A part's bytes are of the version that was checked."""
    line = json.dumps({"messages": [{"role": "user", "content": "hello"}]})
    cloud.put("files", RUN.input, f"{line}\n{line}\n{line}\n".encode())
    plan(RUN, settings())
    from tokenmill_runtime.batch_inference_run import read_parts

    (part,) = read_parts(RUN, settings(), 0)
    cloud.put("files", RUN.input, f"{line}\n{line}\n{line}\n\n".encode())
    with pytest.raises(InputRefused, match="has changed since the run began"):
        list(read_source(RUN, settings(), part, 0))


def test_a_chat_completion_becomes_a_converse_request() -> None:
    """Roles in turns, the system's text apart, limits and stops by Converse's names."""
    body = {
        "model": "any",
        "messages": [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "one"},
            {"role": "user", "content": [{"type": "text", "text": "two"}]},
            {"role": "assistant", "content": "three"},
            {"role": "user", "content": "four"},
        ],
        "max_completion_tokens": 9,
        "temperature": 0,
        "top_p": 0.5,
        "stop": "END",
    }
    assert model_input(record(body), settings()) == {
        "system": [{"text": "Be short."}],
        "messages": [
            {"role": "user", "content": [{"text": "one"}, {"text": "two"}]},
            {"role": "assistant", "content": [{"text": "three"}]},
            {"role": "user", "content": [{"text": "four"}]},
        ],
        "inferenceConfig": {"maxTokens": 9, "temperature": 0, "topP": 0.5, "stopSequences": ["END"]},
    }


def test_a_converse_request_stays_as_it_is() -> None:
    """But for the longest answer, which every record has; its answer comes back as it came."""
    body = {"messages": [{"role": "user", "content": [{"text": "hi"}]}], "inferenceConfig": {"topP": 0.1}}
    made = model_input(record(body), settings(form="converse", max_tokens=5))
    assert made == {**body, "inferenceConfig": {"topP": 0.1, "maxTokens": 5}}
    answer = {"output": {"message": {"role": "assistant", "content": []}}, "stopReason": "end_turn"}
    assert response(answer, settings(form="converse")) == answer


@pytest.mark.parametrize(
    ("body", "form", "message"),
    [
        ({"messages": []}, "chat", "line 7 has no messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "chat", "a message of role 'tool'; allowed are"),
        ({"messages": [{"role": "user", "content": ""}]}, "chat", "whose content is not text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "chat", "content is not text"),
        ({"messages": [{"role": "user", "content": []}]}, "chat", "content is not text"),
        ({"messages": [{"role": "system", "content": "x"}]}, "chat", "no message of the user"),
        ({"messages": ["x"]}, "chat", "a message of role None"),
        ({"messages": [{"role": "user", "content": "x"}], "n": 2}, "chat", "line 7 has n; batch inference"),
        (
            {"messages": [{"role": "user", "content": "x"}], "max_tokens": 0},
            "chat",
            "max_tokens 0; it must be a whole number above 0",
        ),
        ({"messages": [{"role": "user", "content": "x"}], "response_format": {}}, "chat", "response_format"),
        ({"messages": [], "system": []}, "converse", "give a Converse request"),
        ({"messages": [{}], "toolConfig": {}}, "converse", "line 7 has toolConfig"),
        (
            {"messages": [{}], "inferenceConfig": {"maxTokens": "x"}},
            "converse",
            "maxTokens must be 1 or more",
        ),
        ({"messages": [{}], "inferenceConfig": []}, "converse", "maxTokens must be 1 or more"),
    ],
)
def test_what_batch_inference_does_not_take_is_refused(body: object, form: str, message: str) -> None:
    """With its line, before a job is paid for."""
    with pytest.raises(InputRefused, match=message):
        model_input(record(body), settings(form=form))


def test_a_budget_counts_the_longest_answer() -> None:
    """Four bytes a token for the question, and all that the answer may have."""
    asked = record({"messages": [{"role": "user", "content": "x" * 400}], "max_tokens": 1000})
    tokens = estimated_tokens(asked, model_input(asked, settings()))
    assert 1100 <= tokens <= 1120


def test_cached_tokens_are_told_apart() -> None:
    """They have prices of their own; a chat completion counts them into the prompt."""
    answer = {
        "output": {"message": {"role": "assistant", "content": [{"text": "a"}, {"text": "b"}]}},
        "stopReason": "max_tokens",
        "usage": {"inputTokens": 1, "outputTokens": 2, "cacheReadInputTokens": 3, "cacheWriteInputTokens": 4},
    }
    assert usage(answer) == {"input": 1, "output": 2, "cache_read": 3, "cache_write": 4}
    made = response(answer, settings())
    assert made["usage"]["prompt_tokens"] == 8
    assert made["choices"][0]["finish_reason"] == "length"
    assert made["choices"][0]["message"]["content"] == "ab"
