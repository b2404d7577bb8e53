"""Nothing outlives whoever started it: after stop, and after kill -9 of the parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from support_local import REGION, client, close_clients, listening_addresses
from tokenmill.local.cloud_process import CloudProcess
from tokenmill.local.processes import group_members, start_time, wait_until
from tokenmill.local.state import CloudState, require_running, running_cloud

if TYPE_CHECKING:
    from pathlib import Path

PARENT = """
import sys
from pathlib import Path
from tokenmill.local.cloud_process import CloudProcess
cloud = CloudProcess(Path(sys.argv[1]), port=0, region="us-east-1", startup_seconds=0.01)
cloud.wait()
print(cloud.pid, cloud.endpoint, flush=True)
sys.stdin.read()
"""
HANDLER = "def handler(event, context):\n    return 1\n"


def busy(endpoint: str, group: int) -> None:
    """Start a model server and a Lambda worker in the cloud."""
    import io
    import zipfile

    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as bundle:
        bundle.writestr("index.py", HANDLER)
    functions = client(endpoint, "lambda")
    functions.create_function(
        FunctionName="probe",
        Runtime="python3.13",
        Role="arn:aws:iam::000000000000:role/probe",
        Handler="index.handler",
        Code={"ZipFile": code.getvalue()},
    )
    assert functions.invoke(FunctionName="probe")["Payload"].read() == b"1"
    request = {"modelId": "a.model", "messages": [{"role": "user", "content": [{"text": "hi"}]}]}
    client(endpoint, "bedrock-runtime").converse(**request, inferenceConfig={"maxTokens": 1})
    close_clients(endpoint)
    assert len(group_members(group)) == 3, "the cloud, a Lambda worker and a model server"


def test_stop_leaves_no_process_of_the_group_and_no_listener(tmp_path: Path) -> None:
    cloud = CloudProcess(tmp_path, port=0, region=REGION, startup_seconds=0.01)
    try:
        cloud.wait()
        busy(cloud.endpoint, cloud.pid)
    finally:
        cloud.stop()
    assert group_members(cloud.pid) == []
    assert not (tmp_path / "tmp").exists(), "unpacked Lambda code is cleared away"


@pytest.mark.parametrize("victim", ["parent", "cloud"])
def test_kill_9_of_parent_or_cloud_ends_everything(tmp_path: Path, victim: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        assert parent.stdout is not None
        pid, endpoint = parent.stdout.readline().split()
        group = int(pid)
        try:
            busy(endpoint, group)
            assert listening_addresses(group)
            os.kill(parent.pid if victim == "parent" else group, signal.SIGKILL)
            assert wait_until(lambda: not group_members(group), 10), group_members(group)
            assert listening_addresses(group) == []
        finally:
            for member in group_members(group):
                os.kill(member, signal.SIGKILL)
            parent.kill()


def state(pid: int, started: str) -> CloudState:
    return CloudState(
        up_pid=pid,
        up_started=started,
        cloud_pid=pid,
        cloud_started=started,
        endpoint="http://127.0.0.1:1",
        port=1,
        account="000000000000",
        region=REGION,
    )


def test_a_state_file_of_a_process_that_is_gone_counts_as_no_cloud(tmp_path: Path) -> None:
    """The same process id with another start time is another process."""
    started = start_time(os.getpid())
    assert started is not None
    state(os.getpid(), started).write(tmp_path)
    assert running_cloud(tmp_path) == require_running(tmp_path)
    state(os.getpid(), "another time").write(tmp_path)
    assert running_cloud(tmp_path) is None


def test_the_state_file_with_its_key_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    state(os.getpid(), "now").write(tmp_path)
    assert (tmp_path / "cloud.json").stat().st_mode & 0o077 == 0
