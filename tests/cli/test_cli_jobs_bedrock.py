"""`tokenmill jobs` with versions of models and batches: what is asked, started, and found built."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from support_fake_aws import ACCOUNT, AwsError, FakeAws
from support_jobs_command import StateMachines, error_of
from support_jobs_command import run_jobs as run
from tokenmill_runtime.jobs import KINDS

ARTIFACT = "/tokenmill/artifacts/jobs-Artifact-1"
RECIPE = "a" * 64
RETAINED = {
    "arn": "arn:units",
    "name": "chat-0f",
    "model": "amazon.nova-lite-v1:0:24k",
    "units": 2,
    "hourly_usd": 42.0,
    "daily_usd": 1008.0,
    "commitment": "ONE_MONTH",
    "expires": "2027-01-15T00:00:00+00:00",
    "reason": "committed until its term ends",
    "resource": "units",
    "stack": f"arn:aws:cloudformation:us-east-1:{ACCOUNT}:stack/chat/1-2",
    "logical_id": "Units",
    "since": "2026-12-15T00:00:00+00:00",
}


class Cloud(StateMachines):
    """Jobs of one kind, their runs, and the parameter store."""

    def __init__(self, fake: FakeAws) -> None:
        super().__init__(fake)
        self.parameters: dict[str, str] = {}
        fake.answers["ssm", "GetParameter"] = self._get
        fake.answers["ssm", "GetParametersByPath"] = self._list

    def add(self, kind: str, name: str = "Import", **about: Any) -> None:
        fields = {"artifact": ARTIFACT, "recipe": RECIPE, "input": {"version": "1"}, "limit_seconds": 7200}
        described = {
            "kind": kind,
            "name": name,
            "about": f"{kind}s a model",
            "cost": "free",
            **fields,
            **about,
        }
        self.deploy("jobs", described)

    def record(self, version: str, recipe: str = RECIPE) -> None:
        manifest = {
            "schema": 1,
            "artifact": ARTIFACT,
            "version": version,
            "kind": "import",
            "model_arn": "arn:model",
            "model_name": "m",
            "recipe": recipe,
            "run": "arn:run",
        }
        self.parameters[f"{ARTIFACT}/{version}"] = json.dumps(manifest)

    @property
    def started(self) -> list[tuple[str, str]]:
        return [(asked["name"], asked["input"]) for asked in self.starts]

    def _get(self, parameters: dict[str, Any]) -> dict[str, Any]:
        if parameters["Name"] not in self.parameters:
            raise AwsError("ParameterNotFound")
        return {"Parameter": {"Name": parameters["Name"], "Value": self.parameters[parameters["Name"]]}}

    def _list(self, parameters: dict[str, Any]) -> dict[str, Any]:
        found = [
            {"Name": name, "Value": value}
            for name, value in self.parameters.items()
            if name.startswith(f"{parameters['Path']}/")
        ]
        return {"Parameters": found}


@pytest.fixture
def cloud(fake_aws: FakeAws, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    made = Cloud(fake_aws)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setattr(time, "sleep", lambda _: made.finish())
    return made


VERSION_2 = ("--input", '{"version": "2"}')


def test_every_kind_of_job_is_named_in_the_help(cloud: Cloud) -> None:
    """A kind that help does not name is not found."""
    shown = "".join(run("run", "--help").stdout.split())
    assert {kind for kind in (*KINDS, "commit-units") if kind not in shown} <= {"commit-units"}
    assert {"import", "customize", "distill", "batch"} <= set(KINDS)


def test_an_import_is_free_and_starts_without_asking(cloud: Cloud) -> None:
    """What it costs afterwards is said."""
    cloud.add("import", cost="importing is free; the storage costs by the month")
    result = run("run", "import", *VERSION_2)
    assert result.exit_code == 0, result.output
    assert "imports a model: importing is free; the storage costs by the month" in result.stdout
    ((_, given),) = cloud.started
    assert json.loads(given) == {"version": "2"}
    assert "succeeded after 10 min" in result.stdout


@pytest.mark.parametrize("kind", ["customize", "distill"])
def test_training_is_asked_about(cloud: Cloud, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """It is paid for by the token, whatever comes of it."""
    cloud.add(kind, paid=True, cost="paid for by the token that is trained on")
    assert "nobody is there to ask; agree with --yes" in error_of(run("run", kind, *VERSION_2))
    monkeypatch.setattr("tokenmill.cli.jobs._somebody_is_there", lambda: True)
    assert error_of(run("run", kind, *VERSION_2, input="n\n")) == "not agreed, nothing was started"
    assert cloud.started == []
    assert run("run", kind, *VERSION_2, "--yes").exit_code == 0
    assert len(cloud.started) == 1


def test_a_version_that_is_built_is_not_built_again(cloud: Cloud) -> None:
    """Nothing is asked and nothing starts; another version is another run."""
    cloud.add("import")
    cloud.record("2")
    result = run("run", "import", *VERSION_2)
    assert result.stdout == "Import of jobs has version 2 already; nothing was started\n"
    assert json.loads(run("run", "import", *VERSION_2, "--json").stdout)["already_built"] is True
    assert cloud.started == []
    assert run("run", "import", "--input", '{"version": "3"}').exit_code == 0
    assert len(cloud.started) == 1


def test_fails_for_a_version_that_was_built_from_something_else(cloud: Cloud) -> None:
    """Before the state machine would."""
    cloud.add("import")
    cloud.record("2", recipe="b" * 64)
    assert "versions never change, so give --input another version" in error_of(
        run("run", "import", *VERSION_2)
    )


def test_two_people_who_build_one_version_build_it_once(cloud: Cloud) -> None:
    """The run's name is made of artifact, version and recipe; spaces of the input do not matter."""
    cloud.add("customize", paid=True)
    assert run("run", "customize", *VERSION_2, "--yes", "--no-wait").exit_code == 0
    second = run("run", "customize", "--input", '{"version":"2"}')
    assert second.exit_code == 0, second.output
    assert "running already: customize Import of jobs" in second.stdout
    assert len(cloud.started) == 1


@pytest.mark.parametrize("given", ["{}", '{"version": ""}', '{"version": "a b"}', '{"version": 2}'])
def test_fails_for_an_input_without_a_version(cloud: Cloud, given: str) -> None:
    """The message is an input to paste."""
    cloud.add("import")
    message = error_of(run("run", "import", "--input", given))
    assert """give --input '{"version": "1"}'""" in message
    assert "objects or folders" not in message
    assert cloud.started == []


def test_a_failed_job_says_what_bedrock_said(cloud: Cloud) -> None:
    """The run's cause is the job's document; one field of it is the reason."""
    cloud.add("import")
    cause = json.dumps({"Status": "Failed", "FailureMessage": "config.json is missing"})
    cloud.end = {"status": "FAILED", "error": "ImportFailed", "cause": cause}
    result = run("run", "import", *VERSION_2)
    assert result.exit_code == 1
    assert "failed after 10 min: config.json is missing" in result.stderr


def test_a_batch_says_its_price_and_its_files(cloud: Cloud) -> None:
    """It needs objects of its bucket; no version."""
    needed = {"input": "in/...", "output": "out/..."}
    cloud.add(
        "batch", "Nightly", input=needed, bucket="files", about="answers a file", cost="12.40 USD", paid=True
    )
    assert "needs input and output, objects or folders of s3://files" in error_of(run("run", "batch"))
    given = '{"input": "in/a.jsonl", "output": "out/a/"}'
    result = run("run", "batch", "--input", given, "--yes")
    assert result.exit_code == 0, result.output
    assert "answers a file: 12.40 USD" in result.stdout


def test_list_shows_units_that_outlived_their_stack(cloud: Cloud) -> None:
    """With what they cost a day and until when, below the jobs."""
    cloud.add("import")
    cloud.parameters["/tokenmill/units/retained/1"] = json.dumps(RETAINED)
    cheaper = {**RETAINED, "name": "old-1f", "daily_usd": 0, "commitment": None, "expires": None}
    cloud.parameters["/tokenmill/units/retained/0"] = json.dumps(cheaper)
    lines = run("list").stdout.splitlines()
    ends = "committed until its term ends"
    assert lines[1:] == [
        f"chat  retained  chat-0f  2 model units, 1008.00 USD a day, committed until 2027-01-15: {ends}",
        "chat  retained  old-1f  2 model units, at a price that is not known, without commitment, until "
        f"deleted: {ends}",
    ]
    document = json.loads(run("list", "--json").stdout)
    assert [entry["name"] for entry in document["retained_units"]] == ["chat-0f", "old-1f"]
    assert run("list", "--stack", "other").stdout.count("retained") == 0


def test_list_goes_on_where_the_ledger_cannot_be_read(cloud: Cloud) -> None:
    """Who may see jobs may not always see parameters."""

    def denied(_: dict[str, Any]) -> dict[str, Any]:
        raise AwsError("AccessDeniedException", "no identity-based policy allows ssm:GetParametersByPath")

    cloud.add("import")
    cloud.fake.answers["ssm", "GetParametersByPath"] = denied
    result = run("list", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["retained_units"] is None
    assert "cannot be listed" in result.stderr and "no identity-based policy" in result.stderr
