"""The probes about profiles, routers, quotas and absent units of Amazon Bedrock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import support_verify
from support_fake_aws import ACCOUNT, AwsError
from support_fake_bedrock import MOMENT, NOVA, PREFIX, BedrockWorld
from support_verify import only, probe
from tokenmill.core.model_units import unit_offers
from tokenmill.core.token_quota import burndown
from tokenmill.verification import LINES, Verdict, bedrock_model_lines
from tokenmill.verification.aws import Pace
from tokenmill.verification.bedrock_lines import priced_models
from tokenmill.verification.line import Deployment

if TYPE_CHECKING:
    from pathlib import Path

    from support_fake_aws import Resources

REGION = "us-east-1"
ALL = [line.id for line in LINES if line.deployment is Deployment.BEDROCK_MODELS]
FEW = [price for price in priced_models(REGION) if not burndown(price.model_id).documented][:3]
UNDOCUMENTED = [price.model_id for price in FEW]
QUOTAS = {
    **{
        f"{bedrock_model_lines.QUOTA_NAME.format(scope)} Nova": 1000.0 for scope in bedrock_model_lines.SCOPES
    },
    **dict.fromkeys(bedrock_model_lines.UNIT_QUOTAS, 0.0),
    "Minimum number of records per batch inference job for Nova Lite": 100.0,
    "Records per batch inference job for Nova Lite": 50_000.0,
}


class Models(BedrockWorld):
    """Profiles and routers that do what is claimed; the attributes say what else they do."""

    def __init__(self, resources: Resources) -> None:
        super().__init__(resources)
        self.quotas = dict(QUOTAS)
        self.counts_as = lambda arn: arn.rpartition("/")[2]
        self.geographies = {"us.new.model-v1:0": ["us-east-1", "us-west-2"]}
        self.fewest_models = 2
        self.difference: float | None = None
        self.router_alone = False
        self.under_router = False
        self.factor: dict[str, float] = {model: burndown(model).factor for model in UNDOCUMENTED}
        self.offered = [name for name, offer in unit_offers().items() if REGION in offer.regions]
        self.absent = AwsError("ValidationException", "The provided model identifier is invalid.")
        self._routers: dict[str, dict[str, Any]] = {}
        self.answer("bedrock", "ListFoundationModels", self._foundation_models)
        self.answer("bedrock", "CreatePromptRouter", self._create_router)
        self.answer("bedrock", "GetPromptRouter", lambda p: self._routers[p["promptRouterArn"]])
        self.answer("bedrock", "ListPromptRouters", self._list_routers)
        self.answer("bedrock", "DeletePromptRouter", lambda p: self.drop("Router", p["promptRouterArn"]))
        self.answer("bedrock-runtime", "Converse", self._ask)
        self.fake.answers["ssm", "GetParametersByPath"] = self._by_path
        real = self.fake.answers["cloudwatch", "GetMetricStatistics"]
        self.fake.answers["cloudwatch", "GetMetricStatistics"] = lambda p: self._estimate(p) or real(p)

    def _profiles(self, parameters: dict[str, Any]) -> dict[str, Any]:
        if parameters["typeEquals"] == "APPLICATION":
            return super()._profiles(parameters)
        return {
            "inferenceProfileSummaries": [
                self.profile(
                    "one", name, f"{PREFIX}:{ACCOUNT}:inference-profile/{name}", regions, "SYSTEM_DEFINED"
                )
                for name, regions in self.geographies.items()
            ]
        }

    def _foundation_models(self, parameters: dict[str, Any]) -> dict[str, Any]:
        assert parameters == {"byInferenceType": "PROVISIONED"}
        return {
            "modelSummaries": [
                {"modelArn": f"{PREFIX}::foundation-model/{name}", "modelId": name} for name in self.offered
            ]
        }

    def _create_router(self, parameters: dict[str, Any]) -> dict[str, Any]:
        if len(parameters["models"]) < self.fewest_models:
            raise AwsError("ValidationException", "a router has two models")
        arn = self.make("Router", parameters["promptRouterName"], resource="prompt-router")
        kept = {key: parameters[key] for key in ("promptRouterName", "models", "fallbackModel")}
        criteria = parameters["routingCriteria"]
        if self.difference is not None:
            criteria = {"responseQualityDifference": self.difference}
        self._routers[arn] = {
            **kept,
            "routingCriteria": criteria,
            "promptRouterArn": arn,
            "status": "AVAILABLE",
            "type": "custom",
        }
        return {"promptRouterArn": arn}

    def _list_routers(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"promptRouterSummaries": [self._routers[arn] for arn in self.named["Router"]]}

    def _ask(self, parameters: dict[str, Any]) -> dict[str, Any]:
        model = parameters["modelId"]
        if "provisioned-model" in model:
            raise self.absent
        if model not in self.named["Router"]:
            return self.converse(parameters)
        self.invoke(model)
        invoked = f"{PREFIX}::foundation-model/{NOVA[0]}"
        if not self.router_alone:
            self.invoke(invoked)
        self.count(model if self.under_router else invoked)
        if self.under_router:
            self.count(invoked)
        return self.said("yes", trace={"promptRouter": {"invokedModelId": invoked}})

    def _by_path(self, parameters: dict[str, Any]) -> dict[str, Any]:
        path = parameters["Path"].strip("/")
        self.require("ssm:GetParametersByPath", f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/{path}")
        return {"Parameters": []}

    def _estimate(self, parameters: dict[str, Any]) -> dict[str, Any] | None:
        if parameters["MetricName"] != "EstimatedTPMQuotaUsage":
            return None
        model = parameters["Dimensions"][0]["Value"]
        tokens = self.counted[model] * (9 + 2 * self.factor[model])
        return {"Datapoints": [{"Timestamp": MOMENT, "Sum": tokens}] if tokens else []}


@pytest.fixture
def models(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> Models:
    monkeypatch.setattr(bedrock_model_lines, "priced_models", lambda _: iter(FEW))
    monkeypatch.setattr(support_verify, "HURRIED", Pace(poll_seconds=0.01, settle_seconds=0.05))
    return Models(resources)


def test_an_aws_that_does_what_is_claimed_makes_every_line_hold(models: Models, tmp_path: Path) -> None:
    result = probe(tmp_path, *ALL)
    wrong = {piece.line: piece.observations for piece in result.evidence if piece.verdict != "holds"}
    assert (wrong, models.resources.left, result.left) == ({}, set(), ())
    assert {"Profile", "Router", "Role"} <= models.resources.ever


def test_a_role_that_stays_denied_fails(models: Models, tmp_path: Path) -> None:
    """Rights that AWS does not understand as claimed are a denial, however long the role is given."""
    assert only(_by_a_stranger(models, tmp_path, "profile-condition-key")).verdict is Verdict.FAILS


def _by_a_stranger(models: Models, tmp_path: Path, line: str) -> Any:
    models.fake.answers["sts", "AssumeRole"] = lambda p: {
        "Credentials": {
            "AccessKeyId": "stranger",
            "SecretAccessKey": "s",
            "SessionToken": "t",
            "Expiration": "2099-01-01T00:00:00Z",
        }
    }
    return probe(tmp_path, line)


@pytest.mark.parametrize(
    ("line", "change"),
    [
        ("profile-metric-id", {"counts_as": lambda arn: arn}),
        ("router-two-models", {"fewest_models": 1}),
        ("router-two-models", {"fewest_models": 3}),
        ("router-difference-scale", {"difference": 0.1}),
        ("router-difference-scale", {"fewest_models": 3}),
        ("router-rights", {"router_alone": True}),
        ("router-counted-model", {"under_router": True}),
        ("profile-geography", {"geographies": {"us.new.model-v1:0": ["us-east-1", "eu-west-1"]}}),
        ("profile-geography", {"geographies": {"moon.new.model-v1:0": ["us-east-1"]}}),
        ("token-quota-names", {"quotas": {"On-demand InvokeModel tokens per minute for Nova": 1.0}}),
        ("unit-quota-names", {"quotas": {"Model units for base models": 1.0}}),
        ("batch-quotas", {"quotas": {**QUOTAS, "Records per batch inference job for Nova Lite": 10.0}}),
        ("unit-offers", {"offered": ["amazon.new-v1:0:8k"]}),
        ("token-burndown", {"factor": dict.fromkeys(UNDOCUMENTED, 3.0)}),
        ("absent-units-error", {"absent": AwsError("ValidationException", "malformed input")}),
    ],
)
def test_another_behaviour_fails(models: Models, tmp_path: Path, line: str, change: dict[str, Any]) -> None:
    for name, value in change.items():
        setattr(models, name, value)
    evidence = only(probe(tmp_path, line))
    assert evidence.verdict is Verdict.FAILS, evidence.observations
    assert models.resources.left == set()


@pytest.mark.parametrize(
    ("line", "change"),
    [
        ("profile-geography", {"geographies": {}}),
        ("token-quota-names", {"quotas": {}}),
        ("batch-quotas", {"quotas": {}}),
        ("unit-offers", {"offered": []}),
        ("absent-units-error", {"absent": AwsError("ThrottlingException", "slow down")}),
        ("absent-units-error", {"absent": AwsError("AccessDeniedException", "no", 403)}),
        ("token-burndown", {"factor": dict.fromkeys(UNDOCUMENTED, -4.5)}),
    ],
)
def test_what_says_nothing_is_unclear(
    models: Models, tmp_path: Path, line: str, change: dict[str, Any]
) -> None:
    for name, value in change.items():
        setattr(models, name, value)
    evidence = only(probe(tmp_path, line))
    assert evidence.verdict is Verdict.UNCLEAR, evidence.observations


def test_a_name_that_is_refused_twice_fails(models: Models, tmp_path: Path) -> None:
    real = models._create_profile

    def create(parameters: dict[str, Any]) -> dict[str, Any]:
        if models.named["Profile"]:
            raise AwsError("ValidationException", "the name exists already")
        return real(parameters)

    models.answer("bedrock", "CreateInferenceProfile", create)
    assert only(probe(tmp_path, "profile-same-name")).verdict is Verdict.FAILS
    assert models.resources.left == set()


def test_models_that_somebody_else_calls_say_nothing_of_the_burndown(models: Models, tmp_path: Path) -> None:
    models.counted.update(dict.fromkeys(UNDOCUMENTED, 3))
    evidence = only(probe(tmp_path, "token-burndown"))
    assert evidence.verdict is Verdict.UNCLEAR
    assert set(evidence.observations["not_tried"]) == set(UNDOCUMENTED)
