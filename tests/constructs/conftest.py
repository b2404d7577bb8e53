"""Each kind of chat stack, built once a session: a synth costs more than all assertions on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
import pytest

from support_stack import REGION, chat_stack, make_app, template_of
from tokenmill.core.workload import Limits

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def prod(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The template of a production chat stack on SageMaker."""
    return template_of(chat_stack(tmp_path_factory.mktemp("prod")))


@pytest.fixture(scope="session")
def dev(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The template of a stack whose data goes with it."""
    return template_of(chat_stack(tmp_path_factory.mktemp("dev"), profile="dev"))


@pytest.fixture(scope="session")
def bedrock(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The template of a chat stack on Bedrock, through a cross-region profile."""
    stack = chat_stack(
        tmp_path_factory.mktemp("bedrock"),
        backend="bedrock",
        model="us.amazon.nova-lite-v1:0",
        limits=Limits(context_tokens=100_000),
    )
    return template_of(stack)


@pytest.fixture(scope="session")
def compliant(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The template of a stack that meets the packs."""
    return template_of(chat_stack(tmp_path_factory.mktemp("compliant"), compliance=True))


@pytest.fixture
def stack(tmp_path: Path) -> cdk.Stack:
    """An empty stack in a known region."""
    return cdk.Stack(make_app(tmp_path), "test", env=cdk.Environment(region=REGION))


@pytest.fixture
def agnostic(tmp_path: Path) -> cdk.Stack:
    """An empty stack whose region and account only the deployment knows."""
    return cdk.Stack(make_app(tmp_path), "test")
