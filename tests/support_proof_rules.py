"""What both proofs of units draw: templates, decisions of CloudFormation, and what disturbs a deployment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from support_bedrock import Clock
from support_custom_stack import Decisions
from support_proof_server import Bedrock, Interrupting, forget_clients
from tokenmill.local.bedrock import BedrockControl, Behaviour, Fault, UnitQuotas

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NIGHTLY = bool(os.environ.get("TOKENMILL_NIGHTLY"))
TYPE = "Custom::TokenmillProvisionedThroughput"
MODELS = ("amazon.nova-lite-v1:0:24k", "amazon.nova-micro-v1:0:24k")
OPERATIONS = (
    None,
    "CreateProvisionedModelThroughput",
    "DeleteProvisionedModelThroughput",
    "GetProvisionedModelThroughput",
    "ListProvisionedModelThroughputs",
    "TagResource",
    "ListTagsForResource",
)
PROPERTIES = {
    "ModelUnits": st.sampled_from(["1", "2", "3"]),
    "ModelId": st.sampled_from(MODELS),
    "Replacement": st.sampled_from(["MAKE_BEFORE_BREAK", "BREAK_BEFORE_MAKE", "REFUSE"]),
    "Protected": st.sampled_from(["false", "false", "false", "true"]),
}
# Bytes, because lists are short more often than not; they shrink to zeros, which are the first choices.
DRAWN = st.binary(min_size=24, max_size=24).map(lambda drawn: Decisions(list(drawn)))


def proof(examples: int, *, nightly: int, steps: int) -> settings:
    """The same examples in every normal run; others, and more, every night."""
    return settings(
        max_examples=nightly if NIGHTLY else examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=not NIGHTLY,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.filter_too_much,
            HealthCheck.data_too_large,
        ],
    )


class Disturbed(Interrupting, RuleBasedStateMachine):
    """An account, the operation that goes on in it, and what may happen meanwhile."""

    # Lets the operation come to its end.
    finish: Callable[[], None]

    def open_account(self, behaviour: Behaviour) -> None:
        forget_clients()
        self.clock = Clock()
        self.control = BedrockControl(
            clock=self.clock, behaviour=behaviour, quotas=UnitQuotas(base=100, custom=100, committed=1000)
        )
        Bedrock.server.control = self.control
        self.steps: Iterator[None] | None = None
        self.may_retain = False
        self.leave_alone()

    def count(self) -> None:
        """Add what happened to the totals of all examples."""
        totals = Bedrock.totals
        totals.update(self.function.injected)
        totals["examples"] += 1
        for (kind, operation), times in self.control.faults.met.items():
            totals[f"{kind} {operation}"] += times

    def step(self) -> None:
        if self.steps is not None and next(self.steps, self) is self:
            self.steps = None

    @precondition(lambda self: self.steps is not None)
    @rule(count=st.integers(1, 12))
    def go_on(self, count: int) -> None:
        for _ in range(count):
            self.step()

    @precondition(lambda self: self.steps is not None)
    @rule()
    def go_on_to_the_end(self) -> None:
        self.finish()

    @precondition(lambda self: self.steps is not None)
    @rule(after=st.lists(st.tuples(st.integers(0, 16), st.booleans()), min_size=1, max_size=2))
    def kill(self, after: list[tuple[int, bool]]) -> None:
        """The function dies at its n-th request from now, before or after the service got it."""
        self.kills = list(after)

    @precondition(lambda self: self.steps is not None)
    @rule(after=st.integers(0, 12))
    def run_twice_at_once(self, after: int) -> None:
        self.meanwhile = [after]

    @precondition(lambda self: self.steps is not None)
    @rule(
        kind=st.sampled_from(["throttled", "failed", "failed_after", "dropped", "lost"]),
        operation=st.sampled_from(OPERATIONS),
        times=st.sampled_from([1, 1, 2, 5, 12]),
        after=st.integers(0, 4),
    )
    def fault(self, kind: Any, operation: str | None, times: int, after: int) -> None:
        self.control.faults.add(Fault(kind=kind, operation=operation, times=times, after=after))
