"""Step Functions' integrations with Bedrock: every operation through the AWS SDK, and the optimised ones.

Source: AWS Step Functions Developer Guide, "Invoke and customize Amazon Bedrock models with Step Functions"
(bodies of `invokeModel`; `createModelCustomizationJob.sync`), "Learning to use AWS service SDK
integrations" (members and errors begin with capital letters).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tokenmill.local.member_names import capitalized, members_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenmill.local.aws_requests import Params
    from tokenmill.local.clients import CloudClients
    from tokenmill.local.ministack_seams import Ministack

SDK = "arn:aws:states:::aws-sdk:"
OPTIMIZED = "arn:aws:states:::bedrock:"
POLL_SECONDS = 0.25
SERVICES = {
    "bedrock": ("bedrock", "Bedrock"),
    "bedrockruntime": ("bedrock-runtime", "BedrockRuntime"),
    "bedrockagent": ("bedrock-agent", "BedrockAgent"),
    "servicequotas": ("service-quotas", "ServiceQuotas"),
}
ENDED = ("Completed", "Failed", "Stopped")


class BedrockIntegrations:
    """The integrations.

    Args:
        ministack: MiniStack's modules.
        clients: boto3 clients of the cloud.
    """

    def __init__(self, ministack: Ministack, clients: CloudClients) -> None:
        self._ministack = ministack
        self._clients = clients

    def install(self) -> None:
        """Put them into the interpreter."""
        table: dict[str, Callable[[str, Params], Any]] = {OPTIMIZED: self._optimized}
        table |= {f"{SDK}{name}:": self._through_sdk for name in SERVICES}
        self._ministack.step_functions._SERVICE_DISPATCH.update(table)

    def _through_sdk(self, resource: str, given: Params) -> Any:
        name, _, operation = resource.removeprefix(SDK).partition(":")
        return self._call(*SERVICES[name], operation, given)

    def _optimized(self, resource: str, given: Params) -> Any:
        action, _, pattern = resource.removeprefix(OPTIMIZED).partition(".")
        if action == "invokeModel" and not pattern:
            return self._invoke_model(given)
        if action != "createModelCustomizationJob" or pattern not in ("", "sync"):
            told = (
                f"{resource} is not served here; there are invokeModel and createModelCustomizationJob[.sync]"
            )
            raise self._error("States.Runtime", told)
        answer = self._call("bedrock", "Bedrock", action, given)
        while pattern == "sync":
            job = {"JobIdentifier": answer["JobArn"]}
            answer = self._call("bedrock", "Bedrock", "getModelCustomizationJob", job)
            if answer["Status"] == "Completed":
                break
            if answer["Status"] in ENDED:
                raise self._error("States.TaskFailed", json.dumps(answer))
            self._ministack.step_functions._scaled_sleep(POLL_SECONDS)
        return answer

    def _invoke_model(self, given: Params) -> Params:
        source = (given.get("Input") or {}).get("S3Uri")
        body = given.get("Body")
        if source is not None:
            bucket, _, key = source.removeprefix("s3://").partition("/")
            s3 = self._clients.client(self._ministack.scope(), "s3")
            with s3.get_object(Bucket=bucket, Key=key)["Body"] as stored:
                body = json.loads(stored.read())
        request = {name: value for name, value in given.items() if name not in ("Input", "Output")}
        request["Body"] = json.dumps(body)
        answer: Params = self._call("bedrock-runtime", "BedrockRuntime", "invokeModel", request)
        return {**answer, "Body": json.loads(answer["Body"])}

    def _call(self, service: str, prefix: str, operation: str, given: Params) -> Params:
        import botocore.exceptions

        client = self._clients.client(self._ministack.scope(), service)
        known = {api.lower(): (method, api) for method, api in client.meta.method_to_api_mapping.items()}
        if operation.lower() not in known:
            raise self._error("States.Runtime", f"{service} has no operation {operation}")
        method, api = known[operation.lower()]
        model = client.meta.service_model.operation_model(api)
        own = model.input_shape is None or all(name[0].isupper() for name in model.input_shape.members)
        try:
            answer = getattr(client, method)(**(given if own else members_of(model.input_shape, given)))
        except botocore.exceptions.ClientError as error:
            told = error.response["Error"]
            code = f"{told['Code'].removesuffix('Exception')}Exception"
            raise self._error(f"{prefix}.{code}", told.get("Message", "")) from error
        except botocore.exceptions.ParamValidationError as error:
            raise self._error("States.Runtime", str(error)) from error
        answer.pop("ResponseMetadata", None)
        return dict(_plain(answer if own else capitalized(model.output_shape, answer)))

    def _error(self, error: str, cause: str) -> Exception:
        raised: Exception = self._ministack.step_functions._ExecutionError(error, cause)
        return raised


def _plain(value: Any) -> Any:
    """Return an SDK's answer as a state's result: bodies as text, times as ISO 8601."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if hasattr(value, "read"):
        with value as body:
            return body.read().decode()
    if hasattr(value, "isoformat"):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return value
