"""Amazon Bedrock as the probes of `tokenmill verify` meet it: named things, callers with rights, counts."""

from __future__ import annotations

import fnmatch
import json
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import botocore.session
from botocore.validate import ParamValidator

from support_fake_aws import ACCOUNT, AwsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from support_fake_aws import Resources

REGION = "us-east-1"
PREFIX = f"arn:aws:bedrock:{REGION}"
OWNER = "test"
NOVA = ("amazon.nova-lite-v1:0", "amazon.nova-pro-v1:0")
MOMENT = "2026-01-01T00:00:00Z"


class BedrockWorld:
    """What a probe creates, who may call it, and what is counted."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.fake = resources.fake
        self.named: dict[str, dict[str, str]] = defaultdict(dict)
        self.counted: Counter[str] = Counter()
        self.quotas: dict[str, float] = {}
        self.policies: dict[str, list[dict[str, Any]]] = {}
        # What the metrics call something: the ARN as it is, unless a test says otherwise.
        self.counts_as: Callable[[str], str] = lambda arn: arn
        self._made = 0
        self._install()

    def answer(self, service: str, operation: str, answer: Callable[[dict[str, Any]], Any]) -> None:
        """Answer an operation, with what botocore's model of its output allows."""
        shape = botocore.session.get_session().get_service_model(service).operation_model(operation)
        output = shape.output_shape

        def checked(parameters: dict[str, Any]) -> dict[str, Any]:
            found: dict[str, Any] = answer({key: _plain(value) for key, value in parameters.items()}) or {}
            report = ParamValidator().validate(found, output) if output is not None else None
            assert report is None or not report.has_errors(), report.generate_report()
            return found

        self.fake.answers[service, operation] = checked

    def make(self, kind: str, name: str, *, resource: str) -> str:
        """Take a resource's name and return its ARN."""
        self._made += 1
        arn = f"{PREFIX}:{ACCOUNT}:{resource}/{self._made:012d}"
        self.named[kind][arn] = name
        self.resources.create(kind, arn)
        return arn

    def drop(self, kind: str, name_or_arn: str) -> None:
        """Delete a resource by its name or ARN."""
        arn = self.find(kind, name_or_arn)
        del self.named[kind][arn]
        self.resources.live[kind].remove(arn)

    def find(self, kind: str, name_or_arn: str) -> str:
        """Return the ARN of a resource.

        Raises AwsError where there is none.
        """
        for arn, name in self.named[kind].items():
            if name_or_arn in (arn, name, arn.rpartition("/")[2]):
                return arn
        raise AwsError("ResourceNotFoundException", f"no {kind} {name_or_arn}", 404)

    def require(self, action: str, resource: str, **context: str) -> None:
        """Deny a caller whose role does not allow an action."""
        caller = self.fake.caller
        if caller == OWNER or any(
            action in statement["Action"]
            and any(fnmatch.fnmatchcase(resource, pattern) for pattern in _texts(statement["Resource"]))
            and statement.get("Condition", {}).get("StringEquals", {}).items() <= context.items()
            for statement in self.policies.get(caller, [])
        ):
            return
        message = (
            f"User: arn:aws:sts::{ACCOUNT}:assumed-role/{caller}/x is not authorized to perform: {action}"
        )
        raise AwsError("AccessDeniedException", message, 403)

    def invoke(self, resource: str, **context: str) -> None:
        """Deny a caller that may not call a model."""
        self.require("bedrock:InvokeModel", resource, **context)

    def count(self, arn: str) -> None:
        """Count a call."""
        self.counted[self.counts_as(arn)] += 1

    def _install(self) -> None:
        answers = self.fake.answers
        answers["iam", "PutRolePolicy"] = self._policy
        answers["sts", "AssumeRole"] = lambda p: {
            "Credentials": {
                "AccessKeyId": p["RoleArn"].rpartition("/")[2],
                "SecretAccessKey": "secret",
                "SessionToken": "token",
                "Expiration": "2099-01-01T00:00:00Z",
            }
        }
        answers["cloudwatch", "ListMetrics"] = self._metrics
        answers["cloudwatch", "GetMetricStatistics"] = self._statistics
        answers["service-quotas", "ListServiceQuotas"] = lambda _: self._quotas()
        answers["service-quotas", "ListAWSDefaultServiceQuotas"] = lambda _: {"Quotas": []}
        self.answer("bedrock-runtime", "Converse", self.converse)
        self.answer("bedrock", "CreateInferenceProfile", self._create_profile)
        self.answer("bedrock", "ListInferenceProfiles", self._profiles)
        self.answer(
            "bedrock",
            "DeleteInferenceProfile",
            lambda p: self.drop("Profile", p["inferenceProfileIdentifier"]),
        )

    def _policy(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self.policies[parameters["RoleName"]] = json.loads(parameters["PolicyDocument"])["Statement"]
        return {}

    def _quotas(self) -> dict[str, Any]:
        return {"Quotas": [{"QuotaName": name, "Value": value} for name, value in self.quotas.items()]}

    def _metrics(self, _: dict[str, Any]) -> dict[str, Any]:
        return {
            "Metrics": [
                {"MetricName": "Invocations", "Dimensions": [{"Name": "ModelId", "Value": model}]}
                for model in self.counted
            ]
        }

    def _statistics(self, parameters: dict[str, Any]) -> dict[str, Any]:
        calls = self.counted[parameters["Dimensions"][0]["Value"]]
        return {"Datapoints": [{"Timestamp": MOMENT, "Sum": float(calls)}] if calls else []}

    def _create_profile(self, parameters: dict[str, Any]) -> dict[str, Any]:
        arn = self.make(
            "Profile", parameters["inferenceProfileName"], resource="application-inference-profile"
        )
        return {"inferenceProfileArn": arn, "status": "ACTIVE"}

    def _profiles(self, parameters: dict[str, Any]) -> dict[str, Any]:
        assert parameters["typeEquals"] == "APPLICATION"
        return {
            "inferenceProfileSummaries": [
                self.profile(name, arn.rpartition("/")[2], arn, [REGION], "APPLICATION")
                for arn, name in self.named["Profile"].items()
            ]
        }

    @staticmethod
    def profile(name: str, id_: str, arn: str, regions: list[str], kind: str) -> dict[str, Any]:
        models = [{"modelArn": f"arn:aws:bedrock:{region}::foundation-model/{NOVA[0]}"} for region in regions]
        named = {"inferenceProfileName": name, "inferenceProfileId": id_, "inferenceProfileArn": arn}
        return {**named, "models": models, "status": "ACTIVE", "type": kind}

    def converse(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Answer a model or a profile; other things that are called have answers of their own."""
        model = parameters["modelId"]
        if model in self.named["Profile"]:
            self.invoke(model)
            condition = {"bedrock:InferenceProfileArn": model}
            self.invoke(f"{PREFIX}::foundation-model/{NOVA[0]}", **condition)
        elif model.startswith("arn:"):
            raise AwsError("ResourceNotFoundException", f"{model} was not found", 404)
        else:
            self.invoke(f"{PREFIX}::foundation-model/{model}")
        self.count(model)
        return self.said("yes")

    @staticmethod
    def said(text: str, *, stop: str = "end_turn", **more: Any) -> dict[str, Any]:
        return {
            "output": {"message": {"role": "assistant", "content": [{"text": text}]}},
            "stopReason": stop,
            "usage": {"inputTokens": 9, "outputTokens": 2, "totalTokens": 11},
            "metrics": {"latencyMs": 1},
            **more,
        }


def _texts(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _plain(value: Any) -> Any:
    return unquote(value) if isinstance(value, str) else value
