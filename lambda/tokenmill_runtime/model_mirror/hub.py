"""The Hugging Face Hub over HTTP: what a revision holds, and its files from any byte on.

API and headers as huggingface/huggingface_hub reads them (hf_api.py ``model_info`` and ``RepoSibling``,
utils/_http.py ``hf_raise_for_status`` and ``parse_ratelimit_headers``).
"""

from __future__ import annotations

import http.client
import json
import re
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

from tokenmill_runtime.model_mirror.choice import RemoteFile
from tokenmill_runtime.model_mirror.failure import Failure, OutOfTimeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ENDPOINT: Final = "https://huggingface.co"
CHUNK: Final = 1 << 20
SILENCE_SECONDS: Final = 60
# Attempts in a row without one byte.
ATTEMPTS: Final = 8
LONGEST_WAIT_SECONDS: Final = 60.0
TRY_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
BROKEN: Final = (OSError, http.client.HTTPException)
RATE_LIMIT: Final = re.compile(r";\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d+)")


@dataclass(frozen=True)
class Listing:
    """What a revision holds: its licences by the model card, whether it is gated, its files."""

    licences: tuple[str, ...]
    gated: bool
    files: tuple[RemoteFile, ...]


@dataclass(frozen=True)
class Clock:
    """Time, for tests to stand still."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, and leaves the token behind where they lead to another host."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        found = super().redirect_request(req, fp, code, msg, headers, newurl)
        if found is None:
            return None
        if urlsplit(req.full_url).scheme == "https" != urlsplit(found.full_url).scheme:
            raise Failure(f"the Hub redirects to {urlsplit(newurl).netloc} without TLS")
        if urlsplit(found.full_url).netloc != urlsplit(req.full_url).netloc:
            found.headers.pop("Authorization", None)
        return found


class Hub:
    """One revision of one model; every call is tried again where that can help, until the deadline."""

    def __init__(
        self,
        model: str,
        revision: str,
        *,
        token: str | None,
        deadline: float,
        endpoint: str = ENDPOINT,
        clock: Clock | None = None,
    ) -> None:
        self._model = model
        self._revision = revision
        self._token = token
        self._deadline = deadline
        self._endpoint = endpoint.rstrip("/")
        self._clock = clock or Clock()
        self._opener = urllib.request.build_opener(_Redirects())

    def describe(self) -> Listing:
        """Return what the revision holds."""
        url = f"{self._endpoint}/api/models/{self._model}/revision/{self._revision}?blobs=true"
        for attempt in range(ATTEMPTS):
            try:
                with self._open(url, {}) as answer:
                    return self._listing(json.load(answer))
            except urllib.error.HTTPError as error:
                self._wait(attempt, self._refused(error, "its description"), _pause(error.headers))
            except (*BROKEN, json.JSONDecodeError) as error:
                self._wait(attempt, f"{type(error).__name__}: {error}", None)
        raise Failure("the Hub does not answer")

    def read(self, file: RemoteFile, start: int = 0) -> Iterator[bytes]:
        """Yield a file's bytes from one on; a broken connection is taken up where it broke."""
        url = f"{self._endpoint}/{self._model}/resolve/{self._revision}/{quote(file.path)}"
        position, attempt = start, 0
        while position < file.size:
            try:
                for chunk in self._chunks(url, position):
                    if position + len(chunk) > file.size:
                        raise Failure(
                            f"{file.path} is longer than the {file.size} bytes that the Hub announced"
                        )
                    position, attempt = position + len(chunk), 0
                    yield chunk
                if position >= file.size:
                    return
                why, pause = "the connection ended early", None
            except urllib.error.HTTPError as error:
                why, pause = self._refused(error, file.path), _pause(error.headers)
            except BROKEN as error:
                why, pause = f"{type(error).__name__}: {error}", None
            self._wait(attempt, f"{file.path}: {why}", pause)
            attempt += 1

    def _open(self, url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        request = urllib.request.Request(url, headers={"User-Agent": "tokenmill", **headers})
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        answer: http.client.HTTPResponse = self._opener.open(request, timeout=SILENCE_SECONDS)
        return answer

    def _chunks(self, url: str, position: int) -> Iterator[bytes]:
        wanted = {"Accept-Encoding": "identity"}
        if position:
            wanted["Range"] = f"bytes={position}-"
        with self._open(url, wanted) as answer:
            skip = position if answer.status == 200 else 0
            if answer.status == 206 and not answer.headers.get("Content-Range", "").startswith(
                f"bytes {position}-"
            ):
                raise OSError(f"asked for bytes from {position}, got {answer.headers.get('Content-Range')}")
            while chunk := answer.read(CHUNK):
                if skip >= len(chunk):
                    skip -= len(chunk)
                    continue
                yield chunk[skip:]
                skip = 0

    def _listing(self, document: dict[str, Any]) -> Listing:
        if document.get("sha") != self._revision:
            raise Failure(
                f"the Hub calls the revision of {self._model} {document.get('sha')!r}, not {self._revision!r}"
            )
        return Listing(
            licences=_licences(document),
            gated=bool(document.get("gated")),
            files=tuple(_remote_file(item) for item in document.get("siblings", [])),
        )

    def _wait(self, attempt: int, why: str, pause: float | None) -> None:
        """Sleep before the next attempt; raise where there is none, or no time for one."""
        if attempt + 1 >= ATTEMPTS:
            raise Failure(f"the Hub failed {ATTEMPTS} times in a row, at last with {why}")
        seconds = min(LONGEST_WAIT_SECONDS, 2.0**attempt) if pause is None else pause
        if self._clock.now() + seconds > self._deadline:
            raise OutOfTimeError(
                f"the Hub asks to wait {seconds:.0f} s, longer than the build may run: {why}"
            )
        print(f"trying again in {seconds:.0f} s: {why}", flush=True)
        self._clock.sleep(seconds)

    def _refused(self, error: urllib.error.HTTPError, what: str) -> str:
        """Return why an answer is worth another attempt; raise Failure where none helps."""
        with error:
            code = error.headers.get("X-Error-Code", "")
            own = urlsplit(error.url or "").netloc == urlsplit(self._endpoint).netloc
        status = f"HTTP {error.code}"
        # A signed address of the CDN runs out; the Hub gives a new one.
        if error.code in TRY_AGAIN or (error.code in (401, 403) and not own):
            return f"{status} for {what}"
        raise Failure(self._sentence(error.code, code, what))

    def _sentence(self, status: int, code: str, what: str) -> str:
        page = f"{ENDPOINT}/{self._model}"
        if code == "RevisionNotFound":
            return (
                f"{self._model} has no revision {self._revision}; its commits and their hashes stand at "
                f"{page}/commits/main"
            )
        if code == "GatedRepo" or (status == 403 and self._token):
            todo = (
                "the token's user has not been let in, or the token may not read gated repositories; accept "
                "its terms there with that user, and wait for the approval if it asks for one"
                if self._token
                else "accept its terms there and give token="
            )
            return f"{self._model} is gated ({page}): {todo}"
        if status == 401 and self._token:
            return f"the Hub does not take the token (HTTP 401 for {what}); it is wrong or has expired"
        if status in (401, 404) or code == "RepoNotFound":
            return (
                f"the Hub shows no model {self._model!r} (HTTP {status} for {what}); the name is wrong, or "
                "it is private and needs token= of a user who may read it"
            )
        return f"the Hub refuses {what} with HTTP {status} {code}".rstrip()


def _pause(headers: Any) -> float | None:
    """Return how long the Hub asks to wait, in seconds."""
    limited = RATE_LIMIT.search(headers.get("ratelimit", ""))
    if limited:
        return float(limited.group(1)) + 1
    after = headers.get("Retry-After", "")
    return float(after) + 1 if after.isdigit() else None


def _licences(document: dict[str, Any]) -> tuple[str, ...]:
    """Return the licences of the model card; "other" gives way to the name that stands beside it."""
    card = document.get("cardData") or {}
    found = card.get("license") or []
    names = [found] if isinstance(found, str) else [str(name) for name in found]
    own = card.get("license_name")
    return tuple(str(own) if own and name == "other" else name for name in names)


def _remote_file(item: dict[str, Any]) -> RemoteFile:
    path, large = str(item["rfilename"]), item.get("lfs") or {}
    if path.startswith("/") or ".." in path.split("/"):
        raise Failure(f"the repository has a file {path!r}, which is no path below its root")
    size = large.get("size", item.get("size"))
    if size is None:
        raise Failure(f"the Hub does not say how long {path} is")
    return RemoteFile(path=path, size=int(size), sha256=large.get("sha256"), git_sha1=item.get("blobId"))
