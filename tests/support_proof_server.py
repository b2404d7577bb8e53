"""The server of a proof's examples, with what counts requests, kills the function and keeps the figures.

What was injected, how often, and what was left behind is written to the file that TOKENMILL_PROOF_FIGURES
names.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import botocore.httpsession
import pytest

from support_bedrock import REGION, SCOPE
from support_lambda_invocations import Killed
from tokenmill.local.bedrock import BedrockControl
from tokenmill.local.bedrock.http import BedrockServer
from tokenmill_runtime import aws, units_market

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support_bedrock import Clock
    from support_lambda_invocations import Function


class Example(Protocol):
    """What runs."""

    clock: Clock

    def before_request(self) -> None: ...

    def after_request(self) -> None: ...


class Bedrock:
    """The server of all examples, the example that runs, and what all of them met."""

    server: BedrockServer
    running: Example | None = None
    totals: Counter[str] = Counter()


class Interrupting:
    """What happens to an example's function at its requests: it dies, or runs twice at once."""

    function: Function

    def leave_alone(self) -> None:
        """Begin, or end, with nothing that happens: `kills` are requests to come, and before or after."""
        self.kills: list[tuple[int, bool]] = []
        self.meanwhile: list[int] = []
        self.dying = False

    def before_request(self) -> None:
        Bedrock.totals["requests"] += 1
        if not self.function.frames:
            return
        if self.function.frames[-1].dead:
            raise Killed
        if self.meanwhile:
            self.meanwhile[0] -= 1
            if self.meanwhile[0] < 0:
                self.meanwhile.pop(0)
                self.function.again_meanwhile()
        self.dying = False
        if self.kills:
            count, after = self.kills.pop(0)
            if count > 0:
                self.kills.insert(0, (count - 1, after))
            elif after:
                self.dying = True
            else:
                self.die("killed before the service acted")

    def after_request(self) -> None:
        if self.dying:
            self.dying = False
            self.die("killed after the service acted")

    def die(self, how: str) -> None:
        self.function.injected[how] += 1
        self.function.frames[-1].dead = True
        raise Killed


class Counted:
    """A service in the process, at whose calls the function may die."""

    def __init__(self, service: Any) -> None:
        self.service = service

    def __getattr__(self, name: str) -> Any:
        def call(**asked: Any) -> Any:
            assert Bedrock.running is not None
            Bedrock.running.before_request()
            answer = getattr(self.service, name)(**asked)
            Bedrock.running.after_request()
            return answer

        return call


@contextlib.contextmanager
def serving() -> Iterator[None]:
    """Serve Bedrock, tell the example of every request that its function makes, and wait on its clock."""
    send = botocore.httpsession.URLLib3Session.send

    def sent(session: Any, request: Any) -> Any:
        if Bedrock.running is not None:
            Bedrock.running.before_request()
        answer = send(session, request)
        if Bedrock.running is not None:
            Bedrock.running.after_request()
        return answer

    with BedrockServer(BedrockControl()) as server, pytest.MonkeyPatch.context() as patch:
        Bedrock.server = server
        for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_BEDROCK"):
            patch.setenv(name, server.url)
        patch.setenv("AWS_ACCESS_KEY_ID", SCOPE.account)
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        patch.setenv("AWS_REGION", REGION)
        patch.delenv("AWS_PROFILE", raising=False)
        patch.setattr(botocore.httpsession.URLLib3Session, "send", sent)
        patch.setattr(time, "sleep", pass_time)
        patch.setattr(units_market, "PAUSES", (0.0,) * len(units_market.PAUSES))
        yield
        forget_clients()
    figures = os.environ.get("TOKENMILL_PROOF_FIGURES")
    if figures:
        Path(figures).write_text(json.dumps(dict(sorted(Bedrock.totals.items())), indent=1) + "\n")


def pass_time(seconds: float) -> None:
    """Let whoever waits between two attempts wait on the example's clock."""
    if Bedrock.running is not None:
        Bedrock.running.clock.pass_(seconds)


def forget_clients() -> None:
    """Clients keep a quota of retries, which one example must not take from the next."""
    for cached in vars(aws).values():
        if hasattr(cached, "cache_clear"):
            cached.cache_clear()
