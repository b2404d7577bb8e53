"""Serving images: which container runs on which accelerator, from which registry, on which host image."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field, replace
from importlib import resources
from typing import TYPE_CHECKING, Any

from tokenmill.core._codec import decode
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from tokenmill.core.instances import InstanceType


SHAPE_VARIABLES = {
    "SM_ON_": (
        "SM_ON_MODEL",
        "SM_ON_BATCH_SIZE",
        "SM_ON_SEQUENCE_LENGTH",
        "SM_ON_TENSOR_PARALLEL_SIZE",
    ),
    "OPTION_": (
        "HF_MODEL_ID",
        "OPTION_MAX_ROLLING_BATCH_SIZE",
        "OPTION_MAX_MODEL_LEN",
        "OPTION_TENSOR_PARALLEL_DEGREE",
    ),
    "SM_VLLM_": (
        "SM_VLLM_MODEL",
        "SM_VLLM_MAX_NUM_SEQS",
        "SM_VLLM_MAX_MODEL_LEN",
        "SM_VLLM_TENSOR_PARALLEL_SIZE",
    ),
}
"""Model, sequences, context and tensor degree, by prefix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """What is known of an image on a chip where it is less than documented.

    Args:
        accelerator: Name of the chip.
        status: "refused", or "experimental" where no source shows image and chip together.
        reason: Why, in one clause.
        source: Where that stands.
        source_date: When it stood there.
    """

    accelerator: str
    status: str
    reason: str
    source: str
    source_date: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogImage:
    """One container image and what it needs under it.

    Args:
        key: Short name that plans use, such as "hf-vllm-neuronx".
        repository: Repository in the registry, or a full public repository.
        tag: Pinned tag.
        registry_accounts: Account of the private registry by region; empty for a public image.
        accelerators: Accelerator names that it serves on.
        architectures: Model classes that it serves.
        quantizations: Weight formats that it loads besides plain ones.
        driver_needed: Driver that the software in the image was released with.
        host_ami: `InferenceAmiVersion` of the endpoint configuration that fits it.
        host_driver: Driver that AWS documents for that host image (Amazon SageMaker API Reference:
            "ProductionVariant").
        status: "documented", or "experimental" where no source shows image and host image together.
        status_reason: Why, in one clause.
        server: What reads its options: "lmi", "vllm", "optimum-neuron" or "vllm-neuron".
        environment_style: Prefix of its environment variables: "SM_ON_", "OPTION_" or "SM_VLLM_".
        servable: Whether a SageMaker endpoint can start it as it is.
        static_batch: Whether batch and sequence length are compiled in and paid in full.
        source: Where the row stands.
        source_date: When it stood there.
        memory_layout: How its server fills an accelerator (tokenmill.planner.memory): "paged" (vLLM on GPUs),
            "optimum" (optimum-neuron) or "nxd" (NxD Inference).
        pairings: Chips where it is refused or experimental; a chip in neither list is not served.
        cuda: CUDA version that it is built for, such as "13.0"; empty for an image without.
        dynamic_lora: Whether adapters can be loaded while it runs.
        static_lora: What to do with an adapter where they cannot; empty where they can.
    """

    key: str
    repository: str
    tag: str
    registry_accounts: dict[str, str] = field(hash=False)
    accelerators: tuple[str, ...]
    architectures: tuple[str, ...]
    quantizations: tuple[str, ...]
    driver_needed: str
    host_ami: str
    host_driver: str
    status: str
    status_reason: str
    server: str
    environment_style: str
    servable: bool
    static_batch: bool
    source: str
    source_date: str
    memory_layout: str = "paged"
    pairings: tuple[Pairing, ...] = ()
    cuda: str = ""
    dynamic_lora: bool = False
    static_lora: str = ""

    @property
    def model_variable(self) -> str:
        """The environment variable that names the model, on the Hub or in a folder."""
        return SHAPE_VARIABLES[self.environment_style][0]

    @property
    def in_own_registry(self) -> bool:
        """Whether no registry of AWS has it, so that it must stand in one of the account's own."""
        return not self.registry_accounts

    def on(self, accelerator: str) -> CatalogImage:
        """Return the image with the status of its pairing with a chip; refused is not servable.

        Args:
            accelerator: Name of the chip, such as "Inferentia2".
        """
        pairing = next((item for item in self.pairings if item.accelerator == accelerator), None)
        if pairing is None:
            return self
        servable = self.servable and pairing.status != "refused"
        return replace(self, status=pairing.status, status_reason=pairing.reason, servable=servable)

    @property
    def regions(self) -> tuple[str, ...]:
        """Regions whose registry holds the image."""
        return tuple(sorted(self.registry_accounts))

    def registry_account(self, region: str) -> str:
        """Return the account whose registry holds the image in a region.

        Args:
            region: AWS region, such as "us-east-1".

        Raises:
            TokenmillError: The image is not in that region.
        """
        if region not in self.registry_accounts:
            regions = ", ".join(self.regions) or "none"
            raise TokenmillError(f"image {self.key} is not in region {region!r}; regions with it: {regions}")
        return self.registry_accounts[region]

    def uri(self, region: str) -> str:
        """Return the image's full name in a region.

        Args:
            region: AWS region, such as "us-east-1".

        Raises:
            TokenmillError: The image is not in that region.
        """
        suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        registry = f"{self.registry_account(region)}.dkr.ecr.{region}.{suffix}"
        return f"{registry}/{self.repository}:{self.tag}"

    def environment(
        self, *, model: str, max_sequences: int, context_tokens: int, tensor_parallel: int
    ) -> dict[str, str]:
        """Return the container's environment for one copy of a model.

        "SM_ON_" variables become flags of `optimum-cli neuron serve` (huggingface/optimum-neuron v0.4.5,
        docker/vllm/Dockerfile and optimum/commands/neuron/serve.py); an empty value makes a flag without
        argument, which `--allow_non_cached_model` is. "OPTION_" variables are Large Model Inference options
        (deepjavalibrary/djl-serving: "LMI environment variable instruction"). "SM_VLLM_" variables become
        flags of vLLM's server (aws/deep-learning-containers: docs/vllm/configuration.md).

        Args:
            model: Name on the Hugging Face Hub, or a folder in the container.
            max_sequences: Sequences that run together.
            context_tokens: Prompt plus answer of one sequence, in tokens.
            tensor_parallel: Cores (or GPUs) of one copy.
        """
        model_at, sequences_at, context_at, tensor_at = SHAPE_VARIABLES[self.environment_style]
        variables = {
            model_at: model,
            sequences_at: str(max_sequences),
            context_at: str(context_tokens),
            tensor_at: str(tensor_parallel),
        }
        if self.server == "optimum-neuron":
            variables["SM_ON_ALLOW_NON_CACHED_MODEL"] = ""
        return variables


@dataclass(frozen=True, slots=True, kw_only=True)
class HostImage:
    """A machine image of the hosts that endpoints run on.

    Args:
        name: Its `InferenceAmiVersion`.
        kind: "gpu" or "neuron".
        driver: Driver that AWS documents for it.
        cuda: Newest CUDA version that the driver runs; empty without GPUs.
    """

    name: str
    kind: str
    driver: str
    cuda: str


@functools.cache
def _document() -> dict[str, Any]:
    text = resources.files("tokenmill.core").joinpath("data", "images.json").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    return document


@functools.cache
def image_catalog() -> dict[str, CatalogImage]:
    """Return every serving image by key."""
    images = (decode(CatalogImage, row, "image catalog") for row in _document()["images"])
    return {image.key: image for image in images}


@functools.cache
def host_images() -> dict[str, HostImage]:
    """Return the machine images of hosts by name (Amazon SageMaker API Reference: "ProductionVariant")."""
    hosts = (decode(HostImage, row, "image catalog") for row in _document()["hosts"])
    return {host.name: host for host in hosts}


def image_date() -> str:
    """Return the date of the image catalog."""
    return str(_document()["date"])


def image(key: str) -> CatalogImage:
    """Return one serving image.

    Args:
        key: Its short name.

    Raises:
        TokenmillError: No such image.
    """
    catalog = image_catalog()
    if key not in catalog:
        raise TokenmillError(f"unknown serving image {key!r}; known: {', '.join(catalog)}")
    return catalog[key]


def serving_image(instance: InstanceType, region: str | None = None) -> CatalogImage:
    """Return the image that serves on an instance type.

    Args:
        instance: The instance type.
        region: AWS region that must have it; None does not check (a region known only at deployment).

    Raises:
        TokenmillError: The image is not in that region.
    """
    found = image_of(instance.accelerator.name)
    if region is not None and found.servable:
        found.registry_account(region)
    return found


def startable_image(found: CatalogImage, accelerator: str) -> CatalogImage:
    """Return an image with its status on a chip, or the one that is built from it where it cannot start.

    Args:
        found: The image.
        accelerator: Name of the chip, such as "Trainium2".
    """
    paired = found.on(accelerator)
    if paired.servable or paired.status == "refused":
        return paired
    alike = (
        item.on(accelerator)
        for item in image_catalog().values()
        if item.server == found.server and accelerator in item.accelerators
    )
    return next((item for item in alike if item.servable), paired)


@functools.cache
def image_of(accelerator: str) -> CatalogImage:
    """Return the image that serves on a chip; its status is that of the pairing, and refused is not servable.

    Args:
        accelerator: Name of the chip, such as "Inferentia2".
    """
    found = next(item for item in image_catalog().values() if accelerator in item.accelerators)
    return found.on(accelerator)
