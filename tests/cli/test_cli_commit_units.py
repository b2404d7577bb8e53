"""`tokenmill jobs run commit-units`: the price first, one purchase whatever happens, nothing left over."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from support_bedrock import ACCOUNT as ACCOUNT_ID
from support_bedrock import MODEL, PLENTY, REGION, SCOPE, FakeBedrock, bedrock_server
from support_fake_aws import AwsError, FakeAws
from support_jobs_command import error_of, run_jobs
from tokenmill.cli import _commit_units
from tokenmill.core.model_units import UnitPrice
from tokenmill.local.bedrock.faults import Fault
from tokenmill_runtime import aws as aws_clients
from tokenmill_runtime.bedrock_resources import resources_for
from tokenmill_runtime.units_market import Market
from tokenmill_runtime.waited_resource import is_complete, on_event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from click.testing import Result

TYPE = "Custom::TokenmillProvisionedThroughput"
PREFIX = "/tokenmill/units"
HANDLE = "/chat/handle"


class Cloud:
    """Bedrock, a parameter store and a stack with one resource whose commitment is declared."""

    def __init__(self, fake: FakeAws, bedrock: FakeBedrock) -> None:
        self.fake, self.bedrock = fake, bedrock
        self.parameters: dict[str, str] = {}
        self.physical: dict[tuple[str, str], str] = {}
        self.ticks = 0
        self.killed_after = -1
        fake.answers["ssm", "GetParameter"] = self._get
        fake.answers["ssm", "PutParameter"] = self._put
        fake.answers["ssm", "DeleteParameter"] = self._delete
        fake.answers["ssm", "GetParametersByPath"] = self._list
        fake.answers["cloudformation", "DescribeStackResource"] = self._resource
        fake.answers["cloudwatch", "DeleteAlarms"] = lambda _: {}
        fake.answers["cloudwatch", "PutMetricAlarm"] = lambda _: {}

    def stack(self, name: str) -> str:
        return (
            f"arn:aws:cloudformation:{REGION}:{ACCOUNT_ID}:stack/{name}/11111111-2222-3333-4444-555555555555"
        )

    def deploy(self, stack: str = "chat", logical: str = "Units", **properties: Any) -> None:
        """Make units without commitment as a deployment does, and note the commitment that is declared."""
        asked = {
            "RequestType": "Create",
            "RequestId": f"{stack}-{logical}",
            "StackId": self.stack(stack),
            "LogicalResourceId": logical,
            "ResourceType": TYPE,
            "ResourceProperties": {
                "Name": "chat",
                "ModelId": MODEL,
                "ModelUnits": "2",
                "Commitment": "ONE_MONTH",
                "HourlyUsd": "10",
                "Handle": HANDLE,
                **properties,
            },
        }
        resource = resources_for(TYPE)
        begun = on_event(resource, asked, None)
        self.physical[stack, logical] = begun["PhysicalResourceId"]
        for _ in range(20):
            if is_complete(resource, {**asked, **begun}, None)["IsComplete"]:
                return
            self.bedrock.clock.pass_(30)
        raise AssertionError("the deployment is not over")

    def tick(self, _: float) -> None:
        """Let time pass; end the program where the test says so, as a person would."""
        self.ticks += 1
        if self.ticks == self.killed_after:
            raise KeyboardInterrupt
        self.bedrock.clock.pass_(30)

    @property
    def owned(self) -> list[tuple[int, str]]:
        return [(one.units, one.commitment or "NONE") for one in self.bedrock.owned()]

    @property
    def purchases(self) -> int:
        return len(self.bedrock.control.provisioned.owned(SCOPE))

    def handle(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.parameters[HANDLE])
        return found

    def entries(self, kind: str) -> list[str]:
        return [name for name in self.parameters if name.startswith(f"{PREFIX}/{kind}/")]

    def _get(self, given: dict[str, Any]) -> dict[str, Any]:
        if given["Name"] not in self.parameters:
            raise AwsError("ParameterNotFound")
        return {"Parameter": {"Name": given["Name"], "Value": self.parameters[given["Name"]]}}

    def _put(self, given: dict[str, Any]) -> dict[str, Any]:
        self.parameters[given["Name"]] = given["Value"]
        return {"Version": 1}

    def _delete(self, given: dict[str, Any]) -> dict[str, Any]:
        if self.parameters.pop(given["Name"], None) is None:
            raise AwsError("ParameterNotFound")
        return {}

    def _list(self, given: dict[str, Any]) -> dict[str, Any]:
        path = given["Path"].rstrip("/") + "/"
        found = [
            {"Name": name, "Value": text} for name, text in self.parameters.items() if name.startswith(path)
        ]
        return {"Parameters": found}

    def _resource(self, given: dict[str, Any]) -> dict[str, Any]:
        stack, logical = given["StackName"].split("/")[1], given["LogicalResourceId"]
        if (stack, logical) not in self.physical:
            raise AwsError("ValidationError", f"Resource {logical} does not exist for stack {stack}")
        return {
            "StackResourceDetail": {
                "LogicalResourceId": logical,
                "PhysicalResourceId": self.physical[stack, logical],
                "ResourceType": TYPE,
                "LastUpdatedTimestamp": 1_700_000_000,
                "ResourceStatus": "CREATE_COMPLETE",
            }
        }


@pytest.fixture
def cloud(fake_aws: FakeAws, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    clients = [made for made in vars(aws_clients).values() if hasattr(made, "cache_clear")]
    for client in clients:
        client.cache_clear()
    with bedrock_server() as bedrock:
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
        monkeypatch.setenv("TOKENMILL_LEDGER_PREFIX", PREFIX)
        made = Cloud(fake_aws, bedrock)
        monkeypatch.setattr(_commit_units.time, "sleep", made.tick)
        yield made
        for client in clients:
            client.cache_clear()


def run(*arguments: str, input: str | None = None) -> Result:
    return run_jobs("run", "commit-units", *arguments, input=input)


def test_a_commitment_is_bought_the_handle_moves_and_the_others_go(cloud: Cloud) -> None:
    """At the end the stack has what it declares, once, and callers use it."""
    cloud.deploy()
    assert cloud.owned == [(2, "NONE")]
    before = cloud.handle()["models"]
    result = run("--yes", "--price", f"{MODEL}=7.5")
    assert result.exit_code == 0, result.output
    assert cloud.owned == [(2, "OneMonth")]
    after = cloud.handle()["models"]
    assert [entry["units"] for entry in after] == [2]
    assert after[0]["id"] != before[0]["id"]
    assert (cloud.entries("declared"), cloud.entries("retained")) == ([], [])
    assert "is committed until" in result.stdout


def test_units_are_looked_for_by_the_one_name_that_they_have(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read by name sees a purchase before the list does; pieces of a name would be requests for nothing."""
    cloud.deploy()
    (uncommitted,) = cloud.bedrock.owned()
    asked: list[str] = []
    named = Market.named

    def noted(market: Market, identifier: str) -> Any:
        asked.append(identifier)
        return named(market, identifier)

    monkeypatch.setattr(Market, "named", noted)
    assert run("--yes", "--price", f"{MODEL}=7.5").exit_code == 0
    assert {identifier for identifier in asked if not identifier.startswith("arn:")} == {uncommitted.name}


def test_price_and_term_are_shown_before_anything_is_bought(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person who says no has bought nothing."""
    cloud.deploy(Commitment="SIX_MONTHS")
    monkeypatch.setattr("tokenmill.cli.jobs._somebody_is_there", lambda: True)
    result = run("--price", f"{MODEL}=7.5", input="n\n")
    assert error_of(result) == "not agreed, nothing was bought"
    assert (
        f"2 model units of {MODEL} for 6 months: 15.00 USD an hour, 65,700.00 USD in all, used or not (the "
        "price that you gave); it cannot be cancelled before its term ends, and then costs on, or for "
        "another term, until it is deleted"
    ) in result.stdout
    assert cloud.owned == [(2, "NONE")]
    assert run("--price", f"{MODEL}=7.5", input="y\n").exit_code == 0
    assert cloud.owned == [(2, "SixMonths")]


def test_fails_to_buy_when_nobody_is_there_to_ask(cloud: Cloud) -> None:
    """A pipeline agrees with --yes or not at all, and the message has the price."""
    cloud.deploy()
    message = error_of(run("--price", f"{MODEL}=7.5"))
    assert "10,950.00 USD in all" in message
    assert "nobody is there to ask; agree with --yes" in message
    assert cloud.owned == [(2, "NONE")]


def test_an_unknown_price_is_said_to_be_unknown(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never guessed from the price without commitment; with --yes it is bought all the same."""
    monkeypatch.setattr(_commit_units, "unit_price", lambda *_: None)
    cloud.deploy()
    assert f"at a price that is not known here; look it up and give --price {MODEL}=USD" in error_of(run())


def test_a_listed_price_is_the_terms_and_names_its_source(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the price without commitment, which the ledger has."""
    asked: list[tuple[str, str, str]] = []

    def price(model: str, region: str, commitment: str) -> UnitPrice:
        asked.append((model, region, commitment))
        return UnitPrice(usd_per_hour=7.5, source="a price list", source_date="2026-11-11")

    monkeypatch.setattr(_commit_units, "unit_price", price)
    cloud.deploy()
    assert "15.00 USD an hour, 10,950.00 USD in all, used or not (a price list, read 2026-11-11)" in (
        error_of(run())
    )
    assert asked == [(MODEL, REGION, "ONE_MONTH")]


@pytest.mark.parametrize(
    ("model", "base"),
    [
        (MODEL, MODEL),
        (f"arn:aws:bedrock:{REGION}::foundation-model/{MODEL}", MODEL),
        (
            f"arn:aws:bedrock:{REGION}:{ACCOUNT_ID}:custom-model/amazon.nova-lite-v1:0:24k/abcdefabcdef",
            "amazon.nova-lite-v1:0:24k",
        ),
    ],
)
def test_a_custom_model_costs_what_its_base_does(model: str, base: str) -> None:
    """Its ARN names the base."""
    assert _commit_units.base_model(model) == base


@pytest.mark.parametrize("ticks", [1, 2])
def test_one_that_was_killed_goes_on_without_asking_or_buying_again(cloud: Cloud, ticks: int) -> None:
    """Bedrock and the ledger know how far it is; the terminal's memory is not needed."""
    cloud.deploy()
    cloud.killed_after = ticks
    stopped = run("--yes", "--price", f"{MODEL}=7.5")
    assert stopped.exit_code != 0
    assert (2, "OneMonth") in cloud.owned
    result = run("--price", f"{MODEL}=7.5")
    assert result.exit_code == 0, result.output
    assert "it is bought already; going on where that purchase stopped" in result.stdout
    assert cloud.owned == [(2, "OneMonth")]


@pytest.mark.parametrize("kind", ["throttled", "failed_after", "lost"])
@pytest.mark.parametrize("operation", ["CreateProvisionedModelThroughput", "GetProvisionedModelThroughput"])
def test_a_lost_or_failed_call_buys_nothing_twice(cloud: Cloud, kind: Any, operation: str) -> None:
    """Errors that pass are waited out."""
    cloud.deploy()
    cloud.bedrock.faults.add(Fault(kind=kind, operation=operation, times=3))
    result = run("--yes", "--price", f"{MODEL}=7.5")
    assert result.exit_code == 0, result.output
    assert cloud.owned == [(2, "OneMonth")]


def test_nothing_declared_is_nothing_to_do(cloud: Cloud) -> None:
    """Also after a purchase: the second run finds it done."""
    cloud.deploy()
    assert run("--yes", "--price", f"{MODEL}=7.5").exit_code == 0
    result = run("--yes")
    assert (result.exit_code, result.stdout.partition(";")[0]) == (
        0,
        f"no commitment is declared in {REGION} that is not bought already",
    )
    assert cloud.purchases == 1
    assert json.loads(run("--json").stdout) == {"schema": 1, "commitment": None, "done": True, "text": ""}


def test_fails_where_several_are_declared_and_none_is_named(cloud: Cloud) -> None:
    """Each is money for a month: which one is said, not guessed."""
    cloud.deploy()
    cloud.deploy("rag", "Other", Name="rag")
    message = error_of(run("--yes"))
    assert "2 commitments are declared, say which: " in message
    assert "--stack chat --name Units" in message and "--stack rag --name Other" in message
    assert run("--yes", "--stack", "rag", "--price", f"{MODEL}=7.5").exit_code == 0
    assert sorted(cloud.owned) == [(2, "NONE"), (2, "OneMonth")]


def test_fails_for_a_name_that_declares_nothing(cloud: Cloud) -> None:
    """The message says what does."""
    cloud.deploy()
    assert error_of(run("--yes", "--name", "Units2")) == (
        "no such commitment is declared; there are: Units of chat"
    )


def test_fails_where_the_stack_is_gone(cloud: Cloud) -> None:
    """An entry of the ledger alone buys nothing."""
    cloud.deploy()
    cloud.physical.clear()
    assert "nothing was bought" in error_of(run("--yes", "--price", f"{MODEL}=7.5"))
    assert cloud.owned == [(2, "NONE")]


def test_fails_without_quota_and_leaves_what_there_was(cloud: Cloud) -> None:
    """Units with commitment have a quota of their own, 0 in a new account."""
    cloud.deploy()
    cloud.bedrock.control.quotas = replace(PLENTY, committed=0)
    assert "quota" in error_of(run("--yes", "--price", f"{MODEL}=7.5")).lower()
    assert cloud.owned == [(2, "NONE")]


def test_machines_read_one_document(cloud: Cloud) -> None:
    """With the price, the term and how it ended."""
    cloud.deploy()
    document = json.loads(run("--yes", "--json", "--price", f"{MODEL}=7.5").stdout)
    assert document["done"] is True
    assert document["commitment"] | {"resource": ""} == {
        "resource": "",
        "stack": "chat",
        "model": MODEL,
        "units": 2,
        "commitment": "ONE_MONTH",
        "hourly_usd": 15.0,
        "total_usd": 10950.0,
        "under_way": False,
    }
