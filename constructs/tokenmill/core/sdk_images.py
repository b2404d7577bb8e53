"""The image catalog held against the SageMaker Python SDK's own image lists, read and never imported.

The lists are JSON files of the distribution sagemaker-core (sagemaker/core/image_uri_config); importing the
package that resolves them takes two seconds and resolves no Neuron image for the instance types that have it.
"""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenmill.core.errors import TokenmillError
from tokenmill.core.images import image_catalog

if TYPE_CHECKING:
    from tokenmill.core.images import CatalogImage

DISTRIBUTION = "sagemaker-core"
FOLDER = "sagemaker/core/image_uri_config"
# By our key, the SDK's list of the same image; what stands on a public gallery only is in none.
LISTS = {
    "hf-vllm-neuronx": "huggingface-vllm-neuronx.json",
    "lmi-vllm": "djl-lmi.json",
    "vllm-sagemaker": "vllm.json",
}


class Kind(StrEnum):
    """What differs."""

    REPOSITORY = "repository"
    VERSION = "version"
    ACCOUNT = "account"
    REGION_MISSING = "region missing"
    REGION_UNKNOWN = "region unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageDifference:
    """One thing that the two say differently.

    Args:
        image: Our key of the image.
        kind: What differs.
        subject: The region, or empty where it is the image as a whole.
        ours: What our catalog says.
        theirs: What the SDK says.
    """

    image: str
    kind: Kind
    subject: str
    ours: str
    theirs: str

    @property
    def is_conflict(self) -> bool:
        """Whether one of the two is wrong; a newer version or one more region is not."""
        return self.kind in (Kind.REPOSITORY, Kind.ACCOUNT)


def sdk_folder() -> Path:
    """Return the folder of the installed SDK's lists.

    Raises:
        TokenmillError: If the SDK is not installed, or keeps them elsewhere.
    """
    try:
        distribution = importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        raise TokenmillError(
            f"{DISTRIBUTION} is not installed; run: pip install 'tokenmill[sagemaker]', or give the folder "
            "of its image lists"
        ) from None
    return Path(str(distribution.locate_file(FOLDER)))


def compare_images(folder: Path) -> tuple[ImageDifference, ...]:
    """Return what differs between the catalog and the SDK's newest version of each image.

    Args:
        folder: The folder of the SDK's lists.

    Raises:
        TokenmillError: If a list is not there or has another form.
    """
    catalog = image_catalog()
    found: list[ImageDifference] = []
    for key, name in LISTS.items():
        found += _differences(catalog[key], _newest(folder / name))
    return tuple(found)


def _newest(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        versions = document.get("inference", document)["versions"]
        number = max(versions, key=lambda text: [int(part) for part in text.split(".")])
        newest: dict[str, Any] = versions[number]
        return {**newest, "number": number, "registries": dict(newest["registries"])}
    except OSError as error:
        raise TokenmillError(f"cannot read the sdk's image list {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TokenmillError(
            f"{path} is not an image list of {DISTRIBUTION} 2.27 or later ({type(error).__name__}: {error}); "
            "give the folder image_uri_config"
        ) from None


def _differences(ours: CatalogImage, theirs: dict[str, Any]) -> list[ImageDifference]:
    def difference(kind: Kind, subject: str, our: str, their: str) -> ImageDifference:
        return ImageDifference(image=ours.key, kind=kind, subject=subject, ours=our, theirs=their)

    found = []
    if theirs["repository"] != ours.repository:
        found.append(difference(Kind.REPOSITORY, "", ours.repository, theirs["repository"]))
    version = str(theirs.get("tag_prefix", theirs["number"]))
    if not ours.tag.startswith(version):
        found.append(difference(Kind.VERSION, "", ours.tag, version))
    registries: dict[str, str] = theirs["registries"]
    for region in sorted(registries.keys() | ours.registry_accounts.keys()):
        our, their = ours.registry_accounts.get(region, ""), registries.get(region, "")
        if our != their:
            kind = Kind.REGION_MISSING if not our else Kind.REGION_UNKNOWN if not their else Kind.ACCOUNT
            found.append(difference(kind, region, our, their))
    return found
