"""The custom resource of model invocation logging, which an account has once in a region.

Properties: ``Parameter`` (name of the SSM parameter that says who owns the setting), ``CloudWatch``
({"LogGroup", "Role", "LargeDataBucket", "LargeDataPrefix"}), ``S3`` ({"Bucket", "Prefix"}), either may be
left out, ``Data`` (what is logged, of text, image, embedding, video and audio, joined by blanks) and
``ReplaceExisting`` ("true" takes a setting over that no stack owns, and puts it back in the end). The
physical id follows from the stack and the resource. Returned is ``Parameter``.

Bedrock keeps one setting and no owner ("PutModelInvocationLoggingConfiguration", Amazon Bedrock API
Reference); the parameter is the owner, and SSM makes it once, so that of two stacks one is refused. It holds
what was set before, and what each resource of the stack has set: two while a template gives the resource
another name. Deleting undoes what the resource has set where that still stands, and only that. Bedrock looks
whether it may write where it is told to, so a role that was just made may take a while.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final

from tokenmill_runtime import aws
from tokenmill_runtime.custom_resource import Answer, Refused, Request
from tokenmill_runtime.waited_resource import error_code, error_message

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RESOURCE_TYPE: Final = "Custom::TokenmillInvocationLogging"
# How long a new role or bucket policy may take to be seen by Bedrock.
PERMISSION_SECONDS: Final = 180
KINDS: Final = ("text", "image", "embedding", "video", "audio")
Config = dict[str, Any]
# {"stack": ARN, "holders": [{"resource": logical id, "applied": [Config, ...]}], "previous": Config or None}
Ledger = dict[str, Any]


class InvocationLoggingResource:
    """The setting from its first request to its last; see the module."""

    def begin(self, request: Request) -> str:
        """The physical id; nothing is looked at or changed.

        Raises Refused for properties that name no destination or an unknown kind of data.
        """
        if request.kind != "Delete":
            wanted_config(request.properties)
        return request.own_id

    def advance(self, request: Request) -> Answer | None:
        """Set the setting, or undo it; None while Bedrock cannot write where it is told to yet.

        Raises Refused where another stack owns the setting, where somebody else made one, and where Bedrock
        still may not write after three minutes.
        """
        return _undo(request) if request.kind == "Delete" else _set(request)


def wanted_config(properties: Mapping[str, Any]) -> Config:
    """The request's LoggingConfig (botocore: shape of PutModelInvocationLoggingConfiguration).

    Raises Refused for properties that name no destination or an unknown kind of data.
    """
    kinds = str(properties.get("Data", "")).split()
    unknown = sorted({*kinds} - {*KINDS})
    if unknown or not kinds:
        raise Refused(f"Data is {' '.join(kinds)!r}; name at least one of {', '.join(KINDS)}")
    config: Config = {f"{kind}DataDeliveryEnabled": kind in kinds for kind in KINDS}
    logs, bucket = properties.get("CloudWatch"), properties.get("S3")
    if logs:
        config["cloudWatchConfig"] = {"logGroupName": logs["LogGroup"], "roleArn": logs["Role"]}
        if logs.get("LargeDataBucket"):
            large = {"Bucket": logs["LargeDataBucket"], "Prefix": logs.get("LargeDataPrefix", "")}
            config["cloudWatchConfig"]["largeDataDeliveryS3Config"] = _s3(large)
    if bucket:
        config["s3Config"] = _s3(bucket)
    if not (logs or bucket):
        raise Refused("neither CloudWatch nor S3 is given; name one place that logs go to")
    return config


def _s3(place: Mapping[str, str]) -> Config:
    prefix = place.get("Prefix", "")
    return {"bucketName": place["Bucket"], **({"keyPrefix": prefix} if prefix else {})}


def _set(request: Request) -> Answer | None:
    wanted = wanted_config(request.properties)
    ledger = _own(request, wanted)
    try:
        aws.bedrock().put_model_invocation_logging_configuration(loggingConfig=wanted)
    except Exception as error:
        if error_code(error) != "ValidationException":
            raise
        if request.budget.spent < PERMISSION_SECONDS:
            print(f"called again after {error_message(error)}", file=sys.stderr, flush=True)
            return None
        if request.kind == "Create":
            _release(request, ledger)
        raise Refused(
            f"Bedrock does not take the logging destinations: {error_message(error)}; the role must trust "
            "bedrock.amazonaws.com and write to the log group, the bucket's policy and key must let "
            "bedrock.amazonaws.com write",
            code="destination",
        ) from error
    return Answer(physical_id=request.own_id, data={"Parameter": request.properties["Parameter"]})


def _own(request: Request, wanted: Config) -> Ledger:
    """The ledger with what is about to be set; it is written first, so that a crash leaves it undoable."""
    ledger = _ledger(request)
    if ledger is None:
        return _claim(request, wanted)
    _refuse_owner(request, ledger)
    holders = ledger["holders"]
    mine = [holder for holder in holders if holder["resource"] == request.logical_id]
    # What this resource set before may still be what is set.
    applied = [*(mine[0]["applied"][-1:] if mine else []), wanted]
    holder = {"resource": request.logical_id, "applied": applied[-1:] if applied[0] == wanted else applied}
    others = [other for other in holders if other["resource"] != request.logical_id]
    if holders[-1:] != [holder]:
        ledger = {**ledger, "holders": [*others, holder]}
        _write(request, ledger, overwrite=True)
    return ledger


def _claim(request: Request, wanted: Config) -> Ledger:
    current = _current()
    if current is not None and str(request.properties.get("ReplaceExisting", "")).lower() != "true":
        raise Refused(
            "model invocation logging is on in this account and region, and no stack of tokenmill owns it; "
            f"its logs go to {_places(current)}; set replace_existing=True to take it over until this stack "
            "is deleted, or delete it: aws bedrock delete-model-invocation-logging-configuration",
            code="existing",
        )
    ledger: Ledger = {
        "stack": request.stack_id,
        "holders": [{"resource": request.logical_id, "applied": [wanted]}],
        "previous": current,
    }
    try:
        _write(request, ledger, overwrite=False)
    except Exception as error:
        if error_code(error) != "ParameterAlreadyExists":
            raise
        # Another stack was faster, or the answer to this request's first attempt was lost.
        found = _ledger(request)
        if found is None:
            raise
        _refuse_owner(request, found)
        return found
    return ledger


def _refuse_owner(request: Request, ledger: Ledger) -> None:
    if ledger["stack"] == request.stack_id:
        return
    raise Refused(
        "model invocation logging is one setting for this account and region, and stack "
        f"{_stack_name(ledger['stack'])} owns it (resource {ledger['holders'][-1]['resource']}); remove it "
        "there, or take InvocationLogging out of this stack; if that stack is gone: aws ssm "
        f"delete-parameter --name {request.properties['Parameter']}",
        code="owner",
    )


def _undo(request: Request) -> Answer:
    ledger = _ledger(request)
    if ledger is not None and ledger["stack"] == request.stack_id:
        _release(request, ledger)
    return Answer(physical_id=request.physical_id or request.own_id)


def _release(request: Request, ledger: Ledger) -> None:
    """Undo what this resource has set, where it still stands, and strike it off the ledger."""
    mine = [holder for holder in ledger["holders"] if holder["resource"] == request.logical_id]
    others = [holder for holder in ledger["holders"] if holder["resource"] != request.logical_id]
    current = _current()
    if current is not None and any(_stands(config, current) for held in mine for config in held["applied"]):
        _restore(others[-1]["applied"][-1] if others else ledger["previous"])
    if others:
        _write(request, {**ledger, "holders": others}, overwrite=True)
    elif mine:
        _forget(request)


def _restore(previous: Config | None) -> None:
    client = aws.bedrock()
    if previous is not None:
        try:
            client.put_model_invocation_logging_configuration(loggingConfig=previous)
            return
        except Exception as error:
            if error_code(error) != "ValidationException":
                raise
            reason = error_message(error)
            print(f"what was set before cannot be set again: {reason}", file=sys.stderr, flush=True)
    client.delete_model_invocation_logging_configuration()


def _stands(applied: Config, current: Config) -> bool:
    """Whether a setting is still what was applied; what Bedrock adds by itself does not count."""
    places = ("cloudWatchConfig", "s3Config")
    flags = [f"{kind}DataDeliveryEnabled" for kind in KINDS]
    return all(_filled(applied.get(key)) == _filled(current.get(key)) for key in places) and all(
        bool(applied.get(flag)) == bool(current.get(flag)) for flag in flags if flag in current
    )


def _filled(value: Any) -> Any:
    if isinstance(value, dict):
        filled = {key: _filled(inner) for key, inner in value.items()}
        return {key: inner for key, inner in filled.items() if inner}
    return value


def _current() -> Config | None:
    answer = aws.bedrock().get_model_invocation_logging_configuration()
    found: Config | None = answer.get("loggingConfig") or None
    return found


def _places(config: Config) -> str:
    logs = config.get("cloudWatchConfig", {}).get("logGroupName", "")
    bucket = config.get("s3Config", {}).get("bucketName", "")
    named: Sequence[str] = [
        *([f"log group {logs}"] if logs else []),
        *([f"bucket {bucket}"] if bucket else []),
    ]
    return " and ".join(named) or "nowhere"


def _stack_name(stack_id: str) -> str:
    parts = stack_id.split("/")
    return parts[1] if len(parts) > 1 else stack_id


def _ledger(request: Request) -> Ledger | None:
    try:
        answer = aws.ssm().get_parameter(Name=request.properties["Parameter"])
    except Exception as error:
        if error_code(error) == "ParameterNotFound":
            return None
        raise
    found: Ledger = json.loads(answer["Parameter"]["Value"])
    return found


def _write(request: Request, ledger: Ledger, *, overwrite: bool) -> None:
    aws.ssm().put_parameter(
        Name=request.properties["Parameter"],
        Value=json.dumps(ledger, separators=(",", ":")),
        Description="Which stack owns model invocation logging in this account and region",
        Type="String",
        # A standard parameter has 4 KB, which long names could fill.
        Tier="Intelligent-Tiering",
        Overwrite=overwrite,
    )


def _forget(request: Request) -> None:
    try:
        aws.ssm().delete_parameter(Name=request.properties["Parameter"])
    except Exception as error:
        if error_code(error) != "ParameterNotFound":
            raise
