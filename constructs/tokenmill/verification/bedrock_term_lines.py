"""What the account's own model units say of terms and of options in calls; nothing is bought or changed."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from tokenmill.verification import bedrock_asks
from tokenmill.verification.bedrock_asks import tried
from tokenmill.verification.bedrock_unit_lines import committed_lines
from tokenmill.verification.probe import Outcome, Verdict, holds

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from tokenmill.verification.aws import Aws

DELETE = "committed-delete"
# As the local cloud has them.
TERM_DAYS = {"OneMonth": 30, "SixMonths": 180}
# The longest that so many months of a calendar can be, and a day.
_LONGEST_DAYS = {"OneMonth": 32, "SixMonths": 185}
# What a call of units may ask for, and what an answer says that passed it over.
OPTIONS: dict[str, dict[str, Any]] = {
    "priority": {"serviceTier": {"type": "priority"}},
    "flex": {"serviceTier": {"type": "flex"}},
    "optimized": {"performanceConfig": {"latency": "optimized"}},
}
_PASSED_OVER = ("", "default", "standard")


def owned_lines(aws: Aws, wanted: Collection[str]) -> Iterator[tuple[str, Outcome]]:
    """Read what the account owns, ask its units a question, and last try to delete what its owner allows.

    Args:
        aws: The run.
        wanted: Ids of the lines that were asked for.
    """
    looks: dict[str, Callable[[list[dict[str, Any]]], Outcome]] = {
        "commitment-days": _days,
        "commitment-renewal": _renewal,
        "unit-call-options": lambda owned: _options(aws, owned),
    }
    if set(wanted) & set(looks):
        owned = _owned(aws)
        for line in looks:
            if line in wanted:
                yield line, _looked(looks[line], owned)
    if DELETE in wanted:
        yield from committed_lines(aws, (DELETE,))


def _looked(look: Callable[[list[dict[str, Any]]], Outcome], owned: list[dict[str, Any]]) -> Outcome:
    return tried(lambda: look(owned))


def _owned(aws: Aws) -> list[dict[str, Any]]:
    pages = aws.client("bedrock").get_paginator("list_provisioned_model_throughputs").paginate()
    return [found for page in pages for found in page["provisionedModelSummaries"]]


def _committed(owned: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], float]]:
    """Yield the units with a term that is known, and the days from their purchase to its end."""
    for found in owned:
        if found.get("commitmentDuration") in TERM_DAYS and "commitmentExpirationTime" in found:
            term = found["commitmentExpirationTime"] - found["creationTime"]
            yield found, term / datetime.timedelta(days=1)


def _days(owned: list[dict[str, Any]]) -> Outcome:
    terms = [
        {"units": found["provisionedModelArn"], "term": found["commitmentDuration"], "days": round(days, 2)}
        for found, days in _committed(owned)
        if days <= _LONGEST_DAYS[found["commitmentDuration"]]
    ]
    kept = all(round(term["days"]) == TERM_DAYS[term["term"]] for term in terms)
    return Outcome(holds(kept) if terms else Verdict.UNCLEAR, {"units": len(owned), "first_terms": terms})


def _renewal(owned: list[dict[str, Any]]) -> Outcome:
    now = datetime.datetime.now(datetime.UTC)
    old = [
        {
            "units": found["provisionedModelArn"],
            "term": found["commitmentDuration"],
            "created": str(found["creationTime"]),
            "until": str(found["commitmentExpirationTime"]),
            "status": found["status"],
            "ended": found["commitmentExpirationTime"] <= now,
        }
        for found, _ in _committed(owned)
        if now - found["creationTime"] > datetime.timedelta(days=_LONGEST_DAYS[found["commitmentDuration"]])
    ]
    kept = all(each["ended"] and each["status"] == "InService" for each in old)
    return Outcome(holds(kept) if old else Verdict.UNCLEAR, {"units": len(owned), "after_a_term": old})


def _options(aws: Aws, owned: list[dict[str, Any]]) -> Outcome:
    not_asked: dict[str, str] = {}
    for found in owned:
        arn = found["provisionedModelArn"]
        if found["status"] != "InService":
            not_asked[arn] = found["status"]
            continue
        try:
            bedrock_asks.ask(aws.client("bedrock-runtime"), arn)
        except ClientError as error:
            # Units of a model that takes no questions answer none with an option either.
            not_asked[arn] = str(error)
            continue
        answers = {name: _asked_with(aws, arn, option) for name, option in OPTIONS.items()}
        verdicts = {verdict for verdict, _ in answers.values()}
        worst = next((each for each in (Verdict.FAILS, Verdict.UNCLEAR) if each in verdicts), Verdict.HOLDS)
        return Outcome(worst, {"units": arn, "answers": {name: said for name, (_, said) in answers.items()}})
    return Outcome(Verdict.UNCLEAR, {"units": len(owned), "not_asked": not_asked})


def _asked_with(aws: Aws, arn: str, option: dict[str, Any]) -> tuple[Verdict, str]:
    try:
        answer = bedrock_asks.ask(aws.client("bedrock-runtime"), arn, **option)
    except ClientError as error:
        refused = error.response["Error"]["Code"] == "ValidationException"
        return Verdict.HOLDS if refused else Verdict.UNCLEAR, str(error)
    used = [
        answer.get("serviceTier", {}).get("type", ""),
        answer.get("performanceConfig", {}).get("latency", ""),
    ]
    return holds(set(used) <= set(_PASSED_OVER)), f"answered as {[each for each in used if each]}"
