"""How each kind of resource goes away; the same code after a probe and after a killed run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from tokenmill.verification.aws import Aws, ProbeTimeoutError, is_absent
from tokenmill.verification.bedrock_teardown import BEDROCK_DELETIONS
from tokenmill.verification.lines import TEARDOWN_MINUTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenmill.verification.ledger import Entry, Ledger

_SECONDS = TEARDOWN_MINUTES * 60.0
# The shortest window; a key that waits for its deletion costs nothing ("AWS Key Management Service pricing").
_KEY_DAYS = 7
_BUSY = ("Creating", "Updating", "SystemUpdating", "RollingBack")


def tear_down(aws: Aws, ledger: Ledger, *, tell: Callable[[str], None]) -> tuple[str, ...]:
    """Delete everything in the ledger that this run may delete, the newest first.

    An entry is struck out only when the resource is known to be gone, so another try can mend a failure.

    Args:
        aws: The run; entries of other accounts, regions or addresses are left alone.
        ledger: What there is to delete.
        tell: Told of every deletion.

    Returns:
        What could not be deleted, one sentence each.
    """
    left: list[str] = []
    blocked = False
    aws.allow(_SECONDS)
    for entry in reversed(ledger.entries):
        trouble = "what was made after it is still there" if blocked else _delete(aws, entry)
        if trouble:
            left.append(f"{entry.kind} {entry.name}: {trouble}")
            # An older resource may be what this one stands on: an endpoint needs its role to go away.
            blocked = blocked or _ours(aws, entry)
            continue
        ledger.remove(entry)
        tell(f"deleted {entry.kind} {entry.name}")
    return tuple(left)


def _delete(aws: Aws, entry: Entry) -> str:
    """Delete one resource; return why that failed, or an empty string."""
    if not _ours(aws, entry):
        return f"it is elsewhere: account {entry.account}, {entry.region}, {entry.endpoint}"
    try:
        _DELETIONS[entry.kind](aws, entry.name)
    except ClientError as error:
        return "" if is_absent(error) else str(error)
    except (BotoCoreError, ProbeTimeoutError) as error:
        return str(error)
    return ""


def _ours(aws: Aws, entry: Entry) -> bool:
    return (aws.account, aws.region, aws.endpoint) == (entry.account, entry.region, entry.endpoint)


def _delete_inference_component(aws: Aws, name: str) -> None:
    client = aws.client("sagemaker")
    _wait_while_busy(
        aws,
        lambda: client.describe_inference_component(InferenceComponentName=name)["InferenceComponentStatus"],
    )
    client.delete_inference_component(InferenceComponentName=name)
    _wait_until_gone(
        aws, f"deleting {name}", lambda: client.describe_inference_component(InferenceComponentName=name)
    )


def _delete_endpoint(aws: Aws, name: str) -> None:
    client = aws.client("sagemaker")
    _wait_while_busy(aws, lambda: client.describe_endpoint(EndpointName=name)["EndpointStatus"])
    client.delete_endpoint(EndpointName=name)
    _wait_until_gone(aws, f"deleting {name}", lambda: client.describe_endpoint(EndpointName=name))


def _delete_endpoint_config(aws: Aws, name: str) -> None:
    aws.client("sagemaker").delete_endpoint_config(EndpointConfigName=name)


def _delete_model(aws: Aws, name: str) -> None:
    aws.client("sagemaker").delete_model(ModelName=name)


def _delete_role(aws: Aws, name: str) -> None:
    client = aws.client("iam")
    for policy in client.list_role_policies(RoleName=name)["PolicyNames"]:
        client.delete_role_policy(RoleName=name, PolicyName=policy)
    client.delete_role(RoleName=name)


def _delete_bucket(aws: Aws, name: str) -> None:
    client = aws.client("s3")
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=name):
        for item in page.get("Contents", []):
            client.delete_object(Bucket=name, Key=item["Key"])
    client.delete_bucket(Bucket=name)


def _delete_log_group(aws: Aws, name: str) -> None:
    aws.client("logs").delete_log_group(logGroupName=name)


def _delete_function(aws: Aws, name: str) -> None:
    aws.client("lambda").delete_function(FunctionName=name)


def _delete_rest_api(aws: Aws, name: str) -> None:
    client = aws.client("apigateway")
    # The service chooses the id, and the answer with it may have been lost: the name is ours.
    for page in client.get_paginator("get_rest_apis").paginate():
        for api in page["items"]:
            if api["name"] == name:
                client.delete_rest_api(restApiId=api["id"])


def _delete_stack(aws: Aws, name: str) -> None:
    client = aws.client("cloudformation")
    # The stack's component has its name; neither can be deleted while it is being changed.
    try:
        _wait_while_busy(aws, lambda: _component_status(aws, name))
    except ClientError as error:
        if not is_absent(error):
            raise
    aws.wait(
        "the end of an update",
        lambda: (
            not client.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"].endswith("IN_PROGRESS")
        ),
        seconds=_SECONDS,
    )
    client.delete_stack(StackName=name)
    _wait_until_gone(aws, f"deleting {name}", lambda: client.describe_stacks(StackName=name))


def _component_status(aws: Aws, name: str) -> str:
    found = aws.client("sagemaker").describe_inference_component(InferenceComponentName=name)
    return str(found["InferenceComponentStatus"])


def _delete_rule(aws: Aws, name: str) -> None:
    client = aws.client("events")
    targets = [target["Id"] for target in client.list_targets_by_rule(Rule=name)["Targets"]]
    if targets:
        client.remove_targets(Rule=name, Ids=targets)
    client.delete_rule(Name=name)


def _delete_queue(aws: Aws, name: str) -> None:
    client = aws.client("sqs")
    client.delete_queue(QueueUrl=client.get_queue_url(QueueName=name)["QueueUrl"])


def _delete_key(aws: Aws, name: str) -> None:
    client = aws.client("kms")
    # The service chooses the id, and the answer with it may have been lost: the description is ours.
    for page in client.get_paginator("list_keys").paginate():
        for key in page["Keys"]:
            try:
                found = client.describe_key(KeyId=key["KeyId"])["KeyMetadata"]
            except ClientError as error:
                # A key of somebody else may not be looked at; ours may, by its policy.
                if error.response["Error"]["Code"] != "AccessDeniedException":
                    raise
                continue
            if found.get("Description") == name and found["KeyState"] != "PendingDeletion":
                client.schedule_key_deletion(KeyId=key["KeyId"], PendingWindowInDays=_KEY_DAYS)


def _delete_topic(aws: Aws, name: str) -> None:
    arn = f"arn:{aws.partition}:sns:{aws.region}:{aws.account}:{name}"
    aws.client("sns").delete_topic(TopicArn=arn)


def _delete_alarm(aws: Aws, name: str) -> None:
    aws.client("cloudwatch").delete_alarms(AlarmNames=[name])


def _delete_scalable_target(aws: Aws, name: str) -> None:
    # Its policies, scheduled actions and alarms go with it ("DeregisterScalableTarget").
    aws.client("application-autoscaling").deregister_scalable_target(
        ServiceNamespace="sagemaker", ResourceId=name, ScalableDimension=scalable_dimension(name)
    )


def scalable_dimension(resource_id: str) -> str:
    """Return what scales of a component or a variant.

    Args:
        resource_id: Application Auto Scaling's name of it.
    """
    if resource_id.startswith("endpoint/"):
        return "sagemaker:variant:DesiredInstanceCount"
    return "sagemaker:inference-component:DesiredCopyCount"


def _delete_build_project(aws: Aws, name: str) -> None:
    aws.client("codebuild").delete_project(name=name)


def _delete_repository(aws: Aws, name: str) -> None:
    aws.client("ecr").delete_repository(repositoryName=name, force=True)


def _delete_state_machine(aws: Aws, name: str) -> None:
    client = aws.client("stepfunctions")
    arn = f"arn:{aws.partition}:states:{aws.region}:{aws.account}:stateMachine:{name}"
    client.delete_state_machine(stateMachineArn=arn)
    _wait_until_gone(aws, f"deleting {name}", lambda: client.describe_state_machine(stateMachineArn=arn))


def _delete_training_job(aws: Aws, name: str) -> None:
    """Stop a job that runs; the record of one that has ended stays and costs nothing."""
    client = aws.client("sagemaker")
    _end_job(
        aws,
        lambda: client.describe_training_job(TrainingJobName=name)["TrainingJobStatus"],
        lambda: client.stop_training_job(TrainingJobName=name),
    )


def _delete_transform_job(aws: Aws, name: str) -> None:
    client = aws.client("sagemaker")
    _end_job(
        aws,
        lambda: client.describe_transform_job(TransformJobName=name)["TransformJobStatus"],
        lambda: client.stop_transform_job(TransformJobName=name),
    )


def _end_job(aws: Aws, status: Callable[[], str], stop: Callable[[], Any]) -> None:
    if status() == "InProgress":
        stop()
    aws.wait("the end of a job", lambda: status() not in ("InProgress", "Stopping"), seconds=_SECONDS)


def _wait_while_busy(aws: Aws, status: Callable[[], str]) -> None:
    aws.wait("the end of an update", lambda: status() not in _BUSY, seconds=_SECONDS)


def _wait_until_gone(aws: Aws, what: str, look: Callable[[], Any]) -> None:
    def gone() -> bool:
        try:
            look()
        except ClientError as error:
            if not is_absent(error):
                raise
            return True
        return False

    aws.wait(what, gone, seconds=_SECONDS)


_DELETIONS: dict[str, Callable[[Aws, str], None]] = {
    "inference-component": _delete_inference_component,
    "endpoint": _delete_endpoint,
    "endpoint-config": _delete_endpoint_config,
    "model": _delete_model,
    "role": _delete_role,
    "bucket": _delete_bucket,
    "log-group": _delete_log_group,
    "function": _delete_function,
    "rest-api": _delete_rest_api,
    "stack": _delete_stack,
    "rule": _delete_rule,
    "queue": _delete_queue,
    "key": _delete_key,
    "topic": _delete_topic,
    "alarm": _delete_alarm,
    "scalable-target": _delete_scalable_target,
    "build-project": _delete_build_project,
    "repository": _delete_repository,
    "state-machine": _delete_state_machine,
    "training-job": _delete_training_job,
    "transform-job": _delete_transform_job,
    **BEDROCK_DELETIONS,
}
