"""The probes about adapters on GPUs, and about the thin image on Trainium2."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from support_fake_aws import AwsError
from support_fake_services import Builds, Objects, Stacks
from support_verify import HURRIED, created, only, session
from support_verify import probe as run_probe
from tokenmill.verification import (
    LINES,
    Verdict,
    adapter_lines,
    looking,
    lora_memory_lines,
    run_lines,
    trainium_lines,
)
from tokenmill.verification.line import Deployment
from tokenmill.verification.lines import find_lines

if TYPE_CHECKING:
    from pathlib import Path

    from support_fake_aws import Resources
    from tokenmill.verification.run import Result

OF_ADAPTERS = [line.id for line in LINES if line.deployment is Deployment.ADAPTER_ENDPOINT]
OF_TRAINIUM = [line.id for line in LINES if line.deployment is Deployment.TRAINIUM_ENDPOINT]
ARN = "arn:aws:sagemaker:us-east-1:123456789012:inference-component/c"


class Adapters:
    """Bases with adapters of stacks; the attributes say how AWS is to behave."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.stacks = Stacks(resources, self._changed)
        self.reloads = True
        self.artifact = ""
        self.invocations = 3.0
        self.loading = "Model loading took {:.4f} GiB memory and 2.5 seconds"
        self.gib_of_room = 1.0
        self.refuses = "the component is the base inference component of adapters"
        answers = resources.fake.answers
        self.real_describe = answers["sagemaker", "DescribeInferenceComponent"]
        self.real_delete = answers["sagemaker", "DeleteInferenceComponent"]
        answers["sagemaker", "DescribeInferenceComponent"] = self._describe
        answers["sagemaker", "UpdateInferenceComponent"] = self._update
        answers["sagemaker", "DeleteInferenceComponent"] = self._delete
        answers["sagemaker-runtime", "InvokeEndpoint"] = self._invoke
        answers["cloudwatch", "GetMetricStatistics"] = lambda _: {"Datapoints": [{"Sum": self.invocations}]}
        answers["logs", "FilterLogEvents"] = self._log

    def _log(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Say what loading took: the weights, and for room a share of what the library computes."""
        room = adapter_lines.MANY_SLOTS if "many" in parameters["logGroupName"] else adapter_lines.SLOTS
        took = 1.12 + self.gib_of_room * lora_memory_lines._computed(room)
        return {"events": [{"message": f"INFO gpu_model_runner.py: {self.loading.format(took)}"}]}

    def _changed(self, _: str, made: dict[str, Any]) -> None:
        properties = made["Adapter"]["Properties"]
        assert set(properties) == {"InferenceComponentName", "EndpointName", "Specification"}
        artifact = properties["Specification"]["Container"]["ArtifactUrl"]
        self.artifact = artifact if self.reloads or not self.artifact else self.artifact

    def _describe(self, parameters: dict[str, Any]) -> dict[str, Any]:
        if parameters["InferenceComponentName"] in self.resources.live["Stack"]:
            return {"InferenceComponentStatus": "InService"}
        image = {"SpecifiedImage": "registry/image:1"}
        specification = {
            "Container": {"DeployedImage": image, "Environment": {"A": "1"}},
            "ComputeResourceRequirements": {"MinMemoryRequiredInMb": 8192},
        }
        return {**self.real_describe(parameters), "Specification": specification}

    def _update(self, _: dict[str, Any]) -> dict[str, Any]:
        if self.refuses:
            raise AwsError("ValidationException", self.refuses)
        return {"InferenceComponentArn": ARN}

    def _delete(self, parameters: dict[str, Any]) -> dict[str, Any]:
        if self.refuses and self.resources.live["Stack"]:
            raise AwsError("ValidationException", self.refuses)
        return dict(self.real_delete(parameters))

    def _invoke(self, _: dict[str, Any]) -> dict[str, Any]:
        said = "yes" if self.artifact.endswith(adapter_lines.SILENT) else "purple"
        return {"Body": {"choices": [{"index": 0, "message": {"content": said}}]}}


@pytest.fixture
def adapters(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> Adapters:
    monkeypatch.setattr(adapter_lines, "LAYERS", 1)
    return Adapters(resources)


def test_adapters_that_do_what_is_claimed_make_every_line_hold(adapters: Adapters, tmp_path: Path) -> None:
    result = run_probe(tmp_path, *OF_ADAPTERS)
    assert {piece.line: piece.verdict for piece in result.evidence} == dict.fromkeys(
        OF_ADAPTERS, Verdict.HOLDS
    )
    assert (result.exit_code, adapters.resources.left) == (0, set())
    lmi, few, many, vllm = (
        asked["Specification"]["Container"]["Environment"] for asked in created(adapters.resources)
    )
    assert (few["OPTION_MAX_LORAS"], many["OPTION_MAX_LORAS"]) == ("2", "8")
    assert (few["OPTION_MAX_LORA_RANK"], many["OPTION_MAX_LORA_RANK"]) == ("16", "64")
    assert lmi["OPTION_ENABLE_LORA"] == "true"
    assert vllm["SM_VLLM_ENABLE_LORA"] == "true"


def test_an_adapter_is_in_the_form_of_peft_and_safetensors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter_lines, "LAYERS", 2)
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(adapter_lines.adapter(0.0)))) as packed:
        config = json.loads(packed.extractfile("adapter_config.json").read())
        data = packed.extractfile("adapter_model.safetensors").read()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    assert (config["peft_type"], config["r"]) == ("LORA", adapter_lines.RANK)
    assert len(header) == 4
    assert size % 8 == 0
    assert max(item["data_offsets"][1] for item in header.values()) == len(data) - 8 - size
    second = header["base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight"]
    start, end = second["data_offsets"]
    assert end - start == 4 * adapter_lines.QUERIES * adapter_lines.RANK
    assert set(data[8 + size + start : 8 + size + end]) == {0}


def test_an_adapter_that_cloudformation_cannot_make_fails(adapters: Adapters, tmp_path: Path) -> None:
    adapters.stacks.ends["CREATE"] = "ROLLBACK_COMPLETE"
    result = run_probe(tmp_path, *OF_ADAPTERS)
    verdicts = {piece.line: piece.verdict for piece in result.evidence}
    assert (verdicts["adapter-stack"], verdicts["vllm-adapters"]) == (Verdict.FAILS, Verdict.FAILS)
    assert verdicts["adapter-reload"] is Verdict.UNCLEAR
    assert adapters.resources.left == set()


def test_a_base_that_does_not_start_says_nothing(adapters: Adapters, tmp_path: Path) -> None:
    adapters.resources.status["base"] = "Failed"
    assert only(run_probe(tmp_path, "vllm-adapters")).verdict is Verdict.UNCLEAR
    assert adapters.resources.left == set()


def test_an_answer_that_stays_fails_the_reload(adapters: Adapters, tmp_path: Path) -> None:
    adapters.reloads = False
    evidence = only_of(run_probe(tmp_path, "adapter-reload"), "adapter-reload")
    assert evidence.verdict is Verdict.FAILS
    assert evidence.observations["after"] == "yes"


def test_requests_that_are_not_counted_fail(adapters: Adapters, tmp_path: Path) -> None:
    adapters.invocations = 0.0
    assert only_of(run_probe(tmp_path, "adapter-metrics"), "adapter-metrics").verdict is Verdict.FAILS


@pytest.mark.parametrize(("message", "verdict"), [("", Verdict.FAILS), ("not now", Verdict.UNCLEAR)])
def test_a_base_that_can_be_changed_fails(
    adapters: Adapters, tmp_path: Path, message: str, verdict: Verdict
) -> None:
    adapters.refuses = message
    assert only_of(run_probe(tmp_path, "adapter-base-locked"), "adapter-base-locked").verdict is verdict
    assert adapters.resources.left == set()


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({"gib_of_room": 1.08}, Verdict.HOLDS),
        # The output's share of the room is left out, or all of it: the log counts weights alone.
        ({"gib_of_room": 0.8}, Verdict.FAILS),
        ({"gib_of_room": 0.0}, Verdict.FAILS),
        ({"gib_of_room": 2.0}, Verdict.FAILS),
        ({"loading": "Loading weights took {:.4f} seconds"}, Verdict.UNCLEAR),
    ],
)
def test_room_for_adapters_is_read_from_what_loading_took(
    adapters: Adapters,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    verdict: Verdict,
) -> None:
    monkeypatch.setattr(looking, "LOG_SECONDS", 0.05)
    for name, value in change.items():
        setattr(adapters, name, value)
    evidence = only(run_probe(tmp_path, "lora-slot-memory"))
    assert evidence.verdict is verdict, evidence.observations
    assert adapters.resources.left == set()


def test_the_computed_room_is_that_of_every_projection_and_the_output() -> None:
    """Counted by hand from Qwen3-0.6B's config: 28 layers, 1,024 wide, 3,072 inside, 151,936 words, bf16."""
    layer = (1024 + 2048) + 2 * (1024 + 1024) + (2048 + 1024) + 2 * (1024 + 3072) + (3072 + 1024)
    elements = 28 * layer + (1024 + 151_936)
    assert lora_memory_lines._computed(adapter_lines.MANY_SLOTS) == pytest.approx(
        8 * 64 * 2 * elements / 2**30
    )


def test_a_server_without_room_says_nothing_of_its_memory(adapters: Adapters, tmp_path: Path) -> None:
    adapters.resources.status["slots"] = "Failed"
    assert only(run_probe(tmp_path, "lora-slot-memory")).verdict is Verdict.UNCLEAR
    assert adapters.resources.left == set()


def only_of(result: Result, line: str) -> Any:
    (found,) = (piece for piece in result.evidence if piece.line == line)
    return found


class Trainium:
    """A build, a job and components; the attributes say how AWS is to behave."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.builds = Builds(resources)
        self.objects = Objects(resources)
        digest = [{"name": "IMAGE_DIGEST", "value": "sha256:" + "a" * 64}]
        self.build: dict[str, Any] = {"buildStatus": "SUCCEEDED", "exportedEnvironmentVariables": digest}
        self.builds.end = lambda _: self.build
        self.job = ("Completed", "")
        self.uploaded: dict[str, bytes] = {}
        self.printed = "SpecDecoding metrics: Mean acceptance length: 2.10"
        answers = resources.fake.answers
        answers["logs", "FilterLogEvents"] = lambda _: {"events": [{"message": self.printed}]}
        answers["ecr", "CreateRepository"] = self._repository
        answers["ecr", "DeleteRepository"] = lambda p: (
            resources.live["Repository"].discard(p["repositoryName"]) or {}
        )
        answers["s3", "PutObject"] = lambda p: self.uploaded.__setitem__(p["Key"], p["Body"]) or {}
        answers["sagemaker", "CreateTrainingJob"] = lambda _: {
            "TrainingJobArn": "arn:aws:sagemaker:us-east-1:123456789012:training-job/j"
        }
        answers["sagemaker", "DescribeTrainingJob"] = lambda _: {
            "TrainingJobStatus": self.job[0],
            "FailureReason": self.job[1],
            "ModelArtifacts": {"S3ModelArtifacts": "s3://b/compiled/job/output/model"},
        }

    def _repository(self, parameters: dict[str, Any]) -> dict[str, Any]:
        name = parameters["repositoryName"]
        self.resources.create("Repository", name)
        uri = f"123456789012.dkr.ecr.us-east-1.amazonaws.com/{name}"
        return {"repository": {"repositoryName": name, "repositoryUri": uri}}


@pytest.fixture
def trainium(resources: Resources) -> Trainium:
    return Trainium(resources)


def on_trainium(state: Path, *ids: str) -> Result:
    return run_lines(
        find_lines(ids),
        session=session(),
        region="us-east-1",
        state=state,
        pace=HURRIED,
        prices={trainium_lines.FOOTPRINTS[trainium_lines.DEPLOYMENT].instance: 1.0},
    )


def test_the_thin_image_is_built_served_and_served_compiled(trainium: Trainium, tmp_path: Path) -> None:
    result = on_trainium(tmp_path, *OF_TRAINIUM)
    assert {piece.line: piece.verdict for piece in result.evidence} == dict.fromkeys(
        OF_TRAINIUM, Verdict.HOLDS
    )
    assert (result.exit_code, trainium.resources.left) == (0, set())
    models = [p for _, operation, p in trainium.resources.fake.calls if operation == "CreateModel"]
    places = [
        model["PrimaryContainer"]["ModelDataSource"]["S3DataSource"]["S3Uri"].split("/", 3)[3]
        for model in models
    ]
    assert places == ["weights/", "weights/", "compiled/job/output/model/"]
    keyed = ["TOKENMILL_ARTIFACT_KEY" in model["PrimaryContainer"]["Environment"] for model in models]
    assert keyed == [False, False, True]
    draft = json.loads(models[1]["PrimaryContainer"]["Environment"]["SM_VLLM_SPECULATIVE_CONFIG"])
    assert (draft["method"], draft["model"]) == ("eagle3", trainium_lines.DRAFT)
    with zipfile.ZipFile(io.BytesIO(trainium.uploaded["source.zip"])) as source:
        assert "tokenmill_runtime/serving_image/Dockerfile" in source.namelist()


@pytest.mark.parametrize(
    ("printed", "verdict"),
    [
        ("engine with config: speculative_config=None, revision=None", Verdict.FAILS),
        ("started", Verdict.UNCLEAR),
    ],
)
def test_a_draft_that_is_passed_over_is_told_from_a_log_that_is_silent(
    trainium: Trainium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: str, verdict: Verdict
) -> None:
    monkeypatch.setattr(looking, "LOG_SECONDS", 0.05)
    trainium.printed = printed
    assert only(on_trainium(tmp_path, "trn2-eagle3")).verdict is verdict
    assert trainium.resources.left == set()


def test_a_server_that_does_not_start_with_a_draft_fails_where_the_draft_is_why(
    trainium: Trainium, tmp_path: Path
) -> None:
    trainium.resources.status["eagle3"] = "Failed"
    trainium.printed = "ValueError: eagle3 is not supported for model type qwen3"
    assert only(on_trainium(tmp_path, "trn2-eagle3")).verdict is Verdict.FAILS
    trainium.printed = "RuntimeError: the device is busy"
    assert only(on_trainium(tmp_path, "trn2-eagle3")).verdict is Verdict.UNCLEAR
    assert trainium.resources.left == set()


def test_a_build_that_fails_settles_nothing_and_starts_no_instance(
    trainium: Trainium, tmp_path: Path
) -> None:
    trainium.build = {"buildStatus": "FAILED"}
    result = on_trainium(tmp_path, *OF_TRAINIUM)
    assert {piece.verdict for piece in result.evidence} == {Verdict.UNCLEAR}
    assert "CreateEndpoint" not in trainium.resources.fake.operations("sagemaker")
    assert trainium.resources.left == set()


def test_an_image_that_does_not_start_fails(trainium: Trainium, tmp_path: Path) -> None:
    trainium.resources.status["plain"] = "Failed"
    evidence = only(on_trainium(tmp_path, "trn2-thin-image"))
    assert evidence.verdict is Verdict.FAILS
    assert "CreateTrainingJob" not in trainium.resources.fake.operations("sagemaker")


@pytest.mark.parametrize(
    ("job", "status", "verdict"),
    [
        (("Failed", "AlgorithmError: exit code 2"), "InService", Verdict.FAILS),
        (("Failed", "CapacityError: no capacity"), "InService", Verdict.UNCLEAR),
        (("Completed", ""), "Failed", Verdict.FAILS),
    ],
)
def test_an_artifact_is_reused_when_its_copy_starts(
    trainium: Trainium, tmp_path: Path, job: tuple[str, str], status: str, verdict: Verdict
) -> None:
    trainium.job, trainium.resources.status["compiled"] = job, status
    assert only(on_trainium(tmp_path, "trn2-artifact-reuse")).verdict is verdict
    assert trainium.resources.left == set()
