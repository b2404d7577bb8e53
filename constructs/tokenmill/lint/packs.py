"""Rule packs as CDK validation plug-ins, and a record of which of them really ran."""

from __future__ import annotations

import json
import os
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import jsii

from tokenmill.core.errors import TokenmillError
from tokenmill.lint.assembly import VALIDATION_REPORT, template_digests
from tokenmill.lint.pack_names import PACKS, RECORD_FILE, RECORD_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from constructs import IConstruct


def register_packs(app: cdk.App, *, packs: Sequence[str], cloudformation_validation: bool = True) -> None:
    """Check every template of the app at synth, and record in the assembly which checks really ran.

    The record (`tokenmill-lint.json`) is what lets `tokenmill lint` tell *clean* from *never checked*: a pack
    without findings leaves no trace in CDK's own validation-report.json. With the environment variable
    `CDK_VALIDATION=false` (CDK's switch, set by `cdk synth --no-validation`) nothing runs or is recorded.

    Args:
        app: The app; call this once, before `app.synth()`.
        packs: Any of AwsSolutions, NIST80053R5, HIPAASecurity, PCIDSS321, Serverless; none for CloudFormation
            validation alone.
        cloudformation_validation: Whether to register CDK's CloudFormation validator by name, in place of its
            implicit one, whose run cannot be told from outside; False for an app that registers its own.

    Raises:
        TokenmillError: A pack has no such name, or cdk-nag is not installed.
    """
    _refuse_unknown(packs)
    outdir = Path(app.outdir)
    for stale in (RECORD_FILE, VALIDATION_REPORT):
        (outdir / stale).unlink(missing_ok=True)
    if os.environ.get("CDK_VALIDATION") == "false":
        return
    versions = {"aws-cdk-lib": metadata.version("aws-cdk-lib")}
    plugins: list[Any] = [_pack(app, name, versions) for name in dict.fromkeys(packs)]
    if cloudformation_validation:
        validator = cdk.CloudFormationValidatePlugin()
        versions["cloudformation-validate"] = validator.version or "unknown"
        plugins.append(validator)
    recorder = _Recorder(
        packs=tuple(dict.fromkeys(packs)),
        cloudformation_validation=cloudformation_validation,
        versions=versions,
    )
    # The recorder is last: once it is called, every plug-in before it has been called.
    cdk.Validations.of(app).add_plugins(*plugins, recorder)


def _refuse_unknown(packs: Sequence[str]) -> None:
    unknown = [name for name in packs if name not in PACKS]
    if unknown:
        names = ", ".join(repr(name) for name in unknown)
        raise TokenmillError(f"no rule pack is called {names}; allowed are {', '.join(PACKS)}")


def _pack(app: cdk.App, name: str, versions: dict[str, str]) -> Any:
    try:
        import cdk_nag
    except ModuleNotFoundError as error:
        raise TokenmillError(
            f"rule pack {name} needs cdk-nag, which is not installed; run: pip install 'tokenmill[lint]'"
        ) from error
    versions["cdk-nag"] = metadata.version("cdk-nag")
    return getattr(cdk_nag, PACKS[name].class_name)(app, verbose=True)


@jsii.implements(cdk.IPolicyValidationPlugin)
class _Recorder:
    """A validation plug-in without rules, called last: it writes down what ran, on which templates."""

    def __init__(
        self, *, packs: tuple[str, ...], cloudformation_validation: bool, versions: Mapping[str, str]
    ) -> None:
        self._packs = packs
        self._cloudformation_validation = cloudformation_validation
        self._versions = dict(versions)

    @property
    def name(self) -> str:
        return "tokenmill-lint"

    @property
    def version(self) -> str:
        return str(RECORD_SCHEMA)

    @property
    def rule_ids(self) -> list[str]:
        return []

    def validate(self, context: cdk.IPolicyValidationContext) -> cdk.PolicyValidationPluginReport:
        app = context.app_construct
        assert isinstance(app, cdk.App)
        outdir = Path(app.outdir)
        record = {
            "schema": RECORD_SCHEMA,
            "packs": list(self._packs),
            "cloudformation_validation": self._cloudformation_validation,
            "versions": self._versions,
            "templates": template_digests(outdir),
            "acknowledged": _acknowledged_above_stacks(app),
        }
        (outdir / RECORD_FILE).write_text(
            json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8"
        )
        return cdk.PolicyValidationPluginReport(success=True, violations=[])


def _acknowledged_above_stacks(root: IConstruct) -> list[dict[str, str]]:
    """Return what was acknowledged on the app and its stages, which no stack's metadata file holds."""
    found: list[dict[str, str]] = []
    pending: list[IConstruct] = [root]
    while pending:
        construct = pending.pop()
        for entry in construct.node.metadata:
            if entry.type == cdk.Validations.ACKNOWLEDGED_RULES_METADATA_KEY:
                path = construct.node.path
                found += [{"path": path, "id": rule, "reason": reason} for rule, reason in entry.data.items()]
        pending += [child for child in construct.node.children if cdk.Stage.is_stage(child)]
    return found
