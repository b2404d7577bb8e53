"""Which catalogs and coefficients a plan was made with."""

from __future__ import annotations

from tokenmill.core.coefficients import coefficients_date
from tokenmill.core.images import image_date
from tokenmill.core.instances import CATALOG_DATE, price_date


def catalog_versions() -> dict[str, str]:
    """Return the date of each catalog and of the timing coefficients."""
    return {
        "instances": CATALOG_DATE,
        "prices": price_date(),
        "images": image_date(),
        "coefficients": coefficients_date(),
    }
