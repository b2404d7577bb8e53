"""Models brought into Bedrock: what a run does, what it finds again, who may do what, what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms

from support_customization import (
    CUSTOM,
    IMPORTED,
    NOVA,
    Service,
    machine,
    model_import,
    problems_of,
    two_stacks,
)
from support_stack import of_type, only, statements, template_of
from tokenmill.core.errors import TokenmillError
from tokenmill.customization import ImportSource, ModelArtifact, ModelImport
from tokenmill.endpoints import ModelSource
from tokenmill_runtime.artifact_versions import read_manifest
from tokenmill_runtime.jobs import read_description

if TYPE_CHECKING:
    from pathlib import Path

PACKAGE = "arn:aws:sagemaker:us-east-1:111122223333:model-package/nova/1"
GET, CREATE = "aws-sdk:bedrock:getImportedModel", "aws-sdk:bedrock:createModelImportJob"
POLL = "aws-sdk:bedrock:getModelImportJob"


@pytest.fixture
def stack(tmp_path: Path) -> cdk.Stack:
    """The jobs' stack."""
    return two_stacks(tmp_path)[0]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The template of an import of open weights."""
    stack = two_stacks(tmp_path_factory.mktemp("x"))[0]
    model_import(stack)
    return template_of(stack)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    """Bedrock, whose import job ends after two polls."""
    made = Service(monkeypatch)
    polls = iter(["InProgress", "InProgress", "Completed"])
    made.answers |= {
        GET: made.missing,
        CREATE: lambda _: {"JobArn": "arn:job"},
        POLL: lambda _: {"Status": next(polls), "ImportedModelArn": IMPORTED},
    }
    return made


def test_a_run_imports_waits_and_records_a_version(template: dict[str, Any], service: Service) -> None:
    """An interpreter that is not ours runs the definition; the version says what it is made of."""
    done = service.run(machine(template), {"version": "1"})
    assert done["status"] == "SUCCEEDED", done
    assert service.states.waited == [60, 60, 60]
    (asked,) = service.asked(CREATE)
    assert asked["ModelDataSource"] == {"S3DataSource": {"S3Uri": "s3://weights/models/acme-8b/"}}
    recorded = read_manifest(json.dumps(service.manifest()))
    assert recorded == done["output"]
    assert (recorded["model_arn"], recorded["version"]) == (IMPORTED, "1")
    assert recorded["source"] == "s3://weights/models/acme-8b/"
    assert recorded["model_name"] == asked["ImportedModelName"]
    assert recorded["run"].endswith(":run-1")
    (name,) = service.parameters
    assert name == f"{recorded['artifact']}/1"


def test_the_request_is_one_that_the_api_takes(template: dict[str, Any], service: Service) -> None:
    """Names, tokens and tags are of the form and length that botocore's model asks for."""
    service.run(machine(template), {"version": "2026-12-31-abcde"})
    (asked,) = service.asked(CREATE)
    assert problems_of("CreateModelImportJob", asked) == ""
    assert len(asked["ImportedModelName"]) <= 63 and len(asked["JobName"]) <= 63
    import re

    assert re.fullmatch(r"([0-9a-zA-Z][_-]?)+", asked["ImportedModelName"])
    assert re.fullmatch(r"[a-zA-Z0-9]([-a-zA-Z0-9]{0,254}[a-zA-Z0-9])?", asked["ClientRequestToken"])


def test_two_runs_have_different_jobs_and_one_model_name(template: dict[str, Any], service: Service) -> None:
    """A job's name is used once; the model's name is what a later run finds."""
    document = machine(template)
    service.answers[POLL] = lambda _: {"Status": "Failed", "FailureMessage": "no config.json"}
    for name in ("run-1", "run-2"):
        assert service.run(document, {"version": "1"}, name=name)["status"] == "FAILED"
    first, second = service.asked(CREATE)
    assert first["ImportedModelName"] == second["ImportedModelName"]
    assert first["JobName"] != second["JobName"]
    assert first["ClientRequestToken"] != second["ClientRequestToken"]


def test_a_failed_job_says_why(template: dict[str, Any], service: Service) -> None:
    """The service's message is the cause, which the command line prints."""
    service.answers[POLL] = lambda _: {"Status": "Failed", "FailureMessage": "no config.json"}
    done = service.run(machine(template), {"version": "1"})
    assert (done["status"], done["error"]) == ("FAILED", "ImportFailed")
    assert json.loads(done["cause"])["FailureMessage"] == "no config.json"
    assert service.parameters == {}


def test_a_model_that_a_stopped_run_left_is_recorded_not_made_again(
    template: dict[str, Any], service: Service
) -> None:
    """The name has the recipe in it, so what is found is what is asked for."""
    service.answers[GET] = lambda _: {"ModelArn": IMPORTED, "ModelName": "x"}
    done = service.run(machine(template), {"version": "1"})
    assert done["status"] == "SUCCEEDED"
    assert service.asked(CREATE) == []
    assert service.manifest()["model_arn"] == IMPORTED


def test_a_version_that_is_built_is_not_built_again(template: dict[str, Any], service: Service) -> None:
    """The second run returns the first one's version and asks Bedrock nothing."""
    document = machine(template)
    first = service.run(document, {"version": "1"})
    service.calls.clear()
    again = service.run(document, {"version": "1"}, name="run-2")
    assert (again["status"], again["output"]) == ("SUCCEEDED", first["output"])
    assert [called for called, _ in service.calls] == ["aws-sdk:ssm:getParameter"]


def test_fails_for_a_version_that_was_built_from_something_else(
    template: dict[str, Any], stack: cdk.Stack, service: Service
) -> None:
    """Versions never change."""
    service.run(machine(template), {"version": "1"})
    other = ImportSource.weights(
        ModelSource.s3(cdk.aws_s3.Bucket.from_bucket_name(stack, "B", "other"), prefix="models/acme-8b/")
    )
    model_import(stack, source=other)
    done = service.run(machine(template_of(stack)), {"version": "1"}, name="run-2")
    assert done["error"] == "VersionTaken"
    assert "versions never change, so run the job with another version" in done["cause"]


def test_two_runs_of_one_version_record_it_once(template: dict[str, Any], service: Service) -> None:
    """Whoever comes second takes what the first recorded."""
    document = machine(template)

    def slow(_: dict[str, Any]) -> dict[str, Any]:
        if not service.parameters:
            service.answers[GET] = lambda _: {"ModelArn": IMPORTED, "ModelName": "x"}
            assert service.run(document, {"version": "1"}, name="other")["status"] == "SUCCEEDED"
        return {"Status": "Completed", "ImportedModelArn": IMPORTED}

    service.answers[POLL] = slow
    done = service.run(document, {"version": "1"})
    assert done["status"] == "SUCCEEDED", done
    assert done["output"]["run"].endswith(":other")


@pytest.mark.parametrize("given", [{}, {"version": ""}, {"version": 3}, {"version": "../other/1"}])
def test_fails_for_a_run_without_a_version(
    template: dict[str, Any], service: Service, given: dict[str, object]
) -> None:
    """Before anything is asked; a path would be another artifact's."""
    done = service.run(machine(template), given)
    assert (done["status"], done["error"]) == ("FAILED", "InputRefused")
    assert service.calls == []


def test_a_model_of_nova_becomes_a_custom_model(
    stack: cdk.Stack, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CreateCustomModel has no job: the model itself is asked for until it is Active."""
    model_import(stack, source=ImportSource.nova(NOVA))
    found = iter(["none", "Creating", "Active"])

    def get(given: dict[str, Any]) -> dict[str, Any]:
        status = next(found)
        return service.missing(given) if status == "none" else {"ModelArn": CUSTOM, "ModelStatus": status}

    create, get_model = "aws-sdk:bedrock:createCustomModel", "aws-sdk:bedrock:getCustomModel"
    service.answers |= {create: lambda _: {"ModelArn": CUSTOM}, get_model: get}
    template = template_of(stack)
    done = service.run(machine(template), {"version": "1"})
    assert done["status"] == "SUCCEEDED", done
    (asked,) = service.asked(create)
    assert problems_of("CreateCustomModel", asked) == ""
    assert asked["ModelSourceConfig"] == {"S3DataSource": {"S3Uri": NOVA}}
    assert service.manifest()["model_arn"] == CUSTOM
    read = statements(template, "ImportServiceRole")
    assert [json.dumps(item["Resource"]).partition(":s3:::")[2] for item in read] == [
        'customer-escrow-111122223333-smtj-abcd/run-1/checkpoint/*"]]}',
        'customer-escrow-111122223333-smtj-abcd"]]}',
    ]


def test_a_custom_model_that_failed_is_named_with_the_way_out(stack: cdk.Stack, service: Service) -> None:
    """Its name stays taken until somebody deletes it."""
    model_import(stack, source=ImportSource.nova(NOVA))
    failed = {"ModelArn": CUSTOM, "ModelStatus": "Failed"}
    service.answers["aws-sdk:bedrock:getCustomModel"] = lambda _: failed
    done = service.run(machine(template_of(stack)), {"version": "1"})
    assert done["error"] == "ModelFailed"
    assert "delete it with: aws bedrock delete-custom-model --model-identifier jobs-import-" in done["cause"]


def test_a_model_package_is_read_by_bedrock_itself(stack: cdk.Stack) -> None:
    """The run may see the package; no bucket is opened."""
    model_import(stack, source=ImportSource.package(PACKAGE))
    template = template_of(stack)
    make = machine(template)["States"]["Make"]["Parameters"]
    assert make["CustomModelDataSource"] == {"ModelPackageArnDataSource": {"ModelPackageArn": PACKAGE}}
    assert statements(template, "ImportServiceRole") == []
    (package,) = [item for item in statements(template, "ImportRole") if item["Resource"] == PACKAGE]
    assert package["Action"] == ["sagemaker:AccessModelPackageData", "sagemaker:DescribeModelPackage"]


def test_only_this_accounts_import_jobs_take_the_service_role(template: dict[str, Any]) -> None:
    """The conditions of "Create a service role for model import"."""
    (role,) = [
        item for key, item in of_type(template, "AWS::IAM::Role").items() if key.startswith("ImportService")
    ]
    (trust,) = role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "bedrock.amazonaws.com"}
    assert trust["Condition"]["StringEquals"] == {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}
    assert json.dumps(trust["Condition"]["ArnEquals"]).endswith(':model-import-job/*"]]}}')


def test_the_service_role_reads_one_folder_of_this_account(template: dict[str, Any]) -> None:
    """Nothing beside the weights, and no write."""
    found = statements(template, "ImportServiceRole")
    assert [(item["Action"], item["Resource"]) for item in found] == [
        ("s3:GetObject", "arn:aws:s3:::weights/models/acme-8b/*"),
        ("s3:ListBucket", "arn:aws:s3:::weights"),
    ]
    assert all(
        item["Condition"]["StringEquals"] == {"aws:ResourceAccount": {"Ref": "AWS::AccountId"}}
        for item in found
    )
    assert found[1]["Condition"]["StringLike"] == {"s3:prefix": "models/acme-8b/*"}


def test_the_run_creates_versions_and_is_denied_to_change_them(template: dict[str, Any]) -> None:
    """ "Preventing changes to existing parameters using ssm:Overwrite": a deny, as AWS documents it."""
    found = [item for item in statements(template, "ImportRole") if "ssm:PutParameter" in item["Action"]]
    denied = [item for item in found if item["Effect"] == "Deny"]
    assert len(found) == 2
    assert denied[0]["Condition"] == {"StringEquals": {"ssm:Overwrite": "true"}}
    assert found[0]["Resource"] == found[1]["Resource"]
    (passing,) = [item for item in statements(template, "ImportRole") if item["Action"] == "iam:PassRole"]
    assert passing["Condition"] == {"StringEquals": {"iam:PassedToService": "bedrock.amazonaws.com"}}


def test_a_customers_key_encrypts_the_model(stack: cdk.Stack) -> None:
    """The service role may use it as "Using customer managed key (CMK)" says."""
    model_import(stack, encryption_key=kms.Key(stack, "Key"))
    template = template_of(stack)
    assert "ImportedModelKmsKeyId" in machine(template)["States"]["Make"]["Parameters"]
    (use,) = [item for item in statements(template, "ImportServiceRole") if "kms" in json.dumps(item)]
    assert use["Action"] == ["kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey"]


def test_the_job_says_what_it_is(template: dict[str, Any]) -> None:
    """The command line finds it by its tags and reads from its first state what a run needs."""
    made = only(template, "AWS::StepFunctions::StateMachine")["Properties"]
    assert {tag["Key"]: tag["Value"] for tag in made["Tags"]} == {
        "tokenmill:job": "import",
        "tokenmill:job-name": "Import",
        "tokenmill:stack": "jobs",
    }
    described = read_description(json.dumps(machine(template)))
    assert described["input"] == {"version": "1"}
    assert described["limit_seconds"] == 24 * 3600
    assert described["paid"] is False


def test_grant_start_starts_and_watches_this_machine_alone(stack: cdk.Stack) -> None:
    """No other execution, and no stopping."""
    user = iam.Role(stack, "User", assumed_by=iam.AccountRootPrincipal())
    model_import(stack).grant_start(user)
    found = {item["Action"]: json.dumps(item["Resource"]) for item in statements(template_of(stack), "User")}
    assert set(found) == {"states:StartExecution", "states:DescribeExecution"}
    assert ":execution:" in found["states:DescribeExecution"]


@pytest.mark.parametrize("hours", [0, 37])
def test_fails_for_a_limit_that_no_run_has(stack: cdk.Stack, hours: int) -> None:
    """A run that asks once a minute has 25,000 events."""
    with pytest.raises(TokenmillError, match=f"limit_hours is {hours}; it must be 1 to 36"):
        model_import(stack, limit_hours=hours)
    assert stack.node.try_find_child("Import") is None


def test_fails_for_a_second_job_of_an_artifact(stack: cdk.Stack) -> None:
    """Two jobs could both make version 1."""
    artifact = ModelArtifact(stack, "Artifact")
    model_import(stack, artifact=artifact)
    with pytest.raises(TokenmillError, match="jobs/Artifact has a job already, jobs/Import"):
        ModelImport(stack, "Other", artifact=artifact, source=ImportSource.nova(NOVA))
    assert stack.node.try_find_child("Other") is None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ImportSource.nova("https://x"), "it must be the s3:// address of a folder"),
        (lambda: ImportSource.nova(cdk.Aws.ACCOUNT_ID), "it must be the s3:// address"),
        (lambda: ImportSource.package("nova"), "it must be a model package's ARN"),
        (lambda: ImportSource.weights(ModelSource.hugging_face()), "the source has no weights in a bucket"),
    ],
)
def test_fails_for_a_source_that_cannot_be_imported(make: Any, words: str) -> None:
    """The message says what is taken."""
    with pytest.raises(TokenmillError, match=words):
        make()
