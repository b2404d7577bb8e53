"""One of everything for Amazon Bedrock, or nothing, as the argument says."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import aws_cdk as cdk

if TYPE_CHECKING:
    from constructs import Construct

ACCOUNT = "111122223333"
REGION = "us-east-1"
MODEL = "amazon.nova-lite-v1:0"
WORDS = "Answer in one sentence, and name the page of the manual that says so. "


class Everything(cdk.Stack):
    """Units, a profile, a router, logging, a guardrail, a prompt, batch inference, custom models."""

    def __init__(self, scope: Construct, id: str) -> None:
        super().__init__(scope, id, env=cdk.Environment(account=ACCOUNT, region=REGION))
        self._models()
        self._texts()
        self._jobs()

    def _models(self) -> None:
        from tokenmill.bedrock import (
            Commitment,
            InferenceProfile,
            InvocationLogging,
            LogStream,
            PromptRouter,
            ProvisionedThroughput,
            TokenQuota,
            UnitCapacity,
        )
        from tokenmill.scaling import OfficeHours

        cross_region = InferenceProfile.cross_region("us.amazon.nova-lite-v1:0", region=REGION)
        self.profile = InferenceProfile(self, "Profile", model=cross_region, tags={"team": "support"})
        PromptRouter(
            self,
            "Router",
            models=["amazon.nova-lite-v1:0", "amazon.nova-pro-v1:0"],
            fallback="amazon.nova-pro-v1:0",
            quality_difference=10,
        )
        units = ProvisionedThroughput(
            self,
            "Units",
            model="amazon.nova-lite-v1:0:24k",
            units=1,
            commitment=Commitment.NONE,
            fallback=self.profile,
            hourly_usd=20,
        )
        units.add_schedule("OfficeHours", OfficeHours(start="08:00", end="18:00"), units=2)
        capacity = UnitCapacity(input_tokens_per_minute=100_000, output_tokens_per_minute=20_000)
        units.scale_on_tokens(capacity=capacity, floor=1, ceiling=3, daily_usd=2000)
        InvocationLogging(self, "Logging", stream=LogStream())
        TokenQuota(self, "Quota", models=[self.profile], tokens_per_minute=1_000_000)

    def _texts(self) -> None:
        from tokenmill.bedrock import (
            CACHE_POINT,
            Guardrail,
            GuardrailPolicies,
            ManagedPrompt,
            Message,
            PromptVariant,
            Words,
        )
        from tokenmill.core.prompt_text import PromptVariable

        Guardrail(self, "Guardrail", policies=GuardrailPolicies(words=Words(words=("password",))))
        variant = PromptVariant(
            name="short",
            model=MODEL,
            system=(WORDS * 150, CACHE_POINT),
            messages=(Message(role="user", content=("{{question}}",)),),
        )
        ManagedPrompt(
            self,
            "Prompt",
            variants=[variant],
            variables=[PromptVariable(name="question", max_tokens=500)],
            max_prompt_tokens=8000,
        )

    def _jobs(self) -> None:
        from tokenmill import ModelSource
        from tokenmill.batch import BatchInference
        from tokenmill.customization import (
            Distillation,
            ImportSource,
            ModelArtifact,
            ModelCustomization,
            ModelDeployment,
            ModelImport,
            TrainingData,
        )
        from tokenmill.security.bucket import private_bucket

        BatchInference(self, "Batch", model=MODEL)
        # What pins a version stands in another stack than the job that makes it.
        jobs = cdk.Stack(cdk.App.of(self), "jobs", env=cdk.Environment(account=ACCOUNT, region=REGION))
        bucket = private_bucket(jobs, "Data", reason_without_access_log="Nobody deploys it.")
        weights = ImportSource.weights(ModelSource.s3(bucket, "weights/"))
        ModelImport(jobs, "Import", artifact=ModelArtifact(jobs, "Imported"), source=weights)
        tuned = ModelArtifact(jobs, "Tuned")
        ModelCustomization(
            jobs,
            "Distillation",
            artifact=tuned,
            base_model=MODEL,
            recipe=Distillation(teacher="amazon.nova-pro-v1:0"),
            data=TrainingData(bucket=bucket, training="train.jsonl"),
        )
        ModelDeployment(self, "Deployment", model=tuned.version("1"))


app = cdk.App(analytics_reporting=False)
if sys.argv[1] == "empty":
    cdk.Stack(app, "bedrock")
else:
    Everything(app, "bedrock")
app.synth()
