"""Builds: states, phases, overrides, exported variables and the events that tell them."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from support_local import SCOPE, ByHand
from support_local_jobs import FakeBus, FakeImages, FakeObjects
from tokenmill.core.errors import TokenmillError
from tokenmill.local.aws_requests import AwsError
from tokenmill.local.cloudformation.codebuild import api_members
from tokenmill.local.codebuild.recipe import Recipes, exported_names, modelled_manifest
from tokenmill.local.codebuild.service import CodeBuild

ROLE = "arn:aws:iam::000000000000:role/build"
PHASES = [
    "SUBMITTED",
    "QUEUED",
    "PROVISIONING",
    "DOWNLOAD_SOURCE",
    "INSTALL",
    "PRE_BUILD",
    "BUILD",
    "POST_BUILD",
    "UPLOAD_ARTIFACTS",
    "FINALIZING",
    "COMPLETED",
]


class World:
    """CodeBuild whose builds run by hand."""

    def __init__(self) -> None:
        self.images, self.objects, self.bus = FakeImages(), FakeObjects(), FakeBus()
        self.background, self.slept = ByHand(), []
        self.codebuild = CodeBuild(
            Recipes(self.images, self.objects),
            self.bus.publish,
            background=self.background,
            sleep=self.slept.append,
        )

    def call(self, operation: str, **params: Any) -> dict[str, Any]:
        self.codebuild.shapes.check(operation, params)
        return self.codebuild.call(SCOPE, operation, params)

    def project(self, *, exports: tuple[str, ...] = (), **variables: str) -> None:
        spec = {"version": "0.2", "env": {"exported-variables": list(exports)}, "phases": {}}
        self.call(
            "CreateProject",
            name="job",
            source={"type": "NO_SOURCE", "buildspec": json.dumps(spec)},
            artifacts={"type": "NO_ARTIFACTS"},
            environment={
                "type": "LINUX_CONTAINER",
                "image": "aws/codebuild/standard:7.0",
                "computeType": "BUILD_GENERAL1_SMALL",
                "environmentVariables": [{"name": name, "value": value} for name, value in variables.items()],
            },
            serviceRole=ROLE,
        )

    def start(self, **params: Any) -> str:
        return str(self.call("StartBuild", projectName="job", **params)["build"]["id"])

    def build(self, build_id: str) -> dict[str, Any]:
        [build] = self.call("BatchGetBuilds", ids=[build_id])["builds"]
        return build

    def statuses(self) -> list[str]:
        return [detail["build-status"] for _, _, detail, _ in self.bus.events]


@pytest.fixture
def world() -> World:
    return World()


def exported(build: dict[str, Any]) -> dict[str, str]:
    return {item["name"]: item["value"] for item in build["exportedEnvironmentVariables"]}


def test_a_build_goes_through_every_phase_to_succeeded(world: World) -> None:
    world.project()
    build_id = world.start()
    started = world.build(build_id)
    assert (started["buildStatus"], started["currentPhase"]) == ("IN_PROGRESS", "SUBMITTED")
    assert started["buildComplete"] is False
    world.background.run()
    done = world.build(build_id)
    assert (done["buildStatus"], done["currentPhase"]) == ("SUCCEEDED", "COMPLETED")
    assert [phase["phaseType"] for phase in done["phases"]] == PHASES
    assert {phase.get("phaseStatus", "SUCCEEDED") for phase in done["phases"]} == {"SUCCEEDED"}
    assert done["endTime"] >= done["startTime"]
    assert len(world.slept) == 2, "provisioning and the commands take time"


def test_the_event_tells_the_build_as_the_user_guide_writes_it(world: World) -> None:
    world.project(exports=("ANSWER",), ANSWER="42")
    build_id = world.start(environmentVariablesOverride=[{"name": "URL", "value": "http://x"}])
    world.background.run()
    assert world.statuses() == ["IN_PROGRESS", "SUCCEEDED"]
    source, name, detail, resources = world.bus.events[-1]
    arn = world.build(build_id)["arn"]
    assert (source, name, resources) == ("aws.codebuild", "CodeBuild Build State Change", [arn])
    assert (detail["build-id"], detail["project-name"]) == (arn, "job")
    more = detail["additional-information"]
    assert more["exported-environment-variables"] == [{"name": "ANSWER", "value": "42"}]
    assert {"name": "URL", "value": "http://x", "type": "PLAINTEXT"} in more["environment"][
        "environment-variables"
    ]
    assert more["build-complete"] is True
    assert more["phases"][0]["phase-type"] == "SUBMITTED"
    json.dumps(detail)


def test_overrides_replace_a_projects_variables_and_settings(world: World) -> None:
    world.project(A="1", B="2")
    build_id = world.start(
        environmentVariablesOverride=[{"name": "B", "value": "3"}],
        timeoutInMinutesOverride=7,
        privilegedModeOverride=True,
    )
    build = world.build(build_id)
    variables = {v["name"]: v["value"] for v in build["environment"]["environmentVariables"]}
    assert variables == {"A": "1", "B": "3"}
    assert build["timeoutInMinutes"] == 7
    assert build["environment"]["privilegedMode"] is True
    assert world.call("BatchGetProjects", names=["job"])["projects"][0]["timeoutInMinutes"] == 60


def test_an_image_build_exports_a_digest_that_follows_from_the_tag(world: World) -> None:
    world.project(
        exports=("IMAGE_DIGEST",),
        REPOSITORY="000000000000.dkr.ecr.us-east-1.amazonaws.com/serving",
        TAG="0.1-abc",
    )
    first, second = world.start(), world.start()
    world.background.run()
    digest = exported(world.build(first))["IMAGE_DIGEST"]
    assert digest.startswith("sha256:")
    assert len(digest) == 71
    assert exported(world.build(second))["IMAGE_DIGEST"] == digest
    manifest = world.images.pushed[("serving", "0.1-abc")]
    assert json.loads(manifest)["annotations"]["tokenmill.modelled"] == "true"
    assert modelled_manifest("0.1-abc") == manifest != modelled_manifest("0.2-abc")


def test_a_recipe_writes_objects_that_say_they_are_modelled(world: World) -> None:
    world.project(exports=("MANIFEST",), BUCKET="b", REVISION="r1")
    recipe = {
        "objects": [{"bucket": "${BUCKET}", "key": "mirrors/${REVISION}", "body": {"of": "${REVISION}"}}],
        "exports": {"MANIFEST": "mirrors/${REVISION}"},
    }
    world.codebuild.remember_recipe(SCOPE, "job", recipe)
    build_id = world.start()
    world.background.run()
    assert exported(world.build(build_id)) == {"MANIFEST": "mirrors/r1"}
    assert json.loads(world.objects.objects["s3://b/mirrors/r1"]) == {"of": "r1", "modelled": True}


def test_a_mirror_build_leaves_its_manifest_and_exports_its_hash(world: World) -> None:
    given = {"MODEL": "Qwen/Qwen3-8B", "REVISION": "r1", "LICENCE": "apache-2.0", "BUCKET": "b"}
    world.project(exports=("MIRROR_MANIFEST",), **{f"MIRROR_{name}": value for name, value in given.items()})
    build_id = world.start()
    world.background.run()
    manifest = world.objects.objects["s3://b/mirrors/Qwen/Qwen3-8B/r1/manifest.json"]
    assert json.loads(manifest) | {"files": [], "modelled": True} == json.loads(manifest)
    assert exported(world.build(build_id)) == {"MIRROR_MANIFEST": hashlib.sha256(manifest).hexdigest()}
    assert "s3://b/models/Qwen/Qwen3-8B/r1/modelled.json" in world.objects.objects


def test_fails_a_build_that_exports_what_nobody_knows_with_the_way_out(world: World) -> None:
    world.project(exports=("DIGEST",))
    build_id = world.start()
    world.background.run()
    build = world.build(build_id)
    assert build["buildStatus"] == "FAILED"
    [phase] = [phase for phase in build["phases"] if phase.get("phaseStatus") == "FAILED"]
    assert phase["phaseType"] == "BUILD"
    assert "DIGEST has no value" in phase["contexts"][0]["message"]
    assert "modelled_build.exports" in phase["contexts"][0]["message"]
    assert build["phases"][-1]["phaseType"] == "COMPLETED"
    assert world.statuses() == ["IN_PROGRESS", "FAILED"]


def test_fails_a_build_whose_recipe_names_a_variable_that_it_has_not(world: World) -> None:
    world.project(A="1")
    world.codebuild.remember_recipe(SCOPE, "job", {"objects": [{"bucket": "${B}", "key": "k"}]})
    build_id = world.start()
    world.background.run()
    phases = world.build(build_id)["phases"]
    assert "no variable B; it has A" in str(phases)


def test_a_stopped_build_stays_stopped(world: World) -> None:
    world.project()
    build_id = world.start()
    assert world.call("StopBuild", id=build_id)["build"]["buildStatus"] == "STOPPED"
    world.background.run()
    assert world.build(build_id)["buildStatus"] == "STOPPED"
    assert world.statuses().count("STOPPED") == 1
    assert world.call("StopBuild", id=build_id)["build"]["buildStatus"] == "STOPPED"


@pytest.mark.parametrize(
    ("status", "phase", "seen"),
    [
        ("FAILED", "BUILD", "FINALIZING"),
        ("TIMED_OUT", "BUILD", None),
        ("FAULT", "PROVISIONING", None),
    ],
)
def test_a_build_ends_as_it_is_told_to(world: World, status: str, phase: str, seen: str | None) -> None:
    world.project()
    world.codebuild.fail_builds(SCOPE, {"job": status})
    build_id = world.start()
    world.background.run()
    build = world.build(build_id)
    assert build["buildStatus"] == status
    assert [p["phaseType"] for p in build["phases"] if p.get("phaseStatus") == status] == [phase]
    assert (seen in [p["phaseType"] for p in build["phases"]]) is (seen is not None)
    assert world.statuses()[-1] == status
    world.codebuild.fail_builds(SCOPE, {})
    again = world.start()
    world.background.run()
    assert world.build(again)["buildStatus"] == "SUCCEEDED"


@pytest.mark.parametrize(
    ("faults", "said"), [({"job": "STOPPED"}, "allowed are FAILED"), (["job"], "give an object")]
)
def test_fails_for_endings_that_a_build_has_not(world: World, faults: Any, said: str) -> None:
    with pytest.raises(TokenmillError, match=said):
        world.codebuild.fail_builds(SCOPE, faults)


def test_the_same_token_starts_one_build(world: World) -> None:
    world.project()
    assert world.start(idempotencyToken="t") == world.start(idempotencyToken="t") != world.start()


def test_builds_are_listed_newest_first_and_found_by_id_or_arn(world: World) -> None:
    world.project()
    first, second = world.start(), world.start()
    assert world.call("ListBuildsForProject", projectName="job")["ids"] == [second, first]
    assert world.call("ListBuilds", sortOrder="ASCENDING")["ids"] == [first, second]
    arn = world.build(first)["arn"]
    answer = world.call("BatchGetBuilds", ids=[arn, "job:gone"])
    assert [build["id"] for build in answer["builds"]] == [first]
    assert answer["buildsNotFound"] == ["job:gone"]
    assert world.build(second)["buildNumber"] == 2


@pytest.mark.parametrize(
    ("operation", "params", "code"),
    [
        ("StartBuild", {"projectName": "gone"}, "ResourceNotFoundException"),
        ("StopBuild", {"id": "job:gone"}, "ResourceNotFoundException"),
        ("StartBuildBatch", {"projectName": "job"}, "UnknownOperationException"),
    ],
)
def test_fails_for_what_is_not_there(world: World, operation: str, params: dict[str, Any], code: str) -> None:
    world.project()
    with pytest.raises(AwsError) as raised:
        world.call(operation, **params)
    assert raised.value.code == code


def test_fails_a_project_of_a_name_that_is_taken(world: World) -> None:
    world.project()
    with pytest.raises(AwsError, match="already exists"):
        world.project()


def test_a_buildspec_may_be_json_or_yaml_or_a_files_name() -> None:
    assert exported_names('{"env": {"exported-variables": ["A"]}}') == ["A"]
    assert exported_names("version: 0.2\nenv:\n  exported-variables:\n    - A\n    - B\n") == ["A", "B"]
    assert exported_names("buildspec.yml") == []
    assert exported_names('{"phases": {}}') == []
    with pytest.raises(TokenmillError, match="neither JSON nor YAML"):
        exported_names("{broken")


def test_properties_become_the_apis_members() -> None:
    properties = {
        "Name": "p",
        "Source": {"Type": "NO_SOURCE", "BuildSpec": "x"},
        "Environment": {"EnvironmentVariables": [{"Name": "A", "Value": "1"}]},
        "Triggers": {"Webhook": True},
    }
    assert api_members(properties) == {
        "name": "p",
        "source": {"type": "NO_SOURCE", "buildspec": "x"},
        "environment": {"environmentVariables": [{"name": "A", "value": "1"}]},
    }
