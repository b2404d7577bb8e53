"""A model of Amazon Nova that SageMaker trained: imported once, pinned, deployed on demand, billed apart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import aws_cdk as cdk

from tokenmill.bedrock import InferenceProfile
from tokenmill.customization import ImportSource, ModelArtifact, ModelDeployment, ModelImport
from tokenmill.lint import acknowledge_from, register_packs

if TYPE_CHECKING:
    from constructs import Construct

HERE = Path(__file__).resolve().parent
REGION = "us-east-1"
# "checkpoint_s3_bucket" in the manifest.json of the training job's output; -c source=s3://... takes another.
CHECKPOINT = "s3://customer-escrow-111122223333-smtj-example/acme-nova-lite/checkpoint/"
# What answers while the deployment throttles, and what it is compared with on the bill.
BASE_MODEL = "us.amazon.nova-lite-v1:0"
# Raise it after the next run of the job: the deployment changes in place.
VERSION = "1"


class Jobs(cdk.Stack):
    """`tokenmill jobs run import --input '{"version": "1"}'` imports the model and records version 1."""

    def __init__(self, scope: Construct, id: str, *, env: cdk.Environment) -> None:
        super().__init__(scope, id, env=env)
        self.artifact = ModelArtifact(self, "Artifact")
        source = ImportSource.nova(self.node.try_get_context("source") or CHECKPOINT)
        ModelImport(self, "Import", artifact=self.artifact, source=source)


class Serve(cdk.Stack):
    """Deployed after the run; before it, the deployment fails and names the command."""

    def __init__(self, scope: Construct, id: str, *, artifact: ModelArtifact, env: cdk.Environment) -> None:
        super().__init__(scope, id, env=env)
        base = InferenceProfile(
            self, "Base", model=InferenceProfile.cross_region(BASE_MODEL), tags={"team": "acme"}
        )
        deployment = ModelDeployment(
            self, "Deployment", model=artifact.version(VERSION), fallback=base, tags={"team": "acme"}
        )
        cdk.CfnOutput(self, "Model", value=deployment.model_id)
        cdk.CfnOutput(self, "Profile", value=base.model_id)


app = cdk.App()
where = cdk.Environment(region=REGION)
jobs = Jobs(app, "import-model-jobs", env=where)
serve = Serve(app, "import-model-serve", artifact=jobs.artifact, env=where)
for stack in (jobs, serve):
    acknowledge_from(stack, HERE.parent / "acknowledgements.toml")
register_packs(app, packs=app.node.try_get_context("tokenmill:packs") or [])
app.synth()
