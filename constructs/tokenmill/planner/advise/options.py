"""The places that could serve a model: Bedrock's ways of paying, and SageMaker on each accelerator."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tokenmill.core.bedrock_prices import STANDARD, Quote, plain_id, profile_of
from tokenmill.core.instances import instance_type
from tokenmill.planner.advise.cost import Fleet, FleetCurve, TokenCurve, UnitCurve, request_price
from tokenmill.planner.explain import NEARNESS

if TYPE_CHECKING:
    import datetime

    from tokenmill.core.model_spec import ModelSpec
    from tokenmill.core.plan import Candidate, Plan, Rejection
    from tokenmill.core.workload import Workload
    from tokenmill.planner.advise.cost import Curve
    from tokenmill.planner.advise.need import Need, Traffic, UnitCapacity, Usage

ON_DEMAND = "bedrock-on-demand"
FLEX = "bedrock-flex"
PRIORITY = "bedrock-priority"
BATCH = "bedrock-batch"
RESERVED = "bedrock-reserved"
PROVISIONED = "bedrock-provisioned"
IMPORT = "bedrock-import"
SAGEMAKER = "sagemaker"
TIER_OF = {ON_DEMAND: STANDARD, FLEX: "flex", PRIORITY: "priority", BATCH: "batch"}
TITLES = {
    ON_DEMAND: "Bedrock on demand",
    FLEX: "Bedrock flex tier",
    PRIORITY: "Bedrock priority tier",
    BATCH: "Bedrock batch inference",
    RESERVED: "Bedrock reserved tier",
    PROVISIONED: "Bedrock provisioned throughput",
    IMPORT: "Bedrock custom model import",
}
# these serve the weights that the provider publishes
BASE = frozenset({ON_DEMAND, FLEX, PRIORITY, BATCH, RESERVED})
BEDROCK = BASE | {PROVISIONED, IMPORT}
EVERYTHING = BEDROCK | {SAGEMAKER}

UNIT_NOT_PUBLIC = (
    "what a model unit delivers and costs is not public, so no break-even is drawn; ask the account team and "
    "give --unit input_tpm=N,output_tpm=N,usd_per_hour=USD"
)
IMPORT_NOT_PUBLIC = (
    "a copy's custom model units are known after the import only (GetImportedModel), and their price is in "
    "no source of this table"
)
# "Service tiers for optimizing performance and cost" (Amazon Bedrock User Guide)
RESERVED_LEAST = "at least 100,000 input and 10,000 output tokens a minute, for one or three months"
RESERVED_NOT_PUBLIC = "its price a thousand tokens a minute comes from the account team"
CUSTOM_NOT_LISTED = "the price table has prices of published models only, none of a tuned one on demand"


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Everything that a decision is made from.

    Args:
        need: What must hold wherever the model runs.
        traffic: How requests spread over a month.
        workload: The peak hour.
        region: AWS region.
        today: Day that ages are measured from.
        usage: How requests use Bedrock.
        bedrock_model: Bedrock id or ARN; empty where none is considered.
        quote: What that model costs in the region; None without a model.
        unit: What a model unit delivers and costs; None where it is not known.
        model: The open-weights model; None where none is considered.
        plan: How SageMaker would serve it; None without a model.
    """

    need: Need
    traffic: Traffic
    workload: Workload
    region: str
    today: datetime.date
    usage: Usage
    bedrock_model: str = ""
    quote: Quote | None = None
    unit: UnitCapacity | None = None
    model: ModelSpec | None = None
    plan: Plan | None = None

    @property
    def profile(self) -> str:
        """Geography of the inference profile, or "" for a model of one region or no model."""
        return profile_of(plain_id(self.bedrock_model)) if self.bedrock_model else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One place that could serve the model.

    Args:
        id: "bedrock-on-demand", "sagemaker-l40s" and so on.
        kind: The id, or "sagemaker" for every accelerator.
        title: Its name for people.
        curve: A month's cost at any rate; None where a price is missing.
        missing: Why it has no price; empty where it has one.
        cannot: Why it cannot serve at all, whatever the team needs; empty where it can.
        notes: What a reader must know.
        candidate: For SageMaker: what would run, at the asked rate.
    """

    id: str
    kind: str
    title: str
    curve: Curve | None = None
    missing: str = ""
    cannot: str = ""
    notes: tuple[str, ...] = ()
    candidate: Candidate | None = field(default=None, hash=False)


def options(situation: Situation) -> tuple[Option, ...]:
    """Return every option, with what is known of its cost.

    Args:
        situation: What the decision is made from.
    """
    return (*_bedrock_options(situation), *_sagemaker_options(situation))


def _bedrock_options(situation: Situation) -> list[Option]:
    tiers = [_token_option(situation, kind) for kind in TIER_OF]
    unit = situation.unit
    curve = None if unit is None else UnitCurve(unit=unit, workload=situation.workload)
    return [
        *tiers,
        Option(
            id=RESERVED,
            kind=RESERVED,
            title=TITLES[RESERVED],
            missing=RESERVED_NOT_PUBLIC,
            notes=(RESERVED_LEAST,),
        ),
        Option(
            id=PROVISIONED,
            kind=PROVISIONED,
            title=TITLES[PROVISIONED],
            curve=curve,
            missing="" if curve else UNIT_NOT_PUBLIC,
            notes=_unit_notes(situation, curve),
        ),
        Option(id=IMPORT, kind=IMPORT, title=TITLES[IMPORT], missing=IMPORT_NOT_PUBLIC),
    ]


def _unit_notes(situation: Situation, curve: UnitCurve | None) -> tuple[str, ...]:
    if curve is None:
        return ()
    units = curve.units(situation.workload.requests_per_second)
    return (f"{units} model units for the peak hour, billed until they are deleted",)


def _token_option(situation: Situation, kind: str) -> Option:
    title, quote, tier = TITLES[kind], situation.quote, TIER_OF[kind]
    missing, notes, curve = "", [], None
    price = None if quote is None else quote.price
    if quote is None:
        missing = "no Bedrock model was named"
    elif situation.need.tuned:
        missing = CUSTOM_NOT_LISTED
    elif price is None:
        missing = quote.note
    elif tier not in price.tiers:
        missing = f"the price table has no {tier} price of {price.model_id}"
    elif price.long_prompt_tokens and situation.workload.input_tokens > price.long_prompt_tokens:
        missing = (
            f"prompts of more than {price.long_prompt_tokens:,} tokens have another price, which the table "
            "leaves out; give --token-price"
        )
    else:
        usd, note = request_price(price.tiers[tier], situation.workload, situation.usage)
        curve = TokenCurve(usd_per_request=usd, traffic=situation.traffic)
        notes = [text for text in (note, quote.note) if text]
        if price.end_of_life:
            notes.append(f"Bedrock withdraws {price.model_id} on {price.end_of_life}")
        if price.stale(situation.today):
            notes.append(
                f"price is of {price.source_date}, more than 180 days old; check it and give --token-price"
            )
    return Option(id=kind, kind=kind, title=title, curve=curve, missing=missing, notes=tuple(notes))


def _sagemaker_options(situation: Situation) -> list[Option]:
    if situation.plan is None:
        return [
            Option(id=SAGEMAKER, kind=SAGEMAKER, title="SageMaker", missing="no open-weights model was named")
        ]
    plan = situation.plan
    groups: dict[str, list[Candidate]] = {}
    for candidate in plan.candidates:
        groups.setdefault(candidate.accelerator, []).append(candidate)
    refused: dict[str, str] = {}
    for rejection in sorted(plan.rejections, key=_nearness):
        accelerator = instance_type(rejection.instance_type).accelerator.name
        refused.setdefault(accelerator, f"{rejection.instance_type}: {rejection.reason}")
    return [
        *(_accelerator(situation, plan, name, found) for name, found in groups.items()),
        *(
            Option(id=_id(name), kind=SAGEMAKER, title=f"SageMaker on {name}", cannot=reason)
            for name, reason in refused.items()
            if name not in groups
        ),
    ]


def _nearness(rejection: Rejection) -> tuple[int, float, int]:
    """What came nearest says most on why an accelerator is out, not what its smallest type lacks."""
    # a split that only lost to another of its type says nothing
    code = NEARNESS.index(rejection.code) if rejection.code in NEARNESS else len(NEARNESS)
    return code, rejection.miss, -instance_type(rejection.instance_type).cores


def _id(accelerator: str) -> str:
    return f"{SAGEMAKER}-{accelerator.lower().replace(' ', '-')}"


def _accelerator(situation: Situation, plan: Plan, name: str, candidates: list[Candidate]) -> Option:
    priced = {
        fleet: candidate
        for candidate in candidates
        if candidate.usd_per_hour is not None
        for fleet in [
            Fleet.of(
                candidate,
                usd_per_hour=candidate.usd_per_hour / candidate.instances,
                min_copies=plan.limits.min_copies,
                max_instances=plan.limits.max_instances,
            )
        ]
    }
    title = f"SageMaker on {name}"
    if not priced:
        first = candidates[0]
        return Option(
            id=_id(name),
            kind=SAGEMAKER,
            title=title,
            missing=f"no hosting price of {first.instance_type} in {situation.region} is known; give --price "
            f"{first.instance_type}=USD",
            notes=first.notes,
            candidate=first,
        )
    curve = FleetCurve(fleets=tuple(priced), traffic=situation.traffic)
    best = curve.best(situation.workload.requests_per_second)
    chosen = candidates[0] if best is None else priced[best[0]]
    return Option(
        id=_id(name),
        kind=SAGEMAKER,
        title=title,
        curve=curve,
        notes=_fleet_notes(situation, chosen),
        candidate=chosen,
    )


def _fleet_notes(situation: Situation, chosen: Candidate) -> tuple[str, ...]:
    notes = [f"{chosen.instances} x {chosen.instance_type} in the peak hour", *chosen.notes]
    if situation.traffic.scale_to_zero and situation.traffic.idle_hours:
        notes.append(
            "at zero instances an endpoint answers with errors for the minutes that a start takes; "
            "TokenScaling keeps one copy today"
        )
    return tuple(notes)
