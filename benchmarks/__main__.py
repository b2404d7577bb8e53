"""Print every promised limit with the figure measured on this machine, in one run.

Figures of the same kind are taken in turns (ours, the plain app's, ours, …): machines are shared and noisy;
the median of the rounds is printed, and ratios are what to compare between machines.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import openai
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import bedrock
from benchmarks.processes import adopt_orphans, measure
from benchmarks.sagemaker import handler_costs, synth_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
QUIET = {"CDK_VALIDATION": "false", "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "20"}


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured limit: `measured` and `limit` share `unit`; lower is better."""

    name: str
    measured: float
    limit: float
    unit: str

    @property
    def holds(self) -> bool:
        """Whether the measured figure keeps the limit."""
        return self.measured <= self.limit


def main() -> None:
    """Measure what was asked for and print a table, or JSON with --json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="runs per figure (median is printed)")
    parser.add_argument("--skip-up", action="store_true", help="leave the local cloud out")
    parser.add_argument("--planner", action="store_true", help="the planner's figures only")
    parser.add_argument("--sagemaker", action="store_true", help="SageMaker's figures only")
    parser.add_argument("--bedrock", action="store_true", help="Amazon Bedrock's figures only")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    adopt_orphans()
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("measuring", total=None)
        figures = _asked_figures(options)
        if not (options.skip_up or options.planner or options.sagemaker or options.bedrock):
            progress.update(task, description="local cloud")
            figures += _up_figures()
    if options.json:
        print(json.dumps([{**_row(figure)} for figure in figures], indent=2))
    else:
        _print_table(figures)


def _asked_figures(options: argparse.Namespace) -> list[Figure]:
    rounds: int = options.rounds
    if options.planner:
        return _python_figures(rounds)
    if options.bedrock:
        return _bedrock_figures(rounds)
    figures = _sagemaker_figures(rounds)
    if options.sagemaker:
        return figures
    return [*figures, _bedrock_synth(rounds), *_synth_figures(rounds), *_python_figures(rounds)]


def _row(figure: Figure) -> dict[str, object]:
    return {
        "name": figure.name, "measured": round(figure.measured, 3), "limit": figure.limit,
        "unit": figure.unit, "holds": figure.holds,
    }  # fmt: skip


def _print_table(figures: list[Figure]) -> None:
    table = Table("limit", "measured", "at most", "unit", "holds")
    for figure in figures:
        table.add_row(
            figure.name,
            f"{figure.measured:.2f}",
            f"{figure.limit:g}",
            figure.unit,
            "yes" if figure.holds else "NO",
        )
    Console().print(table)


def _context() -> dict[str, object]:
    context: dict[str, object] = json.loads((ROOT / "cdk.json").read_text())["context"]
    context.pop("tokenmill:packs", None)
    return context


def _synth_figures(rounds: int) -> list[Figure]:
    with tempfile.TemporaryDirectory() as scratch:
        environment = {**QUIET, "CDK_CONTEXT_JSON": json.dumps(_context())}
        ours = [PYTHON, "app.py"]
        plain = [PYTHON, str(ROOT / "benchmarks" / "plain_app" / "app.py")]
        warm = {**environment, "CDK_OUTDIR": f"{scratch}/warm", "CDK_VALIDATION": "true"}
        measure(ours, cwd=ROOT, environment=warm)
        runs: dict[str, list[tuple[float, float]]] = {"ours": [], "plain": []}
        for number in range(rounds):
            for name, command in (("ours", ours), ("plain", plain)):
                where = {**environment, "CDK_OUTDIR": f"{scratch}/{name}{number}"}
                cost = measure(command, cwd=ROOT, environment=where)
                runs[name].append((cost.cpu_seconds, cost.peak_mib))
    cpu = {name: statistics.median(run[0] for run in taken) for name, taken in runs.items()}
    peak = max(run[1] for run in runs["ours"])
    Console(stderr=True).print(f"synth: ours {cpu['ours']:.2f} s CPU, plain app {cpu['plain']:.2f} s CPU")
    return [
        Figure("synth of ChatStack over a plain CDK app, CPU", cpu["ours"] / cpu["plain"], 1.25, "ratio"),
        Figure("synth of ChatStack, memory of the process tree", peak, 320, "MiB"),
    ]


def _sagemaker_figures(rounds: int) -> list[Figure]:
    synth = synth_seconds(rounds)
    subject = "endpoint with two components, two adapters, scaling"
    figures = [
        Figure(f"{subject}, over an empty stack", synth["unguarded"], 0.5, "CPU s"),
        Figure(f"{subject}, guarded and verified", synth["checked"], 0.8, "CPU s"),
    ]
    return figures + _handler_figures(rounds)


def _bedrock_figures(rounds: int) -> list[Figure]:
    return [_bedrock_synth(rounds), *_handler_figures(rounds, bedrock.FUNCTIONS)]


def _bedrock_synth(rounds: int) -> Figure:
    added = bedrock.synth_seconds(rounds)
    return Figure("one of everything for Bedrock, over an empty stack", added, 1.0, "CPU s")


def _handler_figures(rounds: int, only: Sequence[str] = ()) -> list[Figure]:
    figures = []
    for name, milliseconds, mib in handler_costs(rounds, only):
        figures.append(Figure(f"import of function {name} with boto3", milliseconds, 250, "ms"))
        figures.append(Figure(f"memory of function {name}", mib, 128, "MiB"))
    return figures


def _python_figures(rounds: int) -> list[Figure]:
    def median_cpu(command: list[str]) -> float:
        return statistics.median(measure(command, cwd=ROOT).cpu_seconds for _ in range(rounds))

    return [
        Figure(
            "import tokenmill.planner", median_cpu([PYTHON, "-c", "import tokenmill.planner"]), 0.25, "CPU s"
        ),
        Figure(
            "tokenmill plan", median_cpu([PYTHON, "-c", _COMMAND, "plan", "chat", "--json"]), 0.8, "CPU s"
        ),
        *_planner_figures(),
    ]


def _planner_figures() -> list[Figure]:
    command = [PYTHON, "-m", "benchmarks.planner"]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "constructs"), str(ROOT / "lambda")]),
    }
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    document = json.loads(done.stdout)
    search = document["search"]
    return [
        Figure("full search, the dearest of three", search["seconds"], 1.0, "CPU s"),
        Figure("full search, memory of the process", search["mib"], 200, "MiB"),
        Figure("reading a config.json, the dearest", document["config"], 1.0, "ms"),
        *(Figure(name, value, 20, "us each") for name, value in document["prediction"].items()),
    ]


_COMMAND = "from tokenmill.cli import main; main()"


def _up_figures() -> list[Figure]:
    """Bring the project up in a copy, redeploy it unchanged, and read the timings it reports."""
    with tempfile.TemporaryDirectory() as scratch:
        project = Path(scratch) / "project"
        tracked = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout.split("\0")  # fmt: skip
        for name in filter(None, tracked):
            if (ROOT / name).is_file():
                (project / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, project / name)
        for name in ("node_modules", ".venv", ".venv-checkov"):
            (project / name).symlink_to(ROOT / name)
        return _timed_ups(project)


def _timed_ups(project: Path) -> list[Figure]:
    command = [str(ROOT / ".venv" / "bin" / "tokenmill"), "up", "chat", "--json"]
    environment = {**os.environ, **QUIET, "CDK_VALIDATION": "true"}
    first = subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        cold = _read_document(first)
        again = _run_to_end(command, project, environment)
        together = _share_arriving_together(str(cold["base_url"]), str(cold["api_key"]))
    finally:
        first.terminate()
        first.wait()
    return [
        Figure("up to the first streamed token", _seconds(cold), 60, "s"),
        Figure("up again, unchanged, to the first streamed token", _seconds(again), 15, "s"),
        Figure("share of tokens that arrive together with the one before", together, 0.05, "ratio"),
    ]


def _run_to_end(command: list[str], cwd: Path, environment: dict[str, str]) -> dict[str, object]:
    """Not `measure`: that waits for every child of this process, and the first `up` is one that stays."""
    done = subprocess.run(command, cwd=cwd, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    document: dict[str, object] = json.loads(done.stdout)
    return document


def _seconds(document: dict[str, object]) -> float:
    return float(str(document["seconds_to_first_token"]))


def _share_arriving_together(base_url: str, key: str) -> float:
    """Stream one answer with the openai client and compare the gaps between tokens with their mean."""
    with openai.OpenAI(base_url=base_url, api_key=key) as client:
        model = client.models.list().data[0].id
        with client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "How evenly do tokens arrive?"}], stream=True
        ) as stream:
            arrivals = [time.perf_counter() for _ in stream]
    gaps = [later - earlier for earlier, later in zip(arrivals, arrivals[1:], strict=False)]
    return sum(gap < statistics.mean(gaps) / 10 for gap in gaps) / len(gaps)


def _read_document(process: subprocess.Popen[str]) -> dict[str, object]:
    if process.stdout is None:
        raise RuntimeError("the command has no output")
    text = ""
    for line in process.stdout:
        text += line
        if line.rstrip() == "}":
            break
    document: dict[str, object] = json.loads(text)
    return document


if __name__ == "__main__":
    main()
