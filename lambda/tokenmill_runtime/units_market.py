"""Model units at Amazon Bedrock: found, bought, changed and given up, with every answer put into words.

Reads may be behind ("eventual consistency" is what the API leaves open), so nothing is believed to be there
before a write on it succeeded, and nothing to be gone because one read did not show it. Source: Amazon
Bedrock API Reference, "CreateProvisionedModelThroughput" and its kin.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from tokenmill_runtime import aws
from tokenmill_runtime.custom_resource import Refused
from tokenmill_runtime.units_plan import COMMITMENTS, Units, key_of, quota_name, slot_name
from tokenmill_runtime.waited_resource import error_code, error_message, is_denied, is_passing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from tokenmill_runtime.units_plan import Wanted

Result = TypeVar("Result")

# A caller that comes back costs no Lambda time in between, so few and short.
PAUSES: Final = (0.05, 0.15)
PAGE: Final = 100

_MISSING: Final = "ResourceNotFoundException"
_CONFLICT: Final = "ConflictException"
_QUOTA: Final = "ServiceQuotaExceededException"
_TAKEN: Final = (
    "already in use",
    "already exist",
    "already used",
    "name is taken",
    "not unique",
    "duplicate",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenUp:
    """What became of units that were given up: gone, still busy, or kept by the service in its own words."""

    outcome: Literal["gone", "missing", "busy", "kept"]
    words: str = ""


class Market:
    """Bedrock's provisioned models of the account and region.

    Args:
        client: Makes the client of Bedrock's control plane.
        sleep: Waits for seconds.
    """

    def __init__(
        self,
        client: Callable[[], Any] = aws.bedrock_once,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._sleep = sleep

    def named(self, name_or_arn: str) -> Units | None:
        """The units of a name or ARN; None where no read shows them."""
        try:
            shown = self._call("get_provisioned_model_throughput", provisionedModelId=name_or_arn)
        except Exception as error:
            if error_code(error) != _MISSING:
                raise
            return None
        tags = self._tags(shown["provisionedModelArn"])
        return None if tags is None else _units(shown, tags)

    def held(self, owner: str, generations: Iterable[str], prefixes: Iterable[str]) -> list[Units]:
        """All units with this owner in their names; some generations are asked for by name, too."""
        found: dict[str, Units] = {}
        beginnings = tuple(prefixes)
        for generation in dict.fromkeys(generations):
            for prefix in beginnings:
                units = self.named(slot_name(prefix, key_of(owner, generation)))
                if units is not None:
                    found[units.arn] = units
        for shown in self._listed(nameContains=owner):
            if shown["provisionedModelArn"] not in found:
                units = self.named(shown["provisionedModelArn"])
                if units is not None:
                    found[units.arn] = replace(units, name=shown["provisionedModelName"])
        return list(found.values())

    def all(self) -> Iterator[Units]:
        """All units of the account and region."""
        for shown in self._listed():
            tags = self._tags(shown["provisionedModelArn"])
            if tags is not None:
                yield _units(shown, tags)

    def alike(self, wanted: Wanted) -> Iterator[Units]:
        """Units of the account that serve the same model with as many units."""
        for shown in self._listed():
            same = shown["modelUnits"] == wanted.units and _same_model(shown["modelArn"], wanted.model)
            tags = self._tags(shown["provisionedModelArn"]) if same else None
            if tags is not None:
                yield _units(shown, tags)

    def buy(
        self, wanted: Wanted, name: str, tags: Mapping[str, str], token: str, *, units: int, commitment: str
    ) -> bool:
        """Buy units under a name, once for a token; whether the service says that it did.

        False is a name that is taken, by ourselves or by somebody that no read shows yet. Raises Refused for
        a purchase that the service refuses.
        """
        asked: dict[str, Any] = {
            "clientRequestToken": token,
            "modelUnits": units,
            "provisionedModelName": name,
            "modelId": wanted.model,
            "tags": [{"key": key, "value": value} for key, value in sorted(tags.items())],
        }
        if COMMITMENTS[commitment]:
            asked["commitmentDuration"] = COMMITMENTS[commitment]
        try:
            self._call("create_provisioned_model_throughput", **asked)
        except Exception as error:
            if is_passing(error) or is_denied(error):
                raise
            if _is_taken(error):
                return False
            raise _refused_purchase(error, wanted, units, commitment) from error
        return True

    def give_up(self, name_or_arn: str) -> GivenUp:
        """Delete units; the answer says what became of them."""
        try:
            self._call("delete_provisioned_model_throughput", provisionedModelId=name_or_arn)
        except Exception as error:
            code = error_code(error)
            if code == _MISSING:
                return GivenUp(outcome="missing")
            if code == _CONFLICT:
                return GivenUp(outcome="busy", words=error_message(error))
            if code == "ValidationException":
                return GivenUp(outcome="kept", words=error_message(error))
            raise
        return GivenUp(outcome="gone")

    def give_up_unseen(self, name: str) -> GivenUp:
        """Delete units that no look shows, by their name.

        A role that may only delete units with our tags is refused where there are none.
        """
        try:
            return self.give_up(name)
        except Exception as error:
            if not is_denied(error):
                raise
            return GivenUp(outcome="missing")

    def rename(self, arn: str, name: str) -> bool:
        """Give units another name; False where they are busy or the name is taken."""
        try:
            self._call(
                "update_provisioned_model_throughput",
                provisionedModelId=arn,
                desiredProvisionedModelName=name,
            )
        except Exception as error:
            if error_code(error) not in (_MISSING, _CONFLICT, "ValidationException"):
                raise
            return False
        return True

    def tag(self, units: Units, tags: Mapping[str, str], *, without: Iterable[str] = ()) -> bool:
        """Set tags and take others away; False where the units are gone, whatever reads show.

        What is already there is written again, and what no look shows is taken away: a write is the proof
        that the units exist, and a look may be behind.
        """
        given = [{"key": key, "value": value} for key, value in sorted(tags.items())]
        gone = sorted(set(without) - tags.keys())
        try:
            self._call("tag_resource", resourceARN=units.arn, tags=given)
            if gone:
                self._call("untag_resource", resourceARN=units.arn, tagKeys=gone)
        except Exception as error:
            if error_code(error) != _MISSING:
                raise
            return False
        return True

    def _tags(self, arn: str) -> dict[str, str] | None:
        try:
            answer = self._call("list_tags_for_resource", resourceARN=arn)
        except Exception as error:
            if error_code(error) != _MISSING:
                raise
            return None
        return {tag["key"]: tag["value"] for tag in answer.get("tags", ())}

    def _listed(self, **asked: Any) -> Iterator[dict[str, Any]]:
        token: dict[str, str] = {}
        while True:
            answer = self._call("list_provisioned_model_throughputs", maxResults=PAGE, **asked, **token)
            yield from answer.get("provisionedModelSummaries", ())
            if not answer.get("nextToken"):
                return
            token = {"nextToken": answer["nextToken"]}

    def _call(self, operation: str, **asked: Any) -> dict[str, Any]:
        call = getattr(self._client(), operation)
        for pause in PAUSES:
            try:
                answer: dict[str, Any] = call(**asked)
                return answer
            except Exception as error:
                if not is_passing(error):
                    raise
            self._sleep(pause)
        last: dict[str, Any] = call(**asked)
        return last


def _units(shown: Mapping[str, Any], tags: Mapping[str, str]) -> Units:
    return Units(
        arn=shown["provisionedModelArn"],
        name=shown["provisionedModelName"],
        model_arn=shown["modelArn"],
        units=shown["modelUnits"],
        status=shown["status"],
        tags=tags,
        commitment=shown.get("commitmentDuration", ""),
        expires=shown.get("commitmentExpirationTime"),
        failure=shown.get("failureMessage", ""),
    )


def _same_model(arn: str, model: str) -> bool:
    return arn == model or arn.rpartition("/")[2] == model.rpartition("/")[2]


def _is_taken(error: Exception) -> bool:
    message = error_message(error).lower()
    named = error_code(error) in (_CONFLICT, "ValidationException") and any(
        part in message for part in _TAKEN
    )
    return named or error_code(error) == _CONFLICT


def _refused_purchase(error: Exception, wanted: Wanted, units: int, commitment: str) -> Refused:
    message = error_message(error)
    if error_code(error) == _QUOTA:
        return Refused(
            f"{quota_words(wanted.model, units, commitment)}; Bedrock says: {message}", code="quota"
        )
    if error_code(error) in (_MISSING, "ValidationException"):
        return Refused(
            f"Bedrock sells no {units} units of {wanted.model} here without being told otherwise: {message}; "
            'see "Supported Region and models for Provisioned Throughput" (Amazon Bedrock User Guide)',
            code="model",
        )
    return Refused(f"Bedrock does not sell {units} units of {wanted.model}: {message}", code="purchase")


def quota_words(model: str, units: int, commitment: str) -> str:
    """Which quota stands in the way of a purchase, and how to have it raised.

    Names: Service Quotas of Amazon Bedrock ("Quotas for Amazon Bedrock", Amazon Bedrock User Guide).
    """
    if commitment == "NONE":
        quota = quota_name(custom=":custom-model/" in model)
        also = f'"Model units per provisioned model for" {model.rpartition("/")[2]}'
        return (
            f"the account may not own {units} more units of {model} without commitment: every account begins "
            f'with 0; request "{quota}" and {also} in Service Quotas (Amazon Bedrock), or open a case at AWS '
            "Support, then deploy again; nothing was bought"
        )
    return (
        f"the account may not own {units} more units of {model} with a commitment: every account begins with "
        "0; "
        'request model units at AWS Support ("Limit increase", Amazon Bedrock, Provisioned Throughput model '
        "units), then try again; nothing was bought"
    )
