"""Models compiled ahead of time: what is asked for, who may do what, how a run goes, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_kms as kms

from support_stack import REGION, make_app, only, statements, template_of
from support_states import States, definition
from support_trainium import HOME, MODEL, REVISION, compile_and_serve, compiled_model, trn2, weights
from tokenmill.core.errors import TokenmillError
from tokenmill.core.images import image
from tokenmill.endpoints import ModelSource, ServingImage
from tokenmill_runtime.jobs import read_description

if TYPE_CHECKING:
    from pathlib import Path

DIGEST = "sha256:" + "d" * 64


@pytest.fixture
def stacks(tmp_path: Path) -> tuple[cdk.Stack, cdk.Stack]:
    return compile_and_serve(tmp_path)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The template of a compiled model."""
    stack = cdk.Stack(make_app(tmp_path_factory.mktemp("x")), HOME, env=cdk.Environment(region=REGION))
    compiled_model(stack)
    return template_of(stack)


@pytest.fixture
def machine(template: dict[str, Any]) -> dict[str, Any]:
    return definition(only(template, "AWS::StepFunctions::StateMachine"))


def looked(*, built: bool) -> dict[str, Any]:
    """What the function says of the artifact."""
    return {
        "key": "k" * 64,
        "built": built,
        "image_digest": DIGEST,
        "image_uri": f"1.dkr.ecr.us-east-1.amazonaws.com/images@{DIGEST}",
        "output": f"s3://artifacts/compiled/{'k' * 64}",
    }


def test_a_run_compiles_with_the_image_that_will_serve(
    machine: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interpreter that is not ours runs the definition: look, one training job, record."""
    asked: list[dict[str, Any]] = []
    jobs: list[dict[str, Any]] = []

    def function(payload: dict[str, Any]) -> dict[str, Any]:
        asked.append(payload)
        if payload["step"] == "look":
            return looked(built=False)
        return {"key": payload["artifact"]["key"], "built": True, "uri": payload["training"]["output"]}

    def train(parameters: dict[str, Any]) -> dict[str, Any]:
        jobs.append(parameters)
        name = parameters["TrainingJobName"]
        place = f"{parameters['OutputDataConfig']['S3OutputPath']}/{name}/output/model"
        return {"TrainingJobName": name, "ModelArtifacts": {"S3ModelArtifacts": place}}

    states = States(monkeypatch)
    states.functions(function)
    states.integration("sagemaker:createTrainingJob", train)
    assert machine["States"]["Compile"]["Resource"].endswith("sagemaker:createTrainingJob.sync")
    done = states.run(machine, {})
    assert done["status"] == "SUCCEEDED", done
    assert done["states"] == ["Job", "Look", "IsBuilt", "Compile", "Record"]
    (job,) = jobs
    assert job["AlgorithmSpecification"]["TrainingImage"] == looked(built=False)["image_uri"]
    assert job["OutputDataConfig"] == {
        "S3OutputPath": looked(built=False)["output"],
        "CompressionType": "NONE",
    }
    assert job["ResourceConfig"]["InstanceType"] == "ml.trn2.48xlarge"
    assert job["StoppingCondition"] == {"MaxRuntimeInSeconds": 4 * 3600}
    assert job["EnableNetworkIsolation"] is True
    assert job["Environment"]["TOKENMILL_ARTIFACT_KEY"] == "k" * 64
    assert job["Environment"]["SM_VLLM_TENSOR_PARALLEL_SIZE"] == "16"
    assert len(job["TrainingJobName"]) <= 63
    channel = job["InputDataConfig"][0]
    uri = channel["DataSource"]["S3DataSource"]["S3Uri"]
    assert (channel["ChannelName"], uri) == ("model", f"s3://weights/models/{MODEL}/{REVISION}/")
    assert [payload["step"] for payload in asked] == ["look", "record"]
    assert asked[1]["training"]["name"] == job["TrainingJobName"]
    assert done["output"] == {"key": "k" * 64, "built": True, "uri": asked[1]["training"]["output"]}


def test_a_run_of_a_built_key_starts_no_job(machine: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever starts it by hand pays nothing for what is there."""
    states = States(monkeypatch)
    states.functions(lambda payload: looked(built=True))
    done = states.run(machine, {})
    assert (done["status"], done["states"]) == ("SUCCEEDED", ["Job", "Look", "IsBuilt", "AlreadyBuilt"])
    assert done["output"]["key"] == "k" * 64


def test_the_training_jobs_request_is_one_that_the_api_takes(machine: dict[str, Any]) -> None:
    """Every parameter stands in botocore's model of CreateTrainingJob."""
    import botocore.session
    from botocore.validate import ParamValidator

    parameters = machine["States"]["Compile"]["Parameters"]

    def known(value: Any) -> Any:
        if isinstance(value, dict):
            return {key.removesuffix(".$"): known(item) for key, item in value.items()}
        return [known(item) for item in value] if isinstance(value, list) else value

    service = botocore.session.get_session().get_service_model("sagemaker")
    shape = service.operation_model("CreateTrainingJob").input_shape
    assert ParamValidator().validate(known(parameters), shape).generate_report() == ""


def test_the_job_says_what_it_is(template: dict[str, Any], machine: dict[str, Any]) -> None:
    """The command line finds it by its tags and reads the price's facts from its first state."""
    made = only(template, "AWS::StepFunctions::StateMachine")["Properties"]
    assert {tag["Key"]: tag["Value"] for tag in made["Tags"]} == {
        "tokenmill:job": "compile",
        "tokenmill:job-name": "Compiled",
        "tokenmill:stack": HOME,
    }
    found = read_description(json.dumps(machine))
    assert (found["kind"], found["instance_type"], found["limit_seconds"]) == (
        "compile", "ml.trn2.48xlarge", 14_400,
    )  # fmt: skip
    assert found["artifact"]["revision"] == REVISION
    assert "image_digest" not in found["artifact"]
    assert made["LoggingConfiguration"]["Level"] == "ALL"
    assert made["TracingConfiguration"] == {"Enabled": True}


def granted(template: dict[str, Any], role: str) -> dict[str, list[str]]:
    """Actions of a role by the end of the resource that they are for."""
    found: dict[str, list[str]] = {}
    for statement in statements(template, role):
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        found.setdefault(json.dumps(statement["Resource"])[-60:], []).extend(actions)
    return found


def test_the_jobs_role_reads_weights_and_writes_artifacts(template: dict[str, Any]) -> None:
    """Exactly these actions: no bucket-wide read, no other repository, no delete."""
    every = sorted({action for actions in granted(template, "JobRole").values() for action in actions})
    assert every == [
        "cloudwatch:PutMetricData", "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage",
        "ecr:GetAuthorizationToken", "ecr:GetDownloadUrlForLayer", "logs:CreateLogGroup",
        "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents", "s3:AbortMultipartUpload",
        "s3:GetObject", "s3:ListBucket", "s3:PutObject",
    ]  # fmt: skip
    objects = [
        json.dumps(statement["Resource"])
        for statement in statements(template, "JobRole")
        if statement["Action"] == "s3:GetObject"
    ]
    assert len(objects) == 1
    assert f":s3:::weights/models/{MODEL}/{REVISION}/*" in objects[0]


def test_the_state_machines_role_passes_one_role_to_one_service(template: dict[str, Any]) -> None:
    """It starts jobs of its own name alone."""
    found = statements(template, "CompiledRole")
    (passing,) = [item for item in found if item["Action"] == "iam:PassRole"]
    assert passing["Condition"] == {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
    assert "CompiledJobRole" in json.dumps(passing["Resource"])
    (jobs,) = [item for item in found if "sagemaker:CreateTrainingJob" in item["Action"]]
    assert json.dumps(jobs["Resource"]).endswith(':training-job/tokenmill-compile-*"]]}')
    assert "sagemaker:AddTags" in jobs["Action"]


def test_a_customers_key_covers_what_is_compiled(stacks: tuple[cdk.Stack, cdk.Stack]) -> None:
    """The bucket, the job's output and the roles that write use it."""
    home, _ = stacks
    compiled_model(home, encryption_key=kms.Key(home, "Key"))
    template = template_of(home)
    text = json.dumps(definition(only(template, "AWS::StepFunctions::StateMachine")))
    assert "KmsKeyId" in text
    assert "kms:GenerateDataKey" in json.dumps(statements(template, "JobRole"))
    bucket = only(template, "AWS::S3::Bucket")["Properties"]
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert "aws:kms" in json.dumps(bucket["BucketEncryption"])


def test_a_warning_says_that_compiling_is_experimental(stacks: tuple[cdk.Stack, cdk.Stack]) -> None:
    """Nobody has compiled on an account yet."""
    from aws_cdk import assertions

    compiled_model(stacks[0])
    words = assertions.Match.string_like_regexp("compiling .* ahead of time is experimental")
    assert len(assertions.Annotations.from_stack(stacks[0]).find_warning("*", words)) == 1


@pytest.mark.parametrize(
    ("tensor", "words"),
    [(2, "whole chips"), (6, "has 4 cores a chip"), (18, "whole chips"), (128, "has 64 cores")],
)
def test_fails_for_cores_that_do_not_fill_chips(tensor: int, words: str) -> None:
    """A chip of Trainium2 is four logical cores, a machine has sixteen, and a copy takes whole chips."""
    with pytest.raises(TokenmillError, match=words):
        trn2(tensor_parallel=tensor)


@pytest.mark.parametrize(
    ("serving", "words"),
    [
        (
            {
                "model": "acme/tiny",
                "image": image("hf-vllm-neuronx"),
                "instance_type": "ml.trn1.32xlarge",
                "tensor_parallel": 8,
            },
            "serving has image 'hf-vllm-neuronx', which ServingImage does not build",
        ),
        (
            {"environment": {"SM_VLLM_X": "x" * 513}},
            "variable SM_VLLM_X has 513 characters; a training job takes 512",
        ),
        (
            {"environment": {"SM_VLLM_X": cdk.Aws.ACCOUNT_ID}},
            "variable SM_VLLM_X is a token",
        ),
    ],
)
def test_fails_for_a_serving_that_cannot_be_compiled(
    stacks: tuple[cdk.Stack, cdk.Stack], serving: dict[str, Any], words: str
) -> None:
    """Raised before any child exists."""
    home, _ = stacks
    made = ServingImage(home, "Image")
    with pytest.raises(TokenmillError, match=words):
        compiled_model(home, serving=trn2(**serving), image=made)
    assert home.node.try_find_child("Compiled") is None


def test_fails_on_chips_that_no_training_job_has(stacks: tuple[cdk.Stack, cdk.Stack]) -> None:
    """Inferentia2 is for hosting alone."""
    home, _ = stacks
    odd = trn2(
        model="acme/tiny",
        instance_type="ml.inf2.48xlarge",
        tensor_parallel=8,
        image=image("hf-vllm-neuronx"),
    )
    with pytest.raises(TokenmillError, match="instance_type is ml.inf2.48xlarge, which training jobs do not"):
        compiled_model(home, serving=odd)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (lambda stack: ModelSource.hugging_face(revision=REVISION), "no weights in a bucket"),
        (lambda stack: weights(stack, revision=None), "the source's revision is None"),
        (lambda stack: weights(stack, revision="main"), "the source's revision is 'main'"),
        (lambda stack: replace(weights(stack), model="Qwen/Qwen3-8B"), "the source holds 'Qwen/Qwen3-8B'"),
    ],
)
def test_fails_for_weights_that_may_change_or_are_out_of_reach(
    stacks: tuple[cdk.Stack, cdk.Stack], source: Any, words: str
) -> None:
    """A compiled model belongs to one commit, and the job that compiles has no network."""
    home, _ = stacks
    given = source(home)
    made = ServingImage(home, "Image")
    with pytest.raises(TokenmillError, match=words):
        compiled_model(home, source=given, image=made)
    assert home.node.try_find_child("Compiled") is None


@pytest.mark.parametrize("minutes", [9, 28 * 24 * 60 + 1])
def test_fails_for_a_limit_that_no_job_has(stacks: tuple[cdk.Stack, cdk.Stack], minutes: int) -> None:
    """A training job runs 28 days at the most, and a compilation takes more than minutes."""
    with pytest.raises(TokenmillError, match=f"limit_minutes is {minutes}; it must be 10 to 40320"):
        compiled_model(stacks[0], limit_minutes=minutes)
