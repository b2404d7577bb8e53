"""The heartbeat against SageMaker's control plane over real HTTP."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support_runtime import FakeAws
from tokenmill_runtime import heartbeat

if TYPE_CHECKING:
    from support_runtime import FakeAws


def beat(monkeypatch: pytest.MonkeyPatch, *targets: dict[str, Any]) -> None:
    monkeypatch.setenv("TOKENMILL_HEARTBEAT", json.dumps({"targets": targets}))
    heartbeat.handler({}, None)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def values(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name != "_aws"}


def test_zero_demand_and_the_copies_in_service(
    aws: FakeAws, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Zeros first, then the copies; a Bedrock model has no copies to count."""
    aws.copies = {"comp": 3, "empty": 0}
    beat(
        monkeypatch,
        {"target": "comp", "component": "comp"},
        {"target": "empty", "component": "empty"},
        {"target": "anthropic.c", "component": None},
    )
    assert [values(line) for line in lines(capsys)] == [
        {"Target": "comp", "TokenWork": 0, "Requests": 0},
        {"Target": "empty", "TokenWork": 0, "Requests": 0},
        {"Target": "anthropic.c", "TokenWork": 0, "Requests": 0},
        {"Target": "comp", "Copies": 3},
        {"Target": "empty", "Copies": 0},
    ]


def test_a_component_that_cannot_be_read_does_not_stop_the_others(
    aws: FakeAws, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All zeros go out, without a copy count that nobody knows; then the failure is raised by name."""
    aws.copies = {"comp": 1}
    with pytest.raises(heartbeat.HeartbeatError, match="gone: .*Could not find gone"):
        beat(monkeypatch, {"target": "gone", "component": "gone"}, {"target": "comp", "component": "comp"})
    assert [values(line) for line in lines(capsys)] == [
        {"Target": "gone", "TokenWork": 0, "Requests": 0},
        {"Target": "comp", "TokenWork": 0, "Requests": 0},
        {"Target": "comp", "Copies": 1},
    ]


def test_zero_demand_is_out_before_sagemaker_is_asked(
    aws: FakeAws, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A control plane that hangs until the function's time is over takes no target's zero along."""

    def killed(component: str) -> int:
        raise SystemExit

    monkeypatch.setattr(heartbeat, "_copies", killed)
    with pytest.raises(SystemExit):
        beat(monkeypatch, {"target": "comp", "component": "comp"}, {"target": "c", "component": None})
    assert [line["Target"] for line in lines(capsys)] == ["comp", "c"]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"targets": 1}',
        '{"targets": [{"target": "a"}]}',
        '{"targets": [{"target": "", "component": null}]}',
    ]
    + ['{"targets": [{"target": "a", "component": 1}]}', '{"targets": ["a"]}'],
)
def test_a_document_of_another_form_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """With the form that it must have."""
    monkeypatch.setenv("TOKENMILL_HEARTBEAT", text)
    with pytest.raises(ValueError, match="TOKENMILL_HEARTBEAT must be"):
        heartbeat.handler({}, None)


def test_a_missing_document_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the words of the function's environment."""
    monkeypatch.delenv("TOKENMILL_HEARTBEAT", raising=False)
    with pytest.raises(ValueError, match="TOKENMILL_HEARTBEAT is not set"):
        heartbeat.handler({}, None)


def test_the_instances_of_an_endpoint_of_one_variant_are_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In single-variant mode a copy is an instance, and the endpoint says how many are in service."""
    from support_fake_aws import FakeAws as FakeControlPlane

    fake = FakeControlPlane()
    asked: list[dict[str, Any]] = []
    fake.answers["sagemaker", "DescribeEndpoint"] = lambda request: (
        asked.append(request)
        or {"ProductionVariants": [{"VariantName": "AllTraffic", "CurrentInstanceCount": 3}]}
    )
    for name, value in {
        "AWS_ENDPOINT_URL": fake.url, "AWS_ACCESS_KEY_ID": "t", "AWS_SECRET_ACCESS_KEY": "t",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    heartbeat.sagemaker.cache_clear()
    try:
        beat(monkeypatch, {"target": "chat", "component": None, "endpoint": "chat"})
    finally:
        heartbeat.sagemaker().close()
        heartbeat.sagemaker.cache_clear()
        fake.close()
    assert asked == [{"EndpointName": "chat"}]
    assert [line.get("Copies") for line in lines(capsys)] == [None, 3]
