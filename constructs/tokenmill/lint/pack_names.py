"""The rule packs by the names an app uses, and the names cdk-nag gives them in its report."""

from __future__ import annotations

from dataclasses import dataclass

RECORD_FILE = "tokenmill-lint.json"
RECORD_SCHEMA = 1
CLOUDFORMATION_PLUGIN = "CloudFormation Validate"
ANNOTATIONS_PLUGIN = "Construct Annotations"


@dataclass(frozen=True, slots=True)
class Pack:
    """One cdk-nag rule pack.

    Args:
        name: What an app writes in its settings.
        report_name: The plug-in name in validation-report.json, which also starts every rule id.
        class_name: The class in the `cdk_nag` module.
    """

    name: str
    report_name: str
    class_name: str


PACKS: dict[str, Pack] = {
    pack.name: pack
    for pack in (
        Pack("AwsSolutions", "AwsSolutions", "AwsSolutionsChecks"),
        Pack("NIST80053R5", "NIST.800.53.R5", "NIST80053R5Checks"),
        Pack("HIPAASecurity", "HIPAA.Security", "HIPAASecurityChecks"),
        Pack("PCIDSS321", "PCI.DSS.321", "PCIDSS321Checks"),
        Pack("Serverless", "Serverless", "ServerlessChecks"),
    )
}


def pack_of_rule(rule: str) -> str | None:
    """Return the name of the pack that owns a rule id, or None.

    Args:
        rule: A rule id such as `AwsSolutions-S1` or `NIST.800.53.R5-DynamoDBInBackupPlan`.
    """
    for pack in PACKS.values():
        if rule.startswith(f"{pack.report_name}-"):
            return pack.name
    return None
