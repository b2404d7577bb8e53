"""The `tokenmill` command: plan, try out, lint, deploy and verify LLM stacks."""

from __future__ import annotations

import importlib
import sys
from typing import Annotated

import typer

from tokenmill.cli._output import print_error
from tokenmill.core.errors import TokenmillError

COMMAND_MODULES = (
    "plan",
    "advise",
    "select",
    "cost",
    "catalog",
    "accuracy",
    "calibrate",
    "up",
    "chat",
    "lint",
    "doctor",
    "keys",
    "jobs",
    "verify",
)

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


def _print_version(requested: bool) -> None:
    if requested:
        from importlib.metadata import version

        typer.echo(f"tokenmill {version('tokenmill')}")
        raise typer.Exit


def build_app() -> typer.Typer:
    """Return the command line application with every command registered."""
    app = typer.Typer(
        name="tokenmill",
        help="Size, price, lint and try out LLM deployments on AWS before anyone pays for an instance.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )

    @app.callback()
    def root(
        version: Annotated[
            bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version")
        ] = False,
    ) -> None:
        """Size, price, lint and try out LLM deployments on AWS before anyone pays for an instance."""

    for name in COMMAND_MODULES:
        importlib.import_module(f"tokenmill.cli.{name}").register(app)
    return app


def main() -> None:
    """Run the command line; every error is one message and an exit code, never a traceback."""
    as_json = "--json" in sys.argv[1:]
    try:
        build_app()()
    except TokenmillError as error:
        print_error(str(error), as_json=as_json)
        raise SystemExit(error.exit_code) from None
    except OSError as error:
        print_error(_sentence(error), as_json=as_json)
        raise SystemExit(EXIT_BAD_INPUT) from None
    except KeyboardInterrupt:
        raise SystemExit(EXIT_INTERRUPTED) from None


def _sentence(error: OSError) -> str:
    where = f" ({error.filename})" if error.filename else ""
    return f"{(error.strerror or str(error)).lower()}{where}; check that the file, folder or disk is usable"
