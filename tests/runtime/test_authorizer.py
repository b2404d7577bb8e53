"""The authorizer against a table over real HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support_runtime import FakeAws
from tokenmill_runtime import api_keys, authorizer

if TYPE_CHECKING:
    from support_runtime import FakeAws

ARN = "arn:aws:execute-api:eu-west-1:123456789012:abc/prod/POST/v1/chat/completions"


@pytest.fixture
def key(aws: FakeAws, monkeypatch: pytest.MonkeyPatch) -> str:
    """A key that is in the table."""
    monkeypatch.setenv("TOKENMILL_KEY_TABLE", "keys")
    key, item = api_keys.new_key()
    aws.keys[str(item["key_id"]["S"])] = item
    return key


def call(token: str) -> dict[str, object]:
    return authorizer.handler({"type": "TOKEN", "authorizationToken": token, "methodArn": ARN}, None)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "  BEARER  "])
def test_a_valid_key_may_call_every_route_of_the_stage(aws: FakeAws, key: str, scheme: str) -> None:
    """The answer is cached by key, so it names every route; the key id is the principal."""
    assert call(f"{scheme} {key}") == {
        "principalId": key[3:15],
        "policyDocument": {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Action": "execute-api:Invoke",
                    "Effect": "Allow",
                    "Resource": "arn:aws:execute-api:eu-west-1:123456789012:abc/prod/*",
                }
            ],
        },
    }
    operation, body = aws.calls[0]
    assert (operation, body["TableName"], body["ConsistentRead"]) == ("GetItem", "keys", True)


def test_partitions_other_than_aws_keep_theirs(key: str) -> None:
    """China and GovCloud."""
    event = {"authorizationToken": f"Bearer {key}", "methodArn": ARN.replace("arn:aws:", "arn:aws-cn:")}
    assert "arn:aws-cn:execute-api" in str(authorizer.handler(event, None))


@pytest.mark.parametrize(
    "token", ["", "Bearer", "Bearer x", "Basic {key}", "{key}", "Bearer {key}x", "B{key}"]
)
def test_what_is_no_key_is_unauthorized_without_a_look_up(aws: FakeAws, key: str, token: str) -> None:
    """The message is exactly the one that API Gateway turns into a 401."""
    with pytest.raises(Exception, match=r"\AUnauthorized\Z"):
        call(token.format(key=key))
    assert aws.calls == []


def test_a_wrong_secret_is_unauthorized(key: str) -> None:
    """The id alone opens nothing."""
    wrong = key[:-1] + ("A" if key[-1] != "A" else "B")
    with pytest.raises(authorizer.UnauthorizedError):
        call(f"Bearer {wrong}")


def test_an_unknown_key_is_unauthorized(key: str) -> None:
    """A well-formed key of another gateway."""
    with pytest.raises(authorizer.UnauthorizedError):
        call(f"Bearer {api_keys.new_key()[0]}")


def test_a_revoked_key_is_unauthorized(aws: FakeAws, key: str) -> None:
    """And so is an item that does not say: fail closed."""
    aws.keys[key[3:15]]["revoked"] = {"BOOL": True}
    with pytest.raises(authorizer.UnauthorizedError):
        call(f"Bearer {key}")
    del aws.keys[key[3:15]]["revoked"]
    with pytest.raises(authorizer.UnauthorizedError):
        call(f"Bearer {key}")


def test_a_table_that_refuses_lets_nobody_in(aws: FakeAws, key: str) -> None:
    """The error is another one than Unauthorized: API Gateway answers 500, and the owner sees it."""
    aws.refused = {"GetItem"}
    with pytest.raises(Exception, match="not authorized") as raised:
        call(f"Bearer {key}")
    assert not isinstance(raised.value, authorizer.UnauthorizedError)
