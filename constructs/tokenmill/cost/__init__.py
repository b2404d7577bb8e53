"""What a synthesized assembly costs with no traffic, per million tokens, and which quotas it needs."""

from __future__ import annotations

from tokenmill.cost.assembly import CostStack, Resource, read_stacks
from tokenmill.cost.difference import CostDifference, LineChange, compare
from tokenmill.cost.estimate import cost_of
from tokenmill.cost.loads import PlannedLoads
from tokenmill.cost.markdown import difference_markdown, report_markdown
from tokenmill.cost.prices import HOURS_PER_MONTH, ItemPrice, PriceList
from tokenmill.cost.report import ByUse, CostLine, CostReport, QuotaNeed, RunCost, TokenCost

__all__ = [
    "HOURS_PER_MONTH",
    "ByUse",
    "CostDifference",
    "CostLine",
    "CostReport",
    "CostStack",
    "ItemPrice",
    "LineChange",
    "PlannedLoads",
    "PriceList",
    "QuotaNeed",
    "Resource",
    "RunCost",
    "TokenCost",
    "compare",
    "cost_of",
    "difference_markdown",
    "read_stacks",
    "report_markdown",
]
