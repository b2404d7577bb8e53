"""A model compiled ahead of time, by the very image that will serve it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import aws_cdk as cdk
from constructs import Construct

from tokenmill.core._checks import whole
from tokenmill.core.errors import TokenmillError
from tokenmill.endpoints._compilation import (
    MODEL_FOLDER,
    artifact_of,
    compile_environment,
    definition,
    problems,
)
from tokenmill.endpoints._compilation_roles import (
    function_grants,
    machine_role,
    reader_grants,
    training_role,
)
from tokenmill.endpoints.job import tag_job
from tokenmill.endpoints.model_source import ModelSource, PrivateImage, ResolvedSource
from tokenmill.security import actions
from tokenmill.security.bucket import private_bucket
from tokenmill.security.custom_resource import custom_resource
from tokenmill.security.hosting import FunctionHosting
from tokenmill.security.logs import log_group
from tokenmill.security.runtime_function import FunctionEntry, RuntimeFunction
from tokenmill.security.state_machine import logged_state_machine
from tokenmill_runtime import functions
from tokenmill_runtime.compiled_artifact import PREFIX
from tokenmill_runtime.compiled_model import RESOURCE_TYPE

if TYPE_CHECKING:
    from aws_cdk import aws_iam as iam
    from aws_cdk import aws_kms as kms
    from aws_cdk import aws_s3 as s3
    from aws_cdk import aws_stepfunctions as stepfunctions

    from tokenmill.endpoints.serving import Serving
    from tokenmill.endpoints.serving_image import ServingImage

CHECK_ID = "CompiledModelCheck"
LONGEST_MINUTES = 28 * 24 * 60
CHECK_SECONDS = 120


class CompiledModel(Construct):
    """A state machine that compiles a model once for each thing that its compiled graphs depend on.

    It runs a SageMaker training job with the serving image's digest on the accelerator that will serve,
    starts the server as an endpoint would, and keeps what vLLM-Neuron compiled next to the weights, under a
    key of the digest, the model's revision, the split, the batch, the buckets and the server's flags. Nothing
    starts it but `tokenmill jobs run compile`; an endpoint whose `source` is this model's refuses to deploy
    until the key is there. Endpoint and compiled model stand in two stacks, since a refused deployment rolls
    its own stack back.

    Experimental: nobody has compiled with it on an account yet.

    Args:
        scope: The parent construct.
        id: The construct's id; `tokenmill jobs` calls the job by it.
        serving: What will be served, on the image "tokenmill-vllm-neuronx".
        image: The image that compiles and serves.
        source: The weights: a pinned revision in a bucket, such as a ModelMirror's source.
        bucket: Where artifacts go, in this region; a bucket of its own, which stays, otherwise.
        encryption_key: The key of the artifacts; S3's own encryption otherwise.
        limit_minutes: After how long the job is stopped, in minutes, 10 to 40,320; its price is the hour's
            times this at the most.
        hosting: Logs and keys of the functions.

    Raises:
        TokenmillError: If the image, the instance type or the source is not one that can be compiled with, or
            the limit is out of bounds.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        serving: Serving,
        image: ServingImage,
        source: ModelSource,
        bucket: s3.IBucket | None = None,
        encryption_key: kms.IKey | None = None,
        limit_minutes: int = 240,
        hosting: FunctionHosting | None = None,
    ) -> None:
        found = problems(serving, source)
        if not 10 <= whole("limit_minutes", limit_minutes) <= LONGEST_MINUTES:
            found.append(f"limit_minutes is {limit_minutes}; it must be 10 to {LONGEST_MINUTES}")
        if found:
            raise TokenmillError("\n".join(found))
        source.with_image(image.tagged_image).check(serving, isolated=True, region=cdk.Stack.of(scope).region)
        hosting = hosting or FunctionHosting()
        super().__init__(scope, id)
        self.serving = serving
        self.serving_image = image
        self.weights = source
        self.artifact = artifact_of(serving, source)
        self.encryption_key = encryption_key or (None if bucket is None else bucket.encryption_key)
        self.bucket = bucket or private_bucket(
            self,
            "Bucket",
            reason_without_access_log="Compiled models are written by one job and read by endpoints; the "
            "manifest of each names the job that wrote it.",
            encryption_key=encryption_key,
            versioned=True,
            removal_policy=cdk.RemovalPolicy.DESTROY if hosting.ephemeral else cdk.RemovalPolicy.RETAIN,
        )
        self.function = self._function(hosting)
        self.training_role = training_role(self, "JobRole", compiled=self)
        self.state_machine = self._state_machine(limit_minutes * 60, hosting)
        tag_job(self.state_machine, kind="compile", name=id)
        cdk.Validations.of(self).add_warning(
            "tokenmill:CompiledModelExperimental",
            f"compiling {serving.model} ahead of time is experimental: it has not been done on an account "
            "yet; docs/unverified.md lists what is open",
        )

    @property
    def job_name(self) -> str:
        """What `tokenmill jobs` calls the job."""
        return self.node.id

    @property
    def source(self) -> ModelSource:
        """What an endpoint takes: weights and compiled graphs together, checked when it is deployed."""
        return CompiledSource(
            model=self.artifact.model,
            revision=self.artifact.revision,
            bucket=self.bucket,
            prefix=PREFIX,
            encryption_key=self.encryption_key,
            image=self.serving_image.tagged_image,
            compiled=self,
        )

    def _function(self, hosting: FunctionHosting) -> RuntimeFunction:
        function = RuntimeFunction(
            self,
            "Function",
            entry=FunctionEntry(
                runs=functions.COMPILED_MODEL,
                description=f"Looks up and records compiled models of {self.serving.model}",
                timeout_seconds=CHECK_SECONDS,
            ),
            environment={},
            hosting=hosting,
        )
        function_grants(function.role, self, write=True)
        return function

    def _state_machine(self, limit_seconds: int, hosting: FunctionHosting) -> stepfunctions.CfnStateMachine:
        logs = log_group(self, "Logs", hosting)
        role = machine_role(self, "Role", compiled=self)
        made = logged_state_machine(
            self,
            "Resource",
            definition=cdk.Stack.of(self).to_json_string(
                definition(self, environment=compile_environment(self.serving), limit_seconds=limit_seconds)
            ),
            role_arn=role.role_arn,
            log_group_arn=logs.log_group_arn,
        )
        made.node.add_dependency(role)
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledSource(ModelSource):
    """Weights and what was compiled for them; made by `CompiledModel.source`.

    Args:
        compiled: The compiled model.
    """

    compiled: CompiledModel

    def with_image(self, image: PrivateImage) -> Self:
        """Refuse another image: what one image compiled, another cannot serve.

        Args:
            image: The other image.

        Raises:
            TokenmillError: Always.
        """
        raise TokenmillError(
            f"{self.compiled.job_name} is served by the image that compiled it, not by another; give "
            "CompiledModel the image"
        )

    def check(self, serving: Serving, *, isolated: bool, region: str) -> None:
        """Refuse to serve what this model is not compiled for.

        Args:
            serving: What the endpoint serves.
            isolated: Whether its containers have no network; compiled models need none.
            region: The endpoint's region, or a token.

        Raises:
            TokenmillError: If the serving differs in anything that shapes the compiled graphs, or the
                artifact is in another region.
        """
        found = problems(serving, self.compiled.weights)
        if found:
            raise TokenmillError("\n".join(found))
        different = self.compiled.artifact.difference(artifact_of(serving, self.compiled.weights))
        if different:
            raise TokenmillError(
                f"{self.compiled.job_name} is not compiled for this endpoint: {'; '.join(different)}; give "
                "both the same serving"
            )
        home = cdk.Stack.of(self.compiled).region
        known = not cdk.Token.is_unresolved(home) and not cdk.Token.is_unresolved(region)
        if known and home != region:
            raise TokenmillError(
                f"the endpoint is in {region}, but {self.compiled.job_name} is compiled in {home}, and a "
                "model loads from its own region; compile in the endpoint's region"
            )

    def check_stack(self, stack: cdk.Stack) -> None:
        """Refuse the compiled model's own stack.

        Args:
            stack: The stack of what serves.

        Raises:
            TokenmillError: If it is that of the compiled model.
        """
        if cdk.Stack.of(self.compiled).node.path == stack.node.path:
            raise TokenmillError(
                f"{self.compiled.job_name} and the endpoint that serves it are both in stack "
                f"{stack.stack_name}; a deployment that misses the compiled model rolls back the state "
                "machine that would make it, so give CompiledModel and ServingImage a stack of their own"
            )

    def resolve(self, scope: Construct, serving: Serving, region: str) -> ResolvedSource:
        """Return the image and the weights, as the deployment finds them.

        Args:
            scope: The endpoint or component.
            serving: What it serves.
            region: Its region.
        """
        found = scope.node.try_find_child(CHECK_ID)
        check = found if isinstance(found, cdk.CustomResource) else self._check(scope)
        repository = self.compiled.serving_image.repository
        return ResolvedSource(
            image_uri=f"{repository.repository_uri}@{check.get_att_string('Digest')}",
            image_repository_arn=repository.repository_arn,
            environment={
                **compile_environment(serving),
                "SM_VLLM_MODEL": MODEL_FOLDER,
                "TOKENMILL_ARTIFACT_KEY": check.get_att_string("Key"),
            },
            s3_uri=check.get_att_string("Uri"),
            needs_internet=False,
            after=(check,),
        )

    def grant_read(self, role: iam.IRole) -> None:
        """Let a role read weights and compiled graphs.

        Args:
            role: The role of the containers.
        """
        reader_grants(role, self.compiled, objects=f"{PREFIX}*", read=actions.WEIGHTS_READ)

    def _check(self, scope: Construct) -> cdk.CustomResource:
        compiled = self.compiled
        function = RuntimeFunction(
            scope,
            f"{CHECK_ID}Function",
            entry=FunctionEntry(
                runs=functions.COMPILED_MODEL,
                description=f"Refuses to serve {compiled.serving.model} until it is compiled",
                timeout_seconds=CHECK_SECONDS,
            ),
            environment={},
        )
        function_grants(function.role, compiled, write=False)
        document = compiled.artifact.to_json()
        del document["image_digest"]
        made = custom_resource(
            scope,
            CHECK_ID,
            function=function.function,
            resource_type=RESOURCE_TYPE,
            properties={
                "Bucket": compiled.bucket.bucket_name,
                "Prefix": PREFIX,
                "Repository": compiled.serving_image.repository.repository_name,
                "Tag": compiled.serving_image.tag,
                "Artifact": cdk.Stack.of(scope).to_json_string(document),
                "Stack": cdk.Stack.of(compiled).stack_name,
                "Job": compiled.job_name,
            },
            timeout_seconds=CHECK_SECONDS + 60,
        )
        made.node.add_dependency(function)
        return made
