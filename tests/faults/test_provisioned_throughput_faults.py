"""Whatever happens around a deployment: units owned = units declared + units retained.

A CloudFormation written from its documents (tests/support_custom_stack.py) deploys, updates, fails, rolls
back, cleans up and deletes over the real handler, which speaks HTTP to a model of Bedrock's control plane
(constructs/tokenmill/local/bedrock). Requests are throttled, fail, and time out before and after the service
acted; the function dies between any two requests; the same request runs twice, one after the other, at once,
and long after; waiters are gone; deletes arrive late. What AWS's pages leave open is drawn (`Behaviour`).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from support_bedrock import SCOPE
from support_custom_stack import Decisions, Stack
from support_lambda_invocations import Function, Killed
from support_proof_rules import DRAWN, MODELS, PROPERTIES, TYPE, Disturbed, proof
from support_proof_server import Bedrock, serving
from support_units_account import OWNER, RETAINED, check_account
from tokenmill.local.bedrock import Behaviour
from tokenmill_runtime import provisioned_throughput

if TYPE_CHECKING:
    from collections.abc import Iterator

BEHAVIOURS = st.builds(
    Behaviour,
    creating_seconds=st.sampled_from([0.0, 60.0, 130.0]),
    get_lag_seconds=st.sampled_from([0.0, 5.0, 45.0]),
    list_lag_seconds=st.sampled_from([0.0, 5.0, 45.0]),
    token_seconds=st.sampled_from([8 * 3600.0, 600.0]),
    token_after_delete=st.sampled_from(["ignored", "anew"]),
    token_mismatch=st.sampled_from(["ignored", "refused"]),
    taken_name=st.sampled_from(["ValidationException", "ConflictException"]),
    held_name_seconds=st.sampled_from([0.0, 90.0]),
)
RESOURCES = st.fixed_dictionaries(PROPERTIES)
# Decisions of an update whose waiter is gone after a step: CloudFormation heard the id and nothing else.
GIVEN_UP = list(b"_\xdb\xa4|\xd7vO \xb9]\xfe\x9e$qy\xed\xd8\x12\x15v\xcc\x8a\xf4(")
TROUBLES = ("another resource fails", "no capacity", "a quota of 0", "a quota of 3")


@pytest.fixture(scope="module", autouse=True)
def served() -> Iterator[None]:
    """Serve Bedrock to all examples; see `serving`."""
    with serving():
        yield


class Cloud(Disturbed):
    """A stack with one or two resources, and everything that happens to it."""

    @initialize(behaviour=BEHAVIOURS)
    def begin(self, behaviour: Behaviour) -> None:
        self.open_account(behaviour)
        self.function = Function(provisioned_throughput.on_event, provisioned_throughput.is_complete)
        self.function.pass_time = self.clock.pass_
        self.stack = Stack("chat", self.function, TYPE)
        self.stack.clear_the_way = self.calm
        Bedrock.running = self

    def teardown(self) -> None:
        if Bedrock.running is not self:
            return
        try:
            self.calm()
            self.finish()
            # A stack that could not be deleted takes no update ("Stack status codes"), only another Delete.
            while self.stack.status == "DELETE_FAILED":
                self.delete_undisturbed()
            self.check()
            self.deploy_undisturbed()
            while self.stack.exists:
                self.delete_undisturbed()
            self.check()
        finally:
            Bedrock.running = None
        self.count()

    def deploy_undisturbed(self) -> None:
        """Whatever happened before, the next deployment works once reads have caught up."""
        self.clock.pass_(600.0)
        wanted = {
            "ModelUnits": "2",
            "ModelId": MODELS[0],
            "Replacement": "MAKE_BEFORE_BREAK",
            "Protected": "false",
        }
        self.steps = self.stack.deploy({"Units": self.properties("chat-units", wanted)}, Decisions())
        self.finish()
        assert self.stack.status in ("CREATE_COMPLETE", "UPDATE_COMPLETE"), self.function.reasons
        self.check()

    def delete_undisturbed(self) -> None:
        self.steps = self.stack.delete(Decisions())
        self.finish()

    # What happens.

    @precondition(lambda self: self.steps is None and self.stack.status != "DELETE_FAILED")
    @rule(
        units=RESOURCES,
        spare=st.one_of(st.none(), st.none(), RESOURCES),
        trouble=st.sampled_from([*TROUBLES, "", "", ""]),
        decide=DRAWN,
    )
    def deploy(
        self, units: dict[str, str], spare: dict[str, str] | None, trouble: str, decide: Decisions
    ) -> None:
        if trouble:
            self.function.injected[trouble] += 1
        if trouble == "no capacity":
            self.control.provisioned.without_capacity = {units["ModelId"]}
        elif trouble in ("a quota of 0", "a quota of 3"):
            self.control.quotas.base = int(trouble[-1])
        template = {"Units": self.properties("chat-units", units)}
        if spare is not None:
            template["Spare"] = self.properties("chat-spare", spare)
        if any(properties["Protected"] == "true" for properties in template.values()):
            self.may_retain = True
        self.steps = self.stack.deploy(template, decide, trouble == "another resource fails")

    @precondition(lambda self: self.steps is None and self.stack.exists)
    @rule(decide=DRAWN)
    def delete_stack(self, decide: Decisions) -> None:
        self.steps = self.stack.delete(decide)

    @precondition(lambda self: self.steps is None and self.obstructed)
    @rule()
    def obstacles_end(self) -> None:
        self.clear_the_way()

    @precondition(lambda self: self.quiet and self.stack.exists)
    @rule(pick=st.integers(0, 3), term=st.sampled_from(["OneMonth", "SixMonths"]))
    def units_are_committed(self, pick: int, term: str) -> None:
        """Somebody buys the commitment of units that serve, and gives the uncommitted ones back."""
        owners = {resource.physical_id for resource in self.stack.resources.values()}
        serving = [
            model
            for model in self.control.provisioned.owned(SCOPE)
            if model.tags.get(OWNER) in owners and model.commitment is None and RETAINED not in model.tags
        ]
        if not serving:
            return
        model = serving[pick % len(serving)]
        self.clear_the_way()
        self.function.injected["commitment"] += 1
        self.may_retain = True
        tags = [{"key": key, "value": value} for key, value in model.tags.items()]
        asked = {"modelUnits": model.units, "modelId": model.model, "commitmentDuration": term, "tags": tags}
        name = f"{model.name}-c"
        self.control.call(SCOPE, "CreateProvisionedModelThroughput", {"provisionedModelName": name, **asked})
        self.clock.pass_(600.0)
        self.control.call(SCOPE, "DeleteProvisionedModelThroughput", {"provisionedModelId": model.arn})
        self.clock.pass_(600.0)

    @rule(seconds=st.sampled_from([30.0, 700.0, 40_000.0, 31 * 86_400.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.pass_(seconds)

    @precondition(lambda self: self.steps is None and self.stack.late)
    @rule()
    def late_delete_arrives(self) -> None:
        self.steps = self.arrive()

    @precondition(lambda self: self.steps is None and self.stack.sent)
    @rule(back=st.integers(1, 8))
    def request_arrives_again(self, back: int) -> None:
        """A request is delivered long after its end: the waiter's execution has its name already."""
        event = self.stack.sent[-min(back, len(self.stack.sent))]
        self.function.injected["request delivered again later"] += 1
        with contextlib.suppress(Exception, Killed):
            begun = self.function.begin(event)
            if event["RequestType"] == "Delete":
                self.function.step({**event, **begun})

    # What must hold.

    @invariant()
    def nothing_undeclared(self) -> None:
        if Bedrock.running is self and self.quiet:
            self.check()

    @property
    def quiet(self) -> bool:
        return self.steps is None and not self.stack.late and self.stack.status != "DELETE_FAILED"

    def check(self) -> None:
        """Units owned = units declared + units retained, resource by resource."""
        owned = self.control.provisioned.owned(SCOPE)
        check_account(owned, self.stack.resources, now=self.clock(), may_retain=self.may_retain)
        Bedrock.totals["checks of a settled account"] += 1

    # Time, requests, and their ends.

    @staticmethod
    def properties(name: str, drawn: dict[str, str]) -> dict[str, str]:
        return {"Name": name, "Commitment": "NONE", "HourlyUsd": "10", **drawn}

    def arrive(self) -> Iterator[None]:
        while self.stack.late:
            event = self.stack.late.pop(0)
            for _ in range(3):
                outcome = yield from self.stack.deliver(event)
                if outcome.ok:
                    break

    def calm(self) -> None:
        """Nothing goes wrong any more."""
        self.leave_alone()
        self.control.faults.clear()
        self.clear_the_way()

    @property
    def obstructed(self) -> bool:
        return bool(self.control.provisioned.without_capacity) or self.control.quotas.base < 100

    def clear_the_way(self) -> None:
        """What an operator does before continuing a rollback."""
        self.control.provisioned.without_capacity = set()
        self.control.quotas.base = 100
        self.clock.pass_(600.0)

    def finish(self) -> None:
        for _ in range(5_000):
            if self.steps is None and not self.stack.late:
                return
            if self.steps is None:
                self.steps = self.arrive()
            self.step()
        raise AssertionError("the operation does not end")


TestProvisionedThroughput = Cloud.TestCase
TestProvisionedThroughput.settings = proof(500, nightly=10_000, steps=20)


def test_an_update_that_breaks_first_keeps_its_id_when_a_look_shows_units_that_are_gone() -> None:
    """A nightly run drew this: back to a model whose units the update before has just deleted."""
    cloud = Cloud()
    lagging = Behaviour(creating_seconds=60.0, get_lag_seconds=5.0, held_name_seconds=90.0)
    cloud.begin(behaviour=lagging)
    first = {"Replacement": "MAKE_BEFORE_BREAK", "Protected": "false"}
    micro = {"ModelUnits": "2", "ModelId": MODELS[1], **first}
    lite = {"ModelUnits": "1", "ModelId": MODELS[0], **first}
    for units in (micro, lite):
        cloud.deploy(units=units, spare=None, trouble="", decide=Decisions())
        cloud.finish()
    [before] = cloud.stack.resources.values()
    back = {**micro, "Replacement": "BREAK_BEFORE_MAKE"}
    # The request runs once, its waiter leaves at the first look, and the rollback is what the id allows.
    cloud.deploy(units=back, spare=None, trouble="", decide=Decisions(GIVEN_UP))
    cloud.finish()
    assert cloud.stack.status == "UPDATE_ROLLBACK_COMPLETE"
    [after] = cloud.stack.resources.values()
    assert after.physical_id == before.physical_id
    cloud.check()
    Bedrock.running = None
