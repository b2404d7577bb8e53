"""What batch runs and mirrors rely on, and what requests alone settle."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

from tokenmill.verification import endpoints, looking, small_host
from tokenmill.verification.probe import Outcome, Verdict, create_role

if TYPE_CHECKING:
    from tokenmill.verification.aws import Aws

HUB = "https://huggingface.co"
ITEMS = "items/shards.jsonl"
_SUFFIX, _LABEL = "map", "Shards"
_RUN_SECONDS, _ANSWER_SECONDS = 300, 30
DENIED_SECONDS = 90
_FRONT = re.compile(r"\A---\s*\n(.*?)\n---", re.DOTALL)
_LICENCE = re.compile(r"^license:\s*(\S+)", re.MULTILINE)


def map_policies(aws: Aws, bucket: str) -> Outcome:
    """Run a distributed map with the rights that AsyncFanOut gives its state machine.

    Args:
        aws: The run.
        bucket: Where the items are to stand.
    """
    small_host.put(aws, bucket, ITEMS, {"shard": 0}, {"shard": 1})
    client, name = aws.client("stepfunctions"), aws.name(_SUFFIX)
    states = f"arn:{aws.partition}:states:{aws.region}:{aws.account}"
    machine = f"{states}:stateMachine:{name}"
    role = _map_role(aws, bucket, machine, f"{states}:execution:{name}")
    aws.declare("state-machine", name)
    aws.settle(
        lambda: client.create_state_machine(
            name=name,
            definition=json.dumps(_map(aws, bucket)),
            roleArn=role,
            tags=[{"key": tag["Key"], "value": tag["Value"]} for tag in aws.tags],
        ),
        codes=("AccessDeniedException",),
    )
    tries = [looking.execution(aws, machine, seconds=_RUN_SECONDS)]

    def again() -> bool:
        # Rights that are new are denied for some seconds.
        if _denied(tries[-1]):
            tries.append(looking.execution(aws, machine, seconds=_RUN_SECONDS))
        return not _denied(tries[-1])

    looking.or_nothing(lambda: aws.wait("the role's rights", again, seconds=DENIED_SECONDS))
    seen = tries[-1]
    if seen["status"] == "SUCCEEDED":
        return Outcome(Verdict.HOLDS, seen)
    return Outcome(Verdict.FAILS if _denied(seen) else Verdict.UNCLEAR, seen)


def _denied(seen: dict[str, str]) -> bool:
    said = f"{seen['error']} {seen['cause']}".lower()
    return any(word in said for word in ("denied", "authorized", "permission"))


def _map_role(aws: Aws, bucket: str, machine: str, executions: str) -> str:
    children = [f"{executions}:*", f"{executions}/{_LABEL}:*"]
    rights = (
        (["states:StartExecution"], [machine]),
        (["states:DescribeExecution", "states:StopExecution"], children),
        (["states:RedriveExecution"], children[1:]),
    )
    statements = tuple(
        {"Effect": "Allow", "Action": actions, "Resource": resources} for actions, resources in rights
    )
    objects = f"arn:{aws.partition}:s3:::{bucket}/items/*"
    reading = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": objects}
    return create_role(
        aws,
        _SUFFIX,
        service="states.amazonaws.com",
        # What the library's role has besides, on everything.
        actions=("xray:PutTraceSegments", "xray:PutTelemetryRecords"),
        more=(*statements, reading),
    )


def _map(aws: Aws, bucket: str) -> dict[str, Any]:
    state = {
        "Type": "Map",
        "Label": _LABEL,
        "ItemReader": {
            "Resource": f"arn:{aws.partition}:states:::s3:getObject",
            "ReaderConfig": {"InputType": "JSONL"},
            "Parameters": {"Bucket": bucket, "Key": ITEMS},
        },
        "ItemProcessor": {
            "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
            "StartAt": "Done",
            "States": {"Done": {"Type": "Pass", "Result": {}, "End": True}},
        },
        "MaxConcurrency": 2,
        "End": True,
    }
    return {"StartAt": _LABEL, "States": {_LABEL: state}}


def hub_revision() -> Outcome:
    """Compare what the Hub says of a model's first and last revision with their model cards."""
    commits = [item["id"] for item in json.loads(_read(f"/api/models/{endpoints.MODEL}/commits/main"))]
    asked = dict.fromkeys((commits[-1], commits[0]))
    licences = {revision: (_described(revision), _in_card(revision)) for revision in asked}
    seen = {
        "licences": {
            revision: {"described": described, "in_card": card}
            for revision, (described, card) in licences.items()
        }
    }
    if any(described != card for described, card in licences.values()):
        return Outcome(Verdict.FAILS, seen)
    # Cards that say the same tell nothing apart.
    differ = len({card for _, card in licences.values()}) > 1
    return Outcome(Verdict.HOLDS if differ else Verdict.UNCLEAR, seen)


def _described(revision: str) -> str:
    document = json.loads(_read(f"/api/models/{endpoints.MODEL}/revision/{revision}"))
    return str((document.get("cardData") or {}).get("license") or "")


def _in_card(revision: str) -> str:
    try:
        text = _read(f"/{endpoints.MODEL}/resolve/{revision}/README.md")
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        return ""
    front = _FRONT.search(text)
    found = _LICENCE.search(front.group(1)) if front else None
    return found.group(1).strip("\"'") if found else ""


def _read(path: str) -> str:
    with urllib.request.urlopen(f"{HUB}{path}", timeout=_ANSWER_SECONDS) as answer:
        text: bytes = answer.read()
    return text.decode()
