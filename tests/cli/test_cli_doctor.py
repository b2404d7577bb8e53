"""`tokenmill doctor`: what it calls done, to do and unknown, with and without an account."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support_fake_aws import ACCOUNT, AwsError, FakeAws
from tokenmill.core.errors import TokenmillError
from tokenmill.core.instances import instance_catalog
from tokenmill.core.settings import load_settings
from tokenmill.doctor import State, machine, quotas
from tokenmill.doctor.diagnose import instances_at_most
from tokenmill.planner import plan_for

if TYPE_CHECKING:
    from pathlib import Path

    from support_commands import Run
    from tokenmill.core.plan import Plan


@pytest.fixture
def planned(project: Path) -> Plan:
    """The project with its plan."""
    settings = load_settings(project / "tokenmill.toml")["chat"]
    plan = plan_for(settings)
    plan.write(settings.plan_path)
    return plan


def items(run: Run, *arguments: str) -> dict[str, dict[str, Any]]:
    document = json.loads(run("doctor", "--json", *arguments).stdout)
    return {item["name"].partition(" for ")[0]: item for item in document["items"]}


def quota_of(instance: str, value: float) -> dict[str, Any]:
    code = quotas.endpoint_quota_code(instance)
    return {"QuotaCode": code, "QuotaName": quotas.quota_name(instance), "Value": value}


def answer_all(fake: FakeAws, plan: Plan) -> None:
    """An account in which nothing is to do."""
    fake.answers["ssm", "GetParameter"] = lambda _: {"Parameter": {"Value": "28"}}
    enough = quota_of(plan.chosen.instance_type, 100.0)
    fake.answers["service-quotas", "GetServiceQuota"] = lambda _: {"Quota": enough}
    outputs = [{"OutputKey": "ApiKeyTable", "OutputValue": "keys"}]
    fake.answers["cloudformation", "DescribeStacks"] = lambda _: {
        "Stacks": [{"StackName": "tokenmill-chat", "StackStatus": "CREATE_COMPLETE", "Outputs": outputs}]
    }
    fake.answers["dynamodb", "Scan"] = lambda _: {"Items": [{"revoked": {"BOOL": False}}], "Count": 1}


@pytest.fixture
def ready_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    ok = machine.Item(name="machine", state=State.OK, detail="")
    for look in ("node", "cdk_command", "linters"):
        monkeypatch.setattr(machine, look, lambda *_: ok)


@pytest.mark.usefixtures("ready_machine")
def test_nothing_to_do_exits_0(run: Run, fake_aws: FakeAws, planned: Plan) -> None:
    answer_all(fake_aws, planned)
    result = run("doctor")
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "nothing is to do before the deploy"), (
        result.stdout
    )


@pytest.mark.usefixtures("project", "ready_machine")
def test_without_credentials_the_account_is_unknown_and_each_item_has_its_command(
    run: Run, planned: Plan
) -> None:
    found = items(run)
    assert found["credentials"]["state"] == "to do"
    assert found["bootstrap"]["state"] == "unknown"
    assert found["bootstrap"]["command"] == "npx cdk bootstrap aws://ACCOUNT/us-east-1"
    chosen = planned.chosen
    assert found["quota"]["command"] == (
        "aws service-quotas request-service-quota-increase --service-code sagemaker --quota-code "
        f"{quotas.endpoint_quota_code(chosen.instance_type)} --desired-value {instances_at_most(chosen)} "
        "--region us-east-1"
    )
    assert run("doctor").exit_code == 1


@pytest.mark.usefixtures("planned")
def test_without_a_network_nothing_is_a_traceback(
    run: Run, fake_aws: FakeAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    found = items(run)
    assert found["credentials"]["state"] == "unknown"
    assert "127.0.0.1:9" in found["credentials"]["detail"]
    assert fake_aws.calls == []


def test_a_region_without_bootstrap_names_account_and_region(
    run: Run, fake_aws: FakeAws, planned: Plan
) -> None:
    answer_all(fake_aws, planned)

    def missing(_: dict[str, Any]) -> dict[str, Any]:
        raise AwsError("ParameterNotFound")

    fake_aws.answers["ssm", "GetParameter"] = missing
    found = items(run)["bootstrap"]
    assert (found["state"], found["command"]) == ("to do", f"npx cdk bootstrap aws://{ACCOUNT}/us-east-1")


def test_an_old_bootstrap_is_to_do(run: Run, fake_aws: FakeAws, planned: Plan) -> None:
    answer_all(fake_aws, planned)
    fake_aws.answers["ssm", "GetParameter"] = lambda _: {"Parameter": {"Value": "5"}}
    assert items(run)["bootstrap"]["detail"] == "version 5 is too old, 6 is needed"


def test_a_look_up_that_is_not_allowed_is_unknown(run: Run, fake_aws: FakeAws, planned: Plan) -> None:
    answer_all(fake_aws, planned)

    def denied(_: dict[str, Any]) -> dict[str, Any]:
        raise AwsError("AccessDeniedException", "not you", 403)

    for call in (("ssm", "GetParameter"), ("service-quotas", "GetServiceQuota")):
        fake_aws.answers[call] = denied
    found = items(run)
    assert (found["bootstrap"]["state"], found["quota"]["state"]) == ("unknown", "unknown")
    assert "not you" in found["quota"]["detail"]


def test_a_small_quota_says_how_much_there_is_and_what_was_asked_for(
    run: Run, fake_aws: FakeAws, planned: Plan
) -> None:
    answer_all(fake_aws, planned)
    small = quota_of(planned.chosen.instance_type, 0.0)
    fake_aws.answers["service-quotas", "GetServiceQuota"] = lambda _: {"Quota": small}
    requested: list[dict[str, Any]] = []
    fake_aws.answers["service-quotas", "ListRequestedServiceQuotaChangeHistoryByQuota"] = lambda _: {
        "RequestedQuotas": requested
    }
    found = items(run)["quota"]
    assert (found["state"], found["detail"]) == ("to do", f"0 now ({small['QuotaCode']})")
    assert "request-service-quota-increase" in found["command"]
    requested.append({"Status": "PENDING", "DesiredValue": 100.0})
    found = items(run)["quota"]
    assert found["detail"].endswith("100 requested, wait for AWS")
    assert found["command"] == ""


def test_a_quota_whose_code_is_not_known_is_found_by_its_name(
    run: Run, fake_aws: FakeAws, planned: Plan
) -> None:
    answer_all(fake_aws, planned)

    def unknown(_: dict[str, Any]) -> dict[str, Any]:
        raise AwsError("NoSuchResourceException")

    fake_aws.answers["service-quotas", "GetServiceQuota"] = unknown
    named = {**quota_of(planned.chosen.instance_type, 100.0), "QuotaCode": "L-NEW"}
    pages = [{"Quotas": [{"QuotaName": "other", "Value": 1.0}], "NextToken": "more"}, {"Quotas": [named]}]
    fake_aws.answers["service-quotas", "ListServiceQuotas"] = lambda p: pages["NextToken" in p]
    assert items(run)["quota"]["detail"] == "100 (L-NEW)"


def test_a_missing_plan_is_to_do_with_its_command(run: Run, project: Path) -> None:
    found = items(run)["plan"]
    assert (found["state"], found["command"]) == ("to do", "tokenmill plan chat --write")
    assert not list(project.glob("*.plan.json"))


@pytest.mark.usefixtures("planned")
def test_a_plan_of_other_settings_is_to_do(run: Run, project: Path) -> None:
    path = project / "tokenmill.toml"
    path.write_text(path.read_text(encoding="utf-8").replace("= 1000", "= 2000"), encoding="utf-8")
    found = items(run)["plan"]
    assert found["state"] == "to do"
    assert "made from other inputs" in found["detail"]


def test_the_key_waits_for_the_deploy_and_blocks_nothing_before(
    run: Run, fake_aws: FakeAws, planned: Plan
) -> None:
    answer_all(fake_aws, planned)

    def missing(_: dict[str, Any]) -> dict[str, Any]:
        raise AwsError("ValidationError", "Stack with id tokenmill-chat does not exist")

    fake_aws.answers["cloudformation", "DescribeStacks"] = missing
    found = items(run)["api key"]
    assert (found["after_deploy"], found["command"]) == (True, "tokenmill keys create chat")


def test_a_deployed_gateway_without_a_key_is_to_do(run: Run, fake_aws: FakeAws, planned: Plan) -> None:
    answer_all(fake_aws, planned)
    fake_aws.answers["dynamodb", "Scan"] = lambda _: {"Items": [{"revoked": {"BOOL": True}}], "Count": 1}
    found = items(run)["api key"]
    assert (found["state"], found["after_deploy"]) == ("to do", False)


def test_answers_of_an_emulator_are_called_that(run: Run, fake_aws: FakeAws, planned: Plan) -> None:
    answer_all(fake_aws, planned)
    assert f"answered by {fake_aws.url}, not by AWS" in items(run)["credentials"]["detail"]


@pytest.mark.parametrize(
    ("version", "state"),
    [("v19.0.0", State.TO_DO), ("v20.1.0", State.OK), ("nonsense", State.UNKNOWN)],
)
def test_node_is_told_by_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, state: State
) -> None:
    program(tmp_path / "node", version)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert machine.node().state is state


@pytest.mark.parametrize(
    ("version", "state"),
    [("2.1148.1 (build x)", State.OK), ("2.1000.0", State.TO_DO), ("3.0.0", State.TO_DO)],
)
def test_the_cdk_command_must_read_our_assembly(tmp_path: Path, version: str, state: State) -> None:
    (tmp_path / "node_modules" / ".bin").mkdir(parents=True)
    program(tmp_path / "node_modules" / ".bin" / "cdk", version)
    assert machine.cdk_command(tmp_path).state is state


def test_a_missing_program_is_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.node().state is State.TO_DO
    assert machine.cdk_command(tmp_path).command == "npm ci"


def test_missing_linters_are_named_with_what_installs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.util, "find_spec", lambda name: None if name == "cdk_nag" else object())
    monkeypatch.setattr(machine, "find_checkov", lambda _: None)
    found = machine.linters(tmp_path)
    assert (found.detail, found.command) == (
        "missing: cdk_nag, checkov",
        "pip install 'tokenmill[lint]'; make setup",
    )


@pytest.mark.parametrize(
    ("model", "state"),
    [("Qwen/Qwen3-8B", State.OK), ("meta-llama/Llama-3.1-8B", State.TO_DO), ("house/own-8B", State.UNKNOWN)],
)
def test_a_gated_model_names_the_page_to_accept(project: Path, model: str, state: State) -> None:
    settings = load_settings(project / "tokenmill.toml")["chat"]
    named = project / f"{model.replace('/', '__')}.json"
    named.write_text(settings.model_path.read_text(encoding="utf-8"), encoding="utf-8")
    path = project / "tokenmill.toml"
    path.write_text(path.read_text(encoding="utf-8").replace("Qwen/Qwen3-8B", named.name), encoding="utf-8")
    found = machine.licence(load_settings(path)["chat"])
    assert found.state is state
    assert (f"https://huggingface.co/{model}" in found.command) == (state is not State.OK)


def test_a_region_without_a_known_price_is_unknown_not_refused() -> None:
    assert machine.instance_in_region("ml.inf2.xlarge", "us-east-1").state is State.OK
    assert machine.instance_in_region("ml.inf2.xlarge", "eu-south-2").state is State.UNKNOWN


def test_every_quota_code_is_of_an_instance_type_of_the_catalog() -> None:
    with_code = {name for name in instance_catalog() if quotas.endpoint_quota_code(name)}
    assert len(with_code) == len(quotas._codes())
    without = set(instance_catalog()) - with_code
    newest = {name for name in without if name.startswith(("ml.g7.", "ml.g7e.", "ml.p6"))}
    assert without - newest == {"ml.trn1n.32xlarge", "ml.trn2.48xlarge", "ml.p5.4xlarge"}


@pytest.mark.usefixtures("project")
def test_fails_on_a_section_that_is_not_there(run: Run) -> None:
    error = run("doctor", "rag").exception
    assert isinstance(error, TokenmillError)
    assert str(error) == "tokenmill.toml has no section 'rag'; it has chat"


def program(path: Path, version: str) -> None:
    path.write_text(f"#!/bin/sh\necho '{version}'\n", encoding="utf-8")
    path.chmod(0o755)
