"""Model invocation logging, which an account has once, and rights on paths of parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenmill.security import actions
from tokenmill.verification import bedrock_asks
from tokenmill.verification.bedrock_asks import told, tried
from tokenmill.verification.probe import Outcome, Verdict, create_role, holds

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tokenmill.verification.aws import Aws

# What Bedrock says while it cannot write where it is told to yet.
NOT_YET = "ValidationException"
_SECONDS = 300
_FLAGS = tuple(f"{kind}DataDeliveryEnabled" for kind in ("text", "image", "embedding", "video", "audio"))


def logging_lines(aws: Aws, wanted: Collection[str]) -> Iterator[tuple[str, Outcome]]:
    """Turn logging on with a role that is new, and read it back; where it is on already, nothing is changed.

    Args:
        aws: The run.
        wanted: Ids of the lines that were asked for.
    """
    client = aws.client("bedrock")
    if client.get_model_invocation_logging_configuration().get("loggingConfig"):
        for line in wanted:
            yield line, Outcome(Verdict.UNCLEAR, {"logging": "is on in this account and region already"})
        return
    group = aws.name("logging")
    aws.declare("log-group", group)
    aws.client("logs").create_log_group(
        logGroupName=group, tags={tag["Key"]: tag["Value"] for tag in aws.tags}
    )
    role = create_role(aws, "logging", service="bedrock.amazonaws.com", actions=actions.INVOCATION_LOG_WRITE)
    wished = {
        "cloudWatchConfig": {"logGroupName": group, "roleArn": role},
        **{flag: flag.startswith("text") for flag in _FLAGS},
    }
    aws.declare("invocation-logging", group)
    refusals: list[dict[str, str]] = []

    def put() -> bool:
        refused = told(lambda: client.put_model_invocation_logging_configuration(loggingConfig=wished))
        if refused["code"]:
            refusals.append(refused)
        return refused["code"] != NOT_YET

    aws.wait("logging", put, seconds=_SECONDS)
    yield "logging-new-role", _new_role(refusals)
    yield "logging-read-back", tried(lambda: _read_back(client, wished))


def _new_role(refusals: list[dict[str, str]]) -> Outcome:
    seen = {"refusals": refusals[-5:], "count": len(refusals)}
    if not refusals:
        # The role was known at once.
        return Outcome(Verdict.UNCLEAR, seen)
    return Outcome(holds(all(refused["code"] == NOT_YET for refused in refusals)), seen)


def _read_back(client: Any, wished: dict[str, Any]) -> Outcome:
    found = client.get_model_invocation_logging_configuration().get("loggingConfig")
    if not found:
        return Outcome(Verdict.UNCLEAR, {"wished": wished, "found": found})
    right = found["cloudWatchConfig"].items() >= wished["cloudWatchConfig"].items() and all(
        bool(found.get(flag)) == wished[flag] for flag in _FLAGS if flag in found
    )
    return Outcome(holds(right), {"wished": wished, "found": found})


def parameter_path(aws: Aws) -> Outcome:
    """Return whether reading a path of parameters takes a right on the path itself.

    Args:
        aws: The run.
    """
    path = aws.name("units")
    arn = f"arn:{aws.partition}:ssm:{aws.region}:{aws.account}:parameter/{path}"
    whole = bedrock_asks.caller(
        aws, "path", bedrock_asks.allow(actions.UNITS_LEDGER_LIST, arn), service="ssm"
    )
    below = bedrock_asks.caller(
        aws, "path-below", bedrock_asks.allow(actions.UNITS_LEDGER_LIST, f"{arn}/*"), service="ssm"
    )
    return bedrock_asks.rights(
        aws,
        lambda: whole.get_parameters_by_path(Path=f"/{path}", Recursive=True),
        without=lambda: below.get_parameters_by_path(Path=f"/{path}", Recursive=True),
    )
