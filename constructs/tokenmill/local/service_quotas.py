"""Service Quotas of Bedrock, as far as the local cloud applies them.

AWS does not publish the codes of Bedrock's quotas; here a code follows from the quota's name.
Source: Service Quotas API Reference, "ListServiceQuotas", "GetServiceQuota", "RequestServiceQuotaIncrease";
AWS General Reference, "Amazon Bedrock endpoints and quotas" (names).
"""

from __future__ import annotations

import hashlib
import threading
from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tokenmill.local.aws_requests import AwsError, ModelledService, Params, Scope, ServiceShapes

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenmill.local.aws_requests import Operation

    Listing = Callable[[Scope], dict[str, float]]


class ServiceQuotas(ModelledService):
    """The service.

    Args:
        listings: The applied quotas of each service, by its code: names and values of an account and region.
    """

    title = "Service Quotas"
    shapes = ServiceShapes("service-quotas")

    def __init__(self, listings: dict[str, Listing]) -> None:
        self._listings = listings
        self._requests: defaultdict[Scope, list[Params]] = defaultdict(list)
        self.lock = threading.RLock()
        self._operations: dict[str, Operation] = {
            "ListServiceQuotas": self._list,
            "ListAWSDefaultServiceQuotas": self._list,
            "GetServiceQuota": self._get,
            "GetAWSDefaultServiceQuota": self._get,
            "RequestServiceQuotaIncrease": self._request,
            "ListRequestedServiceQuotaChangeHistoryByQuota": self._history,
        }

    def _quotas(self, scope: Scope, service: str) -> list[Params]:
        if service not in self._listings:
            raise AwsError(
                "NoSuchResourceException", f"the local cloud has quotas of {', '.join(self._listings)} only"
            )
        return [_quota(scope, service, name, value) for name, value in self._listings[service](scope).items()]

    def _list(self, scope: Scope, params: Params) -> Params:
        quotas = self._quotas(scope, params["ServiceCode"])
        token, size = params.get("NextToken", "0"), params.get("MaxResults", 100)
        if not token.isdecimal():
            raise AwsError("InvalidPaginationTokenException", f"{token} is no token of this service")
        start = int(token)
        more = {"NextToken": str(start + size)} if start + size < len(quotas) else {}
        return {"Quotas": quotas[start : start + size], **more}

    def _get(self, scope: Scope, params: Params) -> Params:
        for quota in self._quotas(scope, params["ServiceCode"]):
            if quota["QuotaCode"] == params["QuotaCode"]:
                return {"Quota": quota}
        raise AwsError("NoSuchResourceException", f"there is no quota {params['QuotaCode']}")

    def _request(self, scope: Scope, params: Params) -> Params:
        quota = self._get(scope, params)["Quota"]
        kept = ("ServiceCode", "ServiceName", "QuotaCode", "QuotaName", "QuotaArn", "Unit")
        request: Params = {
            **{name: quota[name] for name in kept},
            "Id": hashlib.sha256(f"{quota['QuotaArn']}/{len(self._requests[scope])}".encode()).hexdigest()[
                :32
            ],
            "DesiredValue": params["DesiredValue"],
            "Status": "PENDING",
            "Created": datetime.now(UTC),
        }
        self._requests[scope].append(request)
        return {"RequestedQuota": request}

    def _history(self, scope: Scope, params: Params) -> Params:
        wanted = (params["ServiceCode"], params["QuotaCode"])
        found = [r for r in self._requests[scope] if (r["ServiceCode"], r["QuotaCode"]) == wanted]
        return {"RequestedQuotas": found}


def _quota(scope: Scope, service: str, name: str, value: float) -> Params:
    code = f"L-{hashlib.sha256(f'{service}/{name}'.encode()).hexdigest()[:8].upper()}"
    return {
        "ServiceCode": service,
        "ServiceName": {"bedrock": "Amazon Bedrock"}[service],
        "QuotaArn": scope.arn("servicequotas", f"{service}/{code}"),
        "QuotaCode": code,
        "QuotaName": name,
        "Value": float(value),
        "Unit": "None",
        "Adjustable": True,
        "GlobalQuota": False,
        "QuotaAppliedAtLevel": "ACCOUNT",
    }
