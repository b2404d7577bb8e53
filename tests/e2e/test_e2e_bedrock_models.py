"""examples/prompt_router and examples/import_model through the command line."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from support_bedrock_examples import BedrockExamples

if TYPE_CHECKING:
    from collections.abc import Iterator

LITE, PRO = "in place of amazon.nova-lite-v1:0.", "in place of amazon.nova-pro-v1:0."
LOGGER = """import aws_cdk as cdk

from tokenmill.bedrock import InvocationLogging, LogStream

app = cdk.App()
stack = cdk.Stack(app, "other-logger")
InvocationLogging(stack, "Calls", stream=LogStream(retention_days=30))
app.synth()
"""
IMPORT = "tokenmill jobs run import"


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BedrockExamples]:
    examples = BedrockExamples(tmp_path_factory.mktemp("models"))
    examples.start("prompt_router")
    try:
        yield examples
    finally:
        examples.stop()


def answer(examples: BedrockExamples, model: str, text: str) -> str:
    done = examples.run("chat", text, "--model", model)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_router_answers_easy_questions_with_the_small_model(examples: BedrockExamples) -> None:
    """A long one goes to the large model; the large model has a name of its own."""
    assert LITE in answer(examples, "auto", "hello")
    assert PRO in answer(examples, "auto", "Compare these two contracts line by line. " * 60)
    assert PRO in answer(examples, "nova-pro", "hello")


def test_invocation_logging_has_one_owner(examples: BedrockExamples) -> None:
    """A second stack is refused by the owner's name; the owner's settings stand, and go with it."""
    bedrock = examples.client("bedrock")
    before = bedrock.get_model_invocation_logging_configuration()["loggingConfig"]
    shutil.copytree(examples.folder / "cdk.out", examples.folder / "router.out")
    (examples.folder / "logger").mkdir()
    (examples.folder / "logger" / "app.py").write_text(LOGGER)
    refused = examples.up("logger")
    assert refused.returncode != 0
    assert "prompt-router" in refused.stderr, refused.stderr
    assert bedrock.get_model_invocation_logging_configuration()["loggingConfig"] == before
    examples.destroyed("prompt-router", app="router.out")
    assert not bedrock.get_model_invocation_logging_configuration().get("loggingConfig")


def test_a_model_is_imported_before_it_is_deployed_and_converses(examples: BedrockExamples) -> None:
    """The deployment says which command is missing; after it, it serves; then nothing is left."""
    assert examples.up("import_model", "import-model-jobs").returncode == 0
    refused = examples.up("import_model", "import-model-serve")
    assert refused.returncode != 0
    assert IMPORT in refused.stderr, refused.stderr
    done = examples.run("jobs", "run", "import", "--input", '{"version": "1"}')
    assert done.returncode == 0, done.stdout + done.stderr
    again = examples.run("jobs", "run", "import", "--input", '{"version": "1"}')
    assert "has version 1 already; nothing was started" in again.stdout
    model = examples.deployed("import_model", "import-model-serve")["Model"]
    message = {"role": "user", "content": [{"text": "hello"}]}
    told = examples.client("bedrock-runtime").converse(modelId=model, messages=[message])
    assert 'You asked "hello"' in told["output"]["message"]["content"][0]["text"]
    examples.destroyed("import-model-serve")
    assert examples.client("bedrock").list_custom_model_deployments()["modelDeploymentSummaries"] == []
