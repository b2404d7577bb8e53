"""What the examples promise, in one local cloud and through the command line; each deploys into it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support_examples import Examples, alarm_state, publish, requests_file
from tokenmill.local.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

LMI, VLLM = "lmi-vllm", "vllm-sagemaker"
IMAGE = (
    ("    context_tokens=8192,\n", f'    context_tokens=8192,\n    image=image("{LMI}"),\n'),
    (
        "from tokenmill import Capacity, LlmEndpoint, Serving\n",
        "from tokenmill import Capacity, LlmEndpoint, Serving, TokenScaling, TokenScalingPolicy\n"
        "from tokenmill.core.images import image\n",
    ),
    (
        '        cdk.CfnOutput(self, "ComponentName"',
        "        policy = TokenScalingPolicy(target_utilization_percent=70, concurrent_requests_per_copy=6)\n"
        '        TokenScaling(self, "Scaling", endpoint=endpoint, capacity=capacity, policy=policy)\n'
        '        cdk.CfnOutput(self, "ComponentName"',
    ),
)


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Examples]:
    examples = Examples(tmp_path_factory.mktemp("project"))
    examples.start("scale_to_zero")
    try:
        yield examples
    finally:
        examples.stop()


@pytest.fixture(scope="module")
def pool(examples: Examples) -> dict[str, str]:
    """The pool of GPU types with scaling and an image by name, while its first type has no capacity."""
    examples.edit("gpu_fallback_pool", *IMAGE)
    examples.fail(insufficient_capacity=["ml.g6e.2xlarge"])
    try:
        return examples.deployed("gpu_fallback_pool")
    finally:
        examples.fail(insufficient_capacity=[])


@pytest.fixture(scope="module")
def canary(examples: Examples) -> dict[str, str]:
    return examples.deployed("blue_green")


def outputs(examples: Examples, stack: str) -> dict[str, str]:
    [found] = examples.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    return {entry["OutputKey"]: entry["OutputValue"] for entry in found["Outputs"]}


def component(examples: Examples, name: str) -> dict[str, Any]:
    found: dict[str, Any] = examples.client("sagemaker").describe_inference_component(
        InferenceComponentName=name
    )
    return found


def copies(examples: Examples, name: str) -> tuple[str, int, int]:
    found = component(examples, name)
    count = found["RuntimeConfig"]
    return found["InferenceComponentStatus"], count["DesiredCopyCount"], count["CurrentCopyCount"]


def set_copies(examples: Examples, name: str, count: int) -> None:
    examples.client("sagemaker").update_inference_component_runtime_config(
        InferenceComponentName=name, DesiredRuntimeConfig={"CopyCount": count}
    )
    wanted = ("InService", count, count)
    assert wait_until(lambda: copies(examples, name) == wanted, 30), copies(examples, name)


def specified_image(examples: Examples, name: str) -> str:
    found = component(examples, name)
    specification = (found.get("Specifications") or [found.get("Specification")])[0]
    image: str = specification["Container"]["DeployedImage"]["SpecifiedImage"]
    return image


def suspended(examples: Examples, name: str) -> set[bool]:
    [target] = examples.client("application-autoscaling").describe_scalable_targets(
        ServiceNamespace="sagemaker", ResourceIds=[f"inference-component/{name}"]
    )["ScalableTargets"]
    return set(target["SuspendedState"].values())


@pytest.fixture(scope="module", autouse=True)
def sleeper(examples: Examples) -> dict[str, str]:
    """A model without a copy and a request in its queue, which the last test reads the answer of."""
    names = outputs(examples, "scale-to-zero")
    set_copies(examples, names["ComponentName"], 0)
    message = {
        "id": "morning",
        "body": {"messages": [{"role": "user", "content": "good morning"}], "max_tokens": 8},
    }
    examples.client("sqs").send_message(QueueUrl=names["QueueUrl"], MessageBody=json.dumps(message))
    return names


def test_up_shows_outputs_and_how_clients_reach_the_cloud(examples: Examples) -> None:
    """Of an app without a gateway too; `env` names the region as boto3 and the others read it."""
    for line in ("ComponentName scaletozero-llm-", 'AWS clients   eval "$(tokenmill env)"', "modelled means"):
        assert line in examples.log
    exported = examples.run("env").stdout
    assert f"export AWS_ENDPOINT_URL={examples.state.endpoint}\n" in exported
    assert "export AWS_DEFAULT_REGION=us-east-1\n" in exported


def test_each_adapter_is_called_by_its_own_name_also_after_its_base_changed(examples: Examples) -> None:
    names = examples.deployed("lora_adapters")
    endpoint = names["EndpointName"]
    assert examples.ask(endpoint, names["ComponentName"])["model"] == "Qwen/Qwen3-8B"
    for adapter in (names["SupportName"], names["SalesName"]):
        assert examples.ask(endpoint, adapter)["model"] == adapter
    examples.edit("lora_adapters", ("context_tokens=8192", "context_tokens=4096"))
    examples.deployed("lora_adapters")
    assert examples.ask(endpoint, names["SupportName"])["model"] == names["SupportName"]


def test_the_second_type_serves_where_the_first_has_no_capacity(
    examples: Examples, pool: dict[str, str]
) -> None:
    endpoint = examples.client("sagemaker").describe_endpoint(EndpointName=pool["EndpointName"])
    pools = endpoint["ProductionVariants"][0]["InstancePools"]
    counts = {each["InstanceType"]: each["CurrentInstanceCount"] for each in pools}
    assert (counts["ml.g6e.2xlarge"], counts["ml.g6e.4xlarge"]) == (0, 2), counts
    assert examples.ask(pool["EndpointName"], pool["ComponentName"])["model"] == "Qwen/Qwen3-8B"


def test_five_copies_stay_when_the_image_changes(examples: Examples, pool: dict[str, str]) -> None:
    """The template still says two; scaling goes on afterwards."""
    name = pool["ComponentName"]
    set_copies(examples, name, 5)
    before = specified_image(examples, name)
    examples.edit("gpu_fallback_pool", (f'image("{LMI}")', f'image("{VLLM}")'))
    examples.deployed("gpu_fallback_pool")
    assert specified_image(examples, name) != before
    status, desired, current = copies(examples, name)
    assert (status, min(desired, current) >= 5) == ("InService", True), (desired, current)
    assert wait_until(lambda: suspended(examples, name) == {False}, 15)


def test_five_copies_stay_when_the_image_fails_and_the_stack_goes_back(
    examples: Examples, pool: dict[str, str]
) -> None:
    """SageMaker goes back by itself and says InService; the check fails the deployment for it."""
    name = pool["ComponentName"]
    before, served = copies(examples, name), specified_image(examples, name)
    examples.edit("gpu_fallback_pool", (f'image("{VLLM}")', f'image("{LMI}")'))
    examples.fail(unhealthy_images=["djl-inference"])
    try:
        done = examples.up("gpu_fallback_pool")
    finally:
        examples.fail(unhealthy_images=[])
    assert done.returncode != 0, done.stdout
    assert name in done.stderr, done.stderr
    assert examples.stack_status("gpu-fallback-pool") == "UPDATE_ROLLBACK_COMPLETE"
    assert wait_until(lambda: copies(examples, name)[0] == "InService", 15)
    assert copies(examples, name)[1:] == before[1:]
    assert min(copies(examples, name)[1:]) >= 5
    assert specified_image(examples, name) == served
    assert wait_until(lambda: suspended(examples, name) == {False}, 15)


def test_a_canary_goes_through_while_its_alarm_is_quiet(examples: Examples, canary: dict[str, str]) -> None:
    sagemaker = examples.client("sagemaker")
    before = sagemaker.describe_endpoint(EndpointName=canary["EndpointName"])["EndpointConfigName"]
    examples.deployed("blue_green", "-c", "context_tokens=4096")
    after = sagemaker.describe_endpoint(EndpointName=canary["EndpointName"])
    assert after["EndpointConfigName"] != before
    assert after["ProductionVariants"][0]["CurrentInstanceCount"] == 5


def test_a_canary_goes_back_and_the_deployment_fails_when_its_alarm_fires(
    examples: Examples, canary: dict[str, str]
) -> None:
    sagemaker = examples.client("sagemaker")
    before = sagemaker.describe_endpoint(EndpointName=canary["EndpointName"])["EndpointConfigName"]
    publish(examples, namespace="MyService", metric="Errors", value=5)
    assert wait_until(lambda: alarm_state(examples, canary["Alarm"]) == "ALARM", 30)
    done = examples.up("blue_green", "-c", "context_tokens=2048")
    assert done.returncode != 0
    assert "SageMaker rolled the update back" in done.stderr, done.stderr
    assert f"alarm {canary['Alarm']} was in ALARM" in done.stderr
    assert examples.stack_status("blue-green") == "UPDATE_ROLLBACK_COMPLETE"
    after = sagemaker.describe_endpoint(EndpointName=canary["EndpointName"])
    assert (after["EndpointStatus"], after["EndpointConfigName"]) == ("InService", before)
    assert examples.ask(canary["EndpointName"])["choices"]


def test_a_transform_job_answers_a_file(examples: Examples) -> None:
    """Without what it needs it says so before anybody pays; in the local cloud nobody is asked to."""
    names = examples.deployed("batch_transform")
    refused = examples.run("jobs", "run", "transform")
    assert (refused.returncode, "needs input and output" in refused.stderr) == (2, True), refused.stderr
    examples.client("s3").put_object(Bucket=names["Files"], Key="input/july.jsonl", Body=requests_file(3))
    asked = json.dumps({"input": "input/july.jsonl", "output": "output/july"})
    done = examples.run("jobs", "run", "transform", "--input", asked)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "in the local cloud at 127.0.0.1" in done.stdout
    lines = examples.read(names["Files"], "output/july/july.jsonl.out").splitlines()
    assert [len(json.loads(line)["choices"]) for line in lines] == [1, 1, 1]


def test_asynchronous_answers_stand_in_s3_one_by_one_and_by_the_file(examples: Examples) -> None:
    names = examples.deployed("async_endpoint")
    s3 = examples.client("s3")
    s3.put_object(Bucket=names["Files"], Key="input/one.json", Body=requests_file(1))
    queued = examples.client("sagemaker-runtime").invoke_endpoint_async(
        EndpointName=names["EndpointName"],
        InputLocation=f"s3://{names['Files']}/input/one.json",
        ContentType="application/json",
    )
    bucket, _, key = queued["OutputLocation"].removeprefix("s3://").partition("/")
    assert json.loads(examples.read(bucket, key))["choices"]
    s3.put_object(Bucket=names["Files"], Key="input/july.jsonl", Body=requests_file(3))
    asked = json.dumps({"input": "input/july.jsonl", "output": "output/july"})
    done = examples.run("jobs", "run", "fan-out", "--input", asked)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(examples.read(names["Files"], "output/july/summary.json"))["succeeded"] == 3


def test_a_model_is_compiled_before_it_serves_and_another_shape_is_refused(examples: Examples) -> None:
    assert examples.up("trn2_70b", "trn2-build").returncode == 0
    done = examples.run("jobs", "run", "compile", "--stack", "trn2-build")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing was started" in examples.run("jobs", "run", "compile", "--stack", "trn2-build").stdout
    examples.edit("trn2_70b", ("context_tokens=8192", "context_tokens=4096"))
    refused = examples.up("trn2_70b", "trn2-serve")
    assert refused.returncode != 0
    assert "context_tokens 8192 was built, 4096 is asked for" in refused.stderr


def test_a_request_through_the_queue_woke_the_model_and_is_answered(
    examples: Examples, sleeper: dict[str, str]
) -> None:
    """No copy ran; the one message started one and got its answer, without anybody asking again."""
    answer = json.loads(examples.read(sleeper["Answers"], "answers/morning.json", seconds=90))
    assert 'You asked "good' in answer["choices"][0]["message"]["content"]
    assert copies(examples, sleeper["ComponentName"])[2] >= 1
