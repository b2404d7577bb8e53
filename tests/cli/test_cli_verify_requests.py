"""The probes that send requests alone: the price list, quotas, and Amazon Bedrock."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import botocore.session
import pytest

import support_fake_aws
from support_fake_aws import AwsError
from support_verify import HURRIED, only, probe, session
from tokenmill.core.bedrock_prices import bedrock_prices
from tokenmill.core.instances import instance_catalog
from tokenmill.verification import Verdict, aws, bedrock_lines
from tokenmill.verification.ledger import Ledger
from tokenmill.verification.line import Deployment
from tokenmill.verification.lines import FOOTPRINTS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support_fake_aws import FakeAws

REGION = "us-east-1"
PRICED = {
    name: price.usd_per_hour
    for name, kind in instance_catalog().items()
    if (price := kind.price(REGION)) is not None
}
NOVA, PLAIN, MICRO = "amazon.nova-pro-v1:0", "qwen.qwen3-32b-v1:0", "amazon.nova-micro-v1:0"
FEW = (NOVA, PLAIN, MICRO, "moonshotai.kimi-k3")


def product(name: str, usd: float, **attributes: str) -> str:
    """Return a product in the form of the price list (AWS documentation: "Using the AWS Price List API")."""
    dimension = {"unit": "Hrs", "pricePerUnit": {"USD": f"{usd:.10f}"}}
    kept = {"regionCode": REGION, "component": "Hosting", "instanceName": name, **attributes}
    return json.dumps(
        {
            "product": {"productFamily": "ML Instance", "sku": "S", "attributes": kept},
            "terms": {"OnDemand": {"S.T": {"priceDimensions": {"S.T.D": dimension}}}},
            "publicationDate": "2026-11-20T04:33:34Z",
        }
    )


def listing(fake: FakeAws, products: list[str]) -> None:
    """Answer as the price list does: products that every filter matches."""

    def answer(parameters: dict[str, Any]) -> dict[str, Any]:
        wanted = {item["Field"]: item["Value"] for item in parameters["Filters"]}
        listed = [
            item for item in products if wanted.items() <= json.loads(item)["product"]["attributes"].items()
        ]
        return {"FormatVersion": "aws_v1", "PriceList": listed}

    fake.answers["pricing", "GetProducts"] = answer


def test_a_price_list_of_the_form_that_is_read_holds(fake_aws: FakeAws, tmp_path: Path) -> None:
    listing(fake_aws, [product(name, usd) for name, usd in PRICED.items()])
    evidence = only(probe(tmp_path, "price-list-hosting"))
    assert evidence.verdict is Verdict.HOLDS
    assert evidence.observations["changed"] == {}
    assert evidence.observations["published"] == "2026-11-20"


def test_a_price_that_has_changed_still_holds_and_is_kept(fake_aws: FakeAws, tmp_path: Path) -> None:
    name = next(iter(PRICED))
    listing(fake_aws, [product(kind, usd * (2 if kind == name else 1)) for kind, usd in PRICED.items()])
    evidence = only(probe(tmp_path, "price-list-hosting"))
    assert evidence.verdict is Verdict.HOLDS
    assert evidence.observations["changed"] == {
        name: {"shipped": PRICED[name], "listed": pytest.approx(2 * PRICED[name])}
    }


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"component": "Endpoint"}, "error"),
        ({"regionCode": "US East (N. Virginia)"}, "error"),
        ({"instanceName": ""}, "error"),
    ],
)
def test_products_with_other_attributes_fail(
    fake_aws: FakeAws, tmp_path: Path, change: dict[str, str], shown: str
) -> None:
    listing(fake_aws, [product(name, usd, **change) for name, usd in PRICED.items()])
    evidence = only(probe(tmp_path, "price-list-hosting"))
    assert evidence.verdict is Verdict.FAILS
    assert "no hosting price for any known instance type" in evidence.observations[shown]


def test_a_type_without_a_price_or_with_two_fails(fake_aws: FakeAws, tmp_path: Path) -> None:
    first, second, *others = PRICED
    listed = [product(name, PRICED[name]) for name in (second, *others)]
    listing(fake_aws, listed)
    missing = only(probe(tmp_path, "price-list-hosting"))
    listing(fake_aws, [*listed, product(first, 1.0), product(first, 2.0)])
    double = only(probe(tmp_path, "price-list-hosting"))
    assert (missing.verdict, missing.observations["not_listed"]) == (Verdict.FAILS, [first])
    assert (double.verdict, double.observations["more_than_one_price"]) == (Verdict.FAILS, [first])


@pytest.mark.parametrize(
    ("service", "operation", "line"),
    [
        ("pricing", "GetProducts", "price-list-hosting"),
        ("service-quotas", "ListServiceQuotas", "endpoint-quota-names"),
    ],
)
def test_a_reader_that_may_not_read_learns_nothing(
    fake_aws: FakeAws, tmp_path: Path, service: str, operation: str, line: str
) -> None:
    def refuse(_: dict[str, Any]) -> dict[str, Any]:
        raise AwsError("AccessDeniedException", "no")

    fake_aws.answers[service, operation] = refuse
    evidence = only(probe(tmp_path, line))
    assert evidence.verdict is Verdict.UNCLEAR
    assert "AccessDenied" in evidence.observations["error"]


def quotas(names: list[str], suffix: str = " for endpoint usage") -> dict[str, Any]:
    return {"Quotas": [{"QuotaName": name + suffix, "Value": 4.0} for name in names]}


def test_quotas_under_the_names_that_are_read_hold(fake_aws: FakeAws, tmp_path: Path) -> None:
    fake_aws.answers["service-quotas", "ListServiceQuotas"] = lambda _: quotas(list(PRICED))
    evidence = only(probe(tmp_path, "endpoint-quota-names"))
    assert evidence.verdict is Verdict.HOLDS
    assert evidence.observations["quotas"] == dict.fromkeys(sorted(PRICED), 4.0)


def test_quotas_under_other_names_or_with_defaults_only_fail_and_are_told_apart(
    fake_aws: FakeAws, tmp_path: Path
) -> None:
    first, *others = PRICED
    answers = fake_aws.answers
    answers["service-quotas", "ListAWSDefaultServiceQuotas"] = lambda _: quotas([first])
    answers["service-quotas", "ListServiceQuotas"] = lambda _: quotas(others)
    default = only(probe(tmp_path, "endpoint-quota-names"))
    answers["service-quotas", "ListServiceQuotas"] = lambda _: quotas(list(PRICED), " for hosting")
    answers["service-quotas", "ListAWSDefaultServiceQuotas"] = lambda _: quotas(list(PRICED), " for hosting")
    named = only(probe(tmp_path, "endpoint-quota-names"))
    assert (default.verdict, named.verdict) == (Verdict.FAILS, Verdict.FAILS)
    assert default.observations["by_default_only"] == {first: 4.0}
    assert default.observations["not_listed"] == [first]
    assert named.observations["by_default_only"] == {}


@pytest.mark.parametrize("service", ["PRICING", "SERVICE_QUOTAS", "BEDROCK_RUNTIME"])
def test_one_service_that_is_elsewhere_makes_the_run_local(
    fake_aws: FakeAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    """Its answers would otherwise pass for evidence about an account."""
    probing = {"region": REGION, "run": "r", "ledger": Ledger(tmp_path / "ledger"), "pace": HURRIED}
    here = aws.Aws(session(), **probing)
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    # Its client is made: who answers for sts is not asked again.
    monkeypatch.setattr(aws, "_TELLING", tuple(name for name in aws._TELLING if name != "sts"))
    assert not here.local
    elsewhere = aws.Aws.__new__(aws.Aws)
    elsewhere.__dict__ |= {**here.__dict__, "_clients": {}}
    elsewhere.__dict__.pop("endpoint")
    monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", fake_aws.url)
    assert elsewhere.local


class Bedrock:
    """Models that answer; the attributes say which do not, and how."""

    def __init__(self, fake: FakeAws) -> None:
        self.refused_tiers: set[str] = set()
        self.absent: Callable[[str], bool] = lambda _: False
        self.answers_in: str | None = None
        self.caches = True
        self.marks = True
        self.late = 0
        self.requests: list[dict[str, Any]] = []
        self._seen: dict[str, int] = {}
        fake.answers["bedrock-runtime", "Converse"] = self._converse

    def _converse(self, parameters: dict[str, Any]) -> dict[str, Any]:
        shape = botocore.session.get_session().get_service_model("bedrock-runtime")
        assert parameters.keys() <= shape.operation_model("Converse").input_shape.members.keys()
        self.requests.append(parameters)
        model, tier = parameters["modelId"], parameters.get("serviceTier", {}).get("type", "default")
        if self.absent(model):
            raise AwsError("AccessDeniedException", f"no access to {model}", 403)
        if tier in self.refused_tiers:
            raise AwsError("ValidationException", f"{model} has no tier {tier}")
        system = parameters.get("system", [])
        if not self.marks and any("cachePoint" in block for block in system):
            raise AwsError("ValidationException", "cachePoint is not supported")
        self._seen[model] = self._seen.get(model, 0) + 1
        hit = self.caches and system and self._seen[model] > 1 + self.late
        usage = {"inputTokens": 9, "outputTokens": 2, "totalTokens": 11}
        return {
            "output": {"message": {"role": "assistant", "content": [{"text": "yes"}]}},
            "stopReason": "end_turn",
            "usage": {**usage, "cacheReadInputTokens": 5000 if hit else 0},
            "serviceTier": {"type": self.answers_in or tier},
        }


@pytest.fixture
def bedrock(fake_aws: FakeAws, monkeypatch: pytest.MonkeyPatch) -> Bedrock:
    monkeypatch.setitem(support_fake_aws.SIGNING_NAMES, "bedrock", "bedrock-runtime")
    return Bedrock(fake_aws)


@pytest.fixture
def few(bedrock: Bedrock, monkeypatch: pytest.MonkeyPatch) -> Bedrock:
    """Bedrock, with a price table of a handful of models."""
    table = bedrock_prices()
    monkeypatch.setattr(bedrock_lines, "bedrock_prices", lambda: {name: table[name] for name in FEW})
    return bedrock


def test_every_tier_that_has_a_price_is_asked_for_once(bedrock: Bedrock, tmp_path: Path) -> None:
    evidence = only(probe(tmp_path, "bedrock-service-tiers"))
    assert evidence.verdict is Verdict.HOLDS
    asked = {(request["modelId"], request["serviceTier"]["type"]) for request in bedrock.requests}
    priced = {
        (price.model_id, tier)
        for price in bedrock_lines.priced_models(REGION)
        for tier in ("flex", "priority")
        if tier in price.tiers
    }
    assert asked == priced
    assert {(NOVA, "flex"), (NOVA, "priority"), (PLAIN, "flex")} <= asked
    assert len(bedrock.requests) == len(priced)
    assert {request["inferenceConfig"]["maxTokens"] for request in bedrock.requests} == {16}


@pytest.mark.parametrize("tier", ["flex", "priority"])
def test_a_tier_that_is_refused_where_the_model_answers_fails(
    few: Bedrock, tmp_path: Path, tier: str
) -> None:
    few.refused_tiers = {tier}
    evidence = only(probe(tmp_path, "bedrock-service-tiers"))
    assert evidence.verdict is Verdict.FAILS
    assert f"{NOVA} {tier}" in evidence.observations["refused"]


def test_an_answer_in_another_tier_fails(few: Bedrock, tmp_path: Path) -> None:
    few.answers_in = "default"
    evidence = only(probe(tmp_path, "bedrock-service-tiers"))
    assert evidence.verdict is Verdict.FAILS
    assert evidence.observations["refused"][f"{NOVA} flex"] == "answered in tier default"


@pytest.mark.parametrize(("line", "some"), [("bedrock-service-tiers", NOVA), ("bedrock-cache-reads", MICRO)])
def test_models_out_of_reach_say_nothing_and_the_others_do(
    few: Bedrock, tmp_path: Path, line: str, some: str
) -> None:
    few.absent = lambda model: model != some
    evidence = only(probe(tmp_path, line))
    assert evidence.verdict is Verdict.HOLDS
    assert evidence.observations["not_tried"]
    few.absent = lambda _: True
    assert only(probe(tmp_path, line)).verdict is Verdict.UNCLEAR


def test_a_model_that_refuses_any_request_is_not_held_against_its_tiers(few: Bedrock, tmp_path: Path) -> None:
    few.refused_tiers = {"flex", "priority", "default"}
    evidence = only(probe(tmp_path, "bedrock-service-tiers"))
    assert evidence.verdict is Verdict.UNCLEAR
    assert evidence.observations["refused"] == {}


def test_each_provider_s_cheapest_model_reads_what_it_was_sent_before(
    bedrock: Bedrock, tmp_path: Path
) -> None:
    evidence = only(probe(tmp_path, "bedrock-cache-reads"))
    assert evidence.verdict is Verdict.HOLDS
    models = {price.model_id for price in bedrock_lines.cached_models(REGION)}
    assert evidence.observations["read"].keys() == models
    assert MICRO in models
    assert len(bedrock.requests) == 2 * len(models)
    assert all(request["system"][-1] == {"cachePoint": {"type": "default"}} for request in bedrock.requests)


@pytest.mark.parametrize(("late", "verdict"), [(2, Verdict.HOLDS), (3, Verdict.FAILS)])
def test_a_read_may_come_with_a_later_call_and_not_never(
    few: Bedrock, tmp_path: Path, late: int, verdict: Verdict
) -> None:
    few.late = late
    assert only(probe(tmp_path, "bedrock-cache-reads")).verdict is verdict


def test_a_model_without_cache_reads_fails_after_its_tries(few: Bedrock, tmp_path: Path) -> None:
    few.caches = False
    evidence = only(probe(tmp_path, "bedrock-cache-reads"))
    assert evidence.verdict is Verdict.FAILS
    assert {len(usages) for usages in evidence.observations["unread"].values()} == {1 + bedrock_lines.READS}


def test_a_model_that_takes_no_mark_is_asked_without_it(few: Bedrock, tmp_path: Path) -> None:
    few.marks = False
    assert only(probe(tmp_path, "bedrock-cache-reads")).verdict is Verdict.HOLDS
    assert ["cachePoint" in request["system"][-1] for request in few.requests[:3]] == [True, False, False]


@pytest.mark.parametrize("region", ["us-east-1", "us-west-2", "eu-west-1", "ap-northeast-1", "sa-east-1"])
def test_the_bound_covers_every_request_at_the_table_s_prices(region: str) -> None:
    """A prompt of three words with its template is under 200 tokens; a word of the long one under 1.2."""
    usd = 0.0
    for price in bedrock_lines.priced_models(region):
        for tier in bedrock_lines.ASKED_TIERS:
            if tier in price.tiers:
                # The tier, and without it where that is refused: no tier is dearer than priority.
                paid = price.tiers[tier]
                usd += 2 * (200 * paid.input + bedrock_lines.MAX_TOKENS * paid.output) / 1e6
    for price in bedrock_lines.cached_models(region):
        paid = price.tiers["standard"]
        dearest = max(paid.input, paid.cache_write or 0.0)
        each = 1.2 * bedrock_lines.CACHED_WORDS * dearest + bedrock_lines.MAX_TOKENS * paid.output
        usd += (1 + bedrock_lines.READS) * each / 1e6
    assert 0 < usd < FOOTPRINTS[Deployment.BEDROCK_REQUESTS].requests_usd
