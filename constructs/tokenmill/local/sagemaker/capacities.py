"""SageMaker's resources as scalable targets: what they have, and how they are given more or less.

Source: Application Auto Scaling API Reference, "RegisterScalableTarget" (ResourceId and ScalableDimension of
SageMaker endpoint variants and inference components).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenmill.local.autoscaling.records import Capacity

if TYPE_CHECKING:
    from tokenmill.local.autoscaling.records import TargetKey
    from tokenmill.local.aws_requests import Scope
    from tokenmill.local.sagemaker.control import SageMaker
    from tokenmill.local.sagemaker.records import Endpoint, Variant

COPIES = "sagemaker:inference-component:DesiredCopyCount"
INSTANCES = "sagemaker:variant:DesiredInstanceCount"


class SageMakerCapacities:
    """The capacity of inference components and of endpoint variants.

    Args:
        sagemaker: The control plane.
    """

    def __init__(self, sagemaker: SageMaker) -> None:
        self._sagemaker = sagemaker

    def read(self, scope: Scope, key: TargetKey) -> Capacity | None:
        """Return a resource's capacity; nothing when there is no such resource.

        Args:
            scope: Whose.
            key: Namespace, resource id and dimension.
        """
        account = self._sagemaker.accounts[scope]
        if key[2] == COPIES:
            component = account.components.get(key[1].removeprefix("inference-component/"))
            if component is None:
                return None
            active = component.status == "InService"
            return Capacity(desired=component.desired, active=active, unit="copy count")
        found = self._variant(scope, key)
        if key[2] != INSTANCES or found is None:
            return None
        endpoint, variant = found
        active = endpoint.status == "InService"
        return Capacity(desired=variant.desired, active=active, unit="instance count")

    def write(self, scope: Scope, key: TargetKey, wanted: int) -> None:
        """Give a resource another capacity.

        Args:
            scope: Whose.
            key: Namespace, resource id and dimension.
            wanted: Copies or instances.

        Raises:
            AwsError: SageMaker refuses.
        """
        if key[2] == COPIES:
            name = key[1].removeprefix("inference-component/")
            params = {"InferenceComponentName": name, "DesiredRuntimeConfig": {"CopyCount": wanted}}
            self._sagemaker.call(scope, "UpdateInferenceComponentRuntimeConfig", params)
            return
        _, endpoint, _, variant = key[1].split("/")
        changes = [{"VariantName": variant, "DesiredInstanceCount": wanted}]
        request = {"EndpointName": endpoint, "DesiredWeightsAndCapacities": changes}
        self._sagemaker.call(scope, "UpdateEndpointWeightsAndCapacities", request)

    def _variant(self, scope: Scope, key: TargetKey) -> tuple[Endpoint, Variant] | None:
        parts = key[1].split("/")
        if len(parts) != 4 or (parts[0], parts[2]) != ("endpoint", "variant"):
            return None
        endpoint = self._sagemaker.accounts[scope].endpoints.get(parts[1])
        if endpoint is None:
            return None
        return next(((endpoint, each) for each in endpoint.variants if each.name == parts[3]), None)
