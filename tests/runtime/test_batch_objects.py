"""What a fan-out is made of: lines of any length, objects in parts, ids, settings."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from support_batch import Context, FakeBatchCloud, running
from tokenmill_runtime import batch_fan_out, batch_ledger, batch_objects
from tokenmill_runtime.batch_ledger import Ledger
from tokenmill_runtime.batch_objects import InputRefused, ObjectWriter, split_lines, split_uri
from tokenmill_runtime.batch_run import read_record

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENT = {"input": "input/requests.jsonl", "output": "output/run", "execution": "arn:run:1"}


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBatchCloud]:
    yield from running(monkeypatch, {})


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_lines_do_not_depend_on_the_pieces_they_come_in(size: int) -> None:
    """Networks cut where they like."""
    content = b"one\n\ntwo two\r\nthree"
    pieces = (content[at : at + size] for at in range(0, len(content), size))
    assert list(split_lines(pieces)) == [b"one\n", b"\n", b"two two\r\n", b"three"]


def test_fails_for_a_line_that_does_not_fit_into_memory() -> None:
    """Before it is in there."""
    with pytest.raises(InputRefused, match="a line has more than 8 bytes"):
        list(split_lines(iter([b"ok\n", b"12345", b"6789"]), most_bytes=8))


def test_large_results_are_written_in_parts(cloud: FakeBatchCloud) -> None:
    """S3 takes no part under 5 MiB but the last; metadata comes with the first request."""
    with ObjectWriter("files", "large", metadata={"execution": "x"}) as writer:
        for _ in range(10):
            writer.write(b"x" * (1024 * 1024 * 2))
    stored = cloud.objects["files", "large"]
    assert (len(stored.body), stored.metadata) == (20 * 1024 * 1024, {"execution": "x"})


def test_a_failed_write_leaves_nothing(cloud: FakeBatchCloud) -> None:
    """Neither an object nor an upload that S3 would bill."""

    def write() -> None:
        with ObjectWriter("files", "large") as writer:
            writer.write(b"x" * (9 * 1024 * 1024))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write()
    assert (cloud.objects, cloud.uploads, len(cloud.aborted)) == ({}, {}, 1)


def test_an_inference_id_is_made_of_endpoint_place_name_and_body() -> None:
    """A change of any of them makes another request; SageMaker takes 64 characters at most."""
    first = read_record(b'{"custom_id": "a", "body": {"n": 1}}', index=0, line_number=1)
    name = first.inference_id("chat")
    assert len(name) <= 64
    assert name == first.inference_id("chat")
    others = [
        first.inference_id("other"),
        dataclasses.replace(first, index=1).inference_id("chat"),
        dataclasses.replace(first, custom_id="b").inference_id("chat"),
        dataclasses.replace(first, body=b"{}").inference_id("chat"),
    ]
    assert len({name, *others}) == 5


def test_fails_without_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the words of the function's environment."""
    monkeypatch.delenv("TOKENMILL_FAN_OUT", raising=False)
    with pytest.raises(ValueError, match="TOKENMILL_FAN_OUT is not set; AsyncFanOut renders it"):
        batch_fan_out.handler({**EVENT, "step": "plan"}, Context())
    monkeypatch.setenv("TOKENMILL_FAN_OUT", '{"endpoint": "x"}')
    with pytest.raises(ValueError, match="TOKENMILL_FAN_OUT must be the document that AsyncFanOut renders"):
        batch_fan_out.handler({**EVENT, "step": "plan"}, Context())


@pytest.mark.parametrize("uri", ["https://bucket/key", "s3://bucket", "s3:///key", "key"])
def test_fails_for_addresses_of_another_form(uri: str) -> None:
    """With the form that it must have."""
    with pytest.raises(ValueError, match="must be s3://bucket/key"):
        split_uri(uri)


def test_other_errors_of_s3_are_not_swallowed(cloud: FakeBatchCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused read is not a missing object."""
    from botocore.exceptions import ClientError

    refused = ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "GetObject")

    class Refusing:
        def __getattr__(self, name: str) -> Any:
            def refuse(**_: Any) -> None:
                raise refused

            return refuse

    monkeypatch.setattr(batch_objects, "s3", Refusing)
    monkeypatch.setattr(batch_ledger, "s3", Refusing)
    for read in (
        batch_objects.exists,
        batch_objects.read_tagged,
        batch_objects.tagged_lines,
        batch_objects.lines,
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            read("files", "key")
    with pytest.raises(ClientError, match="AccessDenied"):
        Ledger(bucket="files", key="key", entries={}).write()


def test_a_write_of_whole_parts_has_no_empty_last_one(cloud: FakeBatchCloud) -> None:
    """Eight MiB make one part and no second."""
    with ObjectWriter("files", "exact") as writer:
        writer.write(b"x" * batch_objects.PART_BYTES)
    assert len(cloud.objects["files", "exact"].body) == batch_objects.PART_BYTES
