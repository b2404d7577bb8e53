"""MiniStack's private names that the local cloud uses; when the pin moves, this says what is gone."""

from __future__ import annotations

import tomllib
from importlib.metadata import version
from pathlib import Path

from tokenmill.local.aws_requests import ServiceShapes, python_pattern
from tokenmill.local.ministack_seams import VERSION, missing_seams

ROOT = Path(__file__).resolve().parents[2]


def test_every_private_name_is_there_with_its_parameters() -> None:
    assert missing_seams() == []


def test_the_pin_is_the_same_in_code_project_and_environment() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"ministack=={VERSION}" in project["optional-dependencies"]["local"]
    assert version("ministack") == VERSION


def test_every_pattern_of_the_service_models_is_understood() -> None:
    """Java's patterns, surrogate ranges and Unicode classes compile after translation."""
    for service in ("sagemaker", "sagemaker-runtime", "codebuild", "application-autoscaling", "cloudwatch"):
        model = ServiceShapes(service).model
        for name in model.shape_names:
            pattern = model.shape_for(name).metadata.get("pattern")
            if pattern:
                python_pattern(pattern)


def test_translated_classes_mean_what_they_meant() -> None:
    assert python_pattern(r"\p{Print}+").fullmatch("Token Work")
    assert python_pattern(r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)").fullmatch("café 7_a-b")
    assert not python_pattern(r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)").fullmatch("semi;colon")
