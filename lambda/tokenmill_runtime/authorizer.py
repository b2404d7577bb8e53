"""API Gateway TOKEN authorizer for bearer keys.

AWS pages "Input to an API Gateway Lambda authorizer" and "Output from an API Gateway Lambda authorizer"
(Amazon API Gateway Developer Guide): the function gets ``authorizationToken`` and ``methodArn``; an exception
whose message is exactly "Unauthorized" becomes a 401, any other one a 500.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from tokenmill_runtime.api_keys import (
    KEY_ID_ATTRIBUTE,
    KEY_TABLE_VARIABLE,
    REVOKED_ATTRIBUTE,
    SECRET_ATTRIBUTE,
    hash_secret,
    parse_key,
    secret_matches,
)
from tokenmill_runtime.aws import dynamodb

if TYPE_CHECKING:
    from collections.abc import Mapping

_NO_SUCH_KEY: Final = hash_secret("")


class UnauthorizedError(Exception):
    """The key is not one that may call; API Gateway looks at the message only."""

    def __init__(self) -> None:
        super().__init__("Unauthorized")


def handler(event: Mapping[str, str], context: object) -> dict[str, object]:
    """Allow the caller of a valid key every route of this API's stage, as the principal ``key_id``.

    Raises UnauthorizedError for a key that is malformed, unknown, revoked or has another secret; KeyError
    when the function's environment or the event is incomplete (API Gateway answers 500, so nothing is let
    through).
    """
    table = os.environ[KEY_TABLE_VARIABLE]
    key_id = _authenticate(event["authorizationToken"], table)
    statement = {
        "Action": "execute-api:Invoke",
        "Effect": "Allow",
        "Resource": _stage_arn(event["methodArn"]),
    }
    return {"principalId": key_id, "policyDocument": {"Version": "2012-10-17", "Statement": [statement]}}


def _authenticate(token: str, table: str) -> str:
    scheme, _, credentials = token.strip().partition(" ")
    key = parse_key(credentials.strip()) if scheme.lower() == "bearer" else None
    if key is None:
        raise UnauthorizedError
    key_id, secret = key
    found = dynamodb().get_item(TableName=table, Key={KEY_ID_ATTRIBUTE: {"S": key_id}}, ConsistentRead=True)
    item = found.get("Item", {})
    # An unknown key is compared too, so that the answer's time does not tell whether a key id exists.
    matches = secret_matches(secret, item.get(SECRET_ATTRIBUTE, {}).get("S", _NO_SUCH_KEY))
    revoked = item.get(REVOKED_ATTRIBUTE, {}).get("BOOL", True)
    if not matches or revoked:
        raise UnauthorizedError
    return key_id


def _stage_arn(method_arn: str) -> str:
    """Every method of the stage: the answer is cached by key, so it must not name the first route only."""
    api, stage = method_arn.split("/")[:2]
    return f"{api}/{stage}/*"
