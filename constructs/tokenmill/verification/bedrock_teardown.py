"""How resources of Amazon Bedrock go away; the service chooses most ids, and the names are ours."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from tokenmill.verification.aws import is_absent
from tokenmill.verification.lines import TEARDOWN_MINUTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tokenmill.verification.aws import Aws

_SECONDS = TEARDOWN_MINUTES * 60.0
# How often units must be missing, a pause apart, before they are taken to be gone: lists may be late.
_LOOKS = 4
_RUNNING = ("Submitted", "Validating", "Scheduled", "InProgress")
_ENDING = ("Stopping",)


def _listed(aws: Aws, service: str, operation: str, key: str, **asked: Any) -> Iterator[dict[str, Any]]:
    for page in aws.client(service).get_paginator(operation).paginate(**asked):
        yield from page[key]


def _delete_profile(aws: Aws, name: str) -> None:
    found = _listed(
        aws, "bedrock", "list_inference_profiles", "inferenceProfileSummaries", typeEquals="APPLICATION"
    )
    for profile in [profile for profile in found if profile["inferenceProfileName"] == name]:
        arn = profile["inferenceProfileArn"]
        aws.client("bedrock").delete_inference_profile(inferenceProfileIdentifier=arn)


def _delete_router(aws: Aws, name: str) -> None:
    found = _listed(aws, "bedrock", "list_prompt_routers", "promptRouterSummaries", type="custom")
    for router in [router for router in found if router["promptRouterName"] == name]:
        aws.client("bedrock").delete_prompt_router(promptRouterArn=router["promptRouterArn"])


def _delete_guardrail(aws: Aws, name: str) -> None:
    found = _listed(aws, "bedrock", "list_guardrails", "guardrails")
    for guardrail in [guardrail for guardrail in found if guardrail["name"] == name]:
        aws.client("bedrock").delete_guardrail(guardrailIdentifier=guardrail["id"])


def _delete_prompt(aws: Aws, name: str) -> None:
    found = _listed(aws, "bedrock-agent", "list_prompts", "promptSummaries")
    for prompt in [prompt for prompt in found if prompt["name"] == name]:
        aws.client("bedrock-agent").delete_prompt(promptIdentifier=prompt["id"])


def _delete_units(aws: Aws, name: str) -> None:
    """Delete every purchase of a name: a probe that asks twice may have been sold two."""
    client = aws.client("bedrock")
    missed = 0

    def step() -> bool:
        nonlocal missed
        there = _units(aws, name)
        missed = 0 if there else missed + 1
        for arn, status in there.items():
            if status not in ("Creating", "Updating"):
                _unless_absent(partial(client.delete_provisioned_model_throughput, provisionedModelId=arn))
        return missed >= _LOOKS

    aws.wait(f"deleting units {name}", step, seconds=_SECONDS)


def _units(aws: Aws, name: str) -> dict[str, str]:
    found = _listed(
        aws,
        "bedrock",
        "list_provisioned_model_throughputs",
        "provisionedModelSummaries",
        nameContains=name,
    )
    arns = {units["provisionedModelArn"]: units["status"] for units in found}
    by_name = _unless_absent(
        lambda: aws.client("bedrock").get_provisioned_model_throughput(provisionedModelId=name)
    )
    return {**arns, by_name["provisionedModelArn"]: by_name["status"]} if by_name else arns


def _unless_absent(call: Callable[[], Any], *, or_refused: str = "ConflictException") -> Any:
    try:
        return call()
    except ClientError as error:
        if not is_absent(error) and error.response["Error"]["Code"] != or_refused:
            raise
        return None


def _delete_logging(aws: Aws, name: str) -> None:
    client = aws.client("bedrock")
    found = client.get_model_invocation_logging_configuration().get("loggingConfig") or {}
    # The account has one setting: only what writes into the run's own log group is the run's.
    if found.get("cloudWatchConfig", {}).get("logGroupName") == name:
        client.delete_model_invocation_logging_configuration()


def _stop_invocation_job(aws: Aws, name: str) -> None:
    """Stop a job that runs; the record of one that has ended stays and costs nothing."""
    client = aws.client("bedrock")

    def step() -> bool:
        found = _listed(
            aws, "bedrock", "list_model_invocation_jobs", "invocationJobSummaries", nameContains=name
        )
        live = {job["jobArn"]: job["status"] for job in found if job["status"] in (*_RUNNING, *_ENDING)}
        for arn, status in live.items():
            if status in _RUNNING:
                # One that ended since is refused; one that did not is asked again, until there is none.
                stop = partial(client.stop_model_invocation_job, jobIdentifier=arn)
                _unless_absent(stop, or_refused="ValidationException")
        return not live

    aws.wait("the end of a job", step, seconds=_SECONDS)


def _stop_customization_job(aws: Aws, name: str) -> None:
    client = aws.client("bedrock")

    def status() -> str:
        return str(client.get_model_customization_job(jobIdentifier=name)["status"])

    if status() == "InProgress":
        client.stop_model_customization_job(jobIdentifier=name)
    aws.wait("the end of a job", lambda: status() not in ("InProgress", "Stopping"), seconds=_SECONDS)
    _unless_absent(lambda: client.delete_custom_model(modelIdentifier=name))


def _delete_custom_model(aws: Aws, name: str) -> None:
    aws.client("bedrock").delete_custom_model(modelIdentifier=name)


def _delete_imported_model(aws: Aws, name: str) -> None:
    client = aws.client("bedrock")

    # An import cannot be stopped: its model is deleted when it is there.
    def running() -> bool:
        found = _listed(
            aws, "bedrock", "list_model_import_jobs", "modelImportJobSummaries", nameContains=name
        )
        return any(job["status"] == "InProgress" for job in found)

    aws.wait("the end of an import", lambda: not running(), seconds=_SECONDS)
    client.delete_imported_model(modelIdentifier=name)


def _delete_deployment(aws: Aws, name: str) -> None:
    client = aws.client("bedrock")

    def step() -> bool:
        found = _unless_absent(
            lambda: client.get_custom_model_deployment(customModelDeploymentIdentifier=name)
        )
        if found is None:
            return True
        _unless_absent(lambda: client.delete_custom_model_deployment(customModelDeploymentIdentifier=name))
        return False

    aws.wait(f"deleting {name}", step, seconds=_SECONDS)


BEDROCK_DELETIONS: dict[str, Callable[[Aws, str], None]] = {
    "inference-profile": _delete_profile,
    "prompt-router": _delete_router,
    "guardrail": _delete_guardrail,
    "prompt": _delete_prompt,
    "provisioned-model": _delete_units,
    "invocation-logging": _delete_logging,
    "invocation-job": _stop_invocation_job,
    "customization-job": _stop_customization_job,
    "custom-model": _delete_custom_model,
    "imported-model": _delete_imported_model,
    "model-deployment": _delete_deployment,
}
