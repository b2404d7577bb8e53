"""Every action that the Bedrock constructs grant, and on what: a golden file that an auditor can read.

`make snapshot` rewrites it; a line more is a right more.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support_bedrock_callers import caller_app
from support_golden import compare
from tokenmill.security import actions

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "benchmarks" / "bedrock_app" / "app.py"
NAMED = {
    action
    for name, group in vars(actions).items()
    if name.isupper() and isinstance(group, tuple)
    for action in group
}
ADDED_BY_CDK = {"xray:PutTelemetryRecords", "xray:PutTraceSegments"}
# API Gateway's role of an account and region ("Set up CloudWatch API logging").
API_LOGS = "service-role/AmazonAPIGatewayPushToCloudWatchLogs"
# Actions that take no resource in a policy ("Actions, resources, and condition keys" of each service).
WITHOUT_RESOURCE = {
    "bedrock:DeleteModelInvocationLoggingConfiguration",
    "bedrock:GetModelInvocationLoggingConfiguration",
    "bedrock:ListCustomModelDeployments",
    "bedrock:ListModelInvocationJobs",
    "bedrock:ListProvisionedModelThroughputs",
    "bedrock:PutModelInvocationLoggingConfiguration",
    "cloudwatch:GetMetricData",
    "servicequotas:GetServiceQuota",
    "servicequotas:ListServiceQuotas",
    *actions.STATE_MACHINE_LOGS,
    *actions.STATE_MACHINE_TRACES,
    *ADDED_BY_CDK,
}


@pytest.fixture(scope="module")
def granted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Statements of the identity policies of one of everything, by stack and policy."""
    out = tmp_path_factory.mktemp("bedrock")
    environment = {
        **os.environ,
        "CDK_OUTDIR": str(out),
        "CDK_VALIDATION": "false",
        "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "18,20",
    }
    command = [sys.executable, str(APP), "everything"]
    done = subprocess.run(command, cwd=out, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return statements_in(out)


@pytest.fixture(scope="module")
def callers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Statements that a caller of each construct gets, and a gateway before all of them."""
    out = tmp_path_factory.mktemp("callers")
    caller_app(out).synth()
    return statements_in(out)


def statements_in(out: Path) -> dict[str, list[dict[str, Any]]]:
    """Statements of the identity policies of an assembly, by stack and policy."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(out.glob("*.template.json")):
        resources = json.loads(path.read_text(encoding="utf-8"))["Resources"]
        for logical_id, resource in sorted(resources.items()):
            properties = resource.get("Properties", {})
            where = f"{path.name.partition('.')[0]}/{logical_id}"
            if resource["Type"] == "AWS::IAM::Policy":
                found[where] = properties["PolicyDocument"]["Statement"]
            for policy in properties.get("Policies", []) if resource["Type"] == "AWS::IAM::Role" else []:
                found[f"{where}/{policy['PolicyName']}"] = policy["PolicyDocument"]["Statement"]
            managed = [str(arn) for arn in properties.get("ManagedPolicyArns", [])]
            assert all(API_LOGS in arn for arn in managed), f"{where} takes {managed}"
    return found


def test_every_action_and_resource_is_listed(granted: dict[str, list[dict[str, Any]]]) -> None:
    """The list is whole: one line for each action on each resource, with its condition."""
    compare("bedrock_grants.txt", listed(granted))


def test_what_callers_get_is_listed(callers: dict[str, list[dict[str, Any]]]) -> None:
    """Every `grant_*` method, and a gateway's function, by the name of who is granted."""
    called = {
        where: each for where, each in callers.items() if "/Calls" in where or "GatewayFunction" in where
    }
    compare("bedrock_callers.txt", listed(called))


def listed(granted: dict[str, list[dict[str, Any]]]) -> str:
    """One line for each action on each resource."""
    lines = []
    for where, statements in granted.items():
        lines.append(where)
        for statement in statements:
            condition = f" if {_text(statement['Condition'])}" if "Condition" in statement else ""
            denied = "never " if statement["Effect"] == "Deny" else ""
            lines += sorted(
                f"  {denied}{action} on {_text(resource)}{condition}"
                for action in _list(statement["Action"])
                for resource in _list(statement["Resource"])
            )
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("kind", ["granted", "callers"])
def test_no_action_is_granted_that_no_purpose_names(kind: str, request: pytest.FixtureRequest) -> None:
    """No wildcard over a service, and nothing besides `security/actions.py`."""
    granted: dict[str, list[dict[str, Any]]] = request.getfixturevalue(kind)
    every = {action for each in granted.values() for item in each for action in _list(item["Action"])}
    assert every - NAMED - ADDED_BY_CDK == set()
    assert {action for action in every if "*" in action} == set()


@pytest.mark.parametrize("kind", ["granted", "callers"])
def test_any_resource_is_granted_only_where_a_policy_takes_none(
    kind: str, request: pytest.FixtureRequest
) -> None:
    """`Resource: *` stands with actions that AWS gives no resource type."""
    granted: dict[str, list[dict[str, Any]]] = request.getfixturevalue(kind)
    loose = {
        (where, action)
        for where, each in granted.items()
        for item in each
        if "*" in _list(item["Resource"]) and "Condition" not in item
        for action in _list(item["Action"])
    }
    assert {entry for entry in loose if entry[1] not in WITHOUT_RESOURCE} == set()


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _text(value: Any) -> str:
    """A resource as a reader would write it: ${Name} for references."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and "Ref" in value:
        return f"${{{value['Ref'].removeprefix('AWS::')}}}"
    if isinstance(value, dict) and "Fn::GetAtt" in value:
        return f"${{{'.'.join(value['Fn::GetAtt'])}}}"
    if isinstance(value, dict) and "Fn::Join" in value:
        return "".join(_text(part) for part in value["Fn::Join"][1])
    return json.dumps(_plain(value), sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        known = any(key in value for key in ("Ref", "Fn::GetAtt", "Fn::Join"))
        return _text(value) if known else {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
