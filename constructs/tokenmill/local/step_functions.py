"""Step Functions' service integrations that MiniStack lacks, put into its interpreter.

Source: AWS Step Functions Developer Guide, "Create and manage Amazon SageMaker AI jobs with Step Functions"
(request response and `.sync`), "Run a Job (.sync)" and "AWS SDK service integrations" (names of errors).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tokenmill.local.aws_requests import AwsError, ModelledService, Params, Scope, dispatch
from tokenmill.local.sagemaker.jobs import ENDED, in_milliseconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenmill.local.clients import CloudClients
    from tokenmill.local.ministack_seams import Ministack
    from tokenmill.local.sagemaker.control import SageMaker

OPTIMIZED = "arn:aws:states:::sagemaker:"
SDK = "arn:aws:states:::aws-sdk:"
POLL_SECONDS = 0.25
# Jobs that `.sync` waits for: what describes them, and their status.
_JOBS = {
    "CreateTrainingJob": ("DescribeTrainingJob", "TrainingJobName", "TrainingJobStatus"),
    "CreateTransformJob": ("DescribeTransformJob", "TransformJobName", "TransformJobStatus"),
}
# Operations of services without a JSON protocol, called through boto3.
_THROUGH_CLIENTS = {
    "s3:getObject": ("s3", "S3"),
    "s3:putObject": ("s3", "S3"),
    "sagemakerruntime:invokeEndpoint": ("sagemaker-runtime", "SageMakerRuntime"),
    "sagemakerruntime:invokeEndpointAsync": ("sagemaker-runtime", "SageMakerRuntime"),
}


class Integrations:
    """The integrations.

    Args:
        ministack: MiniStack's modules.
        sagemaker: The control plane.
        clients: boto3 clients of the cloud.
    """

    def __init__(self, ministack: Ministack, sagemaker: SageMaker, clients: CloudClients) -> None:
        self._ministack = ministack
        self._sagemaker = sagemaker
        self._clients = clients

    def install(self) -> None:
        """Put them into the interpreter."""
        table: dict[str, Any] = {OPTIMIZED: self._optimized}
        table |= {f"{SDK}{name}": self._through_client for name in _THROUGH_CLIENTS}
        self._ministack.step_functions._SERVICE_DISPATCH.update(table)

    def offer(self, name: str, service: ModelledService, *, target: str, errors: str) -> None:
        """Let `aws-sdk:` integrations call a service of ours that has a JSON protocol.

        Args:
            name: The service in the integration's ARN.
            service: The service.
            target: Prefix of its `X-Amz-Target`.
            errors: What its errors begin with.
        """

        async def handle(
            method: str, path: str, headers: Mapping[str, str], body: Any, query: Mapping[str, Any]
        ) -> tuple[int, dict[str, str], bytes]:
            scope = self._ministack.scope()
            raw = body.encode() if isinstance(body, str) else body
            return dispatch(
                service.shapes,
                headers["x-amz-target"],
                raw,
                lambda name, params: service.call(scope, name, params),
            )

        self._ministack.app.SERVICE_HANDLERS[name] = handle
        self._ministack.step_functions._AWS_SDK_SERVICE_MAP[name] = {
            "target_prefix": target,
            "protocol": "json",
            "service_key": name,
        }
        self._ministack.step_functions._AWS_SDK_ERROR_PREFIX[name] = errors

    def _optimized(self, resource: str, given: Params) -> Params:
        """Run `arn:aws:states:::sagemaker:ACTION`, and wait for its job where it ends with `.sync`."""
        action, _, pattern = resource.removeprefix(OPTIMIZED).partition(".")
        operation, scope = action[0].upper() + action[1:], self._ministack.scope()
        answer = self._call(scope, operation, given)
        if pattern != "sync":
            return answer
        if operation not in _JOBS:
            raise self._error("States.Runtime", f"{resource} has no .sync form here; it has {list(_JOBS)}")
        described, name, status = _JOBS[operation]
        while True:
            document = self._call(scope, described, {name: given[name]})
            if document[status] in ENDED:
                break
            self._ministack.step_functions._scaled_sleep(POLL_SECONDS)
        if document[status] != "Completed":
            raise self._error("States.TaskFailed", json.dumps(document))
        return document

    def _call(self, scope: Scope, operation: str, params: Params) -> Params:
        try:
            self._sagemaker.shapes.check(operation, params)
            return dict(in_milliseconds(self._sagemaker.call(scope, operation, params)))
        except AwsError as error:
            name = (
                "AmazonSageMakerException"
                if error.code == "ValidationException"
                else f"{error.code}Exception"
            )
            raise self._error(f"SageMaker.{name}", error.message) from error

    def _through_client(self, resource: str, given: Params) -> Any:
        name = resource.removeprefix(SDK)
        if name not in _THROUGH_CLIENTS:
            # MiniStack looks an integration up by how it begins: getObjectTagging finds getObject.
            return self._ministack.step_functions._invoke_aws_sdk_integration(resource, given)
        import botocore.exceptions

        service, prefix = _THROUGH_CLIENTS[name]
        client = self._clients.client(self._ministack.scope(), service)
        operation = name.partition(":")[2]
        method = next(
            m for m, api in client.meta.method_to_api_mapping.items() if api.lower() == operation.lower()
        )
        try:
            answer = getattr(client, method)(**_with_text_body(given))
        except botocore.exceptions.ClientError as error:
            told = error.response["Error"]
            code = f"{told['Code'].removesuffix('Exception')}Exception"
            raise self._error(f"{prefix}.{code}", told.get("Message", "")) from error
        except botocore.exceptions.ParamValidationError as error:
            raise self._error("States.Runtime", str(error)) from error
        return _document(answer)

    def _error(self, error: str, cause: str) -> Exception:
        raised: Exception = self._ministack.step_functions._ExecutionError(error, cause)
        return raised


def _with_text_body(given: Params) -> Params:
    """Return parameters whose Body, a document here, is the text that Step Functions would send."""
    if "Body" not in given or isinstance(given["Body"], str):
        return given
    return {**given, "Body": json.dumps(given["Body"])}


def _document(answer: Params) -> Params:
    """Return an SDK's answer as a state's result: bodies as text, times as ISO 8601."""
    result: Params = {}
    for name, value in answer.items():
        if name == "ResponseMetadata":
            continue
        if hasattr(value, "read"):
            with value as body:
                result[name] = body.read().decode()
        elif hasattr(value, "isoformat"):
            result[name] = value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        else:
            result[name] = value
    return result
