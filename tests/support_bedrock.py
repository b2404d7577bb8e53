"""Bedrock's control plane on loopback HTTP, with a clock that stands still until a test moves it."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tokenmill.local.aws_requests import Scope
from tokenmill.local.bedrock import BedrockControl, Behaviour, UnitQuotas
from tokenmill.local.bedrock.http import BedrockServer

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCOUNT, REGION = "123456789012", "us-east-1"
SCOPE = Scope(ACCOUNT, REGION)
MODEL = "amazon.nova-lite-v1:0:24k"
PLENTY = UnitQuotas(base=100, custom=100, committed=100)


class Clock:
    """Seconds since 1970."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


class FakeBedrock:
    """A control plane, its server's address and its clock."""

    def __init__(
        self,
        *,
        behaviour: Behaviour | None = None,
        quotas: UnitQuotas | None = None,
        now: float | None = None,
    ) -> None:
        self.clock = Clock() if now is None else Clock(now)
        self.control = BedrockControl(
            clock=self.clock, behaviour=behaviour or Behaviour(), quotas=quotas or replace(PLENTY)
        )
        self.server = BedrockServer(self.control)

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def faults(self) -> Any:
        return self.control.faults

    @property
    def units(self) -> int:
        """Model units that are paid for."""
        return sum(model.units for model in self.control.provisioned.owned(SCOPE))

    def owned(self) -> list[Any]:
        """What is paid for, with tags, as it is."""
        return self.control.provisioned.owned(SCOPE)

    def client(self, service: str = "bedrock", **options: Any) -> Any:
        import boto3
        from botocore.config import Config

        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=ACCOUNT,
            aws_secret_access_key="secret",
            config=Config(retries={"total_max_attempts": 1}, **options),
        )


@contextlib.contextmanager
def bedrock_server(
    *, behaviour: Behaviour | None = None, quotas: UnitQuotas | None = None
) -> Iterator[FakeBedrock]:
    """Serve a control plane and point AWS_ENDPOINT_URL_BEDROCK at it, with credentials and a region."""
    import boto3

    fake = FakeBedrock(behaviour=behaviour, quotas=quotas)
    with fake.server, pytest.MonkeyPatch.context() as patch:
        # boto3 keeps the credentials that its first client found.
        patch.setattr(boto3, "DEFAULT_SESSION", None)
        patch.setenv("AWS_ENDPOINT_URL_BEDROCK", fake.url)
        patch.setenv("AWS_ACCESS_KEY_ID", ACCOUNT)
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        patch.setenv("AWS_REGION", REGION)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        for name in [name for name in os.environ if name in ("AWS_PROFILE", "AWS_SESSION_TOKEN")]:
            patch.delenv(name)
        yield fake
