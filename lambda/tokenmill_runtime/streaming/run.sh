#!/bin/sh
# Lambda starts this instead of the managed runtime and passes the interpreter's path first (AWS page "Modifying
# the runtime environment", section "Wrapper scripts"). Layers are on the managed runtime's own module path, which
# its bootstrap sets up; without that bootstrap it is set up here.
set -eu
PYTHONPATH="${LAMBDA_TASK_ROOT:-/var/task}:${TOKENMILL_LAYER_PATH:-/opt/python}${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONPATH
exec "$1" -m tokenmill_runtime.streaming.bootstrap
