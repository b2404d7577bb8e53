"""Inference profiles and prompt routers.

Source: Amazon Bedrock API Reference, "CreateInferenceProfile", "GetInferenceProfile", "CreatePromptRouter"
and "GetPromptRouter"; Amazon Bedrock User Guide, "Increase throughput with cross-Region inference"
(prefixes of ids) and "Understanding intelligent prompt routing".
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

from tokenmill.core.bedrock_prices import STANDARD, bedrock_prices
from tokenmill.core.bedrock_profiles import profile_route, profile_table, split_profile
from tokenmill.core.errors import TokenmillError
from tokenmill.local.aws_requests import AwsError, Params, Scope
from tokenmill.local.bedrock.paging import page

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenmill.local.aws_requests import Operation
    from tokenmill.local.bedrock.control import BedrockControl

# The router predicts how much worse the other model answers; here a prompt's length stands for that.
TOKENS_A_PERCENT = 10


class Profiles:
    """The inference profiles and prompt routers of every account and region.

    Args:
        control: The control plane.
    """

    def __init__(self, control: BedrockControl) -> None:
        self._control = control
        self._profiles: defaultdict[Scope, dict[str, Params]] = defaultdict(dict)
        self._routers: defaultdict[Scope, dict[str, Params]] = defaultdict(dict)

    def operations(self) -> dict[str, Operation]:
        """Return the operations by their names."""
        return {
            "CreateInferenceProfile": self._create_profile,
            "GetInferenceProfile": lambda scope, params: self.profile(
                scope, params["inferenceProfileIdentifier"]
            ),
            "ListInferenceProfiles": self._list_profiles,
            "DeleteInferenceProfile": self._delete_profile,
            "CreatePromptRouter": self._create_router,
            "GetPromptRouter": lambda scope, params: self.router(scope, params["promptRouterArn"]),
            "ListPromptRouters": self._list_routers,
            "DeletePromptRouter": self._delete_router,
        }

    def profile(self, scope: Scope, identifier: str) -> Params:
        """Return an inference profile as GetInferenceProfile does.

        Args:
            scope: Whose.
            identifier: Its id or ARN.

        Raises:
            AwsError: There is none.
        """
        identity = identifier.rsplit("/", 1)[-1]
        if identity in self._profiles[scope]:
            return self._profiles[scope][identity]
        if split_profile(identity)[0]:
            return _system_profile(scope, identity)
        raise AwsError(
            "ResourceNotFoundException", f"The inference profile {identifier} does not exist", status=404
        )

    def router(self, scope: Scope, arn: str) -> Params:
        """Return a prompt router as GetPromptRouter does.

        Args:
            scope: Whose.
            arn: Its ARN.

        Raises:
            AwsError: There is none.
        """
        found = self._routers[scope].get(arn.rsplit("/", 1)[-1])
        if found is None:
            raise AwsError("ResourceNotFoundException", f"The prompt router {arn} does not exist", status=404)
        return found

    def _create_profile(self, scope: Scope, params: Params) -> Params:
        def make() -> str:
            models = self._copied(scope, params["modelSource"]["copyFrom"])
            identity, when = self._control.new_id(scope), self._control.now()
            arn = scope.arn("bedrock", f"application-inference-profile/{identity}")
            self._control.tags.add(scope, arn, params.get("tags"))
            record: Params = {
                "inferenceProfileName": params["inferenceProfileName"],
                "inferenceProfileArn": arn,
                "inferenceProfileId": identity,
                "models": models,
                "status": "ACTIVE",
                "type": "APPLICATION",
                "createdAt": when,
                "updatedAt": when,
            }
            described = {"description": params["description"]} if "description" in params else {}
            self._profiles[scope][identity] = {**record, **described}
            return arn

        exists = self._exists(self._profiles[scope])
        arn = self._control.tokens.once(scope, "CreateInferenceProfile", params, make=make, exists=exists)
        return {"inferenceProfileArn": arn, "status": "ACTIVE"}

    def _copied(self, scope: Scope, source: str) -> list[Params]:
        if ":foundation-model/" in source:
            return [{"modelArn": source}]
        copied = self.profile(scope, source)
        if copied["type"] != "SYSTEM_DEFINED":
            raise AwsError(
                "ValidationException",
                f"{source} is an application inference profile; copy a model or a system-defined profile",
            )
        return list(copied["models"])

    @staticmethod
    def _exists(records: dict[str, Params]) -> Callable[[str], bool]:
        return lambda arn: arn.rsplit("/", 1)[-1] in records

    def _list_profiles(self, scope: Scope, params: Params) -> Params:
        names = [name for name, sources in profile_table().items() if scope.region in sources]
        everything = [*self._profiles[scope].values(), *(_system_profile(scope, name) for name in names)]
        found = [entry for entry in everything if params.get("typeEquals", entry["type"]) == entry["type"]]
        some, token = page(found, params)
        return {"inferenceProfileSummaries": some, "nextToken": token}

    def _delete_profile(self, scope: Scope, params: Params) -> Params:
        found = self.profile(scope, params["inferenceProfileIdentifier"])
        if found["type"] != "APPLICATION":
            raise AwsError("ValidationException", "a system-defined inference profile cannot be deleted")
        del self._profiles[scope][found["inferenceProfileId"]]
        self._control.tags.drop(scope, found["inferenceProfileArn"])
        return {}

    def _create_router(self, scope: Scope, params: Params) -> Params:
        def make() -> str:
            self._check_router(scope, params)
            identity, when = self._control.new_id(scope), self._control.now()
            arn = scope.arn("bedrock", f"prompt-router/{identity}")
            self._control.tags.add(scope, arn, params.get("tags"))
            kept = ("promptRouterName", "routingCriteria", "description", "models", "fallbackModel")
            self._routers[scope][identity] = {
                **{member: params[member] for member in kept if member in params},
                "promptRouterArn": arn,
                "status": "AVAILABLE",
                "type": "custom",
                "createdAt": when,
                "updatedAt": when,
            }
            return arn

        exists = self._exists(self._routers[scope])
        arn = self._control.tokens.once(scope, "CreatePromptRouter", params, make=make, exists=exists)
        return {"promptRouterArn": arn}

    def _check_router(self, scope: Scope, params: Params) -> None:
        name = params["promptRouterName"]
        if any(router["promptRouterName"] == name for router in self._routers[scope].values()):
            raise AwsError("ConflictException", f"A prompt router named {name} exists already")
        families = {_family(entry["modelArn"]) for entry in (*params["models"], params["fallbackModel"])}
        if len(families) > 1:
            told = ", ".join(sorted(families))
            raise AwsError("ValidationException", f"The models must be of one provider, not of {told}")

    def _list_routers(self, scope: Scope, params: Params) -> Params:
        wanted = params.get("type", "custom")
        found = [entry for entry in self._routers[scope].values() if entry["type"] == wanted]
        some, token = page(found, params)
        return {"promptRouterSummaries": some, "nextToken": token}

    def _delete_router(self, scope: Scope, params: Params) -> Params:
        found = self.router(scope, params["promptRouterArn"])
        del self._routers[scope][found["promptRouterArn"].rsplit("/", 1)[-1]]
        self._control.tags.drop(scope, found["promptRouterArn"])
        return {}


def routed_model(router: Params, input_tokens: int) -> str:
    """Return the model that a router takes for a prompt.

    The longer the prompt, the further the cheaper model is predicted to fall behind the dearer one. A dear
    fallback is left where the drop is within the difference, a cheap one where the gain is above it ("Prompt
    router criteria and fallback model", Amazon Bedrock User Guide).

    Args:
        router: As GetPromptRouter describes it.
        input_tokens: Tokens of the prompt.
    """
    fallback: str = router["fallbackModel"]["modelArn"]
    others = [entry["modelArn"] for entry in router["models"] if entry["modelArn"] != fallback]
    if not others:
        return fallback
    other = str(others[0])
    predicted = min(100.0, input_tokens / TOKENS_A_PERCENT)
    within = predicted <= float(router["routingCriteria"]["responseQualityDifference"])
    return other if within is (_usd(other) <= _usd(fallback)) else fallback


def _usd(arn: str) -> float:
    """The price of a million prompt tokens, wherever it is listed; a model without one counts as cheap."""
    rows = bedrock_prices().get(split_profile(arn.rsplit("/", 1)[-1])[1], {})
    return max((row.tiers[STANDARD].input for row in rows.values()), default=0.0)


def _family(arn: str) -> str:
    return split_profile(arn.rsplit("/", 1)[-1])[1].partition(".")[0]


def _system_profile(scope: Scope, identity: str) -> Params:
    try:
        route = profile_route(identity, scope.region)
    except TokenmillError as error:
        raise AwsError("ValidationException", str(error)) from error
    regions = route.regions or (scope.region,)
    return {
        # AWS's names are a text such as "US Nova Lite"; what a name may hold has no dot and no colon.
        "inferenceProfileName": re.sub(r"[^0-9A-Za-z]+", " ", identity),
        "inferenceProfileArn": scope.arn("bedrock", f"inference-profile/{identity}"),
        "inferenceProfileId": identity,
        "models": [
            {"modelArn": f"arn:aws:bedrock:{region}::foundation-model/{route.model_id}"} for region in regions
        ],
        "status": "ACTIVE",
        "type": "SYSTEM_DEFINED",
    }
