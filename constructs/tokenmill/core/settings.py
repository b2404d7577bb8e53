"""tokenmill.toml: one section a stack, every mistake reported at once."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokenmill.core._settings_reader import COMPLIANCE_PACKS, STACKS, read_batch, read_section
from tokenmill.core.batch_settings import BATCH, BatchSettings
from tokenmill.core.bedrock_prices import plain_id
from tokenmill.core.bedrock_profiles import check_known, profile_route, split_profile
from tokenmill.core.calibration import Calibration
from tokenmill.core.errors import SettingsError, TokenmillError
from tokenmill.core.model_catalog import check_reference, find_model, model_file
from tokenmill.core.plan import Plan, input_hash, user_versions
from tokenmill.core.user_catalog import find_user_catalog
from tokenmill.core.versions import catalog_versions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tokenmill.core.model_spec import ModelSpec
    from tokenmill.core.workload import Limits, Slo, Workload

CONTEXT_PREFIX = "tokenmill:"
SAGEMAKER = "sagemaker"
BEDROCK = "bedrock"
AUTO = "auto"
# "InvokeModel" (Amazon Bedrock API Reference), modelId: models, regional and global profiles, and ARNs.
BEDROCK_ID = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+(:[a-z0-9-]+){0,2}|arn:[a-z-]+:bedrock:.+")


@dataclass(frozen=True, slots=True, kw_only=True)
class StackSettings:
    """One section of tokenmill.toml, checked.

    Args:
        stack: Its name: "chat" or "rag".
        path: The settings file; the plan stands beside it.
        model: Path of a config.json or name in the catalog; for Bedrock the Bedrock model id.
        backend: "sagemaker" or "bedrock"; "auto" in the file became one of them.
        region: AWS region.
        workload: What must be carried.
        slo: How fast it must answer.
        limits: What the search may choose from.
        profile: "dev" or "prod".
        compliance: True for every pack, False for none, or the names of the packs.
    """

    stack: str
    path: Path
    model: str
    backend: str
    region: str
    workload: Workload
    slo: Slo
    limits: Limits
    profile: str
    compliance: bool | tuple[str, ...]

    @property
    def compliance_packs(self) -> tuple[str, ...]:
        """Names of the packs that the stack must meet."""
        if isinstance(self.compliance, tuple):
            return self.compliance
        return COMPLIANCE_PACKS if self.compliance else ()

    @property
    def own_network(self) -> bool:
        """Whether the packs ask for a network, keys and backups; AwsSolutions alone does not."""
        return bool(set(self.compliance_packs) - {"AwsSolutions"})

    @property
    def plan_path(self) -> Path:
        """The plan file beside the settings file, such as chat.plan.json."""
        return self.path.parent / f"{self.stack}.plan.json"

    @property
    def calibration_path(self) -> Path:
        """The file of `tokenmill calibrate` beside the settings file, such as chat.calibration.json."""
        return self.path.parent / f"{self.stack}.calibration.json"

    @property
    def calibration(self) -> Calibration | None:
        """What the user's own measurements say of the timing; None where there is no such file.

        Raises:
            TokenmillError: The file cannot be read.
        """
        return Calibration.read(self.calibration_path) if self.calibration_path.exists() else None

    @property
    def needs_plan(self) -> bool:
        """Whether the backend runs on instances that a plan must choose."""
        return self.backend == SAGEMAKER

    @property
    def model_path(self) -> Path:
        """The config.json of the model.

        Raises:
            TokenmillError: Neither a file nor a known model that has one.
        """
        return model_file(self.model, self.path.parent)

    @property
    def found_model(self) -> tuple[ModelSpec, dict[str, Any]]:
        """The model, and the config that it was read from.

        Raises:
            TokenmillError: Neither a file nor a known model, or no config that can be read.
        """
        return find_model(self.model, self.path.parent)

    @property
    def input_hash(self) -> str:
        """Digest of the model file, traffic (and its trace), goals, region, limits, backend and calibration.

        Raises:
            TokenmillError: The model file or the calibration cannot be read.
        """
        calibration = self.calibration
        spec, config = self.found_model
        return input_hash(
            model_id=spec.id,
            model_config=config,
            workload=self.workload,
            slo=self.slo,
            region=self.region,
            limits=self.limits,
            backend=self.backend,
            calibration=calibration.digest if calibration else "",
        )


ChatSettings = StackSettings


def load_settings(path: Path, *, context: Mapping[str, Any] | None = None) -> dict[str, StackSettings]:
    """Return the sections of a settings file by stack name.

    Args:
        path: The file, usually tokenmill.toml.
        context: CDK context; "tokenmill:chat.region" overrides the key of that name, and values are read as
            TOML where they are TOML. Keys that name no stack are left alone.

    Raises:
        TokenmillError: The file is missing or not TOML (with line and column).
        SettingsError: One line for every key that is unknown, missing or wrong.
    """
    return _sections(path, _parse(path), context or {})


def load_section(path: Path, stack: str, *, context: Mapping[str, Any] | None = None) -> StackSettings:
    """Return one section of a settings file.

    Args:
        path: The file, usually tokenmill.toml.
        stack: The section's name.
        context: CDK context, as `load_settings` takes it.

    Raises:
        TokenmillError: The file is missing or not TOML, or has no such section.
        SettingsError: One line for every key that is unknown, missing or wrong.
    """
    sections = load_settings(path, context=context)
    if stack == BATCH:
        raise TokenmillError(f"section [{BATCH}] has keys of its own; load_batch reads it")
    if stack not in sections:
        raise TokenmillError(f"{path} has no section [{stack}]; it has {', '.join(sections)}")
    return sections[stack]


def load_batch(path: Path, *, context: Mapping[str, Any] | None = None) -> BatchSettings | None:
    """Return the section [batch] of a settings file, or None where it has none.

    Args:
        path: The file, usually tokenmill.toml.
        context: CDK context, as `load_settings` takes it.

    Raises:
        TokenmillError: The file is missing or not TOML.
        SettingsError: One line for every key that is unknown, missing or wrong.
    """
    document, problems = _parse(path), list[str]()
    for key, value in (context or {}).items():
        _override(document, key, value, problems)
    made = _batch(path, document[BATCH], problems) if BATCH in document else None
    if problems:
        raise SettingsError(problems)
    return made


def _batch(path: Path, section: object, problems: list[str]) -> BatchSettings | None:
    fields = read_batch(section, problems)
    if fields is None:
        return None
    settings = BatchSettings(path=path, **fields)
    named = settings.bedrock_model
    if named is not None and not _is_bedrock_id(named):
        problems.append(
            f"{BATCH}.bedrock_model: {named!r} is not a Bedrock model id; give one such as "
            "amazon.nova-lite-v1:0, or an inference profile's id"
        )
    elif named is not None:
        problems += _batch_model_problems(named, settings.region)
    if settings.model is not None:
        try:
            check_reference(settings.model, path.parent)
        except TokenmillError as error:
            problems.append(f"{BATCH}.model: {error}")
    return settings


def _batch_model_problems(model: str, region: str) -> list[str]:
    """What the stack would refuse: an unknown model, or one that cannot be called from the region."""
    try:
        plain = plain_id(model)
        check_known(plain)
        if split_profile(plain)[0]:
            profile_route(plain, region)
    except TokenmillError as error:
        return [f"{BATCH}.bedrock_model: {error}"]
    home = model.split(":")[3] if model.startswith("arn:") else ""
    if home not in ("", region):
        return [f"{BATCH}.bedrock_model: {model!r} is in {home} and {BATCH}.region {region}; give the id"]
    if region.startswith("cn-"):
        return [f"{BATCH}.region: {region} has no Amazon Bedrock; leave bedrock_model out, or choose another"]
    return []


def settings_from(stack: str, path: Path, keys: Mapping[str, Any]) -> StackSettings:
    """Return settings that stand in no file.

    Args:
        stack: Name of the section they stand for.
        path: Where the file would be; paths of models start from its folder.
        keys: Values by dotted key, such as "traffic.requests_per_second".

    Raises:
        SettingsError: One line for every key that is unknown, missing or wrong.
    """
    context = {f"{CONTEXT_PREFIX}{stack}.{key}": value for key, value in keys.items()}
    if stack not in STACKS or stack == BATCH:
        allowed = ", ".join(name for name in STACKS if name != BATCH)
        raise SettingsError([f"unknown stack {stack!r}; allowed: {allowed}"])
    return _sections(path, {}, context)[stack]


def _sections(path: Path, document: dict[str, Any], context: Mapping[str, Any]) -> dict[str, StackSettings]:
    problems: list[str] = []
    for key, value in context.items():
        _override(document, key, value, problems)
    if not document and not problems:
        problems.append(f"{path} has no section; add [chat] with model, region, traffic and slo")
    sections = {}
    for name, section in document.items():
        if name == BATCH:
            _batch(path, section, problems)
            continue
        fields = read_section(name, section, path.parent, problems)
        if fields is not None:
            if fields["backend"] == AUTO:
                fields["backend"] = _backend_of(fields["model"], path.parent)
            settings = StackSettings(stack=name, path=path, **fields)
            problems += _model_problems(settings)
            sections[name] = settings
    if problems:
        raise SettingsError(problems)
    return sections


def read_plan(settings: StackSettings) -> tuple[Plan, tuple[str, ...]]:
    """Return the committed plan of a stack, and warnings where only catalogs have changed since.

    Args:
        settings: The stack's settings.

    Raises:
        TokenmillError: The plan is missing, cannot be read, or was made from other inputs; the message names
            the command that writes it.
    """
    if not settings.needs_plan:
        raise TokenmillError(f"{settings.stack} runs on {settings.backend}, which needs no plan")
    command = f"tokenmill plan {settings.stack} --write"
    if not settings.plan_path.exists():
        raise TokenmillError(f"plan file {settings.plan_path} does not exist; run: {command}")
    plan = Plan.read(settings.plan_path)
    if plan.input_hash != settings.input_hash:
        raise TokenmillError(
            f"plan file {settings.plan_path} was made from other inputs than {settings.path} has now "
            f"(model file, traffic, slo, region, limits, backend or calibration); see what changes with: "
            f"tokenmill plan {settings.stack} --diff; accept it with: {command}"
        )
    edited = _edited(plan, settings)
    if edited:
        raise TokenmillError(
            f"plan file {settings.plan_path} was edited by hand: its {edited} is not what it was made from; "
            f"write it again with: {command}"
        )
    current = catalog_versions() | user_versions(find_user_catalog(settings.path.parent))
    changed = [
        f"{name} {plan.versions.get(name, 'none')} -> {version}"
        for name, version in current.items()
        if plan.versions.get(name) != version
    ]
    if not changed:
        return plan, ()
    return plan, (
        f"{settings.plan_path} was made with other catalogs ({', '.join(changed)}); it still holds; "
        f"see what a new plan would change with: tokenmill plan {settings.stack} --diff",
    )


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise TokenmillError(
            f"settings file {path} does not exist; write one with a [chat] section"
        ) from None
    except IsADirectoryError:
        raise TokenmillError(f"settings file {path} is a folder; name the TOML file in it") from None
    except UnicodeDecodeError:
        raise TokenmillError(f"settings file {path} is not text") from None
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        raise TokenmillError(f"settings file {path} is not TOML: {message[0].lower()}{message[1:]}") from None


def _override(document: dict[str, Any], key: str, value: object, problems: list[str]) -> None:
    name, *keys = key.removeprefix(CONTEXT_PREFIX).split(".")
    if not key.startswith(CONTEXT_PREFIX) or name not in STACKS:
        return
    if not keys:
        problems.append(f"context {key} must name a key, such as {CONTEXT_PREFIX}{name}.region")
        return
    table = document.setdefault(name, {})
    for part in keys[:-1]:
        table = table.setdefault(part, {}) if isinstance(table, dict) else None
    if not isinstance(table, dict):
        problems.append(f"context {key} goes through a key that is not a table")
        return
    table[keys[-1]] = _toml_value(value)


def _toml_value(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return value


def _edited(plan: Plan, settings: StackSettings) -> str:
    """What a plan says of its inputs against the settings that its digest fits."""
    said = {
        "stack": (plan.stack, settings.stack),
        "backend": (plan.backend, settings.backend),
        "region": (plan.region, settings.region),
        "model": (plan.model.id, settings.found_model[0].id),
        "traffic": (plan.workload, settings.workload),
        "slo": (plan.slo, settings.slo),
        "limits": (plan.limits, settings.limits),
        "calibration": tuple(found and found.digest for found in (plan.calibration, settings.calibration)),
    }
    return ", ".join(name for name, (found, given) in said.items() if found != given)


def _is_bedrock_id(model: str) -> bool:
    return BEDROCK_ID.fullmatch(model) is not None and not model.endswith(".json")


def _backend_of(model: str, base: Path) -> str:
    """Files and catalog names are for SageMaker; which of two back ends is cheaper is not asked here."""
    return BEDROCK if _is_bedrock_id(model) and not (base / model).exists() else SAGEMAKER


def _model_problems(settings: StackSettings) -> list[str]:
    if not settings.needs_plan:
        if _is_bedrock_id(settings.model):
            return []
        return [
            f"{settings.stack}.model: {settings.model!r} is not a Bedrock model id; give one such as "
            'amazon.nova-lite-v1:0, an inference profile\'s id or its ARN, or set backend = "sagemaker"'
        ]
    try:
        check_reference(settings.model, settings.path.parent)
    except TokenmillError as error:
        return [f"{settings.stack}.model: {error}"]
    return []
