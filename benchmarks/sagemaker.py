"""What SageMaker constructs add to a synth, and what the functions of the runtime cost to start.

Run as a module it prints the figures as JSON.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.processes import measure
from tokenmill_runtime import functions
from tokenmill_runtime.functions import FunctionParts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parent.parent
QUIET = {"CDK_VALIDATION": "false", "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "20"}
# A handler's import with boto3 behind it, as Lambda does both before the first event.
_IMPORT = """
import json, resource, sys, time
began = time.process_time()
import boto3
import {module}
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([1000 * (time.process_time() - began), peak]))
"""


def synth_seconds(rounds: int) -> dict[str, float]:
    """Return CPU seconds over an empty stack's synth, taken in turns, by kind.

    Args:
        rounds: Runs of each.
    """
    return added_seconds("endpoint_app", ("unguarded", "checked"), rounds)


def added_seconds(app: str, kinds: Sequence[str], rounds: int) -> dict[str, float]:
    """Return CPU seconds of an app's synth over those of its "empty" kind, taken in turns, by kind.

    Args:
        app: The app's folder here.
        kinds: What its argument may be, besides "empty".
        rounds: Runs of each.
    """
    taken: dict[str, list[float]] = {"empty": [], **{kind: [] for kind in kinds}}
    with tempfile.TemporaryDirectory() as scratch:
        # As installed: pip compiles what it installs, while a checkout may be forbidden to.
        compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": f"{scratch}/bytecode"}
        for number in range(rounds + 1):
            for kind, runs in taken.items():
                command = [sys.executable, str(ROOT / "benchmarks" / app / "app.py"), kind]
                environment = {**QUIET, **compiled, "CDK_OUTDIR": f"{scratch}/{kind}{number}"}
                cost = measure(command, cwd=ROOT, environment=environment)
                if number:  # the first round compiles, and fills the caches of the disk
                    runs.append(cost.cpu_seconds)
    medians = {kind: statistics.median(runs) for kind, runs in taken.items()}
    return {kind: medians[kind] - medians["empty"] for kind in kinds}


def handler_costs(rounds: int, only: Sequence[str] = ()) -> Iterator[tuple[str, float, float]]:
    """Yield for each function its name, CPU milliseconds to import and MiB afterwards.

    Args:
        rounds: Runs of each.
        only: Names in `tokenmill_runtime.functions`; all otherwise.
    """
    for name, parts in vars(functions).items():
        if only and name not in only:
            continue
        if not isinstance(parts, FunctionParts) or parts is functions.GATEWAY:
            continue  # the gateway has a layer of libraries, and limits of its own
        module = parts.handler.rpartition(".")[0]
        script = _IMPORT.format(module=module)
        runs = [
            json.loads(measure([sys.executable, "-c", script], cwd=ROOT / "lambda").output)
            for _ in range(rounds)
        ]
        yield name.lower(), statistics.median(run[0] for run in runs), max(run[1] for run in runs)


if __name__ == "__main__":
    handlers = [{"name": name, "ms": ms, "mib": mib} for name, ms, mib in handler_costs(3)]
    print(json.dumps({"synth": synth_seconds(3), "handlers": handlers}, indent=1))
