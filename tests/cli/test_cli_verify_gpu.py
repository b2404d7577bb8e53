"""The probes on GPU instances: the image, its options, a plan's times, and how copies are packed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from support_fake_aws import AwsError
from support_verify import answering, created, described, only, probe
from tokenmill.core.errors import TokenmillError
from tokenmill.core.instances import instance_catalog
from tokenmill.verification import Verdict, gpu_lines, looking, planned_load
from tokenmill.verification.line import Deployment
from tokenmill.verification.lines import FOOTPRINTS, LINES

if TYPE_CHECKING:
    from http.server import BaseHTTPRequestHandler
    from pathlib import Path

    from support_fake_aws import Resources
    from tokenmill.core.plan import Plan

ENGINE = "Initializing a V1 LLM engine (v0.20.2) with config: "
STARTED = {
    "lmi-fp8": ENGINE + "pipeline_parallel_size=1, quantization=fp8, enforce_eager=False",
    "vllm-pipeline": ENGINE + "pipeline_parallel_size=2, quantization=None",
    "lmi-experts": "[EP Rank 0/4] Expert parallelism is enabled. Local/global number of experts: 32/128.",
}
PASSED_OVER = ENGINE + "pipeline_parallel_size=1, quantization=None"
ASKED = {
    "lmi-fp8": {"OPTION_QUANTIZE": "fp8", "OPTION_TENSOR_PARALLEL_DEGREE": "1"},
    "vllm-pipeline": {
        "SM_VLLM_PIPELINE_PARALLEL_SIZE": "2",
        "SM_VLLM_TENSOR_PARALLEL_SIZE": "1",
    },
    "lmi-experts": {
        "OPTION_ENABLE_EXPERT_PARALLEL": "true",
        "OPTION_TENSOR_PARALLEL_DEGREE": "4",
        "HF_MODEL_ID": gpu_lines.EXPERT_MODEL,
    },
}
DEVICES = {"lmi-fp8": 1, "vllm-pipeline": 2, "lmi-experts": 4}
COMPONENT = {"lmi-fp8": "fp8", "vllm-pipeline": "pipeline", "lmi-experts": "experts"}


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "LOG_SECONDS", 0.05)
    monkeypatch.setattr(planned_load, "REQUESTS", 4)


def logging(resources: Resources, *lines: str) -> None:
    resources.fake.answers["logs", "FilterLogEvents"] = lambda _: {
        "events": [{"message": line} for line in lines]
    }


@pytest.mark.parametrize(
    ("status", "reason", "verdict"),
    [
        ("InService", "", Verdict.HOLDS),
        ("Failed", "the driver is too old", Verdict.FAILS),
        ("Failed", "InsufficientInstanceCapacity", Verdict.UNCLEAR),
    ],
)
def test_the_gpu_image_is_served_on_its_host_image(
    resources: Resources, tmp_path: Path, status: str, reason: str, verdict: Verdict
) -> None:
    resources.status["copy"] = status
    described(resources, FailureReason=reason)
    assert only(probe(tmp_path, "gpu-image-driver")).verdict is verdict
    (asked,) = created(resources)
    assert asked["Specification"]["Container"]["Environment"]["OPTION_TENSOR_PARALLEL_DEGREE"] == "1"
    config = next(p for _, operation, p in resources.fake.calls if operation == "CreateEndpointConfig")
    assert config["ProductionVariants"][0]["InferenceAmiVersion"] == "al2023-ami-sagemaker-inference-gpu-4-1"
    assert resources.left == set()


def test_each_gpu_deployment_is_on_the_cheapest_priced_type_that_has_the_gpus() -> None:
    """One GPU, and the four that the experts' line needs; the price is that of us-east-1."""
    for deployment, chips in ((Deployment.GPU_ENDPOINT, 1), (Deployment.GPU_SPLIT_ENDPOINT, 4)):
        prices = {
            name: price.usd_per_hour
            for name, kind in instance_catalog().items()
            if kind.accelerator.name in ("A10G", "L4", "L40S") and kind.chips >= chips
            if (price := kind.price("us-east-1")) is not None
        }
        assert min(prices, key=prices.__getitem__) == FOOTPRINTS[deployment].instance


@pytest.mark.parametrize("line", list(STARTED))
def test_an_option_holds_when_the_server_answers_and_its_log_shows_it(
    resources: Resources, tmp_path: Path, line: str
) -> None:
    logging(resources, "something else", STARTED[line])
    evidence = only(probe(tmp_path, line))
    assert evidence.verdict is Verdict.HOLDS
    assert evidence.observations["log"] == [STARTED[line]]
    (asked,) = created(resources)
    environment = asked["Specification"]["Container"]["Environment"]
    assert environment.items() >= ASKED[line].items()
    needs = asked["Specification"]["ComputeResourceRequirements"]
    assert needs["NumberOfAcceleratorDevicesRequired"] == DEVICES[line]
    assert resources.left == set()


@pytest.mark.parametrize(
    ("line", "log", "verdict"),
    [
        ("lmi-fp8", PASSED_OVER, Verdict.FAILS),
        ("vllm-pipeline", PASSED_OVER, Verdict.FAILS),
        ("lmi-fp8", "serving", Verdict.UNCLEAR),
        ("vllm-pipeline", "serving", Verdict.UNCLEAR),
        ("lmi-experts", PASSED_OVER, Verdict.UNCLEAR),
    ],
)
def test_a_server_that_serves_without_the_option_fails_the_line_where_its_log_says_so(
    resources: Resources, tmp_path: Path, line: str, log: str, verdict: Verdict
) -> None:
    logging(resources, log)
    assert only(probe(tmp_path, line)).verdict is verdict


@pytest.mark.parametrize(
    ("line", "error", "verdict"),
    [
        ("vllm-pipeline", "ValueError: Pipeline parallelism is not supported", Verdict.FAILS),
        ("lmi-fp8", "ValueError: unknown quantization method", Verdict.FAILS),
        ("lmi-experts", "Error: not divisible by weight quantization block_n = 128", Verdict.FAILS),
        ("vllm-pipeline", "Error: the CUDA driver is too old", Verdict.UNCLEAR),
        ("lmi-experts", "Error: No space left on device", Verdict.UNCLEAR),
    ],
)
def test_a_server_that_does_not_start_fails_the_line_only_for_an_error_about_the_option(
    resources: Resources, tmp_path: Path, line: str, error: str, verdict: Verdict
) -> None:
    resources.status[COMPONENT[line]] = "Failed"
    logging(resources, error)
    evidence = only(probe(tmp_path, line))
    assert evidence.verdict is verdict
    assert evidence.observations["errors"] == [error]
    assert resources.left == set()


@pytest.mark.parametrize(
    ("code", "verdict"), [("ModelError", Verdict.FAILS), ("AccessDeniedException", Verdict.UNCLEAR)]
)
def test_a_server_with_the_option_has_to_answer(
    resources: Resources, tmp_path: Path, code: str, verdict: Verdict
) -> None:
    def refuse(_: dict[str, Any]) -> dict[str, Any]:
        raise AwsError(code, "no")

    logging(resources, STARTED["lmi-fp8"])
    resources.fake.answers["sagemaker-runtime", "InvokeEndpoint"] = refuse
    assert only(probe(tmp_path, "lmi-fp8")).verdict is verdict


def test_an_answer_that_is_no_json_says_nothing(resources: Resources, tmp_path: Path) -> None:
    logging(resources, STARTED["lmi-fp8"])
    resources.fake.answers["sagemaker-runtime", "InvokeEndpoint"] = lambda _: {"Body": ["no object"]}
    evidence = only(probe(tmp_path, "lmi-fp8"))
    assert evidence.verdict is Verdict.UNCLEAR
    assert "is not a JSON object" in evidence.observations["error"]


def wide(monkeypatch: pytest.MonkeyPatch, **candidate: float) -> None:
    """Let the plan's intervals hold whatever a test measures, but for what is given."""
    real = gpu_lines.gpu_plan
    limits = {"ttft_ms_low": 0.0, "ttft_ms_high": 60_000.0, "itl_ms_low": 0.0, "itl_ms_high": 60_000.0}

    def made(deployment: Deployment, name: str, region: str) -> Plan:
        plan = real(deployment, name, region)
        chosen = replace(plan.chosen, **(limits | candidate))
        return replace(plan, candidates=(chosen,))

    monkeypatch.setattr(gpu_lines, "gpu_plan", made)


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [({}, Verdict.HOLDS), ({"ttft_ms_high": 1.0}, Verdict.FAILS), ({"itl_ms_low": 50_000.0}, Verdict.FAILS)],
)
def test_a_plan_for_a_gpu_is_deployed_and_its_times_are_compared(
    resources: Resources,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    interval: dict[str, float],
    verdict: Verdict,
) -> None:
    wide(monkeypatch, **interval)
    resources.fake.raw["/endpoints/"] = answering(first=0.02, between=0.01)
    evidence = only(probe(tmp_path, "gpu-planned-timing"))
    assert evidence.verdict is verdict
    made = gpu_lines.gpu_plan(Deployment.GPU_ENDPOINT, gpu_lines.TIMED_MODEL, "us-east-1")
    seen = evidence.observations
    assert seen["ttft_ms"]["planned"] == made.chosen.ttft_ms
    assert seen["extrapolated"] == list(made.chosen.extrapolated)
    assert seen["alone"]["engine_step_ms"] == round(made.chosen.engine.step_ms(1, 512 + 64), 2)
    assert seen["alone"]["first_token_ms"] >= 20
    (asked,) = created(resources)
    needs = asked["Specification"]["ComputeResourceRequirements"]
    assert needs["MinMemoryRequiredInMb"] == made.chosen.host_memory_mib
    assert asked["Specification"]["Container"]["Environment"]["HF_MODEL_ID"] == made.model.id


def test_a_planned_copy_that_does_not_start_has_no_times(resources: Resources, tmp_path: Path) -> None:
    resources.status["planned"] = "Failed"
    evidence = only(probe(tmp_path, "gpu-planned-timing"))
    assert (evidence.verdict, evidence.observations["status"]) == (Verdict.UNCLEAR, "Failed")


def test_the_interval_that_is_probed_is_the_planner_s_own() -> None:
    """Nobody else makes the numbers that the endpoint is held to."""
    chosen = gpu_lines.gpu_plan(Deployment.GPU_ENDPOINT, gpu_lines.TIMED_MODEL, "us-east-1").chosen
    assert chosen.instance_type == FOOTPRINTS[Deployment.GPU_ENDPOINT].instance
    assert chosen.ttft_ms_low < chosen.ttft_ms < chosen.ttft_ms_high
    assert chosen.itl_ms_low < chosen.itl_ms < chosen.itl_ms_high


def test_prompts_of_the_load_begin_differently(
    resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vLLM would serve a prompt that it has seen from its prefix cache, faster than the plan says."""
    prompts: list[str] = []
    answer = answering()

    def listening(request: Any) -> None:
        prompts.append(request.headers["X-Amzn-SageMaker-Inference-Component"])
        answer(request)

    bodies: list[bytes] = []
    real = json.dumps

    def keep(value: Any, **more: Any) -> str:
        text = real(value, **more)
        if isinstance(value, dict) and "ignore_eos" in value:
            bodies.append(text.encode())
        return text

    wide(monkeypatch)
    monkeypatch.setattr(planned_load.json, "dumps", keep)
    resources.fake.raw["/endpoints/"] = listening
    probe(tmp_path, "gpu-planned-timing")
    begins = [json.loads(body)["messages"][0]["content"][:4] for body in bodies]
    assert len(prompts) == len(begins) == len(set(begins)) == 6


@pytest.mark.parametrize("burstiness", [0.5, 1.0, 2.0])
def test_gaps_between_requests_have_the_plan_s_burstiness(burstiness: float) -> None:
    import random
    import statistics

    draw = random.Random(7)
    gaps = [planned_load._spread(burstiness, draw) for _ in range(20_000)]
    assert statistics.mean(gaps) == pytest.approx(1, rel=0.05)
    assert statistics.pstdev(gaps) == pytest.approx(burstiness, rel=0.1)
    assert planned_load._spread(0.0, draw) == 1.0


class Copies:
    """An endpoint that places at most so many copies of a component."""

    def __init__(self, resources: Resources, *, room: int, instances: int = 1) -> None:
        self.placed = 1
        self.status = "InService"
        answers = resources.fake.answers
        real = answers["sagemaker", "DescribeInferenceComponent"]
        endpoint = answers["sagemaker", "DescribeEndpoint"]

        def scale(parameters: dict[str, Any]) -> dict[str, Any]:
            self.placed = min(room, parameters["DesiredRuntimeConfig"]["CopyCount"])
            return {"InferenceComponentArn": "arn"}

        answers["sagemaker", "UpdateInferenceComponentRuntimeConfig"] = scale
        answers["sagemaker", "DescribeInferenceComponent"] = lambda p: {
            **real(p),
            "RuntimeConfig": {"DesiredCopyCount": 2, "CurrentCopyCount": self.placed},
        }
        answers["sagemaker", "DescribeEndpoint"] = lambda p: {
            **endpoint(p),
            "ProductionVariants": [{"VariantName": "probe", "CurrentInstanceCount": instances}],
        }


@pytest.mark.parametrize(
    ("room", "instances", "verdict"),
    [(2, 1, Verdict.HOLDS), (1, 1, Verdict.FAILS), (2, 2, Verdict.UNCLEAR)],
)
def test_as_many_copies_as_the_plan_packs_stand_on_one_instance_or_not(
    resources: Resources, tmp_path: Path, room: int, instances: int, verdict: Verdict
) -> None:
    Copies(resources, room=room, instances=instances)
    evidence = only(probe(tmp_path, "copies-packed"))
    assert evidence.verdict is verdict
    made = gpu_lines.gpu_plan(Deployment.GPU_SPLIT_ENDPOINT, gpu_lines.EXPERT_MODEL, "us-east-1").chosen
    assert made.chips_per_copy > 1 < made.copies_per_instance
    assert evidence.observations["copies_per_instance"] == made.copies_per_instance
    (asked,) = created(resources)
    needs = asked["Specification"]["ComputeResourceRequirements"]
    assert needs["NumberOfAcceleratorDevicesRequired"] == made.chips_per_copy
    assert needs["MinMemoryRequiredInMb"] == made.host_memory_mib
    assert resources.left == set()


def test_copies_are_packed_without_stages_where_stages_do_not_start(
    resources: Resources, tmp_path: Path
) -> None:
    Copies(resources, room=2)
    resources.status["pipeline"] = "Failed"
    logging(resources, "Error: pipeline parallelism is not supported")
    result = probe(tmp_path, "vllm-pipeline", "copies-packed")
    assert {piece.line: piece.verdict for piece in result.evidence} == {
        "vllm-pipeline": Verdict.FAILS,
        "copies-packed": Verdict.HOLDS,
    }
    staged, whole = (p["Specification"]["Container"]["Environment"] for p in created(resources))
    assert (staged["SM_VLLM_PIPELINE_PARALLEL_SIZE"], staged["SM_VLLM_TENSOR_PARALLEL_SIZE"]) == ("2", "1")
    assert whole["OPTION_TENSOR_PARALLEL_DEGREE"] == "2"
    assert not [name for name in whole if "PIPELINE" in name]


def test_copies_that_do_not_start_or_do_not_settle_say_nothing_about_packing(
    resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tokenmill.verification import teardown

    monkeypatch.setattr(teardown, "_SECONDS", 0.05)
    Copies(resources, room=2)
    resources.status["pipeline"] = resources.status["tensor"] = "Failed"
    assert only(probe(tmp_path, "copies-packed")).verdict is Verdict.UNCLEAR
    resources.status["pipeline"] = "InService"

    def hang(_: dict[str, Any]) -> dict[str, Any]:
        resources.status["pipeline"] = "Updating"
        return {"InferenceComponentArn": "arn"}

    resources.fake.answers["sagemaker", "UpdateInferenceComponentRuntimeConfig"] = hang
    evidence = only(probe(tmp_path, "copies-packed"))
    assert evidence.verdict is Verdict.UNCLEAR
    assert "did not happen in time" in evidence.observations["error"]


def test_all_lines_of_a_gpu_share_one_endpoint(
    resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide(monkeypatch)
    logging(resources, *STARTED.values())
    streaming = answering()

    def answer(request: BaseHTTPRequestHandler) -> None:
        if request.path.endswith("/invocations-response-stream"):
            streaming(request)
            return
        body = b'{"choices": [{"index": 0}]}'
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    resources.fake.raw["/endpoints/"] = answer
    for deployment in (Deployment.GPU_ENDPOINT, Deployment.GPU_SPLIT_ENDPOINT):
        resources.fake.calls.clear()
        Copies(resources, room=2)
        result = probe(tmp_path, *(line.id for line in LINES if line.deployment is deployment))
        assert {piece.verdict for piece in result.evidence} == {Verdict.HOLDS}
        assert resources.fake.operations("sagemaker").count("CreateEndpoint") == 1
        assert len(created(resources)) == {Deployment.GPU_ENDPOINT: 3}.get(deployment, 2)
    assert resources.left == set()


def test_a_model_that_left_the_catalog_stops_the_probe_before_anything_is_created(
    resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_lines, "TIMED_MODEL", "nobody/nothing")
    evidence = only(probe(tmp_path, "gpu-planned-timing"))
    assert evidence.verdict is Verdict.UNCLEAR
    assert "the model catalog has no nobody/nothing" in evidence.observations["error"]
    assert resources.ever == set()
    with pytest.raises(TokenmillError, match="has no nobody/nothing"):
        gpu_lines.gpu_plan(Deployment.GPU_ENDPOINT, "nobody/nothing", "us-east-1")
