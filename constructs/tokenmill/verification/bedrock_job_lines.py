"""A batch inference job of Amazon Bedrock, and what Step Functions makes of jobs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tokenmill.core.batch_quotas import batch_quota
from tokenmill.security import actions
from tokenmill.verification import bedrock_asks, looking
from tokenmill.verification.bedrock_asks import Model, model_here, told, tried
from tokenmill.verification.bedrock_batch_lines import ended_job_lines
from tokenmill.verification.inbox import Inbox, create_rule
from tokenmill.verification.probe import Outcome, Verdict, create_bucket, create_role, holds
from tokenmill_runtime.batch_inference_contract import ENDED, EVENT_TYPE
from tokenmill_runtime.batch_inference_job import record_id
from tokenmill_runtime.batch_inference_run import PART_FILE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tokenmill.verification.aws import Aws

SERVICE = "bedrock.amazonaws.com"
MACHINES = "states.amazonaws.com"
WORK = "work"
# One record that no model answers: Converse takes no negative number of tokens.
BROKEN = 7
LABEL = "Parts"
_JOB_SECONDS = 280 * 60
_EVENT_SECONDS = 600
_RUN_SECONDS = 900
_SHOWN = 500
_FILES = ("s3:GetObject", "s3:PutObject", "s3:ListBucket")
_BATCH = {
    "batch-profile-model", "batch-submit-rights", "batch-role-condition", "batch-name-taken", "batch-event",
    "batch-output", "batch-records", "batch-stop-ended", "batch-line-no-record",
}  # fmt: skip


def job_lines(aws: Aws, wanted: Collection[str]) -> Iterator[tuple[str, Outcome]]:
    """Answer a child of a map, start a distillation that cannot train, and run a hundred records.

    Args:
        aws: The run.
        wanted: Ids of the lines that were asked for.
    """
    if "map-child-answer" in wanted:
        yield "map-child-answer", tried(lambda: _map_child(aws))
    if {"distillation-sync", "custom-model-role"} & set(wanted):
        bucket = create_bucket(aws, "empty")
        # As the library's role for a model of Amazon Nova: no condition on who asks for it.
        role = create_role(aws, "customizer", service=SERVICE, actions=(*_FILES, "bedrock:InvokeModel"))
        if "custom-model-role" in wanted:
            yield "custom-model-role", tried(lambda: _custom_model(aws, bucket, role))
        if "distillation-sync" in wanted:
            yield "distillation-sync", tried(lambda: _distillation(aws, bucket, role))
    if _BATCH & set(wanted):
        yield from _batch(aws)


def _batch(aws: Aws) -> Iterator[tuple[str, Outcome]]:
    model = model_here(aws)
    profile = _profile(aws, model)
    bucket = create_bucket(aws, "batch")
    inbox = Inbox(aws, "batch-events", service="events.amazonaws.com")
    create_rule(aws, "batch-events", {"source": ["aws.bedrock"], "detail-type": [EVENT_TYPE]}, inbox)
    _put_records(aws, bucket)
    role = _job_role(aws, bucket, profile, model)
    submitter = _submitter(aws, profile, model, role)
    request = _request(aws, bucket, profile, role)
    name = request["jobName"]
    aws.declare("invocation-job", name)
    refused = told(
        lambda: aws.settle(
            lambda: submitter.create_model_invocation_job(**request),
            codes=(*bedrock_asks.DENIED, "ValidationException"),
        )
    )
    yield "batch-submit-rights", _taken(refused, *bedrock_asks.DENIED)
    if refused["code"] in bedrock_asks.DENIED:
        refused = told(lambda: aws.client("bedrock").create_model_invocation_job(**request))
    profile_refused = refused["code"] == "ValidationException" and "model" in refused["message"].lower()
    verdict = Verdict.FAILS if profile_refused else holds(True) if not refused["code"] else Verdict.UNCLEAR
    yield "batch-profile-model", Outcome(verdict, refused)
    if refused["code"]:
        yield (
            "batch-role-condition",
            Outcome(Verdict.FAILS if "role" in refused["message"].lower() else Verdict.UNCLEAR, refused),
        )
        return
    arn = aws.client("bedrock").create_model_invocation_job(**request)["jobArn"]
    other = told(
        lambda: aws.client("bedrock").create_model_invocation_job(
            **{**request, "clientRequestToken": f"{aws.run}other"}
        )
    )
    yield "batch-name-taken", _name_taken(aws, name, arn, other)
    yield from _ended(aws, bucket, arn, inbox, request)


def _ended(
    aws: Aws, bucket: str, arn: str, inbox: Inbox, request: dict[str, Any]
) -> Iterator[tuple[str, Outcome]]:
    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = aws.client("bedrock").get_model_invocation_job(jobIdentifier=arn)
        return found if found["status"] in ENDED else None

    job = aws.wait(f"job {arn}", look, seconds=_JOB_SECONDS)
    counts = {name: job[name] for name in job if name.endswith("RecordCount")}
    seen = {"status": job["status"], "message": job.get("message", ""), **counts}
    worked = job["status"] in ("Completed", "PartiallyCompleted")
    by_role = any(word in seen["message"].lower() for word in ("role", "denied", "permission", "authorized"))
    yield (
        "batch-role-condition",
        Outcome(Verdict.HOLDS if worked else Verdict.FAILS if by_role else Verdict.UNCLEAR, seen),
    )
    yield "batch-event", tried(lambda: _event(aws, arn, job, inbox))
    if worked:
        yield "batch-output", tried(lambda: _output(aws, bucket, arn))
        yield "batch-records", tried(lambda: _records(aws, bucket))
    yield from ended_job_lines(aws, arn, request, worked=worked)


def _profile(aws: Aws, model: Model) -> str:
    name = aws.name("batch")
    aws.declare("inference-profile", name)
    made = aws.client("bedrock").create_inference_profile(
        inferenceProfileName=name, modelSource={"copyFrom": model.arn}, tags=bedrock_asks.tags(aws)
    )
    return str(made["inferenceProfileArn"])


def _jobs_arn(aws: Aws) -> str:
    return f"arn:{aws.partition}:bedrock:{aws.region}:{aws.account}:model-invocation-job/*"


def _job_role(aws: Aws, bucket: str, profile: str, model: Model) -> str:
    """Create a role as the library does: for this account's jobs, and the model through the profile only."""
    through = {"StringEquals": {"bedrock:InferenceProfileArn": profile}}
    folder = f"arn:{aws.partition}:s3:::{bucket}"
    return create_role(
        aws,
        "batch-job",
        service=SERVICE,
        actions=("s3:ListBucket",),
        more=(
            bedrock_asks.allow(("s3:GetObject", "s3:PutObject"), f"{folder}/{WORK}/*"),
            bedrock_asks.invoke(profile),
            bedrock_asks.invoke(*model.behind, Condition=through),
        ),
        condition={
            "StringEquals": {"aws:SourceAccount": aws.account},
            "ArnLike": {"aws:SourceArn": _jobs_arn(aws)},
        },
    )


def _submitter(aws: Aws, profile: str, model: Model, role: str) -> Any:
    passing = {"StringEquals": {"iam:PassedToService": SERVICE}}
    return bedrock_asks.caller(
        aws,
        "batch-submitter",
        bedrock_asks.allow(actions.BATCH_JOB_SUBMIT, _jobs_arn(aws), profile, *model.behind),
        bedrock_asks.allow(actions.PASS_ROLE, role, Condition=passing),
        service="bedrock",
    )


def _put_records(aws: Aws, bucket: str) -> None:
    question = {"role": "user", "content": [{"text": bedrock_asks.QUESTION}]}
    lines = []
    for index in range(batch_quota(bedrock_asks.SMALL).minimum_records):
        tokens = -1 if index == BROKEN else bedrock_asks.MAX_TOKENS
        body = {"messages": [question], "inferenceConfig": {"maxTokens": tokens}}
        lines.append(json.dumps({"recordId": record_id(index), "modelInput": body}))
    aws.client("s3").put_object(Bucket=bucket, Key=f"{WORK}/{PART_FILE}", Body="\n".join(lines).encode())


def _request(aws: Aws, bucket: str, profile: str, role: str) -> dict[str, Any]:
    place = f"s3://{bucket}/{WORK}/"
    return {
        "jobName": aws.name("batch"),
        "roleArn": role,
        "clientRequestToken": f"{aws.run}first",
        "modelId": profile,
        "modelInvocationType": "Converse",
        "inputDataConfig": {"s3InputDataConfig": {"s3InputFormat": "JSONL", "s3Uri": f"{place}{PART_FILE}"}},
        "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": f"{place}out/"}},
        "timeoutDurationInHours": 24,
        "tags": bedrock_asks.tags(aws),
    }


def _taken(refused: dict[str, str], *failures: str) -> Outcome:
    if not refused["code"]:
        return Outcome(Verdict.HOLDS, refused)
    return Outcome(Verdict.FAILS if refused["code"] in failures else Verdict.UNCLEAR, refused)


def _name_taken(aws: Aws, name: str, arn: str, other: dict[str, str]) -> Outcome:
    pages = aws.client("bedrock").get_paginator("list_model_invocation_jobs").paginate(nameContains=name)
    listed = [job["jobArn"] for page in pages for job in page["invocationJobSummaries"]]
    seen = {"same_token": arn, "jobs": listed, "other_token": other}
    right = other["code"] == "ConflictException" and listed == [arn]
    return Outcome(holds(right) if listed else Verdict.UNCLEAR, seen)


def _event(aws: Aws, arn: str, job: dict[str, Any], inbox: Inbox) -> Outcome:
    def look() -> dict[str, Any] | None:
        return inbox.find(
            lambda event: (
                event["detail"].get("batchJobArn") == arn and event["detail"].get("status") == job["status"]
            )
        )

    event = looking.or_nothing(lambda: aws.wait("the job's event", look, seconds=_EVENT_SECONDS))
    details = [message.get("detail") for message in inbox.messages]
    if event is None:
        # Events come on a best-effort basis: none at all may be a lost one.
        return Outcome(Verdict.FAILS if details else Verdict.UNCLEAR, {"events": details})
    return Outcome(holds(event["detail"].get("batchJobName") == job["jobName"]), {"events": details})


def _output(aws: Aws, bucket: str, arn: str) -> Outcome:
    listed = _keys(aws, bucket)
    folder = f"{WORK}/out/{arn.rpartition('/')[2]}"
    wanted = {f"{folder}/{PART_FILE}.out", f"{folder}/manifest.json.out"}
    return Outcome(holds(wanted <= set(listed)), {"objects": listed})


def _keys(aws: Aws, bucket: str) -> list[str]:
    found = aws.client("s3").list_objects_v2(Bucket=bucket, Prefix=f"{WORK}/out/")
    return [item["Key"] for item in found.get("Contents", [])]


def _records(aws: Aws, bucket: str) -> Outcome:
    listed = _keys(aws, bucket)
    key = next((key for key in listed if key.endswith(f"{PART_FILE}.out")), None)
    if key is None:
        return Outcome(Verdict.UNCLEAR, {"objects": listed})
    body = aws.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    try:
        records = {found["recordId"]: found for found in map(json.loads, body.splitlines())}
    except (ValueError, KeyError, TypeError) as error:
        beginning = body[:_SHOWN].decode(errors="replace")
        return Outcome(Verdict.FAILS, {"error": str(error), "begins_with": beginning})
    broken = records.pop(record_id(BROKEN), {})
    answered = [found for found in records.values() if "usage" in found.get("modelOutput", {})]
    seen = {
        "records": len(records) + bool(broken),
        "answered_with_usage": len(answered),
        "first": next(iter(records.values()), None),
        "broken": broken,
    }
    return Outcome(holds(len(answered) == len(records) and "errorCode" in broken.get("error", {})), seen)


def _custom_model(aws: Aws, bucket: str, role: str) -> Outcome:
    client, name = aws.client("bedrock"), aws.name("custom")
    aws.declare("custom-model", name)

    def create() -> None:
        client.create_custom_model(
            modelName=name,
            modelSourceConfig={"s3DataSource": {"s3Uri": f"s3://{bucket}/nothing/"}},
            roleArn=role,
            modelTags=bedrock_asks.tags(aws),
        )

    refused = told(lambda: aws.settle(create, codes=("ValidationException", *bedrock_asks.DENIED)))
    said = refused["message"]
    if not refused["code"]:

        def look() -> dict[str, Any] | None:
            found: dict[str, Any] = client.get_custom_model(modelIdentifier=name)
            return None if found.get("modelStatus") == "Creating" else found

        said = aws.wait(f"custom model {name}", look, seconds=_RUN_SECONDS).get("failureMessage", "")
    about_role = any(word in said.lower() for word in ("assume", "role", "trust"))
    about_data = any(word in said.lower() for word in ("s3", "manifest", "artifact", "bucket", "file"))
    verdict = Verdict.FAILS if about_role else Verdict.HOLDS if about_data else Verdict.UNCLEAR
    return Outcome(verdict, {**refused, "said": said})


def _distillation(aws: Aws, bucket: str, role: str) -> Outcome:
    job = aws.name("distill")
    aws.declare("customization-job", job)
    teacher = {
        "TeacherModelConfig": {"TeacherModelIdentifier": bedrock_asks.LARGER},
    }
    task = {
        "Type": "Task",
        "Resource": f"arn:{aws.partition}:states:::bedrock:createModelCustomizationJob.sync",
        "Parameters": {
            "JobName": job,
            "CustomModelName": job,
            "RoleArn": role,
            "BaseModelIdentifier": f"{bedrock_asks.SMALL}:300k",
            "CustomizationType": "DISTILLATION",
            "TrainingDataConfig": {"S3Uri": f"s3://{bucket}/nothing.jsonl"},
            "OutputDataConfig": {"S3Uri": f"s3://{bucket}/out/"},
            "CustomizationConfig": {"DistillationConfig": teacher},
        },
        "End": True,
    }
    rights = (*actions.CUSTOMIZATION_START, *actions.CUSTOMIZATION_WATCH, *actions.PASS_ROLE)
    more = ("events:PutTargets", "events:PutRule", "events:DescribeRule")
    machine = _machine(aws, "distill", {"Job": task}, (*rights, *more))
    seen = looking.execution(aws, machine, seconds=_RUN_SECONDS)
    started = told(lambda: aws.client("bedrock").get_model_customization_job(jobIdentifier=job))
    if not started["code"]:
        found = aws.client("bedrock").get_model_customization_job(jobIdentifier=job)
        kept = found.get("customizationConfig", {}).get("distillationConfig")
        return Outcome(holds(bool(kept)), {**seen, "job_s_config": kept})
    of_field = "customizationconfig" in f"{seen['error']} {seen['cause']}".lower()
    of_data = any(word in seen["cause"].lower() for word in ("s3", "training data", "bucket", "object"))
    return Outcome(Verdict.FAILS if of_field else Verdict.HOLDS if of_data else Verdict.UNCLEAR, seen)


def _machine(aws: Aws, suffix: str, states: dict[str, Any], rights: tuple[str, ...]) -> str:
    name = aws.name(suffix)
    role = create_role(aws, f"{suffix}-machine", service=MACHINES, actions=rights)
    aws.declare("state-machine", name)
    made = aws.settle(
        lambda: aws.client("stepfunctions").create_state_machine(
            name=name,
            definition=json.dumps({"StartAt": next(iter(states)), "States": states}),
            roleArn=role,
            tags=[{"key": tag["Key"], "value": tag["Value"]} for tag in aws.tags],
        ),
        codes=bedrock_asks.DENIED,
    )
    return str(made["stateMachineArn"])


def _map_child(aws: Aws) -> Outcome:
    inbox = Inbox(aws, "tokens", service=MACHINES)
    url = aws.client("sqs").get_queue_url(QueueName=aws.name("tokens"))["QueueUrl"]
    ask = {
        "Type": "Task",
        "Resource": f"arn:{aws.partition}:states:::sqs:sendMessage.waitForTaskToken",
        "Parameters": {"QueueUrl": url, "MessageBody": {"token.$": "$$.Task.Token"}},
        "TimeoutSeconds": _RUN_SECONDS,
        "End": True,
    }
    parts = {
        "Type": "Map",
        "Label": LABEL,
        "ItemProcessor": {
            "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
            "StartAt": "Ask",
            "States": {"Ask": ask},
        },
        "End": True,
    }
    states = {"One": {"Type": "Pass", "Result": [1], "Next": LABEL}, LABEL: parts}
    rights = ("sqs:SendMessage", "states:StartExecution", "states:DescribeExecution", "states:StopExecution")
    machine = _machine(aws, "children", states, rights)
    both = bedrock_asks.allow(actions.TASK_ANSWER, machine, f"{machine}/{LABEL}")
    client = bedrock_asks.caller(aws, "answerer", both, service="stepfunctions")
    aws.client("stepfunctions").start_execution(stateMachineArn=machine, input="{}")
    token = aws.wait(
        "the child's token", lambda: inbox.find(lambda message: "token" in message), seconds=_EVENT_SECONDS
    )["token"]
    refused = told(
        lambda: aws.settle(
            lambda: client.send_task_success(taskToken=token, output="{}"), codes=bedrock_asks.DENIED
        )
    )
    return _taken(refused, *bedrock_asks.DENIED)
