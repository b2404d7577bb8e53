"""Every permission that a stack hands out is one that the library names, or one that CDK adds."""

from __future__ import annotations

from typing import Any

import pytest

from support_stack import of_type
from tokenmill.security import actions

NAMED = {
    action
    for name, group in vars(actions).items()
    if name.isupper() and isinstance(group, tuple)
    for action in group
}
ADDED_BY_CDK = {"sqs:SendMessage", "xray:PutTelemetryRecords", "xray:PutTraceSegments"}


@pytest.mark.parametrize("kind", ["prod", "dev", "bedrock", "compliant"])
def test_no_other_action_appears(kind: str, request: pytest.FixtureRequest) -> None:
    """No wildcard over a service, and nothing that no purpose asks for."""
    template: dict[str, Any] = request.getfixturevalue(kind)
    found = set()
    for policy in of_type(template, "AWS::IAM::Policy").values():
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
            allowed = statement["Action"]
            found |= {allowed} if isinstance(allowed, str) else set(allowed)
    assert found - NAMED - ADDED_BY_CDK == set()
    assert {action for action in found if action.endswith(":*") or action == "*"} == set()


@pytest.mark.parametrize("kind", ["prod", "dev", "bedrock", "compliant"])
def test_aws_s_own_policies_stand_where_aws_documents_them_only(
    kind: str, request: pytest.FixtureRequest
) -> None:
    """API Gateway's account role and AWS Backup's role; no model has AmazonSageMakerFullAccess."""
    template: dict[str, Any] = request.getfixturevalue(kind)
    attached = {
        str(policy).rpartition("/")[2].rstrip("'}]")
        for role in of_type(template, "AWS::IAM::Role").values()
        for policy in role["Properties"].get("ManagedPolicyArns", [])
    }
    assert attached <= {
        "AmazonAPIGatewayPushToCloudWatchLogs",
        "AWSBackupServiceRolePolicyForBackup",
    }
