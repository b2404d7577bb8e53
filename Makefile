# tokenmill: `make up` tries a chat deployment out on this machine, `make test` runs every test.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
STACK ?= chat
# Processes that share the tests; 0 runs them in one, as a debugger wants it.
WORKERS ?= 2
# jsii calls Node 20 out of support; it works, and `tokenmill doctor` recommends 22 or 24
export JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION := 20
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Tests start hundreds of processes, each of which would compile what it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup tools up down test nightly test-nightly check format lint bench docs snapshot lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r name text; do printf '  make %-13s %s\n' "$$name" "$$text"; done

setup: tools .venv/.ready .venv-checkov/.ready node_modules/.ready ## prepare .venv, .venv-checkov and node_modules from the lock files

tools:
	@test -n "$(PYTHON)" || { echo "error: no python3 on PATH; install Python 3.11 or newer" >&2; exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is $$("$(PYTHON)" -V 2>&1); 3.11 or newer is needed: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 2; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { echo "error: $(PYTHON) cannot make virtual environments; install Debian's python3-venv" >&2; exit 2; }
	@command -v node >/dev/null && command -v npm >/dev/null || { echo "error: node or npm is not on PATH; install Node.js 20 or newer" >&2; exit 2; }
	@node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 20 ? 1 : 0)' || { echo "error: node is $$(node --version); 20 or newer is needed" >&2; exit 2; }

.venv/.ready: requirements/dev.txt requirements/gateway.txt pyproject.toml tools/hatch_build.py tools/vendor_gateway.py
	@echo "preparing .venv (once, about a minute)"
	@"$(PYTHON)" -m venv .venv
	@$(BIN)/python -m pip install -qq --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install -qq --no-deps --no-build-isolation --editable .
	@touch $@

.venv-checkov/.ready: requirements/checkov.txt
	@echo "preparing .venv-checkov (once; checkov pins another boto3)"
	@"$(PYTHON)" -m venv .venv-checkov
	@.venv-checkov/bin/python -m pip install -qq --require-hashes -r requirements/checkov.txt
	@touch $@

node_modules/.ready: package.json package-lock.json
	@echo "preparing node_modules (once)"
	@npm ci --silent --no-audit --no-fund
	@touch $@

up: setup ## plan, synthesize, lint, deploy to the local cloud and chat; ONCE=1 stops by itself
	@$(BIN)/tokenmill up $(STACK) $(if $(ONCE),--once)

down: setup ## stop the local cloud
	@$(BIN)/tokenmill down

test: setup ## run every test, with style, types and coverage
	$(BIN)/python -m pytest -n $(WORKERS) --cov --cov-report=term:skip-covered $(ARGS)

nightly: setup ## run every test, and those that take an hour or a gigabyte
	TOKENMILL_NIGHTLY=1 $(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

test-nightly: nightly ## the same as nightly

check: setup ## style and types only, for the edit loop
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## mend style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lint: setup ## synthesize and run every check over the assembly
	PATH="$(CURDIR)/$(BIN):$$PATH" node_modules/.bin/cdk synth --quiet
	$(BIN)/tokenmill lint cdk.out

bench: setup ## measure the limits as ratios in one run
	$(BIN)/python -m benchmarks

snapshot: setup ## rewrite the golden files under tests/snapshot
	UPDATE_SNAPSHOTS=1 $(BIN)/python -m pytest -q tests/snapshot

lock: setup ## rewrite the pinned requirements (needs uv)
	sh tools/lock.sh

clean: ## remove everything that setup and synth made
	rm -rf .venv .venv-checkov node_modules cdk.out .tokenmill dist build .mypy_cache .ruff_cache constructs/tokenmill/gateway/_layer
