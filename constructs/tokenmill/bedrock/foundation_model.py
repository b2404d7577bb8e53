"""Models of Bedrock that are named by an id: in one region, through a geography, or anywhere.

Sources, all Amazon Bedrock User Guide: "Prerequisites for inference profiles", "Geographic cross-Region
inference" and "Global cross-Region inference" have the policies. A profile is checked against itself and
against the foundation model in every region behind it, and the condition key bedrock:InferenceProfileArn
keeps the model itself out of reach otherwise. A global profile is checked against the model without a region,
with aws:RequestedRegion "unspecified".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from constructs import Construct

from tokenmill.bedrock.homes import account_of
from tokenmill.bedrock.homes import region_of as region_of
from tokenmill.bedrock.model import FixedModel, IBedrockModel
from tokenmill.core._checks import known, text
from tokenmill.core._kinds import flags, texts
from tokenmill.core.bedrock_prices import plain_id
from tokenmill.core.bedrock_profiles import GLOBAL, ProfileRoute, check_known, profile_route, split_profile
from tokenmill.core.errors import TokenmillError
from tokenmill.security import actions
from tokenmill.security.place import ACCOUNT_ID, PARTITION
from tokenmill.security.place import REGION as OWN_REGION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from constructs import IConstruct

NAMESPACE = "AWS/Bedrock"
PROFILE_ARN = "bedrock:InferenceProfileArn"
MODEL_DIMENSION = "ModelId"
# "InvokeModel" (Amazon Bedrock Runtime API Reference), modelId without ARNs.
MODEL_ID = re.compile(r"[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})+(:[a-z0-9-]{1,63}){0,2}")
REGION_NAME = re.compile(r"[a-z]{2,4}(-[a-z]+)+-\d")


class NamedModel(FixedModel):
    """A foundation model or a system-defined inference profile, by its id; made by `named_model`.

    Args:
        model_id: A foundation model's id ("amazon.nova-lite-v1:0") or a system-defined profile's
            ("us.amazon.nova-lite-v1:0").
        region: The region that calls come from; None where only the deployment knows it.
        regions: Regions behind the profile as you know them; the data's otherwise.
        allow_unlisted: Whether a model that the data does not know is taken as it stands.

    Raises:
        TokenmillError: If the model is unknown, cannot be called from the region, or regions are given for a
            model of one region or a global profile.
    """

    def __init__(
        self,
        model_id: str,
        *,
        region: str | None = None,
        regions: Sequence[str] = (),
        allow_unlisted: bool = False,
    ) -> None:
        text("model", model_id)
        if region is not None:
            _check_region_name(region)
        flags(allow_unlisted=allow_unlisted)
        regions = texts("regions", regions)
        self.model_id = plain_id(model_id)
        if not MODEL_ID.fullmatch(self.model_id):
            raise TokenmillError(
                f"model is {model_id!r:.80}; it must be an id such as amazon.nova-lite-v1:0, a profile's "
                "such as us.amazon.nova-lite-v1:0, or the ARN of either"
            )
        _check_arn_home(model_id, region)
        if not allow_unlisted:
            check_known(self.model_id)
        geography, self.foundation_model = split_profile(self.model_id)
        if regions and geography in ("", GLOBAL):
            raise TokenmillError(
                f"regions are given for {self.model_id!r}, which has none of its own; leave them out, or "
                "name a profile of a geography, such as us.amazon.nova-lite-v1:0"
            )
        for name in regions:
            _check_region_name(name)
        self.route: ProfileRoute | None = (
            profile_route(self.model_id, region, regions=regions) if geography else None
        )

    @property
    def metric_dimension(self) -> str:
        """The id, which Bedrock's metrics have for ModelId."""
        return self.model_id

    @property
    def arn(self) -> str:
        """The ARN in the stack's own region, which profiles and routers are made from."""
        if self.route is None:
            return foundation_arn(self.model_id)
        return f"arn:{PARTITION}:bedrock:{OWN_REGION}:{ACCOUNT_ID}:inference-profile/{self.model_id}"

    def grant_invoke(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let a principal call this model, wherever a profile routes the call, and nothing else.

        Args:
            grantee: The principal.
        """
        if self.route is None:
            return _allow(grantee, [self.arn])
        own = {"StringEquals": {"aws:RequestedRegion": OWN_REGION}} if self._global else None
        return _allow(grantee, [self.arn], own).combine(self.grant_behind(grantee, self.arn))

    def grant_behind(self, grantee: iam.IGrantable, profile_arn: str) -> iam.Grant:
        """Let a principal reach the foundation model in every region, through one profile only.

        Args:
            grantee: The principal.
            profile_arn: The profile that the calls name: this one, or an application profile made from it.
        """
        through = {PROFILE_ARN: profile_arn}
        here = foundation_arn(self.foundation_model)
        if self.route is None:
            return _allow(grantee, [here], {"StringEquals": through})
        if not self._global:
            arns = [foundation_arn(self.foundation_model, region) for region in self.route.regions]
            return _allow(grantee, arns, {"StringEquals": through})
        anywhere = f"arn:{PARTITION}:bedrock:::foundation-model/{self.foundation_model}"
        regional = _allow(grantee, [here], {"StringEquals": {"aws:RequestedRegion": OWN_REGION, **through}})
        return regional.combine(
            _allow(grantee, [anywhere], {"StringEquals": {"aws:RequestedRegion": "unspecified", **through}})
        )

    @property
    def _global(self) -> bool:
        return self.route is not None and self.route.geography == GLOBAL


def foundation_arn(model_id: str, region: str = OWN_REGION) -> str:
    """Return the ARN of a foundation model in one region.

    Args:
        model_id: The model's id, without a geography.
        region: AWS region; the stack's own otherwise.
    """
    return f"arn:{PARTITION}:bedrock:{region}::foundation-model/{model_id}"


def _allow(
    grantee: iam.IGrantable, arns: Sequence[str], conditions: Mapping[str, Mapping[str, str]] | None = None
) -> iam.Grant:
    return iam.Grant.add_to_principal(
        grantee=grantee,
        actions=list(actions.BEDROCK_INVOKE),
        resource_arns=list(arns),
        conditions=None if conditions is None else {key: dict(value) for key, value in conditions.items()},
    )


def named_model(
    scope: IConstruct, model: str | IBedrockModel, *, allow_unlisted: bool = False
) -> IBedrockModel:
    """Return a model by its id, or the model itself.

    Args:
        scope: A construct of the stack that calls.
        model: A foundation model's id, a profile's id, the ARN of either, or any model of this package.
        allow_unlisted: Whether an id that the data does not know is taken as it stands.

    Raises:
        TokenmillError: If the id is unknown or cannot be called from the stack's region, it is no model, or
            the model stands in another region.
    """
    if isinstance(model, str):
        return NamedModel(model, region=region_of(scope), allow_unlisted=allow_unlisted)
    if not isinstance(model, IBedrockModel):
        raise TokenmillError(
            f"model is {model!r:.80}; give a model's id, or a model such as InferenceProfile"
        )
    check_model_home(scope, model)
    return model


def check_model_home(scope: IConstruct, model: IBedrockModel, *, name: str = "model") -> None:
    """Refuse a model that was made in another region, or that cannot be called from the stack's.

    Args:
        scope: A construct of the stack that calls.
        model: The model.
        name: What it is called in the complaint.

    Raises:
        TokenmillError: If it is known to be elsewhere.
    """
    here = region_of(scope)
    if here is None:
        return
    if isinstance(model, NamedModel):
        if model.route is not None:
            profile_route(model.model_id, here, regions=model.route.regions)
        return
    if not isinstance(model, Construct):
        return
    home, account = region_of(model), account_of(model)
    if account not in (None, account_of(scope)) and account_of(scope) is not None:
        raise TokenmillError(
            f"{name} {_path(model)} is of account {account}, and the stack that calls it of "
            f"{account_of(scope)}; make one in the stack's own account"
        )
    if home is not None and home != here:
        raise TokenmillError(
            f"{name} {_path(model)} is in {home}, and the stack that calls it in {here}; a model is called "
            f"in its own region, so make one in {here}, or give a cross-Region profile"
        )


def _path(model: object) -> str:
    return model.node.path if isinstance(model, Construct) else str(model)


def _check_region_name(region: object) -> None:
    known("region", region)
    if not isinstance(region, str) or not REGION_NAME.fullmatch(region):
        raise TokenmillError(f"region is {region!r:.80}; give a name such as 'us-east-1'")


def _check_arn_home(model: str, region: str | None) -> None:
    home = model.split(":")[3] if model.startswith("arn:") else ""
    if region is not None and home not in ("", region):
        raise TokenmillError(
            f"model is {model!r:.120} of {home}, and calls come from {region}; give the id, which names the "
            "model in the region of the stack"
        )


def tell_of_regions(scope: IConstruct, named: NamedModel) -> None:
    """Say at synthesis that the regions behind a profile are taken from its geography.

    Args:
        scope: The construct that calls the profile.
        named: The profile.
    """
    route = named.route
    if route is None or route.listed:
        return
    cdk.Annotations.of(scope).add_info(
        f"the regions behind {route.profile_id} are not in the data of this library; calls are allowed in "
        f"{', '.join(route.regions)}, which is every region that a {route.geography} profile is known to "
        "reach; the model's card in the Amazon Bedrock User Guide has them, and regions=(…) says them"
    )


def bedrock_metric(
    model_id: str, name: str, *, statistic: str = "Sum", period: cdk.Duration | None = None
) -> cloudwatch.Metric:
    """Return a metric that Bedrock publishes of a model ("Monitoring the performance of Amazon Bedrock").

    Args:
        model_id: The value of the ModelId dimension.
        name: Such as "Invocations", "InputTokenCount", "InvocationThrottles" or "CacheReadInputTokens".
        statistic: A CloudWatch statistic.
        period: Five minutes otherwise.
    """
    return cloudwatch.Metric(
        namespace=NAMESPACE,
        metric_name=name,
        dimensions_map={MODEL_DIMENSION: model_id},
        statistic=statistic,
        period=period or cdk.Duration.minutes(5),
    )
