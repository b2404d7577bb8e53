"""`tokenmill verify`: priced, capped, agreed to, torn down, and never mistaken for evidence of an account."""

from __future__ import annotations

import asyncio
import io
import json
import runpy
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support_fake_aws import ACCOUNT, AwsError
from support_verify import HURRIED, only, probe
from tokenmill.core.errors import TokenmillError
from tokenmill.verification import LINES, Verdict, front_door
from tokenmill.verification.document import unverified_page
from tokenmill.verification.lines import find_lines, price_at_most

if TYPE_CHECKING:
    from collections.abc import Callable
    from http.server import BaseHTTPRequestHandler

    from support_commands import Run
    from support_fake_aws import Resources

ROOT = Path(__file__).parents[2]


def stream_lines(*, pause: float, machine: str = "aarch64") -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        for number in range(front_door.CHUNKS):
            line = json.dumps({"number": number, "machine": machine}).encode() + b"\n"
            request.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            request.wfile.flush()
            time.sleep(pause)
        request.wfile.write(b"0\r\n\r\n")

    return answer


def test_the_page_is_written_from_the_lines() -> None:
    assert (ROOT / "docs" / "unverified.md").read_text(encoding="utf-8") == unverified_page()


def test_lines_that_share_a_deployment_are_paid_once() -> None:
    both = find_lines(("neuron-image-driver", "neuron-device-unit"))
    one = price_at_most(both[:1], region="us-east-1", prices={})
    assert price_at_most(both, region="us-east-1", prices={}) == one


def test_the_price_is_that_of_the_whole_life_with_its_teardown() -> None:
    line = find_lines(("neuron-image-driver",))
    assert price_at_most(line, region="us-east-1", prices={"ml.inf2.xlarge": 2.0}) == pytest.approx(
        2.0 * (75 + 30) / 60 + 0.10
    )


def test_fails_where_no_price_is_known() -> None:
    with pytest.raises(
        TokenmillError, match=r"no price is known for ml\.inf2\.xlarge in eu-south-2; give yours with"
    ):
        price_at_most(find_lines(("neuron-image-driver",)), region="eu-south-2", prices={})


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("usd", ["nan", "inf", "-5", "0", "free", ""])
def test_fails_for_a_price_that_would_defeat_the_cap(run: Run, usd: str) -> None:
    """Nothing is greater than nan: such a price would let any cost pass --max-usd."""
    refused = run("verify", "--account", "--yes", "--price", f"ml.inf2.xlarge={usd}")
    assert isinstance(refused.exception, TokenmillError)
    assert f"got 'ml.inf2.xlarge={usd}'" in str(refused.exception)


@pytest.mark.usefixtures("project")
def test_without_account_the_lines_are_listed_and_nothing_is_called(run: Run) -> None:
    document = json.loads(run("verify", "--json").stdout)
    assert [line["id"] for line in document["lines"]] == [line.id for line in LINES]
    unpriced = [line for line in document["lines"] if line["usd_at_most"] is None]
    without = {
        "trainium-endpoint": "no price is known for ml.trn2.48xlarge",
        "bedrock-units": "no price is known for a unit of amazon.titan-embed-text-v1:2:8k by the hour",
    }
    assert {line["deployment"] for line in unpriced} == set(without)
    assert all(without[line["deployment"]] in line["price_missing"] for line in unpriced)
    assert all(line["usd_at_most"] > 0 for line in document["lines"] if line not in unpriced)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--line", "moon"), "no line is called moon; the lines are neuron-image-driver"),
        (("--account", "--max-usd", "0.01"), "these lines may cost"),
        (("--account", "--line", "neuron-device-unit"), "and nobody is there to ask; agree with --yes"),
        (("--price", "ml.inf2.xlarge"), "--price must be TYPE=USD"),
        (("--account", "--yes", "--max-usd", "50"), "no AWS credentials found"),
    ],
)
@pytest.mark.usefixtures("project")
def test_fails_before_anything_is_deployed(run: Run, arguments: tuple[str, ...], message: str) -> None:
    error = run("verify", *arguments).exception
    assert isinstance(error, TokenmillError)
    assert message in str(error)


def test_a_run_leaves_nothing_and_keeps_local_evidence_apart(
    run: Run, resources: Resources, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tokenmill.cli import verify as command
    from tokenmill.verification import run as runner

    monkeypatch.setattr(runner, "Pace", lambda: HURRIED)
    monkeypatch.setattr(command.signal, "signal", lambda *_: None)
    resources.fake.raw["/restapis/api1/probe/"] = stream_lines(pause=0.05)
    result = run("verify", "--account", "--yes", "--line", "rest-api-streaming")
    assert "no evidence about an account" in result.stdout
    assert (result.exit_code, resources.left) == (0, set())
    assert list((project / ".tokenmill").glob("*ledger*")) == []
    (kept,) = (project / ".tokenmill" / "evidence").rglob("*.json")
    assert kept.parent.name == "local"
    assert json.loads(kept.read_text(encoding="utf-8"))["source"] == "local"


def test_chunks_that_come_one_by_one_hold_and_a_lump_does_not(resources: Resources, tmp_path: Path) -> None:
    resources.fake.raw["/restapis/api1/probe/"] = stream_lines(pause=0.05)
    streamed = probe(tmp_path, "rest-api-streaming", "arm64-exec-wrapper")
    assert [piece.verdict for piece in streamed.evidence] == [Verdict.HOLDS, Verdict.HOLDS]
    resources.fake.raw["/restapis/api1/probe/"] = stream_lines(pause=0.0, machine="x86_64")
    lump = probe(tmp_path, "rest-api-streaming", "arm64-exec-wrapper")
    assert [piece.verdict for piece in lump.evidence] == [Verdict.FAILS, Verdict.FAILS]


def test_the_front_door_is_never_open_and_streams(resources: Resources, tmp_path: Path) -> None:
    resources.fake.raw["/restapis/api1/probe/"] = stream_lines(pause=0.0)
    probe(tmp_path, "rest-api-streaming")
    asked = {
        operation: parameters
        for service, operation, parameters in resources.fake.calls
        if service == "apigateway"
    }
    assert asked["PutMethod"]["authorizationType"] == "AWS_IAM"
    assert asked["PutIntegration"]["responseTransferMode"] == "STREAM"
    assert asked["PutIntegration"]["uri"].endswith("/response-streaming-invocations")


def test_the_function_s_package_keeps_the_wrapper_s_executable_bit() -> None:
    with zipfile.ZipFile(io.BytesIO(front_door.function_package())) as archive:
        wrapper = archive.getinfo(front_door.WRAPPER.removeprefix("/var/task/"))
        assert wrapper.external_attr >> 16 & 0o111 == 0o111
        assert "tokenmill_runtime/streaming/bootstrap.py" in archive.namelist()


def test_the_package_s_application_says_all_its_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(io.BytesIO(front_door.function_package())) as archive:
        path = Path(archive.extract("probe_application.py", tmp_path))
    app = runpy.run_path(str(path))["application"]()
    sent: list[dict[str, Any]] = []

    async def instantly(_: float) -> None:
        return None

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    monkeypatch.setattr(asyncio, "sleep", instantly)
    monkeypatch.setenv("TOKENMILL_RUN", "run")
    asyncio.run(app({"type": "http", "query_string": b""}, None, send))
    lines = b"".join(message.get("body", b"") for message in sent).splitlines()
    assert [json.loads(line)["number"] for line in lines] == list(range(front_door.CHUNKS))


def test_a_neuron_pairing_that_answers_holds(resources: Resources, tmp_path: Path) -> None:
    evidence = only(probe(tmp_path, "neuron-image-driver"))
    assert evidence.verdict is Verdict.HOLDS
    assert evidence.observations["log"] == ["started"]
    assert (resources.left, evidence.account) == (set(), ACCOUNT[-4:])
    config = next(p for _, operation, p in resources.fake.calls if operation == "CreateEndpointConfig")
    assert config["ProductionVariants"][0]["InferenceAmiVersion"] == "al2-ami-sagemaker-inference-neuron-2"
    assert config["Tags"][0]["Key"] == "tokenmill:verify"


def test_a_neuron_pairing_that_does_not_start_fails_with_its_reason(
    resources: Resources, tmp_path: Path
) -> None:
    resources.status["device"] = "Failed"
    evidence = only(probe(tmp_path, "neuron-image-driver"))
    assert evidence.verdict is Verdict.FAILS
    assert evidence.observations["failure_reason"] == "status is Failed"


def test_no_capacity_says_nothing_about_the_pairing(resources: Resources, tmp_path: Path) -> None:
    def no_room(_: dict[str, Any]) -> dict[str, Any]:
        return {"InferenceComponentStatus": "Failed", "FailureReason": "InsufficientInstanceCapacity"}

    real = resources.fake.answers["sagemaker", "DescribeInferenceComponent"]
    seen: list[int] = []
    resources.fake.answers["sagemaker", "DescribeInferenceComponent"] = lambda p: (
        seen.append(1) or (no_room(p) if len(seen) == 1 else real(p))
    )
    assert only(probe(tmp_path, "neuron-image-driver")).verdict is Verdict.UNCLEAR


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [("refused", Verdict.HOLDS), ("Failed", Verdict.UNCLEAR), ("InService", Verdict.FAILS)],
)
def test_two_devices_on_one_chip_tell_the_unit(
    resources: Resources, tmp_path: Path, answer: str, verdict: Verdict
) -> None:
    if answer == "refused":

        def refuse(_: dict[str, Any]) -> dict[str, Any]:
            raise AwsError("ValidationException", "the instance has 1 accelerator device")

        resources.fake.answers["sagemaker", "CreateInferenceComponent"] = refuse
    else:
        resources.status["devices"] = answer
    assert only(probe(tmp_path, "neuron-device-unit")).verdict is verdict
    asked = next(p for _, operation, p in resources.fake.calls if operation == "CreateInferenceComponent")
    assert asked["Specification"]["ComputeResourceRequirements"]["NumberOfAcceleratorDevicesRequired"] == 2
    assert resources.left == set()


@pytest.mark.parametrize(
    ("names", "verdict"),
    [(["CPUUtilization"], Verdict.HOLDS), (["NeuronCoreUtilization"], Verdict.FAILS), ([], Verdict.UNCLEAR)],
)
def test_metrics_of_the_host_are_listed_by_name(
    resources: Resources, tmp_path: Path, names: list[str], verdict: Verdict
) -> None:
    resources.fake.answers["cloudwatch", "ListMetrics"] = lambda _: {
        "Metrics": [{"MetricName": n} for n in names]
    }
    assert only(probe(tmp_path, "neuron-host-metrics")).verdict is verdict


@pytest.mark.parametrize(
    ("status", "names", "verdict"),
    [(200, ["vllm_num_requests"], Verdict.HOLDS), (200, ["up"], Verdict.FAILS), (403, [], Verdict.UNCLEAR)],
)
def test_vllm_s_metrics_are_asked_for_by_promql(
    resources: Resources, tmp_path: Path, status: int, names: list[str], verdict: Verdict
) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        assert "/monitoring/aws4_request" in request.headers["Authorization"]
        body = json.dumps({"status": "success", "data": names}).encode()
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    resources.fake.raw["/api/v1/label/__name__/values"] = answer
    assert only(probe(tmp_path, "neuron-vllm-metrics")).verdict is verdict


@pytest.mark.parametrize(
    ("events", "metrics", "verdict"),
    [(1, 1, Verdict.HOLDS), (1, 0, Verdict.FAILS), (0, 0, Verdict.UNCLEAR)],
)
def test_a_printed_metric_must_be_in_the_log_before_its_absence_says_anything(
    resources: Resources, tmp_path: Path, events: int, metrics: int, verdict: Verdict
) -> None:
    resources.fake.answers["logs", "FilterLogEvents"] = lambda _: {"events": [{"message": "{}"}] * events}
    resources.fake.answers["cloudwatch", "ListMetrics"] = lambda _: {
        "Metrics": [{"MetricName": "Printed"}] * metrics
    }
    evidence = only(probe(tmp_path, "emf-from-endpoint-logs"))
    assert evidence.verdict is verdict
    assert evidence.observations["event_is_the_whole_line"] == [True] * events
    assert {"Bucket", "Model", "Endpoint", "EndpointConfig", "Role"} <= resources.ever
    assert resources.left == set()
