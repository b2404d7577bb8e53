"""Errors of the gateway, as OpenAI clients understand them."""

from __future__ import annotations

from typing import Final

CONTEXT_LENGTH_EXCEEDED: Final = "context_length_exceeded"
CONTENT_FILTER: Final = "content_filter"


class GatewayError(Exception):
    """One failed request: HTTP status and the fields of OpenAI's error object.

    ``detail`` goes to the log and never to the caller; ``retry_after`` is in seconds.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        kind: str,
        code: str,
        param: str | None = None,
        retry_after: int | None = None,
        detail: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.kind = kind
        self.code = code
        self.param = param
        self.retry_after = retry_after
        self.detail = detail

    def document(self) -> dict[str, object]:
        """OpenAI's error object."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": error}


def invalid_request(
    message: str, *, param: str | None = None, code: str = "invalid_value", status: int = 400
) -> GatewayError:
    """The caller's mistake, which sending again does not mend."""
    return GatewayError(message, status=status, kind="invalid_request_error", code=code, param=param)


def server_error(message: str, *, status: int, code: str, detail: str = "") -> GatewayError:
    """Not the caller's mistake; sending again may help."""
    return GatewayError(message, status=status, kind="server_error", code=code, detail=detail)


def context_length_exceeded(limit: int, found: str) -> GatewayError:
    """The messages do not fit into the model's context."""
    message = f"the model's context is {limit} tokens, but {found}; shorten the messages"
    return invalid_request(message, param="messages", code=CONTEXT_LENGTH_EXCEEDED)


def content_filtered(message: str) -> GatewayError:
    """A guardrail lets the messages not through; the text is the one that its owner wrote for this."""
    return invalid_request(message, param="messages", code=CONTENT_FILTER)
