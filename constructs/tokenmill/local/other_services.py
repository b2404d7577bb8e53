"""The services beside SageMaker's hosting: Bedrock, builds, jobs, asynchronous inference, workflows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenmill.local.aws_requests import AwsError, Scope
from tokenmill.local.bedrock.service import Bedrock
from tokenmill.local.clients import CloudClients, CloudImages, CloudObjects
from tokenmill.local.cloudformation.codebuild import ProjectHandler
from tokenmill.local.codebuild.recipe import Recipes
from tokenmill.local.codebuild.service import CodeBuild
from tokenmill.local.distributed_map import DistributedMap
from tokenmill.local.ministack_events import EventBus, pushed_digest, refuse_unknown_images
from tokenmill.local.ministack_schedules import begin_at_once, follow_time_zones
from tokenmill.local.sagemaker.async_inference import AsyncInference
from tokenmill.local.sagemaker.async_run import Outside
from tokenmill.local.sagemaker.control import derived_digest
from tokenmill.local.sagemaker.jobs import TrainingJobs
from tokenmill.local.sagemaker.transform import TransformJobs
from tokenmill.local.service_quotas import ServiceQuotas
from tokenmill.local.step_functions import Integrations
from tokenmill.local.step_functions_bedrock import BedrockIntegrations

if TYPE_CHECKING:
    from tokenmill.local.bedrock.converse import Record as BedrockRecord
    from tokenmill.local.ministack_seams import Ministack
    from tokenmill.local.sagemaker.async_run import Record
    from tokenmill.local.sagemaker.control import SageMaker
    from tokenmill.local.sagemaker.runtime import SageMakerRuntime


class OtherServices:
    """Makes the services and puts them into the cloud.

    Args:
        ministack: MiniStack's modules.
        sagemaker: The control plane, which gets the jobs' operations.
        runtime: The runtime API, which knows who answers for an endpoint.
        record: Takes a metric of the `AWS/SageMaker` namespace.
        record_bedrock: Takes a metric of the `AWS/Bedrock` namespace.
    """

    def __init__(
        self,
        ministack: Ministack,
        sagemaker: SageMaker,
        runtime: SageMakerRuntime,
        *,
        record: Record,
        record_bedrock: BedrockRecord,
    ) -> None:
        self._clients = CloudClients()
        objects, bus = CloudObjects(self._clients), EventBus(ministack)
        self.codebuild = CodeBuild(
            Recipes(CloudImages(self._clients), objects),
            bus.publish,
            phase_seconds=sagemaker.startup_seconds,
        )
        self.bedrock = Bedrock(
            sagemaker.fleet,
            self._clients,
            publish=bus.publish,
            record=record_bedrock,
            startup_seconds=sagemaker.startup_seconds,
        )
        self.service_quotas = ServiceQuotas({"bedrock": self.bedrock.quotas})
        self.handlers = {
            "AWS::CodeBuild::Project": ProjectHandler(ministack, self.codebuild),
            **self.bedrock.handlers(ministack),
        }
        self.async_inference = AsyncInference(
            sagemaker,
            Outside(
                objects=objects,
                record=record,
                notify=self._notify,
                target=lambda scope, endpoint: runtime.target(scope, endpoint, None),
            ),
        )
        for jobs in (
            TrainingJobs(sagemaker, objects, bus.publish),
            TransformJobs(sagemaker, objects, bus.publish),
        ):
            sagemaker.add_operations(jobs.operations())
        integrations = Integrations(ministack, sagemaker, self._clients)
        integrations.install()
        integrations.offer("sagemaker", sagemaker, target="SageMaker", errors="SageMaker")
        integrations.offer("codebuild", self.codebuild, target="CodeBuild_20161006", errors="CodeBuild")
        BedrockIntegrations(ministack, self._clients).install()
        DistributedMap(ministack, objects).install()
        bus.publish_stack_statuses()
        refuse_unknown_images(ministack)
        follow_time_zones(ministack.scheduler, ministack.events)
        begin_at_once(ministack.scheduler, ministack.events)
        sagemaker.resolve_image = lambda scope, image: (
            pushed_digest(ministack, scope, image) or derived_digest(scope, image)
        )

    def _notify(self, scope: Scope, topic: str, message: str) -> None:
        import botocore.exceptions

        try:
            self._clients.client(scope, "sns").publish(TopicArn=topic, Message=message)
        except botocore.exceptions.ClientError as error:
            raise AwsError("SnsError", f"{topic}: {error}") from error
