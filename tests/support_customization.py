"""Jobs that make versions, in a stack, and what their state machines call."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
from aws_cdk import aws_s3 as s3
from ministack.services import stepfunctions

from support_stack import REGION, make_app, only
from support_states import States, definition
from tokenmill.customization import FineTuning, ImportSource, ModelArtifact, ModelCustomization, ModelImport
from tokenmill.customization import TrainingData as TrainingData
from tokenmill.endpoints import ModelSource

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

JOBS, SERVE = "jobs", "serve"
BASE = "amazon.nova-lite-v1:0:300k"
NOVA = "s3://customer-escrow-111122223333-smtj-abcd/run-1/checkpoint/"
IMPORTED = f"arn:aws:bedrock:{REGION}:000000000000:imported-model/abcdefabcdef"
CUSTOM = f"arn:aws:bedrock:{REGION}:000000000000:custom-model/imported/abcdefabcdef"


def two_stacks(folder: Path) -> tuple[cdk.Stack, cdk.Stack]:
    """The stack of the jobs and that of what consumes their versions."""
    app, where = make_app(folder), cdk.Environment(region=REGION)
    return cdk.Stack(app, JOBS, env=where), cdk.Stack(app, SERVE, env=where)


def bucket(scope: cdk.Stack, name: str = "weights") -> s3.IBucket:
    """A bucket that stands elsewhere."""
    return scope.node.try_find_child(name) or s3.Bucket.from_bucket_name(scope, name, name)


def weights(scope: cdk.Stack) -> ImportSource:
    """Open weights in that bucket."""
    return ImportSource.weights(ModelSource.s3(bucket(scope), prefix="models/acme-8b/"))


def model_import(scope: cdk.Stack, **changes: Any) -> ModelImport:
    """An import of open weights."""
    artifact = changes.pop("artifact", None) or ModelArtifact(scope, "Artifact")
    fields: dict[str, Any] = {"artifact": artifact, "source": weights(scope), **changes}
    return ModelImport(scope, "Import", **fields)


def customization(scope: cdk.Stack, **changes: Any) -> ModelCustomization:
    """A fine-tuning on one file."""
    artifact = changes.pop("artifact", None) or ModelArtifact(scope, "Artifact")
    fields: dict[str, Any] = {
        "artifact": artifact,
        "base_model": BASE,
        "recipe": FineTuning(epochs=2),
        "data": TrainingData(bucket=bucket(scope, "data"), training="july/train.jsonl"),
        **changes,
    }
    return ModelCustomization(scope, "Customize", **fields)


def machine(template: dict[str, Any]) -> dict[str, Any]:
    """The definition of the template's only state machine."""
    return definition(only(template, "AWS::StepFunctions::StateMachine"))


class Service:
    """What a run calls: parameters that are created once, and Bedrock's operations as the test gives them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.parameters: dict[str, str] = {}
        self.answers: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "aws-sdk:ssm:getParameter": self._get,
            "aws-sdk:ssm:putParameter": self._put,
        }
        self.states = States(monkeypatch)
        self._patch = monkeypatch

    def run(self, document: dict[str, Any], given: object, *, name: str = "run-1") -> dict[str, Any]:
        """Run to the end."""
        table = {
            f"arn:aws:states:::{integration}": self._calling(integration) for integration in self.answers
        }
        self._patch.setattr(stepfunctions, "_SERVICE_DISPATCH", {**stepfunctions._SERVICE_DISPATCH, **table})
        return self.states.run(document, given, name=name)

    def asked(self, integration: str) -> list[dict[str, Any]]:
        """What an integration was asked, call by call."""
        return [given for called, given in self.calls if called == integration]

    def manifest(self) -> dict[str, Any]:
        """The only version that was recorded."""
        (text,) = self.parameters.values()
        found: dict[str, Any] = json.loads(text)
        return found

    def missing(self, _: dict[str, Any]) -> dict[str, Any]:
        """There is no such model."""
        raise stepfunctions._ExecutionError("Bedrock.ResourceNotFoundException", "not found")

    def _calling(self, integration: str) -> Callable[[str, dict[str, Any]], dict[str, Any]]:
        def call(_: str, given: dict[str, Any]) -> dict[str, Any]:
            self.calls.append((integration, given))
            return self.answers[integration](given)

        return call

    def _get(self, given: dict[str, Any]) -> dict[str, Any]:
        if given["Name"] not in self.parameters:
            raise stepfunctions._ExecutionError("Ssm.ParameterNotFoundException", "")
        return {"Parameter": {"Value": self.parameters[given["Name"]]}}

    def _put(self, given: dict[str, Any]) -> dict[str, Any]:
        assert given["Overwrite"] is False
        if given["Name"] in self.parameters:
            raise stepfunctions._ExecutionError("Ssm.ParameterAlreadyExistsException", "")
        self.parameters[given["Name"]] = given["Value"]
        return {"Version": 1}


def problems_of(operation: str, parameters: dict[str, Any]) -> str:
    """What botocore finds wrong with an operation's parameters, which Step Functions writes in PascalCase."""
    import botocore.session
    from botocore.validate import ParamValidator

    def lower(value: Any) -> Any:
        if isinstance(value, dict):
            return {(key[0].lower() + key[1:]).removesuffix(".$"): lower(item) for key, item in value.items()}
        return [lower(item) for item in value] if isinstance(value, list) else value

    shape = botocore.session.get_session().get_service_model("bedrock").operation_model(operation).input_shape
    return str(ParamValidator().validate(lower(parameters), shape).generate_report())
