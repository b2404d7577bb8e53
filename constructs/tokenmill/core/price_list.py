"""Hosting prices and endpoint quotas as AWS states them: the Price List API and Service Quotas."""

from __future__ import annotations

import datetime
import json
import math
from typing import TYPE_CHECKING, Any

from tokenmill.core.errors import TokenmillError
from tokenmill.core.user_catalog import HIGHEST_USD, RegionCatalog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

SERVICE = "AmazonSageMaker"
SOURCE = "AWS Price List (pricing:GetProducts, AmazonSageMaker, component Hosting)"
QUOTA_SUFFIX = " for endpoint usage"
"""Service Quotas names one quota an instance type so (AWS documentation: "Amazon SageMaker AI endpoints and
quotas")."""
PAGE = 100


def hosting_catalog(
    client: Any, region: str, names: Iterable[str], progress: Callable[[int], None]
) -> RegionCatalog:
    """Return the on-demand hosting prices of a region.

    Args:
        client: boto3 client of "pricing".
        region: AWS region whose prices are wanted.
        names: Instance types that count; others in the list are passed over.
        progress: Called with the number of products read so far.

    Raises:
        TokenmillError: An answer is not of the API's form, or the list has no hosting price for the region.
    """
    wanted, days = set(names), set()
    found: dict[str, set[float]] = {}
    filters = [
        {"Type": "TERM_MATCH", "Field": "regionCode", "Value": region},
        {"Type": "TERM_MATCH", "Field": "component", "Value": "Hosting"},
    ]
    arguments = {"ServiceCode": SERVICE, "FormatVersion": "aws_v1", "Filters": filters}
    for number, item in enumerate(_pages(client, "GetProducts", "PriceList", arguments), start=1):
        progress(number)
        product = _product(item)
        attributes = _object(product, "product", "attributes")
        name = attributes.get("instanceName")
        here = attributes.get("regionCode") == region and attributes.get("component") == "Hosting"
        # products of reservations have no on-demand term
        if here and name in wanted and _object(product, "terms").get("OnDemand"):
            found.setdefault(name, set()).add(_on_demand(product, name))
            days.add(_published(product))
    if not found:
        raise TokenmillError(
            f"the price list has no hosting price for any known instance type in region {region!r}; "
            "check the region's name"
        )
    return RegionCatalog(
        prices={name: min(prices) for name, prices in sorted(found.items()) if len(prices) == 1},
        unclear=tuple(name for name, prices in sorted(found.items()) if len(prices) > 1),
        published=max(days),
    )


def endpoint_quotas(client: Any, names: Iterable[str], progress: Callable[[int], None]) -> dict[str, float]:
    """Return how many instances of each type the account may run for endpoints in the client's region.

    Args:
        client: boto3 client of "service-quotas".
        names: Instance types that count.
        progress: Called with the number of quotas read so far.

    Raises:
        TokenmillError: An answer is not of the API's form.
    """
    wanted, found = set(names), {}
    arguments = {"ServiceCode": "sagemaker"}
    for number, quota in enumerate(_pages(client, "ListServiceQuotas", "Quotas", arguments), start=1):
        progress(number)
        name = str(quota.get("QuotaName", ""))
        instance = name.removesuffix(QUOTA_SUFFIX)
        if name.endswith(QUOTA_SUFFIX) and instance in wanted and "Value" in quota:
            found[instance] = float(quota["Value"])
    return dict(sorted(found.items()))


def _pages(client: Any, operation: str, key: str, arguments: dict[str, Any]) -> Iterator[Any]:
    method = {"GetProducts": "get_products", "ListServiceQuotas": "list_service_quotas"}[operation]
    token, seen = None, set()
    while True:
        if token:
            arguments = {**arguments, "NextToken": token}
        answer = getattr(client, method)(MaxResults=PAGE, **arguments)
        _validate(client, operation, answer)
        yield from answer.get(key, [])
        token = answer.get("NextToken")
        if not token:
            return
        if token in seen:
            raise TokenmillError(f"{operation} gave the same page twice; try again later")
        seen.add(token)


def _validate(client: Any, operation: str, answer: dict[str, Any]) -> None:
    from botocore.validate import ParamValidator

    shape = client.meta.service_model.operation_model(operation).output_shape
    content = {name: value for name, value in answer.items() if name != "ResponseMetadata"}
    report = ParamValidator().validate(content, shape)
    if report.has_errors():
        reason = " ".join(report.generate_report().split())
        raise TokenmillError(f"the answer of {operation} is not of the API's form: {reason}; try again later")


def _product(item: Any) -> dict[str, Any]:
    try:
        product = json.loads(item)
    except (json.JSONDecodeError, RecursionError):
        product = None
    if not isinstance(product, dict):
        raise TokenmillError(f"a product of the price list is not a JSON object: {str(item)[:60]!r}")
    return product


def _object(product: dict[str, Any], *path: str) -> dict[str, Any]:
    value: Any = product
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    if not isinstance(value, dict):
        raise TokenmillError(f"a product of the price list lacks {'.'.join(path)}; try again later")
    return value


def _on_demand(product: dict[str, Any], name: str) -> float:
    offers = _object(product, "terms", "OnDemand").values()
    dimensions = [
        dimension
        for offer in offers
        for dimension in _object({"offer": offer}, "offer", "priceDimensions").values()
    ]
    texts = [
        _object({"dimension": dimension}, "dimension", "pricePerUnit").get("USD")
        for dimension in dimensions
        if isinstance(dimension, dict) and str(dimension.get("unit", "")).lower() in ("hrs", "hours")
    ]
    if len(texts) != 1:
        raise TokenmillError(f"the price list has {len(texts)} hourly on-demand prices for {name}, not one")
    try:
        usd = float(str(texts[0]))
    except ValueError:
        usd = math.nan
    if not 0 < usd <= HIGHEST_USD:
        raise TokenmillError(
            f"the price list's hourly price of {name} is {texts[0]!r}, not US dollars above 0"
        )
    return usd


def _published(product: dict[str, Any]) -> str:
    text = product.get("publicationDate")
    try:
        return datetime.datetime.fromisoformat(str(text)).date().isoformat()
    except ValueError:
        raise TokenmillError(f"a product of the price list has no publicationDate: {text!r}") from None
