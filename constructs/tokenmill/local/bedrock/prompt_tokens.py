"""What a Converse request counts as: its tokens, and how many of them a prompt cache reads and writes.

Source: Amazon Bedrock User Guide, "Prompt caching for faster model inference" (order tools, system,
messages; a checkpoint needs a minimum of tokens, lives five minutes after its last use, or an hour;
`inputTokens` are those neither read nor written); Amazon Bedrock API Reference, "CountTokens".
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokenmill.core.prompt_text import cache_rule
from tokenmill.local.model_server.text import count_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from tokenmill.local.aws_requests import Params

MINIMUM_TOKENS = 1024
TTL_SECONDS = {"5m": 300.0, "1h": 3600.0}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A place up to which a request's prefix may be kept.

    Args:
        tokens: Tokens before it.
        digest: What stands before it.
        ttl: "5m" or "1h".
    """

    tokens: int
    digest: str
    ttl: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What a request counts as.

    Args:
        tokens: All its tokens.
        checkpoints: Its checkpoints, in order.
    """

    tokens: int
    checkpoints: tuple[Checkpoint, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class InputUsage:
    """How a request's tokens are billed.

    Args:
        fresh: Neither read from a cache nor written to one.
        read: Read from the cache.
        written: Written to it, by time to live.
    """

    fresh: int
    read: int = 0
    written: dict[str, int] | None = None

    @property
    def write(self) -> int:
        """Tokens written to the cache."""
        return sum((self.written or {}).values())


def counted(request: Params) -> Counted:
    """Return what a Converse request counts as.

    Args:
        request: Its members; `messages`, `system` and `toolConfig` are looked at.
    """
    digest, done, open_text, checkpoints = hashlib.sha256(), 0, "", list[Checkpoint]()
    for kind, value in _parts(request):
        if kind == "text":
            digest.update(b"\x00" + value.encode(errors="surrogatepass"))
            open_text += value
        elif kind == "end":
            digest.update(b"\x01" + value.encode())
            done, open_text = done + count_tokens([open_text]), ""
        else:
            tokens = done + (count_tokens([open_text]) if open_text else 0)
            checkpoints.append(Checkpoint(tokens, digest.hexdigest(), value))
    return Counted(tokens=done, checkpoints=tuple(checkpoints))


def _parts(request: Params) -> Iterator[tuple[str, str]]:
    for tool in (request.get("toolConfig") or {}).get("tools") or []:
        if "cachePoint" in tool:
            yield "checkpoint", tool["cachePoint"].get("ttl", "5m")
        else:
            yield "text", json.dumps(tool, sort_keys=True)
            yield "end", "tool"
    for block in request.get("system") or []:
        yield from _block(block)
        if "cachePoint" not in block:
            yield "end", "system"
    for message in request.get("messages") or []:
        for block in message.get("content") or []:
            yield from _block(block)
        yield "end", message.get("role", "")


def _block(block: Params) -> Iterator[tuple[str, str]]:
    if "cachePoint" in block:
        yield "checkpoint", block["cachePoint"].get("ttl", "5m")
    elif "guardContent" in block:
        yield "text", block["guardContent"].get("text", {}).get("text", "")
    elif isinstance(block.get("text"), str):
        yield "text", block["text"]
    else:
        yield "text", json.dumps(block, sort_keys=True, default=str)


def fewest_tokens(model: str) -> int:
    """Return how many tokens a prefix needs that a model keeps; those of most models where nothing is known.

    Args:
        model: A foundation model's id.
    """
    rule = cache_rule(model)
    return MINIMUM_TOKENS if rule is None else rule.minimum_tokens


class PromptCache:
    """The prefixes that models keep.

    Args:
        minimum: Fewest tokens of a prefix that a model keeps, by its id.
        clock: Seconds on a clock that never goes back.
    """

    def __init__(
        self, *, minimum: Callable[[str], int] = fewest_tokens, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._minimum = minimum
        self._clock = clock
        self._kept: dict[tuple[Hashable, str, str], float] = {}

    def use(self, owner: Hashable, model: str, request: Counted) -> InputUsage:
        """Return how a request's tokens are billed, and keep its prefixes.

        Args:
            owner: Whose cache: account and region.
            model: Whose prefixes they are.
            request: What the request counts as.
        """
        now = self._clock()
        self._kept = {key: end for key, end in self._kept.items() if end > now}
        minimum = self._minimum(model)
        eligible = [point for point in request.checkpoints if point.tokens >= minimum]
        found = [point.tokens for point in eligible if (owner, model, point.digest) in self._kept]
        read = max(found, default=0)
        written, last = dict[str, int](), read
        for point in eligible:
            self._kept[owner, model, point.digest] = now + TTL_SECONDS[point.ttl]
            if point.tokens > last:
                written[point.ttl] = written.get(point.ttl, 0) + point.tokens - last
                last = point.tokens
        return InputUsage(fresh=request.tokens - last, read=read, written=written)


def plain_request(request: Params) -> Params:
    """Return a Converse request as a model server takes it: without checkpoints and guards around the text.

    Args:
        request: The request's members.
    """

    def plain(blocks: list[Params]) -> list[Params]:
        kept = [block for block in blocks if "cachePoint" not in block]
        return [
            {"text": block["guardContent"]["text"]["text"]}
            if "text" in block.get("guardContent", {})
            else block
            for block in kept
        ]

    made: dict[str, Any] = {
        name: request[name] for name in ("inferenceConfig", "additionalModelRequestFields") if name in request
    }
    made["messages"] = [{**m, "content": plain(m["content"])} for m in request.get("messages") or []]
    if request.get("system"):
        made["system"] = plain(request["system"])
    return made
