"""What `tokenmill advise` relies on in Amazon Bedrock: service tiers, and reads of the prompt cache."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from tokenmill.core.bedrock_prices import STANDARD, bedrock_price, bedrock_prices, profile_of
from tokenmill.verification.probe import Outcome, Verdict, holds

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tokenmill.core.bedrock_prices import BedrockPrice
    from tokenmill.verification.aws import Aws

ASKED_TIERS = ("flex", "priority")
# The smallest that every provider takes.
MAX_TOKENS = 16
READS = 3
# Above the longest that a model asks for before it caches, 4,096 tokens ("Prompt caching for faster model
# inference", Amazon Bedrock User Guide); a word and its space are about a token.
CACHED_WORDS = 5000


def bedrock_lines(aws: Aws, wanted: Collection[str]) -> Iterator[tuple[str, Outcome]]:
    """Ask models for a few tokens.

    Args:
        aws: The run.
        wanted: Ids of the lines that were asked for.
    """
    if "bedrock-service-tiers" in wanted:
        yield "bedrock-service-tiers", _tiers(aws)
    if "bedrock-cache-reads" in wanted:
        yield "bedrock-cache-reads", _cache_reads(aws)


def priced_models(region: str) -> Iterator[BedrockPrice]:
    """Yield the price of each model that has one in a region and is not withdrawn.

    Args:
        region: AWS region.
    """
    today = datetime.datetime.now(datetime.UTC).date()
    for model in bedrock_prices():
        price = bedrock_price(model, region).price
        if price is not None and not price.ended(today):
            yield price


def cached_models(region: str) -> list[BedrockPrice]:
    """Return each provider's cheapest model whose cache reads have a price in a region.

    Args:
        region: AWS region.
    """
    cheapest: dict[str, BedrockPrice] = {}
    for price in priced_models(region):
        if price.tiers[STANDARD].cache_read is None:
            continue
        provider = price.model_id.removeprefix(f"{profile_of(price.model_id)}.").split(".")[0]
        best = cheapest.get(provider)
        if best is None or price.tiers[STANDARD].input < best.tiers[STANDARD].input:
            cheapest[provider] = price
    return list(cheapest.values())


def _tiers(aws: Aws) -> Outcome:
    seen: dict[str, dict[str, str]] = {"accepted": {}, "refused": {}, "not_tried": {}}
    for price in priced_models(aws.region):
        for tier in ASKED_TIERS:
            if tier in price.tiers:
                found, why = _ask_tier(aws, price.model_id, tier)
                seen[found][f"{price.model_id} {tier}"] = why
    if not seen["accepted"] and not seen["refused"]:
        return Outcome(Verdict.UNCLEAR, seen)
    return Outcome(holds(not seen["refused"]), seen)


def _ask_tier(aws: Aws, model: str, tier: str) -> tuple[str, str]:
    try:
        answer = _converse(aws, model, serviceTier={"type": tier})
    except (ClientError, BotoCoreError) as error:
        if not _is_validation(error):
            return "not_tried", str(error)
        # The model may not be there at all for this account: without the tier it says so again.
        try:
            _converse(aws, model)
        except (ClientError, BotoCoreError) as again:
            return "not_tried", str(again)
        return "refused", str(error)
    used = answer.get("serviceTier", {}).get("type", "")
    return ("accepted", used) if used in ("", tier) else ("refused", f"answered in tier {used}")


def _cache_reads(aws: Aws) -> Outcome:
    read: dict[str, Any] = {}
    unread: dict[str, Any] = {}
    not_tried: dict[str, str] = {}
    for price in cached_models(aws.region):
        try:
            usages = _usages(aws, price.model_id)
        except (ClientError, BotoCoreError) as error:
            not_tried[price.model_id] = str(error)
            continue
        hit = usages[-1].get("cacheReadInputTokens", 0) > 0
        (read if hit else unread)[price.model_id] = usages
    seen = {"read": read, "unread": unread, "not_tried": not_tried}
    if not read and not unread:
        return Outcome(Verdict.UNCLEAR, seen)
    return Outcome(holds(not unread), seen)


def _usages(aws: Aws, model: str) -> list[dict[str, Any]]:
    """Return what a prompt is charged as when it is sent first, and again until it is read from the cache."""
    # The run's name comes first, so that no earlier run has filled the cache.
    system: list[dict[str, Any]] = [{"text": f"{aws.run} " + "word " * CACHED_WORDS}]
    marked = [*system, {"cachePoint": {"type": "default"}}]
    try:
        usages = [_converse(aws, model, system=marked)["usage"]]
    except ClientError as error:
        if not _is_validation(error):
            raise
        # Models that cache by themselves take no mark.
        marked = system
        usages = [_converse(aws, model, system=marked)["usage"]]
    for _ in range(READS):
        # A profile may send a request to another region, whose cache does not have the prompt yet.
        usages.append(_converse(aws, model, system=marked)["usage"])
        if usages[-1].get("cacheReadInputTokens", 0) > 0:
            break
    return usages


def _converse(aws: Aws, model: str, **more: Any) -> dict[str, Any]:
    answer: dict[str, Any] = aws.client("bedrock-runtime").converse(
        modelId=model,
        messages=[{"role": "user", "content": [{"text": "Say yes."}]}],
        inferenceConfig={"maxTokens": MAX_TOKENS},
        **more,
    )
    return answer


def _is_validation(error: Exception) -> bool:
    return isinstance(error, ClientError) and error.response["Error"]["Code"] == "ValidationException"
