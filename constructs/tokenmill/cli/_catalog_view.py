"""The catalog as one document, and as tables for people."""

from __future__ import annotations

import datetime
import fnmatch
from typing import TYPE_CHECKING, Any

from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from rich.console import Console

    from tokenmill.core.instances import InstanceType
    from tokenmill.core.user_catalog import UserCatalog

WIDTH = 132


def document(overlay: UserCatalog | None, *, region: str | None, families: tuple[str, ...]) -> dict[str, Any]:
    """Return the catalog as JSON-safe values.

    Args:
        overlay: The user's own catalog.
        region: Show prices of this region only; None shows all.
        families: Families or patterns; empty shows all.

    Raises:
        TokenmillError: No family matches.
    """
    from tokenmill.core.images import image_date
    from tokenmill.core.instances import CATALOG_DATE, instance_catalog, known_instances, price_date

    catalog = instance_catalog(overlay)
    chosen = [item for item in catalog.values() if _matches(item, families)]
    if not chosen:
        known = ", ".join(sorted({item.family for item in catalog.values()}))
        raise TokenmillError(f"no family matches {', '.join(families)}; known: {known}")
    others = [item for item in known_instances().values() if not item.hosted and _matches(item, families)]
    chips = {item.accelerator.name for item in [*chosen, *others]}
    return {
        "dates": {
            "instances": CATALOG_DATE,
            "prices": price_date(),
            "images": image_date(),
            "user": overlay.date if overlay else None,
        },
        "region": region,
        "instances": [_instance(item, region) for item in chosen],
        "not_hosted": [{"name": item.name, "source": item.source} for item in others],
        "accelerators": _accelerators(chips, everything=not families),
        "images": _images(chips, everything=not families),
    }


def _matches(item: InstanceType, families: tuple[str, ...]) -> bool:
    return not families or any(fnmatch.fnmatchcase(item.family, pattern) for pattern in families)


def _instance(item: InstanceType, region: str | None) -> dict[str, Any]:
    today = datetime.datetime.now(tz=datetime.UTC).date()
    prices = {
        name: {
            "usd_per_hour": price.usd_per_hour,
            "date": price.source_date,
            "source": price.source,
            "stale": price.stale(today),
        }
        for name, price in sorted(item.prices.items())
        if region in (None, name)
    }
    return {
        "name": item.name,
        "family": item.family,
        "accelerator": item.accelerator.name,
        "chips": item.chips,
        "cores": item.cores,
        "accelerator_memory_gib": round(item.accelerator_memory_gib, 2),
        "vcpu": item.vcpu,
        "host_memory_gib": item.host_memory_gib,
        "offered": item.offered(region) if region else None,
        "prices": prices,
        "source": item.source,
        "source_date": item.source_date,
    }


def _accelerators(chips: set[str], *, everything: bool) -> list[dict[str, Any]]:
    from tokenmill.core._codec import encode
    from tokenmill.core.instances import accelerator_catalog, quantization_facts

    formats: dict[str, list[dict[str, str]]] = {}
    for fact in quantization_facts():
        formats.setdefault(fact.accelerator, []).append(encode(fact))
    return [
        {**encode(chip), "formats": formats.get(name, [])}
        for name, chip in accelerator_catalog().items()
        if everything or name in chips
    ]


def _images(chips: set[str], *, everything: bool) -> list[dict[str, Any]]:
    from tokenmill.core.images import image_catalog

    rows = []
    for image in image_catalog().values():
        less = {pairing.accelerator: pairing for pairing in image.pairings}
        for chip in dict.fromkeys([*image.accelerators, *less]):
            if not everything and chip not in chips:
                continue
            found = less.get(chip)
            rows.append(
                {
                    "image": image.key,
                    "tag": image.tag,
                    "accelerator": chip,
                    "status": found.status if found else image.status,
                    "reason": found.reason if found else image.status_reason,
                    "driver_needed": image.driver_needed,
                    "host_ami": image.host_ami,
                    "host_driver": image.host_driver,
                    "regions": list(image.regions),
                    "source": found.source if found else image.source,
                    "source_date": found.source_date if found else image.source_date,
                }
            )
    return rows


def print_document(out: Console, found: dict[str, Any]) -> None:
    """Print the catalog as tables.

    Args:
        out: Where.
        found: What `document` returned.
    """
    # a table squeezed into a narrow terminal or a log file cannot be read at all
    out.width = max(out.width, WIDTH)
    dates = ", ".join(f"{name} {day}" for name, day in found["dates"].items() if day)
    out.print(f"catalog of {dates}; the date of prices is that of the newest")
    _print_instances(out, found)
    for item in found["not_hosted"]:
        out.print(f"{item['name']} is known, but hosting does not accept it")
    _print_chips(out, found["accelerators"])
    _print_images(out, found["images"])


def _table(title: str, *columns: str) -> Any:
    from rich.table import Table

    table = Table(box=None, title=title, title_justify="left", pad_edge=False)
    for name in columns:
        table.add_column(name, no_wrap=name not in ("reason", "weight formats"), overflow="fold")
    return table


def _print_instances(out: Console, found: dict[str, Any]) -> None:
    title = f"hosting instance types, prices of {found['region'] or 'every region with one'}"
    table = _table(title, "instance type", "chips", "GiB", "host GiB", "USD/h", "region", "date", "source")
    sources: dict[str, int] = {}
    for item in found["instances"]:
        size = (
            item["name"],
            f"{item['chips']} x {item['accelerator']}",
            f"{item['accelerator_memory_gib']:g}",
            str(item["host_memory_gib"]),
        )
        missing = "not offered" if item["offered"] is False else "no price"
        if not item["prices"]:
            table.add_row(*size, missing, found["region"] or "", "", "")
        for region, price in item["prices"].items():
            day = f"{price['date']}{' (old)' if price['stale'] else ''}"
            number = sources.setdefault(price["source"], len(sources) + 1)
            table.add_row(*size, f"{price['usd_per_hour']:g}", region, day, f"({number})")
            size = ("", "", "", "")
    out.print(table)
    for source, number in sources.items():
        out.print(f"({number}) {source}", markup=False)


def _print_chips(out: Console, chips: list[dict[str, Any]]) -> None:
    table = _table("chips", "chip", "cores", "GiB", "GB/s", "bf16 TFLOP/s", "weight formats")
    for chip in chips:
        formats = ", ".join(f"{fact['format']} {fact['use']}" for fact in chip["formats"])
        table.add_row(
            chip["name"],
            str(chip["cores_per_chip"]),
            f"{chip['memory_gib']:g}",
            f"{chip['bandwidth_gb_s']:g}",
            f"{chip['bf16_tflops']:g}",
            formats or "plain only",
        )
    out.print(table)


def _print_images(out: Console, images: list[dict[str, Any]]) -> None:
    table = _table("images on chips", "image", "chip", "status", "host driver", "reason")
    for row in images:
        table.add_row(row["image"], row["accelerator"], row["status"], row["host_driver"], row["reason"])
    out.print(table)
