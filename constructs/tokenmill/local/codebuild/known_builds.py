"""Recipes of the library's own builds, known by the variables that their commands read.

The builds are those of `ServingImage` and `ModelMirror`; a test holds the names together with theirs. They
stand here and not in the templates, so that what is deployed says nothing about the local cloud.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenmill.local.aws_requests import Params

SERVING_IMAGE: Params = {"image": {"repository": "REPOSITORY", "tag": "TAG", "digest": "IMAGE_DIGEST"}}

_MIRRORED = "${MIRROR_MODEL}/${MIRROR_REVISION}"
MODEL_MIRROR: Params = {
    "objects": [
        # The weights' place exists, so that what loads from it finds the prefix.
        {"bucket": "${MIRROR_BUCKET}", "key": f"models/{_MIRRORED}/modelled.json"},
        {
            "bucket": "${MIRROR_BUCKET}",
            "key": f"mirrors/{_MIRRORED}/manifest.json",
            "body": {
                "schema": 1,
                "model": "${MIRROR_MODEL}",
                "revision": "${MIRROR_REVISION}",
                "licence": "${MIRROR_LICENCE}",
                "bytes": 0,
                "files": [],
                "left_out": [],
            },
            "sha256": "MIRROR_MANIFEST",
        },
    ]
}
# A build is known by the variables that it has and by what it exports.
_KNOWN: tuple[tuple[frozenset[str], str, Params], ...] = (
    (frozenset({"REPOSITORY", "TAG"}), "IMAGE_DIGEST", SERVING_IMAGE),
    (frozenset({"MIRROR_MODEL", "MIRROR_REVISION", "MIRROR_BUCKET"}), "MIRROR_MANIFEST", MODEL_MIRROR),
)


def recipe_for(environment: Mapping[str, str], exported: list[str]) -> Params:
    """Return what a build of the library leaves; nothing for a build that is not known.

    Args:
        environment: The build's environment variables.
        exported: Names of the variables that it exports.
    """
    for variables, output, recipe in _KNOWN:
        if variables <= environment.keys() and output in exported:
            return recipe
    return {}
