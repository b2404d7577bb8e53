"""The CodeBuild API: projects and builds.

Source: AWS CodeBuild API Reference, "CreateProject", "StartBuild", "BatchGetBuilds" and "StopBuild".
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import uuid4

from tokenmill.core.errors import TokenmillError
from tokenmill.local.aws_requests import AwsError, ModelledService, Params, Scope, ServiceShapes
from tokenmill.local.codebuild.build import (
    EVENT_SOURCE,
    EVENT_TYPE,
    PHASES,
    Build,
    now,
)
from tokenmill.local.codebuild.known_builds import recipe_for
from tokenmill.local.codebuild.recipe import Recipes, exported_names
from tokenmill.local.sagemaker.control import STARTUP_SECONDS, in_a_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenmill.local.aws_requests import Operation

    Publish = Callable[[Scope, str, str, Params, list[str]], None]

# How a build ends that was told to fail, and in which phase.
FAULTS = {"FAILED": "BUILD", "TIMED_OUT": "BUILD", "FAULT": "PROVISIONING"}
# Phases that take time here; on AWS all of them do.
_SLOW = ("PROVISIONING", "BUILD")
# After these a failed build goes on to its end without the phases that need them.
_GOES_ON = ("BUILD",)
_OVERRIDES = {
    "environmentTypeOverride": "type",
    "imageOverride": "image",
    "computeTypeOverride": "computeType",
    "certificateOverride": "certificate",
    "privilegedModeOverride": "privilegedMode",
}


@dataclass(slots=True)
class _Account:
    projects: dict[str, Params] = field(default_factory=dict)
    recipes: dict[str, Params] = field(default_factory=dict)
    builds: dict[str, Build] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)


class CodeBuild(ModelledService):
    """The API.

    Args:
        recipes: What builds leave.
        publish: Sends an event: scope, source, detail type, detail, resources.
        background: Runs a build beside its request; a test runs it by hand.
        sleep: Waits that many seconds inside a build.
        phase_seconds: How long provisioning and the commands take, each.
    """

    title = "CodeBuild"
    shapes = ServiceShapes("codebuild")

    def __init__(
        self,
        recipes: Recipes,
        publish: Publish,
        *,
        background: Callable[[Callable[[], None]], None] = in_a_thread,
        sleep: Callable[[float], None] = time.sleep,
        phase_seconds: float = STARTUP_SECONDS,
    ) -> None:
        self._recipes = recipes
        self._publish = publish
        self._background = background
        self._sleep = sleep
        self._phase_seconds = phase_seconds
        self.lock = threading.RLock()
        self._accounts: defaultdict[Scope, _Account] = defaultdict(_Account)
        self._operations: dict[str, Operation] = {
            "CreateProject": self._create_project,
            "UpdateProject": self._update_project,
            "DeleteProject": self._delete_project,
            "BatchGetProjects": self._batch_get_projects,
            "ListProjects": self._list_projects,
            "StartBuild": self._start_build,
            "StopBuild": self._stop_build,
            "BatchGetBuilds": self._batch_get_builds,
            "ListBuilds": self._list_builds,
            "ListBuildsForProject": self._list_builds_for_project,
        }

    def remember_recipe(self, scope: Scope, project: str, recipe: Params) -> None:
        """Remember what the builds of a project leave.

        Args:
            scope: Whose project.
            project: Its name.
            recipe: The `modelled_build` member of the template's metadata.
        """
        with self.lock:
            self._accounts[scope].recipes[project] = recipe

    def fail_builds(self, scope: Scope, faults: dict[str, str]) -> None:
        """Make the builds of projects end badly; an empty table ends it.

        Args:
            scope: Whose builds.
            faults: How builds end, by project.

        Raises:
            TokenmillError: A build cannot end so.
        """
        if not isinstance(faults, dict):
            raise TokenmillError(f"failing_builds is {faults!r}; give an object of endings by project")
        for project, status in faults.items():
            if status not in FAULTS:
                raise TokenmillError(
                    f"builds of {project} cannot end as {status!r}; allowed are {', '.join(FAULTS)}"
                )
        with self.lock:
            self._accounts[scope].faults = dict(faults)

    def _create_project(self, scope: Scope, params: Params) -> Params:
        account, name = self._accounts[scope], params["name"]
        arn = scope.arn("codebuild", f"project/{name}")
        if name in account.projects:
            raise AwsError("ResourceAlreadyExistsException", f"Project already exists: {arn}")
        defaults = {"timeoutInMinutes": 60, "queuedTimeoutInMinutes": 480, "badge": {"badgeEnabled": False}}
        stamps = {"arn": arn, "created": now(), "lastModified": now()}
        account.projects[name] = {**defaults, **params, **stamps}
        return {"project": account.projects[name]}

    def _update_project(self, scope: Scope, params: Params) -> Params:
        project = self._project(scope, params["name"])
        project.update({**params, "lastModified": now()})
        return {"project": project}

    def _delete_project(self, scope: Scope, params: Params) -> Params:
        account = self._accounts[scope]
        account.projects.pop(params["name"], None)
        account.recipes.pop(params["name"], None)
        return {}

    def _batch_get_projects(self, scope: Scope, params: Params) -> Params:
        projects = self._accounts[scope].projects
        names = {given: given.rsplit("/", 1)[-1] for given in params["names"]}
        return {
            "projects": [projects[name] for name in names.values() if name in projects],
            "projectsNotFound": [given for given, name in names.items() if name not in projects],
        }

    def _list_projects(self, scope: Scope, params: Params) -> Params:
        backwards = params.get("sortOrder") == "DESCENDING"
        return {"projects": sorted(self._accounts[scope].projects, reverse=backwards)}

    def _start_build(self, scope: Scope, params: Params) -> Params:
        account = self._accounts[scope]
        project = self._project(scope, params["projectName"])
        token = params.get("idempotencyToken")
        if token in account.tokens:
            return {"build": account.builds[account.tokens[token]].describe()}
        build = Build(
            id=f"{project['name']}:{uuid4()}",
            scope=scope,
            number=1 + sum(other.project == project["name"] for other in account.builds.values()),
            settings=_settings(project, params),
            started=now(),
        )
        build.begin("SUBMITTED", build.started)
        account.builds[build.id] = build
        if token:
            account.tokens[token] = build.id
        self._background(lambda: self._run(build))
        return {"build": build.describe()}

    def _stop_build(self, scope: Scope, params: Params) -> Params:
        build = self._build(scope, params["id"])
        if not build.done:
            self._finish(build, "STOPPED")
        return {"build": build.describe()}

    def _batch_get_builds(self, scope: Scope, params: Params) -> Params:
        builds = self._accounts[scope].builds
        ids = {given: given.rpartition(":build/")[2] for given in params["ids"]}
        return {
            "builds": [builds[id].describe() for id in ids.values() if id in builds],
            "buildsNotFound": [given for given, id in ids.items() if id not in builds],
        }

    def _list_builds(self, scope: Scope, params: Params) -> Params:
        ids = list(self._accounts[scope].builds)
        return {"ids": ids if params.get("sortOrder") == "ASCENDING" else ids[::-1]}

    def _list_builds_for_project(self, scope: Scope, params: Params) -> Params:
        name = self._project(scope, params["projectName"])["name"]
        ids = self._list_builds(scope, params)["ids"]
        return {"ids": [id for id in ids if id.partition(":")[0] == name]}

    def _project(self, scope: Scope, name_or_arn: str) -> Params:
        name, projects = name_or_arn.rsplit("/", 1)[-1], self._accounts[scope].projects
        if name not in projects:
            arn = scope.arn("codebuild", f"project/{name}")
            raise AwsError("ResourceNotFoundException", f"Project cannot be found: {arn}")
        return projects[name]

    def _build(self, scope: Scope, id_or_arn: str) -> Build:
        id, builds = id_or_arn.rpartition(":build/")[2], self._accounts[scope].builds
        if id not in builds:
            arn = scope.arn("codebuild", f"build/{id}")
            raise AwsError("ResourceNotFoundException", f"Build cannot be found: {arn}")
        return builds[id]

    def _run(self, build: Build) -> None:
        """Go through the phases; the build may be stopped between any two of them."""
        with self.lock:
            if not build.done:
                self._tell(build)
        fault = self._accounts[build.scope].faults.get(build.project)
        status = "SUCCEEDED"
        for phase in PHASES:
            with self.lock:
                if build.done:
                    return
                if phase != "SUBMITTED":
                    build.begin(phase, now())
            if phase in _SLOW:
                self._sleep(self._phase_seconds)
            ended, message = self._outcome(build, phase, fault)
            with self.lock:
                if build.done:
                    return
                build.phases[-1].end(ended, now(), message)
            if ended != "SUCCEEDED":
                status = ended
                if phase not in _GOES_ON or ended != "FAILED":
                    break
        with self.lock:
            if not build.done:
                self._finish(build, status)

    def _outcome(self, build: Build, phase: str, fault: str | None) -> tuple[str, str | None]:
        if fault is not None and FAULTS[fault] == phase:
            return fault, f"the build was told to end as {fault}"
        if phase != "BUILD":
            return "SUCCEEDED", None
        try:
            names = exported_names(build.settings["source"].get("buildspec") or "")
            given = self._accounts[build.scope].recipes.get(build.project)
            recipe = given or recipe_for(build.environment, names)
            exported = self._recipes.run(build.scope, recipe, build.environment, names)
        except (TokenmillError, AwsError) as error:
            return "FAILED", str(error)
        with self.lock:
            build.exported = exported
        return "SUCCEEDED", None

    def _finish(self, build: Build, status: str) -> None:
        build.end(status, now())
        self._tell(build)

    def _tell(self, build: Build) -> None:
        self._publish(build.scope, EVENT_SOURCE, EVENT_TYPE, build.event(), [build.arn])


def _settings(project: Params, overrides: Params) -> Params:
    """Return what a build takes from its project, with the request's overrides."""
    environment = {**project["environment"]}
    for override, member in _OVERRIDES.items():
        if override in overrides:
            environment[member] = overrides[override]
    variables = {
        variable["name"]: variable
        for variable in (
            *(environment.get("environmentVariables") or []),
            *(overrides.get("environmentVariablesOverride") or []),
        )
    }
    environment["environmentVariables"] = list(variables.values())
    source = {**project["source"]}
    for override, member in (
        ("sourceTypeOverride", "type"),
        ("sourceLocationOverride", "location"),
        ("buildspecOverride", "buildspec"),
    ):
        if override in overrides:
            source[member] = overrides[override]
    minutes = ("timeoutInMinutes", "queuedTimeoutInMinutes")
    return {
        "environment": environment,
        "source": source,
        "sourceVersion": overrides.get("sourceVersion", project.get("sourceVersion")),
        "serviceRole": overrides.get("serviceRoleOverride", project.get("serviceRole")),
        "encryptionKey": overrides.get("encryptionKeyOverride", project.get("encryptionKey")),
        "vpcConfig": project.get("vpcConfig"),
        "logsConfig": project.get("logsConfig"),
        **{name: overrides.get(f"{name}Override", project[name]) for name in minutes},
    }
