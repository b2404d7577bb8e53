"""The program that copies a model, run in this process or in one of its own, with small parts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from support_mirror import BUCKET, MODEL, PLACE, REVISION, S3, Cdn, Hub, content
from tokenmill_runtime.model_mirror import __main__ as program
from tokenmill_runtime.model_mirror import copying, parts
from tokenmill_runtime.model_mirror.hub import Clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

PART = 64 * 1024
LARGE = 10 * PART + 777
FIRST = "model-00001-of-00002.safetensors"
MANIFEST = f"mirrors/{MODEL}/{REVISION}/manifest.json"
RECORD = f"mirrors/{MODEL}/{REVISION}/checked.json"
RUNTIME = Path(program.__file__).resolve().parents[2]
# The program with small parts, as one runs it in a build.
WRAPPER = f"""
import pathlib, re, runpy, sys
from tokenmill_runtime.model_mirror import parts
parts.PART_BYTES, parts.MIB = {PART}, 1024
sys.argv[0] = "model_mirror"
try:
    runpy.run_module("tokenmill_runtime.model_mirror", run_name="__main__")
finally:
    # Of this program's own memory: ru_maxrss would count the process that started it.
    status = pathlib.Path("/proc/self/status").read_text()
    print("peak", int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) // 1024)
"""


class Time:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def clock(self) -> Clock:
        return Clock(now=lambda: self.now, sleep=self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Closeable(Protocol):
    """What has an end."""

    def close(self) -> None: ...


Opened = TypeVar("Opened", bound=Closeable)


def opened(made: Opened) -> Iterator[Opened]:
    """A server for a fixture to yield, closed afterwards."""
    try:
        yield made
    finally:
        made.close()


def tiny(cdn: Cdn) -> Hub:
    """A repository with a large file, small ones and the same weights as pickles."""
    made = Hub(cdn)
    made.add("config.json", b'{"model_type": "tiny"}')
    made.add("tokenizer.json", content(1, 5000))
    made.add("empty.txt", b"")
    made.add(".gitattributes", b"*.safetensors filter=lfs")
    made.add(FIRST, content(2, LARGE), large=True)
    made.add("model-00002-of-00002.safetensors", content(3, PART // 2), large=True)
    made.add("model.safetensors.index.json", b"{}")
    made.add("pytorch_model.bin", content(4, PART), large=True)
    return made


def variables(hub: Hub, s3: S3, **changes: str) -> dict[str, str]:
    """The environment of a build."""
    return {
        "MIRROR_MODEL": MODEL,
        "MIRROR_REVISION": REVISION,
        "MIRROR_LICENCE": "apache-2.0",
        "MIRROR_BUCKET": BUCKET,
        "MIRROR_SECONDS": "2820",
        "HF_ENDPOINT": hub.url,
        "AWS_ENDPOINT_URL": s3.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        **changes,
    }


def runner(hub: Hub, s3: S3, patch: pytest.MonkeyPatch, folder: Path) -> Callable[..., tuple[int, Time]]:
    """Run the program in this process, in a time that stands still; keywords change its environment."""
    patch.setattr(parts, "PART_BYTES", PART)
    patch.setattr(parts, "MIB", 1024)
    patch.setattr(copying, "PART_BYTES", PART)

    def go(time: Time | None = None, **changes: str) -> tuple[int, Time]:
        environment = variables(hub, s3, **changes)
        for name, value in environment.items():
            patch.setenv(name, value)
        time = time or Time()
        return program.main([str(folder / "result")], environment, time.clock()), time

    return go


def expected(hub: Hub) -> dict[str, bytes]:
    """The objects of a whole copy."""
    return {
        f"{PLACE}/{path}": data
        for path, (data, _) in hub.files.items()
        if path not in (".gitattributes", "pytorch_model.bin")
    }


def copied(s3: S3) -> dict[str, bytes]:
    return {key: body for key, body in s3.objects.items() if key.startswith("models/")}


def start(hub: Hub, s3: S3, tmp_path: Path, **changes: str) -> subprocess.Popen[str]:
    """Run the program in a process of its own."""
    environment = {**os.environ, **variables(hub, s3, **changes), "PYTHONPATH": str(RUNTIME)}
    return subprocess.Popen(
        [sys.executable, "-c", WRAPPER, str(tmp_path / "result")],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
