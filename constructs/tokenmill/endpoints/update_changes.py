"""What changed, by mode: the mechanism that carries it to a running model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One row of the table.

    Args:
        what: What is different from the deployment before.
        components: What happens on an endpoint of components (`LlmEndpoint`).
        variant: What happens on a single variant (`VariantEndpoint`, `AsyncEndpoint`).
    """

    what: str
    components: str
    variant: str


ROLLING = (
    "rolling update in batches with 2 copies or more (alarms turn it back); a downtime, announced at synth, "
    "with 1"
)
POLICY = "second fleet (all at once, canary, linear) or rolling, by UpdatePolicy; alarms turn it back"


def change_table() -> tuple[Change, ...]:
    """Return the table "what changed by mode", from which the documentation is produced.

    Sources: "UpdateInferenceComponent", "UpdateEndpoint" (Amazon SageMaker API Reference); "Update endpoints
    that use auto scaling", "Deployment guardrails" and its "Exclusions" (Amazon SageMaker AI developer
    guide); replacement rules of the AWS CloudFormation template reference.
    """
    return (
        Change(
            what="image, environment, engine options, model, revision", components=ROLLING, variant=POLICY
        ),
        Change(what="memory, chips or placement of a copy", components=ROLLING, variant=POLICY),
        Change(
            what="instance type or pools",
            components="new configuration on the same endpoint: SageMaker makes a second fleet and moves all "
            "traffic at once; the components stay",
            variant="a second endpoint beside the old one, which starts with the instances that run now, "
            "takes over in the stack and has a new name; SageMaker refuses a new type under a scalable "
            "target",
        ),
        Change(
            what="routing, metrics, capture, VPC, key, role",
            components="new configuration on the same endpoint: a second fleet, all at once",
            variant=POLICY,
        ),
        Change(
            what="fewest or most copies",
            components="scalable target and managed instances change in place; the copies that run stay, "
            "inside the new bounds",
            variant="scalable target changes in place; without one, the guard moves the instances into the "
            "new bounds after the update",
        ),
        Change(
            what="first copies",
            components="nothing: it counts for a fleet that is not there yet",
            variant="nothing: it counts for a fleet that is not there yet",
        ),
        Change(
            what="scaling policy",
            components="Application Auto Scaling changes it in place",
            variant="Application Auto Scaling changes it in place",
        ),
        Change(
            what="a component or an adapter more or less",
            components="made or deleted beside the others, which keep serving",
            variant="not possible: one variant, one model",
        ),
        Change(
            what="update policy, alarms",
            components="an update of the component that changes no copy",
            variant="holds from the next update of the endpoint on",
        ),
        Change(
            what="construct id or path",
            components="new names: a new component (or endpoint), then the old one is deleted",
            variant="new names: a new endpoint, then the old one is deleted",
        ),
    )
