"""What probes of Amazon Bedrock share: a small model, a question, callers with few rights, and counts."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from tokenmill.core.bedrock_profiles import GLOBAL, profile_table, router_models, split_profile
from tokenmill.core.errors import TokenmillError
from tokenmill.security import actions
from tokenmill.verification import looking
from tokenmill.verification.aws import ProbeTimeoutError
from tokenmill.verification.probe import Outcome, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from tokenmill.verification.aws import Aws

# Cheap, of one family, and answered in every region that has routers.
SMALL, LARGER = "amazon.nova-lite-v1:0", "amazon.nova-pro-v1:0"
QUESTION = "Say yes."
MAX_TOKENS = 16
METRICS = "AWS/Bedrock"
DENIED = ("AccessDeniedException",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model as a call from the region names it.

    Args:
        id: What Converse takes: the model's id, or a cross-Region profile's.
        arn: Its ARN.
        behind: ARNs of the foundation model, in each region that answers.
    """

    id: str
    arn: str
    behind: tuple[str, ...]

    @property
    def grant(self) -> dict[str, Any]:
        """A statement that lets a role call it."""
        return invoke(self.arn, *self.behind)


def model_here(aws: Aws, name: str = SMALL) -> Model:
    """Return a model as it is called in the run's region.

    Args:
        aws: The run.
        name: The foundation model's id.

    Raises:
        TokenmillError: It is not known to be called from there.
    """
    prefix = f"arn:{aws.partition}:bedrock"
    if aws.region in router_models()[name].model_regions:
        arn = f"{prefix}:{aws.region}::foundation-model/{name}"
        return Model(id=name, arn=arn, behind=(arn,))
    for profile, sources in profile_table().items():
        geography, model = split_profile(profile)
        if model == name and geography != GLOBAL and aws.region in sources:
            behind = tuple(f"{prefix}:{region}::foundation-model/{name}" for region in sources[aws.region])
            arn = f"{prefix}:{aws.region}:{aws.account}:inference-profile/{profile}"
            return Model(id=profile, arn=arn, behind=behind)
    raise TokenmillError(f"{name} is not known to be called from {aws.region}; probe with --region us-east-1")


def ask(client: Any, model: str, text: str = QUESTION, **more: Any) -> dict[str, Any]:
    """Ask a model and return its whole answer.

    Args:
        client: A client of bedrock-runtime.
        model: What Converse takes as modelId.
        text: The question.
        **more: More of the request.
    """
    answer: dict[str, Any] = client.converse(
        modelId=model,
        messages=[{"role": "user", "content": [{"text": text}]}],
        inferenceConfig={"maxTokens": MAX_TOKENS},
        **more,
    )
    return answer


def said(answer: dict[str, Any]) -> str:
    """Return the text of an answer.

    Args:
        answer: Converse's answer.
    """
    return "".join(block.get("text", "") for block in answer["output"]["message"]["content"])


def tried(look: Callable[[], Outcome]) -> Outcome:
    """Return what a look brings; an error on the way says nothing about the line, nor about the next one.

    Args:
        look: The look.
    """
    try:
        return look()
    except (ClientError, BotoCoreError, ProbeTimeoutError, TokenmillError) as error:
        return Outcome(Verdict.UNCLEAR, {"error": f"{type(error).__name__}: {error}"})


def told(call: Callable[[], Any]) -> dict[str, str]:
    """Return code and message of a call's refusal; an empty code where it was taken.

    Args:
        call: The call.
    """
    try:
        call()
    except ClientError as error:
        return {
            "code": error.response["Error"]["Code"],
            "message": error.response["Error"].get("Message", ""),
        }
    return {"code": "", "message": ""}


def tags(aws: Aws) -> list[dict[str, str]]:
    """Return the run's tag as Bedrock takes it.

    Args:
        aws: The run.
    """
    return [{"key": tag["Key"], "value": tag["Value"]} for tag in aws.tags]


def allow(names: Collection[str], *resources: str, **more: Any) -> dict[str, Any]:
    """Return a policy statement.

    Args:
        names: Actions.
        *resources: ARNs.
        **more: More of the statement.
    """
    return {"Effect": "Allow", "Action": list(names), "Resource": list(resources), **more}


def invoke(*resources: str, **more: Any) -> dict[str, Any]:
    """Return a statement that lets a role call models.

    Args:
        *resources: ARNs.
        **more: More of the statement.
    """
    return allow(actions.BEDROCK_INVOKE, *resources, **more)


def caller(aws: Aws, suffix: str, *statements: dict[str, Any], service: str = "bedrock-runtime") -> Any:
    """Return a client that may do no more than some statements say.

    Args:
        aws: The run.
        suffix: What the role is for.
        *statements: The role's rights.
        service: boto3's name of the service.
    """
    root = {"AWS": f"arn:{aws.partition}:iam::{aws.account}:root"}
    trust = {"Effect": "Allow", "Principal": root, "Action": "sts:AssumeRole"}
    name = aws.name(suffix)
    aws.declare("role", name)
    client = aws.client("iam")
    role = client.create_role(
        RoleName=name, AssumeRolePolicyDocument=_policy(trust), Tags=aws.tags, MaxSessionDuration=3600
    )["Role"]["Arn"]
    client.put_role_policy(RoleName=name, PolicyName="probe", PolicyDocument=_policy(*statements))
    return aws.client_as(role, service)


def rights(aws: Aws, call: Callable[[], Any], *, without: Callable[[], Any]) -> Outcome:
    """Return whether some rights are enough for a call, and are not without one of them.

    Args:
        aws: The run.
        call: The call, with the rights; tried until they are known everywhere.
        without: The same without one.
    """
    try:
        aws.settle(call, codes=DENIED)
    except ClientError as error:
        denied = error.response["Error"]["Code"] in DENIED
        return Outcome(Verdict.FAILS if denied else Verdict.UNCLEAR, {"with": str(error)})
    lacking = told(without)
    if not lacking["code"]:
        return Outcome(Verdict.FAILS, {"with": "answered", "without": "answered"})
    verdict = Verdict.HOLDS if lacking["code"] in DENIED else Verdict.UNCLEAR
    return Outcome(verdict, {"with": "answered", "without": lacking})


def counted_ids(aws: Aws, wanted: Collection[str]) -> list[str]:
    """Return which of some names calls are counted under, as the ModelId of Bedrock's metrics.

    Args:
        aws: The run.
        wanted: The names.
    """

    def look() -> list[str]:
        pages = (
            aws.client("cloudwatch")
            .get_paginator("list_metrics")
            .paginate(Namespace=METRICS, MetricName="Invocations")
        )
        found = {
            dimension["Value"]
            for page in pages
            for metric in page["Metrics"]
            for dimension in metric.get("Dimensions", [])
            if dimension["Name"] == "ModelId"
        }
        return sorted(found & set(wanted))

    return (
        looking.or_nothing(lambda: aws.wait("the count of a call", look, seconds=looking.METRIC_SECONDS))
        or []
    )


def sum_since(aws: Aws, metric: str, model: str, moment: datetime.datetime) -> float:
    """Return the sum of one of Bedrock's metrics of a model since a minute.

    Args:
        aws: The run.
        metric: The metric's name.
        model: Its ModelId.
        moment: The minute.
    """
    found = aws.client("cloudwatch").get_metric_statistics(
        Namespace=METRICS,
        MetricName=metric,
        Dimensions=[{"Name": "ModelId", "Value": model}],
        StartTime=moment.replace(second=0, microsecond=0),
        EndTime=datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=1),
        Period=60,
        Statistics=["Sum"],
    )
    return sum(float(point["Sum"]) for point in found["Datapoints"])


def _policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
