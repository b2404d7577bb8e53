"""Stored conversations: the item layout of the DynamoDB table and the reads and writes on it.

One item a turn. The partition is one caller's conversation, so a caller cannot name another's; the sort key
is the turn's number, zero-padded so that text order is turn order. The template takes the attribute names
from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, cast

from tokenmill_runtime.aws import dynamodb
from tokenmill_runtime.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from tokenmill_runtime.clock import Clock

PARTITION_KEY: Final = "pk"
SORT_KEY: Final = "sk"
TTL_ATTRIBUTE: Final = "expires_at"
ROLE_ATTRIBUTE: Final = "role"
CONTENT_ATTRIBUTE: Final = "content"
CREATED_ATTRIBUTE: Final = "created_at"
INTERRUPTED_ATTRIBUTE: Final = "interrupted"
REPLY_TO_ATTRIBUTE: Final = "reply_to"
REQUEST_ATTRIBUTE: Final = "request_id"

# DynamoDB's item limit is 400 KB (AWS page "Constraints in Amazon DynamoDB"); the rest is left to the keys.
MAX_CONTENT_BYTES: Final = 390_000
MAX_ATTEMPTS: Final = 16
_DIGITS: Final = 10

Role = Literal["user", "assistant"]


class ConversationConflictError(RuntimeError):
    """Other writers took every turn number that was tried."""


class ContentTooLongError(ValueError):
    """A turn does not fit into one item."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One stored message.

    ``reply_to`` is the number of the user turn that an assistant turn answers; ``request_id`` names the
    request that wrote it, which tells a repeated write from another writer's.
    """

    sequence: int
    role: Role
    content: str
    request_id: str
    interrupted: bool = False
    reply_to: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The newest turns that fit, oldest first, answers behind questions; ``last`` is the newest number."""

    turns: tuple[Turn, ...] = ()
    last: int = -1


class Conversations(Protocol):
    """What the gateway needs of a store of conversations; both methods block."""

    def history(self, principal: str, conversation_id: str, *, max_bytes: int) -> History: ...

    def append(self, principal: str, conversation_id: str, turn: Turn) -> int: ...


class ConversationTable:
    """Conversations in a DynamoDB table.

    ``ttl_days`` counts from the writing of each turn, so a conversation fades from its old end.
    """

    def __init__(self, table: str, *, ttl_days: int, clock: Clock = SYSTEM_CLOCK) -> None:
        self._table = table
        self._ttl_seconds = ttl_days * 86_400
        self._clock = clock

    def history(self, principal: str, conversation_id: str, *, max_bytes: int) -> History:
        """The newest turns whose contents have at most ``max_bytes`` together, from a consistent read.

        Turns past their time to live are left out: DynamoDB deletes them only within days (AWS page "Using
        time to live (TTL) in DynamoDB").
        """
        newest: list[Turn] = []
        last = -1
        for item in self._newest_first(_partition(principal, conversation_id)):
            turn = _turn(item)
            last = max(last, turn.sequence)
            if int(item[TTL_ATTRIBUTE]["N"]) <= self._clock.wall():
                break
            max_bytes -= len(turn.content.encode())
            if max_bytes < 0:
                break
            newest.append(turn)
        return History(turns=_in_order(newest), last=last)

    def append(self, principal: str, conversation_id: str, turn: Turn) -> int:
        """Write a turn under its number, or under the next free one; never over another turn.

        Raises ConversationConflictError when other writers were faster each of MAX_ATTEMPTS times, and
        ContentTooLongError when the content has more than MAX_CONTENT_BYTES.
        """
        size = len(turn.content.encode())
        if size > MAX_CONTENT_BYTES:
            raise ContentTooLongError(f"a stored message has at most {MAX_CONTENT_BYTES} bytes, got {size}")
        partition = _partition(principal, conversation_id)
        sequence = turn.sequence
        for _ in range(MAX_ATTEMPTS):
            if self._put(partition, sequence, turn):
                return sequence
            sequence = self._last(partition) + 1
        raise ConversationConflictError(f"no free turn number after {MAX_ATTEMPTS} attempts; send it again")

    def _put(self, partition: str, sequence: int, turn: Turn) -> bool:
        now = int(self._clock.wall())
        item: dict[str, Any] = {
            PARTITION_KEY: {"S": partition},
            SORT_KEY: {"S": f"{sequence:0{_DIGITS}d}"},
            ROLE_ATTRIBUTE: {"S": turn.role},
            CONTENT_ATTRIBUTE: {"S": turn.content},
            CREATED_ATTRIBUTE: {"N": str(now)},
            TTL_ATTRIBUTE: {"N": str(now + self._ttl_seconds)},
            INTERRUPTED_ATTRIBUTE: {"BOOL": turn.interrupted},
            REQUEST_ATTRIBUTE: {"S": turn.request_id},
        }
        if turn.reply_to is not None:
            item[REPLY_TO_ATTRIBUTE] = {"N": str(turn.reply_to)}
        client = dynamodb()
        try:
            client.put_item(
                TableName=self._table, Item=item, ConditionExpression=f"attribute_not_exists({PARTITION_KEY})"
            )
        except client.exceptions.ConditionalCheckFailedException:
            return self._is_ours(item)
        return True

    def _is_ours(self, item: dict[str, Any]) -> bool:
        """Whether the turn there is this very one: a retry after a lost response finds its own write."""
        key = {name: item[name] for name in (PARTITION_KEY, SORT_KEY)}
        found = dynamodb().get_item(TableName=self._table, Key=key, ConsistentRead=True)
        return found.get("Item") == item

    def _last(self, partition: str) -> int:
        return next((_turn(item).sequence for item in self._newest_first(partition, limit=1)), -1)

    def _newest_first(self, partition: str, *, limit: int = 100) -> Any:
        pages = (
            dynamodb()
            .get_paginator("query")
            .paginate(
                TableName=self._table,
                KeyConditionExpression=f"{PARTITION_KEY} = :pk",
                ExpressionAttributeValues={":pk": {"S": partition}},
                ScanIndexForward=False,
                ConsistentRead=True,
                PaginationConfig={"PageSize": limit},
            )
        )
        for page in pages:
            yield from page["Items"]


def _partition(principal: str, conversation_id: str) -> str:
    return f"{principal}#{conversation_id}"


def _turn(item: dict[str, Any]) -> Turn:
    reply_to = item.get(REPLY_TO_ATTRIBUTE)
    return Turn(
        sequence=int(item[SORT_KEY]["S"]),
        role=cast("Role", item[ROLE_ATTRIBUTE]["S"]),
        content=item[CONTENT_ATTRIBUTE]["S"],
        request_id=item.get(REQUEST_ATTRIBUTE, {}).get("S", ""),
        interrupted=item.get(INTERRUPTED_ATTRIBUTE, {}).get("BOOL", False),
        reply_to=int(reply_to["N"]) if reply_to else None,
    )


def _in_order(newest: list[Turn]) -> tuple[Turn, ...]:
    """Answers behind their questions, also when requests interleaved; the first turn is no answer."""

    def place(turn: Turn) -> tuple[int, int]:
        return (turn.sequence if turn.reply_to is None else turn.reply_to, turn.sequence)

    turns = sorted(newest, key=place)
    while turns and turns[0].role == "assistant":
        turns.pop(0)
    return tuple(turns)
