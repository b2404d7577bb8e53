"""An image of the account, in place of the catalog's."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenmill.core._checks import is_token
from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from aws_cdk import aws_ecr as ecr

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
# "Pulling manifests" (OCI distribution specification).
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateImage:
    """An image in a repository of the account, in place of the catalog's.

    Args:
        repository: The repository, in the endpoint's region.
        tag_or_digest: A tag, or a digest such as "sha256:<64 hex>", which never changes its image; a token is
            taken as a digest.

    Raises:
        TokenmillError: If it is neither tag nor digest.
    """

    repository: ecr.IRepository
    tag_or_digest: str

    def __post_init__(self) -> None:
        given = self.tag_or_digest
        if not is_token(given) and not DIGEST.fullmatch(given) and not TAG.fullmatch(given):
            raise TokenmillError(
                f"tag_or_digest is {given!r}; give a tag such as '1.0.0', or a digest of 'sha256:' and 64 "
                "hexadecimal digits"
            )

    @property
    def uri(self) -> str:
        """The image's full name."""
        given = self.tag_or_digest
        separator = "@" if is_token(given) or DIGEST.fullmatch(given) else ":"
        return f"{self.repository.repository_uri}{separator}{given}"
