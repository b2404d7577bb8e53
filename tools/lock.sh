#!/bin/sh
# Rewrites the pinned, hashed requirement files; no index address is recorded.
set -eu
UV=${UV:-uv}
flags="--generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header --quiet"
# shellcheck disable=SC2086
"$UV" pip compile --universal --python-version 3.11 --extra dev $flags pyproject.toml -o requirements/dev.txt
# shellcheck disable=SC2086
"$UV" pip compile --universal --python-version 3.11 $flags requirements/checkov.in -o requirements/checkov.txt
# shellcheck disable=SC2086
"$UV" pip compile --python-version 3.13 $flags requirements/gateway.in -o requirements/gateway.txt
npm install --package-lock-only
