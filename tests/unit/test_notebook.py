"""The predictor of notebooks; the SDK itself is tried nightly (tests/packaging/test_sagemaker_extra.py)."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace
from typing import Any

import pytest

from tokenmill.core.errors import TokenmillError
from tokenmill.notebook import LlmPredictor, predictor


class Endpoint:
    """What the SDK's endpoint does with a request."""

    endpoint_name = "chat"

    def __init__(self) -> None:
        self.asked: list[tuple[Any, dict[str, Any]]] = []

    def invoke(self, body: bytes, **options: Any) -> Any:
        self.asked.append((json.loads(body), options))
        return SimpleNamespace(body=io.BytesIO(b'{"choices": []}'))

    def invoke_async(self, input_location: str, **options: Any) -> Any:
        self.asked.append((input_location, options))
        return SimpleNamespace(output_location="s3://b/out")


class Runtime:
    """boto3's client, whose streams are cut anywhere."""

    def __init__(self, text: str) -> None:
        self.asked: list[dict[str, Any]] = []
        self._text = text.encode()

    def invoke_endpoint_with_response_stream(self, **options: Any) -> dict[str, Any]:
        self.asked.append(options)
        parts = [self._text[start : start + 7] for start in range(0, len(self._text), 7)]
        return {"Body": [{"PayloadPart": {"Bytes": part}} for part in parts]}


def events(*documents: Any) -> str:
    return "".join(f"data: {one if isinstance(one, str) else json.dumps(one)}\n\n" for one in documents)


def delta(text: str | None) -> dict[str, Any]:
    return {"choices": [{"delta": {} if text is None else {"content": text}}]}


def test_a_stream_is_pieces_and_a_chat_is_their_text() -> None:
    """Cut inside a character too; the component is named, the one message is the user's."""
    runtime = Runtime(events(delta("Grü"), delta(None), delta("ße"), "[DONE]", delta("never")))
    model = LlmPredictor(endpoint=Endpoint(), runtime=runtime, component="chat-1")
    assert list(model.stream("Hi", max_tokens=3)) == ["Grü", "ße"]
    (asked,) = runtime.asked
    assert (asked["EndpointName"], asked["InferenceComponentName"]) == ("chat", "chat-1")
    body = json.loads(asked["Body"])
    assert body == {"max_tokens": 3, "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    assert model.chat([{"role": "system", "content": "s"}]) == "Grüße"


def test_an_endpoint_of_one_variant_has_no_component() -> None:
    """Naming one there is refused by the service."""
    endpoint, runtime = Endpoint(), Runtime(events("[DONE]"))
    model = LlmPredictor(endpoint=endpoint, runtime=runtime)
    assert model.chat("Hi") == ""
    assert model.predict({"messages": []}) == {"choices": []}
    assert "InferenceComponentName" not in runtime.asked[0]
    assert "inference_component_name" not in endpoint.asked[0][1]


def test_a_prediction_is_the_container_s_document() -> None:
    """Sent as JSON to the component."""
    endpoint = Endpoint()
    model = LlmPredictor(endpoint=endpoint, runtime=Runtime(""), component="chat-1")
    assert model.predict({"prompt": "x"}) == {"choices": []}
    body, options = endpoint.asked[0]
    assert (body, options["inference_component_name"]) == ({"prompt": "x"}, "chat-1")
    assert model.later("s3://b/in") == "s3://b/out"


def test_fails_when_the_model_breaks_off() -> None:
    """The container's own words."""
    runtime = Runtime(events(delta("a"), {"error": {"message": "out of memory"}}))
    model = LlmPredictor(endpoint=Endpoint(), runtime=runtime)
    with pytest.raises(TokenmillError, match="the model broke off: out of memory"):
        model.chat("Hi")


@pytest.mark.parametrize("names", [{}, {"stack": "s", "endpoint": "e"}])
def test_fails_without_one_name(names: dict[str, str]) -> None:
    """One way or the other."""
    with pytest.raises(TokenmillError, match="give either stack or endpoint"):
        predictor(**names)


def test_fails_for_a_component_of_a_stack() -> None:
    """The stack names its own."""
    with pytest.raises(TokenmillError, match="component goes with endpoint"):
        predictor(stack="s", component="c")
