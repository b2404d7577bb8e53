"""The app: one stack for each section of tokenmill.toml, checked by the packs that cdk.json names."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import aws_cdk as cdk
from acknowledgements import acknowledge_batch, acknowledge_findings

from tokenmill.core.batch_plan import read_batch_plan
from tokenmill.core.errors import TokenmillError
from tokenmill.core.settings import load_batch, load_settings, read_plan
from tokenmill.lint import register_packs
from tokenmill_stacks import BatchStack, ChatStack

if TYPE_CHECKING:
    from tokenmill.core.batch_settings import BatchSettings
    from tokenmill.core.settings import StackSettings

SETTINGS = Path(__file__).resolve().parent / "tokenmill.toml"


def build(app: cdk.App) -> None:
    """Add the stacks and the checks to an app.

    Args:
        app: The app.

    Raises:
        TokenmillError: If settings or plan are wrong; every wrong setting is named.
    """
    context = app.node.get_all_context()
    sections, batch = load_settings(SETTINGS, context=context), load_batch(SETTINGS, context=context)
    if "chat" not in sections and batch is None:
        raise TokenmillError(f"{SETTINGS} has no section [chat] or [batch]; it has {', '.join(sections)}")
    if "chat" in sections:
        add_chat(app, sections["chat"])
    if batch is not None:
        add_batch(app, batch)
    register_packs(app, packs=app.node.try_get_context("tokenmill:packs") or [])


def add_chat(app: cdk.App, settings: StackSettings) -> None:
    """Add the stack of the section [chat].

    Args:
        app: The app.
        settings: The section.
    """
    plan, warnings = read_plan(settings) if settings.needs_plan else (None, ())
    env = cdk.Environment(account=os.environ.get("CDK_DEFAULT_ACCOUNT"), region=settings.region)
    stack = ChatStack(app, "tokenmill-chat", settings=settings, plan=plan, env=env)
    for number, warning in enumerate(warnings):
        cdk.Validations.of(stack).add_warning(f"tokenmill:Plan{number}", warning)
    acknowledge_findings(stack)


def add_batch(app: cdk.App, settings: BatchSettings) -> None:
    """Add the stack of the section [batch].

    Args:
        app: The app.
        settings: The section.
    """
    env = cdk.Environment(account=os.environ.get("CDK_DEFAULT_ACCOUNT"), region=settings.region)
    plan = read_batch_plan(settings)
    stack = BatchStack(app, "tokenmill-batch", settings=settings, plan=plan, env=env)
    acknowledge_batch(stack)


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
