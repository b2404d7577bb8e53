"""The state machine of a job that makes one version of a model artifact."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tokenmill.customization._tasks import POLL_SECONDS, Making, States, sdk
from tokenmill_runtime import artifact_versions, jobs

if TYPE_CHECKING:
    from collections.abc import Mapping

# What of the base of a model's name a job's own name keeps, beside 40 digits of its execution.
JOB_BASE = 20
RECIPE_DIGITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """What a version, its model and its recipe are called.

    Args:
        artifact: The artifact's path.
        base: The beginning of the model's name.
        recipe: SHA-256 of what the model is made of.
    """

    artifact: str
    base: str
    recipe: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobAbout:
    """What a job says of itself.

    Args:
        kind: Its kind, such as "import".
        name: The construct's id.
        about: One sentence for people.
        limit_seconds: After how long a run is stopped, in seconds.
        cost: What is paid for, in words.
        paid: Whether a run itself costs money, so that `tokenmill jobs run` asks first.
        facts: What else stands in a version's manifest, such as the source.
    """

    kind: str
    name: str
    about: str
    limit_seconds: int
    cost: str
    paid: bool
    facts: Mapping[str, str] = field(default_factory=dict)


def definition(about: JobAbout, naming: Naming, making: Making, *, partition: str) -> States:
    """Return the state machine: look, find what an earlier run left, make, record for ever.

    Args:
        about: What the job says of itself.
        naming: Its names.
        making: How the model is made.
        partition: The AWS partition.
    """
    description = {
        "kind": about.kind,
        "name": about.name,
        "about": about.about,
        "limit_seconds": about.limit_seconds,
        "cost": about.cost,
        "paid": about.paid,
        "artifact": naming.artifact,
        "recipe": naming.recipe,
        "input": {"version": "1"},
    }
    return {
        "Comment": f"{about.about}; start it with: tokenmill jobs run {about.kind}",
        "StartAt": jobs.DESCRIPTION_STATE,
        "TimeoutSeconds": about.limit_seconds,
        "States": {
            jobs.DESCRIPTION_STATE: jobs.description_state(description, following="CheckInput"),
            **_input_check(),
            "Names": _names(naming),
            **_look(naming, partition),
            **_find(making.finding, partition),
            **making.states,
            **_record(about, naming, partition),
        },
    }


def _input_check() -> States:
    version = "$.version"
    given = [
        {"Variable": version, "IsPresent": True},
        {"Variable": version, "IsString": True},
        {"Not": {"Variable": version, "StringEquals": ""}},
        # A path of its own would be another artifact's.
        {"Not": {"Variable": version, "StringMatches": "*/*"}},
    ]
    return {
        "CheckInput": {
            "Type": "Choice",
            "Choices": [{"And": given, "Next": "Names"}],
            "Default": "InputRefused",
        },
        "InputRefused": {
            "Type": "Fail",
            "Error": "InputRefused",
            "Cause": f'the input must be {{"version": "..."}} with {artifact_versions.VERSION_RULE}',
        },
    }


def _names(naming: Naming) -> States:
    short = naming.recipe[:RECIPE_DIGITS]
    return {
        "Type": "Pass",
        "Parameters": {
            "version.$": "$.version",
            "parameter.$": f"States.Format('{naming.artifact}/{{}}', $.version)",
            # Found again by its name, which has the recipe in it: what is found is what is asked for.
            "model_name.$": f"States.Format('{naming.base}-{{}}-{short}', $.version)",
            "job_name.$": f"States.Format('{naming.base[:JOB_BASE].rstrip('-')}-{{}}', "
            "States.Hash($$.Execution.Id, 'SHA-1'))",
        },
        "Next": "Look",
    }


def _look(naming: Naming, partition: str) -> States:
    taken = (
        "version {} is built already, from another recipe ({}); versions never change, so run the job with "
        "another version"
    )
    return {
        "Look": sdk(
            partition,
            "ssm:getParameter",
            {"Name.$": "$.parameter"},
            ResultSelector={"manifest.$": "States.StringToJson($.Parameter.Value)"},
            ResultPath="$.found",
            Catch=[{"ErrorEquals": _named("ParameterNotFound"), "ResultPath": "$.missing", "Next": "Find"}],
            Next="IsSame",
        ),
        "IsSame": {
            "Type": "Choice",
            "Choices": [
                {
                    "Variable": "$.found.manifest.recipe",
                    "StringEquals": naming.recipe,
                    "Next": "AlreadyBuilt",
                }
            ],
            "Default": "VersionTaken",
        },
        "AlreadyBuilt": {"Type": "Succeed", "InputPath": "$.found.manifest"},
        "VersionTaken": {
            "Type": "Fail",
            "Error": "VersionTaken",
            "CausePath": f"States.Format('{taken}', $.version, $.found.manifest.recipe)",
        },
    }


def _named(code: str) -> list[str]:
    """Return an error of the Parameter Store by the SDK for Java's name, which is not the service's own."""
    return [f"Ssm.{code}Exception", f"Ssm.{code}"]


def _find(finding: str, partition: str) -> States:
    def status(value: str, following: str) -> States:
        known = {"Variable": "$.model.ModelStatus", "IsPresent": True}
        same = {"Variable": "$.model.ModelStatus", "StringEquals": value}
        return {"And": [known, same], "Next": following}

    failed = (
        "model {} could not be made; see it with: aws bedrock get-custom-model --model-identifier {}, delete "
        "it with: aws bedrock delete-custom-model --model-identifier {}, and run the job again"
    )
    return {
        "Find": sdk(
            partition,
            f"bedrock:{finding}",
            {"ModelIdentifier.$": "$.model_name"},
            ResultPath="$.model",
            Catch=[
                {
                    "ErrorEquals": ["Bedrock.ResourceNotFoundException"],
                    "ResultPath": "$.missing",
                    "Next": "Make",
                }
            ],
            Next="IsMade",
        ),
        "IsMade": {
            "Type": "Choice",
            "Choices": [status("Creating", "WaitForModel"), status("Failed", "ModelFailed")],
            "Default": "Describe",
        },
        "WaitForModel": {"Type": "Wait", "Seconds": POLL_SECONDS, "Next": "Find"},
        "ModelFailed": {
            "Type": "Fail",
            "Error": "ModelFailed",
            "CausePath": f"States.Format('{failed}', $.model_name, $.model_name, $.model_name)",
        },
    }


def _record(about: JobAbout, naming: Naming, partition: str) -> States:
    return {
        "Describe": {
            "Type": "Pass",
            "Parameters": {
                "schema": artifact_versions.SCHEMA,
                "artifact": naming.artifact,
                "version.$": "$.version",
                "kind": about.kind,
                "model_arn.$": "$.model.ModelArn",
                "model_name.$": "$.model_name",
                "recipe": naming.recipe,
                "run.$": "$$.Execution.Id",
                "recorded.$": "$$.State.EnteredTime",
                **about.facts,
            },
            "ResultPath": "$.manifest",
            "Next": "Record",
        },
        "Record": sdk(
            partition,
            "ssm:putParameter",
            {
                "Name.$": "$.parameter",
                "Value.$": "States.JsonToString($.manifest)",
                "Type": "String",
                "Overwrite": False,
                "Description": f"A version of a model, made by the job {about.name}; consumers pin it",
            },
            ResultPath="$.recorded",
            Catch=[
                {
                    "ErrorEquals": _named("ParameterAlreadyExists"),
                    "ResultPath": "$.other",
                    "Next": "Look",
                }
            ],
            Next="Built",
        ),
        "Built": {"Type": "Succeed", "InputPath": "$.manifest"},
    }
