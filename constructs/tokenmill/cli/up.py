"""`tokenmill up`, `down` and `status`: the local cloud."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenmill.cli._output import JsonFlag, console, print_json
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from tokenmill.local.progress import Steps
    from tokenmill.local.up import Deployed

StackArgument = Annotated[
    str | None, typer.Argument(help="section of tokenmill.toml or id of the stack; chat by default")
]
OnceFlag = Annotated[bool, typer.Option("--once", help="stop everything after the first answer")]
AppOption = Annotated[
    str | None, typer.Option("--app", help="command of another CDK app, which is not planned")
]
ContextOption = Annotated[
    list[str] | None, typer.Option("-c", "--context", help="KEY=VALUE of the app's context (repeatable)")
]
PortOption = Annotated[
    int, typer.Option("--port", min=0, max=65535, help="port of the gateway; 0 takes a free one")
]


def register(app: typer.Typer) -> None:
    """Add the commands.

    Args:
        app: The command line application.
    """
    app.command("up")(up)
    app.command("down")(down)
    app.command("status")(status)
    app.command("env")(env)


def up(
    stack: StackArgument = None,
    once: OnceFlag = False,
    app: AppOption = None,
    context: ContextOption = None,
    port: PortOption = 0,
    as_json: JsonFlag = False,
) -> None:
    """Plan, synthesize, lint, deploy into the local cloud and answer; stays until Ctrl-C."""
    from tokenmill.local.progress import Steps
    from tokenmill.local.up import Up, UpOptions, interrupts

    steps = Steps(None if as_json else console())
    options = UpOptions(
        stack=stack, app=app, context=_context(context or []), port=port, directory=Path.cwd()
    )
    run = Up(options, steps, show=(lambda _piece: None) if as_json else _show)
    with interrupts():
        try:
            deployed = run.run()
            _report(deployed, steps, stays=run.owns_cloud and not once, as_json=as_json)
            if run.owns_cloud and not once:
                _hold(run)
        except OSError as error:
            raise TokenmillError(
                f"{error.filename or 'this machine'}: {error.strerror or error}; mend it and run "
                "`tokenmill up` again"
            ) from error
        finally:
            steps.close()
            run.stop()


def _context(given: list[str]) -> tuple[str, ...]:
    for text in given:
        name, found, _ = text.partition("=")
        if not (name and found):
            raise TokenmillError(f"--context is {text!r}; write KEY=VALUE, such as context_tokens=4096")
    return tuple(given)


def _hold(run: Any) -> None:
    try:
        run.hold()
    except KeyboardInterrupt:
        sys.stderr.write("stopping\n")


def _show(piece: str) -> None:
    sys.stdout.write(piece or "\n")
    sys.stdout.flush()


def _report(deployed: Deployed, steps: Steps, *, stays: bool, as_json: bool) -> None:
    state, answer = deployed.state, deployed.answer
    if as_json:
        print_json(
            {
                "steps": steps.document(),
                "stack": state.stack,
                "aws_endpoint": state.endpoint,
                "base_url": state.base_url,
                "api_key": state.api_key,
                "outputs": deployed.outputs,
                "levels": deployed.levels,
                "answer": None
                if answer is None
                else {
                    "text": answer.text,
                    "tokens": answer.pieces,
                    "ttft_ms": round(answer.ttft_ms, 1),
                    "tokens_per_second": round(answer.tokens_per_second, 1),
                },
                "seconds_to_first_token": deployed.seconds_to_first_token,
            }
        )
        return
    screen = console()
    if answer is not None:
        screen.print(f"\n\n{answer.summary}; {deployed.seconds_to_first_token:.1f} s after `tokenmill up`\n")
    _print_levels(deployed.levels)
    for name, value in deployed.outputs.items():
        screen.print(f"{name:<13} {value}", markup=False, highlight=False, soft_wrap=True)
    screen.print(f"AWS endpoint  {state.endpoint}")
    if stays:
        screen.print('AWS clients   eval "$(tokenmill env)"', markup=False)
    if deployed.jobs:
        screen.print("jobs          tokenmill jobs list")
    if state.base_url:
        screen.print(f"base URL      {state.base_url}")
        screen.print(f"API key       {state.api_key}")
    if stays:
        if state.base_url:
            screen.print("talk to it    tokenmill chat")
        screen.print("\nup until Ctrl-C (or `tokenmill down`)")


def _print_levels(levels: list[dict[str, Any]]) -> None:
    for name in ("real", "modelled"):
        kinds = [f"{entry['type']} ×{entry['count']}" for entry in levels if entry["level"] == name]
        if kinds:
            console().print(f"{name:<9} {', '.join(kinds)}")
    console().print(
        "modelled means: full states, validation and timing, not the work; see `tokenmill status`\n"
    )


def down(as_json: JsonFlag = False) -> None:
    """Stop the local cloud of this folder with everything that it started."""
    from tokenmill.local.up import stop_running

    stopped = stop_running(Path.cwd())
    if as_json:
        print_json({"stopped": stopped is not None})
    else:
        console().print("stopped" if stopped else f"no local cloud runs in {Path.cwd()}")


def env() -> None:
    """Print what points AWS clients at the local cloud of this folder; run: eval "$(tokenmill env)"."""
    from tokenmill.local.cdk_cli import client_environment
    from tokenmill.local.state import require_running, state_folder

    state = require_running(state_folder())
    here = client_environment(endpoint=state.endpoint, account=state.account, region=state.region)
    for name, value in here.items():
        typer.echo(f"export {name}={shlex.quote(value)}")


def status(as_json: JsonFlag = False) -> None:
    """Show the local cloud of this folder: processes, endpoints, scaling, alarms, metrics, levels."""
    from tokenmill.local.cloud_process import CloudClient
    from tokenmill.local.state import require_running, state_folder

    state = require_running(state_folder())
    request = {"account": state.account, "region": state.region, "stack": state.stack or ""}
    document = CloudClient(state.endpoint).admin("status", request)
    document["cloud"] = {"pid": state.cloud_pid, "endpoint": state.endpoint, "base_url": state.base_url}
    if as_json:
        print_json(document)
        return
    from tokenmill.cli._status import print_status

    print_status(console(), document)
