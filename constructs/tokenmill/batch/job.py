"""A batch job: a state machine, its role, its log and who may start it."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

from aws_cdk import aws_iam as iam
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from tokenmill.endpoints.job import tag_job
from tokenmill.security import actions
from tokenmill.security.acknowledge import acknowledge, any_resource
from tokenmill.security.hosting import FunctionHosting
from tokenmill.security.json_text import json_text
from tokenmill.security.logs import log_group
from tokenmill.security.place import arn_in
from tokenmill.security.printed import printed
from tokenmill.security.rights import Right, allow, document
from tokenmill_runtime.jobs import DESCRIPTION_STATE, description_state

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aws_cdk import aws_kms as kms
    from aws_cdk import aws_s3 as s3

    from tokenmill.batch.files import BatchFiles

States = dict[str, Any]
CHECK_STATE, REFUSED_STATE = "CheckInput", "InputRefused"
CHILDREN_REASON = "Executions get their names when they start; all are of this state machine."
FOLDERS_REASON = (
    "An execution names its objects; the role reaches the job's two folders and nothing beside them."
)


class BatchJob(Construct):
    """What every batch job has: a state machine that `tokenmill jobs` finds, and a bucket with two folders.

    An execution takes {"input": "<input folder>/...", "output": "<output folder>/..."}.
    """

    state_machine: sfn.StateMachine
    bucket: s3.IBucket
    files: BatchFiles

    def grant_start(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let a principal start executions and see how they end.

        Args:
            grantee: The principal.
        """
        machine = self.state_machine.state_machine_arn
        watch = iam.Grant.add_to_principal(
            grantee=grantee,
            actions=list(actions.JOB_WATCH),
            resource_arns=self._executions(":*"),
        )
        return iam.Grant.add_to_principal(
            grantee=grantee, actions=list(actions.JOB_START), resource_arns=[machine]
        ).combine(watch)

    def grant_upload(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let a principal put inputs into the bucket.

        Args:
            grantee: The principal.
        """
        self._grant_key(grantee, actions.OBJECT_KEY_WRITE)
        folder = self.bucket.arn_for_objects(f"{self.files.input_prefix}/*")
        return iam.Grant.add_to_principal(
            grantee=grantee, actions=list(actions.BATCH_WRITE), resource_arns=[folder]
        )

    def grant_read_output(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let a principal read what executions wrote.

        Args:
            grantee: The principal.
        """
        self._grant_key(grantee, actions.OBJECT_KEY_READ)
        folder = self.bucket.arn_for_objects(f"{self.files.output_prefix}/*")
        return iam.Grant.add_to_principal(
            grantee=grantee, actions=list(actions.BATCH_READ), resource_arns=[folder]
        )

    def _grant_files(self, role: iam.IRole, *, read_output: bool) -> None:
        """Let the job's own role read inputs and write outputs."""
        reads, writes = self.files.input_prefix, self.files.output_prefix
        readable = (reads, writes) if read_output else (reads,)
        self._allow_folders(role, actions.BATCH_READ, *readable)
        self._allow_folders(role, actions.BATCH_WRITE, writes)
        self._allow_list(role, *readable)
        self._grant_key(role, actions.OBJECT_KEY_WRITE)

    def _allow_list(self, role: iam.IRole, *folders: str) -> None:
        listed = {"StringLike": {"s3:prefix": [f"{folder}/*" for folder in folders]}}
        allow(role, Right(actions.BATCH_LIST, [self._bucket_arn], listed))

    def _allow_folders(self, role: iam.IRole, allowed: Sequence[str], *folders: str) -> None:
        patterns = [f"{folder}/*" for folder in folders]
        allow(role, Right(allowed, [f"{self._bucket_arn}/{item}" for item in patterns]))
        bucket = printed(self, self._bucket_arn)
        acknowledge(role, {any_resource(f"{bucket}/{item}"): FOLDERS_REASON for item in patterns})

    def _grant_key(self, grantee: iam.IGrantable, allowed: Sequence[str]) -> None:
        if self._bucket_key is not None:
            self._bucket_key.grant(grantee, *allowed)

    @functools.cached_property
    def _id(self) -> str:
        return self.node.id

    @functools.cached_property
    def _bucket_arn(self) -> str:
        return self.bucket.bucket_arn

    @functools.cached_property
    def _bucket_key(self) -> kms.IKey | None:
        return self.bucket.encryption_key

    def _allow_map_run(self, label: str) -> None:
        """Let the state machine start and watch its children; in a policy apart, which may name it."""
        role, children = self.state_machine.role, self._executions(":*", f"/{label}:*")
        rights = document(
            Right(actions.MAP_RUN_START, [self.state_machine.state_machine_arn]),
            Right(actions.MAP_RUN_WATCH, children),
            Right(actions.MAP_RUN_REDRIVE, children[1:]),
        )
        policy = iam.Policy(self, "MapRun", document=rights, roles=[role])
        acknowledge(policy, {any_resource(printed(self, arn)): CHILDREN_REASON for arn in children})
        # The list of items stands among the outputs.
        self._allow_folders(role, actions.BATCH_READ, self.files.output_prefix)
        self._grant_key(role, actions.OBJECT_KEY_READ)

    def _executions(self, *endings: str) -> list[str]:
        name = self.state_machine.state_machine_name
        return [arn_in(self, "states", f"execution:{name}{ending}") for ending in endings]

    def _machine(
        self,
        definition: States,
        *,
        kind: str,
        description: Mapping[str, object],
        statements: Sequence[Right | iam.PolicyStatement],
        hosting: FunctionHosting | None = None,
    ) -> sfn.StateMachine:
        """Make the state machine: described, checked, logged, traced."""
        first = definition["StartAt"]
        files = {
            "bucket": self.bucket.bucket_name,
            "input": {"input": f"{self.files.input_prefix}/...", "output": f"{self.files.output_prefix}/..."},
        }
        described = {"kind": kind, **description, **files}
        states = {
            DESCRIPTION_STATE: description_state(described, following=CHECK_STATE),
            **input_check(self.files, following=first),
            **definition["States"],
        }
        described_states = {**definition, "StartAt": DESCRIPTION_STATE, "States": states}
        role = self._machine_role(statements)
        machine = sfn.StateMachine(
            self,
            "StateMachine",
            definition_body=sfn.DefinitionBody.from_string(json_text(self, described_states)),
            logs=sfn.LogOptions(
                destination=log_group(self, "Logs", hosting or FunctionHosting()),
                level=sfn.LogLevel.ALL,
                include_execution_data=True,
            ),
            role=role,
            tracing_enabled=True,
        )
        tag_job(machine, kind=kind, name=self._id)
        return machine

    def _machine_role(self, statements: Sequence[Right | iam.PolicyStatement]) -> iam.Role:
        role = iam.Role(
            self,
            "MachineRole",
            assumed_by=iam.ServicePrincipal("states.amazonaws.com"),
            description=f"Runs the state machine of {self._id}",
        )
        allow(role, *statements)
        acknowledge(
            role,
            {
                any_resource(): "X-Ray's and CloudWatch Logs' delivery actions take no resource in a policy, "
                "and neither does sagemaker:ListTags as Step Functions asks for it.",
            },
        )
        return role


def input_check(files: BatchFiles, *, following: str) -> States:
    """Return the states that refuse an execution's input before anything costs money.

    Args:
        files: The folders that input and output must be in.
        following: The state after them.
    """
    wanted = {"input": files.input_prefix, "output": files.output_prefix}
    rules: list[States] = []
    for name, folder in wanted.items():
        variable = f"$.{name}"
        rules += [
            {"Variable": variable, "IsPresent": True},
            {"Variable": variable, "IsString": True},
            {"Variable": variable, "StringMatches": f"{folder}/*"},
            {"Not": {"Variable": variable, "StringEquals": f"{folder}/"}},
        ]
    example = json.dumps({name: f"{folder}/..." for name, folder in wanted.items()})
    return {
        CHECK_STATE: {
            "Type": "Choice",
            "Choices": [{"And": rules, "Next": following}],
            "Default": REFUSED_STATE,
        },
        REFUSED_STATE: {
            "Type": "Fail",
            "Error": "InputRefused",
            "Cause": f"the execution's input must be {example}, objects or folders of the job's bucket",
        },
    }
