"""Accelerators and the instance types that SageMaker hosting offers with them, with prices by region."""

from __future__ import annotations

import datetime
import difflib
import functools
import math
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tokenmill.core._checks import as_whole, positive
from tokenmill.core._tables import rows
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from tokenmill.core.user_catalog import UserCatalog

CATALOG_DATE = "2026-11-22"
PRICE_MAX_AGE_DAYS = 180
GIB = 1024**3
INSTANCE_NAME = re.compile(r"ml\.[a-z][a-z0-9-]*\.[a-z0-9]+")
HOST_SHARE = 0.9
"""SageMaker keeps some of an instance for itself; a tenth is an allowance, not a documented figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """One chip (Neuron device or GPU).

    Args:
        name: "Inferentia2", "H100" and so on.
        vendor: Who makes it.
        kind: "neuron" or "gpu".
        cores_per_chip: Logical NeuronCores of a chip; 1 for a GPU.
        cores_in_logical: Physical NeuronCores that work as one logical core; 1 for a GPU.
        memory_gib: Memory of a chip, in GiB.
        bandwidth_gb_s: Memory bandwidth of a chip, in 1e9 bytes a second.
        bf16_tflops: Dense bfloat16 throughput of a chip, in 1e12 operations a second.
        fast_interconnect: Whether chips of an instance talk over NeuronLink or NVLink rather than PCIe.
        core_groups: Cores that may work together where the topology allows only some; empty for any number.
        quantizations: Weight formats that a server runs on it besides plain ones.
        weight_only: Those of them that are stored so and computed with in a wider format.
        source: Where the numbers stand.
        source_date: When they stood there.
    """

    name: str
    vendor: str
    kind: str
    cores_per_chip: int
    cores_in_logical: int
    memory_gib: float
    bandwidth_gb_s: float
    bf16_tflops: float
    fast_interconnect: bool
    core_groups: tuple[int, ...]
    quantizations: tuple[str, ...]
    weight_only: tuple[str, ...]
    source: str
    source_date: str

    @property
    def memory_bytes_per_core(self) -> float:
        """Memory that one core may use, in bytes."""
        return self.memory_gib * GIB / self.cores_per_chip


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What an hour of an instance costs on demand, in one region.

    Args:
        usd_per_hour: US dollars an hour.
        source: Where the price stands, or "given on the command line".
        source_date: When it stood there, as YYYY-MM-DD; empty for a price that the user gave.
    """

    usd_per_hour: float
    source: str
    source_date: str

    def stale(self, today: datetime.date) -> bool:
        """Return whether the price is older than 180 days.

        Args:
            today: The day to measure from.
        """
        if not self.source_date:
            return False
        age = today - datetime.date.fromisoformat(self.source_date)
        return age.days > PRICE_MAX_AGE_DAYS


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceType:
    """One hosting instance type.

    Args:
        name: Hosting name, such as "ml.inf2.8xlarge".
        family: Its family, such as "inf2".
        accelerator: The chip in it.
        chips: Chips in it.
        vcpu: Virtual CPUs.
        host_memory_gib: Memory of the host, in GiB.
        local_nvme: Whether it has instance store volumes; SageMaker refuses an endpoint configuration with a
            KMS key for such types (Amazon SageMaker API Reference: "CreateEndpointConfig", KmsKeyId).
        hosted: Whether the hosting API accepts it (botocore, ProductionVariantInstanceType).
        source: Where the row stands.
        source_date: When it stood there.
        prices: On-demand hosting price by region; a region that is absent has no known price.
        listed_regions: Regions whose whole price list was read; without a price there, it is
            not offered there.
    """

    name: str
    family: str
    accelerator: Accelerator
    chips: int
    vcpu: int
    host_memory_gib: int
    local_nvme: bool
    hosted: bool
    source: str
    source_date: str
    prices: dict[str, Price] = field(hash=False)
    listed_regions: tuple[str, ...] = ()

    @property
    def cores(self) -> int:
        """Logical NeuronCores, or GPUs."""
        return self.chips * self.accelerator.cores_per_chip

    @property
    def accelerator_memory_gib(self) -> float:
        """Memory of all chips, in GiB."""
        return self.chips * self.accelerator.memory_gib

    @property
    def host_room_mib(self) -> int:
        """Host memory that copies may ask for, in MiB."""
        return math.floor(self.host_memory_gib * 1024 * HOST_SHARE)

    def price(self, region: str) -> Price | None:
        """Return the price in a region, or None where none is known; another region's price is never used.

        Args:
            region: AWS region, such as "us-east-1".
        """
        return self.prices.get(region)

    def offered(self, region: str) -> bool | None:
        """Return whether hosting offers it in a region, or None where no source says so.

        Args:
            region: AWS region, such as "us-east-1".
        """
        if region in self.prices:
            return True
        return False if region in self.listed_regions else None


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizationFact:
    """Whether one weight format runs on one chip.

    Args:
        accelerator: Name of the chip.
        format: "fp8", "int8", "int4", "mxfp4" or "nvfp4".
        use: "computed", "stored" (kept so in memory, widened before it is computed with) or "refused".
        source: Where that stands, with the reason where it is refused.
        source_date: When it stood there.
    """

    accelerator: str
    format: str
    use: str
    source: str
    source_date: str


@functools.cache
def quantization_facts() -> tuple[QuantizationFact, ...]:
    """Return what is known of every chip and weight format; a pair without a row is not known to run."""
    return tuple(QuantizationFact(**row) for row in rows("quantizations.csv"))


@functools.cache
def accelerator_catalog() -> dict[str, Accelerator]:
    """Return every known accelerator by name, whether or not a hosting instance type has it."""
    uses: dict[str, dict[str, str]] = {}
    for fact in quantization_facts():
        if fact.use != "refused":
            uses.setdefault(fact.accelerator, {})[fact.format] = fact.use
    return {row["name"]: _accelerator(row, uses.get(row["name"], {})) for row in rows("accelerators.csv")}


def _accelerator(row: dict[str, str], uses: dict[str, str]) -> Accelerator:
    return Accelerator(
        name=row["name"],
        vendor=row["vendor"],
        kind=row["kind"],
        cores_per_chip=int(row["cores_per_chip"]),
        cores_in_logical=int(row["cores_in_logical"]),
        memory_gib=float(row["memory_gib"]),
        bandwidth_gb_s=float(row["bandwidth_gb_s"]),
        bf16_tflops=float(row["bf16_tflops"]),
        fast_interconnect=row["fast_interconnect"] == "true",
        core_groups=tuple(int(group) for group in row["core_groups"].split(";") if group),
        quantizations=tuple(uses),
        weight_only=tuple(name for name, use in uses.items() if use == "stored"),
        source=row["source"],
        source_date=row["source_date"],
    )


@functools.cache
def known_instances() -> dict[str, InstanceType]:
    """Return every instance type that measurements name, by name: hosted ones, then those that are not."""
    prices: dict[str, dict[str, Price]] = {}
    for row in rows("prices.csv"):
        prices.setdefault(row["name"], {})[row["region"]] = Price(
            usd_per_hour=float(row["usd_per_hour"]), source=row["source"], source_date=row["source_date"]
        )
    accelerators = accelerator_catalog()
    return {
        row["name"]: InstanceType(
            name=row["name"],
            family=row["family"],
            accelerator=accelerators[row["accelerator"]],
            chips=int(row["chips"]),
            vcpu=int(row["vcpu"]),
            host_memory_gib=int(row["host_memory_gib"]),
            local_nvme=row["local_nvme"] == "true",
            hosted=row["hosted"] == "true",
            source=row["source"],
            source_date=row["source_date"],
            prices=prices.get(row["name"], {}),
        )
        for row in rows("instances.csv")
    }


def instance_catalog(overlay: UserCatalog | None = None) -> dict[str, InstanceType]:
    """Return every instance type that SageMaker hosting accepts and the planner knows, by name.

    Args:
        overlay: The user's own catalog; in its regions its prices count and no others.
    """
    if overlay is None:
        return _shipped()
    return {name: _overlaid(item, overlay) for name, item in _shipped().items()}


@functools.cache
def _shipped() -> dict[str, InstanceType]:
    return {name: item for name, item in known_instances().items() if item.hosted}


def _overlaid(item: InstanceType, overlay: UserCatalog) -> InstanceType:
    prices = {region: price for region, price in item.prices.items() if region not in overlay.regions}
    for region, listed in overlay.regions.items():
        if item.name in listed.prices:
            prices[region] = Price(
                usd_per_hour=listed.prices[item.name],
                source=f"{overlay.source}, published {listed.published}",
                source_date=overlay.date,
            )
    clear = (region for region, listed in overlay.regions.items() if item.name not in listed.unclear)
    return replace(item, prices=prices, listed_regions=tuple(clear))


@functools.cache
def price_date() -> str:
    """Return the date of the newest price in the catalog."""
    return max(price.source_date for item in instance_catalog().values() for price in item.prices.values())


def instance_type(name: str) -> InstanceType:
    """Return one instance type.

    Args:
        name: Hosting name, such as "ml.inf2.8xlarge".

    Raises:
        TokenmillError: Hosting does not accept the type, or it is not in the catalog; the message names the
            nearest ones.
    """
    catalog = instance_catalog()
    if name not in catalog:
        if name in known_instances():
            raise TokenmillError(f"instance type {name!r} is not offered for hosting; nearest: {_near(name)}")
        raise TokenmillError(f"unknown instance type {name!r}; nearest known: {_near(name)}")
    return catalog[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnlistedInstance:
    """What an instance type is that the catalog does not know, or knows wrongly.

    Args:
        accelerator: Name of its chip, one of the catalog's.
        chips: Chips in it.
        vcpu: Virtual CPUs.
        host_memory_gib: Memory of the host, in GiB.
        local_nvme: Whether it has instance store volumes, for which SageMaker refuses a KMS key.

    Raises:
        TokenmillError: An unknown chip, or a number that is not above 0.
    """

    accelerator: str
    chips: int
    vcpu: int
    host_memory_gib: int
    local_nvme: bool = False

    def __post_init__(self) -> None:
        as_whole(self, "chips", "vcpu", "host_memory_gib")
        positive(chips=self.chips, vcpu=self.vcpu, host_memory_gib=self.host_memory_gib)
        if self.accelerator not in accelerator_catalog():
            raise TokenmillError(
                f"unknown accelerator {self.accelerator!r}; known: {', '.join(accelerator_catalog())}"
            )

    def named(self, name: str) -> InstanceType:
        """Return the instance type under a name; no price is known of it.

        Args:
            name: Hosting name, such as "ml.trn2.3xlarge".

        Raises:
            TokenmillError: The name has not the form of a hosting name.
        """
        if not INSTANCE_NAME.fullmatch(name):
            raise TokenmillError(
                f"instance type {name!r} has not the form of a hosting name, such as 'ml.inf2.8xlarge'"
            )
        return InstanceType(
            name=name,
            family=name.split(".")[1],
            accelerator=accelerator_catalog()[self.accelerator],
            chips=self.chips,
            vcpu=self.vcpu,
            host_memory_gib=self.host_memory_gib,
            local_nvme=self.local_nvme,
            hosted=True,
            source="given in place of the catalog",
            source_date="",
            prices={},
        )


def _near(name: str) -> str:
    catalog = instance_catalog()
    families = sorted({f"{known.rpartition('.')[0]}.*" for known in catalog})
    return ", ".join(difflib.get_close_matches(name, catalog, n=3, cutoff=0.4) or families)
