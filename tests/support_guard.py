"""The guard of deployments in a world over HTTP: what CloudFormation asks, and what it reads."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from support_deployment import SETTLED, STACK_ID, Component, Target, World, request
from support_fake_aws import FakeAws
from tokenmill_runtime import aws, custom_resource, deployment
from tokenmill_runtime.deployment_services import Services

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

HOLD, RELEASE = deployment.HOLD_TYPE, deployment.RELEASE_TYPE
COMPONENT = {"Component": "chat", "Declared": "2", "Minimum": "1", "Maximum": "8"}
VARIANT = {"Endpoint": "ep", "Variant": "AllTraffic", "Declared": "2", "Minimum": "1", "Maximum": "8"}
CHECKED = {
    "EndpointName": "ep",
    "ConfigName": "config-1",
    "Asked": [{"image": "repo:1"}],
    "Smoke": {"prompt": "Ready?", "max_tokens": "8", "wait_seconds": "60"},
}
RESOURCE = "inference-component/chat"
CLIENTS = (aws.sagemaker, aws.application_auto_scaling, aws.cloudformation, aws.sagemaker_smoke)


class Run:
    """The handler in a world; answers are what CloudFormation would read."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.answers: list[dict[str, Any]] = []
        self.services = Services(sleep=world.sleep, monotonic=lambda: world.now)

    def ask(self, *arguments: Any, **keywords: Any) -> dict[str, Any]:
        deployment.handle(request(*arguments, **keywords), None, self.services)
        return self.answers[-1]

    def settle(self, status: str) -> None:
        self.world.stack_status = status
        deployment.handle(SETTLED, None, self.services)

    @property
    def target(self) -> Target:
        return self.world.targets[RESOURCE]

    def hold(self, **changes: Any) -> str:
        """An update's hold; returns the token that its release will name."""
        answer = self.ask("Update", HOLD, COMPONENT, old=COMPONENT, **changes)
        assert answer["Status"] == "SUCCESS", answer["Reason"]
        return str(answer["Data"]["Held"])

    def release(self, held: str, **changes: Any) -> dict[str, Any]:
        copies = str(self.world.components["chat"].desired)
        properties = {**COMPONENT, **CHECKED, "Copies": copies, "Held": held, **changes}
        return self.ask("Update", RELEASE, properties, old={**COMPONENT, **CHECKED, "Held": "before"}, id="r")


def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """A handler whose clients reach a world with one component of five copies."""
    fake = FakeAws()
    for name, value in {
        "AWS_ENDPOINT_URL": fake.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        deployment.STACK_VARIABLE: STACK_ID,
        deployment.FLEETS_VARIABLE: json.dumps([RESOURCE]),
    }.items():
        monkeypatch.setenv(name, value)
    for client in CLIENTS:
        client.cache_clear()
    world = World()
    world.serve(fake)
    world.components["chat"] = Component(desired=5, current=5)
    world.targets[RESOURCE] = Target()
    made = Run(world)
    monkeypatch.setattr(custom_resource, "_put", lambda url, body: made.answers.append(json.loads(body)))
    yield made
    for client in CLIENTS:
        if client.cache_info().currsize:
            client().close()
        client.cache_clear()
    fake.close()
