"""Run every check over one assembly, the slow ones side by side."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from tokenmill.core.errors import TokenmillError
from tokenmill.lint.assembly import Assembly, read_assembly
from tokenmill.lint.pack_names import PACKS
from tokenmill.lint.recorded import VALIDATION, recorded_checks
from tokenmill.lint.report import CheckResult, CheckState, LintReport
from tokenmill.lint.tools import CFN_LINT, CHECKOV, run_cfn_lint, run_checkov

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

CHECKS = (VALIDATION, *PACKS, CFN_LINT, CHECKOV)
_TOOLS: dict[str, Callable[[Assembly], CheckResult]] = {CFN_LINT: run_cfn_lint, CHECKOV: run_checkov}


def lint_assembly(
    path: Path | str,
    *,
    skip: Collection[str] = (),
    progress: Callable[[CheckResult], None] | None = None,
) -> LintReport:
    """Check every template of a synthesized assembly, with its nested stacks and stages.

    CloudFormation validation and the rule packs run at synth; their recorded result is read. cfn-lint and
    checkov run now, side by side.

    Args:
        path: The assembly's directory, `cdk.out` by default.
        skip: Names from `CHECKS`, or `nag` for all rule packs; a skipped check says so in the report.
        progress: Called once a check, from this thread, as each ends.

    Raises:
        TokenmillError: The directory is no assembly, it has no template, or a name to skip is no check's.
    """
    skipped = _skipped(skip)
    assembly = read_assembly(Path(path))
    if not assembly.templates:
        raise TokenmillError(f"{path} holds no CloudFormation template, so there is nothing to check")
    results: dict[str, CheckResult] = {}

    def done(result: CheckResult) -> None:
        results[result.check] = result
        if progress is not None:
            progress(result)

    with ThreadPoolExecutor(max_workers=len(_TOOLS)) as pool:
        running = [pool.submit(tool, assembly) for name, tool in _TOOLS.items() if name not in skipped]
        for result in recorded_checks(assembly):
            if result.check not in skipped:
                done(result)
        for future in running:
            done(future.result())
    for name in skipped:
        done(CheckResult(check=name, state=CheckState.SKIPPED, detail="left out on request"))
    order = [*CHECKS, *(name for name in results if name not in CHECKS)]
    return LintReport(
        assembly=str(path),
        templates=tuple(template.name for template in assembly.templates),
        checks=tuple(results[name] for name in order),
    )


def _skipped(skip: Collection[str]) -> set[str]:
    unknown = sorted(name for name in skip if name not in (*CHECKS, "nag"))
    if unknown:
        raise TokenmillError(
            f"no check is called {', '.join(unknown)}; allowed are {', '.join(CHECKS)} and nag"
        )
    return {check for name in skip for check in (PACKS if name == "nag" else (name,))}
