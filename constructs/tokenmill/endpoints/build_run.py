"""A build that a deployment starts and waits for, without paying a function for the waiting."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_codebuild as codebuild
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3_assets as s3_assets
from constructs import Construct

from tokenmill.core.errors import TokenmillError
from tokenmill.security import FunctionEntry, FunctionHosting, RuntimeFunction, actions
from tokenmill.security.acknowledge import acknowledge, acknowledge_resources
from tokenmill.security.custom_resource import custom_resource
from tokenmill.security.logs import log_group
from tokenmill.security.plain_function import may_call
from tokenmill_runtime.build_run import RESOURCE_TYPE
from tokenmill_runtime.functions import BUILD_RUN

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from aws_cdk import aws_secretsmanager as secretsmanager

# "Docker images provided by CodeBuild" (AWS CodeBuild user guide), Amazon Linux 2023. Their Dockerfiles
# (aws/aws-codebuild-docker-images, al/x86_64/standard/5.0 and al/aarch64/standard/3.0) install the AWS CLI,
# Docker, Python 3.11 as the default and boto3 for every Python.
IMAGE = "aws/codebuild/amazonlinux-x86_64-standard:5.0"
ARM_IMAGE = "aws/codebuild/amazonlinux-aarch64-standard:3.0"
# "AWS::CodeBuild::Project": TimeoutInMinutes and QueuedTimeoutInMinutes are 5 at the least. CloudFormation
# waits an hour at the most, and the event that a build is over has to arrive within it.
SHORTEST_MINUTES = 5
LONGEST_MINUTES = 50
QUEUED_MINUTES = 5
EVENT_MINUTES = 4
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
RESERVED_PREFIXES = ("CODEBUILD_", "TOKENMILL_RUN_")
FUNCTION_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildJob:
    """What a build does.

    Args:
        description: What the build is for, in one sentence.
        commands: Shell commands, run one after another from the root of the source; the first that fails ends
            the build. A line "TOKENMILL_FAILED: …" of their output becomes the reason in the stack's events.
        outputs: Names of shell variables that a command exports and that the template reads.
        source: A folder that the build starts in; none otherwise.
        exclude: Patterns of .gitignore's kind that leave files of the source out.
        environment: Plain environment variables.
        secrets: Environment variables that CodeBuild reads from Secrets Manager when the build starts. They
            are in no template, and CodeBuild masks their values in the log.
        privileged: Whether the build may run Docker.
        compute: CodeBuild's compute type, such as "BUILD_GENERAL1_MEDIUM".
        arm: Whether the build runs on arm64.
        timeout_minutes: The longest run, in minutes, 5 to 50.

    Raises:
        TokenmillError: If there is no command, a name is no name of a shell variable, or the time is not of
            its range.
    """

    description: str
    commands: tuple[str, ...]
    outputs: tuple[str, ...] = ()
    source: Path | None = None
    exclude: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, secretsmanager.ISecret] = field(default_factory=dict)
    privileged: bool = False
    compute: str = "BUILD_GENERAL1_MEDIUM"
    arm: bool = False
    timeout_minutes: int = LONGEST_MINUTES

    def __post_init__(self) -> None:
        if not self.commands:
            raise TokenmillError("commands is empty; give one shell command or more")
        for name in (*self.outputs, *self.environment, *self.secrets):
            if not NAME.fullmatch(name) or name.startswith(RESERVED_PREFIXES):
                raise TokenmillError(
                    f"variable {name!r} of a build is no name; give letters, digits and underscores, and "
                    f"none of the prefixes {', '.join(RESERVED_PREFIXES)}"
                )
        if not SHORTEST_MINUTES <= self.timeout_minutes <= LONGEST_MINUTES:
            raise TokenmillError(
                f"timeout_minutes is {self.timeout_minutes}; give {SHORTEST_MINUTES} to {LONGEST_MINUTES}, "
                "because CloudFormation waits an hour at the most"
            )

    @property
    def image(self) -> str:
        """CodeBuild's own image that the commands run in."""
        return ARM_IMAGE if self.arm else IMAGE

    @property
    def buildspec(self) -> dict[str, object]:
        """The build specification ("Build specification reference for CodeBuild")."""
        environment: dict[str, object] = {"shell": "bash"}
        if self.outputs:
            environment["exported-variables"] = list(self.outputs)
        return {
            "version": "0.2",
            "env": environment,
            "phases": {"build": {"on-failure": "ABORT", "commands": list(self.commands)}},
        }


class BuildRun(Construct):
    """A CodeBuild project whose build runs when the deployment creates it or its content changes.

    The content is the commands, the source, the environment and `properties`, not secrets, compute or times.
    An update that leaves the content as it is starts no build, nor does one that goes back to a content whose
    build is in the project's history, so a build must not undo what an earlier content made. A build that
    fails, is stopped or takes too long fails the deployment with its reason.

    Args:
        scope: The parent construct.
        id: The construct's id.
        build: What the build does.
        properties: What the result depends on besides the job itself; a change starts a build.
        hosting: Logs and keys of the build and of the function that starts it.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        build: BuildJob,
        properties: Mapping[str, object],
        hosting: FunctionHosting | None = None,
    ) -> None:
        super().__init__(scope, id)
        hosting = hosting or FunctionHosting()
        self.build = build
        self._source = self._asset()
        self.log_group = log_group(self, "Logs", hosting)
        self.role = self._role()
        self.project = self._project(hosting)
        self.project.node.add_dependency(self.role)
        self.function = self._function(hosting)
        self._run = custom_resource(
            self,
            "Run",
            function=self.function.function,
            resource_type=RESOURCE_TYPE,
            properties={
                "Project": self.project.ref,
                "Job": self._digest(),
                "Environment": dict(build.environment),
                "Outputs": list(build.outputs),
                "Properties": dict(properties),
            },
            timeout_seconds=60 * (build.timeout_minutes + QUEUED_MINUTES + EVENT_MINUTES),
        )
        self._run.node.add_dependency(self.role, self.function, *self._listen())

    def get(self, name: str) -> str:
        """Return one of the build's outputs, as a token.

        Args:
            name: One of the job's `outputs`.

        Raises:
            TokenmillError: If the job has no such output.
        """
        if name not in self.build.outputs:
            outputs = ", ".join(self.build.outputs) or "none"
            raise TokenmillError(f"the build has no output {name!r}; its outputs are {outputs}")
        return self._run.get_att_string(name)

    def _asset(self) -> s3_assets.Asset | None:
        if self.build.source is None:
            return None
        return s3_assets.Asset(
            self,
            "Source",
            path=str(self.build.source),
            exclude=list(self.build.exclude),
            ignore_mode=cdk.IgnoreMode.GIT,
        )

    def _digest(self) -> str:
        asset = None if self._source is None else self._source.asset_hash
        job = [self.build.buildspec, asset, self.build.image]
        text = json.dumps(cdk.Stack.of(self).resolve(job), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def _role(self) -> iam.Role:
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("codebuild.amazonaws.com"),
            description=f"Runs the build: {self.build.description}",
        )
        role.add_to_policy(
            iam.PolicyStatement(actions=list(actions.BUILD_LOGS), resources=[self.log_group.log_group_arn])
        )
        if self._source is not None:
            source = self._source.bucket.arn_for_objects(self._source.s3_object_key)
            role.add_to_policy(
                iam.PolicyStatement(actions=list(actions.BUILD_SOURCE_READ), resources=[source])
            )
        for secret in self.build.secrets.values():
            self._let_read(role, secret)
        return role

    def _let_read(self, role: iam.Role, secret: secretsmanager.ISecret) -> None:
        arn = secret.secret_full_arn
        if arn is None:
            # An ARN without Secrets Manager's six characters at the end ("GetSecretValue" needs them in IAM).
            arn = f"{secret.secret_arn}-??????"
            reason = (
                "The secret is given by its name; Secrets Manager ends its ARN with six characters of its "
                "own, which only the account knows."
            )
            acknowledge_resources(role, {arn: reason})
        role.add_to_policy(iam.PolicyStatement(actions=list(actions.BUILD_SECRET_READ), resources=[arn]))
        if secret.encryption_key is not None:
            secret.encryption_key.grant(role, *actions.BUILD_SECRET_KEY)

    def _project(self, hosting: FunctionHosting) -> codebuild.CfnProject:
        cfn = codebuild.CfnProject
        spec = json.dumps(self.build.buildspec, indent=1)
        project = cfn(
            self,
            "Project",
            description=self.build.description[:255],
            artifacts=cfn.ArtifactsProperty(type="NO_ARTIFACTS"),
            encryption_key=None if hosting.encryption_key is None else hosting.encryption_key.key_arn,
            environment=cfn.EnvironmentProperty(
                type="ARM_CONTAINER" if self.build.arm else "LINUX_CONTAINER",
                compute_type=self.build.compute,
                image=self.build.image,
                privileged_mode=self.build.privileged,
                environment_variables=self._variables(),
            ),
            logs_config=cfn.LogsConfigProperty(
                cloud_watch_logs=cfn.CloudWatchLogsConfigProperty(
                    status="ENABLED", group_name=self.log_group.log_group_name
                )
            ),
            service_role=self.role.role_arn,
            source=cfn.SourceProperty(type="NO_SOURCE", build_spec=spec)
            if self._source is None
            else cfn.SourceProperty(
                type="S3",
                location=f"{self._source.s3_bucket_name}/{self._source.s3_object_key}",
                build_spec=spec,
            ),
            timeout_in_minutes=self.build.timeout_minutes,
            queued_timeout_in_minutes=QUEUED_MINUTES,
        )
        findings = {}
        if hosting.encryption_key is None:
            findings["AwsSolutions-CB4"] = (
                "The project has no artifacts that a key would encrypt; what its build makes goes to a "
                "bucket or a repository with encryption of its own."
            )
        if self.build.privileged:
            findings["AwsSolutions-CB3"] = "The build makes a container image, which needs a Docker daemon."
        if findings:
            acknowledge(project, findings)
        return project

    def _variables(self) -> list[codebuild.CfnProject.EnvironmentVariableProperty]:
        variable = codebuild.CfnProject.EnvironmentVariableProperty
        plain = [
            variable(name=name, value=value, type="PLAINTEXT")
            for name, value in sorted(self.build.environment.items())
        ]
        return plain + [
            variable(name=name, value=secret.secret_full_arn or secret.secret_name, type="SECRETS_MANAGER")
            for name, secret in sorted(self.build.secrets.items())
        ]

    def _function(self, hosting: FunctionHosting) -> RuntimeFunction:
        function = RuntimeFunction(
            self,
            "Function",
            entry=FunctionEntry(
                runs=BUILD_RUN,
                description="Starts a build for a deployment and reports its end",
                timeout_seconds=FUNCTION_SECONDS,
                memory_mb=128,
            ),
            environment={},
            hosting=hosting,
        )
        for allowed, resource in (
            (actions.BUILD_CONTROL, self.project.attr_arn),
            (actions.BUILD_LOG_READ, self.log_group.log_group_arn),
        ):
            function.role.add_to_policy(iam.PolicyStatement(actions=list(allowed), resources=[resource]))
        return function

    def _listen(self) -> tuple[Construct, Construct]:
        function = self.function.function
        # Whatever a build's end is called: the documented statuses of the event leave time-outs out.
        rule = events.CfnRule(
            self,
            "Ended",
            description=f"The end of a build: {self.build.description}"[:512],
            event_pattern={
                "source": ["aws.codebuild"],
                "detail-type": ["CodeBuild Build State Change"],
                "detail": {
                    "project-name": [self.project.ref],
                    "build-status": [{"anything-but": ["IN_PROGRESS"]}],
                },
            },
            targets=[events.CfnRule.TargetProperty(id="Function", arn=function.function_arn)],
        )
        permission = may_call(
            self,
            "MayCall",
            function_arn=function.function_arn,
            service="events.amazonaws.com",
            source_arn=rule.attr_arn,
        )
        return rule, permission
