"""A night's requests, answered by the service that a plan chose: here Bedrock's batch inference.

tokenmill.toml says how many and by when, batch.plan.json what was chosen and why.
"""

from __future__ import annotations

from pathlib import Path

import aws_cdk as cdk

from tokenmill.core.batch_plan import read_batch_plan
from tokenmill.core.errors import TokenmillError
from tokenmill.core.settings import load_batch
from tokenmill.lint import acknowledge_from, register_packs
from tokenmill_stacks import BatchStack

HERE = Path(__file__).resolve().parent

app = cdk.App()
settings = load_batch(HERE / "tokenmill.toml", context=app.node.get_all_context())
if settings is None:
    raise TokenmillError("tokenmill.toml has no section [batch]")
env = cdk.Environment(region=settings.region)
stack = BatchStack(app, "nightly-batch", settings=settings, plan=read_batch_plan(settings), env=env)
acknowledge_from(stack, HERE.parent / "acknowledgements.toml")
register_packs(app, packs=app.node.try_get_context("tokenmill:packs") or [])
app.synth()
