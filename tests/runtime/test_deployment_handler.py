"""The guard of deployments holds, resumes and settles, over HTTP."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from support_deployment import ALL, NONE, SETTLED, Component, Endpoint, Target, request
from support_fake_aws import AwsError
from support_guard import CHECKED, COMPONENT, HOLD, RELEASE, RESOURCE, VARIANT, Run, running
from tokenmill_runtime import deployment
from tokenmill_runtime.deployment_fleet import MARK

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """The handler with clients over HTTP."""
    yield from running(monkeypatch)


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
