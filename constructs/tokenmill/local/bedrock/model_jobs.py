"""Jobs that make models: customization (fine-tuning, distillation) and import.

Sources: Amazon Bedrock API Reference, "CreateModelCustomizationJob", "GetModelCustomizationJob"
(InProgress, Completed, Failed, Stopping, Stopped), "StopModelCustomizationJob", "CreateModelImportJob",
"GetModelImportJob" (InProgress, Completed, Failed); User Guide, "Monitor model customization jobs".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenmill.local.aws_requests import AwsError
from tokenmill.local.bedrock.custom_models import CustomModel
from tokenmill.local.bedrock.job_records import ENDED, Job, Jobs
from tokenmill.local.bedrock.models import foundation_arn, foundation_ids, plain_model

if TYPE_CHECKING:
    from tokenmill.local.aws_requests import Operation, Params, Scope
    from tokenmill.local.bedrock.control import BedrockControl

SOURCE = "aws.bedrock"
CUSTOMIZATION_EVENT = "Model Customization Job State Change"


class ModelJobs:
    """The jobs of every account. `failing` are names of jobs that end Failed, with the message.

    Args:
        control: The control plane.
    """

    def __init__(self, control: BedrockControl) -> None:
        self._control = control
        self.failing: dict[str, str] = {}
        self._customizations = Jobs(
            control,
            "CreateModelCustomizationJob",
            status="InProgress",
            tags="jobTags",
            moved=self._publish_customization,
        )
        self._imports = Jobs(
            control,
            "CreateModelImportJob",
            status="InProgress",
            tags="jobTags",
            moved=lambda scope, job: None,
        )

    def operations(self) -> dict[str, Operation]:
        """Return what runs the operations."""
        return {
            "CreateModelCustomizationJob": self._customize,
            "GetModelCustomizationJob": self._get_customization,
            "ListModelCustomizationJobs": self._list_customizations,
            "StopModelCustomizationJob": self._stop,
            "CreateModelImportJob": self._import,
            "GetModelImportJob": self._get_import,
            "ListModelImportJobs": self._list_imports,
        }

    def tick(self) -> None:
        """End the jobs whose time has come."""
        now = self._control.clock()
        for jobs in (self._customizations, self._imports):
            for scope, job in jobs.all():
                if job.due is None or now < job.due:
                    continue
                if job.status == "Stopping":
                    jobs.move(scope, job, "Stopped", self._control.now())
                elif job.name in self.failing:
                    jobs.move(scope, job, "Failed", self._control.now(), self.failing[job.name])
                else:
                    self._complete(scope, job, jobs)

    def _complete(self, scope: Scope, job: Job, jobs: Jobs) -> None:
        control, request = self._control, job.request
        imported = jobs is self._imports
        source = {"jobName": job.name, "jobArn": job.arn}
        if imported:
            model = CustomModel(
                arn=scope.arn("bedrock", f"imported-model/{control.new_id(scope)}"),
                name=request["importedModelName"],
                base=None,
                created=control.now(),
                details={
                    **source,
                    "modelDataSource": request["modelDataSource"],
                    "instructSupported": True,
                    "modelArchitecture": "llama",
                },
            )
            tags = request.get("importedModelTags")
        else:
            base = plain_model(request["baseModelIdentifier"])
            model = CustomModel(
                arn=scope.arn("bedrock", f"custom-model/{base}/{control.new_id(scope)}"),
                name=request["customModelName"],
                base=foundation_arn(scope, base),
                created=control.now(),
                details={
                    **source,
                    "customizationType": request.get("customizationType", "FINE_TUNING"),
                    "hyperParameters": request.get("hyperParameters", {}),
                    "trainingDataConfig": request["trainingDataConfig"],
                    "outputDataConfig": request["outputDataConfig"],
                },
            )
            tags = request.get("customModelTags")
        control.custom_models.add(scope, model, tags)
        job.made = model.arn
        jobs.move(scope, job, "Completed", control.now())

    def _customize(self, scope: Scope, params: Params) -> Params:
        if plain_model(params["baseModelIdentifier"]) not in foundation_ids():
            raise AwsError("ValidationException", "The provided model identifier is invalid.")
        distilling = params.get("customizationType") == "DISTILLATION"
        if distilling != ("distillationConfig" in params.get("customizationConfig", {})):
            raise AwsError("ValidationException", "DISTILLATION and distillationConfig go together.")
        kind = f"model-customization-job/{plain_model(params['baseModelIdentifier'])}"
        return self._start(scope, params, self._customizations, kind, params["customModelName"])

    def _import(self, scope: Scope, params: Params) -> Params:
        return self._start(scope, params, self._imports, "model-import-job", params["importedModelName"])

    def _start(self, scope: Scope, params: Params, jobs: Jobs, kind: str, model: str) -> Params:
        return jobs.begin(
            scope,
            params,
            kind,
            seconds=self._control.behaviour.job_seconds,
            check=lambda: self._control.custom_models.check_name(scope, model),
        )

    def _get_customization(self, scope: Scope, params: Params) -> Params:
        self.tick()
        job = self._customizations.existing(scope, params["jobIdentifier"])
        request = job.request
        return {
            **job.described(),
            "outputModelName": request["customModelName"],
            "outputModelArn": job.made,
            "clientRequestToken": request.get("clientRequestToken"),
            "roleArn": request["roleArn"],
            "failureMessage": job.message,
            "baseModelArn": foundation_arn(scope, plain_model(request["baseModelIdentifier"])),
            "hyperParameters": request.get("hyperParameters", {}),
            "trainingDataConfig": request["trainingDataConfig"],
            "validationDataConfig": request.get("validationDataConfig", {"validators": []}),
            "outputDataConfig": request["outputDataConfig"],
            "customizationType": request.get("customizationType", "FINE_TUNING"),
            "vpcConfig": request.get("vpcConfig"),
            "customizationConfig": request.get("customizationConfig"),
        }

    def _list_customizations(self, scope: Scope, params: Params) -> Params:
        self.tick()
        return self._customizations.listing(
            scope, params, self._summary, into="modelCustomizationJobSummaries", made="creationTime"
        )

    @staticmethod
    def _summary(scope: Scope, job: Job) -> Params:
        return {
            **job.described(),
            "baseModelArn": foundation_arn(scope, plain_model(job.request["baseModelIdentifier"])),
            "customModelArn": job.made,
            "customModelName": job.request["customModelName"],
            "customizationType": job.request.get("customizationType", "FINE_TUNING"),
        }

    def _stop(self, scope: Scope, params: Params) -> Params:
        self.tick()
        job = self._customizations.existing(scope, params["jobIdentifier"])
        if job.status in ENDED:
            raise AwsError("ConflictException", f"The job {job.name} is {job.status}.")
        job.due = self._control.clock() + self._control.behaviour.updating_seconds
        self._customizations.move(scope, job, "Stopping", self._control.now())
        return {}

    def _get_import(self, scope: Scope, params: Params) -> Params:
        self.tick()
        job = self._imports.existing(scope, params["jobIdentifier"])
        request = job.request
        return {
            **self._import_summary(scope, job),
            "roleArn": request["roleArn"],
            "modelDataSource": request["modelDataSource"],
            "failureMessage": job.message,
            "vpcConfig": request.get("vpcConfig"),
        }

    def _list_imports(self, scope: Scope, params: Params) -> Params:
        self.tick()
        return self._imports.listing(
            scope, params, self._import_summary, into="modelImportJobSummaries", made="creationTime"
        )

    @staticmethod
    def _import_summary(scope: Scope, job: Job) -> Params:
        return {
            **job.described(),
            "importedModelName": job.request["importedModelName"],
            "importedModelArn": job.made,
        }

    def _publish_customization(self, scope: Scope, job: Job) -> None:
        detail = {
            "version": "0.0",
            "jobArn": job.arn,
            "jobName": job.name,
            "jobStatus": job.status,
            "outputModelName": job.request["customModelName"],
            "outputModelArn": job.made or "",
            "roleArn": job.request["roleArn"],
            "failureMessage": job.message or "",
        }
        self._control.publish(scope, SOURCE, CUSTOMIZATION_EVENT, detail, [job.arn])
