"""What pools, schedules, deployments and jobs cost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support_cost import assembly, cost, endpoint, managed, resource, template
from tokenmill.core.instances import instance_type
from tokenmill.cost import PriceList, compare, cost_of, difference_markdown, report_markdown
from tokenmill_runtime import build_run, compiled_model, deployment
from tokenmill_runtime.jobs import DESCRIPTION_STATE, JOB_TAG, description_state

if TYPE_CHECKING:
    from pathlib import Path

    from tokenmill.cost import CostLine, CostReport

SMALL, LARGE, UNPRICED = "ml.g6e.2xlarge", "ml.g6e.12xlarge", "ml.trn2.48xlarge"
VARIANT_TARGET = {"Fn::Join": ["", ["endpoint/", {"Ref": "Endpoint"}, "/variant/AllTraffic"]]}


def usd(name: str) -> float:
    price = instance_type(name).price("us-east-1")
    assert price is not None
    return price.usd_per_hour


def instances(report: CostReport) -> CostLine:
    (line,) = [line for line in report.lines if line.what == "endpoint instances"]
    return line


def most_of_quotas(report: CostReport) -> dict[str, tuple[float, float]]:
    return {need.name: (need.at_floor, need.at_most) for need in report.quotas}


def hold(declared: object) -> dict[str, Any]:
    return resource(deployment.HOLD_TYPE, Declared=declared, ServiceToken="x")


def variant(**properties: Any) -> dict[str, Any]:
    return {"VariantName": "AllTraffic", "InstanceType": SMALL, **properties}


def target(fewest: int, *actions: tuple[str, int], zone: str = "Etc/UTC") -> dict[str, Any]:
    return resource(
        "AWS::ApplicationAutoScaling::ScalableTarget",
        MinCapacity=fewest,
        MaxCapacity=4,
        ScalableDimension="sagemaker:variant:DesiredInstanceCount",
        ResourceId=VARIANT_TARGET,
        ScheduledActions=[
            {"Schedule": text, "Timezone": zone, "ScalableTargetAction": {"MinCapacity": least}}
            for text, least in actions
        ],
    )


@pytest.mark.parametrize("declared", [3, "3"])
def test_what_a_deployment_keeps_counts_as_declared(tmp_path: Path, declared: object) -> None:
    """Its copies come from a custom resource, which at first returns what was declared."""
    found = endpoint(variant=managed(SMALL, 1, 4), copies=1)
    found["Model"]["Properties"]["RuntimeConfig"] = {"CopyCount": {"Fn::GetAtt": ["Hold", "Copies"]}}
    assert instances(cost(tmp_path, Hold=hold(declared), **found)).quantity == 3


def test_instances_of_a_variant_are_one_at_least(tmp_path: Path) -> None:
    """An asynchronous endpoint declares none; CreateEndpoint takes no less than one."""
    found = endpoint(variant=variant(InitialInstanceCount={"Fn::GetAtt": "Hold.Instances"}))
    assert instances(cost(tmp_path, Hold=hold(0), **found)).quantity == 1
    assert instances(cost(tmp_path, Hold=hold(5), **found)).quantity == 5


def test_a_count_that_nothing_declares_is_not_known(tmp_path: Path) -> None:
    found = endpoint(variant=variant(InitialInstanceCount={"Fn::GetAtt": ["Other", "Instances"]}))
    assert instances(cost(tmp_path, **found)).state == "missing"
    found = endpoint(variant=variant(InitialInstanceCount={"Fn::GetAtt": ["Hold", "Instances"]}))
    assert instances(cost(tmp_path, Hold=hold({"Ref": "P"}), **found)).state == "missing"
    assert instances(cost(tmp_path, Hold=resource(deployment.HOLD_TYPE), **found)).state == "missing"


def pools(*types: str) -> dict[str, Any]:
    made = managed(SMALL, 0, 9)
    del made["InstanceType"]
    # in the template's order the last choice stands first
    return made | {
        "InstancePools": [
            {"InstanceType": name, "Priority": number} for number, name in reversed([*enumerate(types, 1)])
        ]
    }


def test_the_first_pool_is_the_floor_and_each_has_its_month(tmp_path: Path) -> None:
    """One chip a copy: three copies are three small instances, or one of four chips."""
    found = endpoint(variant=pools(SMALL, LARGE, UNPRICED), copies=3)
    found["Model"]["Properties"]["Specification"] = {
        "ComputeResourceRequirements": {"NumberOfAcceleratorDevicesRequired": 1}
    }
    line = instances(cost(tmp_path, **found))
    assert (line.item, line.quantity) == (SMALL, 3)
    assert line.usd_per_month == pytest.approx(3 * usd(SMALL) * 730)
    assert f"{SMALL} ${3 * usd(SMALL) * 730:,.2f}, {LARGE} ${usd(LARGE) * 730:,.2f}" in line.note
    assert f"{UNPRICED} not known (give --price {UNPRICED}=USD)" in line.note


def test_every_pool_needs_the_quota_of_the_largest_fleet(tmp_path: Path) -> None:
    report = cost(tmp_path, **endpoint(variant=pools(SMALL, LARGE), copies=2))
    assert most_of_quotas(report) == {
        f"{SMALL} for endpoint usage": (2, 9),
        f"{LARGE} for endpoint usage": (0, 9),
    }


def test_a_copy_is_what_its_instance_type_makes_it(tmp_path: Path) -> None:
    """On the second type a copy takes two chips of four, so that two instances hold three."""
    found = endpoint(variant=pools(SMALL, LARGE), copies=3)
    needs = {SMALL: 1, LARGE: 2}
    del found["Model"]["Properties"]["Specification"]
    found["Model"]["Properties"]["Specifications"] = [
        {
            "InstanceType": name,
            "ComputeResourceRequirements": {"NumberOfAcceleratorDevicesRequired": chips},
        }
        for name, chips in needs.items()
    ]
    assert f"{LARGE} ${2 * usd(LARGE) * 730:,.2f}" in instances(cost(tmp_path, **found)).note


def test_a_floor_of_zero_says_what_an_hour_costs_and_holds(tmp_path: Path) -> None:
    found = endpoint(variant=managed(LARGE, 0, 4), least=0)
    line = instances(cost(tmp_path, **found))
    assert (line.quantity, line.usd_per_month) == (0, 0.0)
    assert line.note == (
        f"none without traffic; ${usd(LARGE):.2f} for each hour of an instance, which holds 4 copies"
    )
    report = cost(tmp_path, **endpoint(variant=managed(UNPRICED, 0, 4), least=0))
    assert "no price in us-east-1 is known for each hour of an instance" in instances(report).note


def test_an_asynchronous_endpoint_without_requests_costs_nothing(tmp_path: Path) -> None:
    found = endpoint(variant=variant(InitialInstanceCount={"Fn::GetAtt": ["Hold", "Instances"]}))
    del found["Model"]
    report = cost(tmp_path, Hold=hold(1), Target=target(0), **found)
    assert (report.usd_per_month, report.missing) == (0.0, ())
    assert f"${usd(SMALL):.2f} for each hour" in instances(report).note
    assert most_of_quotas(report) == {f"{SMALL} for endpoint usage": (0, 4)}


def test_office_hours_cost_their_hours_of_the_week(tmp_path: Path) -> None:
    """Ten hours on five days: 50 of 168, at two instances."""
    found = endpoint(variant=variant(InitialInstanceCount=1))
    hours = (("cron(30 8 ? * MON-FRI *)", 2), ("cron(30 18 ? * MON-FRI *)", 0))
    report = cost(tmp_path, Target=target(0, *hours, zone="Europe/Berlin"), **found)
    line = instances(report)
    assert line.quantity == pytest.approx(2 * 50 / 168)
    assert line.usd_per_month == pytest.approx(2 * 50 / 168 * usd(SMALL) * 730)
    assert line.note == "scheduled: 2 in 50, 0 in 118 of the week's 168 hours"
    assert most_of_quotas(report) == {f"{SMALL} for endpoint usage": (2, 4)}


@pytest.mark.parametrize(
    ("days", "hours"),
    [("*", 7), ("MON", 1), ("SAT-SUN", 2), ("FRI-MON", 4), ("MON,WED,FRI", 3), ("1-7", 7), ("2", 1)],
)
def test_days_are_read_as_cron_writes_them(tmp_path: Path, days: str, hours: int) -> None:
    """One hour on each of the days, also over the end of the week."""
    found = endpoint(variant=variant())
    actions = ((f"cron(0 23 ? * {days} *)", 1), ("cron(0 0 ? * * *)", 0))
    line = instances(cost(tmp_path, Target=target(0, *actions), **found))
    assert line.quantity == pytest.approx(hours / 168)


@pytest.mark.parametrize(
    "schedule", ["rate(1 day)", "at(2027-01-01T00:00:00)", "cron(0 8 1 * ? *)", "cron(0 8 ? * XXX *)"]
)
def test_a_schedule_of_another_kind_leaves_the_floor_unknown(tmp_path: Path, schedule: str) -> None:
    found = endpoint(variant=variant())
    assert instances(cost(tmp_path, Target=target(0, (schedule, 1)), **found)).state == "missing"


def test_components_with_hours_of_their_own_share_instances_while_both_run(tmp_path: Path) -> None:
    """Two copies of two chips fit one instance of four; at night the second component is off."""
    found = endpoint(variant=managed(LARGE, 0, 9), chips=3, least=1)
    found["Second"] = json.loads(json.dumps(found["Model"]))
    night = target(0, ("cron(0 6 ? * * *)", 1), ("cron(0 18 ? * * *)", 0), zone="Europe/Berlin")
    night["Properties"] |= {
        "ScalableDimension": "sagemaker:inference-component:DesiredCopyCount",
        "ResourceId": {"Fn::Join": ["", ["inference-component/", {"Ref": "Second"}]]},
    }
    found["Night"] = night
    line = instances(cost(tmp_path, **found))
    assert line.quantity == 1.5
    assert line.note == "scheduled: 2 in 84, 1 in 84 of the week's 168 hours"
    morning = ("cron(0 0 ? * * *)", 1)
    found["Target"]["Properties"]["ScheduledActions"] = target(1, morning)["Properties"]["ScheduledActions"]
    note = "schedules in Etc/UTC and Europe/Berlin are counted as in one time zone"
    assert instances(cost(tmp_path, **found)).note.endswith(note)


def machine(kind: str = "transform", tag: str = JOB_TAG, **description: Any) -> dict[str, Any]:
    """A job whose definition has the name of a bucket in it, as the CDK writes that."""
    state = description_state({"kind": kind, "bucket": "BUCKET", **description}, following="End")
    text = json.dumps({"StartAt": DESCRIPTION_STATE, "States": {DESCRIPTION_STATE: state}})
    before, _, after = text.partition("BUCKET")
    return resource(
        "AWS::StepFunctions::StateMachine",
        DefinitionString={"Fn::Join": ["", [before, {"Ref": "Bucket"}, after]]},
        Tags=[{"Key": tag, "Value": kind}],
    )


def test_a_job_costs_its_instances_while_it_runs_and_nothing_otherwise(tmp_path: Path) -> None:
    job = machine(instance_type=SMALL, instance_count=2, limit_seconds=7200, about="files of requests")
    report = cost(tmp_path, Job=job)
    (run,) = report.runs
    assert (run.kind, run.about, run.limit_hours) == ("transform", "files of requests", 2.0)
    assert run.usd_per_hour == pytest.approx(2 * usd(SMALL))
    assert run.usd_at_most == pytest.approx(4 * usd(SMALL))
    assert report.usd_per_month == 0
    assert most_of_quotas(report) == {f"{SMALL} for transform job usage": (0, 2)}
    assert f"2 x {SMALL}, 2 h at most" in report_markdown(report)


def test_a_job_whose_price_is_missing_says_so(tmp_path: Path) -> None:
    job = machine("compile", instance_type=UNPRICED, limit_seconds=3600)
    (run,) = cost(tmp_path, Job=job).runs
    assert (run.usd_per_hour, run.usd_at_most) == (None, None)
    assert f"give --price {UNPRICED}=USD" in run.note
    report = cost(tmp_path, {UNPRICED: 10.0}, Job=job)
    assert report.runs[0].usd_at_most == 10.0
    assert report.warnings == ()
    assert most_of_quotas(report) == {f"{UNPRICED} for training job usage": (0, 1)}


def test_a_job_without_a_limit_has_no_most(tmp_path: Path) -> None:
    (run,) = cost(tmp_path, Job=machine(instance_type=SMALL)).runs
    assert (run.limit_hours, run.usd_at_most) == (None, None)


@pytest.mark.parametrize(
    "job",
    [
        machine("fan-out", instance_type=SMALL),
        machine("transform"),
        machine(tag="other", instance_type=SMALL),
        resource("AWS::StepFunctions::StateMachine", DefinitionString="{", Tags=[{"Key": JOB_TAG}]),
        resource("AWS::StepFunctions::StateMachine", DefinitionString={"Ref": "P"}, Tags=[{"Key": JOB_TAG}]),
    ],
)
def test_a_state_machine_without_instances_of_its_own_is_by_use(tmp_path: Path, job: dict[str, Any]) -> None:
    report = cost(tmp_path, Job=job)
    assert (report.runs, report.quotas) == ((), ())
    assert [item.type for item in report.by_use] == ["AWS::StepFunctions::StateMachine"]


def test_a_job_that_changes_its_instances_is_a_change(tmp_path: Path) -> None:
    before, after = (cost(tmp_path / name, Job=machine(instance_type=name)) for name in (SMALL, LARGE))
    found = compare(before, after)
    (change,) = found.runs
    assert (change.before, change.after) == (usd(SMALL), usd(LARGE))
    assert f"| `Job` | ${usd(SMALL):.2f} | ${usd(LARGE):.2f} |" in difference_markdown(found)
    gone = compare(before, cost(tmp_path / "none", Other=resource("AWS::SNS::Topic")))
    assert [(item.before, item.after) for item in gone.runs] == [(usd(SMALL), None)]
    assert compare(before, before).runs == ()


def test_builds_of_one_deployment_need_a_quota_each(tmp_path: Path) -> None:
    def project(kind: str, size: str) -> dict[str, Any]:
        return resource("AWS::CodeBuild::Project", Environment={"Type": kind, "ComputeType": size})

    report = cost(
        tmp_path,
        A=project("LINUX_CONTAINER", "BUILD_GENERAL1_LARGE"),
        B=project("LINUX_CONTAINER", "BUILD_GENERAL1_LARGE"),
        C=project("WINDOWS_CONTAINER", "BUILD_GENERAL1_LARGE"),
        D=project("LINUX_CONTAINER", "UNHEARD_OF"),
    )
    assert most_of_quotas(report) == {"Concurrently running builds for Linux/Large environment": (0, 2)}


@pytest.mark.parametrize(
    "kind",
    [
        build_run.RESOURCE_TYPE,
        compiled_model.RESOURCE_TYPE,
        deployment.HOLD_TYPE,
        deployment.RELEASE_TYPE,
    ],
)
def test_custom_resources_of_tokenmill_cost_nothing_themselves(tmp_path: Path, kind: str) -> None:
    assert cost(tmp_path, Custom=resource(kind)).unknown == ()


def test_adapters_have_no_price_per_token_of_their_own_and_models_of_variants_have(tmp_path: Path) -> None:
    facts = {"Metadata": {"tokenmill": {"model": "m"}}}
    found = endpoint(variant=variant(ModelName={"Fn::GetAtt": ["One", "ModelName"]}), copies=1)
    found["Adapter"] = resource(
        "AWS::SageMaker::InferenceComponent", Specification={"BaseInferenceComponentName": "x"}
    )
    component = found.pop("Model")
    model = resource("AWS::SageMaker::Model") | facts
    report = cost(tmp_path, **found, One=model, Unused=model)
    assert [item.model for item in report.tokens] == ["m"]
    root = assembly(tmp_path / "both", Demo=template(**found, Model=component))
    assert [item.model for item in cost_of(root, prices=PriceList()).tokens] == ["Model"]
