"""What this machine and these files say: Node, the CDK command, linters, the plan, the model's licence."""

from __future__ import annotations

import csv
import fnmatch
import functools
import re
import shutil
import subprocess
from dataclasses import replace
from importlib import resources, util
from typing import TYPE_CHECKING

from tokenmill.core.errors import NoPlanError, TokenmillError
from tokenmill.core.images import image, serving_image
from tokenmill.core.instances import instance_catalog, instance_type
from tokenmill.core.regions import WITHOUT_COMPONENTS, WITHOUT_ENDPOINTS
from tokenmill.core.settings import read_plan
from tokenmill.doctor.item import Item, State
from tokenmill.lint.tools import find_checkov

if TYPE_CHECKING:
    from pathlib import Path

    from tokenmill.core.plan import Candidate
    from tokenmill.core.settings import StackSettings

NODE_VERSION = (20,)
# The first CLI that reads the assembly of aws-cdk-lib 2.275 (schema 55) and that this project is tried with.
CDK_VERSION = (2, 1148)
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")
_SECONDS = 30


def node() -> Item:
    """Say whether Node.js is there and new enough for the CDK."""
    command = "install Node.js 22 or 24 from https://nodejs.org"
    found = _program("node.js", shutil.which("node"), minimum=NODE_VERSION, command=command)
    if found.state is State.OK and found.detail.startswith("20."):
        return replace(found, detail=f"{found.detail}; works, but is out of support: 22 or 24 is recommended")
    return found


def cdk_command(folder: Path) -> Item:
    """Say whether the pinned CDK command is there; npm's `latest` 3.0.0 is an old build that cannot serve.

    Args:
        folder: The project's folder, which holds node_modules.
    """
    local = folder / "node_modules" / ".bin" / "cdk"
    program = str(local) if local.exists() else shutil.which("cdk")
    return _program("cdk command", program, minimum=CDK_VERSION, below=(3,), command="npm ci")


def linters(folder: Path) -> Item:
    """Say whether everything that `tokenmill lint` runs is installed.

    Args:
        folder: The project's folder.
    """
    missing = [module for module in ("cdk_nag", "cfnlint") if util.find_spec(module) is None]
    commands = ["pip install 'tokenmill[lint]'"] if missing else []
    if find_checkov(folder.resolve()) is None:
        missing.append("checkov")
        commands.append("make setup")
    if missing:
        detail = f"missing: {', '.join(missing)}"
        return Item(name="linters", state=State.TO_DO, detail=detail, command="; ".join(commands))
    return Item(name="linters", state=State.OK, detail="cdk-nag, cfn-lint, checkov")


def plan(settings: StackSettings) -> tuple[Item, Candidate | None]:
    """Say whether the committed plan is there and of these settings; also return what it chose.

    Args:
        settings: The stack's settings.
    """
    if not settings.needs_plan:
        return Item(name="plan", state=State.OK, detail=f"{settings.backend} needs none"), None
    command = f"tokenmill plan {settings.stack} --write"
    try:
        found, warnings = read_plan(settings)
        chosen = found.chosen
    except NoPlanError as error:
        return Item(name="plan", state=State.TO_DO, detail=str(error), command=command), None
    except TokenmillError as error:
        return Item(
            name="plan", state=State.TO_DO, detail=str(error).partition(";")[0], command=command
        ), None
    detail = f"{settings.plan_path.name}: {chosen.instance_type}, {chosen.instances} to start with"
    return Item(name="plan", state=State.OK, detail="; ".join((detail, *warnings))), chosen


def endpoints_in_region(region: str, *, components: bool) -> Item:
    """Say whether a region has SageMaker endpoints, and inference components where they are used.

    Args:
        region: AWS region.
        components: Whether endpoints of components are made.
    """
    item = f"endpoints in {region}"
    if region in WITHOUT_ENDPOINTS:
        detail = "CloudFormation has no AWS::SageMaker::Endpoint there"
        return Item(name=item, state=State.TO_DO, detail=detail, command="choose another region")
    if components and region in WITHOUT_COMPONENTS:
        detail = "CloudFormation has no AWS::SageMaker::InferenceComponent there"
        command = "use VariantEndpoint, or choose another region"
        return Item(name=item, state=State.TO_DO, detail=detail, command=command)
    return Item(name=item, state=State.OK, detail="inference components" if components else "variants")


def instance_in_region(name: str, region: str) -> Item:
    """Say whether the catalog knows that a region offers an instance type for hosting.

    Args:
        name: Hosting instance type.
        region: AWS region.
    """
    item = f"{name} in {region}"
    known = instance_catalog().get(name)
    if known is not None and known.price(region) is not None:
        return Item(name=item, state=State.OK, detail="the catalog has a hosting price there")
    command = f"look for {name} on https://aws.amazon.com/sagemaker/ai/pricing/ under {region}"
    detail = "the catalog has no hosting price there, so it may not be offered"
    return Item(name=item, state=State.UNKNOWN, detail=detail, command=command)


def image_in_region(candidate: Candidate, region: str) -> Item:
    """Say whether the serving image can be pulled in a region, and how sure its pairing with the host is.

    Args:
        candidate: What the plan chose.
        region: AWS region.
    """
    name = f"image in {region}"
    found = image(candidate.image)
    try:
        serving_image(instance_type(candidate.instance_type), region)
        uri = found.uri(region) if found.servable else ""
    except TokenmillError as error:
        return Item(
            name=name, state=State.TO_DO, detail=str(error), command="choose another region in tokenmill.toml"
        )
    if not uri:
        return Item(
            name=name, state=State.TO_DO, detail=found.status_reason, command="choose another instance type"
        )
    detail = uri
    if found.status == "experimental":
        line = "neuron-image-driver" if found.static_batch else "gpu-image-driver"
        detail += f"; experimental: {found.status_reason} (try it: tokenmill verify --account --line {line})"
    return Item(name=name, state=State.OK, detail=detail)


def licence(settings: StackSettings) -> Item:
    """Say whether the model's weights can be downloaded without accepting anything first.

    Args:
        settings: The stack's settings.
    """
    if not settings.needs_plan:
        command = f"aws bedrock get-foundation-model-availability --model-id {settings.model}"
        detail = "Bedrock decides by account"
        return Item(name="model access", state=State.UNKNOWN, detail=detail, command=command)
    return weights_licence(settings.found_model[0].id)


def weights_licence(model: str, *, token: bool = False) -> Item:
    """Say whether a model's weights can be downloaded from the Hugging Face Hub.

    Args:
        model: Its id there.
        token: Whether whoever downloads them has a token; which licences its owner accepted cannot be seen.
    """
    page = f"https://huggingface.co/{model}"
    for row in _licences():
        if fnmatch.fnmatchcase(model, row["pattern"]):
            if row["gated"] == "no":
                detail = f"{model}: {row['licence']}, nothing to accept"
                return Item(name="model licence", state=State.OK, detail=detail)
            detail = f"{model} is gated: {row['licence']}"
            if token:
                command = f"accept it at {page} with the account that the token is of"
                return Item(name="model licence", state=State.UNKNOWN, detail=detail, command=command)
            command = f"accept it at {page} and give the endpoint a token (HF_TOKEN)"
            return Item(name="model licence", state=State.TO_DO, detail=detail, command=command)
    detail = f"{model} is not in the list of licences"
    return Item(name="model licence", state=State.UNKNOWN, detail=detail, command=f"look at {page}")


def _program(
    name: str, program: str | None, *, minimum: tuple[int, ...], command: str, below: tuple[int, ...] = ()
) -> Item:
    if program is None:
        return Item(name=name, state=State.TO_DO, detail="not found", command=command)
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Item(
            name=name, state=State.UNKNOWN, detail=f"{program} could not be run: {error}", command=command
        )
    match = _VERSION.search(done.stdout)
    if match is None:
        return Item(
            name=name, state=State.UNKNOWN, detail=f"{program} --version says nothing", command=command
        )
    version = tuple(int(part) for part in match.groups())
    wanted = ".".join(map(str, minimum))
    if version < minimum or (below and version >= below):
        detail = f"{match[0]} at {program}; {wanted} or newer" + (
            f", below {below[0]}, is needed" if below else ""
        )
        return Item(name=name, state=State.TO_DO, detail=detail, command=command)
    return Item(name=name, state=State.OK, detail=match[0])


@functools.cache
def _licences() -> list[dict[str, str]]:
    text = (
        resources.files("tokenmill.doctor").joinpath("data", "model_licences.csv").read_text(encoding="utf-8")
    )
    return list(csv.DictReader(text.splitlines()))
