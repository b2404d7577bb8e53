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
    for rule in rules:
        _acknowledge_one(construct, rule, reason)


def _acknowledge_one(construct: IConstruct, rule: str, reason: str) -> None:
    bare = rule.removeprefix(_CFN_LINT_PREFIX)
    if _CHECKOV.fullmatch(rule):
        _skip_checkov(_resource(construct, rule), rule, reason)
    elif _CFN_LINT.fullmatch(bare):
        _ignore_cfn_lint(_resource(construct, rule), bare, reason)
        if bare == rule:
            _acknowledge_in_cdk(construct, f"{_VALIDATE_PREFIX}{bare}", reason)
    elif _FATAL.fullmatch(rule):
        _acknowledge_in_cdk(construct, f"{_VALIDATE_PREFIX}{rule}", reason)
    else:
        _acknowledge_in_cdk(construct, rule, reason)


def _acknowledge_in_cdk(construct: IConstruct, rule: str, reason: str) -> None:
    cdk.Validations.of(construct).acknowledge(cdk.Acknowledgment(id=rule, reason=reason))


def _resource(construct: IConstruct, rule: str) -> cdk.CfnResource:
    candidate = construct if cdk.CfnResource.is_cfn_resource(construct) else construct.node.default_child
    if candidate is None or not cdk.CfnResource.is_cfn_resource(candidate):
        raise TokenmillError(
            f"{rule} is acknowledged on one resource, and {construct.node.path or 'the app'} is none and has "
            "no default child; pass the Cfn resource that the finding names"
        )
    assert isinstance(candidate, cdk.CfnResource)
    return candidate


def _skip_checkov(resource: cdk.CfnResource, rule: str, reason: str) -> None:
    section: dict[str, Any] = resource.get_metadata("checkov") or {}
    kept = [entry for entry in section.get("skip", []) if entry["id"] != rule]
    resource.add_metadata("checkov", {**section, "skip": [*kept, {"id": rule, "comment": reason}]})


def _ignore_cfn_lint(resource: cdk.CfnResource, rule: str, reason: str) -> None:
    section: dict[str, Any] = resource.get_metadata("cfn-lint") or {}
    ignored = {*section.get("config", {}).get("ignore_checks", []), rule}
    resource.add_metadata(
        "cfn-lint",
        {
            "config": {**section.get("config", {}), "ignore_checks": sorted(ignored)},
            # cfn-lint has no field for the reason and passes over keys that it does not know.
            "reasons": {**section.get("reasons", {}), rule: reason},
        },
    )
