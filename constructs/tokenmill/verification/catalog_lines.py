"""What `tokenmill catalog refresh` relies on in the AWS Price List and in Service Quotas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenmill.cli.catalog import PRICING_REGION
from tokenmill.core.errors import TokenmillError
from tokenmill.core.instances import instance_catalog
from tokenmill.core.price_list import QUOTA_SUFFIX, endpoint_quotas, hosting_catalog
from tokenmill.verification.probe import Outcome, Verdict, holds

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tokenmill.verification.aws import Aws


def catalog_lines(aws: Aws, wanted: Collection[str]) -> Iterator[tuple[str, Outcome]]:
    """Read prices and quotas with the code that `tokenmill catalog refresh` reads them with.

    Args:
        aws: The run.
        wanted: Ids of the lines that were asked for.
    """
    if "price-list-hosting" in wanted:
        yield "price-list-hosting", _prices(aws)
    if "endpoint-quota-names" in wanted:
        yield "endpoint-quota-names", _quotas(aws)


def _known(region: str) -> dict[str, float]:
    """Return the shipped prices of a region: what AWS hosted there when the catalog was made."""
    listed = {name: kind.price(region) for name, kind in instance_catalog().items()}
    return {name: price.usd_per_hour for name, price in listed.items() if price is not None}


def _prices(aws: Aws) -> Outcome:
    known = _known(aws.region)
    try:
        found = hosting_catalog(
            aws.client("pricing", region=PRICING_REGION), aws.region, instance_catalog(), _no_progress
        )
    except TokenmillError as error:
        # The reader refuses products of another form, and a list in which its filters find nothing.
        return Outcome(Verdict.FAILS, {"error": str(error)})
    missing = sorted(set(known) - set(found.prices) - set(found.unclear))
    changed = {
        name: {"shipped": usd, "listed": found.prices[name]}
        for name, usd in known.items()
        if name in found.prices and abs(found.prices[name] - usd) > 0.005 * usd
    }
    seen = {"published": found.published, "prices": found.prices, "more_than_one_price": list(found.unclear)}
    return Outcome(
        holds(not found.unclear and not missing), {**seen, "not_listed": missing, "changed": changed}
    )


def _quotas(aws: Aws) -> Outcome:
    known = _known(aws.region) or dict.fromkeys(instance_catalog(), 0.0)
    client = aws.client("service-quotas")
    try:
        found = endpoint_quotas(client, instance_catalog(), _no_progress)
    except TokenmillError as error:
        return Outcome(Verdict.FAILS, {"error": str(error)})
    missing = sorted(set(known) - set(found))
    seen: dict[str, Any] = {"quotas": found, "not_listed": missing}
    if missing:
        # "If the applied quota value is not available for a quota, the quota is not retrieved"
        # ("ListServiceQuotas", Service Quotas API Reference): say whether the names or the values lack.
        seen["by_default_only"] = _defaults(client, missing)
    return Outcome(holds(not missing), seen)


def _defaults(client: Any, names: list[str]) -> dict[str, float]:
    pages = client.get_paginator("list_aws_default_service_quotas").paginate(ServiceCode="sagemaker")
    found = {quota.get("QuotaName", ""): quota.get("Value") for page in pages for quota in page["Quotas"]}
    return {name: found[name + QUOTA_SUFFIX] for name in names if name + QUOTA_SUFFIX in found}


def _no_progress(_: int) -> None:
    """Say nothing: the reading takes seconds."""
