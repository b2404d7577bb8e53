"""What a purchase of model units does, and what its deletion leaves: by the hour, and never committed."""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING, Any

from tokenmill.core.errors import TokenmillError
from tokenmill.security import actions
from tokenmill.verification import bedrock_asks
from tokenmill.verification.aws import TAG
from tokenmill.verification.bedrock_asks import told, tried
from tokenmill.verification.bedrock_model_lines import metric_of, units_gone
from tokenmill.verification.line import Deployment
from tokenmill.verification.lines import FOOTPRINTS
from tokenmill.verification.probe import Outcome, Verdict, holds

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from tokenmill.verification.aws import Aws

# The value of the run's tag on units that their owner lets a probe try to delete.
MAY_DELETE = "delete"
_CREATING_SECONDS = 40 * 60
_GONE_SECONDS = 20 * 60
_REFUSALS = ("ValidationException", "ConflictException")


def unit_lines(aws: Aws, wanted: Collection[str]) -> Iterator[tuple[str, Outcome]]:
    """Buy one unit by the hour, look while it is created and served, delete it, and ask again.

    Args:
        aws: The run.
        wanted: Ids of the lines that were asked for.
    """
    units = Units(aws)
    yield "unit-purchase-rights", units.buy()
    if "unit-name-taken" in wanted:
        units.ask_for_name()
    while_creating: dict[str, Callable[[], Outcome]] = {
        "unit-visible-at-once": units.visible,
        "unit-client-token": units.same_token,
        "unit-creating-call": units.call_while_creating,
        # Where it is not refused, there is nothing left to look at.
        "unit-creating-delete": units.delete_while_creating,
    }
    for line, look in while_creating.items():
        if line in wanted:
            yield line, tried(look)
    units.await_service()
    if "unit-name-taken" in wanted:
        yield "unit-name-taken", tried(units.name_taken)
    if "unit-invoke-rights" in wanted:
        yield "unit-invoke-rights", tried(units.invoke_rights)
    if "unit-metric-id" in wanted:
        yield "unit-metric-id", tried(lambda: metric_of(aws, units.arn, units.call, wanted=units.arn))
    units.delete()
    if "unit-gone-error" in wanted:
        yield "unit-gone-error", tried(lambda: units_gone(aws, units.arn))
    if "unit-token-after-delete" in wanted:
        yield "unit-token-after-delete", tried(units.token_after_delete)
    if "unit-name-freed" in wanted:
        yield "unit-name-freed", tried(units.name_freed)


def committed_lines(aws: Aws, wanted: Collection[str]) -> Iterator[tuple[str, Outcome]]:
    """Ask for the deletion of committed units that their owner has tagged for it; nothing is bought.

    Args:
        aws: The run.
        wanted: Ids of the lines that were asked for.
    """
    (line,) = wanted
    client, now = aws.client("bedrock"), datetime.datetime.now(datetime.UTC)
    pages = client.get_paginator("list_provisioned_model_throughputs").paginate()
    committed = [
        found
        for page in pages
        for found in page["provisionedModelSummaries"]
        if found.get("commitmentDuration") and found.get("commitmentExpirationTime", now) > now
    ]
    for found in committed:
        listed = client.list_tags_for_resource(resourceARN=found["provisionedModelArn"])["tags"]
        if {"key": TAG, "value": MAY_DELETE} in listed:
            yield line, _committed_delete(aws, found)
            return
    yield line, Outcome(Verdict.UNCLEAR, {"committed": len(committed), "tagged_for_it": 0})


def _committed_delete(aws: Aws, found: dict[str, Any]) -> Outcome:
    arn = found["provisionedModelArn"]
    refused = told(lambda: aws.client("bedrock").delete_provisioned_model_throughput(provisionedModelId=arn))
    seen = {"units": arn, "until": str(found["commitmentExpirationTime"]), **refused}
    if refused["code"] in ("", *_REFUSALS):
        return Outcome(holds(bool(refused["code"])), seen)
    return Outcome(Verdict.UNCLEAR, seen)


class Units:
    """One unit of the cheapest model that is sold by the hour.

    Args:
        aws: The run.
    """

    def __init__(self, aws: Aws) -> None:
        self._aws = aws
        self._client = aws.client("bedrock")
        self._taken: dict[str, dict[str, str]] = {}
        self.model = FOOTPRINTS[Deployment.BEDROCK_UNITS].unit_model
        self.name = aws.name("units")
        self.arn = ""

    def buy(self) -> Outcome:
        """Buy with a role that may buy this model alone; without it where that is refused."""
        aws = self._aws
        aws.declare("provisioned-model", self.name)
        model = f"arn:{aws.partition}:bedrock:{aws.region}::foundation-model/{self.model}"
        units = f"arn:{aws.partition}:bedrock:{aws.region}:{aws.account}:provisioned-model/*"
        buyer = bedrock_asks.caller(
            aws,
            "buyer",
            bedrock_asks.allow(actions.UNITS_BUY, model, units),
            bedrock_asks.allow(("bedrock:TagResource",), units),
            service="bedrock",
        )
        refused = told(lambda: aws.settle(lambda: self._buy(buyer), codes=bedrock_asks.DENIED))
        if not refused["code"]:
            return Outcome(Verdict.HOLDS, {"allowed_on": [model, units]})
        if refused["code"] not in bedrock_asks.DENIED:
            raise TokenmillError(f"no unit of {self.model} was sold: {refused['code']}: {refused['message']}")
        self._buy(self._client)
        return Outcome(Verdict.FAILS, {"allowed_on": [model, units], **refused})

    def visible(self) -> Outcome:
        """Look for name, tags and list right after the purchase."""
        by_name = told(lambda: self._client.get_provisioned_model_throughput(provisionedModelId=self.name))
        tagged = bedrock_asks.tags(self._aws)[0] in self._tags()
        in_list = self._listed()
        seen: dict[str, Any] = {"by_name": by_name, "tagged": tagged, "in_list_at_once": bool(in_list)}
        return Outcome(holds(not by_name["code"] and tagged and bool(in_list)), seen)

    def same_token(self) -> Outcome:
        """Send the purchase again as it was."""
        before = self.arn
        refused = told(lambda: self._buy(self._client))
        arns = self._listed()
        seen = {"first": before, "again": self.arn, "units": arns, **refused}
        self.arn = before
        return Outcome(holds(not refused["code"] and seen["again"] == before and set(arns) <= {before}), seen)

    def ask_for_name(self) -> None:
        """Ask for the name with another token, and remember what was said in this state."""
        before, status = self.arn, self._status()
        self._taken[status] = told(lambda: self._buy(self._client, token=f"taken{status}"))
        self.arn = before

    def name_taken(self) -> Outcome:
        """Ask for the name once more, now that the units serve."""
        self.ask_for_name()
        codes = {each["code"] for each in self._taken.values()}
        if "" in codes:
            return Outcome(Verdict.FAILS, dict(self._taken))
        known = codes <= set(_REFUSALS) and len(self._taken) > 1
        return Outcome(Verdict.HOLDS if known else Verdict.UNCLEAR, dict(self._taken))

    def call_while_creating(self) -> Outcome:
        """Call units that do not serve yet."""
        refused = told(self.call)
        seen = {"status": self._status(), **refused}
        if seen["status"] != "Creating":
            return Outcome(Verdict.UNCLEAR, seen)
        return Outcome(holds(refused["code"] == "ModelNotReadyException"), seen)

    def delete_while_creating(self) -> Outcome:
        """Delete units that do not serve yet."""
        if self._status() != "Creating":
            return Outcome(Verdict.UNCLEAR, {"status": self._status()})
        refused = told(self._delete)
        return Outcome(holds(refused["code"] == "ConflictException"), refused)

    def await_service(self) -> None:
        """Wait until the units serve.

        Raises:
            TokenmillError: They failed.
        """
        self._aws.wait(f"units {self.name}", lambda: self._status() != "Creating", seconds=_CREATING_SECONDS)
        if self._status() != "InService":
            raise TokenmillError(f"units {self.name} are {self._status()}")

    def call(self) -> Any:
        """Call the units."""
        return self._call(self._aws.client("bedrock-runtime"))

    def invoke_rights(self) -> Outcome:
        """Call with rights on the units alone, and with rights on the model alone."""
        aws = self._aws
        model = f"arn:{aws.partition}:bedrock:{aws.region}::foundation-model/*"
        allowed = bedrock_asks.caller(aws, "unit-caller", bedrock_asks.invoke(self.arn))
        lacking = bedrock_asks.caller(aws, "unit-without", bedrock_asks.invoke(model))
        return bedrock_asks.rights(aws, lambda: self._call(allowed), without=lambda: self._call(lacking))

    def delete(self) -> None:
        """Delete the units and wait until they are gone."""
        self._delete()
        self._aws.wait(f"deleting {self.name}", lambda: not self._there(self.arn), seconds=_GONE_SECONDS)

    def token_after_delete(self) -> Outcome:
        """Send the first purchase once more."""
        before = self.arn
        refused = told(lambda: self._buy(self._client))
        bought = self._there(self.name)
        seen = {"first": before, "again": self.arn, "units_there": bought, **refused}
        if bought:
            self.await_service()
            self.delete()
        return Outcome(holds(not bought), seen)

    def name_freed(self) -> Outcome:
        """Buy again under the name, as another request."""
        refused = told(lambda: self._buy(self._client, token="freed"))
        if refused["code"] in ("", *_REFUSALS):
            return Outcome(holds(not refused["code"] and self._there(self.name)), refused)
        return Outcome(Verdict.UNCLEAR, refused)

    def _buy(self, client: Any, token: str = "first") -> None:
        # Without commitmentDuration, units are sold by the hour ("CreateProvisionedModelThroughput").
        self.arn = client.create_provisioned_model_throughput(
            provisionedModelName=self.name,
            modelId=self.model,
            modelUnits=1,
            clientRequestToken=f"{self.name}-{token}",
            tags=bedrock_asks.tags(self._aws),
        )["provisionedModelArn"]

    def _delete(self) -> None:
        self._client.delete_provisioned_model_throughput(provisionedModelId=self.arn)

    def _call(self, client: Any) -> Any:
        return client.invoke_model(modelId=self.arn, body=json.dumps({"inputText": "yes"}))

    def _status(self) -> str:
        return str(self._client.get_provisioned_model_throughput(provisionedModelId=self.arn)["status"])

    def _there(self, name_or_arn: str) -> bool:
        found = told(lambda: self._client.get_provisioned_model_throughput(provisionedModelId=name_or_arn))
        return not found["code"]

    def _tags(self) -> list[dict[str, str]]:
        found: list[dict[str, str]] = []
        told(lambda: found.extend(self._client.list_tags_for_resource(resourceARN=self.arn)["tags"]))
        return found

    def _listed(self) -> list[str]:
        pages = self._client.get_paginator("list_provisioned_model_throughputs").paginate(
            nameContains=self.name
        )
        return [found["provisionedModelArn"] for page in pages for found in page["provisionedModelSummaries"]]
