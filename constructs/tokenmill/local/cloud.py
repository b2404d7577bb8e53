"""The cloud's process: `python -m tokenmill.local.cloud`, started by `tokenmill up`.

It leads a process group of its own; every process that it starts is in that group or ends with it.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from tokenmill.local.processes import LOOPBACK, exit_with_parent, kill_group, listener_from_fd

if TYPE_CHECKING:
    import socket

    from tokenmill.local.cloud_app import LocalCloud

DEFAULT_ACCOUNT = "000000000000"


def set_environment(port: int, *, region: str, state: Path) -> None:
    """Set what MiniStack reads when it is imported: loopback only, no Docker, nothing kept on disk.

    Args:
        port: Port of the AWS endpoint.
        region: Default region.
        state: Folder for temporary files.
    """
    temporary = state / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    os.environ.update(
        {
            "GATEWAY_PORT": str(port),
            "BIND_HOST": LOOPBACK,
            "MINISTACK_HOST": LOOPBACK,
            "MINISTACK_REGION": region,
            "MINISTACK_ACCOUNT_ID": DEFAULT_ACCOUNT,
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "PERSIST_STATE": "0",
            "S3_PERSIST": "0",
            "LOG_LEVEL": "WARNING",
            # MiniStack would otherwise clear away containers that it finds on the user's Docker.
            "DOCKER_HOST": "unix:///nonexistent",
            "TMPDIR": str(temporary),
            "AWS_EC2_METADATA_DISABLED": "true",
        }
    )


def main() -> None:
    """Serve until a signal, or until the parent is gone; then end everything that was started."""
    parser = argparse.ArgumentParser(prog="python -m tokenmill.local.cloud", description=__doc__)
    parser.add_argument("--aws-fd", type=int, required=True, help="listening socket of the AWS endpoint")
    parser.add_argument("--gateway-fd", type=int, required=True, help="listening socket of the gateway")
    parser.add_argument("--region", required=True)
    parser.add_argument("--state", type=Path, required=True, help="folder for logs, code and temporary files")
    parser.add_argument("--startup-seconds", type=float, default=1.0)
    arguments = parser.parse_args()
    aws, gateway = listener_from_fd(arguments.aws_fd), listener_from_fd(arguments.gateway_fd)
    for sock in (aws, gateway):
        os.set_inheritable(sock.fileno(), False)
    set_environment(aws.getsockname()[1], region=arguments.region, state=arguments.state)
    asyncio.run(_serve(aws, gateway, state=arguments.state, startup_seconds=arguments.startup_seconds))


async def _serve(aws: socket.socket, gateway: socket.socket, *, state: Path, startup_seconds: float) -> None:
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    from tokenmill.local.cloud_app import LocalCloud
    from tokenmill.local.gateway_supervisor import GatewaySupervisor
    from tokenmill.local.ministack_seams import Ministack, require_pinned_version
    from tokenmill.local.sagemaker.fleet import ModelServers
    from tokenmill.local.stack_view import StackView

    require_pinned_version()
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    orphaned = threading.Event()

    def parent_gone() -> None:
        orphaned.set()
        loop.call_soon_threadsafe(stop.set)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    exit_with_parent(parent_gone)
    endpoint = f"http://{LOOPBACK}:{aws.getsockname()[1]}"
    cloud = LocalCloud(Ministack.load(), ModelServers(state / "logs"), startup_seconds=startup_seconds)
    supervisor = GatewaySupervisor(gateway, folder=state, endpoint=endpoint)
    StackView(cloud, supervisor, endpoint=endpoint)
    threading.Thread(target=_warm_up, args=(cloud,), daemon=True).start()
    config = Config()
    config.bind = [f"fd://{aws.detach()}"]
    config.graceful_timeout = 1.0
    config.loglevel = "WARNING"
    watching = [
        asyncio.create_task(cloud.watch_alarms()),
        asyncio.create_task(cloud.others.bedrock.keep_time()),
    ]
    try:
        await serve(cloud, config, shutdown_trigger=stop.wait)  # type: ignore[arg-type]  # Hypercorn's own types of ASGI
    finally:
        for task in watching:
            task.cancel()
        await asyncio.to_thread(supervisor.stop)
        await cloud.close()
        await asyncio.to_thread(cloud.ministack.lambda_runtime.reset)
    logging.shutdown()
    if orphaned.is_set():
        kill_group(os.getpgrp())
    # MiniStack's worker threads are not daemons: an ordinary exit would wait for calls that never end.
    os._exit(0)


def _warm_up(cloud: LocalCloud) -> None:
    """Read botocore's models before the first request needs them."""
    for service in (
        cloud.sagemaker,
        cloud.autoscaling,
        cloud.others.bedrock.control,
        cloud.others.bedrock.runtime,
    ):
        _ = service.shapes.model


if __name__ == "__main__":
    main()
