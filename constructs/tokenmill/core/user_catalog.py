"""Prices and quotas that a user read from an own AWS account: a file that goes over the shipped catalog."""

from __future__ import annotations

import datetime
import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenmill.core._codec import decode, encode
from tokenmill.core.errors import TokenmillError

FILE_NAME = "tokenmill.catalog.json"
SCHEMA = 1
HIGHEST_USD = 10_000.0
"""No hosting instance costs a tenth of it an hour; a price above is a mistake of unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionCatalog:
    """What one region's lists said.

    Args:
        prices: US dollars an hour by instance type; a type that is absent is not offered for hosting there.
        published: Day on which the price list was published, as YYYY-MM-DD.
        unclear: Instance types that the list gives more than one hourly price for; none of them counts.
        quotas: Instances for endpoints that the account may run, by instance type; empty when not asked for.
    """

    prices: dict[str, float] = field(hash=False)
    published: str
    unclear: tuple[str, ...] = ()
    quotas: dict[str, float] = field(hash=False, default_factory=dict)

    def __post_init__(self) -> None:
        for name, usd in self.prices.items():
            if not 0 < usd <= HIGHEST_USD:
                raise TokenmillError(
                    f"price of {name} must be above 0 and at most {HIGHEST_USD:,.0f} USD/h, got {usd!r}"
                )
        for name, count in self.quotas.items():
            if not 0 <= count < float("inf"):
                raise TokenmillError(f"quota of {name} must be 0 or more, got {count!r}")
        _day("published", self.published)


@dataclass(frozen=True, slots=True, kw_only=True)
class UserCatalog:
    """A user's own catalog.

    Args:
        schema: Version of the file's form.
        date: Day on which it was read, as YYYY-MM-DD.
        source: Where from.
        regions: What each region's lists said, by region.
    """

    schema: int
    date: str
    source: str
    regions: dict[str, RegionCatalog] = field(hash=False)

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise TokenmillError(f"schema must be {SCHEMA}, got {self.schema!r}")
        _day("date", self.date)

    @classmethod
    def read(cls, path: Path) -> UserCatalog:
        """Return the catalog in a file.

        Args:
            path: The file.

        Raises:
            TokenmillError: The file is missing, not JSON, or a field of it is missing or bad.
        """
        where = f"catalog file {path}"
        try:
            document: Any = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise TokenmillError(f"{where} does not exist; run `tokenmill catalog refresh`") from None
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
            raise TokenmillError(
                f"{where} is not JSON; delete it and run `tokenmill catalog refresh`"
            ) from None
        return decode(cls, document, where)

    def write(self, path: Path) -> None:
        """Write the catalog; a reader sees the old file or the new one, never a part.

        Args:
            path: The file.

        Raises:
            OSError: The folder does not exist or cannot be written to.
        """
        text = json.dumps(encode(self), indent=1, sort_keys=True, allow_nan=False) + "\n"
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            # mkstemp keeps others out; the catalog holds nothing secret and is committed
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise

    def merged(self, newer: UserCatalog) -> UserCatalog:
        """Return this catalog with the regions of a newer one, which also gives date and source.

        Args:
            newer: What was just read.
        """
        return UserCatalog(
            schema=SCHEMA, date=newer.date, source=newer.source, regions={**self.regions, **newer.regions}
        )


def find_user_catalog(folder: Path) -> UserCatalog | None:
    """Return the catalog beside a settings file, or None where there is none.

    Args:
        folder: Folder of the settings file.

    Raises:
        TokenmillError: There is one and it is damaged.
    """
    path = folder / FILE_NAME
    return UserCatalog.read(path) if path.exists() else None


def _day(name: str, text: str) -> None:
    try:
        datetime.date.fromisoformat(text)
    except ValueError:
        raise TokenmillError(f"{name} must be a day as YYYY-MM-DD, got {text!r}") from None
