"""The guard of deployments against SageMaker, Application Auto Scaling and CloudFormation over HTTP."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from support_deployment import ALL, NONE, SETTLED, STACK_ID, Component, Endpoint, Target, World, request
from support_fake_aws import AwsError, FakeAws
from tokenmill_runtime import aws, custom_resource, deployment
from tokenmill_runtime.deployment_fleet import MARK
from tokenmill_runtime.deployment_services import Services

if TYPE_CHECKING:
    from collections.abc import Iterator

HOLD, RELEASE = deployment.HOLD_TYPE, deployment.RELEASE_TYPE
COMPONENT = {"Component": "chat", "Declared": "2", "Minimum": "1", "Maximum": "8"}
VARIANT = {"Endpoint": "ep", "Variant": "AllTraffic", "Declared": "2", "Minimum": "1", "Maximum": "8"}
CHECKED = {
    "EndpointName": "ep",
    "ConfigName": "config-1",
    "Asked": [{"image": "repo:1"}],
    "Smoke": {"prompt": "Ready?", "max_tokens": "8", "wait_seconds": "60"},
}
RESOURCE = "inference-component/chat"
CLIENTS = (aws.sagemaker, aws.application_auto_scaling, aws.cloudformation, aws.sagemaker_smoke)


class Run:
    """The handler in a world; answers are what CloudFormation would read."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.answers: list[dict[str, Any]] = []
        self.services = Services(sleep=world.sleep, monotonic=lambda: world.now)

    def ask(self, *arguments: Any, **keywords: Any) -> dict[str, Any]:
        deployment.handle(request(*arguments, **keywords), None, self.services)
        return self.answers[-1]

    def settle(self, status: str) -> None:
        self.world.stack_status = status
        deployment.handle(SETTLED, None, self.services)

    @property
    def target(self) -> Target:
        return self.world.targets[RESOURCE]

    def hold(self, **changes: Any) -> str:
        """An update's hold; returns the token that its release will name."""
        answer = self.ask("Update", HOLD, COMPONENT, old=COMPONENT, **changes)
        assert answer["Status"] == "SUCCESS", answer["Reason"]
        return str(answer["Data"]["Held"])

    def release(self, held: str, **changes: Any) -> dict[str, Any]:
        copies = str(self.world.components["chat"].desired)
        properties = {**COMPONENT, **CHECKED, "Copies": copies, "Held": held, **changes}
        return self.ask("Update", RELEASE, properties, old={**COMPONENT, **CHECKED, "Held": "before"}, id="r")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    fake = FakeAws()
    for name, value in {
        "AWS_ENDPOINT_URL": fake.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        deployment.STACK_VARIABLE: STACK_ID,
        deployment.FLEETS_VARIABLE: json.dumps([RESOURCE]),
    }.items():
        monkeypatch.setenv(name, value)
    for client in CLIENTS:
        client.cache_clear()
    world = World()
    world.serve(fake)
    world.components["chat"] = Component(desired=5, current=5)
    world.targets[RESOURCE] = Target()
    made = Run(world)
    monkeypatch.setattr(custom_resource, "_put", lambda url, body: made.answers.append(json.loads(body)))
    yield made
    for client in CLIENTS:
        if client.cache_info().currsize:
            client().close()
        client.cache_clear()
    fake.close()


def test_a_first_deployment_gets_the_declared_copies(run: Run) -> None:
    """There is no fleet yet, and nothing to suspend."""
    run.world.components.clear()
    run.world.targets.clear()
    answer = run.ask("Create", HOLD, COMPONENT)
    assert (answer["Data"]["Copies"], answer["Data"]["Instances"]) == (2, 2)
    assert "RegisterScalableTarget" not in run.world.calls


def test_an_update_gets_the_live_copies_and_scaling_waits(run: Run) -> None:
    """Five copies run where two were declared: five are deployed, and nobody scales meanwhile."""
    answer = run.ask("Update", HOLD, COMPONENT, old=COMPONENT)
    assert answer["Data"]["Copies"] == 5
    assert run.target.suspended == ALL
    assert run.target.tags[MARK].startswith("v1 in=0 out=0 scheduled=0 copies=5 by=")


def test_a_guard_that_is_added_to_a_running_fleet_keeps_it(run: Run) -> None:
    """The resource is new, the component is not."""
    assert run.ask("Create", HOLD, COMPONENT)["Data"]["Copies"] == 5


@pytest.mark.parametrize(
    ("live", "bounds", "copies"),
    [
        (12, ("1", "8"), 8),
        (2, ("4", "8"), 4),
        (0, ("0", "8"), 0),
        (0, ("1", "8"), 1),
        (5, ("1", "8"), 5),
    ],
)
def test_copies_stay_inside_the_new_bounds(run: Run, live: int, bounds: tuple[str, str], copies: int) -> None:
    """Scaled above the maximum, minimum raised, at zero by design, at zero by accident, in between."""
    run.world.components["chat"] = Component(desired=live, current=live)
    run.target.maximum = 20
    new = {**COMPONENT, "Minimum": bounds[0], "Maximum": bounds[1]}
    data = run.ask("Update", HOLD, new, old=COMPONENT)["Data"]
    assert (data["Copies"], data["Instances"]) == (copies, max(1, copies))


def test_copies_that_are_on_their_way_are_waited_for(run: Run) -> None:
    """SageMaker refuses to change what is in progress; the count that it ends with is deployed."""
    run.world.components["chat"].begin(3, desired=7)
    assert run.ask("Update", HOLD, COMPONENT, old=COMPONENT)["Data"]["Copies"] == 7
    assert run.world.components["chat"].status == "InService"


def test_fails_when_the_fleet_does_not_come_to_rest(run: Run) -> None:
    """One sentence, instead of SageMaker's refusal later."""
    run.services = run.world.services()
    run.world.components["chat"].begin(10_000, desired=7)
    answer = run.ask("Update", HOLD, COMPONENT, old=COMPONENT)
    assert answer["Reason"] == (
        "inference-component/chat is still Updating after 600 s, and SageMaker changes nothing that is in "
        "progress; deploy again when it is InService"
    )
    run.settle("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS")
    assert run.target.suspended == NONE


def test_going_back_never_fails_for_a_fleet_that_does_not_rest(run: Run) -> None:
    """A failure there would leave the stack in UPDATE_ROLLBACK_FAILED."""
    run.services = run.world.services()
    run.world.stack_status = "UPDATE_ROLLBACK_IN_PROGRESS"
    run.world.components["chat"].begin(10_000, desired=7)
    assert run.ask("Update", HOLD, COMPONENT, old=COMPONENT)["Status"] == "SUCCESS"


def test_a_release_compares_asks_and_resumes(run: Run) -> None:
    """Afterwards the scalable target is as it was, without a trace."""
    held = run.hold()
    assert run.release(held)["Status"] == "SUCCESS"
    assert run.target == Target()
    (prompt,) = run.world.prompts
    body = {"messages": [{"role": "user", "content": "Ready?"}], "max_tokens": 8}
    assert json.loads(prompt["Body"]) == body
    assert prompt["EndpointName"] == "ep"


@pytest.mark.parametrize("users", [ALL, (True, False, False), (False, False, True)])
def test_a_user_s_own_suspension_is_kept(run: Run, users: tuple[bool, bool, bool]) -> None:
    """What a user suspended before the deployment is suspended after it."""
    run.target.suspended = users
    held = run.hold()
    assert run.target.suspended == ALL
    run.release(held)
    assert run.target == Target(suspended=users)


def test_what_a_user_changes_during_a_deployment_is_left(run: Run) -> None:
    """A target that is no longer suspended as we did it is the user's."""
    held = run.hold()
    run.target.suspended = (True, False, False)
    run.release(held)
    assert run.target == Target(suspended=(True, False, False))


def test_a_stack_that_goes_back_resumes_when_it_has_settled(run: Run) -> None:
    """The component failed, so the release is never asked; the event does it."""
    run.hold()
    run.world.stack_status = "UPDATE_ROLLBACK_IN_PROGRESS"
    deployment.handle(SETTLED, None, run.services)
    assert run.target.suspended == ALL
    run.settle("UPDATE_ROLLBACK_COMPLETE")
    assert run.target == Target()


def test_a_stack_that_went_back_gets_lost_copies_back(run: Run) -> None:
    """Had the rollback asked for the two declared copies, the fleet of five returns."""
    run.hold()
    run.world.components["chat"] = Component(desired=2, current=2)
    run.settle("UPDATE_ROLLBACK_COMPLETE")
    assert run.world.components["chat"].desired == 5


def test_restored_copies_stay_below_the_maximum(run: Run) -> None:
    """The scalable target says how many may run."""
    run.hold()
    run.world.components["chat"] = Component(desired=1, current=1)
    run.target.maximum = 3
    run.settle("UPDATE_ROLLBACK_FAILED")
    assert run.world.components["chat"].desired == 3


def test_a_release_compares_nothing_while_the_stack_goes_back(run: Run) -> None:
    """The old version may not answer either, and the fleet may change once more."""
    run.hold()
    run.world.stack_status = "UPDATE_ROLLBACK_IN_PROGRESS"
    run.world.endpoints.clear()
    assert run.release("other")["Status"] == "SUCCESS"
    assert run.target.suspended == ALL


def test_a_release_of_an_older_deployment_resumes_nothing(run: Run) -> None:
    """Delivered again while the next deployment holds the fleet, it is not its hold."""
    older = run.hold(id="first")
    run.release(older)
    run.hold(id="second")
    run.release(older)
    assert run.target.suspended == ALL


def test_a_hold_that_is_delivered_after_the_stack_settled_suspends_nothing(run: Run) -> None:
    """Nobody would resume it, so it touches nothing."""
    run.world.stack_status = "UPDATE_COMPLETE"
    assert run.ask("Update", HOLD, COMPONENT, old=COMPONENT)["Data"]["Copies"] == 5
    assert not {"TagResource", "RegisterScalableTarget"} & set(run.world.calls)


def test_a_hold_that_overlaps_the_end_of_its_stack_resumes_by_itself(run: Run) -> None:
    """The stack settled, and its event was handled, while a late delivery was between two calls."""

    def before(operation: str) -> None:
        if operation == "TagResource":
            run.world.stack_status = "UPDATE_COMPLETE"

    run.world.before = before
    run.ask("Update", HOLD, COMPONENT, old=COMPONENT)
    assert run.target == Target()


def test_an_old_event_resumes_nothing_while_another_deployment_runs(run: Run) -> None:
    """Events come late and in any order; the running deployment sends its own."""
    run.hold()
    deployment.handle(SETTLED, None, run.services)
    assert run.target.suspended == ALL


class Killed(BaseException):
    """The function's environment is gone."""


@pytest.mark.parametrize("kill_at", ["TagResource", "RegisterScalableTarget", "DescribeStacks"])
def test_a_killed_hold_leaves_nothing_suspended_without_a_mark(run: Run, kill_at: str) -> None:
    """The mark comes first: whatever was reached, the event puts it right."""
    calls = {"left": 2 if kill_at == "DescribeStacks" else 1}

    def before(operation: str) -> None:
        calls["left"] -= operation == kill_at
        if calls["left"] == 0:
            calls["left"] = 99
            raise Killed

    world = run.world
    in_process = world.services()
    world.before = before
    with pytest.raises(Killed):
        deployment.handle(request("Update", HOLD, COMPONENT, old=COMPONENT), None, in_process)
    assert run.target.suspended == NONE or MARK in run.target.tags
    deployment.handle(request("Update", HOLD, COMPONENT, old=COMPONENT), None, in_process)
    assert run.target.suspended == ALL
    run.settle("UPDATE_ROLLBACK_COMPLETE")
    assert run.target == Target()


@pytest.mark.parametrize("kill_at", ["RegisterScalableTarget", "UntagResource"])
def test_a_killed_event_is_made_up_for_by_the_next(run: Run, kill_at: str) -> None:
    """The mark goes last, so what was left over is found again."""
    run.hold()
    run.services = run.world.services()

    def before(operation: str) -> None:
        if operation == kill_at:
            raise Killed

    run.world.before = before
    with pytest.raises(Killed):
        run.settle("UPDATE_ROLLBACK_COMPLETE")
    run.world.before = lambda operation: None
    run.settle("UPDATE_ROLLBACK_COMPLETE")
    assert run.target == Target()


def test_services_that_throttle_are_asked_again(run: Run) -> None:
    """Also where the error is no throttle to botocore."""
    errors = iter(["ThrottlingException", "ConcurrentUpdateException", "AccessDeniedException"])

    def before(operation: str) -> None:
        code = next(errors, None)
        if operation != "DescribeStacks" and code is not None:
            raise AwsError(code, "not now")

    run.world.before = before
    assert run.ask("Update", HOLD, COMPONENT, old=COMPONENT)["Data"]["Copies"] == 5


def test_an_event_that_fails_is_raised_after_every_fleet_was_tried(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lambda runs the event again; one broken fleet takes no other along."""
    other = "inference-component/other"
    monkeypatch.setenv(deployment.FLEETS_VARIABLE, json.dumps([other, RESOURCE]))
    run.world.targets[other] = Target(
        suspended=ALL, tags={MARK: "v1 in=0 out=0 scheduled=0 copies=1 by=a"}, id="other"
    )
    run.hold()
    registered = run.world._register_scalable_target

    def register(parameters: dict[str, Any]) -> dict[str, Any]:
        if parameters["ResourceId"] == other:
            raise AwsError("LimitExceededException", "no")
        return registered(parameters)

    monkeypatch.setattr(run.world, "_register_scalable_target", register)
    with pytest.raises(ClientError, match="LimitExceeded"):
        run.settle("UPDATE_ROLLBACK_COMPLETE")
    assert run.target == Target()
    assert "inference-component/other could not be resumed" in capsys.readouterr().err


def test_a_mark_of_another_version_is_left_to_people(run: Run) -> None:
    """What it says is not guessed."""
    run.target.tags[MARK] = "v9 everything"
    answer = run.ask("Update", HOLD, COMPONENT, old=COMPONENT)
    assert "the tag tokenmill:held is 'v9 everything', which this version does not know" in answer["Reason"]


@pytest.mark.parametrize(
    ("status", "suspended"),
    [
        ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", NONE),
        ("UPDATE_ROLLBACK_IN_PROGRESS", NONE),
        ("DELETE_IN_PROGRESS", ALL),
    ],
)
def test_a_guard_that_goes_lets_go_of_the_fleet(
    run: Run, status: str, suspended: tuple[bool, bool, bool]
) -> None:
    """Switched off, or never there in the version that the stack goes back to; a stack that goes as a whole
    takes the target along."""
    run.hold()
    run.world.stack_status = status
    assert run.ask("Delete", HOLD, COMPONENT)["Status"] == "SUCCESS"
    assert run.target.suspended == suspended


def test_deleting_twice_and_without_a_target_is_fine(run: Run) -> None:
    """The target, the component or the endpoint may be gone before."""
    run.world.stack_status = "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"
    run.world.targets.clear()
    run.world.components.clear()
    for resource in (HOLD, HOLD, RELEASE):
        assert run.ask("Delete", resource, COMPONENT)["Status"] == "SUCCESS"


def test_a_target_that_goes_away_in_between_is_no_error(run: Run) -> None:
    """Somebody deregisters it between two calls."""

    def before(operation: str) -> None:
        if operation == "RegisterScalableTarget":
            run.world.targets.clear()

    run.world.before = before
    assert run.ask("Update", HOLD, COMPONENT, old=COMPONENT)["Data"]["Copies"] == 5


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


def test_a_variant_keeps_its_instances(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Held, compared by its images and resumed like a component."""
    resource = "endpoint/ep/variant/AllTraffic"
    run.world.targets[resource] = Target()
    run.world.endpoints["ep"] = Endpoint(desired=4, current=4)
    monkeypatch.setenv(deployment.FLEETS_VARIABLE, json.dumps([resource]))
    data = run.ask("Update", HOLD, VARIANT, old=VARIANT)["Data"]
    assert (data["Copies"], run.world.targets[resource].suspended) == (4, ALL)
    properties = {**VARIANT, **CHECKED, "Copies": "4", "Held": data["Held"]}
    assert run.ask("Update", RELEASE, properties, old={})["Status"] == "SUCCESS"
    assert run.world.targets[resource] == Target()


def test_fails_for_a_variant_that_runs_another_image(run: Run) -> None:
    """The images that run are named."""
    properties = {**VARIANT, **CHECKED, "Asked": [{"image": "repo:2"}]}
    assert run.ask("Create", RELEASE, properties)["Reason"] == (
        "endpoint/ep/variant/AllTraffic runs image repo:1, not repo:2: SageMaker rolled the update back"
    )


def test_an_unscaled_variant_is_moved_above_its_new_minimum(run: Run) -> None:
    """RetainAllVariantProperties keeps the count, and nobody else would raise it."""
    run.world.targets.clear()
    properties = {**VARIANT, **CHECKED, "Minimum": "3", "Copies": "3", "Held": "new"}
    assert run.ask("Update", RELEASE, properties, old={})["Status"] == "SUCCESS"
    assert run.world.endpoints["ep"].desired == 3


def test_an_endpoint_that_is_replaced_hands_its_instances_on(run: Run) -> None:
    """Another instance type makes another endpoint, which begins with what the old one has now."""
    run.world.endpoints["ep"] = Endpoint(desired=4, current=4)
    run.world.targets["endpoint/ep/variant/AllTraffic"] = Target()
    data = run.ask("Update", HOLD, {**VARIANT, "Endpoint": "ep-new"}, old=VARIANT)["Data"]
    assert (data["Copies"], data["Instances"]) == (4, 4)
    assert run.world.targets["endpoint/ep/variant/AllTraffic"].suspended == ALL


def test_a_replacement_that_goes_back_holds_the_old_endpoint(run: Run) -> None:
    """The new one exists still, but the old one serves."""
    run.world.stack_status = "UPDATE_ROLLBACK_IN_PROGRESS"
    run.world.endpoints = {"ep": Endpoint(desired=4), "ep-new": Endpoint(desired=1)}
    answer = run.ask("Update", HOLD, VARIANT, old={**VARIANT, "Endpoint": "ep-new"})
    assert answer["Data"]["Copies"] == 4


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
