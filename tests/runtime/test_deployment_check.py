"""The guard of deployments compares what runs with what was asked, over HTTP."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from support_deployment import ALL, Component, Endpoint, Target
from support_fake_aws import AwsError
from support_guard import CHECKED, COMPONENT, HOLD, RELEASE, Run, running

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """The handler with clients over HTTP."""
    yield from running(monkeypatch)


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (
            {"config": "config-0", "reason": "not enough capacity"},
            "endpoint ep runs configuration config-0, not config-1: SageMaker rolled the update back (not "
            "enough capacity)",
        ),
        ({"status": "OutOfService"}, "endpoint ep is OutOfService, not InService"),
    ],
)
def test_fails_for_an_endpoint_that_rolled_back(run: Run, broken: dict[str, Any], sentence: str) -> None:
    """InService alone is no proof (hashicorp/terraform-provider-aws#48997)."""
    run.world.endpoints["ep"] = Endpoint(**broken)
    held = run.hold()
    assert run.release(held)["Reason"] == sentence
    assert run.target.suspended == ALL


def test_fails_for_a_missing_endpoint(run: Run) -> None:
    """Somebody deleted it."""
    run.world.endpoints.clear()
    assert run.release("x")["Reason"].startswith(
        "endpoint ep is not there: ValidationException Could not find"
    )


@pytest.mark.parametrize(
    ("change", "asked", "sentence"),
    [
        (
            {"image": "repo:0"},
            {"image": "repo:1"},
            "inference-component/chat runs image repo:0, not repo:1: SageMaker rolled the update back",
        ),
        (
            {"image": "repo@sha256:bbbb"},
            {"image": "repo@sha256:bbbb"},
            "inference-component/chat runs image digest sha256:aaaa, not sha256:bbbb: SageMaker rolled the "
            "update back",
        ),
        (
            {},
            {"model": "model-2"},
            "inference-component/chat runs model none, not model-2: SageMaker rolled the update back",
        ),
        (
            {},
            {"instance_type": "ml.g5.xlarge", "image": "repo:1"},
            "inference-component/chat has no specification for ml.g5.xlarge; SageMaker rolled the update "
            "back",
        ),
        (
            {"status": "Failed", "reason": "no\nmemory"},
            {},
            "inference-component/chat is Failed, not InService (no memory)",
        ),
        (
            {"current": 2},
            {},
            "inference-component/chat has 2 of 5 in service; more instances may be missing: look for "
            "InsufficientInstanceCapacity in the endpoint's failure reason, or raise the quota",
        ),
    ],
)
def test_fails_for_a_component_that_runs_something_else(
    run: Run, change: dict[str, Any], asked: dict[str, str], sentence: str
) -> None:
    """Image, resolved digest, model, status, copies: each with what was found and what was asked."""
    held = run.hold()
    component = run.world.components["chat"]
    run.world.components["chat"] = replace(component, **change)
    assert run.release(held, Asked=[asked])["Reason"] == sentence


ASKED: dict[str, Any] = {
    "image": "repo:1",
    "environment": {"SM_VLLM_MAX_NUM_SEQS": "8"},
    "accelerators": "2",
    "memory_mib": "4096",
}
RUNNING = {"NumberOfAcceleratorDevicesRequired": 2.0, "MinMemoryRequiredInMb": 4096}


@pytest.mark.parametrize(
    ("environment", "needs", "told"),
    [
        (
            {"SM_VLLM_MAX_NUM_SEQS": "4"},
            RUNNING,
            "runs with another value of variable SM_VLLM_MAX_NUM_SEQS than was asked for",
        ),
        ({}, RUNNING, "runs with another value of variable SM_VLLM_MAX_NUM_SEQS than was asked for"),
        (
            ASKED["environment"],
            {**RUNNING, "NumberOfAcceleratorDevicesRequired": 1.0},
            "runs with 1 accelerators a copy, not 2",
        ),
        (
            ASKED["environment"],
            {**RUNNING, "MinMemoryRequiredInMb": 2048},
            "runs with 2048 MiB of host memory a copy, not 4096",
        ),
    ],
)
def test_fails_for_settings_that_were_rolled_back_under_the_same_image(
    run: Run, environment: dict[str, str], needs: dict[str, float], told: str
) -> None:
    """An update of variables or of a copy's size leaves the image alone, and so does SageMaker's rollback."""
    held = run.hold()
    component = run.world.components["chat"]
    run.world.components["chat"] = replace(component, container={"Environment": environment}, needs=needs)
    sentence = f"inference-component/chat {told}: SageMaker rolled the update back"
    assert run.release(held, Asked=[ASKED])["Reason"] == sentence


@pytest.mark.parametrize("shown", [True, False])
def test_settings_that_run_as_asked_pass_and_so_do_those_that_no_answer_shows(run: Run, shown: bool) -> None:
    """CloudFormation hands numbers over as text; a secret's variable runs beside those that were asked."""
    held = run.hold()
    if shown:
        container = {"Environment": {**ASKED["environment"], "HF_TOKEN": "secret"}}
        component = run.world.components["chat"]
        run.world.components["chat"] = replace(component, container=container, needs=RUNNING)
    answer = run.release(held, Asked=[ASKED])
    assert answer["Status"] == "SUCCESS", answer["Reason"]


def test_fails_for_a_component_that_is_gone(run: Run) -> None:
    """The stack's events say who deleted it."""
    held = run.hold()
    properties = {**COMPONENT, **CHECKED, "Copies": "5", "Held": held}
    run.world.components.clear()
    assert "inference-component/chat is not there" in run.ask("Create", RELEASE, properties)["Reason"]


def test_containers_may_warm_up(run: Run) -> None:
    """A model that is not ready is asked again."""
    answers = iter([AwsError("ModelNotReadyException", "warming", 429), AwsError("ModelError", "503", 424)])

    def answer() -> Any:
        for error in answers:
            raise error
        return {"choices": [{"message": {"content": "ready"}}]}

    run.world.answer = answer
    assert run.release(run.hold())["Status"] == "SUCCESS"
    assert len(run.world.prompts) == 3


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (
            AwsError("ModelNotReadyException", "still loading", 429),
            "the smoke prompt to inference-component/chat was not answered: ModelNotReadyException still "
            "loading",
        ),
        (
            AwsError("ValidationError", "no component chat", 400),
            "the smoke prompt to inference-component/chat was not answered: ValidationError no component "
            "chat",
        ),
        (
            {"generated_text": "secret"},
            "the smoke prompt to endpoint ep got no chat completion: the answer has no choices; does the "
            "container serve the OpenAI API on /invocations?",
        ),
    ],
)
def test_fails_when_the_model_does_not_answer(run: Run, answer: Any, sentence: str) -> None:
    """After the time to warm up, or at once where waiting helps nobody; without the model's text."""

    def give() -> Any:
        if isinstance(answer, AwsError):
            raise answer
        return answer

    run.world.answer = give
    assert run.release(run.hold())["Reason"] == sentence
    assert run.world.now <= 100


def test_a_model_s_own_refusal_is_not_waited_for(run: Run) -> None:
    """ModelError with a status below 500 is about the request."""
    world = run.world
    world.answer = lambda: (_ for _ in ()).throw(AwsError("ModelError", "bad body", 400))
    run.services = world.services()
    run.release(run.hold())
    assert len(world.prompts) == 1


def test_a_fleet_at_zero_is_not_woken(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """No deployment pays for an instance's start only to be asked; the log says that nothing was sent."""
    run.world.components["chat"] = Component(desired=0, current=0)
    zero = {**COMPONENT, "Minimum": "0"}
    held = run.ask("Update", HOLD, zero, old=zero)["Data"]["Held"]
    assert run.release(held, Minimum="0")["Status"] == "SUCCESS"
    assert run.world.prompts == []
    assert "stands at 0, so no smoke prompt was sent" in capsys.readouterr().out


def test_copies_are_compared_only_where_they_were_held(run: Run) -> None:
    """A new endpoint configuration asks the release alone: an old count is no measure."""
    properties = {**COMPONENT, **CHECKED, "Copies": "8", "Held": "long ago"}
    old = {**properties, "ConfigName": "config-0"}
    assert run.ask("Update", RELEASE, properties, old=old)["Status"] == "SUCCESS"


def test_without_a_check_the_release_only_resumes(run: Run) -> None:
    """`UpdatePolicy(check=None)` keeps copies and compares nothing."""
    held = run.hold()
    run.world.endpoints.clear()
    properties = {**COMPONENT, "Copies": "5", "Held": held}
    assert run.ask("Update", RELEASE, properties, old={})["Status"] == "SUCCESS"
    assert run.target == Target()


@pytest.mark.parametrize(
    ("properties", "sentence"),
    [
        ({"Minimum": "1"}, "the properties name neither Component nor Endpoint and Variant: ['Minimum']"),
        ({**COMPONENT, "Maximum": "many"}, "Declared, Minimum and Maximum must be whole numbers"),
    ],
)
def test_fails_for_properties_of_another_form(run: Run, properties: dict[str, str], sentence: str) -> None:
    """A template of another version says what does not fit."""
    assert sentence in run.ask("Update", HOLD, properties, old=COMPONENT)["Reason"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"Asked": [{"colour": "red"}]}, "Asked must be a list of specifications"),
        ({"Asked": [{"memory_mib": "red"}]}, "Asked must be a list of specifications"),
        ({"Smoke": {"prompt": "x"}}, "Smoke must have prompt, max_tokens and wait_seconds"),
    ],
)
def test_fails_for_a_check_of_another_form(run: Run, changes: dict[str, Any], sentence: str) -> None:
    """The same of what is compared and asked."""
    assert sentence in run.release("x", **changes)["Reason"]


ADAPTERS = [{"Component": "support", "Asked": [{"artifact": "s3://a/v2.tar.gz"}]}]


def test_an_adapter_runs_its_archive_and_answers_a_prompt_of_its_own(run: Run) -> None:
    """The base's release looks at the adapters on it, under their own names."""
    run.world.components["support"] = Component(container={"ArtifactUrl": "s3://a/v2.tar.gz"})
    assert run.release(run.hold(), Adapters=ADAPTERS)["Status"] == "SUCCESS"
    asked = [prompt["InferenceComponentName"] for prompt in run.world.prompts]
    assert asked == ["chat", "support"]


def test_fails_for_an_adapter_that_runs_another_archive(run: Run) -> None:
    """A rolled-back adapter is InService too; no prompt is sent before everything was compared."""
    run.world.components["support"] = Component(container={"ArtifactUrl": "s3://a/v1.tar.gz"})
    assert run.release(run.hold(), Adapters=ADAPTERS)["Reason"] == (
        "inference-component/support runs artifact s3://a/v1.tar.gz, not s3://a/v2.tar.gz: SageMaker rolled "
        "the update back"
    )
    assert run.world.prompts == []


def test_fails_for_an_adapter_that_is_gone(run: Run) -> None:
    """Somebody deleted it."""
    reason = run.release(run.hold(), Adapters=ADAPTERS)["Reason"]
    assert reason.startswith("inference-component/support is not there")
