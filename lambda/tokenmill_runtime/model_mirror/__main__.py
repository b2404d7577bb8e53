"""The program that a build runs: reads its task from the environment, tells its progress, says why it fails.

A line of the log that begins with "TOKENMILL_FAILED: " becomes the reason in the stack's events.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tokenmill_runtime.model_mirror.choice import choose
from tokenmill_runtime.model_mirror.copying import Copy, expected_hash
from tokenmill_runtime.model_mirror.failure import Failure
from tokenmill_runtime.model_mirror.hub import ENDPOINT, Clock, Hub

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from tokenmill_runtime.model_mirror.choice import Choice
    from tokenmill_runtime.model_mirror.hub import Listing

FAILURE_MARK: Final = "TOKENMILL_FAILED: "
NO_LICENCE: Final = "unknown"
SCHEMA: Final = 1


@dataclass(frozen=True)
class Task:
    """What is copied where, and until when, in seconds from now."""

    model: str
    revision: str
    licence: str
    bucket: str
    seconds: float
    key_id: str | None = None
    token: str | None = None
    endpoint: str = ENDPOINT

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> Task:
        """Read the task from environment variables."""
        try:
            return cls(
                model=variables["MIRROR_MODEL"],
                revision=variables["MIRROR_REVISION"],
                licence=variables["MIRROR_LICENCE"],
                bucket=variables["MIRROR_BUCKET"],
                seconds=float(variables["MIRROR_SECONDS"]),
                key_id=variables.get("MIRROR_KEY") or None,
                token=variables.get("HF_TOKEN", "").strip() or None,
                endpoint=variables.get("HF_ENDPOINT") or ENDPOINT,
            )
        except KeyError as missing:
            raise Failure(f"the environment has no {missing.args[0]}") from missing


def check_licence(licences: Sequence[str], acknowledged: str) -> None:
    """Raise Failure unless the model card's licence is the one that was acknowledged."""
    found = ", ".join(sorted(licences)) or NO_LICENCE
    if found != ", ".join(sorted(part.strip() for part in acknowledged.split(","))):
        raise Failure(
            f"the model card says licence {found!r}, and {acknowledged!r} was acknowledged; read the card, "
            f"and if you accept its terms give licence={found!r}"
        )


def check_gate(listing: Listing, task: Task) -> None:
    """Raise Failure where a gated model is asked for without a token."""
    if listing.gated and task.token is None:
        raise Failure(
            f"{task.model} is gated: accept its terms at {ENDPOINT}/{task.model} and give token= a secret "
            "with that user's token"
        )


def manifest(task: Task, choice: Choice) -> bytes:
    """Return the record of a whole copy, the same bytes for the same revision."""
    document = {
        "schema": SCHEMA,
        "model": task.model,
        "revision": task.revision,
        "licence": task.licence,
        "bytes": sum(file.size for file in choice.kept),
        "files": [
            {"path": file.path, "size": file.size, "hash": expected_hash(file)}
            for file in sorted(choice.kept, key=lambda file: file.path)
        ],
        "left_out": [{"path": path, "reason": reason} for path, reason in sorted(choice.left_out)],
    }
    return json.dumps(document, indent=1).encode()


def mirror(task: Task, clock: Clock) -> str:
    """Make the copy and return the SHA-256 of its manifest, which is written last."""
    import boto3
    from botocore.config import Config

    from tokenmill_runtime.model_mirror.store import Store

    deadline = clock.now() + task.seconds
    hub = Hub(
        task.model,
        task.revision,
        token=task.token,
        deadline=deadline,
        endpoint=task.endpoint,
        clock=clock,
    )
    listing = hub.describe()
    check_licence(listing.licences, task.licence)
    check_gate(listing, task)
    choice = choose(listing.files)
    for path, reason in choice.left_out:
        print(f"leaving out {path}: {reason}")
    if choice.pickled:
        print("the weights are pickles, which can run code when a server loads them; prefer safetensors")
    config = Config(retries={"mode": "standard", "total_max_attempts": 8}, max_pool_connections=32)
    client = boto3.client("s3", config=config)
    place = f"{task.model}/{task.revision}"
    try:
        store = Store(client, task.bucket, key_id=task.key_id)
        copy = Copy(
            hub,
            store,
            prefix=f"models/{place}/",
            record_key=f"mirrors/{place}/checked.json",
            deadline=deadline,
            clock=clock,
        )
        progress = copy.run(choice.kept)
        print(progress.line())
        record = manifest(task, choice)
        store.put(f"mirrors/{place}/manifest.json", record)
    finally:
        client.close()
    return hashlib.sha256(record).hexdigest()


def main(arguments: Sequence[str], variables: Mapping[str, str], clock: Clock) -> int:
    """Run the task; the manifest's hash goes into the file that the first argument names."""
    try:
        digest = mirror(Task.read(variables), clock)
    except Failure as failure:
        _say_failure(str(failure), variables)
        return 1
    Path(arguments[0]).write_text(digest, encoding="utf-8")
    print(f"the copy is whole; its manifest has SHA-256 {digest}")
    return 0


def _say_failure(sentence: str, variables: Mapping[str, str]) -> None:
    print(FAILURE_MARK + _without_token(" ".join(sentence.split()), variables), flush=True)


def _without_token(text: str, variables: Mapping[str, str]) -> str:
    token = variables.get("HF_TOKEN", "").strip()
    return text.replace(token, "<token>") if token else text


def _unforeseen(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say what ended the program otherwise, such as S3 refusing a call."""
    lines = "".join(traceback.format_exception(kind, error, trace))
    print(_without_token(lines, os.environ), file=sys.stderr)
    _say_failure(f"{kind.__name__}: {error}", os.environ)


if __name__ == "__main__":
    sys.excepthook = _unforeseen
    sys.exit(main(sys.argv[1:], os.environ, Clock()))
