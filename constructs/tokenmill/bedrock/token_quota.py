"""Alarms on what is left of a quota of tokens a minute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from tokenmill.bedrock.foundation_model import bedrock_metric, named_model
from tokenmill.bedrock.homes import check_place
from tokenmill.core._checks import is_token, known, numeric, positive, text
from tokenmill.core._kinds import TOPIC, instance_or_none, resource
from tokenmill.core.errors import TokenmillError
from tokenmill.core.token_quota import QuotaLoad
from tokenmill.observability.metrics import one_minute, token_metric
from tokenmill_runtime import metric_contract

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aws_cdk import aws_sns as sns

    from tokenmill.bedrock.model import IBedrockModel

# "Create an alarm based on a metric math expression": at most ten metrics.
MOST_MODELS = 10
WINDOW_MINUTES = 5
LONGEST_DIMENSION = 255
ESTIMATED = "EstimatedTPMQuotaUsage"
THROTTLES = "InvocationThrottles"
WARNING = "tokenmill:token-quota"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaAlarms:
    """When to tell, and whom.

    Args:
        headroom: Share of the quota that should stay free, above 0 and below 1.
        topic: Who is told; the alarms only show otherwise.

    Raises:
        TokenmillError: If the share is out of range.
    """

    headroom: float = 0.2
    topic: sns.ITopic | None = None

    def __post_init__(self) -> None:
        numeric(self, "headroom")
        resource(TOPIC, topic=self.topic)
        if not 0 < self.headroom < 1:
            raise TokenmillError(
                f"headroom must be above 0 and below 1, got {self.headroom!r}; it is a share, not a "
                "percentage"
            )


class TokenQuota(Construct):
    """Watches a quota of tokens a minute before it throttles.

    The alarm Headroom follows Bedrock's EstimatedTPMQuotaUsage, which counts what requests have taken when
    they ended; Reserved follows the gateway's ReservedTokens, which counts what they take when they start,
    as throttling does; Throttled says that it was too late ("Monitoring the performance of Amazon Bedrock",
    Amazon Bedrock User Guide). The quota itself is raised by AWS: `tokenmill doctor --quota-request` writes
    the request.

    Args:
        scope: The parent construct.
        id: The construct's id.
        models: What shares the quota: the models, profiles and application profiles that are called, at most
            ten.
        tokens_per_minute: The account's quota in this region, as Service Quotas shows it.
        target: The Target of a gateway's model, for the alarm Reserved.
        load: What is planned; a warning at synthesis says when it does not fit.
        alarms: When to tell, and whom.

    Raises:
        TokenmillError: If there is no model or too many, one is unknown, or the quota is not above 0.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        models: Sequence[IBedrockModel | str],
        tokens_per_minute: float,
        target: str | None = None,
        load: QuotaLoad | None = None,
        alarms: QuotaAlarms | None = None,
    ) -> None:
        instance_or_none(QuotaAlarms, alarms=alarms)
        check_place(scope, id, {"the topic of alarms": None if alarms is None else alarms.topic})
        _check_quota(tokens_per_minute)
        if not isinstance(models, list | tuple):
            raise TokenmillError(f"models is {models!r:.80}; give a list of 1 to {MOST_MODELS} models")
        if not models or len(models) > MOST_MODELS:
            raise TokenmillError(
                f"models has {len(models)} entries; give a list of 1 to {MOST_MODELS} that share the quota"
            )
        named = [named_model(scope, model).metric_dimension for model in models]
        if len(set(named)) < len(named):
            raise TokenmillError(f"models has {', '.join(named)}; give each once, or its tokens count twice")
        _check_target(target)
        instance_or_none(QuotaLoad, load=load)
        super().__init__(scope, id)
        self.tokens_per_minute = tokens_per_minute
        self._named = named
        self._alarms = alarms or QuotaAlarms()
        self._most = tokens_per_minute * (1 - self._alarms.headroom)
        self.headroom = self._headroom()
        self.reserved = None if target is None else self._reserved(target)
        self.throttled = self._throttled()
        if load is not None:
            self._warn(load)

    def metric_estimated_usage(self) -> cloudwatch.IMetric:
        """Return the quota tokens that ended requests have taken, a minute, as Bedrock estimates them."""
        return self._sum(ESTIMATED)

    def metric_throttles(self) -> cloudwatch.IMetric:
        """Return the requests that were turned away, a minute."""
        return self._sum(THROTTLES)

    def _sum(self, name: str) -> cloudwatch.IMetric:
        metrics = [bedrock_metric(model, name, period=one_minute()) for model in self._named]
        if len(metrics) == 1:
            return metrics[0]
        return cloudwatch.MathExpression(
            expression="SUM(METRICS())",
            using_metrics={f"m{number}": metric for number, metric in enumerate(metrics)},
            period=one_minute(),
            label=name,
        )

    def _headroom(self) -> cloudwatch.Alarm:
        return self._alarm(
            "Headroom",
            self.metric_estimated_usage(),
            threshold=self._most,
            description=f"Less than {self._alarms.headroom:.0%} of {self.tokens_per_minute:,.0f} tokens a "
            "minute are left, by what requests took; request more with tokenmill doctor --quota-request",
        )

    def _reserved(self, target: str) -> cloudwatch.Alarm:
        return self._alarm(
            "Reserved",
            token_metric(metric_contract.RESERVED_TOKENS, target=target),
            threshold=self._most,
            description=f"Less than {self._alarms.headroom:.0%} of {self.tokens_per_minute:,.0f} tokens a "
            "minute are left, by what requests reserve; lower max_tokens or request more",
        )

    def _throttled(self) -> cloudwatch.Alarm:
        return self._alarm(
            "Throttled", self.metric_throttles(), threshold=0, description="Bedrock turned requests away"
        )

    def _alarm(
        self, id: str, metric: cloudwatch.IMetric, *, threshold: float, description: str
    ) -> cloudwatch.Alarm:
        alarm = cloudwatch.Alarm(
            self,
            id,
            metric=metric,
            alarm_description=description,
            threshold=threshold,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            evaluation_periods=WINDOW_MINUTES,
            datapoints_to_alarm=2,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        if self._alarms.topic is not None:
            resource = alarm.node.default_child
            assert isinstance(resource, cloudwatch.CfnAlarm)
            resource.alarm_actions = [self._alarms.topic.topic_arn]
            resource.ok_actions = [self._alarms.topic.topic_arn]
        return alarm

    def _warn(self, load: QuotaLoad) -> None:
        if load.needed_tpm <= self.tokens_per_minute:
            return
        longest = load.longest_answer(self.tokens_per_minute)
        shorter = (
            f"; with max_tokens of {longest:,} instead of {load.max_tokens:,} it would" if longest else ""
        )
        cdk.Annotations.of(self).add_warning_v2(
            WARNING,
            f"the planned load takes {load.needed_tpm:,.0f} quota tokens a minute and does not fit "
            f"{self.tokens_per_minute:,.0f}{shorter}; `tokenmill doctor --quota-request` writes a request "
            "for more",
        )


def _check_quota(tokens_per_minute: float) -> None:
    known("tokens_per_minute", tokens_per_minute)
    if isinstance(tokens_per_minute, bool) or not isinstance(tokens_per_minute, int | float):
        raise TokenmillError(f"tokens_per_minute must be a number, got {tokens_per_minute!r:.80}")
    if tokens_per_minute == 0:
        raise TokenmillError(
            "tokens_per_minute is 0, so nothing can be called; `tokenmill doctor --quota-request` writes a "
            "request for more"
        )
    positive(tokens_per_minute=tokens_per_minute)


def _check_target(target: object) -> None:
    if target is None or (isinstance(target, str) and is_token(target)):
        return
    text("target", target)
    if len(str(target)) > LONGEST_DIMENSION or not str(target).isascii():
        raise TokenmillError(
            f"target is {target!r:.80} of {len(str(target))} characters; a dimension of CloudWatch has at "
            f"most {LONGEST_DIMENSION}, all of ASCII, so give the Target of a gateway's model"
        )
