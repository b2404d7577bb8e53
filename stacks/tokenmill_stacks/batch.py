"""Files of requests in, files of answers out, on the service that a plan chose by price and deadline."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import aws_cdk as cdk

from tokenmill.batch.files import BatchFiles
from tokenmill.core.batch_settings import ASYNC, BEDROCK_BATCH
from tokenmill.core.errors import TokenmillError
from tokenmill.security import FunctionHosting
from tokenmill_stacks.profile import DEV, DEV_LOG_DAYS, PROD_LOG_DAYS

if TYPE_CHECKING:
    from constructs import Construct

    from tokenmill.batch.job import BatchJob
    from tokenmill.core.batch_plan import BatchPlan
    from tokenmill.core.batch_settings import BatchSettings
    from tokenmill.endpoints import ModelSource, Serving


class BatchStack(cdk.Stack):
    """A bucket, a state machine over its files, and the service that answers their lines.

    Start a run with `tokenmill jobs run`. The choice and its reason stand in the template's metadata and are
    printed at synthesis. Outputs: Files, the bucket's name; StateMachine.

    Args:
        scope: The app.
        id: The stack's id, which becomes its name.
        settings: The section [batch] of tokenmill.toml.
        plan: The committed choice.
        env: Account and region.
        files: The bucket and its folders; one of the stack's own otherwise.
        source: Where SageMaker's weights and image come from; the Hugging Face Hub otherwise.

    Raises:
        TokenmillError: If the plan has nothing to take, or is of another region.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        settings: BatchSettings,
        plan: BatchPlan,
        env: cdk.Environment | None = None,
        files: BatchFiles | None = None,
        source: ModelSource | None = None,
    ) -> None:
        chosen = plan.chosen
        if plan.region != settings.region:
            raise TokenmillError(
                f"the plan is for {plan.region} and batch.region is {settings.region}; run: tokenmill plan "
                "batch --write"
            )
        super().__init__(scope, id, env=env, description=f"Batch on {chosen.runs_on} by tokenmill")
        self.settings, self.plan = settings, plan
        self.files = files or BatchFiles()
        ephemeral = settings.profile == DEV
        self.hosting = FunctionHosting(
            log_retention_days=DEV_LOG_DAYS if ephemeral else PROD_LOG_DAYS, ephemeral=ephemeral
        )
        self.job: BatchJob
        if chosen.kind == BEDROCK_BATCH:
            self.job = self._on_bedrock(chosen.runs_on)
        elif chosen.kind == ASYNC:
            self.job = self._on_queue(source)
        else:
            self.job = self._on_transform(source)
        self._tell()

    def _on_bedrock(self, model: str) -> BatchJob:
        from tokenmill.batch.batch_inference import BatchInference
        from tokenmill.batch.batch_inference_values import InferenceJobs, InferenceRecords
        from tokenmill.bedrock.inference_profile import InferenceProfile
        from tokenmill.core.bedrock_prices import longest_texts

        load = self.plan.load
        # Room for answers above the mean, and no more than the model gives, which it would refuse.
        room = 4 * load.output_tokens
        longest = longest_texts(model)[1]
        return BatchInference(
            self,
            "Job",
            model=InferenceProfile(self, "Model", model=model),
            files=self.files,
            records=InferenceRecords(max_tokens=room if longest is None else min(room, longest)),
            jobs=InferenceJobs(deadline_hours=load.deadline_hours),
            prices=self.settings.token_prices,
            hosting=self.hosting,
        )

    def _on_transform(self, source: ModelSource | None) -> BatchJob:
        from tokenmill.batch.batch_transform import BatchTransform, TransformJob
        from tokenmill.endpoints import EndpointHosting

        chosen, load = self.plan.chosen, self.plan.load
        return BatchTransform(
            self,
            "Job",
            serving=self._serving(),
            source=source,
            files=self.files,
            job=TransformJob(instances=chosen.instances, limit_hours=max(1, math.ceil(load.deadline_hours))),
            hosting=EndpointHosting(functions=self.hosting),
        )

    def _on_queue(self, source: ModelSource | None) -> BatchJob:
        from tokenmill.batch.async_fan_out import AsyncFanOut
        from tokenmill.core.workload import Capacity
        from tokenmill.endpoints import AsyncEndpoint, EndpointHosting
        from tokenmill.scaling import BacklogScaling

        capacity = Capacity(minimum=0, maximum=self.plan.chosen.instances, initial=1)
        self.endpoint = AsyncEndpoint(
            self,
            "Endpoint",
            serving=self._serving(),
            source=source,
            capacity=capacity,
            hosting=EndpointHosting(functions=self.hosting),
        )
        self.scaling = BacklogScaling(self, "Scaling", endpoint=self.endpoint, capacity=capacity)
        return AsyncFanOut(self, "Job", endpoint=self.endpoint, files=self.files, hosting=self.hosting)

    def _serving(self) -> Serving:
        from tokenmill.endpoints import Serving

        if self.plan.serving is None:
            raise TokenmillError(
                f"the plan chose {self.plan.chosen.kind} and says nothing of its instances; run: tokenmill "
                "plan batch --write"
            )
        return Serving.from_plan(self.plan.serving)

    def _tell(self) -> None:
        plan = self.plan
        choice = {"kind": plan.chosen.kind, "reason": plan.reason, "plan": plan.hash}
        self.template_options.metadata = {**(self.template_options.metadata or {}), "tokenmill": choice}
        cdk.Annotations.of(self).add_info(f"batch: {plan.reason}")
        cdk.CfnOutput(self, "Files", value=self.job.bucket.bucket_name)
        cdk.CfnOutput(self, "StateMachine", value=self.job.state_machine.state_machine_arn)
