"""Run probes, keep dated evidence, and leave nothing behind."""

from __future__ import annotations

import datetime
import json
import secrets
from dataclasses import asdict, dataclass
from http.client import HTTPException
from importlib import metadata
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from tokenmill.core.errors import TokenmillError
from tokenmill.verification.aws import Aws, Pace, ProbeTimeoutError
from tokenmill.verification.ledger import Ledger
from tokenmill.verification.lines import FOOTPRINTS, price_at_most
from tokenmill.verification.probe import Outcome, Verdict
from tokenmill.verification.probes import PROBES
from tokenmill.verification.teardown import tear_down

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import boto3

    from tokenmill.verification.line import Deployment, Line

LEDGER = "verify-ledger.json"
EVIDENCE = "evidence"
_TROUBLES = (ClientError, BotoCoreError, ProbeTimeoutError, TokenmillError, OSError, HTTPException)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What one probe saw, when and where.

    Args:
        line: The line's id.
        claim: What was claimed.
        verdict: What the probe says of it.
        source: `account`, or `local` when something else than AWS answered.
        date: When, in ISO 8601.
        account: The last four digits of the account's number.
        region: AWS region.
        usd_at_most: Upper bound of what the probe cost, in US dollars.
        versions: Versions of this library and of boto3.
        observations: What the probe saw.
    """

    line: str
    claim: str
    verdict: Verdict
    source: str
    date: str
    account: str
    region: str
    usd_at_most: float
    versions: dict[str, str]
    observations: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a run brought.

    Args:
        evidence: One piece a line.
        files: Where they are.
        left: What could not be torn down, one sentence each.
    """

    evidence: tuple[Evidence, ...]
    files: tuple[Path, ...]
    left: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """0: every line holds; 1: one does not or is unclear, or something could not be torn down."""
        return 0 if not self.left and all(piece.verdict is Verdict.HOLDS for piece in self.evidence) else 1


def run_lines(
    lines: tuple[Line, ...],
    *,
    session: boto3.Session,
    region: str,
    state: Path,
    prices: dict[str, float] | None = None,
    pace: Pace | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Result:
    """Probe some lines, one deployment after the other; whatever happens, what was created is deleted.

    Args:
        lines: The lines.
        session: A boto3 session with credentials.
        region: AWS region.
        state: Folder of the ledger and the evidence.
        prices: US dollars an hour by instance type, in place of the catalog's.
        pace: How patient to be.
        tell: Told of every step.

    Raises:
        TokenmillError: There are no credentials, a price is missing, or an earlier run left something behind.
    """
    ledger = Ledger(state / LEDGER)
    if ledger.entries:
        raise TokenmillError(
            f"an earlier run left {len(ledger.entries)} resources ({ledger.path}); first run: "
            "tokenmill verify --cleanup"
        )
    price_at_most(lines, region=region, prices=prices or {})
    aws = Aws(session, region=region, run=secrets.token_hex(4), ledger=ledger, pace=pace or Pace())
    evidence: list[Evidence] = []
    files: list[Path] = []
    left: tuple[str, ...] = ()
    for deployment in dict.fromkeys(line.deployment for line in lines):
        of_it = tuple(line for line in lines if line.deployment is deployment)
        tell(f"{deployment}: deploying for {', '.join(line.id for line in of_it)}")
        try:
            outcomes = _probe(aws, deployment, of_it)
        finally:
            left = tear_down(aws, ledger, tell=tell)
        for line in of_it:
            cost = price_at_most(of_it, region=region, prices=prices or {})
            evidence.append(_evidence(aws, line, outcomes[line.id], cost))
            files.append(_keep(state / EVIDENCE, evidence[-1]))
        if left:
            break
    return Result(evidence=tuple(evidence), files=tuple(files), left=left)


def clean_up(
    *,
    session: boto3.Session,
    state: Path,
    pace: Pace | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[str, ...]:
    """Delete what earlier runs left behind.

    Args:
        session: A boto3 session with credentials of the account.
        state: Folder of the ledger.
        pace: How patient to be.
        tell: Told of every deletion.

    Returns:
        What could not be deleted, one sentence each.

    Raises:
        TokenmillError: There are no credentials.
    """
    ledger = Ledger(state / LEDGER)
    for region in dict.fromkeys(entry.region for entry in ledger.entries):
        aws = Aws(session, region=region, run="cleanup", ledger=ledger, pace=pace or Pace())
        tear_down(aws, ledger, tell=tell)
    return tuple(
        f"{entry.kind} {entry.name} in account {entry.account}, {entry.region}" for entry in ledger.entries
    )


def _probe(aws: Aws, deployment: Deployment, lines: tuple[Line, ...]) -> dict[str, Outcome]:
    wanted = {line.id for line in lines}
    outcomes: dict[str, Outcome] = {}
    aws.allow(FOOTPRINTS[deployment].minutes * 60)
    trouble = "the probe ended without looking at it"
    try:
        for line, outcome in PROBES[deployment](aws, wanted):
            outcomes[line] = outcome
    except _TROUBLES as error:
        trouble = f"{type(error).__name__}: {error}"
    return {line: outcomes.get(line, Outcome(Verdict.UNCLEAR, {"error": trouble})) for line in wanted}


def _evidence(aws: Aws, line: Line, outcome: Outcome, cost: float) -> Evidence:
    return Evidence(
        line=line.id,
        claim=line.claim,
        verdict=outcome.verdict,
        source="local" if aws.local else "account",
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        account=aws.account[-4:],
        region=aws.region,
        usd_at_most=round(cost, 2),
        versions={"tokenmill": metadata.version("tokenmill"), "boto3": metadata.version("boto3")},
        observations=outcome.observations,
    )


def _keep(folder: Path, evidence: Evidence) -> Path:
    # Evidence from anything but AWS is kept apart, so that it cannot be taken for the real thing.
    kept = folder / evidence.source
    kept.mkdir(parents=True, exist_ok=True)
    path = kept / f"{evidence.line}.{evidence.date[:19].replace(':', '')}Z.json"
    path.write_text(json.dumps({"schema": 1, **asdict(evidence)}, indent=2) + "\n", encoding="utf-8")
    return path
