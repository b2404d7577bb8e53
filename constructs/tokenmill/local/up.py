"""The flow of `tokenmill up`: check, plan, synthesize, lint, deploy, answer, and hold until told to stop."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tokenmill.core.errors import TokenmillError
from tokenmill.local.assembly import AssembledStack, choose, read_stacks, refuse_unknown_types
from tokenmill.local.cdk_cli import CdkCommand, cli_environment, run_all
from tokenmill.local.chat_client import Answer, ChatClient
from tokenmill.local.cloud import DEFAULT_ACCOUNT
from tokenmill.local.cloud_process import CloudClient, CloudProcess
from tokenmill.local.environment import check_environment
from tokenmill.local.processes import start_time, wait_until
from tokenmill.local.sagemaker.fleet import MODEL_URL
from tokenmill.local.state import CloudState, only_run, running_cloud, state_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tokenmill.core.plan import Plan
    from tokenmill.core.settings import StackSettings
    from tokenmill.local.progress import Steps

SETTINGS_FILE = "tokenmill.toml"
DEFAULT_REGION = "us-east-1"
QUESTION = "What runs this answer, and how fast should it be?"
FINDINGS = 1


class LintFindings(TokenmillError):
    """The app does not pass its own checks, so nothing was deployed."""

    exit_code = FINDINGS


@dataclass(frozen=True, slots=True, kw_only=True)
class UpOptions:
    """What the command line asks for."""

    stack: str | None
    app: str | None
    port: int
    directory: Path
    context: tuple[str, ...] = ()

    @property
    def cdk_app(self) -> str:
        """The command that synthesizes the app."""
        return self.app or f'"{sys.executable}" app.py'


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """What a run of `up` left running."""

    state: CloudState
    levels: list[dict[str, Any]]
    outputs: dict[str, str]
    answer: Answer | None
    seconds_to_first_token: float | None

    @property
    def jobs(self) -> bool:
        """Whether the stack has what `tokenmill jobs` runs."""
        return any(entry["type"] == "AWS::StepFunctions::StateMachine" for entry in self.levels)


class Up:
    """One run of `tokenmill up`.

    Args:
        options: What the command line asks for.
        steps: Where progress is shown.
        show: Takes each piece of the first answer; called with an empty piece before the first.
    """

    def __init__(self, options: UpOptions, steps: Steps, *, show: Callable[[str], None]) -> None:
        self._options = options
        self._steps = steps
        self._show = show
        self._began = time.monotonic()
        self._folder = state_folder(options.directory)
        self._cloud: CloudProcess | None = None

    def run(self) -> Deployed:
        """Bring everything up, or into a cloud that runs already.

        Raises:
            TokenmillError: A step failed; the message says what and the way out.
        """
        step = self._steps.begin("check")
        check_environment(self._options.directory)
        settings = self._settings()
        self._steps.done(step, "node, the CDK CLI and the local cloud are there")
        with only_run(self._folder):
            self._plan(settings)
            running = self._running()
            state = running or self._start(settings)
            stacks = self._synthesize(state, bootstrap=running is None)
            self._lint()
            refuse_unknown_types(stacks)
            self._deploy(state, stacks)
            return self._answer(state, stacks)

    def stop(self) -> None:
        """End what this run started; a cloud that ran before stays."""
        if self._cloud is not None:
            self._cloud.stop()
            (self._folder / "cloud.json").unlink(missing_ok=True)

    @property
    def owns_cloud(self) -> bool:
        """Whether this run started the cloud."""
        return self._cloud is not None

    def hold(self) -> None:
        """Wait until the cloud ends or somebody interrupts.

        Raises:
            TokenmillError: The cloud ended by itself.
        """
        assert self._cloud is not None  # only a run that owns a cloud holds it
        while self._cloud.running:
            time.sleep(0.2)
        raise TokenmillError(f"the local cloud ended by itself; see {self._folder / 'logs' / 'cloud.log'}")

    def _settings(self) -> StackSettings | None:
        if self._options.app is not None:
            return None
        from tokenmill.core.settings import load_settings

        directory, stack = self._options.directory, self._options.stack or "chat"
        if not (directory / "app.py").exists():
            raise TokenmillError(
                f"there is no app.py in {directory}; go to the project, or give --app 'python my_app.py'"
            )
        sections = load_settings(directory / SETTINGS_FILE)
        name = stack.removeprefix("tokenmill-")
        if name not in sections:
            raise TokenmillError(f"{SETTINGS_FILE} has no section [{name}]; it has: {', '.join(sections)}")
        return sections[name]

    def _running(self) -> CloudState | None:
        running = running_cloud(self._folder)
        if running is None:
            return None
        asked = {"--port": self._options.port or None, MODEL_URL: os.environ.get(MODEL_URL)}
        has = {"--port": running.port, MODEL_URL: running.model_url}
        for name, value in asked.items():
            if value not in (None, has[name]):
                raise TokenmillError(
                    f"{name} is {value}, but the local cloud that runs in this folder has "
                    f"{has[name] or 'none'}; run `tokenmill down` first, or leave {name} out"
                )
        return running

    def _start(self, settings: StackSettings | None) -> CloudState:
        step = self._steps.begin("cloud")
        region = settings.region if settings else os.environ.get("AWS_REGION", DEFAULT_REGION)
        self._cloud = CloudProcess(self._folder, port=self._options.port, region=region)
        self._cloud.wait()
        state = CloudState(
            up_pid=os.getpid(),
            up_started=start_time(os.getpid()) or "",
            cloud_pid=self._cloud.pid,
            cloud_started=start_time(self._cloud.pid) or "",
            endpoint=self._cloud.endpoint,
            port=self._cloud.port,
            account=DEFAULT_ACCOUNT,
            region=region,
            model_url=os.environ.get(MODEL_URL),
        )
        state.write(self._folder)
        self._steps.done(step, f"AWS endpoint {state.endpoint}")
        return state

    def _plan(self, settings: StackSettings | None) -> None:
        if settings is None or not settings.needs_plan:
            return
        step = self._steps.begin("plan")
        if settings.plan_path.exists():
            from tokenmill.core.settings import read_plan

            plan, warnings = read_plan(settings)
            outdated = ", made with other catalogs" if warnings else ""
            self._steps.done(step, f"{settings.plan_path.name} stays{outdated}: {_fleet(plan)}")
            return
        from tokenmill.planner import plan_for

        plan = plan_for(settings)
        plan.write(settings.plan_path)
        self._steps.done(step, f"{settings.plan_path.name} written: {_fleet(plan)}")

    def _synthesize(self, state: CloudState, *, bootstrap: bool) -> list[AssembledStack]:
        synth = self._steps.begin("synthesize")
        context = [word for text in self._options.context for word in ("--context", text)]
        app = ("--app", self._options.cdk_app, *context)
        command = self._cdk(state, "synth", *app, "--output", "cdk.out", "--quiet")
        running = [(synth, command)]
        if bootstrap:
            place = f"aws://{state.account}/{state.region}"
            step = self._steps.begin("bootstrap")
            running.append((step, self._cdk(state, "bootstrap", place, "--app", "")))
        run_all(self._steps, running)
        stacks = read_stacks(self._options.directory / "cdk.out", region=state.region)
        wanted = self._options.stack if self._options.app else self._options.stack or "chat"
        return choose(stacks, wanted)

    def _lint(self) -> None:
        from tokenmill.local.lint_memory import LintMemory

        step = self._steps.begin("lint")
        memory = LintMemory(self._folder / "lint.json", assembly=self._options.directory / "cdk.out")
        if memory.clean:
            self._steps.done(step, f"{memory.clean}, for this very assembly")
            return
        from tokenmill.lint import lint_assembly

        with contextlib.chdir(self._options.directory):
            report = lint_assembly("cdk.out")
        missing = ", ".join(check.check for check in report.never_checked)
        unchecked = f"; not run: {missing}" if missing else ""
        ran = len(report.checks) - len(report.never_checked)
        if not report.findings:
            summary = f"{ran} checks found nothing"
            if not missing:
                memory.remember(summary)
            self._steps.done(step, f"{summary}{unchecked}")
            return
        rules = sorted({f"{finding.check} {finding.rule}" for finding in report.findings})
        count = f"{len(report.findings)} finding{'s' * (len(report.findings) != 1)}"
        found = f"{count} ({', '.join(rules[:6])}{', …' if len(rules) > 6 else ''})"
        self._steps.done(step, f"{found}{unchecked}")
        if self._options.app is None:
            raise LintFindings(f"lint: {found}; nothing was deployed. Read them with: tokenmill lint cdk.out")

    def _deploy(self, state: CloudState, stacks: list[AssembledStack]) -> None:
        here = replace(state, account=stacks[0].account, region=stacks[0].region)
        if stacks[0].environment != f"aws://{state.account}/{state.region}":
            step = self._steps.begin("bootstrap 2")
            run_all(self._steps, [(step, self._cdk(here, "bootstrap", stacks[0].environment, "--app", ""))])
        step = self._steps.begin("deploy")
        names = [stack.id for stack in stacks]
        command = self._cdk(
            here, "deploy", "--app", "cdk.out", *names, "--require-approval", "never", "--progress", "events"
        )
        run_all(self._steps, [(step, command)])

    def _answer(self, state: CloudState, stacks: list[AssembledStack]) -> Deployed:
        stack = stacks[-1]
        state = replace(state, account=stack.account, region=stack.region, stack=stack.name)
        step = self._steps.begin("gateway")
        client = CloudClient(state.endpoint)
        settled = client.admin(
            "settle", {"account": state.account, "region": state.region, "stack": stack.name}
        )
        state = replace(state, base_url=settled["base_url"])
        if state.base_url is None:
            state.write(self._folder)
            self._steps.done(step, "the stack has no gateway, so there is nothing to ask")
            return Deployed(
                state=state,
                levels=settled["levels"],
                outputs=settled["outputs"],
                answer=None,
                seconds_to_first_token=None,
            )
        state = replace(state, api_key=working_key(state))
        state.write(self._folder)
        chat = ChatClient(state.base_url or "", state.api_key or "")
        model = chat.models()[0]
        self._steps.done(step, f"{state.base_url} serves {model}")
        self._steps.close()
        first: list[float] = []

        def show(piece: str) -> None:
            if not first:
                first.append(time.monotonic() - self._began)
                self._show("")
            self._show(piece)

        try:
            answer = chat.stream(model, [{"role": "user", "content": QUESTION}], conversation=None, show=show)
        finally:
            chat.close()
        return Deployed(
            state=state,
            levels=settled["levels"],
            outputs=settled["outputs"],
            answer=answer,
            seconds_to_first_token=round(first[0], 2),
        )

    def _cdk(self, state: CloudState, *arguments: str) -> CdkCommand:
        env = cli_environment(
            self._folder, endpoint=state.endpoint, account=state.account, region=state.region
        )
        log = self._folder / "logs" / f"cdk-{arguments[0]}.log"
        return CdkCommand(self._options.directory, arguments, env=env, log=log)


def working_key(state: CloudState) -> str:
    """Return the API key of the run before, when the stack's key table still has it, or else a new one.

    Args:
        state: The cloud with the stack in it.

    Raises:
        TokenmillError: The stack has no key table.
    """
    import boto3

    from tokenmill_runtime import api_keys

    session = boto3.Session(
        aws_access_key_id=state.account, aws_secret_access_key="local", region_name=state.region
    )
    stacks = session.client("cloudformation", endpoint_url=state.endpoint).describe_stacks(
        StackName=state.stack or ""
    )
    outputs = {entry["OutputKey"]: entry["OutputValue"] for entry in stacks["Stacks"][0].get("Outputs", [])}
    if "ApiKeyTable" not in outputs:
        raise TokenmillError(f"stack {state.stack} has a gateway but no output ApiKeyTable to put a key into")
    table, dynamodb = outputs["ApiKeyTable"], session.client("dynamodb", endpoint_url=state.endpoint)
    known = api_keys.parse_key(state.api_key or "")
    if state.api_key is not None and known is not None:
        identity = {api_keys.KEY_ID_ATTRIBUTE: {"S": known[0]}}
        stored = dynamodb.get_item(TableName=table, Key=identity).get("Item")
        if stored is not None and not stored[api_keys.REVOKED_ATTRIBUTE]["BOOL"]:
            return state.api_key
    key, item = api_keys.new_key(label="tokenmill up")
    dynamodb.put_item(TableName=table, Item=item)
    return key


@contextlib.contextmanager
def interrupts() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into KeyboardInterrupt, once: what is being stopped is stopped in peace."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {n: signal.signal(n, interrupt) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_running(directory: Path) -> CloudState | None:
    """End the cloud of a folder with everything that it started; return what ran.

    Args:
        directory: The project's folder.

    Raises:
        TokenmillError: Its processes do not end.
    """
    from tokenmill.local.processes import group_members, kill_group

    folder = state_folder(directory)
    state = running_cloud(folder)
    if state is not None:
        os.kill(state.up_pid if state.up_alive else state.cloud_pid, signal.SIGTERM)
        if not wait_until(lambda: not state.alive and not state.up_alive, 15.0):
            kill_group(state.cloud_pid)
        kill_group(state.cloud_pid)
        if not wait_until(lambda: not group_members(state.cloud_pid), 5.0):
            raise TokenmillError(f"processes {group_members(state.cloud_pid)} do not end; stop them by hand")
    (folder / "cloud.json").unlink(missing_ok=True)
    return state


def _fleet(plan: Plan) -> str:
    chosen = plan.chosen
    copies = "1 copy" if chosen.capacity.initial == 1 else f"{chosen.capacity.initial} copies"
    price = "price unknown" if chosen.usd_per_hour is None else f"{chosen.usd_per_hour:.2f} USD/h"
    return f"{plan.model.id} on {chosen.instances} x {chosen.instance_type}, {copies}, {price}"
