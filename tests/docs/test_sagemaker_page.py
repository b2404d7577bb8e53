"""docs/sagemaker.md says what the constructs render."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_what_each_option_renders_to_is_what_the_page_says() -> None:
    """Write it again with: python -m tools.sagemaker_page."""
    script = "from tools.sagemaker_page import PAGE, page; assert page() == PAGE.read_text(encoding='utf-8')"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"run: python -m tools.sagemaker_page\n{done.stderr}"
