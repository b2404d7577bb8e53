"""A router that picks between two models of one family for each prompt."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_bedrock as bedrock
from aws_cdk import aws_iam as iam
from constructs import Construct

from tokenmill.bedrock.foundation_model import (
    NamedModel,
    bedrock_metric,
    check_model_home,
    region_of,
    tell_of_regions,
)
from tokenmill.bedrock.homes import check_place
from tokenmill.bedrock.model import FixedModel
from tokenmill.core._checks import known
from tokenmill.core._kinds import flags, members
from tokenmill.core.bedrock_profiles import (
    WITH_PROMPT_ROUTERS,
    RouterModel,
    router_models,
    split_profile,
)
from tokenmill.core.errors import TokenmillError
from tokenmill.security import actions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aws_cdk import aws_cloudwatch as cloudwatch

# "Understanding intelligent prompt routing in Amazon Bedrock" (Amazon Bedrock User Guide): two models of one
# family.
MODELS = 2
# RoutingCriteria (Amazon Bedrock API Reference): "Minimum value of 0. Maximum value of 100."
MOST_DIFFERENCE = 100
LONGEST_NAME = 64


class PromptRouter(FixedModel, Construct):
    """An intelligent prompt router over two models of your choice.

    Bedrock predicts for each prompt how good each model's answer would be, and takes the fallback model
    unless the other one's is expected to be better by more than the difference; the answer's trace says which
    (`trace.promptRouter.invokedModelId`). It is made for English prompts and costs a fee a request besides
    the tokens ("Understanding intelligent prompt routing in Amazon Bedrock", Amazon Bedrock User Guide).

    Args:
        scope: The parent construct.
        id: The construct's id.
        models: Two models of one family, by id or from `InferenceProfile.cross_region`.
        fallback: Which of them answers where the difference is not reached.
        quality_difference: How much better the other model's answer must be expected to be, 0 to 100 as
            Bedrock counts it.
        allow_unlisted: Whether models that the library does not know as routable are taken as they stand.

    Raises:
        TokenmillError: If the models are not two of one family that routers take in this region, the fallback
            is none of them, or the difference is out of its range.
    """

    in_batch_jobs = False
    """Bedrock runs no batch inference on a router."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        models: Sequence[str | NamedModel],
        fallback: str,
        quality_difference: float,
        allow_unlisted: bool = False,
    ) -> None:
        check_place(scope, id, {})
        region = region_of(scope)
        _check_region(region)
        flags(allow_unlisted=allow_unlisted)
        named = [
            model
            if isinstance(model, NamedModel)
            else NamedModel(str(model), region=region, allow_unlisted=allow_unlisted)
            for model in members("models", models, str, NamedModel)
        ]
        for model in named:
            check_model_home(scope, model)
        _check_models(named, fallback)
        if not allow_unlisted:
            _check_routable(named, region)
        known("quality_difference", quality_difference)
        number = isinstance(quality_difference, int | float) and not isinstance(quality_difference, bool)
        if not number or not 0 <= quality_difference <= MOST_DIFFERENCE:
            raise TokenmillError(
                f"quality_difference is {quality_difference!r}; it must be from 0 to {MOST_DIFFERENCE}"
            )
        super().__init__(scope, id)
        self.models = tuple(named)
        self.fallback = next(model for model in named if model.model_id == fallback)
        self.resource = self._resource(quality_difference)
        for model in named:
            tell_of_regions(self, model)

    def _resource(self, quality_difference: float) -> bedrock.CfnIntelligentPromptRouter:
        router = bedrock.CfnIntelligentPromptRouter
        # Everything but the tags is a replacement, and names are unique in an account and region.
        content = "\n".join([*(model.model_id for model in self.models), self.fallback.model_id])
        digest = hashlib.sha256(f"{content}\n{quality_difference!r}".encode()).hexdigest()[:8]
        prefix = cdk.Names.unique_resource_name(self, max_length=LONGEST_NAME - 9, separator="-")
        return router(
            self,
            "Resource",
            prompt_router_name=f"{prefix}-{digest}",
            models=[router.PromptRouterTargetModelProperty(model_arn=model.arn) for model in self.models],
            fallback_model=router.PromptRouterTargetModelProperty(model_arn=self.fallback.arn),
            routing_criteria=router.RoutingCriteriaProperty(response_quality_difference=quality_difference),
        )

    @property
    def arn(self) -> str:
        """The router's ARN."""
        return self.resource.attr_prompt_router_arn

    @property
    def model_id(self) -> str:
        """The router's ARN, which Converse takes."""
        return self.arn

    @property
    def metric_dimension(self) -> str:
        """The fallback model's id; Bedrock counts calls under the model that answered."""
        return self.fallback.metric_dimension

    def grant_invoke(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let a principal call the router and the models behind it.

        Args:
            grantee: The principal.
        """
        grant = iam.Grant.add_to_principal(
            grantee=grantee, actions=list(actions.BEDROCK_INVOKE), resource_arns=[self.arn]
        )
        for model in self.models:
            grant = grant.combine(model.grant_invoke(grantee))
        return grant

    def metric_invocations(self, model_id: str) -> cloudwatch.Metric:
        """Return how many calls one of the models answered, those that name the model itself included.

        Args:
            model_id: One of the router's models.

        Raises:
            TokenmillError: If it is none of them.
        """
        ids = [model.model_id for model in self.models]
        if model_id not in ids:
            raise TokenmillError(f"model_id is {model_id!r}; the router has {' and '.join(ids)}")
        return bedrock_metric(model_id, "Invocations")


def _check_region(region: str | None) -> None:
    if region is not None and region not in WITH_PROMPT_ROUTERS:
        raise TokenmillError(
            f"{region} has no intelligent prompt routers; regions that have: "
            f"{', '.join(sorted(WITH_PROMPT_ROUTERS))}"
        )


def _check_models(models: Sequence[NamedModel], fallback: str) -> None:
    ids = [model.model_id for model in models]
    if len(set(ids)) != MODELS or len(ids) != MODELS:
        raise TokenmillError(
            f"models has {', '.join(ids) or 'nothing'}; a router picks between two different models of one "
            "family"
        )
    if fallback not in ids:
        raise TokenmillError(f"fallback is {fallback!r}; it must be one of models: {', '.join(ids)}")


def _check_routable(models: Sequence[NamedModel], region: str | None) -> None:
    table = router_models()
    found: list[RouterModel] = []
    for model in models:
        routable = table.get(model.foundation_model)
        if routable is None:
            raise TokenmillError(
                f"{model.model_id!r} is not known to be routable; known: {', '.join(sorted(table))}; for one "
                "that is newer than this library, set allow_unlisted=True"
            )
        found.append(routable)
        profile = bool(split_profile(model.model_id)[0])
        allowed = routable.profile_regions if profile else routable.model_regions
        if region is not None and region not in allowed:
            kind = "through a cross-Region profile" if profile else "as a model of one region"
            raise TokenmillError(
                f"{model.model_id!r} is not routable {kind} in {region}; regions where it is: "
                f"{', '.join(allowed)}; or set allow_unlisted=True"
            )
    if len({routable.family for routable in found}) > 1:
        families = " and ".join(f"{routable.model_id} is of {routable.family}" for routable in found)
        raise TokenmillError(f"{families}; a router picks between models of one family")
