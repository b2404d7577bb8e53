"""Copies files from the Hub to the bucket: several at once, each in constant memory, checked by its hash."""

from __future__ import annotations

import hashlib
import json
import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Final

from tokenmill_runtime.model_mirror.failure import Failure, OutOfTimeError, WrongHashError
from tokenmill_runtime.model_mirror.parts import PART_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tokenmill_runtime.model_mirror.choice import RemoteFile
    from tokenmill_runtime.model_mirror.hub import Clock, Hub
    from tokenmill_runtime.model_mirror.store import Store, Upload

# One stream from the CDN leaves most of the line unused; each holds a part of 32 MiB twice while it is sent.
WORKERS: Final = 8
REPORT_SECONDS: Final = 15.0
GB: Final = 1e9


class Digest:
    """The hash that the Hub has of a file: SHA-256 of a large file, git's SHA-1 of a small one."""

    def __init__(self, file: RemoteFile) -> None:
        self._file = file
        self._hash = hashlib.sha256() if file.sha256 else hashlib.sha1(usedforsecurity=False)
        if not file.sha256:
            self._hash.update(b"blob %d\0" % file.size)

    def update(self, chunk: bytes | bytearray) -> None:
        """Take the next bytes."""
        self._hash.update(chunk)

    def check(self) -> None:
        """Raise WrongHashError unless the bytes are those that the Hub announced."""
        announced, found = expected_hash(self._file), self._hash.hexdigest()
        if found != announced:
            raise WrongHashError(
                f"{self._file.path}: the Hub announced hash {announced}, what came has {found}"
            )


def expected_hash(file: RemoteFile) -> str:
    """Return the hash that a file must have.

    Raises Failure where the Hub gave none.
    """
    found = file.sha256 or file.git_sha1
    if not found:
        raise Failure(f"the Hub gives no hash of {file.path}, so that nothing could tell a broken copy")
    return found


class Progress:
    """Bytes and files that are done, told every few seconds in one line."""

    def __init__(self, files: Iterable[RemoteFile], clock: Clock) -> None:
        files = list(files)
        self._clock = clock
        self._lock = threading.Lock()
        self.total_bytes = sum(file.size for file in files)
        self.bytes = 0
        self._moved = 0
        self._files, self._total_files = 0, len(files)
        self._began = self._told = clock.now()

    def add(self, count: int, *, moved: bool = True) -> None:
        """Count bytes that are in the bucket; `moved` where this run brought them."""
        with self._lock:
            self.bytes += count
            self._moved += count if moved else 0
            if self._clock.now() - self._told >= REPORT_SECONDS:
                self._told = self._clock.now()
                print(self.line(), flush=True)

    def file_done(self) -> None:
        """Count a file."""
        with self._lock:
            self._files += 1

    def line(self) -> str:
        """Return what is done, how fast, and how long the rest takes."""
        percent = 100 * self.bytes // max(1, self.total_bytes)
        speed = self._moved / max(1e-3, self._clock.now() - self._began)
        text = (
            f"copied {self.bytes / GB:.2f} of {self.total_bytes / GB:.2f} GB ({percent} %), "
            f"{self._files} of {self._total_files} files, {speed / 1e6:.0f} MB/s"
        )
        left = (self.total_bytes - self.bytes) / speed if speed else 0
        return f"{text}, {left / 60:.0f} min left" if left else text


class Copy:
    """A copy of files under a prefix."""

    def __init__(
        self, hub: Hub, store: Store, *, prefix: str, record_key: str, deadline: float, clock: Clock
    ) -> None:
        self._hub = hub
        self._store = store
        self._prefix = prefix
        self._record_key = record_key
        self._deadline = deadline
        self._clock = clock
        self._lock = threading.Lock()
        self._halt = threading.Event()
        self._checked: dict[str, str] = {}
        self._there: dict[str, int] = {}

    def run(self, files: Iterable[RemoteFile]) -> Progress:
        """Bring every file into the bucket, checked; what is there and checked already is left alone.

        Raises OutOfTimeError when the deadline comes first, Failure where a file cannot be had as announced.
        """
        # The largest begin first, so that none is left alone at the end.
        ordered = sorted(files, key=lambda file: (-file.size, file.path))
        progress = Progress(ordered, self._clock)
        self._there = self._store.sizes(self._prefix)
        self._checked = dict(self._store.document(self._record_key).get("checked", {}))
        with ThreadPoolExecutor(max_workers=WORKERS) as pool:
            running = [pool.submit(self._one, file, progress) for file in ordered]
            done, _ = wait(running, return_when=FIRST_EXCEPTION)
            self._halt.set()
            failures = [task.exception() for task in done if task.exception() is not None]
            for task in running:
                task.cancel()
        for failure in failures:
            if isinstance(failure, OutOfTimeError):
                raise OutOfTimeError(f"{progress.line()}; {failure}") from failure
            if failure is not None:
                raise failure
        return progress

    def _one(self, file: RemoteFile, progress: Progress) -> None:
        if self._is_checked(file):
            progress.add(file.size, moved=False)
        elif self._there.get(self._key(file)) == file.size and self._holds(file):
            progress.add(file.size, moved=False)
        else:
            self._bring(file, progress)
        self._remember(file)
        progress.file_done()

    def _bring(self, file: RemoteFile, progress: Progress) -> None:
        bring = self._put if file.size <= PART_BYTES else self._upload
        try:
            bring(file, progress)
        except WrongHashError as error:
            print(f"{error}; taking it once more from the beginning", flush=True)
            bring(file, progress)

    def _put(self, file: RemoteFile, progress: Progress) -> None:
        digest, body = Digest(file), bytearray()
        for chunk in self._hub.read(file):
            self._go_on()
            body += chunk
        digest.update(body)
        digest.check()
        self._store.put(self._key(file), bytes(body))
        progress.add(len(body))

    def _upload(self, file: RemoteFile, progress: Progress) -> None:
        upload = self._store.resume(self._key(file), file.size)
        resumed = upload.bytes
        if resumed:
            print(f"{file.path}: going on from {resumed / GB:.2f} GB", flush=True)
            progress.add(resumed, moved=False)
        digest = Digest(file)
        for part in self._parts(file, upload):
            self._go_on()
            digest.update(part)
            self._store.add(upload, part)
            progress.add(len(part))
        try:
            if not resumed:
                digest.check()
        except WrongHashError:
            self._store.abort(upload)
            progress.add(-upload.bytes, moved=False)
            raise
        self._store.complete(upload)
        # Parts of an upload cannot be read, so what an earlier run brought is hashed once it is an object.
        if resumed and not self._holds(file):
            progress.add(-upload.bytes, moved=False)
            raise WrongHashError(f"{file.path}: the parts of an earlier run do not fit the Hub's hash")

    def _parts(self, file: RemoteFile, upload: Upload) -> Iterator[bytearray]:
        part = bytearray()
        for chunk in self._hub.read(file, upload.bytes):
            self._go_on()
            part += chunk
            while len(part) >= upload.part_bytes:
                yield part[: upload.part_bytes]
                del part[: upload.part_bytes]
        if part:
            yield part

    def _holds(self, file: RemoteFile) -> bool:
        digest = Digest(file)
        for chunk in self._store.read(self._key(file)):
            self._go_on()
            digest.update(chunk)
        try:
            digest.check()
        except WrongHashError as error:
            print(f"in the bucket, {error}", flush=True)
            return False
        return True

    def _go_on(self) -> None:
        if self._halt.is_set():
            raise OutOfTimeError("another file failed")
        if self._clock.now() > self._deadline:
            raise OutOfTimeError(
                "the build's time is over; everything that was copied stays, so deploy again and the copy "
                "goes on from there"
            )

    def _key(self, file: RemoteFile) -> str:
        return f"{self._prefix}{file.path}"

    def _is_checked(self, file: RemoteFile) -> bool:
        same_size = self._there.get(self._key(file)) == file.size
        return same_size and self._checked.get(file.path) == expected_hash(file)

    def _remember(self, file: RemoteFile) -> None:
        with self._lock:
            if self._checked.get(file.path) == expected_hash(file):
                return
            self._checked[file.path] = expected_hash(file)
            record = {"checked": dict(sorted(self._checked.items()))}
            self._store.put(self._record_key, json.dumps(record).encode())
