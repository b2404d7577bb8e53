"""A copy of the examples with one local cloud in it, driven by the command line as a person would."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from support_local import client, close_clients
from tokenmill.local.processes import group_members, wait_until
from tokenmill.local.state import CloudState, require_running

ROOT = Path(__file__).resolve().parents[1]
TOKENMILL = (sys.executable, "-c", "from tokenmill.cli import main; main()")
COMMAND_SECONDS = 240


class Examples:
    """The folder `examples` copied, beside nothing of the project but its CDK CLI on PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "examples"
        shutil.copytree(
            ROOT / "examples", self.folder, ignore=shutil.ignore_patterns("cdk.out", "__pycache__")
        )
        source = [str(ROOT / name) for name in ("constructs", "lambda")]
        tools = [str(Path(sys.executable).parent), str(ROOT / "node_modules" / ".bin"), os.environ["PATH"]]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        self.env = {
            **kept,
            "PATH": os.pathsep.join(tools),
            "PYTHONPATH": os.pathsep.join(source),
            "COLUMNS": "200",
        }
        self._client_env: dict[str, str] = {}

    def start(self, example: str) -> None:
        """Start `tokenmill up` of the first example, which stays."""
        log = (self.folder / "up.log").open("w")
        with log:
            self.process = subprocess.Popen(
                [*TOKENMILL, *self._up(example)],
                cwd=self.folder,
                env=self.env,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

        def settled() -> bool:
            return self.process.poll() is not None or "up until Ctrl-C" in self.log

        assert wait_until(settled, COMMAND_SECONDS), self.log
        assert self.process.poll() is None, self.log
        self.group = self.state.cloud_pid
        exports = self.run("env").stdout.splitlines()
        pairs = (line.removeprefix("export ").split("=", 1) for line in exports)
        self._client_env = {name: value.strip("'") for name, value in pairs}

    def stop(self) -> None:
        """Interrupt it, and end what is left of it."""
        close_clients(self.state.endpoint)
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        wait_until(lambda: not group_members(self.group), 5)
        for member in group_members(self.group):
            os.kill(member, signal.SIGKILL)

    @property
    def log(self) -> str:
        return (self.folder / "up.log").read_text()

    @property
    def state(self) -> CloudState:
        return require_running(self.folder / ".tokenmill")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of ours to its end, with what `tokenmill env` says."""
        return subprocess.run(
            [*TOKENMILL, *arguments],
            cwd=self.folder,
            env={**self.env, **self._client_env},
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )

    def up(self, example: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Deploy an example into the running cloud."""
        return self.run(*self._up(example), *arguments)

    def deployed(self, example: str, *arguments: str) -> dict[str, str]:
        """Deploy an example, which must succeed; return its outputs."""
        done = self.up(example, "--json", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        outputs: dict[str, str] = json.loads(done.stdout)["outputs"]
        return outputs

    def edit(self, example: str, *changes: tuple[str, str]) -> None:
        """Change an example's app as a person would."""
        path = self.folder / example / "app.py"
        text = path.read_text()
        for before, after in changes:
            assert text.count(before) == 1, (before, text)
            text = text.replace(before, after)
        path.write_text(text)

    def client(self, service: str) -> Any:
        return client(self.state.endpoint, service)

    def ask(self, endpoint: str, component: str | None = None) -> dict[str, Any]:
        """One chat completion of an endpoint, by the name of a component where it has such."""
        named = {} if component is None else {"InferenceComponentName": component}
        body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}
        answer = self.client("sagemaker-runtime").invoke_endpoint(
            EndpointName=endpoint, ContentType="application/json", Body=json.dumps(body), **named
        )
        document: dict[str, Any] = json.loads(answer["Body"].read())
        return document

    def read(self, bucket: str, key: str, seconds: float = 60) -> bytes:
        """An object that somebody else writes soon."""
        s3 = self.client("s3")

        def there() -> bool:
            return any(
                item["Key"] == key
                for item in s3.list_objects_v2(Bucket=bucket, Prefix=key).get("Contents", [])
            )

        assert wait_until(there, seconds), f"s3://{bucket}/{key} does not come"
        content: bytes = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        return content

    def fail(self, **faults: Any) -> None:
        """Inject faults, as docs/local-cloud.md says."""
        import httpx

        state = self.state
        answer = httpx.post(
            f"{state.endpoint}/_tokenmill/faults",
            json={"account": state.account, "region": state.region, **faults},
            trust_env=False,
        )
        assert answer.status_code == 200, answer.text

    def stack_status(self, stack: str) -> str:
        [found] = self.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
        status: str = found["StackStatus"]
        return status

    def _up(self, example: str) -> tuple[str, ...]:
        return ("up", "--app", f"python {example}/app.py")


def requests_file(count: int) -> bytes:
    """Lines of chat completion requests."""
    body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
    return "".join(json.dumps(body) + "\n" for _ in range(count)).encode()


def alarm_state(examples: Examples, name: str) -> str:
    [alarm] = examples.client("cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"]
    state: str = alarm["StateValue"]
    return state


def publish(examples: Examples, *, namespace: str, metric: str, value: float) -> None:
    """Put one value of a metric."""
    data = [{"MetricName": metric, "Value": value, "Timestamp": time.time()}]
    examples.client("cloudwatch").put_metric_data(Namespace=namespace, MetricData=data)
