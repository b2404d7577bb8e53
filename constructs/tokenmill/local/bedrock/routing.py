"""What a `modelId` stands for: a model, a profile, a router, a prompt, model units or a deployment.

Source: Amazon Bedrock API Reference, "Converse" and "InvokeModel" (`modelId`); Amazon Bedrock User Guide,
"Use an inference profile in model invocation", "Use a Provisioned Throughput with an Amazon Bedrock
resource", "Understanding intelligent prompt routing". Wordings of refusals are those that users of the
service report.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tokenmill.core.bedrock_profiles import split_profile
from tokenmill.local.aws_requests import AwsError, Params, Scope
from tokenmill.local.bedrock.profiles import routed_model
from tokenmill.local.bedrock.prompt_tokens import counted
from tokenmill.local.bedrock.prompts import rendered

if TYPE_CHECKING:
    from tokenmill.local.bedrock.control import BedrockControl
    from tokenmill.local.bedrock.profiles import Profiles
    from tokenmill.local.bedrock.prompts import Prompts

_MODEL_ID = re.compile(r"[a-zA-Z0-9.:_-]{1,2048}")
_ARN = re.compile(r"arn:aws[^:]*:bedrock:([a-z0-9-]*):(\d*):([a-z-]+)/(.+)")
INVALID = "The provided model identifier is invalid."


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Who answers a call.

    Args:
        model: The model: a foundation model's id, or the last part of a custom or imported model's ARN.
        asked: What its metrics and quotas are kept under.
        units: Model units that answer it; 0 on demand.
        request: The request as the model gets it.
        routed: The model that a prompt router chose, as its ARN.
        imported: Whether it is an imported model, whose requests are OpenAI's.
    """

    model: str
    asked: str
    units: int = 0
    request: Params = field(default_factory=dict)
    routed: str | None = None
    imported: bool = False


class Routing:
    """Finds who answers.

    Args:
        control: Provisioned throughput, custom models, deployments.
        profiles: Inference profiles and prompt routers.
        prompts: Prompts of Prompt management.
    """

    def __init__(self, control: BedrockControl, profiles: Profiles, prompts: Prompts) -> None:
        self._control = control
        self._profiles = profiles
        self._prompts = prompts

    def find(self, scope: Scope, model_id: str, request: Params) -> Route:
        """Return who answers a call.

        Args:
            scope: Who calls.
            model_id: The call's `modelId`.
            request: Its members.

        Raises:
            AwsError: Nobody does.
        """
        arn = _ARN.fullmatch(model_id)
        if arn is None:
            return self._plain(scope, model_id, request)
        kind, identity = arn.group(3), arn.group(4)
        if kind == "foundation-model":
            return Route(model=identity, asked=identity, request=request)
        if kind in ("inference-profile", "application-inference-profile"):
            return self._profile(scope, model_id, request)
        if kind == "provisioned-model":
            return self._provisioned(scope, model_id, request)
        if kind in ("prompt-router", "default-prompt-router"):
            return self._router(scope, model_id, request)
        if kind == "custom-model-deployment":
            return self._deployment(scope, model_id, request)
        if kind == "prompt":
            model, made = rendered(self._prompts.find(scope, model_id), request)
            return self.find(scope, model, made)
        if kind == "imported-model":
            return self._imported(scope, model_id, request)
        raise _not_on_demand(model_id) if kind == "custom-model" else AwsError("ValidationException", INVALID)

    def _plain(self, scope: Scope, model_id: str, request: Params) -> Route:
        if not _MODEL_ID.fullmatch(model_id):
            raise AwsError("ValidationException", INVALID)
        units = self._control.provisioned.find(scope, model_id)
        if units is not None:
            return self._provisioned(scope, units.arn, request)
        if "." not in model_id or split_profile(model_id)[0]:
            return self._profile(scope, model_id, request)
        return Route(model=model_id, asked=model_id, request=request)

    def _profile(self, scope: Scope, identifier: str, request: Params) -> Route:
        try:
            profile = self._profiles.profile(scope, identifier)
        except AwsError as error:
            raise AwsError("ValidationException", INVALID) from error
        model = profile["models"][0]["modelArn"].rsplit("/", 1)[-1]
        return Route(model=model, asked=profile["inferenceProfileId"], request=request)

    def _provisioned(self, scope: Scope, arn: str, request: Params) -> Route:
        found, now = self._control.provisioned.find(scope, arn), self._control.clock()
        if found is None:
            raise AwsError("ResourceNotFoundException", f"Could not find the provisioned model {arn}.")
        if found.status(now) not in ("InService", "Updating"):
            raise AwsError(
                "ModelNotReadyException", f"The provisioned model {found.name} is {found.status(now)}."
            )
        model = found.describe(now)["modelArn"].rsplit("/", 1)[-1]
        return Route(model=model, asked=arn, units=found.units, request=request)

    def _router(self, scope: Scope, arn: str, request: Params) -> Route:
        chosen = routed_model(self._profiles.router(scope, arn), counted(request).tokens)
        route = self.find(scope, chosen, request)
        return Route(model=route.model, asked=route.asked, request=request, routed=chosen)

    def _deployment(self, scope: Scope, arn: str, request: Params) -> Route:
        found, now = self._control.deployments.find(scope, arn), self._control.clock()
        if found is None:
            raise AwsError("ResourceNotFoundException", f"Could not find the deployment {arn}.")
        if found.status(now) != "Active":
            raise AwsError("ModelNotReadyException", f"The deployment {found.name} is {found.status(now)}.")
        return Route(model=found.serves(now).rsplit("/", 1)[-1], asked=arn, request=request)

    def _imported(self, scope: Scope, arn: str, request: Params) -> Route:
        found = self._control.custom_models.find(scope, arn)
        if found is None:
            raise AwsError("ResourceNotFoundException", f"Could not find the imported model {arn}.")
        return Route(model=arn.rsplit("/", 1)[-1], asked=arn, request=request, imported=True)


def _not_on_demand(model_id: str) -> AwsError:
    return AwsError(
        "ValidationException",
        f"Invocation of model ID {model_id} with on-demand throughput isn't supported. Retry your request "
        "with the ARN of a deployment or of a Provisioned Throughput of this model.",
    )
