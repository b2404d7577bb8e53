"""An imported model, and on-demand deployments of custom models that the account has."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import urllib3

from tokenmill.core.errors import TokenmillError
from tokenmill.security import actions
from tokenmill.verification import bedrock_asks
from tokenmill.verification.bedrock_asks import told, tried
from tokenmill.verification.bedrock_model_lines import metric_of
from tokenmill.verification.probe import Outcome, Verdict, create_bucket, create_role, holds

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from tokenmill.verification.aws import Aws

# The smallest of an architecture that Bedrock imports ("Import a customized model into Amazon Bedrock").
MODEL = "Qwen/Qwen2.5-0.5B-Instruct"
HUB = "https://huggingface.co"
FOLDER = "model"
_FILES = (".json", ".safetensors", ".txt")
_IMPORT_SECONDS = 90 * 60
_READY_SECONDS = 15 * 60
_DEPLOY_SECONDS = 30 * 60
_SERVICE = "bedrock.amazonaws.com"


def import_lines(aws: Aws, wanted: Collection[str]) -> Iterator[tuple[str, Outcome]]:
    """Import a small model, read it by name and ask it.

    Args:
        aws: The run.
        wanted: Ids of the lines that were asked for.
    """
    bucket = create_bucket(aws, "import")
    _upload(aws, bucket)
    # Made before the job, so that it is known everywhere when the job ends.
    models = f"arn:{aws.partition}:bedrock:{aws.region}:{aws.account}:imported-model/*"
    reader = bedrock_asks.caller(
        aws, "importer", bedrock_asks.allow(actions.IMPORTED_MODEL_READ, models), service="bedrock"
    )
    arn = _import(aws, bucket)
    if "imported-by-name" in wanted:
        name = aws.name("imported")
        yield "imported-by-name", by_name(lambda: reader.get_imported_model(modelIdentifier=name), arn)
    if "imported-metric-id" in wanted:
        call = _patient(aws, arn)
        yield "imported-metric-id", tried(lambda: metric_of(aws, arn, call, wanted=arn))


def by_name(read: Callable[[], dict[str, Any]], arn: str) -> Outcome:
    """Return whether a role with rights on all ARNs of a kind reads a model by its name at once.

    Args:
        read: Reads it.
        arn: What its ARN is.
    """
    found: dict[str, Any] = {}
    refused = told(lambda: found.update(read()))
    seen = {"asked_for": arn, "found": found.get("modelArn", ""), **refused}
    if refused["code"] in ("", "ResourceNotFoundException", "ValidationException", *bedrock_asks.DENIED):
        return Outcome(holds(seen["found"] == arn), seen)
    return Outcome(Verdict.UNCLEAR, seen)


def _upload(aws: Aws, bucket: str) -> None:
    http = urllib3.PoolManager()
    described = json.loads(_get(http, f"{HUB}/api/models/{MODEL}").data)
    names = [item["rfilename"] for item in described["siblings"]]
    for name in names:
        if name.endswith(_FILES):
            content = _get(http, f"{HUB}/{MODEL}/resolve/{described['sha']}/{name}", preload_content=False)
            aws.client("s3").upload_fileobj(content, bucket, f"{FOLDER}/{name}")
            content.release_conn()


def _get(http: urllib3.PoolManager, url: str, *, preload_content: bool = True) -> urllib3.BaseHTTPResponse:
    answer = http.request("GET", url, preload_content=preload_content, timeout=60)
    if answer.status != 200:
        raise TokenmillError(f"{url} answered {answer.status}")
    return answer


def _import(aws: Aws, bucket: str) -> str:
    client, name = aws.client("bedrock"), aws.name("imported")
    role = create_role(aws, "import", service=_SERVICE, actions=("s3:GetObject", "s3:ListBucket"))
    aws.declare("imported-model", name)
    job = aws.settle(
        lambda: client.create_model_import_job(
            jobName=name,
            importedModelName=name,
            roleArn=role,
            modelDataSource={"s3DataSource": {"s3Uri": f"s3://{bucket}/{FOLDER}/"}},
            clientRequestToken=name,
            importedModelTags=bedrock_asks.tags(aws),
        ),
        codes=("ValidationException", *bedrock_asks.DENIED),
    )["jobArn"]

    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = client.get_model_import_job(jobIdentifier=job)
        return None if found["status"] == "InProgress" else found

    ended = aws.wait(f"import {name}", look, seconds=_IMPORT_SECONDS)
    if ended["status"] != "Completed":
        raise TokenmillError(f"import {name} is {ended['status']}: {ended.get('failureMessage', '')}")
    return str(ended["importedModelArn"])


def _patient(aws: Aws, arn: str) -> Callable[[], object]:
    """Return a call of a model that may first have to be loaded."""

    def answered() -> bool:
        refused = told(lambda: bedrock_asks.ask(aws.client("bedrock-runtime"), arn))
        if refused["code"] not in ("", "ModelNotReadyException"):
            raise TokenmillError(f"{arn} answered {refused['code']}: {refused['message']}")
        return not refused["code"]

    return lambda: aws.wait(f"an answer of {arn}", answered, seconds=_READY_SECONDS)


def deployment_lines(aws: Aws, wanted: Collection[str]) -> Iterator[tuple[str, Outcome]]:
    """Deploy a custom model that the account has, ask it, change it, delete it, and deploy it again.

    Args:
        aws: The run.
        wanted: Ids of the lines that were asked for.
    """
    models = _custom_models(aws)
    if not models:
        for line in wanted:
            yield line, Outcome(Verdict.UNCLEAR, {"custom_models": 0})
        return
    if "custom-by-name" in wanted:
        yield "custom-by-name", _custom_by_name(aws, models[0])
    name = aws.name("deployed")
    aws.declare("model-deployment", name)
    refused = told(lambda: _deploy(aws, models[0]))
    seen = {"model": models[0], **refused}
    if refused["code"]:
        of_kind = refused["code"] == "ValidationException"
        yield "custom-on-demand", Outcome(Verdict.FAILS if of_kind else Verdict.UNCLEAR, seen)
        return
    deployed = _settled(aws)
    yield "custom-on-demand", Outcome(holds(deployed["status"] == "Active"), {**seen, **_short(deployed)})
    if deployed["status"] != "Active":
        return
    arn = deployed["customModelDeploymentArn"]
    if "deployment-metric-id" in wanted:
        yield "deployment-metric-id", tried(lambda: metric_of(aws, arn, _patient(aws, arn), wanted=arn))
    if "deployment-failed-update" in wanted:
        yield "deployment-failed-update", tried(lambda: _failed_update(aws, models))
    if "deployment-name-freed" in wanted:
        yield "deployment-name-freed", tried(lambda: _name_freed(aws, models[0]))


def _custom_models(aws: Aws) -> list[dict[str, str]]:
    pages = aws.client("bedrock").get_paginator("list_custom_models").paginate(modelStatus="Active")
    return [
        {"arn": model["modelArn"], "name": model["modelName"], "base": model["baseModelArn"]}
        for page in pages
        for model in page["modelSummaries"]
    ]


def _custom_by_name(aws: Aws, model: dict[str, str]) -> Outcome:
    models = f"arn:{aws.partition}:bedrock:{aws.region}:{aws.account}:custom-model/*"
    reader = bedrock_asks.caller(
        aws, "customs", bedrock_asks.allow(actions.CUSTOM_MODEL_READ, models), service="bedrock"
    )

    def read() -> dict[str, Any]:
        found: dict[str, Any] = aws.settle(
            lambda: reader.get_custom_model(modelIdentifier=model["name"]), codes=bedrock_asks.DENIED
        )
        return found

    return by_name(read, model["arn"])


def _deploy(aws: Aws, model: dict[str, str], attempt: str = "first") -> None:
    aws.client("bedrock").create_custom_model_deployment(
        modelDeploymentName=aws.name("deployed"),
        modelArn=model["arn"],
        tags=bedrock_asks.tags(aws),
        clientRequestToken=f"{aws.run}{attempt}",
    )


def _settled(aws: Aws) -> dict[str, Any]:
    client, name = aws.client("bedrock"), aws.name("deployed")

    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = client.get_custom_model_deployment(customModelDeploymentIdentifier=name)
        changing = found.get("updateDetails", {}).get("updateStatus") == "Updating"
        return None if found["status"] == "Creating" or changing else found

    deployed: dict[str, Any] = aws.wait(f"deployment {name}", look, seconds=_DEPLOY_SECONDS)
    return deployed


def _short(deployed: dict[str, Any]) -> dict[str, Any]:
    return {key: deployed.get(key) for key in ("status", "modelArn", "updateDetails", "failureMessage")}


def _failed_update(aws: Aws, models: list[dict[str, str]]) -> Outcome:
    """Change a deployment to a model of another base, which is the likeliest to fail."""
    client, first = aws.client("bedrock"), models[0]
    others = [model for model in models if model["base"] != first["base"]]
    if not others:
        return Outcome(Verdict.UNCLEAR, {"models_of_another_base": 0})
    refused = told(
        lambda: client.update_custom_model_deployment(
            customModelDeploymentIdentifier=aws.name("deployed"), modelArn=others[0]["arn"]
        )
    )
    deployed = _settled(aws)
    seen = {"asked_for": others[0], **refused, **_short(deployed)}
    if deployed.get("updateDetails", {}).get("updateStatus") != "UpdateFailed":
        return Outcome(Verdict.UNCLEAR, seen)
    answered = told(
        lambda: bedrock_asks.ask(aws.client("bedrock-runtime"), deployed["customModelDeploymentArn"])
    )
    return Outcome(
        holds(deployed["modelArn"] == first["arn"] and not answered["code"]), {**seen, "call": answered}
    )


def _name_freed(aws: Aws, model: dict[str, str]) -> Outcome:
    client, name = aws.client("bedrock"), aws.name("deployed")
    client.delete_custom_model_deployment(customModelDeploymentIdentifier=name)

    def gone() -> bool:
        look = told(lambda: client.get_custom_model_deployment(customModelDeploymentIdentifier=name))
        return bool(look["code"])

    aws.wait(f"deleting {name}", gone, seconds=_DEPLOY_SECONDS)
    refused = told(lambda: _deploy(aws, model, "again"))
    if refused["code"] in ("", "ValidationException", "ConflictException"):
        return Outcome(holds(not refused["code"]), refused)
    return Outcome(Verdict.UNCLEAR, refused)
