"""What a modelled build leaves: exported variables, an image under its tag, objects in S3.

No command of a build runs here. What its commands would have left stands in the template's metadata of its
project, under `tokenmill.modelled_build`:

- `image`: `repository` and `tag` name the environment variables that hold them, `digest` the variable that
  exports the digest. The image is a manifest that says that it is modelled; its digest is the manifest's own,
  so it depends on the tag alone and stays the same.
- `objects`: `bucket`, `key` and `body`; every text in them may have `${VARIABLE}`. The written document gets
  a member `modelled` that is true; `sha256` names the variable that exports its hash.
- `exports`: exported variables with their texts, which may have `${VARIABLE}`.

An exported variable that the environment sets is exported as it is. Source of what is exported: AWS CodeBuild
User Guide, "Build specification reference for CodeBuild" (env/exported-variables).
"""

from __future__ import annotations

import hashlib
import importlib
import json
from string import Template
from typing import TYPE_CHECKING, Any

from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenmill.local.aws_requests import Params, Scope
    from tokenmill.local.clients import Images, Objects

METADATA = "modelled_build"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


class RecipeError(TokenmillError):
    """A modelled build cannot leave what it should."""


def exported_names(buildspec: str) -> list[str]:
    """Return the variables that a buildspec exports.

    Args:
        buildspec: Its text, in JSON or YAML; the name of a file in the source exports nothing here.

    Raises:
        RecipeError: It is neither.
    """
    text = buildspec.strip()
    if not text or ("\n" not in text and not text.startswith("{")):
        return []
    yaml = importlib.import_module("yaml")  # one of MiniStack's own dependencies, without types
    try:
        document = yaml.safe_load(text)
        names: list[str] = list((document.get("env") or {}).get("exported-variables") or [])
    except (yaml.YAMLError, AttributeError) as error:
        raise RecipeError(f"the buildspec is neither JSON nor YAML: {error}") from error
    return names


class Recipes:
    """Runs the recipes of modelled builds.

    Args:
        images: Where images go.
        objects: Where objects go.
    """

    def __init__(self, images: Images, objects: Objects) -> None:
        self._images = images
        self._objects = objects

    def run(
        self, scope: Scope, recipe: Params, environment: Mapping[str, str], exported: list[str]
    ) -> dict[str, str]:
        """Leave what the build's commands would have left; return the exported variables.

        Args:
            scope: Whose build.
            recipe: The project's `modelled_build`.
            environment: The build's environment variables.
            exported: Names of the variables that it exports.

        Raises:
            RecipeError: A variable is missing.
            AwsError: S3 or ECR refuses.
        """
        known = dict(environment)
        if "image" in recipe:
            known |= self._push(scope, recipe["image"], environment)
        for name, text in (recipe.get("exports") or {}).items():
            known[name] = filled(text, known)
        for entry in recipe.get("objects") or []:
            known |= self._write(scope, entry, known)
        missing = [name for name in exported if name not in known]
        if missing:
            raise RecipeError(
                f"the local cloud runs no commands, so {', '.join(missing)} has no value; set it in the "
                f"build's environment or under {METADATA}.exports in the project's tokenmill metadata"
            )
        return {name: known[name] for name in exported}

    def _push(self, scope: Scope, image: Params, environment: Mapping[str, str]) -> dict[str, str]:
        repository, tag = (_variable(environment, image[part]) for part in ("repository", "tag"))
        name = repository.partition("/")[2] if ".dkr.ecr." in repository else repository
        digest = self._images.push(scope, name, tag, modelled_manifest(tag))
        return {image["digest"]: digest} if "digest" in image else {}

    def _write(self, scope: Scope, entry: Params, known: Mapping[str, str]) -> dict[str, str]:
        bucket, key = filled(entry["bucket"], known), filled(entry["key"], known)
        document = {**filled(entry.get("body") or {}, known), "modelled": True}
        body = json.dumps(document, indent=1).encode()
        self._objects.put(scope, f"s3://{bucket}/{key}", body, "application/json")
        return {entry["sha256"]: hashlib.sha256(body).hexdigest()} if "sha256" in entry else {}


def modelled_manifest(tag: str) -> str:
    """Return the manifest of an image that was not built.

    Args:
        tag: What its digest depends on.
    """
    annotations = {"tokenmill.modelled": "true", "tokenmill.tag": tag}
    return json.dumps({"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "annotations": annotations})


def filled(value: Any, known: Mapping[str, str]) -> Any:
    """Return a text, or a document of texts, with `${VARIABLE}` replaced.

    Args:
        value: The text or document.
        known: Variables.

    Raises:
        RecipeError: A variable is not known.
    """
    if isinstance(value, dict):
        return {name: filled(member, known) for name, member in value.items()}
    if isinstance(value, list):
        return [filled(member, known) for member in value]
    if not isinstance(value, str):
        return value
    try:
        return Template(value).substitute(known)
    except KeyError as error:
        raise _missing(error.args[0], known) from error


def _variable(environment: Mapping[str, str], name: str) -> str:
    if name not in environment:
        raise _missing(name, environment)
    return environment[name]


def _missing(name: str, known: Mapping[str, str]) -> RecipeError:
    return RecipeError(f"the build has no variable {name}; it has {', '.join(sorted(known)) or 'none'}")
