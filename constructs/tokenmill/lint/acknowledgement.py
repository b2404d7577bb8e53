"""One way to answer for a finding, whichever check reports it: an id, a reason, the narrowest construct."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk

from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from constructs import IConstruct

_CHECKOV = re.compile(r"CKV2?_[A-Z0-9]+_\d+")
_CFN_LINT = re.compile(r"[EWI]\d{4}")
_FATAL = re.compile(r"F\d{4}")
_CFN_LINT_PREFIX = "cfn-lint::"
_VALIDATE_PREFIX = "CloudFormation-Validate::"


def acknowledge(construct: IConstruct, *rules: str, reason: str) -> None:
    """Acknowledge findings on one construct, with the reason that an auditor will read.

    checkov ids (`CKV_AWS_116`) and cfn-lint ids (`W3005`) go into the resource's template metadata, the only
    place that those tools read; everything else goes to CDK's `Validations`. An unprefixed `E…`/`W…` id names
    the same rule in cfn-lint and in CloudFormation validation and is acknowledged in both; `cfn-lint::` or
    `CloudFormation-Validate::` before it narrows that to one.

    Args:
        construct: The resource, or a construct whose default child is one; for cdk-nag rules any construct.
        rules: Rule ids such as `AwsSolutions-IAM5[Resource::*]`, `CKV_AWS_116`, `W3005`,
            `CloudFormation-Validate::F3031`.
        reason: One full sentence.

    Raises:
        TokenmillError: No rule or no reason was given, or a template-level rule was put on something that is
            not a single resource.
    """
    if not rules:
        raise TokenmillError(f"acknowledge on {construct.node.path} names no rule; give at least one rule id")
    if len(reason.split()) < 3:
        raise TokenmillError(
            f"acknowledging {', '.join(rules)} on {construct.node.path} needs a reason of one full sentence, "
            f"got {reason!r}"
        )
    checkov = [rule for rule in rules if _CHECKOV.fullmatch(rule)]
    cfn_lint = [rule for rule in rules if _CFN_LINT.fullmatch(rule.removeprefix(_CFN_LINT_PREFIX))]
    # every call into the CDK crosses to another process, so each place is told once
    if checkov or cfn_lint:
        resource = _resource(construct, (*checkov, *cfn_lint))
        if checkov:
            _skip_checkov(resource, checkov, reason)
        if cfn_lint:
            _ignore_cfn_lint(resource, [rule.removeprefix(_CFN_LINT_PREFIX) for rule in cfn_lint], reason)
    answers = [
        cdk.Acknowledgment(id=_cdk_id(rule), reason=reason)
        for rule in rules
        if rule not in checkov and not rule.startswith(_CFN_LINT_PREFIX)
    ]
    if answers:
        cdk.Validations.of(construct).acknowledge(*answers)


def _cdk_id(rule: str) -> str:
    validated = _CFN_LINT.fullmatch(rule) or _FATAL.fullmatch(rule)
    return f"{_VALIDATE_PREFIX}{rule}" if validated else rule


def _resource(construct: IConstruct, rules: tuple[str, ...]) -> cdk.CfnResource:
    candidate = construct if isinstance(construct, cdk.CfnResource) else construct.node.default_child
    if not isinstance(candidate, cdk.CfnResource):
        raise TokenmillError(
            f"{', '.join(rules)} is acknowledged on one resource, and {construct.node.path or 'the app'} "
            "is none and has no default child; pass the Cfn resource that the finding names"
        )
    return candidate


def _skip_checkov(resource: cdk.CfnResource, rules: list[str], reason: str) -> None:
    section: dict[str, Any] = resource.get_metadata("checkov") or {}
    kept = [entry for entry in section.get("skip", []) if entry["id"] not in rules]
    skipped = [*kept, *({"id": rule, "comment": reason} for rule in rules)]
    resource.add_metadata("checkov", {**section, "skip": skipped})


def _ignore_cfn_lint(resource: cdk.CfnResource, rules: list[str], reason: str) -> None:
    section: dict[str, Any] = resource.get_metadata("cfn-lint") or {}
    ignored = {*section.get("config", {}).get("ignore_checks", []), *rules}
    resource.add_metadata(
        "cfn-lint",
        {
            "config": {**section.get("config", {}), "ignore_checks": sorted(ignored)},
            # cfn-lint has no field for the reason and passes over keys that it does not know.
            "reasons": {**section.get("reasons", {}), **dict.fromkeys(rules, reason)},
        },
    )
