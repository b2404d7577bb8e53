"""What API Gateway itself answers when a request does not reach the function: OpenAI error objects."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aws_cdk import aws_apigateway as apigateway

if TYPE_CHECKING:
    from collections.abc import Sequence

MESSAGE_VARIABLE = "$context.error.messageString"


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayAnswer:
    """One gateway response.

    Args:
        id: The construct's id.
        type: The gateway response type's member of `aws_apigateway.ResponseType`.
        status: The HTTP status; None keeps API Gateway's own.
        error: The OpenAI error type.
        code: The OpenAI error code.
        message: What the caller reads; None repeats API Gateway's own message.
    """

    id: str
    type: str
    status: int | None
    error: str
    code: str | None
    message: str | None = None

    def template(self) -> str:
        """Return the body, an OpenAI error object ("Error codes", OpenAI API documentation)."""
        body = {"message": self.message or "", "type": self.error, "param": None, "code": self.code}
        text = json.dumps({"error": body})
        # API Gateway puts the message in as a JSON string with its own quotes.
        return text if self.message else text.replace('"message": ""', f'"message": {MESSAGE_VARIABLE}')


# Types and their default status: "Gateway response types for API Gateway".
ANSWERS = (
    GatewayAnswer(
        id="Unauthorized",
        type="UNAUTHORIZED",
        status=401,
        error="invalid_request_error",
        code="invalid_api_key",
        message="the API key is missing or wrong; send Authorization: Bearer <key>, made by "
        "tokenmill keys create",
    ),
    GatewayAnswer(
        id="AccessDenied",
        type="ACCESS_DENIED",
        status=403,
        error="invalid_request_error",
        code="access_denied",
        message="this API key may not call this route",
    ),
    GatewayAnswer(
        id="InvalidApiKey",
        type="INVALID_API_KEY",
        status=401,
        error="invalid_request_error",
        code="invalid_api_key",
        message="the API key is not valid",
    ),
    GatewayAnswer(
        id="Throttled",
        type="THROTTLED",
        status=429,
        error="rate_limit_error",
        code="rate_limit_exceeded",
        message="too many requests; wait and send the request again",
    ),
    GatewayAnswer(
        id="TooLarge",
        type="REQUEST_TOO_LARGE",
        status=413,
        error="invalid_request_error",
        code="request_too_large",
        message="the request body is larger than the gateway takes",
    ),
    GatewayAnswer(
        id="IntegrationTimeout",
        type="INTEGRATION_TIMEOUT",
        status=504,
        error="server_error",
        code="timeout",
        message="the model did not answer in time",
    ),
    GatewayAnswer(
        id="IntegrationFailure",
        type="INTEGRATION_FAILURE",
        status=502,
        error="server_error",
        code="bad_gateway",
        message="the gateway function failed; its log has the reason",
    ),
    GatewayAnswer(
        id="Default4xx", type="DEFAULT_4_XX", status=None, error="invalid_request_error", code=None
    ),
    GatewayAnswer(id="Default5xx", type="DEFAULT_5_XX", status=None, error="server_error", code=None),
)


def add_gateway_responses(api: apigateway.RestApi, answers: Sequence[GatewayAnswer] = ANSWERS) -> None:
    """Make API Gateway's own answers readable by an OpenAI client.

    Args:
        api: The REST API.
        answers: The responses.
    """
    for answer in answers:
        api.add_gateway_response(
            answer.id,
            type=getattr(apigateway.ResponseType, answer.type),
            status_code=None if answer.status is None else str(answer.status),
            templates={"application/json": answer.template()},
        )
