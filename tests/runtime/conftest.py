"""AWS on loopback for the runtime's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import openai
import pytest

from support_runtime import FakeAws, Gateway, Ticks, gateway_config
from tokenmill_runtime import aws as aws_clients

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> Iterator[FakeAws]:
    """A fake AWS that boto3 finds by its standard variables."""
    fake = FakeAws()
    for name in ("AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, f"{tmp_path}/none") if name != "AWS_PROFILE" else monkeypatch.delenv(
            name, False
        )
    for name, value in {
        "AWS_ENDPOINT_URL": fake.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    clients = [made for made in vars(aws_clients).values() if hasattr(made, "cache_clear")]
    for client in clients:
        client.cache_clear()
    yield fake
    for client in clients:
        if client.cache_info().currsize:
            client().close()
        client.cache_clear()
    fake.close()


@pytest.fixture
def ticks() -> Ticks:
    """A clock that stands still."""
    return Ticks()


@pytest.fixture
def start_gateway(aws: FakeAws, ticks: Ticks) -> Iterator[Callable[..., Gateway]]:
    """Starts gateways; keywords change the configuration."""
    started: list[Gateway] = []

    def start(*, deadline: float | None = None, **changes: object) -> Gateway:
        started.append(Gateway(gateway_config(**changes), ticks, deadline=deadline))
        return started[-1]

    yield start
    for gateway in started:
        gateway.close()


@pytest.fixture
def gateway(start_gateway: Callable[..., Gateway]) -> Gateway:
    """A gateway with a conversation table."""
    return start_gateway(conversation_table="turns")


@pytest.fixture
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    """OpenAI's own client, pointed at the gateway."""
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="anna", max_retries=0) as made:
        yield made
