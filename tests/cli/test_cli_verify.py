"""`tokenmill verify`: priced, capped, agreed to, torn down, and never mistaken for evidence of an account."""

from __future__ import annotations

import asyncio
import io
import json
import runpy
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from support_fake_aws import ACCOUNT, AwsError, FakeAws, Resources
from tokenmill.core.errors import TokenmillError
from tokenmill.verification import LINES, Verdict, clean_up, front_door, run_lines
from tokenmill.verification.aws import Pace
from tokenmill.verification.document import unverified_page
from tokenmill.verification.ledger import Entry, Ledger
from tokenmill.verification.lines import find_lines, price_at_most

if TYPE_CHECKING:
    from collections.abc import Callable
    from http.server import BaseHTTPRequestHandler

    from support_commands import Run
    from tokenmill.verification.run import Evidence, Result

HURRIED = Pace(poll_seconds=0.01, settle_seconds=0.05)
ROOT = Path(__file__).parents[2]


@pytest.fixture
def resources(fake_aws: FakeAws, monkeypatch: pytest.MonkeyPatch) -> Resources:
    from tokenmill.verification import endpoints, probes

    monkeypatch.setattr(probes, "_METRIC_SECONDS", 0.05)
    monkeypatch.setattr(endpoints, "_COMPONENT_SECONDS", 0.2)
    monkeypatch.setattr(endpoints, "_ENDPOINT_SECONDS", 0.2)
    return Resources(fake_aws)


def probe(state: Path, *ids: str, tell: Callable[[str], None] = lambda _: None) -> Result:
    session = boto3.Session(region_name="us-east-1")
    return run_lines(
        find_lines(ids), session=session, region="us-east-1", state=state, pace=HURRIED, tell=tell
    )


def only(result: Result) -> Evidence:
    (evidence,) = result.evidence
    return evidence


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
def test_without_account_the_lines_are_listed_and_nothing_is_called(run: Run) -> None:
    document = json.loads(run("verify", "--json").stdout)
    assert [line["id"] for line in document["lines"]] == [line.id for line in LINES]
    assert all(line["usd_at_most"] > 0 for line in document["lines"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--line", "moon"), "no line is called moon; the lines are neuron-image-driver"),
        (("--account", "--max-usd", "0.01"), "these lines may cost"),
        (("--account",), "and nobody is there to ask; agree with --yes"),
        (("--price", "ml.inf2.xlarge"), "--price is 'ml.inf2.xlarge'; write TYPE=USD"),
        (("--account", "--yes"), "no AWS credentials found"),
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
    resources.fake.raw["/restapis/api1/probe/"] = stream_lines(pause=0.4)
    result = run("verify", "--account", "--yes", "--line", "rest-api-streaming")
    assert "no evidence about an account" in result.stdout
    assert (result.exit_code, resources.left) == (0, set())
    assert list((project / ".tokenmill").glob("*ledger*")) == []
    (kept,) = (project / ".tokenmill" / "evidence").rglob("*.json")
    assert kept.parent.name == "local"
    assert json.loads(kept.read_text(encoding="utf-8"))["source"] == "local"


def test_chunks_that_come_one_by_one_hold_and_a_lump_does_not(resources: Resources, tmp_path: Path) -> None:
    resources.fake.raw["/restapis/api1/probe/"] = stream_lines(pause=0.4)
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
    asyncio.run(app({"type": "http"}, None, send))
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


def test_a_probe_that_breaks_down_is_unclear_and_still_torn_down(
    resources: Resources, tmp_path: Path
) -> None:
    def denied(_: dict[str, Any]) -> dict[str, Any]:
        raise AwsError("AccessDeniedException", "not you", 403)

    resources.fake.answers["sagemaker", "CreateEndpoint"] = denied
    evidence = only(probe(tmp_path, "neuron-image-driver"))
    assert evidence.verdict is Verdict.UNCLEAR
    assert "not you" in evidence.observations["error"]
    assert resources.left == set()


def test_an_endpoint_that_never_comes_up_ends_in_time_and_is_kept_in_the_ledger(
    resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tokenmill.verification import teardown

    monkeypatch.setattr(teardown, "_SECONDS", 0.05)
    resources.status["neuron"] = "Creating"
    result = probe(tmp_path, "neuron-image-driver")
    assert "did not happen in time" in only(result).observations["error"]
    assert (len(result.left), result.exit_code) == (1, 1)
    assert [entry.kind for entry in Ledger(tmp_path / "verify-ledger.json").entries] == ["endpoint"]
    with pytest.raises(TokenmillError, match="an earlier run left 1 resources .* tokenmill verify --cleanup"):
        probe(tmp_path, "neuron-image-driver")
    resources.status["neuron"] = "InService"
    assert clean_up(session=boto3.Session(), state=tmp_path, pace=HURRIED) == ()
    assert resources.left == set()


def test_a_new_role_is_given_time_to_become_known(resources: Resources, tmp_path: Path) -> None:
    real = resources.fake.answers["sagemaker", "CreateModel"]
    tries: list[int] = []

    def not_yet(parameters: dict[str, Any]) -> dict[str, Any]:
        tries.append(1)
        if len(tries) < 3:
            raise AwsError("ValidationException", "Could not assume role")
        return real(parameters)

    resources.fake.answers["sagemaker", "CreateModel"] = not_yet
    probe(tmp_path, "emf-from-endpoint-logs")
    assert len(tries) == 3


def test_every_resource_is_in_the_ledger_before_it_is_asked_for(resources: Resources, tmp_path: Path) -> None:
    ledger = tmp_path / "verify-ledger.json"
    written: dict[str, str] = {}
    creations = {
        "CreateEndpoint": "endpoint",
        "CreateEndpointConfig": "endpoint-config",
        "CreateRole": "role",
    }
    for (service, operation), answer in list(resources.fake.answers.items()):
        if operation in creations:

            def look(
                parameters: dict[str, Any],
                operation: str = operation,
                answer: Callable[..., dict[str, Any]] = answer,
            ) -> dict[str, Any]:
                written[operation] = ledger.read_text(encoding="utf-8")
                return answer(parameters)

            resources.fake.answers[service, operation] = look
    probe(tmp_path, "neuron-device-unit")
    assert set(written) == set(creations)
    assert all(f'"kind": "{creations[operation]}"' in text for operation, text in written.items())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_run_is_cleaned_up(
    resources: Resources, project: Path, run: Run, number: signal.Signals
) -> None:
    """SIGTERM tears down on the way out; after SIGKILL the ledger knows what to delete."""
    resources.status["neuron"] = "Creating"
    script = "from tokenmill.cli import main; main()"
    arguments = ["verify", "--account", "--yes", "--line", "neuron-image-driver"]
    process = subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.DEVNULL)
    try:
        wait_for(
            lambda: (
                bool(resources.live["Endpoint"])
                and "DescribeEndpoint" in resources.fake.operations("sagemaker")
            )
        )
        process.send_signal(number)
        resources.status["neuron"] = "InService"
        process.wait(timeout=30)
    finally:
        process.kill()
        process.wait()
    if number == signal.SIGKILL:
        assert {left.split()[0] for left in resources.left} == {"Endpoint", "EndpointConfig", "Role"}
        assert run("verify", "--cleanup").stdout.splitlines()[-1] == "nothing is left"
    assert resources.left == set()
    assert not (project / ".tokenmill" / "verify-ledger.json").exists()


def test_cleanup_leaves_other_accounts_alone(resources: Resources, tmp_path: Path) -> None:
    entry = Entry(
        kind="role",
        name="theirs",
        account="999999999999",
        region="us-east-1",
        endpoint=resources.fake.url,
        created="",
    )
    Ledger(tmp_path / "verify-ledger.json").add(entry)
    resources.create("Role", "theirs")
    left = clean_up(session=boto3.Session(), state=tmp_path, pace=HURRIED)
    assert left == ("role theirs in account 999999999999, us-east-1",)
    assert resources.left == {"Role theirs"}


def test_cleanup_forgets_what_is_already_gone(resources: Resources, tmp_path: Path) -> None:
    kinds = (
        "role",
        "bucket",
        "log-group",
        "endpoint",
        "inference-component",
        "model",
        "function",
        "rest-api",
    )
    for kind in kinds:
        Ledger(tmp_path / "verify-ledger.json").add(
            Entry(
                kind=kind,
                name="gone",
                account=ACCOUNT,
                region="us-east-1",
                endpoint=resources.fake.url,
                created="",
            )
        )

    def no_role(_: dict[str, Any]) -> dict[str, Any]:
        raise AwsError("NoSuchEntity", "The role cannot be found", 404)

    def no_bucket(_: dict[str, Any]) -> dict[str, Any]:
        raise AwsError("NoSuchBucket", "The bucket does not exist", 404)

    resources.fake.answers["iam", "ListRolePolicies"] = no_role
    resources.fake.answers["s3", "ListObjectsV2"] = no_bucket
    assert clean_up(session=boto3.Session(), state=tmp_path, pace=HURRIED) == ()
    assert not (tmp_path / "verify-ledger.json").exists()


def test_fails_on_a_ledger_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_text("{", encoding="utf-8")
    with pytest.raises(TokenmillError, match="look in the account for resources tagged tokenmill:verify"):
        Ledger(tmp_path / "ledger")


def wait_for(condition: Callable[[], bool], *, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
