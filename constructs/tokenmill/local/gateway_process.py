"""The gateway's process: the deployed gateway code under uvicorn, with API Gateway's front door before it."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import uvicorn

from tokenmill.local.front_door import DeployedApi, FrontDoor
from tokenmill.local.processes import exit_with_parent, listener_from_fd, serve

if TYPE_CHECKING:
    from collections.abc import Mapping


def invoke_function(function: str, event: Mapping[str, Any]) -> tuple[Any, bool]:
    """Invoke a deployed function; return its answer and whether it failed.

    Args:
        function: Name or ARN.
        event: What it gets.
    """
    import boto3

    answer = boto3.client("lambda").invoke(FunctionName=function, Payload=json.dumps(event).encode())
    return json.loads(answer["Payload"].read() or b"null"), "FunctionError" in answer


def application(handler: str) -> Any:
    """Return the ASGI application that a function's handler names.

    Args:
        handler: `module:factory`, as the streaming bootstrap reads it.
    """
    module, _, name = handler.partition(":")
    return getattr(importlib.import_module(module), name)()


def main() -> None:
    """Serve until a signal, or until the parent is gone."""
    parser = argparse.ArgumentParser(prog="python -m tokenmill.local.gateway_process", description=__doc__)
    parser.add_argument("--listen-fd", type=int, required=True)
    parser.add_argument("--api-id", required=True)
    parser.add_argument("--stage", required=True)
    parser.add_argument("--account", required=True)
    arguments = parser.parse_args()
    exit_with_parent()
    sock = listener_from_fd(arguments.listen_fd)
    sys.path[:0] = filter(None, os.environ.get("TOKENMILL_DEPLOYED_CODE", "").split(os.pathsep))
    region = os.environ["AWS_REGION"]
    api = DeployedApi.read(
        api_id=arguments.api_id, stage=arguments.stage, account=arguments.account, region=region
    )
    door = FrontDoor(api, application(os.environ["_HANDLER"]), invoke=invoke_function)
    serve(uvicorn.Config(door, log_level="warning", access_log=False, lifespan="on"), sock)


if __name__ == "__main__":
    main()
