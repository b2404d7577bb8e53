"""A LoRA adapter as an inference component of its own on the copies of its base model."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sagemaker as sagemaker

from tokenmill.core._checks import is_token
from tokenmill.core.errors import TokenmillError
from tokenmill.core.lora import lora_parameters
from tokenmill.endpoints.base import LlmEndpointBase
from tokenmill.endpoints.component import lower_case_name
from tokenmill.security import actions
from tokenmill.security.place import PARTITION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aws_cdk import aws_s3 as s3

    from tokenmill.core.engine_options import LoraSlots
    from tokenmill.core.lora import Adapter
    from tokenmill.endpoints.component import ServedComponent
    from tokenmill.endpoints.serving import Serving

JOINED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
"""Matrices that some checkpoints hold as one."""
BESIDE_LAYERS = ("embed_tokens", "lm_head")


class LlmAdapter(LlmEndpointBase):
    """A LoRA adapter that the copies of its base component load; called under a component name of its own.

    It has no compute of its own and does not scale ("InferenceComponentSpecification", Amazon SageMaker API
    Reference, and "Fine-tune models with adapter inference components", Amazon SageMaker AI developer guide).

    Args:
        base: The component that holds the base model.
        id: The construct's id under the base.
        adapter: The adapter, which `add_adapter` has checked.
        bucket: The bucket of its artifact; its S3 URI alone otherwise.
    """

    def __init__(
        self, base: ServedComponent, id: str, *, adapter: Adapter, bucket: s3.IBucket | None = None
    ) -> None:
        super().__init__(base, id)
        self.adapter = adapter
        self.fewest_copies = base.fewest_copies
        cfn = sagemaker.CfnInferenceComponent
        self.component = cfn(
            self,
            "Resource",
            inference_component_name=lower_case_name(self),
            endpoint_name=base.endpoint_name,
            specification=cfn.InferenceComponentSpecificationProperty(
                base_inference_component_name=base.component_name,
                container=cfn.InferenceComponentContainerSpecificationProperty(artifact_url=adapter.artifact),
            ),
        )
        self.component.add_metadata(
            "tokenmill", {"adapter": adapter.name, "model": adapter.base_model, "rank": adapter.rank}
        )
        if base.makes_role:
            self._grant_artifact(base.hosting_role, bucket)
        self.component_arn = self.component.ref
        self.component_name = cdk.Fn.select(1, cdk.Fn.split("/", self.component_arn))
        self.endpoint_arn = base.endpoint_arn
        self.endpoint_name = base.endpoint_name

    @property
    def scaling_resource_id(self) -> str:
        """None: copies of the base scale, and the adapter is on each.

        Raises:
            TokenmillError: Always.
        """
        self._refuse_scaling()

    @property
    def scalable_dimension(self) -> str:
        """None: copies of the base scale, and the adapter is on each.

        Raises:
            TokenmillError: Always.
        """
        self._refuse_scaling()

    def _refuse_scaling(self) -> NoReturn:
        raise TokenmillError(
            f"adapter {self.adapter.name} has no copies of its own to scale; scale the component of its base "
            "model, which loads it on each copy"
        )

    def _grant_artifact(self, role: iam.IRole, bucket: s3.IBucket | None) -> None:
        # SageMaker loads artifacts with the execution role ("CreateModel API: Execution Role Permissions").
        name, _, key = self.adapter.artifact.removeprefix("s3://").partition("/")
        place = f"arn:{PARTITION}:s3:::{name}" if bucket is None else bucket.bucket_arn
        granted = iam.Grant.add_to_principal(
            grantee=role, actions=list(actions.MODEL_READ), resource_arns=[f"{place}/{key}"]
        )
        granted.apply_before(self.component)
        if bucket is not None and bucket.encryption_key is not None:
            bucket.encryption_key.grant(role, *actions.MODEL_KEY_READ)


def add_adapter(
    base: ServedComponent,
    id: str,
    *,
    adapter: Adapter,
    bucket: s3.IBucket | None = None,
    others: Sequence[LlmAdapter] = (),
) -> LlmAdapter:
    """Return an adapter on a base component.

    Args:
        base: The component that holds the base model.
        id: The construct's id under the base.
        adapter: The adapter.
        bucket: The bucket of its artifact, for its grants and its region; the S3 URI alone otherwise.
        others: The adapters that the component has already.

    Raises:
        TokenmillError: If the image loads no adapters, the adapter does not fit the base, there is no room
            for another, or its artifact is in another region or bucket.
    """
    serving = base.serving
    slots = _slots(serving, adapter)
    _check_base(serving, adapter)
    _check_room(slots, adapter, others)
    if bucket is not None:
        _check_bucket(adapter, bucket, cdk.Stack.of(base).region)
    return LlmAdapter(base, id, adapter=adapter, bucket=bucket)


def _slots(serving: Serving, adapter: Adapter) -> LoraSlots:
    image = serving.serving_image
    if not image.dynamic_lora:
        raise TokenmillError(
            f"adapter {adapter.name} cannot be loaded: image {image.key!r} on {serving.instance_type} has no "
            f"dynamic LoRA loading; {image.static_lora}, or serve on GPUs with lmi-vllm or vllm-sagemaker"
        )
    if serving.options.lora is None:
        raise TokenmillError(
            f"adapter {adapter.name} cannot be loaded: the serving of {serving.model} has no room for "
            "adapters; give it options=EngineOptions(lora=LoraSlots(max_adapters=4, max_rank=16))"
        )
    return serving.options.lora


def _check_base(serving: Serving, adapter: Adapter) -> None:
    spec = serving.spec
    served = {serving.model} | ({spec.id} if spec else set())
    if adapter.base_model not in served:
        raise TokenmillError(
            f"adapter {adapter.name} was trained on {adapter.base_model!r}, but the component serves "
            f"{serving.model!r}; add it to a component of its base model"
        )
    if spec is None:
        return
    named = [item.rpartition(".")[2] for item in adapter.target_modules]
    targets = {part for item in named for part in JOINED.get(item, (item,)) if part not in BESIDE_LAYERS}
    if targets:
        lora_parameters(spec, rank=adapter.rank, targets=targets)


def _check_room(slots: LoraSlots, adapter: Adapter, others: Sequence[LlmAdapter]) -> None:
    if adapter.rank > slots.max_rank:
        raise TokenmillError(
            f"adapter {adapter.name} has rank {adapter.rank}, but the component has room for rank "
            f"{slots.max_rank}; raise max_rank of its LoraSlots, which takes memory of every core"
        )
    if len(others) >= slots.loadable:
        raise TokenmillError(
            f"adapter {adapter.name} is number {len(others) + 1}, but the component has room for "
            f"{slots.loadable}; raise max_adapters of its LoraSlots, or max_kept to keep more in host memory"
        )
    if any(adapter.name == other.adapter.name for other in others):
        raise TokenmillError(f"the component has an adapter {adapter.name} already; give another name")


def _check_bucket(adapter: Adapter, bucket: s3.IBucket, region: str) -> None:
    if not adapter.artifact.startswith(f"s3://{bucket.bucket_name}/"):
        raise TokenmillError(
            f"artifact of adapter {adapter.name} is {adapter.artifact!r}, which is not in the bucket that "
            "was given; give its own bucket, or leave bucket out"
        )
    place = bucket.env.region
    unknown = is_token(place) or is_token(region)
    if not unknown and place != region:
        raise TokenmillError(
            f"artifact of adapter {adapter.name} is in {place}, but the endpoint is in {region}; copy it to "
            f"a bucket in {region}"
        )
