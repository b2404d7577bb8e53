"""Every check over a synthesized assembly, and the way an app answers for what it does not follow.

`register_packs` and `acknowledge` belong in the app, `lint_assembly` reads what the app wrote. Nothing here
loads aws_cdk before one of the first two is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenmill.lint.report import Acknowledged, CheckResult, CheckState, Finding, LintReport
from tokenmill.lint.runner import CHECKS, lint_assembly

if TYPE_CHECKING:
    from tokenmill.lint.acknowledgement import acknowledge
    from tokenmill.lint.answers import acknowledge_from
    from tokenmill.lint.pack_names import PACKS
    from tokenmill.lint.packs import register_packs

__all__ = [
    "CHECKS",
    "PACKS",
    "Acknowledged",
    "CheckResult",
    "CheckState",
    "Finding",
    "LintReport",
    "acknowledge",
    "acknowledge_from",
    "lint_assembly",
    "register_packs",
]

_NEEDS_CDK = {
    "PACKS": "tokenmill.lint.pack_names",
    "acknowledge": "tokenmill.lint.acknowledgement",
    "acknowledge_from": "tokenmill.lint.answers",
    "register_packs": "tokenmill.lint.packs",
}


def __getattr__(name: str) -> Any:
    if name in _NEEDS_CDK:
        import importlib

        return getattr(importlib.import_module(_NEEDS_CDK[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
