"""Inference profiles and prompt routers.

Source: Amazon Bedrock API Reference, "CreateInferenceProfile", "GetInferenceProfile", "CreatePromptRouter" and
"GetPromptRouter"; Amazon Bedrock User Guide, "Increase throughput with cross-Region inference" (prefixes of ids)
and "Understanding intelligent prompt routing".
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

from tokenmill.local.aws_requests import AwsError, Params, Scope
from tokenmill.local.bedrock.listing import new_id, now, page

if TYPE_CHECKING:
    from tokenmill.local.aws_requests import Operation
    from tokenmill.local.bedrock.guardrails import Tag

GEOGRAPHIES = ("us", "us-gov", "eu", "apac", "jp", "au", "ca", "global")
_SYSTEM = re.compile(rf"(?:{'|'.join(GEOGRAPHIES)})\.[a-z0-9-]+\.[a-zA-Z0-9.:-]+")
# The router predicts how much worse the other model answers; here a prompt's length stands for that.
TOKENS_A_PERCENT = 10


class Profiles:
    """The inference profiles and prompt routers of every account and region.

    Args:
        tag: Remembers a new resource's tags: scope, ARN, tags.
    """

    def __init__(self, tag: Tag) -> None:
        self._tag = tag
        self._profiles: defaultdict[Scope, dict[str, Params]] = defaultdict(dict)
        self._routers: defaultdict[Scope, dict[str, Params]] = defaultdict(dict)
        self._tokens: dict[tuple[Scope, str, str], Params] = {}

    def operations(self) -> dict[str, Operation]:
        """Return the operations by their names."""
        return {
            "CreateInferenceProfile": self._create_profile,
            "GetInferenceProfile": lambda scope, params: self.profile(scope, params["inferenceProfileIdentifier"]),
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
        if _SYSTEM.fullmatch(identity):
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
        told = self._tokens.get((scope, "profile", params.get("clientRequestToken", "")))
        if told is not None:
            return told
        source = params["modelSource"]["copyFrom"]
        models = [{"modelArn": source}]
        if ":foundation-model/" not in source:
            copied = self.profile(scope, source)
            if copied["type"] != "SYSTEM_DEFINED":
                raise AwsError(
                    "ValidationException",
                    f"{source} is an application inference profile; copy a model or a system-defined profile",
                )
            models = copied["models"]
        identity, when = new_id(), now()
        arn = scope.arn("bedrock", f"application-inference-profile/{identity}")
        record: Params = {
            "inferenceProfileName": params["inferenceProfileName"],
            "inferenceProfileArn": arn,
            "inferenceProfileId": identity,
            "models": models,
            "status": "ACTIVE",
            "type": "APPLICATION",
            "createdAt": when,
            "updatedAt": when,
            **({"description": params["description"]} if "description" in params else {}),
        }
        self._profiles[scope][identity] = record
        self._tag(scope, arn, params.get("tags") or [])
        answer: Params = {"inferenceProfileArn": arn, "status": "ACTIVE"}
        if "clientRequestToken" in params:
            self._tokens[(scope, "profile", params["clientRequestToken"])] = answer
        return answer

    def _list_profiles(self, scope: Scope, params: Params) -> Params:
        wanted = params.get("typeEquals", "APPLICATION")
        found = [entry for entry in self._profiles[scope].values() if entry["type"] == wanted]
        return page("inferenceProfileSummaries", found, params)

    def _delete_profile(self, scope: Scope, params: Params) -> Params:
        found = self.profile(scope, params["inferenceProfileIdentifier"])
        if found["type"] != "APPLICATION":
            raise AwsError("ValidationException", "a system-defined inference profile cannot be deleted")
        del self._profiles[scope][found["inferenceProfileId"]]
        return {}

    def _create_router(self, scope: Scope, params: Params) -> Params:
        told = self._tokens.get((scope, "router", params.get("clientRequestToken", "")))
        if told is not None:
            return told
        name = params["promptRouterName"]
        if any(router["promptRouterName"] == name for router in self._routers[scope].values()):
            raise AwsError("ConflictException", f"A prompt router named {name} exists already", status=409)
        families = {_family(entry["modelArn"]) for entry in (*params["models"], params["fallbackModel"])}
        if len(families) > 1:
            raise AwsError(
                "ValidationException", f"The models must be of one provider, not of {', '.join(sorted(families))}"
            )
        identity, when = new_id(), now()
        arn = scope.arn("bedrock", f"prompt-router/{identity}")
        kept = ("promptRouterName", "routingCriteria", "description", "models", "fallbackModel")
        self._routers[scope][identity] = {
            **{member: params[member] for member in kept if member in params},
            "promptRouterArn": arn,
            "status": "AVAILABLE",
            "type": "custom",
            "createdAt": when,
            "updatedAt": when,
        }
        self._tag(scope, arn, params.get("tags") or [])
        answer: Params = {"promptRouterArn": arn}
        if "clientRequestToken" in params:
            self._tokens[(scope, "router", params["clientRequestToken"])] = answer
        return answer

    def _list_routers(self, scope: Scope, params: Params) -> Params:
        wanted = params.get("type", "custom")
        found = [entry for entry in self._routers[scope].values() if entry["type"] == wanted]
        return page("promptRouterSummaries", found, params)

    def _delete_router(self, scope: Scope, params: Params) -> Params:
        found = self.router(scope, params["promptRouterArn"])
        del self._routers[scope][found["promptRouterArn"].rsplit("/", 1)[-1]]
        return {}


def is_system_profile(identifier: str) -> bool:
    """Whether an id is that of a cross-region profile, such as `us.anthropic.claude-...`.

    Args:
        identifier: An id, or the last part of an ARN.
    """
    return _SYSTEM.fullmatch(identifier) is not None


def routed_model(router: Params, input_tokens: int) -> str:
    """Return the model that a router takes for a prompt.

    Args:
        router: As GetPromptRouter describes it.
        input_tokens: Tokens of the prompt; the longer it is, the worse the other model is predicted to answer.
    """
    fallback: str = router["fallbackModel"]["modelArn"]
    others = [entry["modelArn"] for entry in router["models"] if entry["modelArn"] != fallback]
    predicted = min(100.0, input_tokens / TOKENS_A_PERCENT)
    if others and predicted <= float(router["routingCriteria"]["responseQualityDifference"]):
        return str(others[0])
    return fallback


def _family(arn: str) -> str:
    parts = arn.rsplit("/", 1)[-1].split(".")
    return parts[1] if parts[0] in GEOGRAPHIES else parts[0]


def _system_profile(scope: Scope, identity: str) -> Params:
    model = identity.partition(".")[2]
    return {
        "inferenceProfileName": identity,
        "inferenceProfileArn": scope.arn("bedrock", f"inference-profile/{identity}"),
        "inferenceProfileId": identity,
        "models": [{"modelArn": f"arn:aws:bedrock:{scope.region}::foundation-model/{model}"}],
        "status": "ACTIVE",
        "type": "SYSTEM_DEFINED",
    }
