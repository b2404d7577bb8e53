"""Which quota a purchase of units needs, read before anything is changed.

Reading is best effort: a quota that is not
found, or may not be read, stops nothing, since the service itself refuses what goes over it.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

from tokenmill_runtime import aws
from tokenmill_runtime.custom_resource import Refused, redact
from tokenmill_runtime.units_market import quota_words
from tokenmill_runtime.units_plan import quota_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokenmill_runtime.units_market import Market
    from tokenmill_runtime.units_plan import Wanted

ASK_VARIABLE: Final = "TOKENMILL_ASK_QUOTA"
SERVICE: Final = "bedrock"


def check_quota(market: Market, wanted: Wanted, *, instead_of: int) -> None:
    """Raise Refused where the account may not own so many units more, less those that go before."""
    if os.environ.get(ASK_VARIABLE) != "1":
        return
    from botocore.exceptions import BotoCoreError, ClientError

    custom = ":custom-model/" in wanted.model
    name = quota_name(custom=custom)
    try:
        allowed = next((value for quota, value in _quotas() if quota == name), None)
        if allowed is None:
            return
        owned = sum(
            units.units
            for units in market.all()
            if not units.commitment and (":custom-model/" in units.model_arn) == custom
        )
    except (BotoCoreError, ClientError) as error:
        print(redact(f"quotas cannot be read: {error}"), file=sys.stderr, flush=True)
        return
    if owned - instead_of + wanted.units > allowed:
        raise Refused(
            f"{quota_words(wanted.model, wanted.units, 'NONE')}; the quota is {allowed:g}, and {owned} are "
            "owned",
            code="quota",
        )


def _quotas() -> Iterator[tuple[str, float]]:
    pages = aws.service_quotas().get_paginator("list_service_quotas").paginate(ServiceCode=SERVICE)
    for page in pages:
        for quota in page["Quotas"]:
            yield quota["QuotaName"], quota["Value"]
