"""The planned load of each model: from the plan that a template names by hash, or from the settings file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tokenmill.core.bedrock_prices import STANDARD, bedrock_price
from tokenmill.core.errors import TokenmillError
from tokenmill.core.plan import Plan
from tokenmill.core.settings import load_settings
from tokenmill.cost.assembly import references
from tokenmill.cost.endpoints import COMPONENT, CONFIG, is_adapter
from tokenmill.cost.prices import HOURS_PER_MONTH
from tokenmill.cost.report import QuotaNeed, TokenCost

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tokenmill.core.settings import StackSettings
    from tokenmill.core.workload import Workload
    from tokenmill.cost.assembly import CostStack, Resource
    from tokenmill.cost.prices import PriceList

MILLION = 1e6
NO_PRICE = "give yours to tokenmill advise with --token-price input=USD,output=USD"
PLANS = "*.plan.json"
PREFIX = "tokenmill-"
INSTANCES = "endpoint instances"
MODEL = "AWS::SageMaker::Model"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedLoads:
    """Plans by hash, and sections of the settings by the name of their stack.

    Args:
        plans: Plans.
        sections: Sections that run on Bedrock, by stack name.
        warnings: Plan files that could not be read.
    """

    plans: dict[str, Plan] = field(default_factory=dict, hash=False)
    sections: dict[str, StackSettings] = field(default_factory=dict, hash=False)
    warnings: tuple[str, ...] = ()

    @classmethod
    def beside(cls, folders: Iterable[Path], plans: Iterable[Path] = ()) -> PlannedLoads:
        """Look for plan files and settings in some folders.

        Args:
            folders: Where to look: beside the assembly, and where the command runs.
            plans: Plan files named by the user, which must be readable.

        Raises:
            TokenmillError: A plan file that the user named is not one.
        """
        found = {plan.hash: plan for plan in map(Plan.read, plans)}
        sections: dict[str, StackSettings] = {}
        warnings = []
        for folder in dict.fromkeys(folder.resolve() for folder in folders):
            for path in sorted(folder.glob(PLANS)):
                try:
                    plan = Plan.read(path)
                except TokenmillError as error:
                    warnings.append(f"plan file {path.name} is left out: {error}")
                else:
                    found.setdefault(plan.hash, plan)
            path = folder / "tokenmill.toml"
            if path.is_file():
                try:
                    loaded = load_settings(path)
                except TokenmillError as error:
                    warnings.append(f"{path.name} is left out: {str(error).splitlines()[0]}")
                else:
                    sections |= {
                        f"{PREFIX}{name}": section
                        for name, section in loaded.items()
                        if not section.needs_plan and f"{PREFIX}{name}" not in sections
                    }
        return cls(plans=found, sections=sections, warnings=tuple(warnings))

    def token_costs(
        self, stack: CostStack, prices: PriceList, other_usd_per_month: float, *, partial: bool
    ) -> list[TokenCost]:
        """Return the price per million tokens of each model that a template serves.

        Args:
            stack: The template.
            prices: Prices.
            other_usd_per_month: What the stack costs without traffic beside the instances of its endpoints.
            partial: Whether a price of that is missing.
        """
        other = None if partial else other_usd_per_month / HOURS_PER_MONTH
        served = [self._served(item, stack, prices, other) for item in models_served(stack)]
        section = self.sections.get(stack.name)
        if section is not None and not served:
            served.append(_bedrock(section, stack, other))
        return served

    def quotas(self, stacks: Iterable[CostStack]) -> list[QuotaNeed]:
        """Return the token quotas of stacks that run on Bedrock, for the load in the settings.

        Args:
            stacks: The assembly's templates.
        """
        found = []
        for stack in stacks:
            section = self.sections.get(stack.name)
            if section is None or models_served(stack):
                continue
            found.append(_token_quota(section, stack.region))
        return found

    def _served(self, item: Resource, stack: CostStack, prices: PriceList, other: float | None) -> TokenCost:
        metadata = item.metadata.get("tokenmill")
        facts = metadata if isinstance(metadata, dict) else {}
        model, named = str(facts.get("model", item.name)), facts.get("plan")
        if not isinstance(named, str):
            return _not_told(stack, model, "its template names no plan, so its load is not known")
        plan = self.plans.get(named)
        if plan is None:
            return _not_told(
                stack,
                model,
                f"plan {named} lies neither beside the assembly nor here; give its file with --plan",
            )
        chosen, load = plan.chosen, plan.workload
        price = prices.find(chosen.instance_type, stack.region)
        if price is None:
            kind = chosen.instance_type
            note = f"no price of {kind} in {stack.region} is known; give --price {kind}=USD"
            return _not_told(stack, model, note, load)
        hourly = chosen.instances * price.usd
        return TokenCost(
            stack=stack.name,
            model=model,
            load=_words(load),
            tokens_per_hour=load.tokens_per_hour,
            usd_per_million=hourly / load.tokens_per_hour * MILLION,
            usd_per_million_with_floor=None
            if other is None
            else (hourly + other) / load.tokens_per_hour * MILLION,
            note=f"{chosen.instances} x {chosen.instance_type} at the planned load, without what is by use",
        )


def models_served(stack: CostStack) -> list[Resource]:
    """Return what serves a model of its own: components that are no adapters, and the models of variants.

    Args:
        stack: A template.
    """
    components = [item for item in stack.of_type(COMPONENT) if not is_adapter(item)]
    named = references([config.properties.get("ProductionVariants") for config in stack.of_type(CONFIG)])
    models = [item for item in stack.of_type(MODEL) if item.logical_id in named]
    said: dict[str, Resource] = {}
    for model in models:
        facts = model.metadata.get("tokenmill")
        if isinstance(facts, dict):
            # a variant of several instance types has a model for each
            said.setdefault(str(facts.get("model")), model)
    return [*components, *said.values()]


def _bedrock(section: StackSettings, stack: CostStack, other: float | None) -> TokenCost:
    load = section.workload
    try:
        quote = bedrock_price(section.model, stack.region, way_out=NO_PRICE)
    except TokenmillError as error:
        return _not_told(stack, section.model, str(error), load)
    if quote.price is None:
        return _not_told(stack, section.model, quote.note, load)
    standard = quote.price.tiers[STANDARD]
    per_request = load.input_tokens * standard.input + load.output_tokens * standard.output
    usd = per_request / (load.input_tokens + load.output_tokens)
    floor = None if other is None else usd + other / load.tokens_per_hour * MILLION
    notes = [f"on demand, standard tier, no cache; price of {quote.price.source_date}", quote.note]
    return TokenCost(
        stack=stack.name,
        model=section.model,
        load=_words(load),
        tokens_per_hour=load.tokens_per_hour,
        usd_per_million=usd,
        usd_per_million_with_floor=floor,
        note="; ".join(filter(None, notes)),
    )


def _token_quota(section: StackSettings, region: str) -> QuotaNeed:
    from tokenmill.core.bedrock_prices import plain_id, profile_of
    from tokenmill.planner.advise.need import ROOM_FOR_LONG_ANSWERS, Usage
    from tokenmill.planner.advise.quota import quota_need

    model = plain_id(section.model)
    need = quota_need(model, section.workload, Usage())
    scope = "Cross-Region" if profile_of(model) else "On-demand"
    notes = [
        f"{need.settled_tpm:,.0f} settled, an answer token counting {need.burndown:g}",
        f"{need.reserved_tpm:,.0f} reserved while requests run, max_tokens being {ROOM_FOR_LONG_ANSWERS} "
        "times the mean answer",
        need.note,
    ]
    return QuotaNeed(
        service="bedrock",
        name=f"{scope} InvokeModel tokens per minute for {model}",
        code="",
        region=region,
        at_floor=0.0,
        at_most=need.ask_for_tpm,
        note="; ".join(filter(None, notes)),
    )


def _not_told(stack: CostStack, model: str, note: str, load: Workload | None = None) -> TokenCost:
    return TokenCost(
        stack=stack.name,
        model=model,
        load="" if load is None else _words(load),
        tokens_per_hour=None if load is None else load.tokens_per_hour,
        usd_per_million=None,
        usd_per_million_with_floor=None,
        note=note,
    )


def _words(load: Workload) -> str:
    return f"{load.requests_per_second:g} requests/s of {load.input_tokens} + {load.output_tokens} tokens"
