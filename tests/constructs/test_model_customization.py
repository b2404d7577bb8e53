"""Fine-tuning and distillation: what a run asks for, how long, with which rights, and what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_kms as kms

from support_customization import (
    BASE,
    CUSTOM,
    Service,
    bucket,
    customization,
    machine,
    problems_of,
    two_stacks,
)
from support_stack import of_type, only, statements, template_of
from tokenmill.core.errors import TokenmillError
from tokenmill.customization import Distillation, FineTuning, TrainingData
from tokenmill_runtime.jobs import read_description

if TYPE_CHECKING:
    from pathlib import Path

# The interpreter calls it by its name without ".sync", and waits for what the test returns.
SYNC = "bedrock:createModelCustomizationJob"
READ, FIND = "aws-sdk:bedrock:getModelCustomizationJob", "aws-sdk:bedrock:getCustomModel"
TEACHER = "us.amazon.nova-premier-v1:0"


@pytest.fixture
def stack(tmp_path: Path) -> cdk.Stack:
    """The jobs' stack."""
    return two_stacks(tmp_path)[0]


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    """Bedrock, whose job makes a custom model."""
    made = Service(monkeypatch)
    made.answers |= {
        FIND: made.missing,
        SYNC: lambda _: {"JobArn": "arn:job"},
        READ: lambda _: {"OutputModelArn": CUSTOM, "Status": "Completed"},
    }
    return made


def test_a_run_fine_tunes_and_records_a_version(stack: cdk.Stack, service: Service) -> None:
    """Step Functions waits for the job; the version names the model that it made."""
    customization(stack, recipe=FineTuning(epochs=2, learning_rate=0.00001, more={"loraRank": "32"}))
    document = machine(template_of(stack))
    assert document["States"]["Make"]["Resource"] == f"arn:aws:states:::{SYNC}.sync"
    done = service.run(document, {"version": "1"})
    assert done["status"] == "SUCCEEDED", done
    (asked,) = service.asked(SYNC)
    assert problems_of("CreateModelCustomizationJob", asked) == ""
    assert asked["CustomizationType"] == "FINE_TUNING"
    assert asked["HyperParameters"] == {"epochCount": "2", "learningRate": "1e-05", "loraRank": "32"}
    assert asked["BaseModelIdentifier"] == f"arn:aws:bedrock:us-east-1::foundation-model/{BASE}"
    assert asked["TrainingDataConfig"] == {"S3Uri": "s3://data/july/train.jsonl"}
    assert service.asked(READ) == [{"JobIdentifier": asked["JobName"]}]
    recorded = service.manifest()
    assert (recorded["model_arn"], recorded["kind"]) == (CUSTOM, "customize")
    assert recorded["model_name"] == asked["CustomModelName"]
    assert len(asked["CustomModelName"]) <= 63


def test_a_distillation_names_teacher_and_student(stack: cdk.Stack, service: Service) -> None:
    """The job is of its own kind, so that two of a stack are told apart."""
    customization(stack, recipe=Distillation(teacher=TEACHER, max_response_tokens=400))
    template = template_of(stack)
    service.run(machine(template), {"version": "1"})
    (asked,) = service.asked(SYNC)
    assert problems_of("CreateModelCustomizationJob", asked) == ""
    teacher = asked["CustomizationConfig"]["DistillationConfig"]["TeacherModelConfig"]
    assert teacher == {"TeacherModelIdentifier": TEACHER, "MaxResponseLengthForInference": 400}
    described = read_description(json.dumps(machine(template)))
    assert (described["kind"], described["paid"]) == ("distill", True)
    assert described["about"] == f"distills {TEACHER} into {BASE}"


def test_the_teacher_is_called_in_every_region_behind_its_profile(stack: cdk.Stack) -> None:
    """aws-cdk#31957: the profile and the model in each region, and nothing else."""
    customization(stack, recipe=Distillation(teacher=TEACHER))
    (asks,) = [
        item
        for item in statements(template_of(stack), "CustomizeServiceRole")
        if item["Action"] == "bedrock:InvokeModel"
    ]
    resources = [json.dumps(arn) for arn in asks["Resource"]]
    assert any(f":inference-profile/{TEACHER}" in arn for arn in resources)
    assert {arn.split("bedrock:")[1].split(":")[0] for arn in resources} >= {"us-east-1", "us-west-2"}
    assert "*" not in "".join(resources)


def test_a_teacher_of_this_region_is_called_here(stack: cdk.Stack) -> None:
    """A model without a profile is one resource."""
    customization(stack, recipe=Distillation(teacher="amazon.nova-pro-v1:0"))
    found = json.dumps(statements(template_of(stack), "CustomizeServiceRole"))
    assert "bedrock:us-east-1::foundation-model/amazon.nova-pro-v1:0" in found
    assert "inference-profile" not in found


def test_invocation_logs_teach_a_student(stack: cdk.Stack, service: Service) -> None:
    """What was asked and answered is filtered by the calls' metadata."""
    data = TrainingData.of_logs(
        bucket(stack, "logs"), logs="AWSLogs/", with_responses=True, log_filter={"team": "a", "env": "prod"}
    )
    customization(stack, recipe=Distillation(teacher=TEACHER), data=data)
    template = template_of(stack)
    service.run(machine(template), {"version": "1"})
    (asked,) = service.asked(SYNC)
    assert problems_of("CreateModelCustomizationJob", asked) == ""
    config = asked["TrainingDataConfig"]["InvocationLogsConfig"]
    assert config["InvocationLogSource"] == {"S3Uri": "s3://logs/AWSLogs/"}
    assert config["UsePromptResponse"] is True
    assert config["RequestMetadataFilters"]["AndAll"] == [
        {"Equals": {"team": "a"}},
        {"Equals": {"env": "prod"}},
    ]
    assert "arn:aws:s3:::logs/AWSLogs/*" in json.dumps(statements(template, "CustomizeServiceRole"))


def test_a_stopped_run_stops_its_job(stack: cdk.Stack) -> None:
    """The task ends before the run, and the role may stop what it started."""
    customization(stack, limit_hours=2)
    template = template_of(stack)
    document = machine(template)
    assert document["TimeoutSeconds"] == 7200
    assert document["States"]["Make"]["TimeoutSeconds"] < 7200
    (watch,) = [
        item
        for item in statements(template, "CustomizeRole")
        if "bedrock:StopModelCustomizationJob" in item["Action"]
    ]
    assert json.dumps(watch["Resource"]).endswith(':model-customization-job/*"]]}')


def test_the_run_may_start_jobs_on_its_base_model_alone(stack: cdk.Stack) -> None:
    """ "IAM policies for calling Amazon Bedrock": the base, the jobs, the custom models."""
    customization(stack)
    (start,) = [
        item
        for item in statements(template_of(stack), "CustomizeRole")
        if "bedrock:CreateModelCustomizationJob" in item["Action"]
    ]
    endings = sorted(json.dumps(arn).rpartition("/")[0].rpartition(":")[2] for arn in start["Resource"])
    assert endings == ["custom-model", "foundation-model", "model-customization-job"]
    assert BASE in json.dumps(start["Resource"])


def test_the_service_role_reads_its_files_and_writes_metrics(stack: cdk.Stack) -> None:
    """Each file by its name, and one folder of the output."""
    data = TrainingData(bucket=bucket(stack, "data"), training="a/train.jsonl", validation=("a/check.jsonl",))
    customization(stack, data=data)
    template = template_of(stack)
    found = statements(template, "CustomizeServiceRole")
    objects = [item for item in found if item["Action"] != "s3:ListBucket"]
    read, write = objects
    assert read["Action"] == "s3:GetObject"
    assert read["Resource"] == ["arn:aws:s3:::data/a/check.jsonl", "arn:aws:s3:::data/a/train.jsonl"]
    assert write["Action"] == ["s3:GetObject", "s3:PutObject"]
    assert json.dumps(write["Resource"]).endswith('/output/*"]]}')
    account = {"aws:ResourceAccount": {"Ref": "AWS::AccountId"}}
    assert all(item["Condition"]["StringEquals"] == account for item in found)
    roles = of_type(template, "AWS::IAM::Role")
    (trust,) = [json.dumps(role) for key, role in roles.items() if key.startswith("CustomizeService")]
    assert ":model-customization-job/*" in trust and "aws:SourceAccount" in trust


def test_a_customers_key_encrypts_model_and_metrics(stack: cdk.Stack) -> None:
    """The output bucket uses it too."""
    customization(stack, encryption_key=kms.Key(stack, "Key"))
    template = template_of(stack)
    assert "CustomModelKmsKeyId" in machine(template)["States"]["Make"]["Parameters"]
    assert "aws:kms" in json.dumps(only(template, "AWS::S3::Bucket")["Properties"]["BucketEncryption"])
    (use,) = [
        item
        for item in statements(template, "CustomizeServiceRole")
        if "kms:CreateGrant" in json.dumps(item["Action"])
    ]
    assert "kms:GenerateDataKey" in use["Action"]


def test_other_settings_are_another_recipe(stack: cdk.Stack, tmp_path: Path) -> None:
    """A version that was built from other data is refused, so the data is part of what is compared."""
    customization(stack)
    other = two_stacks(tmp_path / "other")[0]
    customization(other, recipe=FineTuning(epochs=3))
    same = two_stacks(tmp_path / "same")[0]
    customization(same)
    recipes = [
        read_description(json.dumps(machine(template_of(made))))["recipe"] for made in (stack, other, same)
    ]
    assert recipes[0] == recipes[2] != recipes[1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"base_model": "us.amazon.nova-lite-v1:0"},
            "a cross-region profile; .* give 'amazon.nova-lite-v1:0'",
        ),
        ({"base_model": "Nova Lite"}, "base_model is 'Nova Lite'; give a foundation model's id"),
        ({"base_model": cdk.Aws.REGION}, "give a foundation model's id"),
        ({"limit_hours": 0}, "limit_hours is 0; it must be 1 to 336"),
        ({"recipe": "LoRA"}, "recipe is 'LoRA'; give a FineTuning or a Distillation"),
    ],
)
def test_fails_for_what_no_job_does(stack: cdk.Stack, changes: dict[str, Any], words: str) -> None:
    """Raised before any child exists."""
    with pytest.raises(TokenmillError, match=words):
        customization(stack, **changes)
    assert stack.node.try_find_child("Customize") is None


def test_fails_to_fine_tune_on_logs(stack: cdk.Stack) -> None:
    """Logs have no labels."""
    data = TrainingData.of_logs(bucket(stack, "logs"), logs="AWSLogs/")
    with pytest.raises(TokenmillError, match="fine-tuning learns from labelled examples"):
        customization(stack, data=data)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: FineTuning(epochs=0), "epochs is 0; it must be 1 or more"),
        (lambda: FineTuning(epochs=1.5), "epochs must be a whole number"),
        (lambda: FineTuning(learning_rate=1.0), "learning_rate is 1.0; it must be between 0 and 1"),
        (lambda: FineTuning(epochs=1, more={"epochCount": "2"}), "epochCount stands in more and in a field"),
        (lambda: Distillation(teacher="Nova Premier"), "teacher is 'Nova Premier'; give the id"),
        (lambda: Distillation(teacher=TEACHER, max_response_tokens=0), "max_response_tokens is 0"),
    ],
)
def test_fails_for_a_recipe_out_of_bounds(make: Any, words: str) -> None:
    """Values say what they take."""
    with pytest.raises(TokenmillError, match=words):
        make()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "give one of the two"),
        ({"training": "a.jsonl", "logs": "b/"}, "give one of the two"),
        ({"training": "/a.jsonl"}, "is no object's name that Bedrock takes"),
        ({"training": "a b.jsonl"}, "is no object's name"),
        ({"training": "a.jsonl", "validation": ("b",) * 11}, "validation has 11 objects; it takes 10"),
    ],
)
def test_fails_for_data_that_bedrock_cannot_read(
    stack: cdk.Stack, fields: dict[str, Any], words: str
) -> None:
    """The pattern is that of botocore's S3Uri."""
    with pytest.raises(TokenmillError, match=words):
        TrainingData(bucket=bucket(stack, "data"), **fields)
