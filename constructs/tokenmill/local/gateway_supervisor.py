"""Keeps the gateway's process in step with what is deployed: its code, its environment, its API."""

from __future__ import annotations

import hashlib
import io
import json
import os
import queue
import sys
import threading
import time
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from tokenmill.core.errors import TokenmillError
from tokenmill.local.processes import LOOPBACK, Child, listener

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_START_SECONDS = 30.0
_SHIP_SECONDS = 0.2
GATEWAY_VARIABLE = "TOKENMILL_GATEWAY"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedGateway:
    """The gateway function and its REST API, as the AWS API describes them."""

    function: Mapping[str, Any]
    code: tuple[tuple[str, str], ...]
    api_id: str
    stage: str
    deployment: str
    log_group: str

    @property
    def fingerprint(self) -> str:
        """Changes when the process must be another one."""
        parts = [
            [digest for _, digest in self.code],
            self.function.get("Environment"),
            self.function["Handler"],
            self.api_id,
            self.stage,
            self.deployment,
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def find_gateway(
    clients: Callable[[str], Any], resources: Sequence[Mapping[str, str]]
) -> DeployedGateway | None:
    """Return a stack's gateway; nothing when it has none.

    Args:
        clients: Gives a boto3 client by its service's name.
        resources: The stack's resources, as ListStackResources gives them.

    Raises:
        TokenmillError: There is a gateway function, and no REST API before it.
    """
    by_type: dict[str, list[str]] = {}
    for resource in resources:
        by_type.setdefault(resource["ResourceType"], []).append(resource["PhysicalResourceId"])
    for name in by_type.get("AWS::Lambda::Function", []):
        described = clients("lambda").get_function(FunctionName=name)
        function = described["Configuration"]
        if GATEWAY_VARIABLE not in (function.get("Environment") or {}).get("Variables", {}):
            continue
        if "AWS::ApiGateway::RestApi" not in by_type:
            raise TokenmillError(
                f"function {name} is a gateway ({GATEWAY_VARIABLE}), but the stack has no REST API"
            )
        api_id = by_type["AWS::ApiGateway::RestApi"][0]
        stage = clients("apigateway").get_stages(restApiId=api_id)["item"][0]
        code = [(described["Code"]["Location"], function["CodeSha256"])]
        for layer in function.get("Layers") or []:
            content = clients("lambda").get_layer_version_by_arn(Arn=layer["Arn"])["Content"]
            code.append((content["Location"], content["CodeSha256"]))
        group = (function.get("LoggingConfig") or {}).get("LogGroup")
        return DeployedGateway(
            function=function,
            code=tuple(code),
            api_id=api_id,
            stage=stage["stageName"],
            deployment=stage["deploymentId"],
            log_group=group or f"/aws/lambda/{function['FunctionName']}",
        )
    return None


class LogShipper:
    """Sends a process's lines to a log group, from where embedded metrics become metrics.

    Args:
        logs: boto3 client.
        group: The log group; made when the stack has not.
        stream: Name of the stream.
    """

    def __init__(self, logs: Any, *, group: str, stream: str) -> None:
        self._logs = logs
        self._group = group
        self._stream = stream
        self._lines: queue.SimpleQueue[tuple[int, str] | None] = queue.SimpleQueue()
        if not logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]:
            logs.create_log_group(logGroupName=group)
        logs.create_log_stream(logGroupName=group, logStreamName=stream)
        self._thread = threading.Thread(target=self._ship, name="gateway-logs", daemon=True)
        self._thread.start()

    def add(self, line: str) -> None:
        """Take one line.

        Args:
            line: Without its line end.
        """
        if line.strip():
            self._lines.put((int(time.time() * 1000), line))

    def close(self) -> None:
        """Send what is left."""
        self._lines.put(None)
        self._thread.join(timeout=2)

    def _ship(self) -> None:
        open_ = True
        while open_:
            batch = [self._lines.get()]
            time.sleep(_SHIP_SECONDS if batch[0] is not None else 0)
            while not self._lines.empty():
                batch.append(self._lines.get())
            open_ = None not in batch
            events = [{"timestamp": entry[0], "message": entry[1]} for entry in batch if entry is not None]
            if events:
                self._logs.put_log_events(
                    logGroupName=self._group, logStreamName=self._stream, logEvents=events
                )


class GatewaySupervisor:
    """The gateway's process, on one port for as long as the cloud runs.

    Args:
        sock: The listening socket that the first process takes over.
        folder: Where code and logs go.
        endpoint: The cloud's AWS endpoint.
    """

    def __init__(self, sock: socket.socket, *, folder: Path, endpoint: str) -> None:
        self.port: int = sock.getsockname()[1]
        self._sock: socket.socket | None = sock
        self._folder = folder
        self._endpoint = endpoint
        self._child: Child | None = None
        self._shipper: LogShipper | None = None
        self._fingerprint: str | None = None
        self._api_id: str | None = None
        self._lock = threading.RLock()

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._child is not None and self._child.returncode is None

    @property
    def pid(self) -> int | None:
        """Its process id."""
        return self._child.pid if self._child is not None and self.running else None

    def follow(self, gateway: DeployedGateway, *, account: str, clients: Callable[[str], Any]) -> bool:
        """Start the process for what is deployed; say whether it is a new one.

        Args:
            gateway: What is deployed.
            account: Whose.
            clients: Gives a boto3 client by its service's name.

        Raises:
            TokenmillError: It does not come up.
        """
        with self._lock:
            return self._follow(gateway, account, clients)

    def leave(self, api_id: str) -> None:
        """Stop the process in the background when it serves this REST API, which is being deleted.

        Args:
            api_id: The REST API.
        """
        if api_id == self._api_id:
            # What deletes it may be the event loop that the process's last log lines go through.
            threading.Thread(target=self.stop, name="gateway-stop").start()

    def _follow(self, gateway: DeployedGateway, account: str, clients: Callable[[str], Any]) -> bool:
        if self.running and gateway.fingerprint == self._fingerprint:
            return False
        self.stop()
        code = self._unpack(gateway)
        sock = self._sock or listener(self.port)
        self._sock = None
        stream = f"local/{int(time.time() * 1000)}"
        shipper = LogShipper(clients("logs"), group=gateway.log_group, stream=stream)
        command = [sys.executable, "-m", "tokenmill.local.gateway_process", "--account", account]
        command += ["--api-id", gateway.api_id, "--stage", gateway.stage, "--listen-fd", str(sock.fileno())]
        self._shipper = shipper
        self._child = Child(
            command,
            env=self._environment(gateway, account, code),
            log=self._folder / "logs" / "gateway.log",
            pass_fds=[sock.fileno()],
            on_line=shipper.add,
        )
        sock.close()
        self._await_answer(self._child)
        self._fingerprint, self._api_id = gateway.fingerprint, gateway.api_id
        return True

    def stop(self) -> None:
        """Stop the process."""
        with self._lock:
            if self._child is not None:
                self._child.stop()
            if self._shipper is not None:
                self._shipper.close()
            if self._sock is not None and self._child is not None:
                self._sock.close()
            self._child = self._shipper = self._fingerprint = self._api_id = None

    def _await_answer(self, child: Child) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if child.returncode is not None:
                raise TokenmillError(f"the gateway did not start:\n{child.last_words(20)}")
            try:
                httpx.get(f"http://{LOOPBACK}:{self.port}/health", timeout=5.0, trust_env=False)
            except httpx.TransportError:
                time.sleep(0.05)
                continue
            return
        raise TokenmillError(f"the gateway gave no answer in {_START_SECONDS:.0f} s:\n{child.last_words(20)}")

    def _environment(self, gateway: DeployedGateway, account: str, code: list[Path]) -> dict[str, str]:
        region = gateway.function["FunctionArn"].split(":")[3]
        inherited = {
            k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "PYTHONPATH", "TMPDIR")
        }
        return {
            **inherited,
            **(gateway.function.get("Environment") or {}).get("Variables", {}),
            "_HANDLER": gateway.function["Handler"],
            "AWS_LAMBDA_FUNCTION_NAME": gateway.function["FunctionName"],
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "AWS_ACCESS_KEY_ID": account,
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_ENDPOINT_URL": self._endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
            "PYTHONUNBUFFERED": "1",
            "TOKENMILL_DEPLOYED_CODE": os.pathsep.join(map(str, code)),
        }

    def _unpack(self, gateway: DeployedGateway) -> list[Path]:
        """Unpack the deployed code and its layers, once for each content."""
        paths = []
        for number, (url, digest) in enumerate(gateway.code):
            folder = self._folder / "code" / hashlib.sha256(digest.encode()).hexdigest()[:16]
            if not folder.exists():
                archive = httpx.get(url, trust_env=False, timeout=30.0)
                archive.raise_for_status()
                staged = folder.with_suffix(".part")
                with zipfile.ZipFile(io.BytesIO(archive.content)) as bundle:
                    bundle.extractall(staged)
                staged.rename(folder)
            paths.append(folder / "python" if number else folder)
        return paths
