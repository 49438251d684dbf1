# Everything sets itself up: each target makes and reuses .venv, and needs nothing but Python 3.11+ and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
.DEFAULT_GOAL := help

# The marker is newer than the project file for as long as what is installed fits it.
$(VENV)/.base: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@$(BIN)/python -m compileall -q connector  # as pip does with what it installs otherwise: a third of a start
	@touch $@

$(VENV)/.test: $(VENV)/.base
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[test]"
	@touch $@

$(VENV)/.bench: $(VENV)/.base
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[bench]"
	@touch $@

.PHONY: help demo test check format lint types spec bench profile clean

help:  ## list what there is to make
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 10

demo: $(VENV)/.base  ## enrich a sample table (OPENAI_BASE_URL, OPENAI_API_KEY, OPENAI_MODEL: at a real endpoint)
	@$(BIN)/python sample_configs/demo.py

test: $(VENV)/.test  ## run the tests
	$(BIN)/python -m pytest

lint: $(VENV)/.test  ## ruff, strict
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.test  ## mypy, strict
	$(BIN)/mypy

check: lint types test  ## lint, types, tests and drift of generated files

format: $(VENV)/.test  ## format the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

spec: $(VENV)/.base  ## generate the spec from the config's model
	$(BIN)/python -m spec.generate

bench: $(VENV)/.bench  ## compare with other ways to run a table (PEERS="langchain litellm", ARGS=--quick)
	$(BIN)/python -m tests.bench $(if $(PEERS),--peers $(PEERS)) $(ARGS)

profile: $(VENV)/.bench  ## what each stage of a row costs, and whether it keeps within its budget
	$(BIN)/python -m tests.bench --only stages
	$(BIN)/python -m pytest tests/bench/budgets.py --quiet --benchmark-columns=min,median,rounds

clean:  ## remove what was made
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis demo
