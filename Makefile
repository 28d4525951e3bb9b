# Needs Python 3.10 or newer, make, and a package registry. Everything else goes into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9
# The registry and certificates that pip is set up for serve uv as well.
export UV_DEFAULT_INDEX ?= $(or $(PIP_INDEX_URL),https://pypi.org/simple)
export UV_SYSTEM_CERTS = 1
export UV_PYTHON_DOWNLOADS = never
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help bootstrap test lint types format bench faults lock check clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

bootstrap: $(VENV)/.installed ## Make the environment and run owlclaw-up in this folder
	$(BIN)/owlclaw-up

test: $(VENV)/.installed ## Make the environment and run the tests
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.installed ## Style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed ## Types, strictly, tests too
	$(BIN)/mypy

check: lint types test ## Everything a change must pass

format: $(VENV)/.installed ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed ## Measure, beside the same stages by hand; wants an engine, and Docker for its part
	$(BIN)/python -m bench.measure

faults: $(VENV)/.installed ## Write docs/reference/faults.md from the doctor's checks
	$(BIN)/python -m docs.faults

lock: $(VENV)/.uv ## Resolve the versions anew
	$(BIN)/uv lock --upgrade

clean: ## Remove what make made; owlclaw-up down --purge removes what owlclaw-up made
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .hypothesis

$(VENV)/.uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "owlclaw-up needs Python 3.10 or newer, this is $$($(PYTHON) -V 2>&1): make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "$(PYTHON) has no venv module; on Debian and Ubuntu: apt-get install python3-venv" >&2; rm -rf $(VENV); exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@

# From uv.lock, hashes checked. Bytecode is compiled now, since a second of every first start hangs on it.
$(VENV)/.installed: $(VENV)/.uv pyproject.toml uv.lock
	@echo "installing into $(VENV)"
	@$(BIN)/uv export --quiet --frozen --all-extras --all-groups --no-emit-project --output-file $(VENV)/requirements.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode -r $(VENV)/requirements.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@$(BIN)/python -m compileall -q owlclaw_up
	@touch $@
