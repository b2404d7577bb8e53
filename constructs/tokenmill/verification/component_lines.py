"""The lines about inference components that no accelerator is needed for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from tokenmill.verification import component_stack, endpoint_update_lines, endpoints, looking
from tokenmill.verification.aws import ProbeTimeoutError, is_absent
from tokenmill.verification.line import Deployment
from tokenmill.verification.lines import FOOTPRINTS
from tokenmill.verification.probe import Outcome, Verdict, holds

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from tokenmill.verification.aws import Aws
    from tokenmill.verification.component_stack import Place

_SCALED = 2
_ABSENT_PROGRAM = "absent.py"
_ROLELESS = "endpoint-config-role"
_ORDER = (
    "component-arn-name", "metrics-role", "component-capture", "component-variables",
    "copies-survive-update", "copies-by-stack", "failed-update-status", "endpoint-delete-refused",
)  # fmt: skip


def component_lines(aws: Aws, wanted: Collection[str]) -> Iterator[tuple[str, Outcome]]:
    """Try what needs no endpoint, then one endpoint with one component that a stack makes.

    Args:
        aws: The run.
        wanted: Ids of the lines that were asked for.
    """
    if _ROLELESS in wanted:
        yield _ROLELESS, _config_without_role(aws)
    if set(wanted) <= {_ROLELESS}:
        return
    place = component_stack.create_place(aws, capture="component-capture" in wanted)
    if "copy-count-zero" in wanted:
        yield "copy-count-zero", _no_copies(aws, place)
    if set(wanted) <= {_ROLELESS, "copy-count-zero"}:
        return
    arn = component_stack.create_stack(aws, place)
    probes: dict[str, Callable[[], Outcome]] = {
        "component-arn-name": lambda: _arn_name(aws, arn),
        "metrics-role": lambda: _metrics_role(aws, place),
        "component-capture": lambda: endpoint_update_lines.captured(aws, place),
        "component-variables": lambda: endpoint_update_lines.many_variables(aws, place),
        "copies-survive-update": lambda: _copies(aws, place),
        "copies-by-stack": lambda: endpoint_update_lines.copies_alone(aws, place),
        "failed-update-status": lambda: _failed_update(aws, place),
        "endpoint-delete-refused": lambda: _delete_refused(aws, place),
    }
    for line in _ORDER:
        if line in wanted:
            yield line, probes[line]()


def _config_without_role(aws: Aws) -> Outcome:
    name = aws.name("roleless")
    aws.declare("endpoint-config", name)
    variant = endpoints.component_variant(FOOTPRINTS[Deployment.COMPONENT_ENDPOINT].instance)
    return looking.refusal(
        lambda: aws.client("sagemaker").create_endpoint_config(
            EndpointConfigName=name, ProductionVariants=[variant], Tags=aws.tags
        ),
        about="role",
    )


def _no_copies(aws: Aws, place: Place) -> Outcome:
    name = aws.name("none")
    aws.declare("log-group", looking.component_log(name))
    aws.declare("inference-component", name)
    return looking.refusal(
        lambda: aws.client("sagemaker").create_inference_component(
            InferenceComponentName=name,
            EndpointName=place.endpoint,
            VariantName=endpoints.VARIANT,
            Specification=component_stack.specification(aws, place, generation=0),
            RuntimeConfig={"CopyCount": 0},
            Tags=aws.tags,
        ),
        about="cop(y|ies)",
    )


def _arn_name(aws: Aws, arn: str) -> Outcome:
    name = arn.split("/")[1]
    seen: dict[str, Any] = {"arn": arn, "created_as": component_stack.stack_name(aws)}
    try:
        found = component_stack.describe(aws, name)
    except ClientError as error:
        return Outcome(Verdict.FAILS if is_absent(error) else Verdict.UNCLEAR, {**seen, "error": str(error)})
    # The heartbeat and the gateway use the name from the ARN in calls and as a metric dimension.
    described = found["InferenceComponentName"]
    return Outcome(holds(described == name), {**seen, "described_as": described})


def _metrics_role(aws: Aws, place: Place) -> Outcome:
    component = component_stack.stack_name(aws)
    last: dict[str, list[str]] = {}

    def look() -> bool:
        last.update(looking.host_metric_names(aws, place.endpoint, component))
        return all(last.values())

    arrived = looking.or_nothing(lambda: aws.wait("metrics", look, seconds=looking.METRIC_SECONDS))
    return Outcome(holds(bool(arrived)), {"metrics": last})


def _copies(aws: Aws, place: Place) -> Outcome:
    name = component_stack.stack_name(aws)
    aws.client("sagemaker").update_inference_component_runtime_config(
        InferenceComponentName=name, DesiredRuntimeConfig={"CopyCount": _SCALED}
    )
    scaled = component_stack.settled(aws, name)
    before = scaled["RuntimeConfig"]
    if before["CurrentCopyCount"] != _SCALED:
        why = scaled.get("FailureReason", "")
        return Outcome(Verdict.UNCLEAR, {"before": _counts(before), "failure_reason": why})
    component_stack.update_stack(aws, place)
    updated = component_stack.settled(aws, name)
    environment = updated["Specification"]["Container"]["Environment"]
    after = updated["RuntimeConfig"]
    seen = {"before": _counts(before), "after": _counts(after), "generation": environment["GENERATION"]}
    if environment["GENERATION"] != "2":
        return Outcome(Verdict.UNCLEAR, seen)
    return Outcome(holds(after["DesiredCopyCount"] == _SCALED), seen)


def _failed_update(aws: Aws, place: Place) -> Outcome:
    name = component_stack.stack_name(aws)
    broken = component_stack.specification(aws, place, generation=3, program=_ABSENT_PROGRAM)
    aws.client("sagemaker").update_inference_component(InferenceComponentName=name, Specification=broken)
    try:
        found = component_stack.settled(aws, name)
    except ProbeTimeoutError as error:
        return Outcome(Verdict.UNCLEAR, {"error": str(error)})
    status, reason = found["InferenceComponentStatus"], found.get("FailureReason", "")
    program = found["Specification"]["Container"]["Environment"]["SAGEMAKER_PROGRAM"]
    seen = {"status": status, "failure_reason": reason, "program": program}
    if status == "InService" and not reason and program == _ABSENT_PROGRAM:
        # It started after all, so nothing failed.
        return Outcome(Verdict.UNCLEAR, seen)
    return Outcome(holds(status == "InService" and bool(reason)), seen)


def _delete_refused(aws: Aws, place: Place) -> Outcome:
    return looking.refusal(
        lambda: aws.client("sagemaker").delete_endpoint(EndpointName=place.endpoint),
        about="inference component",
    )


def _counts(config: dict[str, Any]) -> dict[str, int]:
    return {name: int(config[name]) for name in ("DesiredCopyCount", "CurrentCopyCount")}
