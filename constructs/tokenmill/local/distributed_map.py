"""Distributed maps of Step Functions with ItemBatcher and ResultWriter, which MiniStack ignores.

Source: AWS Step Functions Developer Guide, "ItemBatcher (Map)" (input of a child), "ResultWriter (Map)" (the
objects, the manifest, the transformations and the state's output) and "Setting failure thresholds for
Distributed Map states".
"""

from __future__ import annotations

import contextvars
import copy
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tokenmill.local.aws_requests import AwsError, Params

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokenmill.local.clients import Objects
    from tokenmill.local.ministack_seams import Ministack

WRITER = "arn:aws:states:::s3:putObject"
# "Setting the concurrency of child workflow executions": without a number it is 10,000; here it is fewer.
MOST_AT_ONCE = 64
MOST_BATCH_BYTES = 256 * 1024
_COUNTS = (
    "pending",
    "running",
    "succeeded",
    "failed",
    "timedOut",
    "aborted",
    "total",
    "resultsWritten",
    "failuresNotRedrivable",
    "pendingRedrive",
)


@dataclass(slots=True, kw_only=True)
class _Child:
    """One child execution with its items."""

    record: Params
    input: Any
    items: int
    context: Params
    output: Any = None

    @property
    def failed(self) -> bool:
        return bool(self.record["status"] == "FAILED")

    def result(self) -> Params:
        """What ResultWriter writes of it: its execution with the input and output as texts."""
        record = self.record
        members = {
            "ExecutionArn": record["executionArn"],
            "Input": record["input"],
            "InputDetails": {"Included": True},
            "Name": record["name"],
            "RedriveCount": 0,
            "RedriveStatus": "REDRIVABLE" if self.failed else "NOT_REDRIVABLE",
            "StartDate": record["startDate"],
            "StateMachineArn": record["stateMachineArn"],
            "Status": record["status"],
            "StopDate": record["stopDate"],
        }
        if self.failed:
            return {**members, "Error": record["error"], "Cause": record["cause"]}
        return {**members, "Output": record["output"], "OutputDetails": {"Included": True}}


@dataclass(slots=True, kw_only=True)
class _MapState:
    """A Map state that is being run."""

    definition: Params
    raw_input: Any
    effective: Any
    execution: Params
    context: Params
    jsonata: bool
    children: list[_Child] = field(default_factory=list)


class DistributedMap:
    """The interpreter's distributed maps.

    Args:
        ministack: MiniStack's modules.
        objects: Where results are written.
    """

    def __init__(self, ministack: Ministack, objects: Objects) -> None:
        self._ministack = ministack
        self._objects = objects
        self._lock = threading.Lock()

    def install(self) -> None:
        """Put them into the interpreter."""
        self._asl._run_distributed_map = self.run

    @property
    def _asl(self) -> Any:
        return self._ministack.step_functions

    def run(
        self,
        state_def: Params,
        raw_input: Any,
        effective: Any,
        iterator: Params,
        execution: Params,
        ctx: Params,
    ) -> tuple[Any, str | None]:
        """Run a Map state in the distributed mode; return its output and the next state.

        Args:
            state_def: The state's definition.
            raw_input: Its input.
            effective: Its input after InputPath.
            iterator: Its ItemProcessor.
            execution: The parent's record.
            ctx: The context object.
        """
        state = _MapState(
            definition=state_def,
            raw_input=raw_input,
            effective=effective,
            execution=execution,
            context=ctx,
            jsonata=self._asl._state_query_language(state_def, ctx) == "JSONata",
        )
        items = self._items(state)
        run = self._map_run(state, len(items))
        state.children = [
            self._child(state, run, given, count) for given, count in self._inputs(state, items)
        ]
        run["executionCounts"] |= {"total": len(state.children), "pending": len(state.children)}
        most = int(self._number(state, "MaxConcurrency") or 0) or min(len(state.children), MOST_AT_ONCE) or 1
        with ThreadPoolExecutor(max_workers=most) as pool:
            futures = [
                pool.submit(contextvars.copy_context().run, self._run_child, child, iterator, run)
                for child in state.children
            ]
        for future in futures:
            future.result()
        exceeded = self._exceeded(state, len(items))
        run["status"], run["stopDate"] = ("FAILED" if exceeded else "SUCCEEDED"), self._asl.now_iso()
        results = self._results(state, run)
        if exceeded:
            raise self._asl._ExecutionError(
                "States.ExceedToleratedFailureThreshold",
                "The specified tolerated failure threshold was exceeded",
            )
        return self._output(state, results), self._asl._next_or_end(state_def)

    def _items(self, state: _MapState) -> list[Any]:
        definition = state.definition
        if definition.get("ItemReader"):
            items = self._asl._read_map_items(definition["ItemReader"], state.effective, state.context)
        elif state.jsonata and "Items" in definition:
            items = self._asl._jsonata_state_field(
                definition, "Items", "array", state.raw_input, state.context
            )
        else:
            path = definition.get("ItemsPath", "$")
            items = self._asl._resolve_path_or_ctx(path, state.effective, state.context)
        return items if isinstance(items, list) else [items]

    def _inputs(self, state: _MapState, items: list[Any]) -> Iterator[tuple[Any, int]]:
        """Yield every child's input with the number of its items."""
        selector = state.definition.get("ItemSelector") or state.definition.get("Parameters")
        selected = []
        for index, item in enumerate(items):
            context = {**state.context, "Map": {"Item": {"Index": index, "Value": item}}}
            selected.append(self._filled(state, selector, context) if selector else item)
        batcher = state.definition.get("ItemBatcher")
        if not batcher:
            yield from ((item, 1) for item in selected)
            return
        shared = (
            {"BatchInput": self._filled(state, batcher["BatchInput"], state.context)}
            if "BatchInput" in batcher
            else {}
        )
        for batch in self._batches(state, batcher, selected):
            yield {"Items": batch, **shared}, len(batch)

    def _batches(self, state: _MapState, batcher: Params, items: list[Any]) -> Iterator[list[Any]]:
        most = self._number(state, "MaxItemsPerBatch", batcher)
        most_bytes = self._number(state, "MaxInputBytesPerBatch", batcher) or MOST_BATCH_BYTES
        batch: list[Any] = []
        size = 0
        for item in items:
            length = len(json.dumps(item))
            if batch and ((most and len(batch) >= most) or size + length > most_bytes):
                yield batch
                batch, size = [], 0
            batch.append(item)
            size += length
        if batch:
            yield batch

    def _map_run(self, state: _MapState, items: int) -> Params:
        arn = state.execution["stateMachineArn"].split(":")
        label = state.definition.get("Label") or str(uuid4())
        path = f"{arn[6]}/{label}"
        zero = dict.fromkeys(_COUNTS, 0)
        run: Params = {
            "mapRunArn": f"arn:aws:states:{arn[3]}:{arn[4]}:mapRun:{path}:{uuid4()}",
            "executionArn": state.execution["executionArn"],
            "status": "RUNNING",
            "startDate": self._asl.now_iso(),
            "maxConcurrency": int(self._number(state, "MaxConcurrency") or 0),
            "toleratedFailurePercentage": float(self._number(state, "ToleratedFailurePercentage") or 0),
            "toleratedFailureCount": int(self._number(state, "ToleratedFailureCount") or 0),
            "itemCounts": {**zero, "total": items, "pending": items},
            "executionCounts": dict(zero),
            "redriveCount": 0,
            "_stateMachineArn": f"arn:aws:states:{arn[3]}:{arn[4]}:stateMachine:{path}",
        }
        self._asl._map_runs[run["mapRunArn"]] = run
        return run

    def _child(self, state: _MapState, run: Params, given: Any, items: int) -> _Child:
        name, machine = str(uuid4()), run["_stateMachineArn"]
        record = {
            "executionArn": f"{machine.replace(':stateMachine:', ':execution:')}:{name}",
            "stateMachineArn": machine,
            "name": name,
            "status": "RUNNING",
            "startDate": self._asl.now_iso(),
            "stopDate": None,
            "input": json.dumps(given),
            "inputDetails": {"included": True},
            "output": None,
            "outputDetails": {"included": True},
            "mapRunArn": run["mapRunArn"],
            "events": [],
            "testCase": state.execution.get("testCase"),
            "mockAttempts": {},
        }
        return _Child(record=record, input=given, items=items, context=copy.deepcopy(state.context))

    def _run_child(self, child: _Child, iterator: Params, run: Params) -> None:
        self._asl._executions[child.record["executionArn"]] = child.record
        self._count(run, child, "pending", "running")
        try:
            child.output = self._asl._run_sub_machine(
                iterator.get("States", {}), iterator.get("StartAt"), child.input, child.record, child.context
            )
            child.record.update(status="SUCCEEDED", output=json.dumps(child.output))
        except self._asl._ExecutionError as error:
            child.record.update(status="FAILED", error=error.error, cause=error.cause)
        child.record["stopDate"] = self._asl.now_iso()
        self._count(run, child, "running", "failed" if child.failed else "succeeded")

    def _count(self, run: Params, child: _Child, before: str, after: str) -> None:
        with self._lock:
            for counts, number in ((run["itemCounts"], child.items), (run["executionCounts"], 1)):
                counts[before] -= number
                counts[after] += number

    def _exceeded(self, state: _MapState, items: int) -> bool:
        failed = sum(child.items for child in state.children if child.failed)
        limits = []
        count = self._number(state, "ToleratedFailureCount")
        percentage = self._number(state, "ToleratedFailurePercentage")
        if count is not None:
            limits.append(failed > count)
        if percentage is not None:
            limits.append(failed * 100 > percentage * items)
        return failed > 0 and (any(limits) if limits else True)

    def _results(self, state: _MapState, run: Params) -> Any:
        """Return the state's result: the children's outputs, or where they were written."""
        writer = state.definition.get("ResultWriter") or {}
        config = writer.get("WriterConfig") or {}
        exported = "Resource" in writer
        kind = config.get("Transformation", "NONE" if exported else "COMPACT")
        if not exported:
            return _transformed(state.children, kind)
        if writer["Resource"] != WRITER:
            raise self._asl._ExecutionError("States.ResultWriterFailed", f"ResultWriter takes {WRITER} only")
        where = self._filled(state, writer.get("Parameters") or writer.get("Arguments"), state.context)
        prefix = (where.get("Prefix") or "").strip("/")
        folder = "/".join(part for part in (prefix, run["mapRunArn"].rpartition(":")[2]) if part)
        files: dict[str, list[Params]] = {"FAILED": [], "PENDING": [], "SUCCEEDED": []}
        for status in ("FAILED", "SUCCEEDED"):
            children = [child for child in state.children if child.record["status"] == status]
            if children:
                body, extension = _written(_transformed(children, kind), config.get("OutputType", "JSON"))
                key = f"{folder}/{status}_0.{extension}"
                self._put(state, where["Bucket"], key, body)
                files[status].append({"Key": key, "Size": len(body)})
        run["itemCounts"]["resultsWritten"] = sum(child.items for child in state.children)
        manifest = {
            "DestinationBucket": where["Bucket"],
            "MapRunArn": run["mapRunArn"],
            "ResultFiles": files,
        }
        key = f"{folder}/manifest.json"
        self._put(state, where["Bucket"], key, json.dumps(manifest).encode())
        return {
            "MapRunArn": run["mapRunArn"],
            "ResultWriterDetails": {"Bucket": where["Bucket"], "Key": key},
        }

    def _put(self, state: _MapState, bucket: str, key: str, body: bytes) -> None:
        try:
            self._objects.put(self._ministack.scope(), f"s3://{bucket}/{key}", body, "application/json")
        except AwsError as error:
            raise self._asl._ExecutionError("States.ResultWriterFailed", error.message) from error

    def _output(self, state: _MapState, results: Any) -> Any:
        asl, definition = self._asl, state.definition
        if state.jsonata:
            output = asl._apply_jsonata_output(
                definition, state.raw_input, state.context, result=results, default=results
            )
            asl._apply_state_assign(definition, state.raw_input, state.context, result=results)
            return output
        selected = asl._apply_result_selector(definition, results)
        output = asl._apply_result_path(definition, state.raw_input, selected)
        return asl._apply_output_path(definition, output, state.context)

    def _filled(self, state: _MapState, template: Any, context: Params) -> Any:
        if state.jsonata:
            return self._asl._apply_jsonata_template(template, state.raw_input, context)
        return self._asl._resolve_params_obj(template, state.effective, context)

    def _number(self, state: _MapState, name: str, holder: Params | None = None) -> float | None:
        """Return a number that stands in the definition, as itself, as a path or as an expression."""
        definition = state.definition if holder is None else holder
        if f"{name}Path" in definition:
            found = self._asl._resolve_path_or_ctx(definition[f"{name}Path"], state.effective, state.context)
            return float(found)
        if name not in definition:
            return None
        return float(self._filled(state, {"n": definition[name]}, state.context)["n"])


def _transformed(children: list[_Child], kind: str) -> list[Any]:
    """Return the results as `WriterConfig.Transformation` says; a failed child is never shortened."""
    results: list[Any] = []
    for child in children:
        if kind == "NONE" or child.failed:
            results.append(child.result())
        elif kind == "FLATTEN" and isinstance(child.output, list):
            results.extend(child.output)
        else:
            results.append(child.output)
    return results


def _written(results: list[Any], kind: str) -> tuple[bytes, str]:
    if kind == "JSONL":
        return "".join(f"{json.dumps(result)}\n" for result in results).encode(), "jsonl"
    return json.dumps(results).encode(), "json"
