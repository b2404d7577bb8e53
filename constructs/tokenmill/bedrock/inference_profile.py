"""Inference profiles: the tagged name of a model that costs and metrics are told apart by."""

from __future__ import annotations

import functools
import hashlib
import re
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
from tokenmill.core._checks import is_token, known, text
from tokenmill.core._kinds import text_map
from tokenmill.core.bedrock_profiles import GLOBAL, WITHOUT_APPLICATION_PROFILES, split_profile
from tokenmill.core.errors import TokenmillError
from tokenmill.security import actions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aws_cdk import aws_cloudwatch as cloudwatch

# AWS::Bedrock::ApplicationInferenceProfile: Tags, Description, InferenceProfileName.
TAG = re.compile(r"[a-zA-Z0-9\s._:/=+@-]*")
MOST_TAGS = 48
LONGEST_KEY = 128
LONGEST_VALUE = 256
DESCRIPTION = re.compile(r"([0-9a-zA-Z:.][ _-]?){1,200}")
LONGEST_DESCRIPTION = 200
LONGEST_NAME = 64


class InferenceProfile(FixedModel, Construct):
    """An application inference profile: a name of your own for a model, with tags that reach the bill.

    What calls cost stands in Cost Explorer under the profile's tags, once they are activated as cost
    allocation tags, and metrics and invocation logs name the profile ("Set up a model invocation resource
    using inference profiles", Amazon Bedrock User Guide). It takes no throughput away and costs nothing.

    Args:
        scope: The parent construct.
        id: The construct's id.
        model: A foundation model's id for calls in this region, or a cross-Region profile: its id, or one
            from `cross_region` or `global_`.
        tags: Cost allocation tags, such as {"team": "search"}; tags of the stack are added by CDK, and
            tokenmill:model by this construct.
        description: What it is for, 200 characters at most: letters, digits, single blanks, and : . _ -
        allow_unlisted: Whether a model that the library does not know is taken as it stands.

    Raises:
        TokenmillError: If the model is unknown, cannot be called from the stack's region, the region has no
            application profiles, or a tag or the description is not of its form.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        model: str | NamedModel,
        tags: Mapping[str, str] | None = None,
        description: str | None = None,
        allow_unlisted: bool = False,
    ) -> None:
        check_place(scope, id, {})
        region = region_of(scope)
        if region in WITHOUT_APPLICATION_PROFILES:
            raise TokenmillError(
                f"{region} has no application inference profiles in CloudFormation; name the model itself "
                "there, with InferenceProfile.cross_region or InferenceProfile.global_"
            )
        named = (
            model
            if isinstance(model, NamedModel)
            else NamedModel(model, region=region, allow_unlisted=allow_unlisted)
        )
        check_model_home(scope, named)
        tags = _check_tags(tags)
        _check_description(description)
        super().__init__(scope, id)
        self.source = named
        self.resource = bedrock.CfnApplicationInferenceProfile(
            self,
            "Resource",
            inference_profile_name=self._name(named, description),
            description=description,
            model_source=bedrock.CfnApplicationInferenceProfile.InferenceProfileModelSourceProperty(
                copy_from=named.arn
            ),
        )
        for key, value in {"tokenmill:model": named.model_id, **tags}.items():
            cdk.Tags.of(self.resource).add(key, value)
        tell_of_regions(self, named)

    @classmethod
    def cross_region(
        cls,
        profile_id: str,
        *,
        region: str | None = None,
        regions: Sequence[str] = (),
        allow_unlisted: bool = False,
    ) -> NamedModel:
        """Return a system-defined profile of a geography, which exists in every account.

        Args:
            profile_id: Such as "us.anthropic.claude-sonnet-4-5-20250929-v1:0".
            region: The region that calls come from, which narrows the grants; every one of the profile's
                otherwise.
            regions: Regions behind the profile where you know better than the library's data, such as from
                GetInferenceProfile.
            allow_unlisted: Whether a model that the library does not know is taken as it stands.

        Raises:
            TokenmillError: If it is no such profile or cannot be called from the region.
        """
        text("profile_id", profile_id)
        if split_profile(profile_id)[0] in ("", GLOBAL):
            raise TokenmillError(
                f"{profile_id!r} is no profile of a geography; give one such as us.amazon.nova-lite-v1:0, "
                "or call global_ for a global one"
            )
        return NamedModel(profile_id, region=region, regions=regions, allow_unlisted=allow_unlisted)

    @classmethod
    def global_(
        cls, profile_id: str, *, region: str | None = None, allow_unlisted: bool = False
    ) -> NamedModel:
        """Return a global profile, whose calls run in any commercial region.

        Args:
            profile_id: Such as "global.anthropic.claude-sonnet-4-5-20250929-v1:0".
            region: The region that calls come from, to be checked.
            allow_unlisted: Whether a model that the library does not know is taken as it stands.

        Raises:
            TokenmillError: If it is no global profile or cannot be called from the region.
        """
        text("profile_id", profile_id)
        if split_profile(profile_id)[0] != GLOBAL:
            raise TokenmillError(
                f"{profile_id!r} is no global profile; its id begins with global. as in "
                "global.amazon.nova-2-lite-v1:0"
            )
        return NamedModel(profile_id, region=region, allow_unlisted=allow_unlisted)

    def _name(self, named: NamedModel, description: str | None) -> str:
        # Names are unique in an account and region, and a change of anything but the tags is a replacement,
        # which CloudFormation makes before it deletes: so the name follows the content.
        content = hashlib.sha256(f"{named.model_id}\n{description}".encode()).hexdigest()[:8]
        prefix = cdk.Names.unique_resource_name(self, max_length=LONGEST_NAME - 9, separator="-")
        return f"{prefix}-{content}"

    @functools.cached_property
    def arn(self) -> str:
        """The profile's ARN."""
        return self.resource.attr_inference_profile_arn

    @property
    def model_id(self) -> str:
        """The profile's ARN, which Converse takes."""
        return self.arn

    @functools.cached_property
    def metric_dimension(self) -> str:
        """The profile's own id, which Bedrock's metrics have for ModelId."""
        return self.resource.attr_inference_profile_id

    def grant_invoke(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let a principal call the model through this profile only, in every region behind it.

        The model itself stays out of reach, so that no call misses the profile's tags.

        Args:
            grantee: The principal.
        """
        own = iam.Grant.add_to_principal(
            grantee=grantee, actions=list(actions.BEDROCK_INVOKE), resource_arns=[self.arn]
        )
        return own.combine(self.source.grant_behind(grantee, self.arn))

    def metric(
        self, name: str, *, statistic: str = "Sum", period: cdk.Duration | None = None
    ) -> cloudwatch.Metric:
        """Return a metric that Bedrock publishes of this profile.

        Args:
            name: Such as "InputTokenCount" or "InvocationLatency".
            statistic: A CloudWatch statistic.
            period: Five minutes otherwise.
        """
        return bedrock_metric(self.metric_dimension, name, statistic=statistic, period=period)

    def metric_invocations(self) -> cloudwatch.Metric:
        """Return how many calls were answered."""
        return self.metric("Invocations")

    def metric_throttles(self) -> cloudwatch.Metric:
        """Return how many calls were throttled."""
        return self.metric("InvocationThrottles")

    def metric_input_tokens(self) -> cloudwatch.Metric:
        """Return the tokens of prompts that no cache served."""
        return self.metric("InputTokenCount")

    def metric_output_tokens(self) -> cloudwatch.Metric:
        """Return the tokens of answers."""
        return self.metric("OutputTokenCount")


def _check_tags(given: Mapping[str, str] | None) -> dict[str, str]:
    tags = {} if given is None else text_map("tags", given, tokens=True)
    if len(tags) > MOST_TAGS:
        raise TokenmillError(
            f"tags has {len(tags)} tags; Bedrock takes 50 a resource, of which {MOST_TAGS} are yours"
        )
    for key, value in tags.items():
        for name, found, most in (("key", key, LONGEST_KEY), ("value", value, LONGEST_VALUE)):
            if name == "value" and is_token(found):
                continue
            known(f"tag {name}", found)
            if len(found) > most or not TAG.fullmatch(found):
                raise TokenmillError(
                    f"tag {name} is {found!r:.80}; it must have at most {most} characters of letters, "
                    "digits, blanks and _ . : / = + @ -"
                )
        if key.lower().startswith(("aws:", "tokenmill:")):
            raise TokenmillError(f"tag key is {key!r}; it must not be empty or begin with aws: or tokenmill:")
    return tags


def _check_description(description: str | None) -> None:
    if description is None:
        return
    known("description", description)
    fits = isinstance(description, str) and len(description) <= LONGEST_DESCRIPTION
    if not fits or not DESCRIPTION.fullmatch(description):
        raise TokenmillError(
            f"description is {description!r:.80}; it must have 1 to {LONGEST_DESCRIPTION} characters: "
            "letters, digits, : and ., with single blanks, _ or - between them"
        )
