"""docs/unverified.md, written from the lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenmill.core.errors import TokenmillError
from tokenmill.verification.lines import FOOTPRINTS, LINES, TEARDOWN_MINUTES, price_at_most

if TYPE_CHECKING:
    from tokenmill.verification.line import Line
    from tokenmill.verification.lines import Footprint

PRICE_REGION = "us-east-1"

_HEAD = """\
# What is not verified

Everything else in this repository is checked by its tests. The lines below can only be settled on
an AWS account; each has a probe that a user can run:

```sh
tokenmill verify                                   # the lines, and what each costs at most
tokenmill verify --account --line neuron-image-driver
tokenmill verify --cleanup                         # after a run that was killed
```

A probe shows its price first and asks (or takes `--yes`), refuses what costs more than `--max-usd`,
creates resources tagged `tokenmill:verify`, waits with a time-out, writes dated evidence to
`.tokenmill/evidence/account/` and deletes what it created, whatever happens. Each resource is
written into `.tokenmill/verify-ledger.json` before it is created, so that a killed run can be
cleaned up. What anything but AWS answers (`AWS_ENDPOINT_URL`) is kept under
`.tokenmill/evidence/local/` and is no evidence.

This page is written from `tokenmill.verification.LINES`; a test keeps the two equal.
"""


def unverified_page() -> str:
    """Return the text of docs/unverified.md."""
    parts = [_HEAD]
    for line in LINES:
        footprint = FOOTPRINTS[line.deployment]
        shared = [other.id for other in LINES if other.deployment is line.deployment and other is not line]
        together = f"; shared with {', '.join(shared)} in one run" if shared else ""
        parts.append(
            f"## {line.id}\n\n"
            f"{line.claim}\n\n"
            f"- Why it is unverified: {line.why}\n"
            f"- What relies on it: {line.relies}\n"
            f"- Probe: {line.probe}\n"
            f"- Price: {_price(line)} ({_on(footprint)}, {footprint.minutes} minutes and "
            f"{TEARDOWN_MINUTES} for the teardown at most{together}){_by_name(footprint)}\n"
        )
    return "\n".join(parts)


def _price(line: Line) -> str:
    try:
        return f"at most {price_at_most((line,), region=PRICE_REGION, prices={}):.2f} USD in {PRICE_REGION}"
    except TokenmillError as error:
        return str(error)


def _on(footprint: Footprint) -> str:
    if footprint.unit_model:
        return f"at most {footprint.units} times one model unit of {footprint.unit_model} by the hour"
    if not footprint.instance:
        return "requests only"
    count = "one" if footprint.instances == 1 else f"at most {footprint.instances}"
    return f"{count} {footprint.instance}"


def _by_name(footprint: Footprint) -> str:
    return "; probed only when asked for by name" if footprint.by_name else ""
