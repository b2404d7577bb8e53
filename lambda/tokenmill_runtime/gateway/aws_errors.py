"""What AWS's errors of a model call mean to a caller.

Codes: AWS API references of InvokeEndpoint, InvokeEndpointWithResponseStream, Converse and ConverseStream,
sections "Errors" and "Response Elements" (errors inside a stream). AWS's own texts name accounts and log
groups, so they go to the log; only what the model itself said about a request reaches its caller.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from tokenmill_runtime.gateway.errors import (
    CONTEXT_LENGTH_EXCEEDED,
    GatewayError,
    invalid_request,
    server_error,
)

if TYPE_CHECKING:
    from collections.abc import Callable

# Seconds after which a client may try again: the time that a running copy takes to be replaced is minutes,
# but a copy that is merely busy answers earlier.
RETRY_AFTER_SECONDS: Final = 10
_TOO_LONG: Final = re.compile(
    r"maximum context length|max_model_len|input is too long|longer than the maximum", re.I
)

# "Troubleshooting Amazon Bedrock API Error Codes": the request was turned away before the model saw it.
_TURNED_AWAY: Final = frozenset(
    {
        "throttlingexception",
        "toomanyrequestsexception",
        "servicequotaexceededexception",
        "modelnotreadyexception",
        "serviceunavailableexception",
    }
)
_GONE: Final = re.compile(r"model identifier is invalid|provisioned (model )?throughput.*not", re.I)


def model_error(error: Exception, model: str) -> GatewayError:
    """The gateway's error for an exception of boto3 or of the connection under it."""
    from botocore.exceptions import ClientError, ReadTimeoutError
    from botocore.exceptions import ConnectionError as NoConnectionError
    from urllib3.exceptions import ReadTimeoutError as StreamTimeoutError

    detail = f"{type(error).__name__}: {error}"
    if isinstance(error, ClientError):
        return _client_error(error.response, model, detail)
    if isinstance(error, ReadTimeoutError | StreamTimeoutError):
        return timed_out(model, detail)
    if isinstance(error, NoConnectionError):
        return unavailable(model, detail)
    return broken(model, detail)


def unavailable(model: str, detail: str = "") -> GatewayError:
    """Nothing serves the model now."""
    error = server_error(
        f"the model {model} is not available now; try again later",
        status=503,
        code="model_unavailable",
        detail=detail,
    )
    error.retry_after = RETRY_AFTER_SECONDS
    return error


def broken(model: str, detail: str = "") -> GatewayError:
    """The model took the request and failed."""
    message = f"the model {model} failed before its answer was finished; try again"
    return server_error(message, status=502, code="model_error", detail=detail)


def timed_out(model: str, detail: str = "") -> GatewayError:
    """The model was silent for too long."""
    message = (
        f"the model {model} did not answer in time; try again, or ask for less with max_completion_tokens"
    )
    return server_error(message, status=504, code="model_timeout", detail=detail)


def throttled(model: str, detail: str = "") -> GatewayError:
    """More requests than the model takes."""
    message = f"the model {model} gets too many requests; try again later"
    return GatewayError(
        message, status=429, kind="rate_limit_error", code="rate_limit_exceeded", detail=detail
    )


def refused(text: str) -> GatewayError:
    """The model understood the request and refused it; the text is its own."""
    code = CONTEXT_LENGTH_EXCEEDED if _TOO_LONG.search(text) else "invalid_value"
    return invalid_request(f"the model refused the request: {text}", code=code)


def _forbidden(model: str, detail: str) -> GatewayError:
    message = f"the gateway may not call the model {model}; its owner must allow it"
    return server_error(message, status=500, code="model_access_denied", detail=detail)


_BY_CODE: Final[dict[str, Callable[[str, str], GatewayError]]] = {
    "throttlingexception": throttled,
    "toomanyrequestsexception": throttled,
    "servicequotaexceededexception": throttled,
    "modelnotreadyexception": unavailable,
    "serviceunavailable": unavailable,
    "serviceunavailableexception": unavailable,
    "resourcenotfoundexception": unavailable,
    # SageMaker's answer for an endpoint or component that is gone or has no copy.
    "validationerror": unavailable,
    "modeltimeoutexception": timed_out,
    "accessdeniedexception": _forbidden,
}
_BY_STATUS: Final[dict[int, Callable[[str, str], GatewayError]]] = {
    408: timed_out,
    429: throttled,
    503: unavailable,
    504: timed_out,
}


def turned_away(error: Exception) -> bool:
    """Whether a model had no room for a request, so that asking another one costs no second prefill."""
    return is_gone(error) or _code(error) in _TURNED_AWAY


def is_gone(error: Exception) -> bool:
    """Whether there is no such model, as when units were given back a moment ago."""
    code = _code(error)
    return code == "resourcenotfoundexception" or (
        code == "validationexception" and bool(_GONE.search(str(error)))
    )


def _code(error: Exception) -> str:
    from botocore.exceptions import ClientError

    return (
        str(error.response.get("Error", {}).get("Code", "")).lower() if isinstance(error, ClientError) else ""
    )


def _client_error(response: Any, model: str, detail: str) -> GatewayError:
    # Errors inside Bedrock's stream have the same names with a small first letter.
    code = str(response.get("Error", {}).get("Code", "")).lower()
    if code == "validationexception":
        return refused(str(response["Error"].get("Message", "")))
    if code in _BY_CODE:
        return _BY_CODE[code](model, detail)
    status = response.get("OriginalStatusCode", response.get("originalStatusCode", 0))
    if status in (400, 422):
        return refused(_own_words(response.get("OriginalMessage", "")))
    return _BY_STATUS.get(status, broken)(model, detail)


def _own_words(text: str) -> str:
    """The message inside a model server's JSON error, or the text itself."""
    try:
        document = json.loads(text)
    except ValueError:
        return text
    return error_message(document) or text


def error_message(document: object) -> str | None:
    """The message of an OpenAI-style error document: the nested form, or vLLM's older flat one."""
    if not isinstance(document, dict):
        return None
    nested = document.get("error")
    if isinstance(nested, dict):
        return str(nested.get("message", nested))
    if nested is not None:
        return str(nested)
    return str(document.get("message", document)) if document.get("object") == "error" else None
