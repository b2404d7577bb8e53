"""Batch inference: model invocation jobs and their statuses; who answers their records is set from outside.

Sources: Amazon Bedrock API Reference, "CreateModelInvocationJob", "GetModelInvocationJob" (Submitted,
Validating, Scheduled, InProgress, Completed, PartiallyCompleted, Failed, Stopping, Stopped, Expired),
"StopModelInvocationJob"; User Guide, "Monitor batch inference jobs" ("Batch Inference Job State Change").
"""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING

from tokenmill.local.aws_requests import AwsError
from tokenmill.local.bedrock.job_records import ENDED, Job, Jobs
from tokenmill.local.bedrock.models import foundation_ids, plain_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from tokenmill.local.aws_requests import Operation, Params, Scope
    from tokenmill.local.bedrock.control import BedrockControl

SOURCE = "aws.bedrock"
EVENT = "Batch Inference Job State Change"
WAY = {"Submitted": "Validating", "Validating": "Scheduled", "Scheduled": "InProgress"}
LONGEST_HOURS = 168


class InvocationJobs:
    """The jobs of every account.

    `validate` looks at the input of a job that has become Validating, and calls `validated` or `end`; `run`
    answers the records of one that has become InProgress, and calls `end`. Each runs in a thread of its own.
    Without them every input is valid, and a job stays InProgress until it expires.

    Args:
        control: The control plane.
    """

    def __init__(self, control: BedrockControl) -> None:
        self._control = control
        self.validate: Callable[[Scope, Job], None] | None = None
        self.run: Callable[[Scope, Job], None] | None = None
        self.background: Callable[[Callable[[], None]], None] = _in_a_thread
        self._jobs = Jobs(
            control, "CreateModelInvocationJob", status="Submitted", tags="tags", moved=self._publish
        )

    def operations(self) -> dict[str, Operation]:
        """Return what runs the operations."""
        return {
            "CreateModelInvocationJob": self._create,
            "GetModelInvocationJob": self._get,
            "ListModelInvocationJobs": self._list,
            "StopModelInvocationJob": self._stop,
        }

    def tick(self) -> None:
        """Give jobs the statuses whose time has come."""
        with self._control.lock:
            now = self._control.clock()
            for scope, job in self._jobs.all():
                while job.status in WAY and job.due is not None and now >= job.due:
                    self._advance(scope, job)
                if job.status == "Stopping" and job.due is not None and now >= job.due:
                    self._jobs.move(scope, job, "Stopped", self._control.now())
                elif job.status not in ENDED and self._control.now() >= self._expires(job):
                    self._jobs.move(scope, job, "Expired", self._control.now())

    def validated(self, job: Job, records: int) -> None:
        """Let a job go on whose input is valid; one that was stopped or has expired stays so.

        Args:
            job: The job.
            records: How many records it has.
        """
        with self._control.lock:
            if job.status == "Validating":
                job.progress(total=records, processed=0, success=0, error=0)
                job.due = self._control.clock() + self._control.behaviour.job_step_seconds

    def end(self, scope: Scope, job: Job, status: str, message: str | None = None) -> None:
        """End a job that is validated or runs; one that was stopped or has expired stays so.

        Args:
            scope: Whose.
            job: The job, with its counts.
            status: "Completed", "PartiallyCompleted" or "Failed".
            message: Why.
        """
        with self._control.lock:
            if job.status in ("Validating", "InProgress"):
                self._jobs.move(scope, job, status, self._control.now(), message)

    def _advance(self, scope: Scope, job: Job) -> None:
        assert job.due is not None
        job.due += self._control.behaviour.job_step_seconds
        self._jobs.move(scope, job, WAY[job.status], self._control.now())
        work = {"Validating": self.validate, "InProgress": self.run}.get(job.status)
        if work is not None:
            # What does the work says when the job goes on.
            job.due = None
            self.background(lambda: work(scope, job))

    @staticmethod
    def _expires(job: Job) -> datetime:
        return job.created + timedelta(hours=job.request.get("timeoutDurationInHours", LONGEST_HOURS))

    def _create(self, scope: Scope, params: Params) -> Params:
        return self._jobs.begin(
            scope,
            params,
            "model-invocation-job",
            seconds=self._control.behaviour.job_step_seconds,
            check=lambda: self._check_model(scope, params["modelId"]),
        )

    def _check_model(self, scope: Scope, identifier: str) -> None:
        if ":inference-profile/" in identifier or ":application-inference-profile/" in identifier:
            return
        if self._control.custom_models.find(scope, identifier) is not None:
            return
        plain = plain_model(identifier)
        if plain not in foundation_ids() and plain.partition(".")[2] not in foundation_ids():
            raise AwsError("ValidationException", "The provided model identifier is invalid.")

    def _get(self, scope: Scope, params: Params) -> Params:
        self.tick()
        return self._describe(scope, self._jobs.existing(scope, params["jobIdentifier"]))

    def _describe(self, scope: Scope, job: Job) -> Params:
        request = job.request
        return {
            **job.described(made="submitTime"),
            "modelId": request["modelId"],
            "clientRequestToken": request.get("clientRequestToken"),
            "roleArn": request["roleArn"],
            "message": job.message,
            "inputDataConfig": request["inputDataConfig"],
            "outputDataConfig": request["outputDataConfig"],
            "vpcConfig": request.get("vpcConfig"),
            "timeoutDurationInHours": request.get("timeoutDurationInHours"),
            "jobExpirationTime": self._expires(job),
            "modelInvocationType": request.get("modelInvocationType", "InvokeModel"),
            **{f"{name}RecordCount": count for name, count in job.counts.items()},
        }

    def _list(self, scope: Scope, params: Params) -> Params:
        self.tick()
        return self._jobs.listing(
            scope, params, self._describe, into="invocationJobSummaries", made="submitTime"
        )

    def _stop(self, scope: Scope, params: Params) -> Params:
        self.tick()
        job = self._jobs.existing(scope, params["jobIdentifier"])
        if job.status in ENDED or job.status == "Stopping":
            raise AwsError("ValidationException", f"The job cannot be stopped. State was: {job.status}")
        job.due = self._control.clock() + self._control.behaviour.job_step_seconds
        self._jobs.move(scope, job, "Stopping", self._control.now())
        return {}

    def _publish(self, scope: Scope, job: Job) -> None:
        detail = {
            "version": "0.0",
            "accountId": scope.account,
            "batchJobName": job.name,
            "batchJobArn": job.arn,
            "batchModelId": job.request["modelId"],
            "status": job.status,
            "failureMessage": job.message or "",
            "creationTime": job.created.isoformat(),
        }
        self._control.publish(scope, SOURCE, EVENT, detail, [job.arn])


def _in_a_thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="batch inference", daemon=True).start()
