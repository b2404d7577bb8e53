"""Models, catalogs and settings that the tests of the pure layers share."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from support_planner import CHAT, CONFIGS, GOALS, INF2, TODAY, model
from tokenmill.planner import plan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tokenmill.core.model_spec import ModelSpec
    from tokenmill.core.plan import Plan

SETTINGS = """\
[chat]
model = "Qwen__Qwen3-8B.json"
region = "us-east-1"

[chat.traffic]
requests_per_second = 2
input_tokens = 512
output_tokens = 256

[chat.slo]
ttft_ms = 2000
itl_ms = 60

[chat.limits]
instances = ["ml.inf2.*"]
"""


@pytest.fixture(scope="session")
def qwen() -> ModelSpec:
    """Qwen3-8B."""
    return model("Qwen__Qwen3-8B")


@pytest.fixture(scope="session")
def inf2_plan(qwen: ModelSpec) -> Plan:
    """The plan of Qwen3-8B chat on Inferentia2."""
    return plan(model=qwen, workload=CHAT, slo=GOALS, region="us-east-1", limits=INF2, today=TODAY)


@pytest.fixture
def settings_file(tmp_path: Path) -> Callable[..., Path]:
    """Write tokenmill.toml beside the model's config.json, with parts replaced."""

    def write(*changes: tuple[str, str]) -> Path:
        text = SETTINGS
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        shutil.copy(CONFIGS / "Qwen__Qwen3-8B.json", tmp_path)
        path = tmp_path / "tokenmill.toml"
        path.write_text(text)
        return path

    return write
