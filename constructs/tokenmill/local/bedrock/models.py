"""Foundation models as Bedrock lists them, and which of them take provisioned throughput.

Sources: Amazon Bedrock API Reference, "ListFoundationModels", "GetFoundationModel",
"GetFoundationModelAvailability"; User Guide, "Supported Region and models for Provisioned Throughput" (ids
for purchasing name the context length, such as `:18k`). Which models there are stands in the library's price
list, which of them have units, and where, in its list of units.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from tokenmill.core.bedrock_prices import bedrock_prices
from tokenmill.core.model_units import unit_offers
from tokenmill.local.aws_requests import AwsError

if TYPE_CHECKING:
    from tokenmill.local.aws_requests import Operation, Params, Scope
    from tokenmill.local.bedrock.control import BedrockControl

_CONTEXT = re.compile(r"(?<=:\d)(:\d+k|:mm)$")
_MODEL = re.compile(r"[a-z0-9-]{1,63}\.[a-z0-9-]{1,63}([.]?[a-z0-9-]{1,63})(:[a-z0-9-]{1,63}){0,2}")


@cache
def foundation_ids() -> frozenset[str]:
    """The ids of foundation models, without geography and context length."""
    plain = {_CONTEXT.sub("", model_id) for model_id in unit_offers()}
    return frozenset(model_id for model_id in plain | set(bedrock_prices()) if _MODEL.fullmatch(model_id))


def plain_model(identifier: str) -> str:
    """Return a foundation model's id without the context length that a purchase names.

    Args:
        identifier: Its id or ARN.
    """
    return _CONTEXT.sub("", identifier.rpartition("/")[2])


def foundation_arn(scope: Scope, model_id: str) -> str:
    """Return a foundation model's ARN.

    Args:
        scope: In which region.
        model_id: Its id.
    """
    return f"arn:aws:bedrock:{scope.region}::foundation-model/{model_id}"


class FoundationModels:
    """What an account sees of foundation models.

    `with_units` are ids that have units although the library's list lacks them, and `without_access` ids that
    the account has not been granted.

    Args:
        control: The control plane.
    """

    def __init__(self, control: BedrockControl) -> None:
        self._control = control
        self.with_units: set[str] = set()
        self.without_access: set[str] = set()

    def operations(self) -> dict[str, Operation]:
        """Return what runs the operations."""
        return {
            "ListFoundationModels": self._list,
            "GetFoundationModel": self._get,
            "GetFoundationModelAvailability": self._availability,
        }

    def for_units(self, scope: Scope, identifier: str, commitment: str | None) -> tuple[str, str]:
        """Return the ARN of a model that units are bought for, and of the base model behind it.

        Args:
            scope: Whose.
            identifier: Id or ARN of a foundation model, name or ARN of a custom model.
            commitment: "OneMonth", "SixMonths" or nothing.

        Raises:
            AwsError: There is no such model, or it takes no provisioned throughput.
        """
        custom = self._control.custom_models.find(scope, identifier)
        if custom is not None:
            if custom.base is None or custom.status(self._control.clock()) != "Active":
                raise AwsError("ValidationException", f"{identifier} doesn't support Provisioned Throughput.")
            return custom.arn, custom.base
        if identifier.startswith("arn:") and ":foundation-model/" not in identifier:
            raise AwsError("ResourceNotFoundException", f"The model {identifier} was not found.")
        model_id = identifier.rpartition("/")[2]
        if plain_model(model_id) not in foundation_ids():
            raise AwsError("ValidationException", "The provided model identifier is invalid.")
        self._check_offer(scope, model_id, commitment)
        arn = foundation_arn(scope, model_id)
        return arn, arn

    def _check_offer(self, scope: Scope, model_id: str, commitment: str | None) -> None:
        offer = unit_offers().get(model_id)
        if model_id in self.with_units:
            return
        if offer is None or (offer.regions and scope.region not in offer.regions):
            raise AwsError(
                "ValidationException",
                f"The model {model_id} doesn't support Provisioned Throughput in {scope.region}.",
            )
        if commitment is None and offer.without_commitment is False:
            raise AwsError(
                "ValidationException",
                f"The model {model_id} doesn't support Provisioned Throughput with no commitment.",
            )

    def _details(self, scope: Scope, model_id: str) -> Params:
        sold = {_CONTEXT.sub("", each) for each in (*unit_offers(), *self.with_units)}
        types = ["ON_DEMAND", "PROVISIONED"] if model_id in sold else ["ON_DEMAND"]
        embedding = "embed" in model_id
        return {
            "modelArn": foundation_arn(scope, model_id),
            "modelId": model_id,
            "modelName": model_id.partition(".")[2][:20],
            "providerName": model_id.partition(".")[0].capitalize(),
            "inputModalities": ["TEXT"],
            "outputModalities": ["EMBEDDING" if embedding else "TEXT"],
            "responseStreamingSupported": not embedding,
            "customizationsSupported": [],
            "inferenceTypesSupported": types,
            "modelLifecycle": {"status": "ACTIVE"},
        }

    def _list(self, scope: Scope, params: Params) -> Params:
        summaries = [self._details(scope, model_id) for model_id in sorted(foundation_ids())]
        provider: str | None = params.get("byProvider")
        return {
            "modelSummaries": [
                one
                for one in summaries
                if (provider is None or provider.lower() == one["providerName"].lower())
                and params.get("byOutputModality", one["outputModalities"][0]) in one["outputModalities"]
                and params.get("byInferenceType", "ON_DEMAND") in one["inferenceTypesSupported"]
                and "byCustomizationType" not in params
            ]
        }

    def _get(self, scope: Scope, params: Params) -> Params:
        model_id = params["modelIdentifier"].rpartition("/")[2]
        if model_id not in foundation_ids():
            raise AwsError("ValidationException", "The provided model identifier is invalid.")
        return {"modelDetails": self._details(scope, model_id)}

    def _availability(self, scope: Scope, params: Params) -> Params:
        model_id = params["modelId"]
        if model_id not in foundation_ids():
            raise AwsError("ValidationException", "The provided model identifier is invalid.")
        granted = model_id not in self.without_access
        return {
            "modelId": model_id,
            "agreementAvailability": {"status": "AVAILABLE" if granted else "NOT_AVAILABLE"},
            "authorizationStatus": "AUTHORIZED",
            "entitlementAvailability": "AVAILABLE" if granted else "NOT_AVAILABLE",
            "regionAvailability": "AVAILABLE",
        }
