"""Is what runs what was asked? SageMaker rolls an update back by itself and says InService.

Terraform's users found it (hashicorp/terraform-provider-aws#48997): the endpoint's status alone is no proof,
the configuration's name is. "DescribeEndpoint" and "DescribeInferenceComponent" (Amazon SageMaker API
Reference) name the configuration, and the image with the digest that it resolved to.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tokenmill_runtime.custom_resource import Refused
from tokenmill_runtime.deployment_fleet import POLL_SECONDS, FleetControl, Live
from tokenmill_runtime.deployment_services import error_code

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tokenmill_runtime.deployment_fleet import Fleet
    from tokenmill_runtime.deployment_services import Services

HEALTHY: Final = "InService"
# "InvokeEndpoint" (Amazon SageMaker API Reference): what passes while containers start or are busy.
WARMING: Final = frozenset(
    {
        "InternalDependencyException",
        "InternalFailure",
        "InternalStreamFailure",
        "ModelNotReadyException",
        "ServiceUnavailable",
        "ThrottlingException",
    }
)
SMOKE_PAUSE_SECONDS: Final = 5.0
MOST_MESSAGE: Final = 300
NUMBERS: Final = {"accelerators": float, "memory_mib": int}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One specification that was asked for; None where nothing was asked.

    Args:
        instance_type: The instance type of this specification, where a component has one for each.
        image: The image's URI.
        digest: The image's digest, such as "sha256:…".
        model: The name of the SageMaker model.
        base: The component that an adapter belongs to.
        artifact: The URL of an adapter's or a model's archive.
        environment: Variables of the container, without those that hold a secret.
        accelerators: Accelerators of a copy.
        memory_mib: Host memory that a copy reserves, in MiB.
    """

    instance_type: str | None = None
    image: str | None = None
    digest: str | None = None
    model: str | None = None
    base: str | None = None
    artifact: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    accelerators: float | None = None
    memory_mib: int | None = None

    @classmethod
    def read(cls, item: Mapping[str, Any]) -> Asked:
        """A specification of a property, whose numbers CloudFormation hands over as text."""
        numbers = {name: kind(item[name]) for name, kind in NUMBERS.items() if name in item}
        return cls(**{**item, **numbers})


@dataclass(frozen=True, slots=True, kw_only=True)
class Smoke:
    """A prompt that must be answered."""

    prompt: str
    max_tokens: int
    wait_seconds: float


def read_asked(items: Any) -> tuple[Asked, ...]:
    """The specifications of a property. Raises Refused for another form."""
    try:
        return tuple(Asked.read(item) for item in items)
    except (TypeError, ValueError) as error:
        raise Refused(f"Asked must be a list of specifications: {error}") from error


def read_smoke(item: Any) -> Smoke | None:
    """The prompt of a property, or None. Raises Refused for another form."""
    if not item:
        return None
    try:
        return Smoke(
            prompt=item["prompt"],
            max_tokens=int(item["max_tokens"]),
            wait_seconds=float(item["wait_seconds"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Refused(f"Smoke must have prompt, max_tokens and wait_seconds: {error!r}") from error


class DeploymentCheck:
    """Compares an endpoint, and what runs on it, with what a deployment asked for."""

    def __init__(self, *, endpoint: str, fleet: Fleet, services: Services) -> None:
        self._endpoint = endpoint
        self._fleet = fleet
        self._services = services

    def configuration(self, config: str, deadline: float) -> None:
        """Raise Refused unless the endpoint is in service with this configuration."""
        found = self._settled_endpoint(deadline)
        status, live, reason = found["EndpointStatus"], found.get("EndpointConfigName"), _reason(found)
        if status != HEALTHY:
            raise Refused(f"endpoint {self._endpoint} is {status}, not {HEALTHY}{reason}")
        if live != config:
            raise Refused(
                f"endpoint {self._endpoint} runs configuration {live}, not {config}: SageMaker rolled the "
                f"update back{reason}"
            )

    def specification(self, asked: Sequence[Asked], deadline: float) -> Live:
        """Raise Refused unless the fleet is in service and runs what was asked; return what runs."""
        live = FleetControl(self._fleet, self._services).wait(deadline)
        name = self._fleet.resource_id
        if live is None:
            raise Refused(f"{name} is not there; look into the stack's events for what deleted it")
        if live.status != HEALTHY:
            raise Refused(f"{name} is {live.status}, not {HEALTHY}{_reason(live.description)}")
        for one in asked:
            if self._fleet.component is not None:
                _compare(name, one, _components(live.description))
            else:
                _compare_variant(name, one, _images(live.description, str(self._fleet.variant)))
        return live

    def copies(self, live: Live, wanted: int) -> None:
        """Raise Refused where fewer run than the deployment was to keep."""
        if live.current < wanted:
            raise Refused(
                f"{self._fleet.resource_id} has {live.current} of {wanted} in service"
                f"{_reason(live.description)}; more instances may be missing: look for "
                "InsufficientInstanceCapacity in the endpoint's failure reason, or raise the quota"
            )

    def answers(self, smoke: Smoke, deadline: float) -> None:
        """Send the prompt until it is answered; raise Refused when the time is over or the model refuses."""
        from botocore.exceptions import ClientError, HTTPClientError

        services = self._services
        end = min(deadline, services.monotonic() + smoke.wait_seconds)
        while True:
            try:
                document = self._ask(smoke)
            except (ClientError, HTTPClientError) as error:
                if not _warming(error) or services.monotonic() >= end:
                    raise Refused(self._unanswered(error)) from error
            else:
                _has_choices(self._endpoint, document)
                return
            services.sleep(SMOKE_PAUSE_SECONDS)

    def _settled_endpoint(self, deadline: float) -> Mapping[str, Any]:
        from botocore.exceptions import ClientError

        sagemaker, services = self._services.sagemaker(), self._services
        while True:
            try:
                found: Any = services.patiently(
                    lambda: sagemaker.describe_endpoint(EndpointName=self._endpoint)
                )
            except ClientError as error:
                if error_code(error) == "ValidationException":
                    raise Refused(f"endpoint {self._endpoint} is not there: {_message(error)}") from error
                raise
            live = Live(status=found["EndpointStatus"], desired=0, current=0, description=found)
            if live.settled or services.monotonic() >= deadline:
                return dict(found)
            services.sleep(POLL_SECONDS)

    def _ask(self, smoke: Smoke) -> Any:
        body = {
            "messages": [{"role": "user", "content": smoke.prompt}],
            "max_tokens": smoke.max_tokens,
        }
        component = {} if self._fleet.component is None else {"InferenceComponentName": self._fleet.component}
        answer = self._services.models().invoke_endpoint(
            EndpointName=self._endpoint,
            ContentType="application/json",
            Accept="application/json",
            Body=json.dumps(body).encode(),
            **component,
        )
        return _document(answer["Body"].read())

    def _unanswered(self, error: Exception) -> str:
        return f"the smoke prompt to {self._fleet.resource_id} was not answered: {_message(error)}"


def _document(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _has_choices(endpoint: str, document: Any) -> None:
    choices = document.get("choices") if isinstance(document, dict) else None
    if not isinstance(choices, list) or not choices:
        # Without the answer's text: it may repeat what the prompt said.
        raise Refused(
            f"the smoke prompt to endpoint {endpoint} got no chat completion: the answer has no choices; "
            "does the container serve the OpenAI API on /invocations?"
        )


def _warming(error: Any) -> bool:
    response = getattr(error, "response", None)
    if response is None:
        return True
    if error_code(error) == "ModelError":
        # "ModelError": what the container answered; below 500 it is about the request and stays.
        return int(response.get("OriginalStatusCode") or 500) >= 500
    return error_code(error) in WARMING


def _message(error: Any) -> str:
    response = getattr(error, "response", None)
    text = response.get("Error", {}).get("Message", "") if response is not None else str(error)
    code = f"{error_code(error)} " if response is not None else ""
    return f"{code}{' '.join(str(text).split())}"[:MOST_MESSAGE]


def _reason(description: Mapping[str, Any]) -> str:
    reason = description.get("FailureReason")
    return f" ({' '.join(str(reason).split())[:MOST_MESSAGE]})" if reason else ""


def _components(description: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    several = description.get("Specifications")
    return list(several) if several else [description.get("Specification", {})]


def _images(description: Mapping[str, Any], variant: str) -> list[Mapping[str, Any]]:
    return [
        image
        for item in description["ProductionVariants"]
        if item["VariantName"] == variant
        for image in item.get("DeployedImages", [])
    ]


def _compare_variant(name: str, asked: Asked, images: Sequence[Mapping[str, Any]]) -> None:
    """A variant's configuration names its models, whose images cannot change; this sees the digest."""
    if asked.image is None or not images:
        return
    found = [image for image in images if image.get("SpecifiedImage") == asked.image]
    if not found:
        listed = ", ".join(str(image.get("SpecifiedImage")) for image in images)
        raise Refused(f"{name} runs image {listed}, not {asked.image}: SageMaker rolled the update back")
    for image in found:
        _compare_one(name, asked, {"Container": {"DeployedImage": image}})


def _compare(name: str, asked: Asked, running: Sequence[Mapping[str, Any]]) -> None:
    own = [
        item
        for item in running
        if asked.instance_type is None or item.get("InstanceType") == asked.instance_type
    ]
    if not own:
        kinds = asked.instance_type or "any instance type"
        raise Refused(f"{name} has no specification for {kinds}; SageMaker rolled the update back")
    for item in own:
        _compare_one(name, asked, item)


def _compare_one(name: str, asked: Asked, item: Mapping[str, Any]) -> None:
    container = item.get("Container", {})
    deployed = container.get("DeployedImage", {})
    digest = asked.digest or (asked.image or "").partition("@")[2]
    resolved = deployed.get("ResolvedImage", "").partition("@")[2]
    pairs = (
        ("image", asked.image, deployed.get("SpecifiedImage")),
        ("image digest", digest or None, resolved),
        ("model", asked.model, item.get("ModelName")),
        ("base component", asked.base, item.get("BaseInferenceComponentName")),
        ("artifact", asked.artifact, container.get("ArtifactUrl")),
    )
    for what, wanted, found in pairs:
        if wanted is not None and wanted != found:
            raise Refused(
                f"{name} runs {what} {found or 'none'}, not {wanted}: SageMaker rolled the update back"
            )
    _compare_settings(name, asked, item)


def _compare_settings(name: str, asked: Asked, item: Mapping[str, Any]) -> None:
    """An update of these alone leaves the image as it was, and so does its rollback.

    Both parts of the answer are optional ("InferenceComponentSpecificationSummary", Amazon SageMaker API
    Reference): what is not shown is not compared.
    """
    variables = item.get("Container", {}).get("Environment")
    for variable, value in asked.environment.items() if variables is not None else ():
        if variables.get(variable) != value:
            raise Refused(
                f"{name} runs with another value of variable {variable} than was asked for: SageMaker rolled "
                "the update back"
            )
    needs = item.get("ComputeResourceRequirements", {})
    for what, wanted, found in (
        ("accelerators", asked.accelerators, needs.get("NumberOfAcceleratorDevicesRequired")),
        ("MiB of host memory", asked.memory_mib, needs.get("MinMemoryRequiredInMb")),
    ):
        if wanted is not None and found is not None and wanted != found:
            raise Refused(
                f"{name} runs with {found:g} {what} a copy, not {wanted:g}: SageMaker rolled the update back"
            )
