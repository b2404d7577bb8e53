"""`tokenmill cost` on what the CDK really writes."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_kms as kms

from support_cost import assembly
from support_example_apps import FOLDERS, synthesize
from support_stack import REGION, chat_stack, make_app
from tokenmill.core.instances import instance_type
from tokenmill.cost import PlannedLoads, cost_of

if TYPE_CHECKING:
    from pathlib import Path

    from tokenmill.cost import CostReport


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The assembly of a chat stack as `cdk synth` leaves it."""
    root = tmp_path_factory.mktemp("chat") / "cdk.out"
    cdk.App.of(chat_stack(root, profile="dev")).synth()
    return root


def test_every_type_of_a_chat_stack_is_known(
    written: Path, compliant: dict[str, Any], tmp_path: Path
) -> None:
    """Only what custom resources make cannot be told."""
    for root in (written, assembly(tmp_path, **{"tokenmill-chat": compliant})):
        unknown = [kind for kind, _ in cost_of(root).unknown if not kind.startswith("Custom::")]
        assert unknown == []


def test_the_floor_of_a_chat_stack_is_its_instances_alarms_and_dashboard(written: Path) -> None:
    """Two copies at the fewest, one an instance: two instances, as the plan's capacity says."""
    report = cost_of(written)
    price = instance_type("ml.inf2.8xlarge").price(REGION)
    assert price is not None
    by_item = Counter[str]()
    for line in report.lines:
        by_item[line.item] += line.usd_per_month or 0.0
    assert by_item["ml.inf2.8xlarge"] == pytest.approx(2 * price.usd_per_hour * 730)
    assert by_item["dashboard"] == 3
    assert set(by_item) == {"ml.inf2.8xlarge", "dashboard", "alarm-metric", "alarm-metric-high-resolution"}
    assert report.missing == ()
    (need,) = [need for need in report.quotas if need.service == "sagemaker"]
    assert need.at_floor == 2
    assert need.at_most >= 6


def test_a_compliant_stack_costs_its_network_key_and_addresses_besides(
    written: Path, compliant: dict[str, Any], tmp_path: Path
) -> None:
    report = cost_of(assembly(tmp_path, **{"tokenmill-chat": compliant}))
    assert report.usd_per_month > cost_of(written).usd_per_month
    assert {"nat-gateway", "public-ipv4", "kms-key"} <= {line.item for line in report.lines}
    assert "EC2-VPC Elastic IPs" in {need.name for need in report.quotas}


def test_a_bedrock_stack_has_no_instances(bedrock: dict[str, Any], tmp_path: Path) -> None:
    report = cost_of(assembly(tmp_path, **{"tokenmill-chat": bedrock}))
    assert not any(line.item.startswith("ml.") for line in report.lines)
    assert report.usd_per_month < 10


def test_the_plan_in_the_metadata_is_found_by_its_hash(written: Path) -> None:
    from support_stack import plan

    made = plan()
    (found,) = cost_of(written, loads=PlannedLoads(plans={made.hash: made})).tokens
    price = instance_type("ml.inf2.8xlarge").price(REGION)
    assert price is not None
    assert found.usd_per_million == pytest.approx(2 * price.usd_per_hour / 3.6)
    assert found.usd_per_million_with_floor is not None
    assert found.usd_per_million_with_floor > found.usd_per_million


def test_nested_stacks_that_the_cdk_writes_are_counted(tmp_path: Path) -> None:
    app = make_app(tmp_path / "cdk.out")
    outer = cdk.Stack(app, "Outer", env=cdk.Environment(region=REGION))
    ec2.CfnEIP(outer, "Address")
    kms.Key(cdk.NestedStack(outer, "Inner"), "Key")
    app.synth()
    report = cost_of(tmp_path / "cdk.out")
    assert sorted(line.item for line in report.lines) == ["kms-key", "public-ipv4"]
    assert not any("nested" in warning for warning in report.warnings)


def test_an_agnostic_stack_is_priced_where_the_user_says(tmp_path: Path) -> None:
    app = make_app(tmp_path / "cdk.out")
    kms.Key(cdk.Stack(app, "Anywhere"), "Key")
    app.synth()
    assert cost_of(tmp_path / "cdk.out", region=REGION).usd_per_month == 1.0
    assert (
        "environment"
        in json.loads((tmp_path / "cdk.out" / "manifest.json").read_text())["artifacts"]["Anywhere"]
    )


def report_of_example(name: str, root: Path) -> CostReport:
    unchecked = {"tokenmill:packs": [], "@aws-cdk/core:validateAgainstDefaultRules": False}
    done = synthesize(name, root, **unchecked)
    assert done.returncode == 0, done.stdout + done.stderr
    return cost_of(root, region=REGION)


# what an endpoint's instances are, without traffic: the type and how many
FLOORS = {
    "async_endpoint": ("ml.g6e.2xlarge", 0),
    "batch_transform": None,
    "blue_green": ("ml.g6e.2xlarge", 5),
    "endpoint_only": ("ml.inf2.8xlarge", 2),
    "gpu_fallback_pool": ("ml.g6e.2xlarge", 2),
    "import_model": None,
    "inf2_chat": ("ml.inf2.24xlarge", 1),
    "lora_adapters": ("ml.g6e.2xlarge", 2),
    "nightly_batch": None,
    "office_hours_units": None,
    "prompt_router": None,
    "scale_to_zero": ("ml.inf2.8xlarge", 0),
    "trn2_70b": ("ml.trn2.48xlarge", 1),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_an_example_is_priced_to_the_last_resource(name: str, tmp_path: Path) -> None:
    """Nothing is left unknown but what has no price anywhere, and that is said."""
    report = report_of_example(name, tmp_path)
    found = [(line.item, line.quantity) for line in report.lines if line.what == "endpoint instances"]
    assert found == ([] if FLOORS[name] is None else [FLOORS[name]])
    assert report.unknown == ()
    unpriced = {"ml.trn2.48xlarge", "unit.amazon.nova-lite-v1:0:24k"}
    assert {line.item for line in report.missing} <= unpriced
    runs = {"batch_transform": ["ml.g5.12xlarge"], "trn2_70b": ["ml.trn2.48xlarge"]}
    assert [run.instance_type for run in report.runs] == runs.get(name, [])
    if name == "gpu_fallback_pool":
        (line,) = report.lines
        assert all(f"ml.g6e.{size}xlarge $" in line.note for size in (2, 4, 8))
