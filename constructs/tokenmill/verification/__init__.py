"""Claims that only an AWS account can settle, each with a probe: priced first, torn down, dated evidence."""

from __future__ import annotations

from tokenmill.verification.line import Line
from tokenmill.verification.lines import LINES
from tokenmill.verification.probe import Verdict
from tokenmill.verification.run import Evidence, clean_up, run_lines

__all__ = ["LINES", "Evidence", "Line", "Verdict", "clean_up", "run_lines"]
