"""Every private name of MiniStack that the local cloud uses, in one place; a contract test checks them.

MiniStack is pinned to one version. When the pin moves, `missing_seams()` names what is gone.
"""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tokenmill.local.aws_requests import Scope
    from tokenmill.local.cloudwatch.alarms import MetricQuery
    from tokenmill.local.cloudwatch.emf import Datum

VERSION = "1.5.33"

CLOUDFORMATION = "ministack.services.cloudformation"
_CLOUDWATCH = "ministack.services.cloudwatch"
_LOGS = "ministack.services.cloudwatch_logs"
_STATES = "ministack.services.stepfunctions"
_EVENTS = "ministack.services.eventbridge"
_ECR = "ministack.services.ecr"
_SCHEDULER = "ministack.services.scheduler"
_STACK_EVENT = (
    "stack_id",
    "stack_name",
    "logical_id",
    "resource_type",
    "status",
    "reason",
    "physical_id",
    "detailed_status",
)
# Modules that hold a name of their own for the function that records a stack's events.
STACK_EVENT_HOLDERS = ("stacks", "handlers", "changesets")

SEAMS: tuple[tuple[str, str, tuple[str, ...] | None], ...] = (
    ("ministack.app", "app", ("scope", "receive", "send")),
    ("ministack.core.lambda_runtime", "reset", ()),
    ("ministack.core.responses", "error_response_json", None),
    ("ministack.core.responses", "get_account_id", ()),
    ("ministack.core.responses", "get_region", ()),
    ("ministack.core.responses", "set_request_account_id", ("access_key_id",)),
    ("ministack.core.responses", "set_request_region", ("region",)),
    (CLOUDFORMATION, "_stacks", None),
    (f"{CLOUDFORMATION}.engine", "_parse_template", ("template_body",)),
    (f"{CLOUDFORMATION}.engine", "validate_template_support", ("template", "conditions", "params")),
    (f"{CLOUDFORMATION}.provisioners", "_RESOURCE_HANDLERS", None),
    (f"{CLOUDFORMATION}.provisioners", "_physical_name", None),
    (f"{CLOUDFORMATION}.stacks", "_runs_on_worker_thread", ("resource_type",)),
    (_CLOUDWATCH, "_metrics", None),
    (_CLOUDWATCH, "_alarms", None),
    (_CLOUDWATCH, "_composite_alarms", None),
    (_CLOUDWATCH, "_calc_stats", ("points",)),
    (_CLOUDWATCH, "_stat_value", ("stats", "stat_name", "points")),
    (_CLOUDWATCH, "_dims_key", ("dims",)),
    (_CLOUDWATCH, "_evaluate_alarm", ("alarm",)),
    (_CLOUDWATCH, "_evaluate_parent_alarms", None),
    (_CLOUDWATCH, "_record_history", None),
    (_CLOUDWATCH, "_dispatch_alarm_actions", ("alarm", "old_state", "new_state", "reason")),
    (_CLOUDWATCH, "record_metric", ("namespace", "metric_name", "value", "unit", "dimensions")),
    (
        _CLOUDWATCH,
        "_store_datum",
        ("namespace", "name", "dims", "ts", "unit", "value", "values", "counts", "stat_values"),
    ),
    (_CLOUDWATCH, "cloudformation_put_metric_alarm", ("alarm",)),
    (_CLOUDWATCH, "cloudformation_delete_metric_alarm", None),
    (_LOGS, "_append_log_events", ("stream", "events")),
    ("ministack.services.dynamodb", "_update_ttl", ("data",)),
    *((f"{CLOUDFORMATION}.{holder}", "_add_event", _STACK_EVENT) for holder in STACK_EVENT_HOLDERS),
    (f"{CLOUDFORMATION}.stacks", "CLIENT_REQUEST_TOKEN", None),
    ("ministack.app", "SERVICE_HANDLERS", None),
    (_EVENTS, "_put_events", ("data", "allow_aws_source")),
    (_EVENTS, "_parse_cron_fields", None),
    (_EVENTS, "_cron_next_fire", ("fields", "after_dt")),
    (_SCHEDULER, "_tick_schedules", ()),
    (_SCHEDULER, "_at_time_epoch", ("expr",)),
    (_SCHEDULER, "_schedules", None),
    (_SCHEDULER, "_schedule_arn", ("group", "name")),
    (_SCHEDULER, "_ensure_default_group", ()),
    (_SCHEDULER, "_create_schedule", ("name", "body")),
    (_SCHEDULER, "_update_schedule", ("name", "body")),
    (_SCHEDULER, "_delete_schedule", ("name", "query")),
    (_ECR, "_describe_images", ("data",)),
    (_ECR, "_find_image", ("repo_name", "image_id")),
    (_ECR, "_repositories", None),
    (_STATES, "_SERVICE_DISPATCH", None),
    (_STATES, "_AWS_SDK_SERVICE_MAP", None),
    (_STATES, "_AWS_SDK_ERROR_PREFIX", None),
    (_STATES, "_ExecutionError", ("error", "cause")),
    (_STATES, "_executions", None),
    (_STATES, "_map_runs", None),
    (_STATES, "_invoke_aws_sdk_integration", ("resource", "input_data")),
    (_STATES, "_scaled_sleep", ("seconds",)),
    (_STATES, "now_iso", ()),
    (
        _STATES,
        "_run_distributed_map",
        ("state_def", "raw_input", "effective", "iterator", "execution", "ctx"),
    ),
    (_STATES, "_run_sub_machine", ("states", "start_at", "input_data", "execution", "ctx")),
    (_STATES, "_read_map_items", ("reader", "effective", "ctx")),
    (_STATES, "_resolve_path_or_ctx", ("path", "data", "ctx")),
    (_STATES, "_resolve_params_obj", ("template", "data", "ctx")),
    (_STATES, "_state_query_language", ("state_def", "ctx")),
    (_STATES, "_jsonata_state_field", ("state_def", "field", "expected", "raw_input", "ctx")),
    (_STATES, "_apply_jsonata_template", ("value", "raw_input", "ctx", "result", "error_output")),
    (
        _STATES,
        "_apply_jsonata_output",
        ("state_def", "raw_input", "ctx", "result", "error_output", "default"),
    ),
    (_STATES, "_apply_state_assign", ("state_def", "raw_input", "ctx", "result", "error_output")),
    (_STATES, "_apply_result_selector", ("state_def", "data")),
    (_STATES, "_apply_result_path", ("state_def", "original", "result")),
    (_STATES, "_apply_output_path", ("state_def", "data", "ctx")),
    (_STATES, "_next_or_end", ("state_def",)),
)


def missing_seams() -> list[str]:
    """Return every private name that is gone or has other parameters, with the module it was in."""
    problems = []
    for module_name, name, parameters in SEAMS:
        module = importlib.import_module(module_name)
        if not hasattr(module, name):
            problems.append(f"{module_name}.{name} is gone")
        elif parameters is not None:
            found = tuple(inspect.signature(getattr(module, name)).parameters)
            if found != parameters:
                problems.append(f"{module_name}.{name} takes {found}, not {parameters}")
    return problems


def require_pinned_version() -> None:
    """Refuse another version of MiniStack than the one that the local cloud was written for.

    Raises:
        TokenmillError: It is another version.
    """
    from importlib.metadata import version

    found = version("ministack")
    if found != VERSION:
        raise TokenmillError(
            f"ministack {found} is installed, the local cloud needs {VERSION}; "
            f"run `python -m pip install ministack=={VERSION}`"
        )


@dataclass(frozen=True, slots=True)
class Ministack:
    """MiniStack's modules, imported once its environment stands."""

    app: Any
    lambda_runtime: Any
    responses: Any
    stacks: Any
    engine: Any
    provisioners: Any
    stack_tasks: Any
    cloudwatch: Any
    logs: Any
    dynamodb: Any
    events: Any
    ecr: Any
    scheduler: Any
    step_functions: Any

    @classmethod
    def load(cls) -> Ministack:
        """Import MiniStack; its environment variables must be set before."""
        load = importlib.import_module
        return cls(
            app=load("ministack.app"),
            lambda_runtime=load("ministack.core.lambda_runtime"),
            responses=load("ministack.core.responses"),
            stacks=load(CLOUDFORMATION),
            engine=load(f"{CLOUDFORMATION}.engine"),
            provisioners=load(f"{CLOUDFORMATION}.provisioners"),
            stack_tasks=load(f"{CLOUDFORMATION}.stacks"),
            cloudwatch=load(_CLOUDWATCH),
            logs=load(_LOGS),
            dynamodb=load("ministack.services.dynamodb"),
            events=load(_EVENTS),
            ecr=load(_ECR),
            scheduler=load(_SCHEDULER),
            step_functions=load(_STATES),
        )

    def scope(self) -> Scope:
        """Return the account and region of the request that is being answered."""
        from tokenmill.local.aws_requests import Scope

        return Scope(self.responses.get_account_id(), self.responses.get_region())

    def enter(self, scope: Scope) -> None:
        """Make this thread or task work for an account and region.

        Args:
            scope: Whose.
        """
        self.responses.set_request_account_id(scope.account)
        self.responses.set_request_region(scope.region)

    def template_resource(self, stack_name: str, logical_id: str) -> dict[str, Any]:
        """Return a resource's definition in the template that is being deployed.

        Args:
            stack_name: The stack.
            logical_id: The resource.
        """
        record = self.stacks._stacks.get(stack_name) or {}
        template = self.engine._parse_template(record.get("_template_body") or "{}")
        definition: dict[str, Any] = (template.get("Resources") or {}).get(logical_id) or {}
        return definition

    def physical_name(self, stack_name: str, logical_id: str, *, longest: int) -> str:
        """Return the name of a resource that has none in the template.

        Args:
            stack_name: The stack.
            logical_id: The resource.
            longest: Most characters that the service takes.
        """
        name: str = self.provisioners._physical_name(stack_name, logical_id, max_len=longest)
        return name

    def store(self, datum: Datum) -> None:
        """Store a metric's values.

        Args:
            datum: The metric.
        """
        self.cloudwatch._store_datum(
            datum.namespace, datum.name, dict(datum.dimensions), datum.timestamp, datum.unit,
            None, list(datum.values), None, None,
        )  # fmt: skip

    def statistic(self, query: MetricQuery) -> float | None:
        """Return one statistic of one metric; nothing when it has no data there.

        Args:
            query: Which.
        """
        key = (query.namespace, query.name, self.cloudwatch._dims_key(dict(query.dimensions)))
        points = self.cloudwatch._metrics.get(key) or []
        inside = [point for point in points if query.start < point["Timestamp"] <= query.end]
        if not inside:
            return None
        value = self.cloudwatch._stat_value(self.cloudwatch._calc_stats(inside), query.statistic, inside)
        return None if value is None else float(value)

    def alarms(self) -> Iterator[dict[str, Any]]:
        """Yield the metric alarms of the current account and region."""
        yield from list(self.cloudwatch._alarms.values())

    def change_alarm(self, alarm: dict[str, Any], state: str, reason: str, when: float) -> None:
        """Move an alarm to another state, with its history, actions and parents.

        Args:
            alarm: The alarm.
            state: The new state.
            reason: Why.
            when: Time of the change, seconds since 1970.
        """
        before = alarm["StateValue"]
        alarm.update(StateReason=reason, StateUpdatedTimestamp=int(when))
        if before == state:
            return
        alarm["StateValue"] = state
        self.cloudwatch._record_history(alarm["AlarmName"], before, state, reason)
        self.cloudwatch._dispatch_alarm_actions(alarm, before, state, reason)
        self.cloudwatch._evaluate_parent_alarms(alarm)

    def on_delete(self, resource_type: str, listen: Callable[[str], None]) -> None:
        """Call a listener when CloudFormation has deleted a resource.

        Args:
            resource_type: Type of the resource.
            listen: Takes the resource's physical id.
        """
        handler = self.provisioners._RESOURCE_HANDLERS[resource_type]
        delete = handler["delete"]

        def delete_and_tell(physical_id: str, properties: dict[str, Any]) -> Any:
            answer = delete(physical_id, properties)
            listen(physical_id)
            return answer

        handler["delete"] = delete_and_tell

    def on_log_events(self, listen: Callable[[list[dict[str, Any]]], None]) -> None:
        """Call a listener with the events of every log stream, when they are stored.

        Args:
            listen: Takes events with `timestamp` and `message`.
        """
        append = self.logs._append_log_events

        def append_and_tell(stream: dict[str, Any], events: list[dict[str, Any]]) -> None:
            append(stream, events)
            listen(events)

        self.logs._append_log_events = append_and_tell
