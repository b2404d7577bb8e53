"""A file of requests through batch inference jobs of Amazon Bedrock, at the price of its batch tier."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_iam as iam

from tokenmill.batch.batch_inference_states import MAP_LABEL, InferenceStates
from tokenmill.batch.batch_inference_values import (
    BatchPrices,
    InferenceJobs,
    InferenceRecords,
    check_model,
    submitted_arns,
)
from tokenmill.batch.files import BatchFiles
from tokenmill.batch.job import CHILDREN_REASON, BatchJob
from tokenmill.bedrock.foundation_model import named_model, region_of
from tokenmill.bedrock.homes import check_place, of_hosting
from tokenmill.core._kinds import instance_or_none
from tokenmill.core.batch_quotas import batch_quota
from tokenmill.core.errors import TokenmillError
from tokenmill.security import FunctionEntry, FunctionHosting, RuntimeFunction, actions
from tokenmill.security.acknowledge import acknowledge, acknowledge_resources, any_resource
from tokenmill.security.json_text import json_text
from tokenmill.security.place import ACCOUNT_ID, REGION, arn_in
from tokenmill.security.printed import printed
from tokenmill.security.rights import Right, allow, document
from tokenmill.security.rules import calling_rule
from tokenmill_runtime.batch_inference_contract import ENDED, EVENT_TYPE, STOP_EVENT, STOPPED, VARIABLE
from tokenmill_runtime.functions import BATCH_INFERENCE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aws_cdk import aws_events as events
    from constructs import Construct

    from tokenmill.bedrock.model import IBedrockModel

FUNCTION_SECONDS = 900
ENTRY = FunctionEntry(
    runs=BATCH_INFERENCE,
    description="Plans, submits, gathers and collates batch inference jobs",
    timeout_seconds=FUNCTION_SECONDS,
    memory_mb=512,
)
# A part's answers go to the disk once, to be put into order; 50,000 answers of 16,000 tokens are 3 GB.
DISK_MB = 10_240
# botocore, bedrock: S3Uri.
BEDROCK_FOLDER = re.compile(r"[-!_*'().a-z0-9A-Z]+(?:/[-!_*'().a-z0-9A-Z]+)*")
BEDROCK = "bedrock.amazonaws.com"
PREFIX_CHARACTERS = 12
JOBS_REASON = "Bedrock makes up the ids of its jobs, so only their kind can be named."


class BatchInference(BatchJob):
    """Every line of a file becomes a record of a batch inference job; answers come back in the lines' order.

    An execution takes {"input": "input/<object>", "output": "output/<folder>"}. A line is a request's JSON
    body, or {"custom_id": "...", "body": {...}} as in OpenAI's batch files. The folder gets results.jsonl,
    errors.jsonl, cost.json and summary.json.

    The lines are cut into parts, one a job, by the service's quotas and a token budget; a child execution
    submits a part's job and waits for its event without cost. Records that failed for a reason that passes
    go through another job; fewer than a job takes are asked one by one. A job may take a day, so this is not
    for what must be there sooner. The jobs of an execution that is stopped are stopped with it.

    Args:
        scope: The parent construct.
        id: The construct's id.
        model: A foundation model's id, an inference profile's id, or an inference profile of this app.
        files: The bucket and its folders.
        records: What the lines of an input are.
        jobs: How they are made into jobs.
        prices: What a million tokens cost you, by part such as "input", "output", "batch_input" and
            "batch_output", in US dollars; the price table's otherwise.
        hosting: Network, keys, logs of the function.

    Raises:
        TokenmillError: If Bedrock runs no batch inference on the model, it is unknown, or the bucket is in
            another region.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        model: str | IBedrockModel,
        files: BatchFiles | None = None,
        records: InferenceRecords | None = None,
        jobs: InferenceJobs | None = None,
        prices: Mapping[str, float] | None = None,
        hosting: FunctionHosting | None = None,
    ) -> None:
        _check(scope, id, files, records, jobs, hosting)
        named = named_model(scope, model)
        check_model(named)
        self.prices = BatchPrices.find(named, region_of(scope), given=prices)
        super().__init__(scope, id)
        self.model, self.files = named, files or BatchFiles()
        self.records, self.jobs = records or InferenceRecords(), jobs or InferenceJobs()
        # What an application inference profile stands for is known here, and its ARN is not.
        behind = getattr(named, "source", named).model_id
        self.quota = self.jobs.quota or batch_quota(behind)
        self.bucket = self.files.bucket_for(self)
        self.role = self._role()
        self.function = self._function(hosting)
        states = InferenceStates(
            scope=self,
            function_arn=self.function.function.function_arn,
            function_seconds=FUNCTION_SECONDS,
            bucket=self.bucket.bucket_name,
            jobs_at_once=self.quota.jobs_at_once,
        )
        self.state_machine = self._machine(
            states.definition(),
            kind="batch",
            description={
                "about": f"{behind} over the lines of a file, in Bedrock's batch jobs",
                "cost": self.prices.in_words,
                "paid": True,
            },
            statements=[Right(actions.CALL_FUNCTION, [self.function.function.function_arn])],
            hosting=hosting,
        )
        self._allow_map_run(MAP_LABEL)
        self._allow_answers()
        self.rule, self.stopped_rule = self._rules(hosting)

    def _jobs_arn(self) -> str:
        return arn_in(self, "bedrock", "model-invocation-job/*")

    def _role(self) -> iam.Role:
        """Return what Bedrock reads, calls and writes with ("Create a custom service role for batch
        inference", Amazon Bedrock user guide)."""
        role = iam.Role(
            self,
            "JobRole",
            assumed_by=iam.ServicePrincipal(
                BEDROCK,
                conditions={
                    "StringEquals": {"aws:SourceAccount": ACCOUNT_ID},
                    "ArnLike": {"aws:SourceArn": self._jobs_arn()},
                },
            ),
            description=f"Reads, answers and writes the records of {self._id}",
        )
        work = self.files.output_prefix
        self._allow_folders(role, actions.BATCH_JOB_FILES, work)
        self._allow_list(role, work)
        self._grant_key(role, actions.OBJECT_KEY_WRITE)
        self.model.grant_invoke(role)
        return role

    def _function(self, hosting: FunctionHosting | None) -> RuntimeFunction:
        function = RuntimeFunction(
            self,
            "Function",
            entry=ENTRY,
            environment={VARIABLE: json_text(self, self._document())},
            hosting=hosting,
        )
        resource = function.function.node.default_child
        assert isinstance(resource, cdk.CfnResource)
        resource.add_property_override("EphemeralStorage.Size", DISK_MB)
        self._grant_files(function.role, read_output=True)
        self.model.grant_invoke(function.role)
        self._allow_jobs(function.role)
        return function

    def _document(self) -> dict[str, object]:
        key = self._bucket_key
        return {
            "model": self.model.model_id,
            "bucket": self.bucket.bucket_name,
            "role": self.role.role_arn,
            "region": REGION,
            "job_prefix": self._prefix,
            "form": self.records.form,
            "max_tokens": self.records.max_tokens,
            "minimum_records": self.quota.minimum_records,
            "part_records": self.quota.records_per_job,
            "part_tokens": self.jobs.part_tokens,
            "part_bytes": self.quota.file_bytes,
            "job_hours": self.jobs.job_hours,
            "deadline_hours": self.jobs.deadline_hours,
            "retries": self.jobs.retries,
            "tolerated_failure_percent": self.jobs.tolerated_failure_percent,
            "output_key": None if key is None else key.key_arn,
            "prices": {name: dict(tier) for name, tier in self.prices.tiers.items()},
            "price_note": self.prices.note,
        }

    @functools.cached_property
    def _prefix(self) -> str:
        """What the names of this construct's jobs begin with, and of no other's."""
        return f"{self.node.addr[-PREFIX_CHARACTERS:]}-"

    def _allow_jobs(self, role: iam.Role) -> None:
        jobs = self._jobs_arn()
        passed = {"StringEquals": {"iam:PassedToService": BEDROCK}}
        allow(
            role,
            Right(actions.BATCH_JOB_SUBMIT, [jobs, *submitted_arns(self.model)]),
            Right([*actions.BATCH_JOB_FOLLOW, *actions.BATCH_JOB_STOP], [jobs]),
            Right(actions.BATCH_JOB_LIST, ["*"]),
            Right(actions.PASS_ROLE, [self.role.role_arn], passed),
        )
        acknowledge_resources(role, {jobs: JOBS_REASON})
        acknowledge(role, {any_resource(): "A list of batch inference jobs takes no resource in a policy."})

    def _allow_answers(self) -> None:
        """Let the function answer waiting tasks and look at the executions that it works for.

        In a policy apart, as the machine names the function.
        """
        machine, executions = self.state_machine.state_machine_arn, self._executions(":*")
        # Tasks of the children of a distributed map are of "<machine>/<label>".
        rights = document(
            Right(actions.TASK_ANSWER, [machine, f"{machine}/{MAP_LABEL}"]),
            Right(actions.BATCH_RUN_LOOK, executions),
        )
        policy = iam.Policy(self, "Answers", document=rights, roles=[self.function.role])
        acknowledge(policy, {any_resource(printed(self, arn)): CHILDREN_REASON for arn in executions})

    def _rules(self, hosting: FunctionHosting | None) -> tuple[events.CfnRule, events.CfnRule]:
        """Return the rules that bring the ends of this construct's jobs, and stopped executions, to the
        function."""
        queue = None if hosting is None else hosting.dead_letter_queue
        ended = calling_rule(
            self,
            "Ended",
            function=self.function.function,
            target="Function",
            dead_letters=queue,
            description=f"Ends of the batch inference jobs of {self._id}",
            event_pattern={
                "source": ["aws.bedrock"],
                "detail-type": [EVENT_TYPE],
                "detail": {"batchJobName": [{"prefix": self._prefix}], "status": list(ENDED)},
            },
        )
        stopped = calling_rule(
            self,
            "Stopped",
            function=self.function.function,
            target="Function",
            permission="StoppedRule",
            dead_letters=queue,
            description=f"Stopped executions of {self._id}, whose jobs would go on",
            event_pattern={
                "source": ["aws.states"],
                "detail-type": [STOP_EVENT],
                "detail": {
                    "stateMachineArn": [self.state_machine.state_machine_arn],
                    "status": list(STOPPED),
                },
            },
        )
        return ended, stopped


def _check(
    scope: Construct,
    id: str,
    files: BatchFiles | None,
    records: InferenceRecords | None,
    jobs: InferenceJobs | None,
    hosting: FunctionHosting | None,
) -> None:
    instance_or_none(BatchFiles, files=files)
    instance_or_none(InferenceRecords, records=records)
    instance_or_none(InferenceJobs, jobs=jobs)
    instance_or_none(FunctionHosting, hosting=hosting)
    given = BatchFiles() if files is None else files
    own = {"files.bucket": given.bucket, "files.encryption_key": given.encryption_key}
    check_place(scope, id, own | of_hosting(hosting))
    if not BEDROCK_FOLDER.fullmatch(given.output_prefix):
        raise TokenmillError(
            f"files.output_prefix is {given.output_prefix!r:.80}; Bedrock's jobs write there, and take "
            "letters, digits and -!_*'(). between slashes"
        )
