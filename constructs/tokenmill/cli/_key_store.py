"""The key table of a deployed gateway, found by the stack's output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tokenmill.core.errors import TokenmillError
from tokenmill_runtime import api_keys

if TYPE_CHECKING:
    from collections.abc import Iterator

    import boto3

TABLE_OUTPUT = "ApiKeyTable"
_PATIENCE = Config(connect_timeout=5, read_timeout=15, retries={"mode": "standard", "total_max_attempts": 3})


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKey:
    """What the table knows of a key; the secret is not among it.

    Args:
        key_id: The part of the key between `tm-` and the secret.
        label: What the key is for, in its maker's words.
        created: When it was made, in ISO 8601.
        revoked: Whether it opens nothing any more.
    """

    key_id: str
    label: str
    created: str
    revoked: bool


class KeyStore:
    """The key table of one deployed gateway.

    Args:
        session: A boto3 session; `AWS_ENDPOINT_URL` is honoured.
        stack_id: CloudFormation's name of the stack.

    Raises:
        TokenmillError: There are no credentials, the stack is not deployed, or it has no gateway.
    """

    def __init__(self, session: boto3.Session, stack_id: str) -> None:
        self._stack_id = stack_id
        self._region = session.region_name or ""
        self._table = self._find_table(session.client("cloudformation", config=_PATIENCE))
        self._client = session.client("dynamodb", config=_PATIENCE)

    def create(self, *, label: str) -> tuple[str, StoredKey]:
        """Store a new key's hash and return the key, which nothing can show again.

        Args:
            label: What the key is for.
        """
        key, item = api_keys.new_key(label=label)
        self._call(
            "put_item", Item=item, ConditionExpression=f"attribute_not_exists({api_keys.KEY_ID_ATTRIBUTE})"
        )
        return key, _stored(item)

    def revoke(self, key_id: str) -> None:
        """Make a key open nothing any more.

        Args:
            key_id: The key's id.

        Raises:
            TokenmillError: The table has no such key.
        """
        try:
            self._call(
                "update_item",
                Key={api_keys.KEY_ID_ATTRIBUTE: {"S": key_id}},
                UpdateExpression=f"SET {api_keys.REVOKED_ATTRIBUTE} = :yes",
                ConditionExpression=f"attribute_exists({api_keys.KEY_ID_ATTRIBUTE})",
                ExpressionAttributeValues={":yes": {"BOOL": True}},
            )
        except _ConditionFailed:
            known = ", ".join(key.key_id for key in self.keys()) or "none"
            raise TokenmillError(f"{self._stack_id} has no key {key_id!r}; it has {known}") from None

    def keys(self) -> tuple[StoredKey, ...]:
        """Return every key of the gateway, the oldest first."""
        return tuple(
            sorted((_stored(item) for item in self._scan()), key=lambda key: (key.created, key.key_id))
        )

    def _scan(self) -> Iterator[Any]:
        start: dict[str, Any] = {}
        while True:
            page = self._call("scan", **start)
            yield from page["Items"]
            if "LastEvaluatedKey" not in page:
                return
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    def _call(self, operation: str, **arguments: Any) -> Any:
        try:
            return getattr(self._client, operation)(TableName=self._table, **arguments)
        except ClientError as error:
            if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
                raise _ConditionFailed from error
            raise TokenmillError(f"key table {self._table}: {error}") from error
        except BotoCoreError as error:
            raise TokenmillError(f"key table {self._table} cannot be reached: {error}") from error

    def _find_table(self, client: Any) -> str:
        deploy = f"deploy it with: npx cdk deploy {self._stack_id}"
        try:
            stack = client.describe_stacks(StackName=self._stack_id)["Stacks"][0]
        except ClientError as error:
            if "does not exist" not in str(error):
                raise TokenmillError(f"stack {self._stack_id} in {self._region}: {error}") from error
            raise TokenmillError(
                f"stack {self._stack_id} is not deployed in {self._region}; {deploy}"
            ) from error
        except BotoCoreError as error:
            raise TokenmillError(
                f"stack {self._stack_id} in {self._region} cannot be looked up: {error}; "
                "see what is missing with: tokenmill doctor"
            ) from error
        for output in stack.get("Outputs", []):
            if output["OutputKey"] == TABLE_OUTPUT:
                return str(output["OutputValue"])
        raise TokenmillError(f"{self._stack_id} has no output {TABLE_OUTPUT}, so no keys; {deploy}")


class _ConditionFailed(Exception):
    """The table does not hold what the write presumes."""


def _stored(item: Any) -> StoredKey:
    return StoredKey(
        key_id=item[api_keys.KEY_ID_ATTRIBUTE]["S"],
        label=item.get(api_keys.LABEL_ATTRIBUTE, {}).get("S", ""),
        created=item.get(api_keys.CREATED_ATTRIBUTE, {}).get("S", ""),
        revoked=bool(item.get(api_keys.REVOKED_ATTRIBUTE, {}).get("BOOL", False)),
    )
