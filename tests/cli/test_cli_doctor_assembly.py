"""`tokenmill doctor --assembly`: what synthesized stacks need of region and account."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support_cost import assembly, endpoint, managed, resource, template
from support_fake_aws import AwsError, FakeAws
from tokenmill.doctor import State, machine
from tokenmill_runtime.compiled_artifact import artifact_key, manifest_key
from tokenmill_runtime.compiled_model import RESOURCE_TYPE as COMPILED_MODEL
from tokenmill_runtime.jobs import DESCRIPTION_STATE, JOB_TAG, description_state

if TYPE_CHECKING:
    from pathlib import Path

    from support_commands import Run

SMALL, MIDDLE = "ml.g6e.2xlarge", "ml.g6e.4xlarge"
GATED, OPEN = "meta-llama/Llama-3.3-70B-Instruct", "Qwen/Qwen3-8B"
ARTIFACT = {
    "schema": 1,
    "model": GATED,
    "revision": "0" * 40,
    "accelerator": "Trainium2",
    "tensor_parallel": 32,
    "pipeline_parallel": 1,
    "max_sequences": 16,
    "context_tokens": 8192,
    "buckets": [],
    "dtype": "auto",
    "quantization": "as-published",
    "flags": {},
}
DIGEST = "sha256:" + "a" * 64


@pytest.fixture(autouse=True)
def ready_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    ok = machine.Item(name="machine", state=State.OK, detail="")
    for look in ("node", "cdk_command", "linters"):
        monkeypatch.setattr(machine, look, lambda *_: ok)


def looked(run: Run, root: Path) -> dict[str, dict[str, Any]]:
    result = run("doctor", "--assembly", str(root), "--json")
    return {item["name"]: item for item in json.loads(result.stdout)["items"]}


def refuse(code: str, status: int = 400) -> Any:
    def answer(_: dict[str, Any]) -> dict[str, Any]:
        raise AwsError(code, "no", status)

    return answer


def served(model: str, variant: dict[str, Any]) -> dict[str, Any]:
    found = endpoint(variant=variant, copies=1)
    found["Model"]["Metadata"] = {"tokenmill": {"model": model}}
    return found


def pooled() -> dict[str, Any]:
    made = managed(SMALL, 1, 4)
    del made["InstanceType"]
    pools = [{"InstanceType": name, "Priority": n} for n, name in enumerate((SMALL, MIDDLE), 1)]
    return served(OPEN, made | {"InstancePools": pools})


def with_quotas(fake: FakeAws, **values: float) -> None:
    """An account whose quotas are these, by the beginning of their names, and 0 otherwise."""
    fake.answers["ssm", "GetParameter"] = lambda _: {"Parameter": {"Value": "28"}}
    fake.answers["service-quotas", "GetServiceQuota"] = refuse("NoSuchResourceException")
    fake.answers["service-quotas", "ListRequestedServiceQuotaChangeHistoryByQuota"] = lambda _: {
        "RequestedQuotas": []
    }
    fake.answers["service-quotas", "ListServiceQuotas"] = lambda _: {
        "Quotas": [
            {"QuotaName": name, "QuotaCode": f"L-{number}", "Value": value}
            for number, (name, value) in enumerate(values.items())
        ]
    }


def test_every_pool_is_looked_for_in_the_region_and_in_the_quotas(
    run: Run, fake_aws: FakeAws, tmp_path: Path
) -> None:
    with_quotas(fake_aws, **{f"{SMALL} for endpoint usage": 4.0, f"{MIDDLE} for endpoint usage": 3.0})
    found = looked(run, assembly(tmp_path, Demo=template(**pooled())))
    assert found[f"{SMALL} in us-east-1"]["state"] == found[f"{MIDDLE} in us-east-1"]["state"] == "ok"
    assert found[f"quota for 4: {SMALL} for endpoint usage"]["state"] == "ok"
    short = found[f"quota for 4: {MIDDLE} for endpoint usage"]
    assert (short["state"], short["detail"]) == ("to do", "3 now (L-1)")
    assert "request-service-quota-increase --service-code sagemaker --quota-code L-1" in short["command"]
    assert "--desired-value 4 --region us-east-1" in short["command"]


def test_the_quotas_of_a_service_are_listed_once(run: Run, fake_aws: FakeAws, tmp_path: Path) -> None:
    """SageMaker has thousands of them, a hundred a page."""
    with_quotas(fake_aws)
    looked(run, assembly(tmp_path, Demo=template(**pooled())))
    assert fake_aws.operations("service-quotas").count("ListServiceQuotas") == 1


def test_a_ready_account_exits_0(run: Run, fake_aws: FakeAws, tmp_path: Path) -> None:
    with_quotas(fake_aws, **{f"{SMALL} for endpoint usage": 9.0, f"{MIDDLE} for endpoint usage": 9.0})
    result = run("doctor", "--assembly", str(assembly(tmp_path, Demo=template(**pooled()))))
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "nothing is to do before the deploy")


def machine_of(kind: str, instances: int) -> dict[str, Any]:
    described = {"kind": kind, "instance_type": SMALL, "instance_count": instances}
    state = description_state(described, following="X")
    text = json.dumps({"StartAt": DESCRIPTION_STATE, "States": {DESCRIPTION_STATE: state}})
    tags = [{"Key": JOB_TAG, "Value": kind}]
    return resource("AWS::StepFunctions::StateMachine", DefinitionString=text, Tags=tags)


def test_jobs_and_builds_need_quotas_of_their_own(run: Run, fake_aws: FakeAws, tmp_path: Path) -> None:
    with_quotas(fake_aws, **{f"{SMALL} for training job usage": 1.0})
    job, trained = machine_of("transform", 2), machine_of("compile", 1)
    build = resource(
        "AWS::CodeBuild::Project",
        Environment={"Type": "LINUX_CONTAINER", "ComputeType": "BUILD_GENERAL1_LARGE"},
    )
    found = looked(run, assembly(tmp_path, Demo=template(Job=job, Trained=trained, Build=build)))
    assert found[f"quota for 1: {SMALL} for training job usage"]["state"] == "ok"
    missing = found[f"quota for 2: {SMALL} for transform job usage"]
    assert missing["detail"] == f"us-east-1 has no quota '{SMALL} for transform job usage'"
    builds = found["quota for 1: Concurrently running builds for Linux/Large environment"]
    assert "--service-code codebuild" in builds["command"]


def test_model_units_need_a_quota_that_every_account_begins_without(
    run: Run, fake_aws: FakeAws, tmp_path: Path
) -> None:
    """Known before the deployment is refused, with the command that asks for it."""
    name = "Model units no-commitment Provisioned Throughputs across base models"
    with_quotas(fake_aws, **{name: 0.0})
    properties = {"ModelId": "amazon.nova-lite-v1:0:24k", "ModelUnits": "2", "Commitment": "NONE"}
    units = resource("Custom::TokenmillProvisionedThroughput", **properties)
    found = looked(run, assembly(tmp_path, Demo=template(Units=units)))[f"quota for 2: {name}"]
    assert (found["state"], found["detail"]) == ("to do", "0 now (L-0)")
    assert "--service-code bedrock --quota-code L-0 --desired-value 2" in found["command"]


@pytest.mark.parametrize(
    ("region", "components", "way_out"),
    [
        ("eu-west-3", True, "use VariantEndpoint"),
        ("eu-west-3", False, ""),
        ("me-central-1", False, "choose another region"),
        ("us-east-1", True, ""),
    ],
)
def test_a_region_that_lacks_what_is_made_is_to_do(
    run: Run, tmp_path: Path, region: str, components: bool, way_out: str
) -> None:
    found = endpoint(variant={"InstanceType": SMALL, "InitialInstanceCount": 1})
    if not components:
        del found["Model"]
    item = looked(run, assembly(tmp_path, region, Demo=template(**found)))[f"endpoints in {region}"]
    assert item["state"] == ("to do" if way_out else "ok")
    assert way_out in item["command"]


def test_a_type_that_the_catalog_does_not_have_is_unknown(run: Run, tmp_path: Path) -> None:
    """An app may override what the catalog knows."""
    found = endpoint(variant={"InstanceType": "ml.p9.48xlarge", "InitialInstanceCount": 1})
    item = looked(run, assembly(tmp_path, Demo=template(**found)))["ml.p9.48xlarge in us-east-1"]
    assert item["state"] == "unknown"


SECRET = "hugging-face-token"
REFERENCES = {
    "by name": f"{{{{resolve:secretsmanager:{SECRET}:SecretString:::}}}}",
    "by ARN": {
        "Fn::Join": [
            "",
            [
                "{{resolve:secretsmanager:arn:",
                {"Ref": "AWS::Partition"},
                ":secretsmanager:us-east-1:",
                {"Ref": "AWS::AccountId"},
                f":secret:{SECRET}:SecretString:::}}}}",
            ],
        ]
    },
}


@pytest.mark.parametrize("reference", REFERENCES.values(), ids=list(REFERENCES))
def test_a_secret_that_a_template_reads_must_be_there(
    run: Run, fake_aws: FakeAws, tmp_path: Path, reference: object
) -> None:
    with_quotas(fake_aws)
    fake_aws.answers["secretsmanager", "DescribeSecret"] = refuse("ResourceNotFoundException")
    model = resource("AWS::SageMaker::Model", PrimaryContainer={"Environment": {"HF_TOKEN": reference}})
    root = assembly(tmp_path, Demo=template(Model=model))
    found = looked(run, root)[f"secret {SECRET}"]
    assert (found["state"], found["detail"]) == ("to do", "not in us-east-1")
    assert f"aws secretsmanager create-secret --name {SECRET}" in found["command"]
    fake_aws.answers["secretsmanager", "DescribeSecret"] = lambda _: {"Name": SECRET}
    assert looked(run, root)[f"secret {SECRET}"]["state"] == "ok"


def test_a_secret_that_the_template_makes_is_not_looked_for(
    run: Run, fake_aws: FakeAws, tmp_path: Path
) -> None:
    with_quotas(fake_aws)
    own = {"Fn::Join": ["", ["{{resolve:secretsmanager:", {"Ref": "Secret"}, ":SecretString:::}}"]]}
    model = resource("AWS::SageMaker::Model", PrimaryContainer={"Environment": {"HF_TOKEN": own}})
    found = looked(run, assembly(tmp_path, Demo=template(Model=model)))
    assert not [name for name in found if name.startswith("secret")]


def copier(**variables: dict[str, str]) -> dict[str, Any]:
    entries = [{"Name": name, **entry} for name, entry in variables.items()]
    return resource("AWS::CodeBuild::Project", Environment={"EnvironmentVariables": entries})


def test_a_gated_model_needs_a_token_and_then_an_accepted_licence(
    run: Run, fake_aws: FakeAws, tmp_path: Path
) -> None:
    with_quotas(fake_aws)
    fake_aws.answers["secretsmanager", "DescribeSecret"] = lambda _: {"Name": SECRET}
    named = {"Type": "PLAINTEXT", "Value": GATED}
    bare = assembly(tmp_path / "bare", Demo=template(Copy=copier(MIRROR_MODEL=named)))
    found = looked(run, bare)["model licence"]
    assert (found["state"], "give the endpoint a token" in found["command"]) == ("to do", True)
    secret = {"Type": "SECRETS_MANAGER", "Value": SECRET}
    project = copier(MIRROR_MODEL=named, HF_TOKEN=secret)
    token = assembly(tmp_path / "token", Demo=template(Copy=project))
    found = looked(run, token)
    assert found["model licence"]["state"] == "unknown"
    assert "with the account that the token is of" in found["model licence"]["command"]
    assert found[f"secret {SECRET}"]["state"] == "ok"


def test_an_endpoint_with_a_token_only_waits_for_the_licence(run: Run, tmp_path: Path) -> None:
    found = served(GATED, managed(SMALL, 1, 2))
    found["Model"]["Properties"]["Specification"]["Container"] = {"Environment": {"HF_TOKEN": "x"}}
    assert looked(run, assembly(tmp_path, Demo=template(**found)))["model licence"]["state"] == "unknown"


def compiled(artifact: str = json.dumps(ARTIFACT)) -> dict[str, Any]:
    return resource(
        COMPILED_MODEL,
        Bucket={"Fn::ImportValue": "build:Bucket"},
        Repository={"Fn::ImportValue": "build:Repository"},
        Prefix="compiled/",
        Tag="tag",
        Artifact=artifact,
        Stack="build",
        Job="Compiled",
    )


def test_a_compiled_model_is_followed_from_deployment_to_artifact(
    run: Run, fake_aws: FakeAws, tmp_path: Path
) -> None:
    """First the stack, then the image, then the run; each with its command."""
    with_quotas(fake_aws)
    root = assembly(tmp_path, Demo=template(Check=compiled()))

    def item() -> dict[str, Any]:
        return looked(run, root)["compiled model of build"]

    exports: list[dict[str, str]] = []
    fake_aws.answers["cloudformation", "ListExports"] = lambda _: {"Exports": exports}
    assert (item()["state"], item()["command"]) == ("to do", "npx cdk deploy build")
    exports += [
        {"Name": "build:Bucket", "Value": "bucket", "ExportingStackId": "build"},
        {"Name": "build:Repository", "Value": "repository", "ExportingStackId": "build"},
    ]
    fake_aws.answers["ecr", "DescribeImages"] = refuse("ImageNotFoundException")
    assert (item()["detail"], item()["command"]) == (
        "image tag is not in its repository",
        "npx cdk deploy build",
    )
    fake_aws.answers["ecr", "DescribeImages"] = lambda _: {"imageDetails": [{"imageDigest": DIGEST}]}
    fake_aws.answers["s3", "HeadObject"] = refuse("404", 404)
    assert (item()["detail"], item()["command"]) == (
        "not compiled yet",
        "tokenmill jobs run compile --stack build",
    )
    key = artifact_key({**ARTIFACT, "image_digest": DIGEST})
    wanted: list[str] = []

    def head(parameters: dict[str, Any]) -> dict[str, Any]:
        wanted.append(parameters["Key"])
        return {}

    fake_aws.answers["s3", "HeadObject"] = head
    assert item()["state"] == "ok"
    assert set(wanted) == {manifest_key("compiled/", key)}
    fake_aws.answers["ecr", "DescribeImages"] = refuse("AccessDeniedException")
    assert item()["state"] == "unknown"


def test_a_model_compiled_in_the_same_stack_is_left_to_the_deployment(run: Run, tmp_path: Path) -> None:
    own = compiled()
    own["Properties"]["Bucket"] = {"Ref": "Bucket"}
    found = looked(run, assembly(tmp_path, Demo=template(Check=own)))
    assert not [name for name in found if name.startswith("compiled")]


def test_an_artifact_that_is_no_json_is_refused(run: Run, tmp_path: Path) -> None:
    result = run("doctor", "--assembly", str(assembly(tmp_path, Demo=template(Check=compiled("{")))))
    assert result.exit_code != 0
    assert "Check.Artifact is no JSON" in str(result.exception)


def test_without_credentials_every_item_of_the_account_has_its_command(run: Run, tmp_path: Path) -> None:
    found = looked(run, assembly(tmp_path, Demo=template(Check=compiled(), **pooled())))
    assert found["credentials"]["state"] == "to do"
    waiting = [item for item in found.values() if item["detail"] == "needs credentials"]
    assert len(waiting) == 4
    assert all(item["command"] for item in waiting)
