"""What rules an instance type or a split out before anything is timed."""

from __future__ import annotations

import difflib
import fnmatch
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tokenmill.core.errors import TokenmillError
from tokenmill.core.images import image_catalog
from tokenmill.core.instances import Price, instance_catalog, instance_type
from tokenmill.core.model_spec import ModelSpec
from tokenmill.core.plan import Rejection
from tokenmill.core.workload import Limits, Slo, Workload
from tokenmill.planner.memory import host_memory_mib

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenmill.core.calibration import Calibration
    from tokenmill.core.images import CatalogImage
    from tokenmill.core.instances import Accelerator, InstanceType
    from tokenmill.core.user_catalog import UserCatalog

INPUT_KINDS = (
    ("model", ModelSpec, "read one with ModelSpec.from_hf_config(path) or known_model(name)"),
    ("workload", Workload, "make one with Workload(requests_per_second=, input_tokens=, output_tokens=)"),
    ("slo", Slo, "make one with Slo(ttft_ms=, itl_ms=)"),
    ("limits", Limits, "make one with Limits(), or leave it out"),
)
MOST_USD_PER_HOUR = 10_000
"""No hosting instance costs a tenth of it: more is a slip of the keyboard, or another currency."""
FEW_CLASSES = 12
SMALLEST_CONTEXT = 1024
HEADROOM = 2
"""Sequences may be this many times longer than the mean before they are cut off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Everything the search is given.

    Args:
        model: The model.
        workload: What must be carried.
        slo: How fast it must answer.
        region: AWS region.
        limits: What may be chosen from.
        prices: Hourly prices that the user gave, by instance type, in US dollars.
        calibration: What the user's own measurements say of the timing; None where there are none.
        catalog: The user's own prices and offers; None where there are none.

    Raises:
        TokenmillError: The context cannot hold the workload or the model cannot hold the context, a price is
            for an unknown type or cannot be, no catalog knows the region, a pattern matches no instance type,
            or an input is of another kind.
    """

    model: ModelSpec
    workload: Workload
    slo: Slo
    region: str
    limits: Limits
    prices: dict[str, float] = field(hash=False)
    calibration: Calibration | None = None
    catalog: UserCatalog | None = None

    def __post_init__(self) -> None:
        for name, kind, way in INPUT_KINDS:
            if not isinstance(getattr(self, name), kind):
                raise TokenmillError(
                    f"{name} must be a {kind.__name__}, got {getattr(self, name)!r:.80}; {way}"
                )
        check_region(self.region, self.catalog)
        _check_patterns(self.limits.instances)
        for name, usd in self.prices.items():
            instance_type(name)
            number = isinstance(usd, float | int) and not isinstance(usd, bool)
            if not (number and 0 < usd <= MOST_USD_PER_HOUR):
                raise TokenmillError(
                    f"price of {name} must be above 0 and at most {MOST_USD_PER_HOUR:,} US dollars an hour, "
                    f"got {usd!r}"
                )
        longest, needed = self.model.max_context_tokens, self.typical_tokens
        if self.context_tokens > longest:
            raise TokenmillError(
                f"context_tokens {self.context_tokens} is more than {self.model.id} was made for, {longest}; "
                "lower it or input_tokens and output_tokens"
            )
        if self.context_tokens < needed:
            raise TokenmillError(
                f"context_tokens {self.context_tokens} cannot hold a mean request of {needed} tokens "
                "(input_tokens plus output_tokens); raise it"
            )

    @property
    def typical_tokens(self) -> int:
        """Prompt and answer of a mean request, in tokens."""
        return self.workload.input_tokens + self.workload.output_tokens

    @property
    def context_tokens(self) -> int:
        """Prompt plus answer that a sequence may hold: as limited, or a power of two that long requests fit.

        Long is twice the mean, or both 95th percentiles together where the traffic's spread is known.
        """
        if self.limits.context_tokens is not None:
            return self.limits.context_tokens
        wanted = max(SMALLEST_CONTEXT, HEADROOM * self.typical_tokens, self.workload.long_tokens)
        power = 1 << (wanted - 1).bit_length()
        longest = self.model.max_context_tokens
        return power if power <= longest else max(longest, self.typical_tokens)

    def price(self, instance: InstanceType) -> Price | None:
        """Return the price of an instance type in the region, the user's own before the catalog's.

        Args:
            instance: The instance type.
        """
        if instance.name in self.prices:
            usd = self.prices[instance.name]
            return Price(usd_per_hour=usd, source="given on the command line", source_date="")
        return instance.price(self.region)


def check_region(region: str, catalog: UserCatalog | None) -> None:
    """Check that a catalog knows a region, by a price, an image or a price list that was read.

    Args:
        region: AWS region, such as "us-east-1".
        catalog: The user's own catalog; None where there is none.

    Raises:
        TokenmillError: None does; the message names the nearest regions.
    """
    known = {name for image in image_catalog().values() for name in image.regions}
    known |= {name for item in instance_catalog(catalog).values() for name in item.prices}
    known |= set(catalog.regions) if catalog else set()
    if region not in known:
        near = difflib.get_close_matches(str(region), sorted(known), n=3, cutoff=0.6) or sorted(known)
        raise TokenmillError(
            f"region {region!r} has neither images nor prices in the catalogs; nearest known: "
            f"{', '.join(near)}; for a new region run: tokenmill catalog refresh --region REGION"
        )


def _check_patterns(patterns: tuple[str, ...]) -> None:
    names = list(instance_catalog())
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            families = sorted({f"{name.rpartition('.')[0]}.*" for name in names})
            near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.6) or families
            raise TokenmillError(
                f"limits.instances has {pattern!r}, which matches no hosting instance type; "
                f'nearest: {", ".join(near)}; or "ml.*" for all'
            )


def degrees(instance: InstanceType) -> tuple[int, ...]:
    """Return the tensor-parallel degrees that fill whole chips: powers of two of chips, and all of them.

    Args:
        instance: The instance type.
    """
    per_chip = instance.accelerator.cores_per_chip
    chips = {1 << power for power in range(instance.chips.bit_length())} | {instance.chips}
    return tuple(sorted(number * per_chip for number in chips))


def instance_rejection(problem: Problem, instance: InstanceType, image: CatalogImage) -> Rejection | None:
    """Return why no split of an instance type can be tried, or None.

    Args:
        problem: What is asked.
        instance: The instance type.
        image: The serving image of its accelerator.
    """
    for code, find in INSTANCE_CHECKS.items():
        reason = find(problem, instance, image)
        if reason:
            return Rejection(instance_type=instance.name, code=code, reason=reason)
    return None


def _limits(problem: Problem, instance: InstanceType, image: CatalogImage) -> str:
    if problem.limits.allows(instance.name):
        return ""
    return f"outside limits.instances ({', '.join(problem.limits.instances)})"


def _region(problem: Problem, instance: InstanceType, image: CatalogImage) -> str:
    if instance.offered(problem.region) is False:
        return f"not offered for hosting in {problem.region}, by the price list read into your catalog"
    # an image that is built in the account's own registry is in every region
    if not image.servable or problem.region in image.registry_accounts:
        return ""
    return f"image {image.key} is not in {problem.region}; regions with it: {', '.join(image.regions)}"


def _architecture(problem: Problem, instance: InstanceType, image: CatalogImage) -> str:
    return unserved_class(problem.model, image)


def unserved_class(model: ModelSpec, image: CatalogImage) -> str:
    """Return why an image does not serve a model's class; empty where it does.

    Args:
        model: The model.
        image: The serving image.
    """
    name, served = model.served_class, image.architectures
    if name in served:
        return ""
    if len(served) <= FEW_CLASSES:
        return f"image {image.key} does not serve {name}; it serves {', '.join(served)}"
    near = difflib.get_close_matches(name, served, n=3, cutoff=0.4) or served[:3]
    return (
        f"image {image.key} does not serve {name}; of {len(served)} classes that it serves the nearest are "
        + (", ".join(near))
    )


def _quantization(problem: Problem, instance: InstanceType, image: CatalogImage) -> str:
    return unserved_weights(problem.model, instance.accelerator, image)


def unserved_weights(model: ModelSpec, accelerator: Accelerator, image: CatalogImage) -> str:
    """Return why a chip does not compute with a model's published weights; empty where it does.

    Args:
        model: The model.
        accelerator: The chip.
        image: The serving image.
    """
    weights = model.quantization
    if not weights or (weights in image.quantizations and weights in accelerator.quantizations):
        return ""
    return f"{accelerator.name} does not compute with {weights} weights; give the model's bfloat16 version"


def _host_memory(problem: Problem, instance: InstanceType, image: CatalogImage) -> str:
    needed, room = host_memory_mib(problem.model, image), instance.host_room_mib
    if needed <= room:
        return ""
    return (
        f"loading a copy takes {needed / 1024:.1f} GiB of host memory, of which {instance.name} "
        f"has {room / 1024:.1f} GiB to give"
    )


def _price(problem: Problem, instance: InstanceType, image: CatalogImage) -> str:
    if problem.limits.allow_unpriced or problem.price(instance):
        return ""
    return f"no price known in {problem.region} and allow_unpriced is false; give --price {instance.name}=USD"


INSTANCE_CHECKS: dict[str, Callable[[Problem, InstanceType, CatalogImage], str]] = {
    "limits": _limits,
    "region": _region,
    "architecture": _architecture,
    "quantization": _quantization,
    "host_memory": _host_memory,
    "price": _price,
}
