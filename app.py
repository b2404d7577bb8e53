"""The app: one stack for each section of tokenmill.toml, checked by the packs that cdk.json names."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import aws_cdk as cdk
from acknowledgements import acknowledge_findings

from tokenmill.core.errors import TokenmillError
from tokenmill.core.settings import load_section, read_plan
from tokenmill.lint import register_packs
from tokenmill_stacks import ChatStack

SETTINGS = Path(__file__).resolve().parent / "tokenmill.toml"


def build(app: cdk.App) -> None:
    """Add the stacks and the checks to an app.

    Args:
        app: The app.

    Raises:
        TokenmillError: If settings or plan are wrong; every wrong setting is named.
    """
    settings = load_section(SETTINGS, "chat", context=app.node.get_all_context())
    plan, warnings = read_plan(settings) if settings.needs_plan else (None, ())
    env = cdk.Environment(account=os.environ.get("CDK_DEFAULT_ACCOUNT"), region=settings.region)
    stack = ChatStack(app, "tokenmill-chat", settings=settings, plan=plan, env=env)
    for number, warning in enumerate(warnings):
        cdk.Validations.of(stack).add_warning(f"tokenmill:Plan{number}", warning)
    acknowledge_findings(stack)
    register_packs(app, packs=app.node.try_get_context("tokenmill:packs") or [])


def main() -> None:
    """Synthesize; what the user can mend is a message and an exit code, never a traceback."""
    app = cdk.App()
    try:
        build(app)
    except TokenmillError as error:
        sys.stderr.write("".join(f"error: {line}\n" for line in str(error).splitlines()))
        raise SystemExit(error.exit_code) from None
    app.synth()


if __name__ == "__main__":
    main()
