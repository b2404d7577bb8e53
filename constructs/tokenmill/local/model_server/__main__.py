"""Start one model server: `python -m tokenmill.local.model_server --model NAME --port 8000`."""

from __future__ import annotations

import argparse
import json
import os
import sys

import uvicorn

from tokenmill.core.engine_timing import EngineTiming
from tokenmill.core.errors import TokenmillError
from tokenmill.local.model_server.app import ModelServer, ModelSettings
from tokenmill.local.model_server.defaults import DEFAULT_TIMING
from tokenmill.local.model_server.upstream import Upstream
from tokenmill.local.processes import exit_with_parent, listener, listener_from_fd, serve
from tokenmill.local.sagemaker.fleet import MODEL_URL

_ENGINE_HELP = "EngineTiming as JSON; without it a documented default"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tokenmill.local.model_server", description=__doc__)
    parser.add_argument("--model", required=True, help="model that the server stands in for")
    parser.add_argument("--engine", default=None, help=_ENGINE_HELP)
    parser.add_argument("--context-tokens", type=int, default=None, help="longest prompt and answer together")
    parser.add_argument("--copies", type=int, default=1, help="engines that share the requests")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--listen-fd", type=int, default=None, help="a listening socket to take over")
    parser.add_argument("--exit-with-parent", action="store_true", help="stop when standard input ends")
    return parser.parse_args()


def main() -> None:
    """Serve until a signal, or until the parent is gone."""
    arguments = _arguments()
    timing = EngineTiming.from_json(json.loads(arguments.engine)) if arguments.engine else DEFAULT_TIMING
    settings = ModelSettings(
        model=arguments.model,
        timing=timing,
        context_tokens=arguments.context_tokens or timing.kv_capacity_tokens,
        copies=arguments.copies,
        planned=arguments.engine is not None,
    )
    url = os.environ.get(MODEL_URL)
    upstream = None
    if url:
        upstream = Upstream(
            url, model=os.environ.get("TOKENMILL_MODEL_NAME"), key=os.environ.get("TOKENMILL_MODEL_KEY")
        )
    sock = listener(arguments.port) if arguments.listen_fd is None else listener_from_fd(arguments.listen_fd)
    if arguments.exit_with_parent:
        exit_with_parent()
    else:
        sys.stdout.write(f"{arguments.model} on http://127.0.0.1:{sock.getsockname()[1]}/v1\n")
        sys.stdout.flush()
    server = ModelServer(settings, upstream=upstream)
    serve(uvicorn.Config(server.application(), log_level="warning", access_log=False), sock)


if __name__ == "__main__":
    try:
        main()
    except TokenmillError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(error.exit_code) from None
