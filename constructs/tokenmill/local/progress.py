"""The steps of `tokenmill up`, shown while they run: spinners on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID


@dataclass(slots=True)
class Step:
    """One step."""

    name: str
    started: float
    seconds: float | None = None
    detail: str = ""


@dataclass(slots=True)
class Steps:
    """Every step with its time.

    Args:
        console: Where they are shown; none shows nothing.
    """

    console: Console | None
    steps: list[Step] = field(default_factory=list)
    _progress: Progress | None = None
    _tasks: dict[str, TaskID] = field(default_factory=dict)

    def begin(self, name: str) -> Step:
        """Show that a step starts.

        Args:
            name: What it does, in one or two words.
        """
        step = Step(name, time.monotonic())
        self.steps.append(step)
        if self.console is not None and self.console.is_terminal:
            progress = self._live()
            self._tasks[name] = progress.add_task(name, total=1, detail="")
        return step

    def done(self, step: Step, detail: str) -> None:
        """Show that a step ended.

        Args:
            step: The step.
            detail: What came of it.
        """
        step.seconds, step.detail = time.monotonic() - step.started, detail
        if self._progress is not None and step.name in self._tasks:
            self._progress.update(self._tasks[step.name], completed=1, detail=detail)
        elif self.console is not None:
            self.console.print(f"{step.name:<12} {detail} ({step.seconds:.1f} s)")

    def close(self) -> None:
        """Stop drawing; what was drawn stays."""
        if self._progress is not None:
            self._progress.stop()
        self._progress = None

    def document(self) -> list[dict[str, object]]:
        """Return the steps for machines."""
        return [
            {"step": step.name, "seconds": round(step.seconds or 0.0, 2), "detail": step.detail}
            for step in self.steps
        ]

    def _live(self) -> Progress:
        if self._progress is None:
            from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            self._progress = Progress(
                SpinnerColumn(finished_text="✓"),
                TextColumn("{task.description:<12}"),
                TimeElapsedColumn(),
                TextColumn("{task.fields[detail]}"),
                console=self.console,
            )
            self._progress.start()
        return self._progress
