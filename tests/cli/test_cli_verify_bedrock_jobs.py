"""The probes about jobs, logging, imports and deployments of Amazon Bedrock."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest

import support_verify
from support_fake_aws import ACCOUNT, AwsError
from support_fake_bedrock import MOMENT, PREFIX, REGION, BedrockWorld
from support_fake_services import Machines, Mail
from support_verify import only, probe
from tokenmill.verification import LINES, Verdict, bedrock_import_lines, bedrock_job_lines
from tokenmill.verification.aws import Pace
from tokenmill.verification.line import Deployment
from tokenmill_runtime.batch_inference_contract import ENDED
from tokenmill_runtime.batch_inference_job import EVENT_TYPE, record_id

if TYPE_CHECKING:
    from http.server import BaseHTTPRequestHandler
    from pathlib import Path

    from support_fake_aws import Resources

JOBS = [line.id for line in LINES if line.deployment is Deployment.BEDROCK_JOBS]
LOGGING = [line.id for line in LINES if line.deployment is Deployment.BEDROCK_LOGGING]
IMPORT = [line.id for line in LINES if line.deployment is Deployment.BEDROCK_IMPORT]
DEPLOYMENTS = [line.id for line in LINES if line.deployment is Deployment.BEDROCK_DEPLOYMENTS]
DONE = "Completed"


class Work(BedrockWorld):
    """Jobs and models that do what is claimed; the attributes say what else they do."""

    def __init__(self, resources: Resources) -> None:
        super().__init__(resources)
        self.mail = Mail(resources)
        self.machines = Machines(resources, self._end)
        self.status, self.message, self.named_event = DONE, "", True
        self.folder, self.usage, self.same_name = "/", True, "ConflictException"
        # What stopping a job that has ended is refused with, and what becomes of a line that is no record.
        self.stop_refused, self.line_status = "ValidationException", "Failed"
        self.line_message, self.line_answered = "line 101 is no JSON object", False
        self.stopped: list[str] = []
        self.profile_taken, self.submit_needs = True, "bedrock:CreateModelInvocationJob"
        self.answer_needs, self.custom_says = "states:SendTaskSuccess", "no manifest.json in S3"
        teacher = {"teacherModelConfig": {"teacherModelIdentifier": "teacher"}}
        self.distilled: dict[str, Any] = {"customizationConfig": {"distillationConfig": teacher}}
        self.setting: dict[str, Any] = {}
        self.refusals = [AwsError("ValidationException", "cannot write yet")]
        self.adds: dict[str, Any] = {}
        self.customs = [("one", "base-a"), ("two", "base-b")]
        self.deployable, self.keeps, self.freed = True, True, True
        self.reads = "bedrock:GetImportedModel"
        self._jobs: dict[str, dict[str, Any]] = {}
        self._ends: dict[str, tuple[str, str]] = {}
        self._deployed: dict[str, Any] = {}
        self._objects: dict[str, bytes] = {}
        self._install_jobs()
        self._install_settings()
        self._install_models()

    def _install_jobs(self) -> None:
        answers = self.fake.answers
        answers["bedrock", "CreateModelInvocationJob"] = self._submit
        answers["bedrock", "GetModelInvocationJob"] = self._job
        answers["bedrock", "StopModelInvocationJob"] = self._stop
        answers["bedrock", "ListModelInvocationJobs"] = lambda p: {
            "invocationJobSummaries": [
                {"jobArn": arn, "jobName": job["jobName"], "status": self._ends[arn][0]}
                for arn, job in self._jobs.items()
                if p["nameContains"] in job["jobName"]
            ]
        }
        answers["s3", "PutObject"] = self._put
        answers["s3", "GetObject"] = lambda p: {"Body": self._objects[p["Key"]]}
        answers["s3", "ListObjectsV2"] = lambda p: {
            "Contents": [{"Key": key} for key in self._objects if key.startswith(p.get("Prefix", ""))]
        }
        started = answers["stepfunctions", "StartExecution"]
        answers["stepfunctions", "StartExecution"] = lambda p: self._child(p) or started(p)
        answers["stepfunctions", "SendTaskSuccess"] = self._task_success
        answers["bedrock", "CreateCustomModel"] = self._custom
        answers["bedrock", "GetModelCustomizationJob"] = lambda p: {
            "status": "Failed",
            "jobName": p["jobIdentifier"],
            **self.distilled,
        }
        answers["bedrock", "DeleteCustomModel"] = self._none

    def _none(self, _: dict[str, Any]) -> dict[str, Any]:
        raise AwsError("ResourceNotFoundException", "there is none", 404)

    def _put(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self._objects[parameters["Key"]] = parameters["Body"]
        return {}

    def _child(self, parameters: dict[str, Any]) -> None:
        if parameters["stateMachineArn"].endswith("-children"):
            self.mail.post({"token": "t"})

    def _end(self, task: dict[str, Any]) -> dict[str, Any]:
        assert "CustomizationConfig" in task["Parameters"]
        return {"status": "FAILED", "error": "Bedrock.ValidationException", "cause": "no training data"}

    def _task_success(self, _: dict[str, Any]) -> dict[str, Any]:
        machine = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:"
        caller = self.policies[self.fake.caller][0]["Resource"]
        assert caller[1] == f"{caller[0]}/{bedrock_job_lines.LABEL}"
        assert caller[0].startswith(machine)
        self.require(self.answer_needs, caller[1])
        return {}

    def _custom(self, _: dict[str, Any]) -> dict[str, Any]:
        raise AwsError("ValidationException", self.custom_says)

    def _submit(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self.require(self.submit_needs, f"{PREFIX}:{ACCOUNT}:model-invocation-job/x")
        self.require(self.submit_needs, parameters["modelId"])
        if not self.profile_taken:
            raise AwsError("ValidationException", "the model identifier is invalid")
        for arn, job in self._jobs.items():
            if job["clientRequestToken"] == parameters["clientRequestToken"]:
                return {"jobArn": arn}
            if self.same_name and job["jobName"] == parameters["jobName"]:
                raise AwsError(self.same_name, "there is a job of the name")
        arn = f"{PREFIX}:{ACCOUNT}:model-invocation-job/{len(self._jobs):012d}"
        self._jobs[arn] = parameters
        self._run(arn, parameters["inputDataConfig"]["s3InputDataConfig"]["s3Uri"])
        detail = {"batchJobArn": arn, "status": self._ends[arn][0]}
        named = {"batchJobName": parameters["jobName"]} if self.named_event else {}
        self.mail.post({"detail-type": EVENT_TYPE, "detail": {**detail, **named}})
        return {"jobArn": arn}

    def _run(self, arn: str, uri: str) -> None:
        given = self._objects[uri.removeprefix("s3://").partition("/")[2]]
        records = [json.loads(line) for line in given.splitlines()]
        if all(isinstance(record, dict) for record in records):
            self._ends[arn] = self.status, self.message
            self._write(arn, records)
            return
        assert records[:-1] == self.records_given
        self._ends[arn] = self.line_status, self.line_message
        if self.line_answered:
            self._objects["work/no-record/out/000000000001/part.jsonl.out"] = b"{}"

    def _write(self, arn: str, records: list[dict[str, Any]]) -> None:
        folder = f"work/out{self.folder}{arn.rpartition('/')[2]}/"
        self.records_given = records
        lines = []
        for record in records:
            broken = record["modelInput"]["inferenceConfig"]["maxTokens"] < 0
            output = {"usage": {"inputTokens": 1}} if self.usage else {"text": "yes"}
            found = {"error": {"errorCode": 400}} if broken else {"modelOutput": output}
            lines.append({"recordId": record["recordId"], **found})
        self._records = lines
        self._objects[f"{folder}part.jsonl.out"] = "\n".join(map(json.dumps, lines)).encode()
        self._objects[f"{folder}manifest.json.out"] = b"{}"

    def _job(self, parameters: dict[str, Any]) -> dict[str, Any]:
        status, message = self._ends[parameters["jobIdentifier"]]
        job = self._jobs[parameters["jobIdentifier"]]
        return {"jobName": job["jobName"], "status": status, "message": message}

    def _stop(self, parameters: dict[str, Any]) -> dict[str, Any]:
        arn = unquote(parameters["jobIdentifier"])
        if self._ends[arn][0] in ENDED:
            if self.stop_refused:
                raise AwsError(self.stop_refused, "the job has ended")
            return {}
        self._ends[arn] = "Stopped", ""
        self.stopped.append(self._jobs[arn]["jobName"])
        return {}

    def _install_settings(self) -> None:
        answers = self.fake.answers
        answers["bedrock", "GetModelInvocationLoggingConfiguration"] = lambda _: (
            {"loggingConfig": {**self.setting, **self.adds}} if self.setting else {}
        )
        answers["bedrock", "PutModelInvocationLoggingConfiguration"] = self._put_setting
        answers["bedrock", "DeleteModelInvocationLoggingConfiguration"] = lambda _: self.setting.clear() or {}
        answers["logs", "CreateLogGroup"] = lambda p: self.resources.create("Logs", p["logGroupName"]) or {}
        answers["logs", "DeleteLogGroup"] = lambda p: (
            self.resources.live["Logs"].discard(p["logGroupName"]) or {}
        )

    def _put_setting(self, parameters: dict[str, Any]) -> dict[str, Any]:
        if self.refusals:
            raise self.refusals.pop()
        self.setting = parameters["loggingConfig"]
        return {}

    def _install_models(self) -> None:
        answers = self.fake.answers
        answers["bedrock", "CreateModelImportJob"] = self._import
        answers["bedrock", "GetModelImportJob"] = lambda p: {
            "status": DONE,
            "importedModelArn": p["jobIdentifier"].replace("import-job", "imported"),
        }
        answers["bedrock", "ListModelImportJobs"] = lambda _: {"modelImportJobSummaries": []}
        answers["bedrock", "GetImportedModel"] = self._imported
        answers["bedrock", "DeleteImportedModel"] = lambda p: (
            self.drop("Imported", p["modelIdentifier"]) or {}
        )
        answers["bedrock", "ListCustomModels"] = lambda _: {
            "modelSummaries": list(map(self._summary, self.customs))
        }
        answers["bedrock", "GetCustomModel"] = self._custom_model
        answers["bedrock", "CreateCustomModelDeployment"] = self._deploy
        answers["bedrock", "GetCustomModelDeployment"] = lambda p: self._deployed or self._none(p)
        answers["bedrock", "UpdateCustomModelDeployment"] = self._update
        answers["bedrock", "DeleteCustomModelDeployment"] = lambda _: self._deployed.clear() or {}
        answers["bedrock-runtime", "Converse"] = self._ask
        self.fake.raw["/hub/"] = self._hub

    def _hub(self, request: BaseHTTPRequestHandler) -> None:
        described = {"sha": "main", "siblings": [{"rfilename": "config.json"}, {"rfilename": "logo.png"}]}
        body = json.dumps(described).encode()
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def _import(self, parameters: dict[str, Any]) -> dict[str, Any]:
        assert [key for key in self._objects] == [f"{bedrock_import_lines.FOLDER}/config.json"]
        self.imported = self.make("Imported", parameters["importedModelName"], resource="imported-model")
        return {"jobArn": self.imported.replace("imported-model", "import-job-model")}

    def _imported(self, parameters: dict[str, Any]) -> dict[str, Any]:
        arn = self.find("Imported", parameters["modelIdentifier"])
        self.require(self.reads, arn)
        return {"modelArn": arn}

    @staticmethod
    def _summary(custom: tuple[str, str]) -> dict[str, Any]:
        name, base = custom
        arn = f"{PREFIX}:{ACCOUNT}:custom-model/base/{name}"
        return {"modelArn": arn, "modelName": name, "creationTime": MOMENT, "baseModelArn": base}

    def _custom_model(self, parameters: dict[str, Any]) -> dict[str, Any]:
        (found,) = [
            c for c in map(self._summary, self.customs) if c["modelName"] == parameters["modelIdentifier"]
        ]
        self.require("bedrock:GetCustomModel", found["modelArn"])
        return {"modelArn": found["modelArn"]}

    def _deploy(self, parameters: dict[str, Any]) -> dict[str, Any]:
        again = "CreateCustomModelDeployment" in self.fake.operations("bedrock")[:-1]
        if not self.deployable or (again and not self.freed):
            raise AwsError("ValidationException", "cannot be deployed")
        arn = f"{PREFIX}:{ACCOUNT}:custom-model-deployment/000000000000"
        self._deployed = {
            "customModelDeploymentArn": arn,
            "modelDeploymentName": parameters["modelDeploymentName"],
            "modelArn": parameters["modelArn"],
            "status": "Active",
        }
        return {"customModelDeploymentArn": arn}

    def _update(self, parameters: dict[str, Any]) -> dict[str, Any]:
        details = {"modelArn": parameters["modelArn"], "updateStatus": "UpdateFailed"}
        self._deployed["updateDetails"] = details
        if not self.keeps:
            self._deployed["modelArn"] = parameters["modelArn"]
        return {"customModelDeploymentArn": self._deployed["customModelDeploymentArn"]}

    def _ask(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self.count(parameters["modelId"])
        return self.said("yes")


@pytest.fixture
def work(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> Work:
    monkeypatch.setattr(support_verify, "HURRIED", Pace(poll_seconds=0.01, settle_seconds=0.05))
    monkeypatch.setattr(bedrock_job_lines, "_EVENT_SECONDS", 0.2)
    monkeypatch.setattr(bedrock_import_lines, "HUB", f"{resources.fake.url}/hub")
    return Work(resources)


@pytest.mark.parametrize("lines", [JOBS, LOGGING, IMPORT, DEPLOYMENTS])
def test_an_aws_that_does_what_is_claimed_makes_every_line_hold(
    work: Work, tmp_path: Path, lines: list[str]
) -> None:
    result = probe(tmp_path, *lines)
    wrong = {piece.line: piece.observations for piece in result.evidence if piece.verdict != "holds"}
    assert (wrong, work.resources.left, result.left) == ({}, set(), ())
    assert (work.setting, work._deployed) == ({}, {})


@pytest.mark.parametrize(
    ("line", "change"),
    [
        ("map-child-answer", {"answer_needs": "states:More"}),
        ("custom-model-role", {"custom_says": "could not assume the role"}),
        ("distillation-sync", {"distilled": {}}),
        ("batch-submit-rights", {"submit_needs": "bedrock:More"}),
        ("batch-profile-model", {"profile_taken": False}),
        ("batch-role-condition", {"status": "Failed", "message": "the role cannot be assumed"}),
        ("batch-name-taken", {"same_name": "ValidationException"}),
        ("batch-name-taken", {"same_name": ""}),
        ("batch-event", {"named_event": False}),
        ("batch-output", {"folder": "/there/"}),
        ("batch-records", {"usage": False}),
        ("batch-stop-ended", {"stop_refused": "ConflictException"}),
        ("batch-stop-ended", {"stop_refused": ""}),
        ("batch-line-no-record", {"line_status": "Completed", "line_message": ""}),
        ("batch-line-no-record", {"line_status": "PartiallyCompleted", "line_message": ""}),
        ("batch-line-no-record", {"line_answered": True}),
        (
            "logging-new-role",
            {"refusals": [AwsError("ValidationException"), AwsError("AccessDeniedException")]},
        ),
        ("logging-read-back", {"adds": {"textDataDeliveryEnabled": False}}),
        ("imported-by-name", {"reads": "bedrock:More"}),
        ("imported-metric-id", {"counts_as": lambda arn: arn.rpartition("/")[2]}),
        ("custom-on-demand", {"deployable": False}),
        ("deployment-metric-id", {"counts_as": lambda arn: arn.rpartition("/")[2]}),
        ("deployment-failed-update", {"keeps": False}),
        ("deployment-name-freed", {"freed": False}),
    ],
)
def test_another_behaviour_fails(work: Work, tmp_path: Path, line: str, change: dict[str, Any]) -> None:
    for name, value in change.items():
        setattr(work, name, value)
    evidence = only(probe(tmp_path, line))
    assert evidence.verdict is Verdict.FAILS, evidence.observations
    assert work.resources.left == set()


@pytest.mark.parametrize(
    ("line", "change"),
    [
        ("custom-model-role", {"custom_says": "try again"}),
        ("batch-role-condition", {"status": "Expired", "message": "it waited for too long"}),
        ("batch-output", {"status": "Failed"}),
        ("batch-stop-ended", {"stop_refused": "ThrottlingException"}),
        ("batch-line-no-record", {"line_message": "for more information see the role"}),
        ("batch-line-no-record", {"line_status": "Expired"}),
        ("batch-line-no-record", {"status": "Failed"}),
        ("logging-new-role", {"refusals": []}),
        ("deployment-failed-update", {"customs": [("one", "base-a")]}),
        ("custom-on-demand", {"customs": []}),
    ],
)
def test_what_says_nothing_is_unclear(work: Work, tmp_path: Path, line: str, change: dict[str, Any]) -> None:
    for name, value in change.items():
        setattr(work, name, value)
    assert only(probe(tmp_path, line)).verdict is Verdict.UNCLEAR


def test_logging_that_is_on_is_left_alone(work: Work, tmp_path: Path) -> None:
    """The setting is the account's: a probe that finds one neither changes nor deletes it."""
    work.setting = {"cloudWatchConfig": {"logGroupName": "theirs", "roleArn": "r"}}
    assert only(probe(tmp_path, "logging-new-role")).verdict is Verdict.UNCLEAR
    assert work.setting["cloudWatchConfig"]["logGroupName"] == "theirs"
    assert not any(operation.startswith("Put") for operation in work.fake.operations("bedrock"))


@pytest.mark.parametrize("status", ["Scheduled", "InProgress"])
def test_a_job_that_was_validated_is_stopped_before_it_costs(work: Work, tmp_path: Path, status: str) -> None:
    """Its records are a hundred questions: once validation has let the line pass, nothing more is learned."""
    work.line_status, work.line_message = status, ""
    result = probe(tmp_path, "batch-line-no-record")
    assert (only(result).verdict, result.left) == (Verdict.FAILS, ())
    (stopped,) = work.stopped
    assert stopped.endswith("-no-record")


def test_a_job_has_as_many_records_as_one_must_have(work: Work, tmp_path: Path) -> None:
    probe(tmp_path, "batch-output")
    assert len(work._records) == 100
    assert work._records[bedrock_job_lines.BROKEN]["recordId"] == record_id(bedrock_job_lines.BROKEN)
