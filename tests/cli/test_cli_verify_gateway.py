"""The probes behind the front door: each verdict, from an API and a log that behave so or otherwise."""

from __future__ import annotations

import asyncio
import io
import json
import runpy
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support_fake_components import Queues
from support_verify import HURRIED, only, probe, session
from tokenmill.verification import Verdict, clean_up, front_door
from tokenmill.verification.ledger import Entry, Ledger

if TYPE_CHECKING:
    from collections.abc import Callable
    from http.server import BaseHTTPRequestHandler

    from support_fake_aws import Resources

ADDRESS = "/restapis/api1/probe/"
GONE = '{"level":"warning","message":"Lambda takes no more of the response"}'
TO_THE_END = f"{front_door.ANSWERED} {front_door.LEAVING_LINES}"


def front(
    *, status: int = 200, whole: bool = True, lines: int = 2
) -> Callable[[BaseHTTPRequestHandler], None]:
    """An API whose streams end as HTTP asks, or are cut off."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.close_connection = True
        request.send_response(status)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        for number in range(lines):
            line = json.dumps({"number": number, "machine": "aarch64"}).encode() + b"\n"
            request.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        if whole or "break" not in request.path:
            request.wfile.write(b"0\r\n\r\n")

    return answer


@pytest.fixture
def fronted(resources: Resources) -> Resources:
    resources.fake.raw[ADDRESS] = front()
    return resources


def logged(resources: Resources, *lines: str) -> None:
    """Let every log group hold some lines, whatever is searched."""
    resources.fake.answers["logs", "FilterLogEvents"] = lambda _: {
        "events": [{"message": line} for line in lines]
    }


@pytest.mark.parametrize(
    ("log", "metrics", "verdict"),
    [
        (['{"_aws":{"CloudWatchMetrics":[]}}'], 1, Verdict.HOLDS),
        (['{"_aws":{"CloudWatchMetrics":[]}}'], 0, Verdict.FAILS),
        (["START RequestId"], 0, Verdict.UNCLEAR),
    ],
)
def test_a_printed_line_without_a_metric_fails_and_without_a_log_event_settles_nothing(
    fronted: Resources, tmp_path: Path, log: list[str], metrics: int, verdict: Verdict
) -> None:
    logged(fronted, *log)
    fronted.fake.answers["cloudwatch", "ListMetrics"] = lambda _: {
        "Metrics": [{"MetricName": front_door.EMF_METRIC}] * metrics
    }
    assert only(probe(tmp_path, "wrapped-runtime-emf")).verdict is verdict
    assert fronted.left == set()


@pytest.mark.parametrize(
    ("log", "verdict"),
    [
        ([GONE], Verdict.HOLDS),
        ([TO_THE_END], Verdict.FAILS),
        ([f"{front_door.ANSWERED} {front_door.CHUNKS}"], Verdict.UNCLEAR),
    ],
)
def test_a_caller_who_left_is_noticed_or_answered_to_the_end(
    fronted: Resources, tmp_path: Path, log: list[str], verdict: Verdict
) -> None:
    logged(fronted, *log)
    evidence = only(probe(tmp_path, "caller-gone"))
    assert evidence.verdict is verdict
    assert json.loads(evidence.observations["first_line"])["number"] == 0


@pytest.mark.parametrize(
    ("whole", "lines", "verdict"),
    [(False, 2, Verdict.HOLDS), (True, 2, Verdict.FAILS), (True, 0, Verdict.UNCLEAR)],
)
def test_a_stream_that_broke_off_is_told_from_one_that_ended(
    fronted: Resources, tmp_path: Path, whole: bool, lines: int, verdict: Verdict
) -> None:
    fronted.fake.raw[ADDRESS] = front(whole=whole, lines=lines)
    evidence = only(probe(tmp_path, "stream-error-cuts"))
    assert (evidence.verdict, evidence.observations["cut_off"]) == (verdict, not whole)


@pytest.mark.parametrize("line", ["wrapped-runtime-emf", "caller-gone", "stream-error-cuts"])
def test_a_front_door_that_does_not_answer_settles_nothing(
    fronted: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    from tokenmill.verification import gateway_lines

    monkeypatch.setattr(gateway_lines, "_ANSWER_SECONDS", 0.05)
    fronted.fake.raw[ADDRESS] = front(status=502)
    logged(fronted, GONE)
    assert only(probe(tmp_path, line)).verdict is Verdict.UNCLEAR


@pytest.mark.parametrize(
    ("delivers", "failures", "verdict"),
    [(True, 0.0, Verdict.HOLDS), (False, 3.0, Verdict.FAILS), (False, 0.0, Verdict.UNCLEAR)],
)
def test_a_dead_letter_is_received_or_counted_as_lost(
    fronted: Resources, tmp_path: Path, delivers: bool, failures: float, verdict: Verdict
) -> None:
    queues = Queues(fronted)
    queues.delivers, queues.failures = delivers, failures
    assert only(probe(tmp_path, "dead-letters-key")).verdict is verdict
    assert {"Key", "Queue", "Rule"} <= fronted.ever
    assert fronted.left == set()


def test_the_probe_s_key_and_queue_let_in_what_the_library_s_do(fronted: Resources, tmp_path: Path) -> None:
    Queues(fronted)
    probe(tmp_path, "dead-letters-key")
    asked = {operation: parameters for _, operation, parameters in fronted.fake.calls}
    rules = json.loads(asked["CreateKey"]["Policy"])["Statement"]
    service = next(rule for rule in rules if "Service" in rule["Principal"])
    assert service["Action"] == ["kms:Decrypt", "kms:GenerateDataKey"]
    assert "Condition" not in service
    assert asked["CreateQueue"]["Attributes"]["KmsMasterKeyId"] == "ours"
    target = asked["PutTargets"]["Targets"][0]
    assert target["DeadLetterConfig"]["Arn"].endswith(asked["CreateQueue"]["QueueName"])
    permitted = [p["Principal"] for _, operation, p in fronted.fake.calls if operation == "AddPermission"]
    assert permitted == ["apigateway.amazonaws.com"]


def test_keys_and_queues_that_are_gone_or_another_s_are_left_alone(
    fronted: Resources, tmp_path: Path
) -> None:
    queues = Queues(fronted)
    queues.keys["another"] = "not of this run"
    fronted.create("Key", "another")
    entry = {"name": "gone", "account": "123456789012", "region": "us-east-1", "created": ""}
    for kind in ("key", "queue", "rule"):
        Ledger(tmp_path / "verify-ledger.json").add(Entry(kind=kind, endpoint=fronted.fake.url, **entry))
    assert clean_up(session=session(), state=tmp_path, pace=HURRIED) == ()
    assert fronted.left == {"Key another"}


def application(tmp_path: Path, query: bytes, monkeypatch: pytest.MonkeyPatch) -> tuple[list[bytes], str]:
    """Run the packaged application; return the lines of its body and what it raised."""
    with zipfile.ZipFile(io.BytesIO(front_door.function_package())) as archive:
        path = Path(archive.extract("probe_application.py", tmp_path))
    sent: list[dict[str, Any]] = []

    async def instantly(_: float) -> None:
        return None

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    monkeypatch.setenv("TOKENMILL_RUN", "run")
    monkeypatch.setattr(asyncio, "sleep", instantly)
    app = runpy.run_path(str(path))["application"]()
    raised = ""
    try:
        asyncio.run(app({"type": "http", "query_string": query}, None, send))
    except RuntimeError as error:
        raised = str(error)
    return b"".join(message.get("body", b"") for message in sent).splitlines(), raised


def test_the_packaged_application_prints_its_metric_and_says_when_it_answered_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines, raised = application(tmp_path, b"lines=60", monkeypatch)
    assert (len(lines), raised) == (60, "")
    metric, end = capsys.readouterr().out.splitlines()
    document = json.loads(metric)
    directive = document["_aws"]["CloudWatchMetrics"][0]
    assert (directive["Namespace"], document["Run"]) == (front_door.EMF_NAMESPACE, "run")
    assert document[directive["Metrics"][0]["Name"]] == 1
    assert end == TO_THE_END


def test_the_packaged_application_breaks_in_the_middle_when_asked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines, raised = application(tmp_path, b"break=1", monkeypatch)
    assert (len(lines), raised) == (front_door.CHUNKS // 2, "the probe breaks here")
