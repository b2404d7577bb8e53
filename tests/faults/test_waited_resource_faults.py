"""The deployed waiter over its own state machine: one answer a request, and nothing owned unseen.

CloudFormation (tests/support_waiting_stack.py) sends requests to the deployed function
(tests/support_deployed_waiter.py) at once, twice, late and after it gave up on them; Lambda tries an event
three times; the waiter's definition, as it is deployed, calls the function again and retries what died. The
function speaks HTTP to Bedrock, Parameter Store and Step Functions, has ledger and handle, and may ask the
stack. Requests are throttled, fail and are lost before and after a service acted, the bucket that takes the
answers included; the function dies between any two of them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from support_bedrock import SCOPE
from support_custom_stack import Decisions
from support_deployed_waiter import WAITER, DeployedFunction, JsonService, ParameterStore, Waiters
from support_parameters import Alarms
from support_proof_rules import DRAWN, MODELS, PROPERTIES, TYPE, Disturbed, proof
from support_proof_server import Bedrock, Counted, serving
from support_units_account import RETAINED, check_account
from support_waiting_stack import WaitingStack
from tokenmill.bedrock.resources import waiter_definition
from tokenmill.local.bedrock import Behaviour
from tokenmill_runtime import aws, clock, custom_resource, units_commit, waited_resource
from tokenmill_runtime.custom_resource import MOST_WAIT_SECONDS, TimeBudget
from tokenmill_runtime.provisioned_throughput import ProvisionedThroughputResource

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "/tokenmill/units"
BEHAVIOURS = st.builds(
    Behaviour,
    creating_seconds=st.sampled_from([0.0, 20.0, 50.0]),
    get_lag_seconds=st.sampled_from([0.0, 5.0, 45.0]),
    list_lag_seconds=st.sampled_from([0.0, 5.0, 45.0]),
    token_after_delete=st.sampled_from(["ignored", "anew"]),
    taken_name=st.sampled_from(["ValidationException", "ConflictException"]),
)
RESOURCES = st.fixed_dictionaries(
    {**PROPERTIES, "Commitment": st.sampled_from(["NONE", "NONE", "ONE_MONTH"])}
)


class Beside:
    """The services beside Bedrock: made once, emptied for every example."""

    parameters: ParameterStore
    waiters: Waiters
    alarms: Alarms
    ssm: JsonService
    states: JsonService


@pytest.fixture(scope="module", autouse=True)
def served() -> Iterator[None]:
    """Serve Bedrock, Parameter Store and Step Functions to all examples."""
    with serving(), pytest.MonkeyPatch.context() as patch:
        Beside.parameters, Beside.waiters, Beside.alarms = ParameterStore(), Waiters(), Alarms()
        Beside.ssm, Beside.states = JsonService(Beside.parameters), JsonService(Beside.waiters)
        Bedrock.server.others.update({"ssm": Beside.ssm, "states": Beside.states})
        for name, value in (
            ("TOKENMILL_LEDGER_PREFIX", PREFIX),
            ("TOKENMILL_ASK_STACK", "1"),
            (waited_resource.WAITER_VARIABLE, WAITER),
        ):
            patch.setenv(name, value)
        patch.setattr(aws, "cloudwatch", lambda: Counted(Beside.alarms))
        patch.setattr(aws, "cloudformation", lambda: Counted(Bedrock.running.stack))
        patch.setattr(custom_resource, "_put", lambda url, body: Bedrock.running.answer(url, body))
        kept = {"since": None, "seconds": MOST_WAIT_SECONDS, "now": lambda: Bedrock.running.clock()}
        patch.setattr(TimeBudget.__init__, "__kwdefaults__", kept)
        yield


class Cloud(Disturbed):
    """A stack with one or two resources of units, its function and its waiter."""

    @initialize(behaviour=BEHAVIOURS, deploys_at_last=st.sampled_from([False, False, True]))
    def begin(self, behaviour: Behaviour, deploys_at_last: bool) -> None:
        self.open_account(behaviour)
        self.function = DeployedFunction(self.handler, self.clock, waiter_definition("aws"))
        for service in (Beside.parameters, Beside.waiters, Beside.alarms):
            service.asked.clear()
        Beside.parameters.values.clear()
        Beside.waiters.started.clear()
        Beside.alarms.alarms.clear()
        Beside.waiters.function = self.function
        Beside.ssm.faults, Beside.states.faults = [], []
        Beside.ssm.problems = Beside.states.problems = self.function.problems
        self.stack = WaitingStack("chat", self.function, TYPE)
        self.stack.clear_the_way = self.calm
        self.deploys_at_last = deploys_at_last
        Bedrock.running = self

    def handler(self, event: dict[str, Any], context: Any) -> Any:
        """The deployed function, with the example's clock."""
        made = ProvisionedThroughputResource(clock=clock.Clock(wall=self.clock))
        return waited_resource.handle({TYPE: made}, event, context)

    def teardown(self) -> None:
        if Bedrock.running is not self:
            return
        try:
            self.calm()
            self.finish()
            self.settle()
            while self.stack.status == "DELETE_FAILED":
                self.delete_undisturbed()
            self.check()
            if self.deploys_at_last:
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
        wanted = {"ModelUnits": "2", "ModelId": MODELS[0], "Commitment": "NONE", "Protected": "false"}
        properties = self.properties("Units", {**wanted, "Replacement": "MAKE_BEFORE_BREAK"})
        self.steps = self.stack.deploy({"Units": properties}, Decisions())
        self.finish()
        self.settle()
        assert self.stack.status in ("CREATE_COMPLETE", "UPDATE_COMPLETE"), self.function.reasons
        self.check()

    def delete_undisturbed(self) -> None:
        self.steps = self.stack.delete(Decisions())
        self.finish()
        self.settle()

    # What happens.

    @precondition(lambda self: self.steps is None and self.stack.status != "DELETE_FAILED")
    @rule(
        units=RESOURCES,
        spare=st.one_of(st.none(), st.none(), RESOURCES),
        trouble=st.sampled_from(["another resource fails", "no capacity", "a quota of 3", "", "", ""]),
        decide=DRAWN,
    )
    def deploy(
        self, units: dict[str, str], spare: dict[str, str] | None, trouble: str, decide: Decisions
    ) -> None:
        self.stack.orderly = False
        if trouble:
            self.function.injected[trouble] += 1
        if trouble == "no capacity":
            self.control.provisioned.without_capacity = {units["ModelId"]}
        elif trouble == "a quota of 3":
            self.control.quotas.base = 3
        template = {"Units": self.properties("Units", units)}
        if spare is not None:
            template["Spare"] = self.properties("Spare", spare)
        if any(properties["Protected"] == "true" for properties in template.values()):
            self.may_retain = True
        self.steps = self.stack.deploy(template, decide, trouble == "another resource fails")

    @precondition(lambda self: self.steps is None and self.stack.exists)
    @rule(decide=DRAWN)
    def delete_stack(self, decide: Decisions) -> None:
        self.stack.orderly = False
        self.steps = self.stack.delete(decide)

    @precondition(lambda self: self.steps is not None)
    @rule(
        service=st.sampled_from(["ssm", "states"]),
        kinds=st.lists(st.sampled_from(["", "throttled", "dropped", "lost"]), min_size=1, max_size=8),
    )
    def fault_beside(self, service: str, kinds: list[str]) -> None:
        getattr(Beside, service).faults = list(kinds)
        for kind in filter(None, kinds):
            self.function.injected[f"{kind} {service}"] += 1

    @precondition(lambda self: self.steps is not None)
    @rule(kind=st.sampled_from(["refused", "lost"]), times=st.sampled_from([1, 4, 5, 7]))
    def answer_fails(self, kind: str, times: int) -> None:
        """The bucket takes an answer or not, and the function does not hear of it."""
        self.function.answer_faults = [kind] * times

    @precondition(lambda self: self.steps is None and self.function.due)
    @rule(count=st.integers(1, 12))
    def late_requests_go_on(self, count: int) -> None:
        for _ in range(count):
            if self.function.due:
                self.run_next()

    @precondition(lambda self: self.steps is not None and self.function.due)
    @rule()
    def late_requests_come_now(self) -> None:
        self.function.hurry()

    @precondition(lambda self: self.quiet and self.stack.exists)
    @rule()
    def commitments_are_bought(self) -> None:
        """`tokenmill jobs run commit-units` for whatever declares one."""
        self.calm()
        for declared in units_commit.declared(PREFIX):
            self.function.injected["commitment"] += 1
            self.may_retain = True
            for _ in range(20):
                self.clock.pass_(60.0)
                if units_commit.advance(declared, prefix=PREFIX).done:
                    break
            else:
                raise AssertionError("the purchase does not end")
        self.clock.pass_(600.0)

    @precondition(lambda self: self.steps is None and not self.function.due)
    @rule(seconds=st.sampled_from([30.0, 700.0, 31 * 86_400.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.pass_(seconds)

    # What must hold.

    @invariant()
    def nothing_undeclared(self) -> None:
        if Bedrock.running is self and self.quiet:
            self.check()

    @property
    def quiet(self) -> bool:
        return self.steps is None and not self.function.due and self.stack.status != "DELETE_FAILED"

    def check(self) -> None:
        """Units owned = units declared + units retained; ledger, alarms and handles say the same."""
        owned = self.control.provisioned.owned(SCOPE)
        check_account(owned, self.stack.resources, now=self.clock(), may_retain=self.may_retain)
        retained = {model.arn for model in owned if RETAINED in model.tags}
        entries = self.documents(f"{PREFIX}/retained/")
        assert {entry["arn"] for entry in entries.values()} == retained
        alarms = {name.removeprefix("tokenmill-units-") for name in Beside.alarms.alarms}
        assert alarms == {arn.rpartition("/")[2] for arn in retained}
        declared = {entry["resource"]: entry for entry in self.documents(f"{PREFIX}/declared/").values()}
        ids = {resource.physical_id for resource in self.stack.resources.values()}
        assert declared.keys() <= ids, "a commitment of what no stack has"
        handles = {
            resource.properties["Handle"]: resource.physical_id for resource in self.stack.resources.values()
        }
        found = self.documents("/tokenmill/models/")
        assert found.keys() == handles.keys()
        for name, document in found.items():
            serving = {
                model.arn
                for model in owned
                if model.arn not in retained and model.tags["tokenmill:resource"] == handles[name]
            }
            assert {model["id"] for model in document["models"]} == serving, f"{name}: {document}"
            assert document["resource"] == handles[name]
        for request_id, execution in self.function.executions.items():
            assert execution.ended != "SUCCEEDED" or self.function.answers[request_id], f"{request_id}: mute"
        Bedrock.totals["checks of a settled account"] += 1

    def check_always(self) -> None:
        """No handle names units that are gone, and no request has two answers, at any moment."""
        there = {model.arn for model in self.control.provisioned.owned(SCOPE)}
        for name, document in self.documents("/tokenmill/models/").items():
            gone = {model["id"] for model in document["models"]} - there
            assert not gone, f"{name} names {gone}"
        for request_id, answers in self.function.answers.items():
            assert all(answer == answers[0] for answer in answers), f"{request_id}: {answers}"
        assert not self.function.problems, self.function.problems

    @staticmethod
    def documents(prefix: str) -> dict[str, dict[str, Any]]:
        return {
            name: json.loads(text)
            for name, text in Beside.parameters.values.items()
            if name.startswith(prefix)
        }

    @staticmethod
    def properties(logical: str, drawn: dict[str, str]) -> dict[str, str]:
        handle = {"Handle": f"/tokenmill/models/{logical}", "Fallback": "amazon.nova-lite-v1:0"}
        return {"Name": f"chat-{logical.lower()}", "HourlyUsd": "10", **handle, **drawn}

    def step(self) -> None:
        super().step()
        self.check_always()

    def run_next(self) -> None:
        self.function.run_next()
        self.check_always()

    def calm(self) -> None:
        """Nothing goes wrong any more, as when an operator continues a rollback."""
        self.leave_alone()
        self.control.faults.clear()
        Beside.ssm.faults, Beside.states.faults = [], []
        self.function.answer_faults = []
        self.control.provisioned.without_capacity = set()
        self.control.quotas.base = 100
        self.stack.orderly = True
        self.clock.pass_(600.0)

    def finish(self) -> None:
        for _ in range(5_000):
            if self.steps is None:
                return
            self.step()
        raise AssertionError("the operation does not end")

    def settle(self) -> None:
        for _ in range(5_000):
            if not self.function.due:
                return
            self.run_next()
        raise AssertionError("the waiter does not end")

    def answer(self, url: str, body: bytes) -> None:
        self.before_request()
        self.function.put(url, body)
        self.after_request()


TestWaitedResource = Cloud.TestCase
TestWaitedResource.settings = proof(200, nightly=4_000, steps=14)
