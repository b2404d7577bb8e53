"""The client example of docs/getting-started.md, run as printed against the running cloud.

The file's name sorts before the tests that take the stack away.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "docs" / "getting-started.md"
MARKED = re.compile(
    r"<!-- runs against the local cloud -->\n+```python\n(.*?)^```$", re.MULTILINE | re.DOTALL
)


def test_the_documented_client_streams_two_turns_of_one_conversation(project: Any) -> None:
    """The second answer was made from more messages than the client sent with it."""
    (program,) = MARKED.findall(PAGE.read_text())
    state = project.state
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "OPENAI_BASE_URL": state.base_url, "OPENAI_API_KEY": state.api_key},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Your prompt had 1 message," in done.stdout
    assert "Your prompt had 3 messages," in done.stdout
