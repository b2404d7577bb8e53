"""Guardrails and their versions, and ApplyGuardrail.

Source: Amazon Bedrock API Reference, "CreateGuardrail", "CreateGuardrailVersion", "GetGuardrail",
"DeleteGuardrail" (a version alone, or all of it) and "ApplyGuardrail".
"""

from __future__ import annotations

import copy
import math
import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokenmill.local.aws_requests import AwsError, Params, Scope
from tokenmill.local.bedrock.guardrail_rules import Finding, Source, assess
from tokenmill.local.bedrock.paging import page

if TYPE_CHECKING:
    from datetime import datetime

    from tokenmill.local.aws_requests import Operation
    from tokenmill.local.bedrock.control import BedrockControl

DRAFT = "DRAFT"
# Quotas for Amazon Bedrock Guardrails: a text unit holds up to 1,000 characters.
TEXT_UNIT = 1000
# What a policy is called in a request, and its lists there and in GetGuardrail's answer.
POLICIES = {
    "topicPolicyConfig": ("topicPolicy", {"topicsConfig": "topics", "tierConfig": "tier"}),
    "contentPolicyConfig": ("contentPolicy", {"filtersConfig": "filters", "tierConfig": "tier"}),
    "wordPolicyConfig": (
        "wordPolicy",
        {"wordsConfig": "words", "managedWordListsConfig": "managedWordLists"},
    ),
    "sensitiveInformationPolicyConfig": (
        "sensitiveInformationPolicy",
        {"piiEntitiesConfig": "piiEntities", "regexesConfig": "regexes"},
    ),
    "contextualGroundingPolicyConfig": ("contextualGroundingPolicy", {"filtersConfig": "filters"}),
}
_UNITS = {
    "topicPolicyConfig": "topicPolicyUnits",
    "contentPolicyConfig": "contentPolicyUnits",
    "wordPolicyConfig": "wordPolicyUnits",
    "sensitiveInformationPolicyConfig": "sensitiveInformationPolicyUnits",
    "contextualGroundingPolicyConfig": "contextualGroundingPolicyUnits",
}
_NOT_KEPT = ("tags", "clientRequestToken", "guardrailIdentifier", "kmsKeyId")


@dataclass(slots=True, kw_only=True)
class Version:
    """A guardrail's working draft, or one of its versions.

    Args:
        number: "DRAFT", or the version's number.
        config: The members of `CreateGuardrail`.
        description: What the version is.
        created: When it was made.
        updated: When it changed last.
    """

    number: str
    config: Params
    description: str | None
    created: datetime
    updated: datetime


@dataclass(slots=True, kw_only=True)
class GuardrailRecord:
    """One guardrail.

    Args:
        id: Its id.
        arn: Its ARN.
        versions: Its draft and versions, by number.
        issued: How many versions were ever made: a deleted one's number is not given again.
    """

    id: str
    arn: str
    versions: dict[str, Version]
    issued: int = 0


class Guardrails:
    """The guardrails of every account and region.

    Args:
        control: The control plane.
    """

    def __init__(self, control: BedrockControl) -> None:
        self._control = control
        self._records: defaultdict[Scope, dict[str, GuardrailRecord]] = defaultdict(dict)

    def operations(self) -> dict[str, Operation]:
        """Return the control plane's operations by their names."""
        return {
            "CreateGuardrail": self._create,
            "UpdateGuardrail": self._update,
            "CreateGuardrailVersion": self._create_version,
            "GetGuardrail": self._get,
            "ListGuardrails": self._list,
            "DeleteGuardrail": self._delete,
        }

    def version(self, scope: Scope, identifier: str, number: str) -> tuple[GuardrailRecord, Version]:
        """Return a guardrail's draft or one of its versions.

        Args:
            scope: Whose.
            identifier: Its id or ARN.
            number: "DRAFT" or the version's number.

        Raises:
            AwsError: There is none.
        """
        record = self._record(scope, identifier)
        if number not in record.versions:
            raise AwsError(
                "ResourceNotFoundException",
                f"The guardrail {record.id} has no version {number}; it has {sorted(record.versions)}",
                status=404,
            )
        return record, record.versions[number]

    def apply(self, scope: Scope, params: Params) -> Params:
        """Run ApplyGuardrail.

        Args:
            scope: Whose guardrail.
            params: The request's validated members.

        Raises:
            AwsError: There is no such guardrail, or the content has no text.
        """
        record, version = self.version(scope, params["guardrailIdentifier"], params["guardrailVersion"])
        texts, grounding, query = _content(params["content"])
        source: Source = params["source"]
        found = [assess(version.config, text, source, grounding=grounding, query=query) for text in texts]
        intervened = any(one.intervenes for one in found)
        answer: Params = {
            "usage": usage(version.config, sum(map(len, texts))),
            "action": "GUARDRAIL_INTERVENED" if intervened else "NONE",
            "outputs": [{"text": text} for text in outputs(version.config, source, texts, found)],
            "assessments": [
                assessment(record, version, one, text) for one, text in zip(found, texts, strict=True)
            ],
            "guardrailCoverage": coverage(sum(map(len, texts))),
        }
        if params.get("outputScope") != "FULL":
            for one in answer["assessments"]:
                _drop_undetected(one)
        if intervened:
            answer["actionReason"] = (
                "Guardrail blocked." if any(one.blocked for one in found) else "Guardrail masked."
            )
        return answer

    def _record(self, scope: Scope, identifier: str) -> GuardrailRecord:
        found = self._records[scope].get(identifier.rsplit("/", 1)[-1])
        if found is None:
            raise AwsError(
                "ResourceNotFoundException", f"The guardrail {identifier} does not exist", status=404
            )
        return found

    def _create(self, scope: Scope, params: Params) -> Params:
        def make() -> str:
            _check(params)
            drafts = [record.versions[DRAFT] for record in self._records[scope].values()]
            if any(draft.config["name"] == params["name"] for draft in drafts):
                taken = f"Another guardrail in your account has the name {params['name']}"
                raise AwsError("ConflictException", taken)
            identity = self._control.new_id(scope)
            arn = scope.arn("bedrock", f"guardrail/{identity}")
            self._control.tags.add(scope, arn, params.get("tags"))
            versions = {DRAFT: self._version(DRAFT, params)}
            self._records[scope][identity] = GuardrailRecord(id=identity, arn=arn, versions=versions)
            return identity

        known = self._records[scope].__contains__
        identity = self._control.tokens.once(scope, "CreateGuardrail", params, make=make, exists=known)
        record = self._record(scope, identity)
        return {
            "guardrailId": identity,
            "guardrailArn": record.arn,
            "version": DRAFT,
            "createdAt": record.versions[DRAFT].created,
        }

    def _version(self, number: str, params: Params) -> Version:
        when = self._control.now()
        config = {name: value for name, value in params.items() if name not in _NOT_KEPT}
        return Version(
            number=number,
            config=copy.deepcopy(config),
            description=params.get("description"),
            created=when,
            updated=when,
        )

    def _update(self, scope: Scope, params: Params) -> Params:
        record = self._record(scope, params["guardrailIdentifier"])
        _check(params)
        created = record.versions[DRAFT].created
        draft = self._version(DRAFT, params)
        draft.created, record.versions[DRAFT] = created, draft
        return {
            "guardrailId": record.id,
            "guardrailArn": record.arn,
            "version": DRAFT,
            "updatedAt": draft.updated,
        }

    def _create_version(self, scope: Scope, params: Params) -> Params:
        record = self._record(scope, params["guardrailIdentifier"])

        def make() -> str:
            record.issued += 1
            number = str(record.issued)
            version = self._version(number, record.versions[DRAFT].config)
            version.description = params.get("description")
            record.versions[number] = version
            return number

        known = record.versions.__contains__
        number = self._control.tokens.once(scope, "CreateGuardrailVersion", params, make=make, exists=known)
        return {"guardrailId": record.id, "version": number}

    def _get(self, scope: Scope, params: Params) -> Params:
        record, version = self.version(
            scope, params["guardrailIdentifier"], params.get("guardrailVersion", DRAFT)
        )
        answer = _described(record, version)
        for name, (told, members) in POLICIES.items():
            policy = version.config.get(name)
            if policy:
                answer[told] = {members[key]: value for key, value in policy.items() if key in members}
        for name in ("blockedInputMessaging", "blockedOutputsMessaging"):
            answer[name] = version.config[name]
        return {"guardrailId": record.id, "guardrailArn": record.arn, **answer}

    def _list(self, scope: Scope, params: Params) -> Params:
        if "guardrailIdentifier" in params:
            records = [self._record(scope, params["guardrailIdentifier"])]
            versions = [(record, version) for record in records for version in record.versions.values()]
        else:
            versions = [(record, record.versions[DRAFT]) for record in self._records[scope].values()]
        entries = [
            {"id": record.id, "arn": record.arn, **_described(record, version)}
            for record, version in versions
        ]
        some, token = page(entries, params)
        return {"guardrails": some, "nextToken": token}

    def _delete(self, scope: Scope, params: Params) -> Params:
        record = self._record(scope, params["guardrailIdentifier"])
        number = params.get("guardrailVersion")
        if number is None:
            del self._records[scope][record.id]
            self._control.tags.drop(scope, record.arn)
        else:
            self.version(scope, record.id, number)
            del record.versions[number]
        return {}


def _check(params: Params) -> None:
    if not any(params.get(name) for name in (*POLICIES, "automatedReasoningPolicyConfig")):
        raise AwsError("ValidationException", "At least one policy must be configured for the guardrail")
    if params.get("automatedReasoningPolicyConfig"):
        raise AwsError(
            "ValidationException",
            "automated reasoning policies are not modelled by the local cloud; leave them out",
        )
    for rule in (params.get("sensitiveInformationPolicyConfig") or {}).get("regexesConfig") or []:
        try:
            re.compile(rule["pattern"])
        except re.error as error:
            told = f"The regex pattern of {rule['name']} is invalid: {error}"
            raise AwsError("ValidationException", told) from error


def _described(record: GuardrailRecord, version: Version) -> Params:
    described: Params = {
        "name": version.config["name"],
        "version": version.number,
        "status": "READY",
        "createdAt": version.created,
        "updatedAt": version.updated,
    }
    return described if version.description is None else {**described, "description": version.description}


def _content(blocks: list[Params]) -> tuple[list[str], str, str]:
    """Return the texts to guard, the grounding source and the query."""
    texts: list[str] = []
    marked: dict[str, str] = {"grounding_source": "", "query": ""}
    for block in blocks:
        text = block.get("text")
        if text is None:
            raise AwsError("ValidationException", "images are not guarded by the local cloud; send text")
        qualifiers = text.get("qualifiers") or ["guard_content"]
        for qualifier in qualifiers:
            if qualifier in marked:
                marked[qualifier] += text["text"]
        if "guard_content" in qualifiers:
            texts.append(text["text"])
    return texts, marked["grounding_source"], marked["query"]


def outputs(config: Params, source: Source, texts: list[str], found: list[Finding]) -> list[str]:
    """Return what stands in place of texts that a guardrail does not let pass as they are.

    Args:
        config: The guardrail.
        source: Whether the texts go to the model or come from it.
        texts: The texts.
        found: What was found in each.
    """
    if any(one.blocked for one in found):
        return [config["blockedInputMessaging" if source == "INPUT" else "blockedOutputsMessaging"]]
    if any(one.masks for one in found):
        return [one.masked(text) for one, text in zip(found, texts, strict=True)]
    return []


def usage(config: Params, characters: int) -> Params:
    """Return how many text units each policy used.

    Args:
        config: The guardrail.
        characters: Characters that it looked at.
    """
    units = math.ceil(characters / TEXT_UNIT)
    counted: dict[str, int] = {
        member: units if config.get(policy) else 0 for policy, member in _UNITS.items()
    }
    # Regular expressions are free; personal data is not.
    free = not (config.get("sensitiveInformationPolicyConfig") or {}).get("piiEntitiesConfig")
    sensitive = counted["sensitiveInformationPolicyUnits"]
    counted["sensitiveInformationPolicyFreeUnits"] = sensitive if free else 0
    counted["sensitiveInformationPolicyUnits"] = 0 if free else sensitive
    return dict(counted)


def coverage(characters: int) -> Params:
    """Return how much of the text was guarded, which is all of it.

    Args:
        characters: Characters that the guardrail looked at.
    """
    return {"textCharacters": {"guarded": characters, "total": characters}}


def assessment(record: GuardrailRecord, version: Version, finding: Finding, text: str) -> dict[str, Any]:
    """Return the assessment of one text.

    Args:
        record: The guardrail.
        version: Its version.
        finding: What was found.
        text: The text.
    """
    return {
        **finding.assessment,
        "invocationMetrics": {
            "guardrailProcessingLatency": 0,
            "usage": usage(version.config, len(text)),
            "guardrailCoverage": coverage(len(text)),
        },
        "appliedGuardrailDetails": {
            "guardrailId": record.id,
            "guardrailVersion": version.number,
            "guardrailArn": record.arn,
        },
    }


def _drop_undetected(one: dict[str, Any]) -> None:
    """Leave out scores that did not intervene, as outputScope INTERVENTIONS does."""
    grounding = one.get("contextualGroundingPolicy")
    if grounding is not None:
        grounding["filters"] = [entry for entry in grounding["filters"] if entry["detected"]]
        if not grounding["filters"]:
            del one["contextualGroundingPolicy"]
