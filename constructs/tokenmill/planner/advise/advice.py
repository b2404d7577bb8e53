"""The answer: what to take, by which rules, what was rejected and why, and at which rate that changes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tokenmill.core._codec import encode

if TYPE_CHECKING:
    from tokenmill.core.plan import Candidate
    from tokenmill.core.workload import Slo, Workload
    from tokenmill.planner.advise.cost import MonthlyCost
    from tokenmill.planner.advise.need import Need, Traffic, Usage
    from tokenmill.planner.advise.quota import QuotaNeed

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """An option that meets every need: priced ones by cost, then unpriced ones.

    Args:
        id: "bedrock-on-demand", "sagemaker-l40s" and so on.
        title: Its name for people.
        monthly: Cost of a month; None where a price is missing.
        usd_per_million_tokens: The same per million tokens, input and output; None where a price is missing.
        missing: Why it has no price; empty where it has one.
        favoured_by: Ids of the rules that speak for it.
        notes: What a reader must know.
        even_usd_per_hour: For SageMaker without a price: hourly price of one instance at which it would cost
            what the recommended option does.
    """

    id: str
    title: str
    monthly: MonthlyCost | None
    usd_per_million_tokens: float | None
    missing: str = ""
    favoured_by: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    even_usd_per_hour: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """An option that cannot be taken.

    Args:
        id: Which.
        title: Its name for people.
        rules: Ids of the rules that exclude it; empty where it cannot serve the model at all.
        reason: One sentence.
    """

    id: str
    title: str
    rules: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fired:
    """A rule that applied.

    Args:
        id: Which.
        sentence: What it says.
        source: Title of the page that it rests on; empty where it follows from the input alone.
        effect: "excludes" or "favours".
        options: Ids of the options that it concerns.
    """

    id: str
    sentence: str
    source: str
    effect: str
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakEven:
    """The nearest rate at which another option costs no more than the recommended one.

    Args:
        other: The other option.
        direction: "above" or "below" the rate asked for.
        requests_per_second: Rate of the peak hour, by the best estimates.
        earliest: The same with the intervals at the other option's best.
        latest: The same with the intervals at the other option's worst; None where it then never gets there.
        lasting: Rate from which it stays cheaper, as far as rates were tried: fleets grow by whole instances,
            so the first rate need not be it; None where it does not stay.
    """

    other: str
    direction: str
    requests_per_second: float
    earliest: float
    latest: float | None
    lasting: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """An option's cost over rates, for a chart.

    Args:
        id: Which option.
        title: Its name for people.
        requests_per_second: Rates of the peak hour.
        low: Low ends, in US dollars a month; None where the option cannot carry the rate.
        expected: Best estimates.
        high: High ends.
    """

    id: str
    title: str
    requests_per_second: tuple[float, ...]
    low: tuple[float | None, ...]
    expected: tuple[float | None, ...]
    high: tuple[float | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceUsed:
    """A price that the answer rests on.

    Args:
        what: "qwen.qwen3-32b-v1:0 input" or "ml.g6e.12xlarge".
        usd: How much.
        per: "million tokens" or "hour".
        source: Where it stands.
        date: Day that it stood there, as YYYY-MM-DD; empty for a price that the user gave.
    """

    what: str
    usd: float
    per: str
    source: str
    date: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """Bedrock or SageMaker, and on what.

    Args:
        region: AWS region.
        date: Day of the answer, as YYYY-MM-DD.
        bedrock_model: Bedrock id; empty where none was considered.
        open_model: Name of the open-weights model; empty where none was considered.
        need: What had to hold.
        traffic: How requests spread over a month.
        workload: The peak hour.
        slo: How fast answers must come.
        usage: How requests use Bedrock.
        recommendation: Id of the option to take; empty where no feasible one has a price.
        verdict: The recommendation in a sentence or two, with what is uncertain.
        too_close: Ids of options whose interval overlaps the recommended one's.
        decides: What would settle it; empty where nothing is too close.
        confidence: "high", "medium" or "low"; "none" without a recommendation.
        doubts: Why it is not higher.
        ranked: Options that meet every need.
        rejected: Options that do not.
        fired: Rules that applied.
        break_evens: Rates at which another option becomes the cheaper one.
        quota: What the peak hour takes from Bedrock's token quota; None without a Bedrock model.
        context_tokens: Longest prompt and answer together on Bedrock, in tokens.
        prices: What the answer rests on.
        lines: Costs over rates.
        carried: For SageMaker: largest rate that limits.max_instances instances carry, in requests a second.
        warnings: Inputs that look like a mistake, such as seconds for milliseconds.
        candidate: For SageMaker: what would run.
        schema: Version of this document.
    """

    region: str
    date: str
    bedrock_model: str
    open_model: str
    need: Need
    traffic: Traffic
    workload: Workload
    slo: Slo
    usage: Usage
    recommendation: str
    verdict: str
    too_close: tuple[str, ...]
    decides: str
    confidence: str
    doubts: tuple[str, ...]
    ranked: tuple[Ranked, ...]
    rejected: tuple[Rejected, ...]
    fired: tuple[Fired, ...]
    break_evens: tuple[BreakEven, ...]
    quota: QuotaNeed | None
    context_tokens: int
    prices: tuple[PriceUsed, ...]
    lines: tuple[Line, ...]
    carried: float | None = None
    warnings: tuple[str, ...] = ()
    candidate: Candidate | None = field(default=None, hash=False)
    schema: int = SCHEMA

    def title_of(self, option: str) -> str:
        """Return an option's name for people.

        Args:
            option: Its id.
        """
        return self.titles[option]

    @property
    def titles(self) -> dict[str, str]:
        """Names for people by id."""
        kept = {item.id: item.title for item in self.ranked}
        return kept | {item.id: item.title for item in self.rejected}

    @property
    def best(self) -> Ranked | None:
        """The recommended option."""
        return next((item for item in self.ranked if item.id == self.recommendation), None)

    def to_json(self) -> dict[str, Any]:
        """Return a document of plain JSON values."""
        document: dict[str, Any] = encode(self)
        return {"schema": document.pop("schema"), **document}
