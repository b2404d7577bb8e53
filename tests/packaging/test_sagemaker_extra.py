"""The extra [sagemaker] with the real SDK: a gigabyte and minutes of installing, so nightly only."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(not os.environ.get("TOKENMILL_NIGHTLY"), reason="needs a gigabyte; run: make nightly")
def test_a_notebook_predicts_chats_streams_and_starts_invocations(tmp_path: Path) -> None:
    """The SDK that users install, not a stand-in, sends what the endpoints on loopback check."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", f"{ROOT}[sagemaker]"], check=True)
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))
    }
    done = subprocess.run(
        [python, ROOT / "tests" / "packaging" / "sagemaker_notebook.py"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "the notebook works" in done.stdout, done.stderr
