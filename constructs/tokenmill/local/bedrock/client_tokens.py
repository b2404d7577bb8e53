"""Client tokens: a request that comes again makes nothing twice.

Source: botocore's docstring of `clientRequestToken` ("If this token matches a previous request, Amazon
Bedrock ignores the request, but does not return an error"). What it leaves open stands in `Behaviour`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenmill.local.aws_requests import AwsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenmill.local.aws_requests import Params, Scope
    from tokenmill.local.bedrock.control import BedrockControl


@dataclass(frozen=True, slots=True)
class _Remembered:
    asked: str
    made: str
    at: float


class ClientTokens:
    """The tokens of every account and operation.

    Args:
        control: Whose clock and behaviour count.
    """

    def __init__(self, control: BedrockControl) -> None:
        self._control = control
        self._remembered: dict[tuple[Scope, str, str], _Remembered] = {}

    def once(
        self,
        scope: Scope,
        operation: str,
        params: Params,
        *,
        make: Callable[[], str],
        exists: Callable[[str], bool],
    ) -> str:
        """Return the ARN of what a request makes, or of what the same token made before.

        Only what succeeded is remembered: a refused request may come again with its token.

        Args:
            scope: Whose request.
            operation: Its operation.
            params: Its members.
            make: Makes it and returns its ARN.
            exists: Whether an ARN still exists.

        Raises:
            AwsError: The token stands for another request, and this service minds.
        """
        token = params.get("clientRequestToken")
        if token is None:
            return make()
        behaviour, now = self._control.behaviour, self._control.clock()
        asked = json.dumps(params, sort_keys=True, default=str)
        before = self._remembered.get((scope, operation, token))
        if before is not None and now - before.at < behaviour.token_seconds:
            if before.asked != asked and behaviour.token_mismatch == "refused":
                raise AwsError(
                    "ValidationException", "The client request token was used with other parameters."
                )
            if exists(before.made) or behaviour.token_after_delete == "ignored":
                return before.made
        made = make()
        self._remembered[scope, operation, token] = _Remembered(asked, made, now)
        return made
