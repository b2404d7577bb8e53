"""CloudFormation in the local cloud: handlers for the types that MiniStack lacks or only half applies.

A handler has `create(logical id, properties, stack) -> (physical id, attributes)`, `update` with the same
outcome, and `delete`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenmill.local.cloudformation.api_resources import api_resources
from tokenmill.local.cloudformation.others import (
    AlarmHandler,
    ScalableTargetHandler,
    ScalingPolicyHandler,
    TimeToLive,
    VpcAttributes,
)
from tokenmill.local.cloudformation.sagemaker import ComponentHandler, EndpointHandler, NamedBySageMaker
from tokenmill.local.cloudformation.schedules import ScheduleHandler
from tokenmill.local.levels import Level, level_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenmill.local.autoscaling import AutoScaling
    from tokenmill.local.ministack_seams import Ministack
    from tokenmill.local.sagemaker.control import SageMaker

BLOCKING_TYPES = ("AWS::SageMaker::Endpoint", "AWS::SageMaker::InferenceComponent")


def register(
    ministack: Ministack, sagemaker: SageMaker, autoscaling: AutoScaling, more: Mapping[str, Any]
) -> ComponentHandler:
    """Put the handlers into MiniStack, and take out every type that the table of levels does not declare.

    Args:
        ministack: MiniStack's modules.
        sagemaker: The control plane.
        autoscaling: Application Auto Scaling.
        more: Handlers of further types.
    """
    registry = ministack.provisioners._RESOURCE_HANDLERS
    component = ComponentHandler(ministack, sagemaker)
    ours: dict[str, Any] = {
        "AWS::SageMaker::Model": NamedBySageMaker(ministack, sagemaker, "Model"),
        "AWS::SageMaker::EndpointConfig": NamedBySageMaker(ministack, sagemaker, "EndpointConfig"),
        "AWS::SageMaker::Endpoint": EndpointHandler(ministack, sagemaker),
        "AWS::SageMaker::InferenceComponent": component,
        "AWS::ApplicationAutoScaling::ScalableTarget": ScalableTargetHandler(ministack, autoscaling),
        "AWS::ApplicationAutoScaling::ScalingPolicy": ScalingPolicyHandler(ministack, autoscaling),
        "AWS::CloudWatch::Alarm": AlarmHandler(ministack),
        "AWS::DynamoDB::Table": TimeToLive(ministack, registry["AWS::DynamoDB::Table"]),
        "AWS::DynamoDB::GlobalTable": TimeToLive(ministack, registry["AWS::DynamoDB::GlobalTable"]),
        "AWS::Scheduler::Schedule": ScheduleHandler(ministack),
        "AWS::EC2::VPC": VpcAttributes(ministack, registry["AWS::EC2::VPC"]),
    }
    through_api = api_resources(ministack)
    ours.update(through_api)
    ours.update(more)
    blocking = {*BLOCKING_TYPES, *through_api}
    for name, handler in ours.items():
        registry[name] = {
            "create": handler.create,
            "update": handler.update,
            "update_with_logical_id": True,
            "delete": handler.delete,
        }
    for name in [name for name in registry if level_of(name).level is Level.REFUSED]:
        del registry[name]
    runs_elsewhere = ministack.stack_tasks._runs_on_worker_thread
    ministack.stack_tasks._runs_on_worker_thread = lambda kind: kind in blocking or runs_elsewhere(kind)
    return component
