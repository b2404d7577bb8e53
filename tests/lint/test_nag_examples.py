"""Every example synthesizes as its reader would run it, and leaves no check unanswered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support_example_apps import EXAMPLES, FOLDERS, synthesize
from tokenmill.lint import CheckState, lint_assembly

if TYPE_CHECKING:
    from pathlib import Path


def test_the_examples_are_those_of_the_documentation() -> None:
    """A reader finds each, and none was forgotten."""
    assert FOLDERS == [
        "async_endpoint",
        "batch_transform",
        "blue_green",
        "endpoint_only",
        "gpu_fallback_pool",
        "import_model",
        "inf2_chat",
        "lora_adapters",
        "nightly_batch",
        "office_hours_units",
        "prompt_router",
        "scale_to_zero",
        "trn2_70b",
    ]


@pytest.mark.parametrize("name", FOLDERS)
def test_an_app_fits_on_a_page(name: str) -> None:
    """At most 60 lines: what a user copies is what a user reads."""
    assert len((EXAMPLES / name / "app.py").read_text(encoding="utf-8").splitlines()) <= 60


@pytest.mark.parametrize("name", FOLDERS)
def test_an_example_is_clean_under_every_check(name: str, tmp_path: Path) -> None:
    """CloudFormation validation, five packs, cfn-lint and checkov ran, and none has a finding."""
    done = synthesize(name, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = lint_assembly(tmp_path)
    assert found.findings == ()
    assert {check.state for check in found.checks} == {CheckState.CLEAN}
