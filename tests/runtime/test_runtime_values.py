"""Token work, EMF lines, the gateway's document and API keys: pure values."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support_runtime import COEFFICIENTS, gateway_config
from tokenmill_runtime import api_keys
from tokenmill_runtime.emf import emf_line
from tokenmill_runtime.gateway_config import GatewayConfig, GatewayConfigError
from tokenmill_runtime.token_work import TokenWorkCoefficients, token_work

counts = st.integers(min_value=0, max_value=10**7)


@given(first=counts, second=counts, output=counts)
def test_token_work_is_linear(first: int, second: int, output: int) -> None:
    """Work of two loads is the work of their sum, which is what proportional scaling assumes."""

    def work(tokens: int, out: int, requests: int) -> float:
        return token_work(
            input_tokens=tokens,
            cached_input_tokens=0,
            output_tokens=out,
            coefficients=COEFFICIENTS,
            requests=requests,
        )

    parts = work(first, output, 1) + work(second, 0, 1)
    assert work(first + second, output, 2) == pytest.approx(parts)


def test_token_work_by_hand() -> None:
    """10 ms a request, 1 ms a token that is not cached, 100 ms a token out."""
    work = token_work(input_tokens=50, cached_input_tokens=20, output_tokens=3, coefficients=COEFFICIENTS)
    assert work == pytest.approx(0.01 + 30 * 0.001 + 3 * 0.1)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"input_tokens": -1}, "input_tokens must be 0 or more, got -1"),
        ({"output_tokens": -2}, "output_tokens must be 0 or more, got -2"),
        ({"requests": -1}, "requests must be 0 or more"),
        ({"cached_input_tokens": 5}, r"cached_input_tokens must be at most input_tokens \(4\), got 5"),
    ],
)
def test_token_work_refuses_impossible_counts(counts: dict[str, int], message: str) -> None:
    """With the value and what is allowed."""
    given = {"input_tokens": 4, "cached_input_tokens": 0, "output_tokens": 0, **counts}
    with pytest.raises(ValueError, match=message):
        token_work(**given, coefficients=COEFFICIENTS)


@pytest.mark.parametrize("value", [-0.1, float("inf"), float("nan"), "1", True, None])
def test_coefficients_are_finite_seconds(value: Any) -> None:
    """Anything else would poison every metric."""
    with pytest.raises(ValueError, match="prefill_seconds_per_token must be a"):
        replace(COEFFICIENTS, prefill_seconds_per_token=value)


def test_coefficients_that_see_no_load_are_refused() -> None:
    """All zero would scale to the minimum under any traffic."""
    with pytest.raises(ValueError, match="all 0"):
        TokenWorkCoefficients(
            prefill_seconds_per_request=0, prefill_seconds_per_token=0, decode_seconds_per_token=0
        )


def test_coefficients_round_trip() -> None:
    """And a document of another form is refused with its keys."""
    assert TokenWorkCoefficients.from_json(json.loads(json.dumps(COEFFICIENTS.to_json()))) == COEFFICIENTS
    with pytest.raises(ValueError, match=r"exactly the keys .* got \['a'\]"):
        TokenWorkCoefficients.from_json({"a": 1})
    with pytest.raises(ValueError, match="got 7"):
        TokenWorkCoefficients.from_json(7)  # type: ignore[arg-type]  # read from JSON, so it can be anything


def test_an_emf_line_by_hand() -> None:
    """Namespace, dimension, units and resolutions of the contract; properties are no dimensions."""
    line = emf_line(
        {"TokenWork": -0.5, "Requests": 1}, target="comp", publisher="gateway", timestamp=1.5, request_id="r"
    )
    assert "\n" not in line
    metrics = [
        {"Name": "TokenWork", "Unit": "Seconds", "StorageResolution": 1},
        {"Name": "Requests", "Unit": "Count", "StorageResolution": 60},
    ]
    directive = {"Namespace": "tokenmill", "Dimensions": [["Target"]], "Metrics": metrics}
    assert json.loads(line) == {
        "_aws": {"Timestamp": 1500, "CloudWatchMetrics": [directive]},
        "request_id": "r",
        "Target": "comp",
        "TokenWork": -0.5,
        "Requests": 1,
    }


@pytest.mark.parametrize(
    ("values", "target", "message"),
    [
        ({}, "t", "at least one metric"),
        ({"Requests": 1}, "", "a target"),
        ({"Latency": 1}, "t", "gateway may publish .*, got 'Latency'"),
        ({"Copies": 1}, "t", "got 'Copies'"),
        ({"Requests": float("nan")}, "t", "Requests must be finite, got nan"),
    ],
)
def test_emf_refuses_what_the_contract_does_not_have(
    values: dict[str, float], target: str, message: str
) -> None:
    """A name that no dashboard knows would vanish silently."""
    with pytest.raises(ValueError, match=message):
        emf_line(values, target=target, publisher="gateway", timestamp=0)


def test_the_gateway_document_round_trips() -> None:
    """Through JSON, as the template renders it."""
    config = gateway_config(conversation_table="t", conversation_ttl_days=3, max_body_bytes=7)
    text = json.dumps(config.to_document())
    assert GatewayConfig.from_environment({"TOKENMILL_GATEWAY": text}) == config
    assert json.loads(text)["models"][0]["token_work"] == COEFFICIENTS.to_json()


def test_every_problem_of_a_document_is_told_at_once() -> None:
    """One line each, with the key, its value and what is allowed."""
    good = gateway_config().to_document()
    models: Any = good["models"]
    work = {**COEFFICIENTS.to_json(), "decode_seconds_per_token": -1}
    bad = {
        **good,
        "schema": 2,
        "extra": 1,
        "plan_hash": "",
        "conversation_table": 5,
        "conversation_ttl_days": 0,
        "max_body_bytes": "1",
        "models": [
            {**models[0], "backend": "gpu", "context_tokens": True, "colour": "red"},
            {**models[0], "component": 7, "token_work": work},
            {**models[1], "bedrock_model_id": None, "token_work": 3, "name": None},
            "model",
            models[1],
            models[1],
        ],
    }
    with pytest.raises(GatewayConfigError) as raised:
        GatewayConfig.from_document(bad)
    text = str(raised.value)
    for expected in (
        "schema must be 1, got 2",
        "extra is unknown; known are conversation_table",
        "plan_hash must be a text, got ''",
        "conversation_table must be a text or null, got 5",
        "conversation_ttl_days must be an integer above 0, got 0",
        "max_body_bytes must be an integer above 0, got '1'",
        "models[0].backend must be one of sagemaker, bedrock, got 'gpu'",
        "models[0].context_tokens must be an integer above 0, got True",
        "models[0].colour is unknown",
        "models[1].component must be a text or null, got 7",
        "models[1].token_work: decode_seconds_per_token must be a finite number",
        "models[2].bedrock_model_id must be a text, got None",
        "models[2].token_work must be a JSON object, got 3",
        "models[2].name must be a text, got None",
        "models[3] must be a JSON object, got 'model'",
        "models must have different names, got 'claude' more than once",
    ):
        assert expected in text.splitlines() or expected in text, expected
    assert len(raised.value.problems) == len(text.splitlines())


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "TOKENMILL_GATEWAY is not set"),
        ({"TOKENMILL_GATEWAY": "{"}, "TOKENMILL_GATEWAY is not JSON"),
        ({"TOKENMILL_GATEWAY": "[]"}, "must be a JSON object"),
        ({"TOKENMILL_GATEWAY": '{"schema": 1, "models": []}'}, "at least one model"),
    ],
)
def test_a_missing_document_is_told(environment: dict[str, str], message: str) -> None:
    """In the words of the function's environment."""
    with pytest.raises(GatewayConfigError, match=message):
        GatewayConfig.from_environment(environment)


def test_a_key_and_its_item_belong_together() -> None:
    """The item has the id and the hash, never the secret; its form is the client's."""
    key, item = api_keys.new_key(label="ci", created=datetime(2026, 1, 2, tzinfo=UTC))
    parsed = api_keys.parse_key(key)
    assert parsed is not None
    key_id, secret = parsed
    assert item == {
        "key_id": {"S": key_id},
        "secret_sha256": {"S": api_keys.hash_secret(secret)},
        "created": {"S": "2026-01-02T00:00:00+00:00"},
        "revoked": {"BOOL": False},
        "label": {"S": "ci"},
    }
    assert secret not in json.dumps(item)
    assert api_keys.secret_matches(secret, api_keys.hash_secret(secret))
    assert not api_keys.secret_matches(secret + "x", api_keys.hash_secret(secret))


def test_keys_differ_and_have_the_present_as_their_date() -> None:
    """256 random bits each."""
    made = [api_keys.new_key() for _ in range(50)]
    assert len({key for key, _ in made}) == 50
    created = datetime.fromisoformat(str(made[0][1]["created"]["S"]))
    assert created.tzinfo is not None and abs((datetime.now(UTC) - created).total_seconds()) < 60


@pytest.mark.parametrize(
    "text",
    ["", "tm-", "sk-0123456789ab-" + "a" * 43, "tm-0123456789AB-" + "a" * 43, "tm-0123456789ab-" + "a" * 42]
    + ["tm-0123456789ab-" + "a" * 43 + "\n", "tm-0123456789ab-" + "é" * 43, "x" * 100_000],
)
def test_other_texts_are_no_keys(text: str) -> None:
    """Including one with a line break behind it."""
    assert api_keys.parse_key(text) is None


@pytest.mark.parametrize("module", ["authorizer", "heartbeat"])
def test_handlers_do_not_load_boto3_when_imported(module: str) -> None:
    """boto3 comes at first use, and the web framework never."""
    root = Path(api_keys.__file__).parents[1]
    code = f"import sys, tokenmill_runtime.{module}; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert {"boto3", "botocore", "starlette", "asyncio"} & set(found.stdout.split()) == set()
