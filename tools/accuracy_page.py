"""Write the tables of `tokenmill accuracy --markdown` into docs/accuracy.md.

Usage: python tools/accuracy_page.py
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "accuracy.md"
BEGIN, END = "<!-- tokenmill accuracy --markdown -->\n", "<!-- end -->\n"


def page() -> str:
    """Return the page with the tables of the coefficients that ship."""
    command = [sys.executable, "-c", "from tokenmill.cli import main; main()", "accuracy", "--markdown"]
    tables = subprocess.run(command, capture_output=True, text=True, check=True).stdout.rstrip("\n")
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    return f"{before}{BEGIN}\n{tables}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
