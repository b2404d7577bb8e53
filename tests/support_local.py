"""Helpers of the local cloud's tests: a clock that nobody waits for, a fleet without processes, clients."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from tokenmill.core.engine_timing import EngineTiming
from tokenmill.local.aws_requests import Scope
from tokenmill.local.processes import group_members
from tokenmill.local.sagemaker.fleet import LaunchError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenmill.local.sagemaker.fleet import Launch

ACCOUNT = "000000000000"
REGION = "us-east-1"
SCOPE = Scope(ACCOUNT, REGION)
ROLE = f"arn:aws:iam::{ACCOUNT}:role/serving"

TIMING = EngineTiming(
    step_base_ms=20.0,
    step_per_sequence_ms=1.0,
    step_per_kv_token_ms=0.0,
    prefill_base_ms=10.0,
    prefill_per_token_ms=1.0,
    prefill_buckets=(),
    max_sequences=4,
    kv_capacity_tokens=1000,
)


class FakeClock:
    """Time passes when somebody sleeps, and only then."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds
        await asyncio.sleep(0)


class FakeFleet:
    """Remembers what it is told; `failure` makes the next start fail."""

    def __init__(self) -> None:
        self.running: dict[str, Launch] = {}
        self.resized: list[tuple[str, int]] = []
        self.failure: str | None = None

    def start(self, key: str, launch: Launch) -> None:
        if self.failure is not None:
            raise LaunchError(self.failure)
        self.running[key] = launch

    def resize(self, key: str, copies: int) -> None:
        self.resized.append((key, copies))

    def stop(self, key: str) -> None:
        self.running.pop(key, None)

    def promote(self, key: str, onto: str) -> None:
        self.running[onto] = self.running.pop(key)

    def url(self, key: str) -> str | None:
        return f"http://127.0.0.1:9/{key}" if key in self.running else None


class ByHand:
    """Transitions that run when the test says so."""

    def __init__(self) -> None:
        self.jobs: list[Callable[[], None]] = []

    def __call__(self, job: Callable[[], None]) -> None:
        self.jobs.append(job)

    def run(self) -> None:
        jobs, self.jobs = self.jobs, []
        for job in jobs:
            job()


_clients: dict[tuple[str, str], Any] = {}


def client(endpoint: str, service: str) -> Any:
    """A boto3 client of a cloud, without retries; `close_clients` closes its connections."""
    if (endpoint, service) not in _clients:
        _clients[(endpoint, service)] = _new_client(endpoint, service)
    return _clients[(endpoint, service)]


def close_clients(endpoint: str) -> None:
    """Close the connections of every client of a cloud."""
    for key in [key for key in _clients if key[0] == endpoint]:
        _clients.pop(key).close()


def _new_client(endpoint: str, service: str) -> Any:
    make: Any = boto3.client
    return make(
        service,
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=ACCOUNT,
        aws_secret_access_key="local",
        config=Config(retries={"total_max_attempts": 1}),
    )


def variant(**changes: Any) -> dict[str, Any]:
    """A production variant for inference components."""
    return {
        "VariantName": "AllTraffic",
        "InstanceType": "ml.inf2.24xlarge",
        "InitialInstanceCount": 1,
        **changes,
    }


def specification(**changes: Any) -> dict[str, Any]:
    """A component's specification that takes two devices a copy."""
    return {
        "Container": {
            "Image": "image",
            "Environment": {"SM_ON_MODEL": "Qwen/Qwen3-8B", "SM_ON_SEQUENCE_LENGTH": "2048"},
        },
        "ComputeResourceRequirements": {
            "MinMemoryRequiredInMb": 1024,
            "NumberOfAcceleratorDevicesRequired": 2,
        },
        **changes,
    }


def listening_addresses(group: int) -> list[tuple[str, int]]:
    """Address and port of every TCP socket that a process group listens on (Linux)."""
    inodes = set()
    for pid in group_members(group):
        for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
            with contextlib.suppress(FileNotFoundError):
                target = os.readlink(descriptor)
                if target.startswith("socket:["):
                    inodes.add(target[8:-1])
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                address, port = fields[1].split(":")
                octets = [str(int(address[i : i + 2], 16)) for i in range(0, len(address), 2)]
                found.append((".".join(reversed(octets)), int(port, 16)))
    return found
