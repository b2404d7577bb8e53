"""A deployed model in a notebook, through the SageMaker Python SDK: predict, chat, stream, in the background.

Needs the extra `tokenmill[sagemaker]`; nothing here is imported at synth.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import boto3
    from mypy_boto3_sagemaker_runtime import SageMakerRuntimeClient

JSON = "application/json"
EVENTS = "text/event-stream"

Message = dict[str, str]


class SdkEndpoint(Protocol):
    """What of `sagemaker.core.resources.Endpoint` (SageMaker Python SDK 3) is used."""

    endpoint_name: Any

    def invoke(self, body: Any, **options: Any) -> Any:
        """Invoke the endpoint."""

    def invoke_async(self, input_location: str, **options: Any) -> Any:
        """Invoke an asynchronous endpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmPredictor:
    """A model that answers in a notebook.

    Args:
        endpoint: The SDK's endpoint.
        runtime: boto3's client of the same endpoint, for streams: the SDK's own method fails on each of them
            (sagemaker-core 2.27.0: 'EventStream' object has no attribute 'get').
        component: The inference component; None for an endpoint of one variant.
    """

    endpoint: SdkEndpoint
    runtime: SageMakerRuntimeClient
    component: str | None = None

    def predict(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to one request, as the container gives it.

        SageMaker ends a request after 60 seconds ("InvokeEndpoint"); longer answers need `stream`.

        Args:
            body: An OpenAI chat completion or completion request.
        """
        named = {} if self.component is None else {"inference_component_name": self.component}
        answer = self.endpoint.invoke(json.dumps(body).encode(), content_type=JSON, accept=JSON, **named)
        document: dict[str, Any] = json.loads(_whole(answer.body))
        return document

    def chat(self, messages: str | Sequence[Message], **options: Any) -> str:
        """Return the text of an answer, put together from its stream.

        Args:
            messages: The messages, or the user's only one.
            options: Further fields of the request, such as max_tokens or temperature.
        """
        return "".join(self.stream(messages, **options))

    def stream(self, messages: str | Sequence[Message], **options: Any) -> Iterator[str]:
        """Yield the pieces of an answer as they come.

        Args:
            messages: The messages, or the user's only one.
            options: Further fields of the request, such as max_tokens or temperature.

        Raises:
            TokenmillError: If the model breaks off with an error.
        """
        asked = [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
        body = json.dumps({**options, "messages": asked, "stream": True}).encode()
        named = {} if self.component is None else {"InferenceComponentName": self.component}
        answer = self.runtime.invoke_endpoint_with_response_stream(
            EndpointName=str(self.endpoint.endpoint_name), Body=body, ContentType=JSON, Accept=EVENTS, **named
        )
        yield from _texts(answer["Body"])

    def later(self, input_location: str, **options: Any) -> str:
        """Start an asynchronous invocation and return where its answer will be.

        Args:
            input_location: S3 URI of the request.
            options: Further fields, such as inference_id.
        """
        answer = self.endpoint.invoke_async(input_location, content_type=JSON, **options)
        return str(answer.output_location)


def predictor(
    *,
    stack: str | None = None,
    endpoint: str | None = None,
    component: str | None = None,
    session: boto3.Session | None = None,
) -> LlmPredictor:
    """Return the predictor of a deployed stack, or of an endpoint by name.

    Args:
        stack: A stack with the outputs EndpointName and perhaps ComponentName, such as "tokenmill-chat".
        endpoint: The endpoint's name, instead of a stack.
        component: The component's name, with an endpoint.
        session: Credentials and region; those of the environment otherwise.

    Raises:
        TokenmillError: If neither or both are given, the stack has no endpoint, or the SDK is not installed.
    """
    if (stack is None) == (endpoint is None):
        raise TokenmillError("give either stack or endpoint, such as predictor(stack='tokenmill-chat')")
    if stack is not None:
        if component is not None:
            raise TokenmillError("component goes with endpoint; a stack names its own in ComponentName")
        endpoint, component = _outputs(stack, session)
    import boto3

    runtime = (session or boto3.Session()).client("sagemaker-runtime")
    found = _sdk_endpoint(str(endpoint), session)
    return LlmPredictor(endpoint=found, runtime=runtime, component=component)


def _outputs(stack: str, session: boto3.Session | None) -> tuple[str, str | None]:
    import boto3
    from botocore.exceptions import ClientError

    client = (session or boto3.Session()).client("cloudformation")
    try:
        described = client.describe_stacks(StackName=stack)["Stacks"][0]
    except ClientError as error:
        raise TokenmillError(
            f"stack {stack!r} cannot be read: {error.response['Error']['Message']}"
        ) from None
    outputs = {entry["OutputKey"]: entry["OutputValue"] for entry in described.get("Outputs", [])}
    if "EndpointName" not in outputs:
        named = ", ".join(sorted(outputs)) or "none"
        raise TokenmillError(f"stack {stack!r} has no output EndpointName; its outputs: {named}")
    return outputs["EndpointName"], outputs.get("ComponentName")


def _sdk_endpoint(name: str, session: boto3.Session | None) -> SdkEndpoint:
    try:
        from sagemaker.core.resources import Endpoint
    except ImportError as error:
        raise TokenmillError(
            f"the sagemaker sdk cannot be loaded ({error}); run: pip install 'tokenmill[sagemaker]'"
        ) from None
    region = None if session is None else session.region_name
    found: SdkEndpoint = Endpoint.get(name, session=session, region=region)
    return found


def _whole(body: Any) -> bytes:
    content = body.read() if hasattr(body, "read") else body
    return content if isinstance(content, bytes) else str(content).encode()


def _texts(events: Any) -> Iterator[str]:
    from tokenmill_runtime.gateway.aws_errors import error_message
    from tokenmill_runtime.gateway.sse import DONE, SseDecoder

    decoder = SseDecoder()
    for event in events:
        for data in decoder.feed(event.get("PayloadPart", {}).get("Bytes", b"")):
            if data == DONE:
                return
            chunk = json.loads(data)
            message = error_message(chunk)
            if message is not None:
                raise TokenmillError(f"the model broke off: {message}")
            for choice in chunk.get("choices") or []:
                if text := (choice.get("delta") or {}).get("content"):
                    yield text
