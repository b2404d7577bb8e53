"""A question in the form of Converse and ConverseStream (AWS pages of the same names)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenmill_runtime.gateway.backend import ModelCall
    from tokenmill_runtime.gateway.chat_request import Message
    from tokenmill_runtime.gateway_options import PromptUse

UNITS: Final = ":provisioned-model/"
_INFERENCE_CONFIG: Final = {"temperature": "temperature", "top_p": "topP", "stop": "stopSequences"}


def converse_arguments(call: ModelCall, model_id: str, *, streamed: bool) -> dict[str, Any]:
    """The arguments of Converse, or of ConverseStream, for this model id or ARN."""
    use = call.model.bedrock
    prompt = None if use is None else use.prompt
    arguments = _from_prompt(call, prompt) if prompt is not None else _from_messages(call)
    arguments["modelId"] = model_id
    # Units are capacity of their own; tiers and the faster version are ways to share a model's on demand.
    if use is not None and UNITS not in model_id:
        if use.service_tier is not None:
            arguments["serviceTier"] = {"type": use.service_tier}
        if use.latency is not None:
            arguments["performanceConfig"] = {"latency": use.latency}
    guardrail = call.model.guardrail
    if guardrail is not None:
        config = {"guardrailIdentifier": guardrail.id, "guardrailVersion": guardrail.version}
        arguments["guardrailConfig"] = (
            {**config, "streamProcessingMode": guardrail.mode} if streamed else config
        )
    return arguments


def _from_messages(call: ModelCall) -> dict[str, Any]:
    limit = call.max_tokens if call.max_tokens is not None else call.model.max_output_tokens
    config: dict[str, Any] = {"maxTokens": limit}
    config.update({_INFERENCE_CONFIG[name]: value for name, value in call.options.items()})
    arguments = {"messages": _alternating(call.messages), "inferenceConfig": config}
    system = [{"text": message.content} for message in call.messages if message.role == "system"]
    return {**arguments, "system": system} if system else arguments


def _from_prompt(call: ModelCall, prompt: PromptUse) -> dict[str, Any]:
    """A managed prompt has its own system text and inference parameters, and the request none beside them."""
    variables = dict(prompt.variables)
    messages = {} if prompt.question is not None else {"messages": _alternating(call.messages)}
    if prompt.question is not None:
        variables[prompt.question] = call.messages[-1].content
    filled = {name: {"text": text} for name, text in variables.items()}
    return {**messages, "promptVariables": filled} if filled else messages


def _alternating(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages of the same role in a row become one: Converse wants the roles to take turns."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "system":
            continue
        if turns and turns[-1]["role"] == message.role:
            turns[-1]["content"].append({"text": message.content})
        else:
            turns.append({"role": message.role, "content": [{"text": message.content}]})
    return turns
