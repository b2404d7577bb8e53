"""Compiled models in their bucket: looked up, recorded once, and asked for by an endpoint's deployment.

One function has three ways in: the steps ``look`` and ``record`` of the state machine that compiles, and the
custom resource of an endpoint that wants to serve what was compiled.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from tokenmill_runtime import custom_resource
from tokenmill_runtime.aws import ecr, s3
from tokenmill_runtime.compiled_artifact import (
    COMPILED_FOLDER,
    MANIFEST,
    RUN_COMMAND,
    SCHEMA,
    artifact_key,
    described,
    differences,
    manifest_key,
)
from tokenmill_runtime.custom_resource import Answer, Refused, Request

if TYPE_CHECKING:
    from collections.abc import Mapping

RESOURCE_TYPE: Final = "Custom::TokenmillCompiledModel"
# Other artifacts that are read to say what is different: enough for a sentence, few enough for a function.
MOST_COMPARED: Final = 20


def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any] | None:
    """Answer CloudFormation, or do one step of a compiling run.

    Raises Refused where a step cannot be done; its text becomes the run's cause. ValueError for an event that
    is neither.
    """
    if "RequestType" in event:
        custom_resource.run(event, context, {RESOURCE_TYPE: compiled_model})
        return None
    steps = {"look": look, "record": record}
    step = steps.get(str(event.get("step")))
    if step is None:
        raise ValueError(f"step is {event.get('step')!r}; allowed are {', '.join(steps)}")
    return step(event)


def look(event: Mapping[str, Any]) -> dict[str, Any]:
    """Find the image and say whether its artifact is there: ``key``, ``built``, ``image_uri``, ``output``."""
    job = event["job"]
    digest = image_digest(job["repository"], job["tag"])
    key = artifact_key({**job["artifact"], "image_digest": digest})
    manifest = read_manifest(job["bucket"], manifest_key(job["prefix"], key))
    return {
        "key": key,
        "built": manifest is not None,
        "image_digest": digest,
        "image_uri": f"{job['repository_uri']}@{digest}",
        "output": f"s3://{job['bucket']}/{job['prefix']}{key}",
    }


def record(event: Mapping[str, Any]) -> dict[str, Any]:
    """Write the manifest of what a training job left, if it left what it was asked for; never twice.

    Raises Refused where the job's own manifest is missing or names another artifact.
    """
    job, artifact, training = event["job"], event["artifact"], event["training"]
    output = str(training["output"]).rstrip("/") + "/"
    bucket, prefix = _split(output)
    left = read_manifest(bucket, f"{prefix}{COMPILED_FOLDER}/{MANIFEST}")
    if left is None:
        raise Refused(
            f"training job {training['name']} left no {COMPILED_FOLDER}/{MANIFEST} in {output}; see its log"
        )
    if left.get("key") != artifact["key"]:
        raise Refused(
            f"training job {training['name']} compiled {str(left.get('key'))[:16]}, asked for was "
            f"{artifact['key'][:16]}"
        )
    manifest = {
        "schema": SCHEMA,
        "key": artifact["key"],
        "artifact": {**job["artifact"], "image_digest": artifact["image_digest"]},
        "uri": output,
        "job": training["name"],
        "files": len(left["files"]),
        "bytes": sum(int(entry["bytes"]) for entry in left["files"]),
        "seconds": left["seconds"],
    }
    _write_once(job["bucket"], manifest_key(job["prefix"], artifact["key"]), manifest)
    return {"key": artifact["key"], "built": True, "uri": output}


def compiled_model(request: Request) -> Answer:
    """The custom resource of an endpoint: the artifact is there, or the deployment fails and says what to do.

    Raises Refused naming the command that compiles, and how the artifacts that are there differ.
    """
    wanted = request.properties
    if request.kind == "Delete":
        return Answer(physical_id=request.physical_id or request.own_id)
    digest = image_digest(wanted["Repository"], wanted["Tag"])
    document = {**json.loads(wanted["Artifact"]), "image_digest": digest}
    key = artifact_key(document)
    manifest = read_manifest(wanted["Bucket"], manifest_key(wanted["Prefix"], key))
    if manifest is None:
        raise Refused(_missing(wanted, document, key))
    return Answer(
        physical_id=key, data={"Key": key, "Digest": digest, "Uri": manifest["uri"], "Job": manifest["job"]}
    )


def _missing(wanted: Mapping[str, Any], document: Mapping[str, Any], key: str) -> str:
    command = f"{RUN_COMMAND} --stack {wanted['Stack']} --name {wanted['Job']}"
    nearest = _nearest(wanted["Bucket"], wanted["Prefix"], document)
    other = f" (the nearest that is there: {nearest})" if nearest else ""
    return f"no compiled model for {described(document)}, key {key[:16]}{other}; compile it with: {command}"


def _nearest(bucket: str, prefix: str, document: Mapping[str, Any]) -> str:
    found = s3().list_objects_v2(Bucket=bucket, Prefix=prefix, Delimiter="/", MaxKeys=MOST_COMPARED)
    each = []
    for entry in found.get("CommonPrefixes", []):
        manifest = read_manifest(bucket, f"{entry['Prefix']}{MANIFEST}")
        if manifest is not None and manifest["artifact"]["model"] == document["model"]:
            each.append(differences(manifest["artifact"], document))
    return ", ".join(min(each, key=len)[:4]) if each else ""


def image_digest(repository: str, tag: str) -> str:
    """The digest of a tag.

    Raises Refused where the repository has no such image.
    """
    from botocore.exceptions import ClientError

    try:
        found = ecr().describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("ImageNotFoundException", "RepositoryNotFoundException"):
            raise
        raise Refused(
            f"repository {repository} has no image {tag}; deploy the stack that builds it first"
        ) from error
    return str(found["imageDetails"][0]["imageDigest"])


def read_manifest(bucket: str, key: str) -> dict[str, Any] | None:
    """A manifest, or None where there is none."""
    from botocore.exceptions import ClientError

    try:
        body = s3().get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError as error:
        if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
            return None
        raise
    document: dict[str, Any] = json.loads(body)
    if document.get("schema") != SCHEMA:
        raise Refused(
            f"s3://{bucket}/{key} has schema {document.get('schema')!r}; this version reads {SCHEMA}"
        )
    return document


def _write_once(bucket: str, key: str, manifest: Mapping[str, Any]) -> None:
    from botocore.exceptions import ClientError

    body = json.dumps(manifest, indent=1, sort_keys=True).encode()
    try:
        s3().put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/json", IfNoneMatch="*")
    except ClientError as error:
        # "Conditional writes" (Amazon S3): 412 where the object is there; equal keys are equal artifacts.
        if error.response["Error"]["Code"] not in ("PreconditionFailed", "412"):
            raise


def _split(uri: str) -> tuple[str, str]:
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    return bucket, prefix
