"""`tokenmill jobs`: long work of deployed stacks, such as compiling a model: list it, run it, wait for it."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenmill.cli._options import read_prices
from tokenmill.cli._output import JsonFlag, console, print_json
from tokenmill.core.errors import TokenmillError
from tokenmill_runtime.jobs import KINDS, VERSION_KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenmill.cli._job_runner import Execution, Job, JobRunner

FIRST_POLL_SECONDS, POLL_SECONDS = 1.0, 10.0
FAILED_CODE = 1
# No state machine: what is bought stands in the ledger of units, and the command line buys it.
COMMIT_UNITS = "commit-units"
Kind = Annotated[str, typer.Argument(help=f"kind of job: {', '.join(KINDS)} or {COMMIT_UNITS}")]
Stack = Annotated[str, typer.Option(help="CloudFormation's name of the stack; needed where several have one")]
Name = Annotated[str, typer.Option(help="the job's name; needed where a stack has several")]
Region = Annotated[str, typer.Option(help="AWS region; else that of your configuration")]


def register(app: typer.Typer) -> None:
    """Add `jobs` to the command line.

    Args:
        app: The application.
    """
    jobs = typer.Typer(help="Long work of deployed stacks.", no_args_is_help=True)
    jobs.command("list")(list_jobs)
    jobs.command("run")(run)
    jobs.command("wait")(wait)
    app.add_typer(jobs, name="jobs")


def list_jobs(
    kind: Annotated[str, typer.Option(help="only this kind")] = "",
    stack: Annotated[str, typer.Option(help="only this stack's")] = "",
    region: Region = "",
    as_json: JsonFlag = False,
) -> None:
    """List the jobs of deployed stacks, how their last run went, and model units that outlived a stack."""
    from tokenmill.cli._commit_units import retained_line

    runner = _runner(region)
    found = [(job, runner.last(job)) for job in runner.jobs(kind=kind, stack=stack)]
    retained = [] if kind else _retained(runner, stack)
    if as_json:
        print_json(
            {
                "schema": 1,
                "region": runner.region,
                "jobs": [{**_shown(job), "last": _ran(last)} for job, last in found],
                "retained_units": retained,
            }
        )
        return
    for job, last in found:
        state = "never ran" if last is None else f"{last.status.lower()}, {_span(last.seconds)}"
        typer.echo(
            f"{job.stack}  {job.kind}  {job.name}  {state}  {job.description.get('about', '')}".rstrip()
        )
    if not found:
        typer.echo(
            f"no jobs are deployed in {runner.region}; a stack with a CompiledModel, a batch "
            "or a model import or customization makes some"
        )
    for entry in retained or ():
        typer.echo(retained_line(entry))


def run(
    kind: Kind,
    stack: Stack = "",
    name: Name = "",
    input: Annotated[str, typer.Option(help="the run's input, a JSON object")] = "{}",
    price: Annotated[list[str] | None, typer.Option(help="TYPE=USD an hour (repeatable)")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask before spending")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="return once it has started")] = False,
    region: Region = "",
    as_json: JsonFlag = False,
) -> None:
    """Run a job once for each thing it makes, and wait for it.

    Exit code 0: done, or done already; 1: the run failed; 2: bad input.
    """
    text = _input(input)
    prices = read_prices(price or [])
    runner = _runner(region)
    if kind == COMMIT_UNITS:
        _commit_units(runner, stack, name, prices, yes=yes, as_json=as_json)
        return
    job = runner.only(kind, stack=stack, name=name)
    _check_input(job, text)
    key, built = runner.built(job, text)
    if built:
        _say_built(job, key, text, as_json=as_json)
        return
    under_way = _running(runner, job, key)
    if under_way is None:
        _agree(job, runner, prices, yes=yes, quiet=as_json)
    execution, started = runner.start(job, key=key, input=text)
    if not as_json:
        word = "started" if started else "running already"
        typer.echo(f"{word}: {job.kind} {job.name} of {job.stack}, {execution.name}")
    if not no_wait:
        execution = _wait_for(runner, job, execution, quiet=as_json)
    _report(job, execution, key, as_json=as_json, waited=not no_wait)


def wait(
    kind: Kind, stack: Stack = "", name: Name = "", region: Region = "", as_json: JsonFlag = False
) -> None:
    """Wait for a job's newest run.

    Exit code 0: it succeeded; 1: it failed; 2: there is none.
    """
    runner = _runner(region)
    job = runner.only(kind, stack=stack, name=name)
    execution = runner.last(job)
    if execution is None:
        raise TokenmillError(
            f"{job.kind} {job.name} of {job.stack} never ran; run it with: tokenmill jobs run {job.kind} "
            f"--stack {job.stack} --name {job.name}"
        )
    _report(job, _wait_for(runner, job, execution, quiet=as_json), "", as_json=as_json, waited=True)


def _runner(region: str) -> JobRunner:
    from tokenmill.cli._job_runner import JobRunner
    from tokenmill.cli._session import session_in

    return JobRunner(session_in(region))


def _running(runner: JobRunner, job: Job, key: str) -> Execution | None:
    """Return a run of the same thing that is paid for already, so that nobody is asked again."""
    from tokenmill.cli._job_runner import NAME_DIGITS, RUNNING

    last = runner.last(job)
    same = last is not None and last.status == RUNNING and bool(key)
    return last if same and last is not None and last.name.startswith(key[:NAME_DIGITS]) else None


def _agree(job: Job, runner: JobRunner, prices: dict[str, float], *, yes: bool, quiet: bool) -> None:
    region, cost = runner.region, _cost(job, runner.region, prices)
    where = f"in the local cloud at {runner.local}, which costs nothing; on AWS " if runner.local else ""
    if not quiet:
        typer.echo(f"{job.description.get('about', f'{job.kind} {job.name}')}: {where}{cost}")
    if yes or runner.local or not (job.instance_type or job.description.get("paid")):
        return
    if not _somebody_is_there():
        what = job.instance_type or job.description.get("about", job.name)
        raise TokenmillError(
            f"{job.kind} {job.name} pays for {what} ({cost}) and nobody is there to ask; agree with --yes"
        )
    if not typer.confirm(f"run it in your account in {region}?", err=True):
        raise TokenmillError("not agreed, nothing was started")


def _retained(runner: JobRunner, stack: str) -> list[dict[str, Any]] | None:
    """Return model units that outlived a stack; None, and a warning, where the ledger cannot be read."""
    from tokenmill.cli._commit_units import retained_units

    try:
        return retained_units(runner.session, stack)
    except TokenmillError as error:
        typer.echo(f"warning: model units that outlived their stack cannot be listed: {error}", err=True)
        return None


def _commit_units(
    runner: JobRunner, stack: str, name: str, prices: dict[str, float], *, yes: bool, as_json: bool
) -> None:
    from tokenmill.cli._commit_units import Offer, Place, commit

    def agree(offer: Offer) -> None:
        if yes or runner.local:
            return
        if not _somebody_is_there():
            raise TokenmillError(
                f"a commitment costs money ({offer.sentence()}) and nobody is there to ask; agree with --yes"
            )
        if not typer.confirm(f"buy it in your account in {runner.region}?", err=True):
            raise TokenmillError("not agreed, nothing was bought")

    place = Place(session=runner.session, local=runner.local)
    commit(place, stack=stack, name=name, prices=prices, agree=agree, as_json=as_json)


def _somebody_is_there() -> bool:
    return sys.stdin.isatty()


def _cost(job: Job, region: str, prices: dict[str, float]) -> str:
    """Return what a run costs, as far as a price is known; hosting's price is said to be hosting's."""
    from tokenmill.core.instances import instance_catalog

    if not job.instance_type:
        return str(job.description.get("cost") or "no instance is paid for by the hour")
    count = f"{job.instances} x {job.instance_type}"
    listed = instance_catalog().get(job.instance_type)
    hosting = None if listed is None else listed.price(region)
    if job.instance_type in prices:
        hour, aside = prices[job.instance_type] * job.instances, ""
    elif hosting is not None:
        hour = hosting.usd_per_hour * job.instances
        aside = f" at the hosting price of {hosting.source_date}, a job's own may differ"
    else:
        return f"{count}, whose price in {region} is not known; give --price {job.instance_type}=USD"
    limit = job.limit_seconds
    most = "" if limit is None else f", at most {hour * limit / 3600:.2f} USD in {_span(limit)}"
    return f"{count}, {hour:.2f} USD an hour{most}{aside}"


def _wait_for(runner: JobRunner, job: Job, execution: Execution, *, quiet: bool) -> Execution:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from tokenmill.cli._job_runner import RUNNING

    limit = job.limit_seconds
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(), disable=quiet, transient=True) as progress:
        until = f" (stopped after {_span(limit)})" if limit else ""
        task = progress.add_task(f"{job.kind} {job.name}{until}", total=limit)
        pause = FIRST_POLL_SECONDS
        while execution.status == RUNNING:
            progress.update(task, completed=execution.seconds)
            time.sleep(pause)
            pause = min(POLL_SECONDS, 1.5 * pause)
            execution = runner.execution(execution.arn)
    return execution


def _report(job: Job, execution: Execution, key: str, *, as_json: bool, waited: bool) -> None:
    from tokenmill.cli._job_runner import RUNNING, SUCCEEDED

    failed = execution.status not in (SUCCEEDED, RUNNING)
    if as_json:
        document = {"schema": 1, "job": _shown(job), "run": _ran(execution), "already_built": False}
        print_json({**document, "key": key} if key else document)
    elif failed:
        reason = f": {execution.reason}" if execution.reason else ""
        typer.echo(f"{execution.status.lower()} after {_span(execution.seconds)}{reason}", err=True)
    elif waited:
        typer.echo(f"succeeded after {_span(execution.seconds)}")
        for line in _told(execution.output):
            typer.echo(line)
    if failed:
        raise typer.Exit(FAILED_CODE)


def _told(output: Mapping[str, Any]) -> list[str]:
    """Return what people ask of a run that answered records: how many, where, and for how much."""
    report = output.get("report")
    if not isinstance(report, dict):
        return []
    counted = f"{output['succeeded']:,} of {output['records']:,} records are answered"
    usd = report.get("usd")
    cost = "at a price that is not known here" if usd is None else f"for {usd:.2f} USD on AWS"
    return [f"{counted}, {cost}: {output['cost']}", f"results: {output['results']}"]


def _say_built(job: Job, key: str, text: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"schema": 1, "job": _shown(job), "run": None, "already_built": True, "key": key})
        return
    version = json.loads(text).get("version")
    built = f"has version {version} already" if job.kind in VERSION_KINDS else ""
    what = built or f"is compiled already, key {key[:16]}"
    typer.echo(f"{job.name} of {job.stack} {what}; nothing was started")


def _shown(job: Job) -> dict[str, object]:
    return {
        "stack": job.stack,
        "kind": job.kind,
        "name": job.name,
        "about": job.description.get("about", ""),
        "instance_type": job.instance_type,
        "limit_seconds": job.limit_seconds,
        "state_machine": job.arn,
    }


def _ran(execution: Execution | None) -> dict[str, object] | None:
    return None if execution is None else dataclasses.asdict(execution)


def _input(text: str) -> str:
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise TokenmillError(
            f'--input is {text!r:.80}; it must be a JSON object, such as {{"prefix": "july/"}}'
        )
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def _check_input(job: Job, text: str) -> None:
    """Refuse an input without what the job says that it needs, before anybody is asked to pay."""
    needed = job.description.get("input") or {}
    missing = [name for name in needed if name not in json.loads(text)]
    if missing:
        bucket = job.description.get("bucket")
        where = f", objects or folders of s3://{bucket}" if bucket else ""
        raise TokenmillError(
            f"{job.kind} {job.name} of {job.stack} needs {' and '.join(missing)}{where}; "
            f"give --input '{json.dumps(needed)}'"
        )


def _span(seconds: float) -> str:
    minutes = seconds / 60
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
