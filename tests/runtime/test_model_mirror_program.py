"""The program that copies a model, from a Hub with its CDN to S3, all on loopback."""

from __future__ import annotations

import hashlib
import json
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from support_mirror import (
    MODEL,
    PLACE,
    S3,
    TOKEN,
    Cdn,
    Hub,
    content,
    cut,
    send,
    serve,
    status,
)
from support_mirror_program import (
    LARGE,
    MANIFEST,
    PART,
    RECORD,
    Time,
    copied,
    expected,
    opened,
    runner,
    start,
    tiny,
)
from tokenmill_runtime.model_mirror import __main__ as program
from tokenmill_runtime.model_mirror.hub import Clock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def cdn() -> Iterator[Cdn]:
    yield from opened(Cdn())


@pytest.fixture
def hub(cdn: Cdn) -> Iterator[Hub]:
    yield from opened(tiny(cdn))


@pytest.fixture
def s3() -> Iterator[S3]:
    yield from opened(S3())


@pytest.fixture
def run(hub: Hub, s3: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    return runner(hub, s3, monkeypatch, tmp_path)


def test_a_copy_is_whole_and_its_manifest_is_written_last(run: Any, hub: Hub, s3: S3, tmp_path: Path) -> None:
    """Byte for byte, one format of the weights, no git files; the result names the manifest's hash."""
    assert run()[0] == 0
    assert copied(s3) == expected(hub)
    assert s3.writes[-1] == f"put {MANIFEST}"
    document = json.loads(s3.objects[MANIFEST])
    assert {item["path"] for item in document["files"]} == {key[len(PLACE) + 1 :] for key in expected(hub)}
    assert document["left_out"][0]["path"] == "pytorch_model.bin"
    assert document["licence"] == "apache-2.0"
    assert (tmp_path / "result").read_text() == hashlib.sha256(s3.objects[MANIFEST]).hexdigest()
    assert s3.uploads == {}


def test_a_second_run_loads_nothing(run: Any, hub: Hub, s3: S3, cdn: Cdn) -> None:
    """What is there and checked is left alone, and the manifest is the same to the byte."""
    run()
    first, loads = s3.objects[MANIFEST], len(cdn.seen)
    s3.writes.clear()
    assert run()[0] == 0
    assert len(cdn.seen) == loads
    assert s3.writes == [f"put {MANIFEST}"]
    assert s3.objects[MANIFEST] == first


def test_a_changed_object_is_replaced(run: Any, hub: Hub, s3: S3) -> None:
    """Another size is seen at once; the same size is seen where nothing says that it was checked."""
    run()
    short, forged = f"{PLACE}/tokenizer.json", f"{PLACE}/model-00001-of-00002.safetensors"
    s3.objects[short] = b"short"
    s3.objects[forged] = bytes(LARGE)
    del s3.objects[RECORD]
    assert run()[0] == 0
    assert copied(s3) == expected(hub)


def test_a_cut_connection_is_taken_up_where_it_broke(run: Any, hub: Hub, s3: S3, cdn: Cdn) -> None:
    """A range goes on from the last byte; a signed address that has expired is asked for anew."""
    name = "model-00001-of-00002.safetensors"
    cdn.faults[name] = [cut(3 * PART + 5), status(403), cut(10)]
    code, time = run()
    assert code == 0
    assert copied(s3) == expected(hub)
    ranges = [asked for path, asked, _ in cdn.seen if path == name]
    assert ranges == [None, f"bytes={3 * PART + 5}-", f"bytes={3 * PART + 5}-", f"bytes={3 * PART + 15}-"]
    assert len(time.slept) == 3


def test_a_server_without_ranges_still_gives_the_whole_file(run: Any, hub: Hub, s3: S3, cdn: Cdn) -> None:
    """An answer of 200 to a range begins at the first byte, which must not land in the middle."""
    cdn.faults["model-00001-of-00002.safetensors"] = [
        cut(PART + 1),
        lambda request, data: serve(request, data, ranges=False),
    ]
    assert run()[0] == 0
    assert copied(s3) == expected(hub)


def test_the_hub_s_rate_limit_is_kept(run: Any, hub: Hub) -> None:
    """429 says for how long, in either of two headers."""
    hub.faults = [
        status(429, ratelimit='"api";r=0;t=55'),
        status(429, Retry_After="7"),
        status(503),
    ]
    code, time = run()
    assert code == 0
    assert time.slept == [56.0, 8.0, 4.0]


def test_fails_where_the_rate_limit_outlasts_the_build(run: Any, hub: Hub, capsys: Any) -> None:
    """Waiting into the build's time-out would say nothing."""
    hub.faults = [status(429, Retry_After="5000")]
    assert run()[0] == 1
    assert "TOKENMILL_FAILED: the Hub asks to wait 5001 s" in capsys.readouterr().out


def test_fails_where_the_hub_stays_away(run: Any, hub: Hub, capsys: Any) -> None:
    """Eight failures in a row are an outage, not a hiccup."""
    hub.faults = [status(502)] * 8
    assert run()[0] == 1
    assert "failed 8 times in a row" in capsys.readouterr().out


def test_a_wrong_hash_is_tried_once_more(run: Any, hub: Hub, s3: S3, cdn: Cdn, capsys: Any) -> None:
    """A broken transfer is not the repository's fault; nothing of it becomes an object."""
    cdn.faults["model-00001-of-00002.safetensors"] = [
        lambda request, data: send(request, 200, bytes(len(data)))
    ]
    assert run()[0] == 0
    assert copied(s3) == expected(hub)
    assert "taking it once more" in capsys.readouterr().out


@pytest.mark.parametrize("path", ["model-00001-of-00002.safetensors", "tokenizer.json"])
def test_fails_on_a_hash_that_stays_wrong(run: Any, hub: Hub, s3: S3, capsys: Any, path: str) -> None:
    """SHA-256 of large files, git's SHA-1 of small ones; no manifest then, and no object."""
    hub.wrong[path] = "0" * 64
    assert run()[0] == 1
    assert f"TOKENMILL_FAILED: {path}: the Hub announced hash 000" in capsys.readouterr().out
    assert f"{PLACE}/{path}" not in s3.objects
    assert MANIFEST not in s3.objects


def test_a_customer_s_key_encrypts_every_object(run: Any, s3: S3) -> None:
    """Objects and records alike."""
    run(MIRROR_KEY="arn:key")
    assert s3.encryption == {"arn:key"}


def test_out_of_time_stops_in_good_order_and_the_next_run_goes_on(
    run: Any, hub: Hub, s3: S3, capsys: Any
) -> None:
    """Parts stay; the sentence says how far it came and what to do."""
    time = Time()

    def late(part: int) -> None:
        time.now += 1000.0 if part >= 4 else 0.0

    s3.part_hook = late
    assert run(time)[0] == 1
    said = capsys.readouterr().out
    assert "TOKENMILL_FAILED: copied " in said
    assert "deploy again and the copy goes on" in said
    assert MANIFEST not in s3.objects
    done = [line for line in s3.writes if line.startswith("part")]
    s3.part_hook = lambda _: None
    assert run()[0] == 0
    assert copied(s3) == expected(hub)
    everything = [line for line in s3.writes if line.startswith("part")]
    assert len(everything) == len(set(everything)) == 11
    assert done


def test_an_earlier_run_s_broken_part_is_found(run: Any, hub: Hub, s3: S3, capsys: Any) -> None:
    """Parts cannot be read, so the object is hashed once it is whole; then the file is taken anew."""
    key = f"{PLACE}/model-00001-of-00002.safetensors"
    s3.uploads["u-old"] = (key, {1: bytes(PART), 2: bytes(PART)})
    assert run()[0] == 0
    assert copied(s3) == expected(hub)
    assert "do not fit the Hub's hash" in capsys.readouterr().out


def test_parts_of_another_length_are_not_used(run: Any, hub: Hub, s3: S3) -> None:
    """A gap or another cut would shift every byte after it."""
    key = f"{PLACE}/model-00001-of-00002.safetensors"
    data = content(2, LARGE)
    s3.uploads["u-old"] = (key, {1: data[:PART], 3: data[2 * PART : 3 * PART]})
    s3.uploads["a-older"] = (key, {1: b"xx"})
    assert run()[0] == 0
    assert copied(s3) == expected(hub)
    assert s3.uploads == {}


def test_a_killed_copy_goes_on(hub: Hub, s3: S3, tmp_path: Path, cdn: Cdn) -> None:
    """SIGKILL in the middle of a file: the next run sends the missing parts only, and all is checked."""
    reached, released = threading.Event(), threading.Event()

    def hold(part: int) -> None:
        if part == 6:
            reached.set()
            released.wait(60)

    s3.part_hook = hold
    process = start(hub, s3, tmp_path)
    assert reached.wait(60)
    process.send_signal(signal.SIGKILL)
    released.set()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert MANIFEST not in s3.objects
    s3.part_hook = lambda _: None
    cdn.seen.clear()
    process = start(hub, s3, tmp_path)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    assert copied(s3) == expected(hub)
    assert "going on from" in said
    (asked,) = [asked for path, asked, _ in cdn.seen if path == "model-00001-of-00002.safetensors"]
    assert asked is not None
    assert int(asked.removeprefix("bytes=").rstrip("-")) >= 5 * PART


def test_memory_does_not_grow_with_the_model(hub: Hub, s3: S3, tmp_path: Path) -> None:
    """Forty MiB more of a model are not forty MiB more of memory."""
    peaks = []
    for mib in (1, 41):
        hub.files.clear()
        hub.add("model.safetensors", content(9, 1 << 20) * mib, large=True)
        s3.objects.clear()
        said, _ = start(hub, s3, tmp_path).communicate()
        assert "the copy is whole" in said, said
        peaks.append(int(said.rpartition("peak ")[2]))
    assert peaks[1] - peaks[0] < 15, peaks


def test_an_unforeseen_error_is_told_without_the_token(hub: Hub, s3: S3, tmp_path: Path) -> None:
    """S3 refuses, or anything else breaks: the reason is one line, and no traceback has the token."""
    s3.refuses = True
    process = start(hub, s3, tmp_path, HF_TOKEN=TOKEN)
    said, _ = process.communicate()
    assert process.returncode == 1
    assert "TOKENMILL_FAILED: AccessDenied: An error occurred" in said
    assert TOKEN not in said


def test_progress_is_told_while_it_goes(run: Any, s3: S3, capsys: Any) -> None:
    """A build's log moves every fifteen seconds, with speed and what is left."""
    time = Time()

    def tick(_: int) -> None:
        time.now += 16.0

    s3.part_hook = tick
    assert run(time)[0] == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("copied ")]
    assert len(lines) >= 10
    assert "MB/s" in lines[0]
    assert lines[-1].startswith("copied 0.00 of 0.00 GB (100 %), 6 of 6 files")


def test_fails_where_the_task_is_incomplete(capsys: Any, tmp_path: Path) -> None:
    """A project whose variables somebody changed by hand."""
    assert program.main([str(tmp_path / "result")], {"MIRROR_MODEL": MODEL}, Clock()) == 1
    assert "the environment has no MIRROR_REVISION" in capsys.readouterr().out
