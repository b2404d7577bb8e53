"""Runs a command that dies with whoever started it: `python -m tokenmill.local.tether COMMAND ARGUMENT…`.

For programs that are not ours and do not watch their standard input. It must lead a process group.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tokenmill.local.processes import exit_with_parent, kill_group


def main() -> None:
    """Run the command; when standard input ends, kill the whole group."""
    exit_with_parent(lambda: kill_group(os.getpgrp()))
    raise SystemExit(subprocess.call(sys.argv[1:], stdin=subprocess.DEVNULL))


if __name__ == "__main__":
    main()
