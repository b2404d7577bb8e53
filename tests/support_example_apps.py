"""The examples, synthesized as their reader would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
FOLDERS = sorted(path.parent.name for path in EXAMPLES.glob("*/app.py"))


def synthesize(name: str, outdir: Path, **context: object) -> subprocess.CompletedProcess[str]:
    """Run an example as the CDK CLI does, with the context of its cdk.json."""
    flags = json.loads((EXAMPLES / name / "cdk.json").read_text(encoding="utf-8"))["context"]
    environment = {
        **os.environ,
        "CDK_CONTEXT_JSON": json.dumps({**flags, **context}),
        "CDK_OUTDIR": str(outdir),
        "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "18,20",
    }
    return subprocess.run(
        [sys.executable, "app.py"],
        cwd=EXAMPLES / name, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
