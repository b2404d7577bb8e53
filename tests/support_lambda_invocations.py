"""A Lambda function that runs a custom resource's handler, and may die at any request."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ACCOUNT, REGION = "123456789012", "us-east-1"


class Killed(BaseException):
    """The function's environment went away between two calls."""


@dataclass
class Frame:
    """One invocation of the handler; once it is dead, it gets nothing out any more."""

    call: Callable[[], Any]
    dead: bool = False


class Raising:
    """Keeps what a handler raised; its driver turns any error into FAILED."""

    error: Exception | None = None

    def __enter__(self) -> Raising:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        self.error = error if isinstance(error, Exception) else None
        return self.error is not None


class Function:
    """Invokes the handler; `injected` counts what went wrong on purpose."""

    def __init__(self, on_event: Callable[..., Any], is_complete: Callable[..., Any]) -> None:
        self.on_event, self.is_complete = on_event, is_complete
        self.injected: Counter[str] = Counter()
        self.pass_time: Callable[[float], None] = lambda seconds: None
        self.frames: list[Frame] = []
        self.reasons: list[str] = []

    def begin(self, event: dict[str, Any]) -> dict[str, Any]:
        return self._invoke(lambda: self.on_event(dict(event), Context()))

    def step(self, event: dict[str, Any]) -> dict[str, Any]:
        return self._invoke(lambda: self.is_complete(dict(event), Context()))

    def _invoke(self, call: Callable[[], Any]) -> Any:
        self.frames.append(Frame(call))
        try:
            return call()
        finally:
            self.frames.pop()

    def again_meanwhile(self) -> None:
        """Run what runs once more, between two calls of it: the same request in two environments at once."""
        if len(self.frames) < 3:
            self.injected["the same request twice at once"] += 1
            with contextlib.suppress(Exception, Killed):
                self._invoke(self.frames[-1].call)


class Context:
    """What Lambda tells a function of itself."""

    function_name = "units"
    invoked_function_arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:units"
    aws_request_id = "11111111-2222-3333-4444-555555555555"

    def get_remaining_time_in_millis(self) -> int:
        return 60_000
