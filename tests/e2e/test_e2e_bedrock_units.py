"""Model units of one's own through the command line: faults, a commitment, and what outlives a stack."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support_bedrock_examples import BedrockExamples

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLE, STACK = "own_units", "own-units"
MODEL = "amazon.nova-lite-v1:0:24k"
APP = """import aws_cdk as cdk

from tokenmill.bedrock import Commitment, ProvisionedThroughput, Replacement

app = cdk.App()
asked = app.node.try_get_context
stack = cdk.Stack(app, "own-units", env=cdk.Environment(region="us-east-1"))
units = ProvisionedThroughput(
    stack,
    "Units",
    model="amazon.nova-lite-v1:0:24k",
    units=int(asked("units") or 1),
    commitment=Commitment(asked("commitment") or "NONE"),
    replacement=Replacement(asked("replacement") or "REFUSE"),
    protected=asked("protected") == "yes",
    fallback="amazon.nova-lite-v1:0",
    hourly_usd=20.0,
)
cdk.CfnOutput(stack, "Handle", value=units.handle_name)
app.synth()
"""


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BedrockExamples]:
    """A cloud with protected units in it."""
    examples = BedrockExamples(tmp_path_factory.mktemp("units"))
    (examples.folder / EXAMPLE).mkdir()
    (examples.folder / EXAMPLE / "app.py").write_text(APP.replace('asked("protected") == "yes"', "True"))
    examples.start(EXAMPLE)
    (examples.folder / EXAMPLE / "app.py").write_text(APP)
    try:
        yield examples
    finally:
        examples.stop()


def arn_of(examples: BedrockExamples) -> str:
    [units] = examples.units()
    arn: str = units["provisionedModelArn"]
    return arn


def test_protected_units_outlive_their_stack_and_the_next_deployment_adopts_them(
    examples: BedrockExamples,
) -> None:
    """They are tagged, in the ledger with their cost, under an alarm, and in `jobs list`; then no more."""
    arn = arn_of(examples)
    examples.destroyed(STACK)
    assert arn_of(examples) == arn
    tags = examples.client("bedrock").list_tags_for_resource(resourceARN=arn)["tags"]
    assert "tokenmill:retained" in [tag["key"] for tag in tags]
    [entry] = examples.parameters("/tokenmill/units/retained").values()
    assert (entry["arn"], entry["daily_usd"], entry["reason"]) == (arn, 480.0, "it is protected")
    assert examples.alarm("tokenmill-units-")["StateValue"] in ("ALARM", "INSUFFICIENT_DATA")
    assert examples.alarm_becomes("tokenmill-units-", "ALARM")
    listed = examples.run("jobs", "list").stdout
    assert "own-units  retained  " in listed
    assert "1 model units, 480.00 USD a day, without commitment, until deleted: it is protected" in listed
    examples.deployed(EXAMPLE)
    assert arn_of(examples) == arn
    tags = examples.client("bedrock").list_tags_for_resource(resourceARN=arn)["tags"]
    assert "tokenmill:retained" not in [tag["key"] for tag in tags]
    assert examples.parameters("/tokenmill/units/retained") == {}
    assert "retained" not in examples.run("jobs", "list").stdout
    assert examples.alarm("own-units-UnitsAlarmsRetained")
    assert not [name for name in alarms(examples) if name.startswith("tokenmill-units-")]


def alarms(examples: BedrockExamples) -> list[str]:
    found = examples.client("cloudwatch").describe_alarms()["MetricAlarms"]
    return [alarm["AlarmName"] for alarm in found]


def test_another_number_is_refused_unless_the_app_says_how(examples: BedrockExamples) -> None:
    """The stack's event says what to write; nothing was changed."""
    arn = arn_of(examples)
    done = examples.up(EXAMPLE, "-c", "units=2")
    assert done.returncode != 0
    assert "MAKE_BEFORE_BREAK" in examples.failures(STACK), examples.failures(STACK)
    assert "MAKE_BEFORE_BREAK" in done.stdout + done.stderr
    assert arn_of(examples) == arn


def test_units_that_the_service_cannot_provide_are_no_charge(examples: BedrockExamples) -> None:
    """The update fails with the service's reason, and the old units, that never went, serve."""
    arn = arn_of(examples)
    examples.fail(bedrock_without_capacity=[MODEL])
    try:
        done = examples.up(EXAMPLE, "-c", "units=2", "-c", "replacement=MAKE_BEFORE_BREAK")
    finally:
        examples.fail(bedrock_without_capacity=[])
    assert done.returncode != 0
    assert "could not provide the units" in done.stdout + done.stderr
    assert examples.stack_status(STACK) == "UPDATE_ROLLBACK_COMPLETE"
    assert arn_of(examples) == arn
    assert examples.in_service(1)


def test_a_storm_of_throttles_is_waited_out(examples: BedrockExamples) -> None:
    """The new units come, the old ones go, callers are told."""
    arn = arn_of(examples)
    operations = ("CreateProvisionedModelThroughput", "DeleteProvisionedModelThroughput")
    examples.fail(
        bedrock_faults=[{"kind": "throttled", "operation": name, "times": 3} for name in operations]
    )
    outputs = examples.deployed(EXAMPLE, "-c", "units=2", "-c", "replacement=MAKE_BEFORE_BREAK")
    assert examples.comes(lambda: examples.in_service(2)), examples.units()
    assert arn_of(examples) != arn
    assert [model["id"] for model in examples.handle(outputs["Handle"])["models"]] == [arn_of(examples)]


def test_a_first_deployment_without_quota_says_what_to_request_and_owns_nothing(
    examples: BedrockExamples,
) -> None:
    """0 is what every new account has."""
    examples.destroyed(STACK)
    assert examples.units() == []
    examples.fail(bedrock_quotas={"base": 0})
    try:
        done = examples.up(EXAMPLE)
    finally:
        examples.fail(bedrock_quotas={"base": 10})
    assert done.returncode != 0
    assert "no-commitment Provisioned Throughputs across base models" in done.stdout + done.stderr
    assert "Service Quotas" in done.stdout + done.stderr
    assert examples.units() == []
    assert examples.parameters("/tokenmill") == {}


def test_a_declared_commitment_is_bought_by_a_command_and_outlives_its_stack(
    examples: BedrockExamples,
) -> None:
    """The deployment buys without commitment; the command shows price and term; a deletion keeps it."""
    handle = examples.deployed(EXAMPLE, "-c", "commitment=ONE_MONTH")["Handle"]
    before = arn_of(examples)
    assert "commitmentDuration" not in examples.units()[0]
    done = examples.run("jobs", "run", "commit-units", "--yes", "--price", "amazon.nova-lite-v1:0:24k=15")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"1 model units of {MODEL} for 1 month: 15.00 USD an hour, 10,950.00 USD in all" in done.stdout
    assert arn_of(examples) != before
    assert examples.units()[0]["commitmentDuration"] == "OneMonth"
    assert [model["id"] for model in examples.handle(handle)["models"]] == [arn_of(examples)]
    assert "no commitment is declared" in examples.run("jobs", "run", "commit-units").stdout
    committed = arn_of(examples)
    examples.destroyed(STACK)
    assert arn_of(examples) == committed
    assert "committed until 2" in examples.run("jobs", "list").stdout
    assert f"delete {committed} and this alarm" in examples.alarm("tokenmill-units-")["AlarmDescription"]
