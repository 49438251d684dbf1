# Everything sets itself up: each target makes and reuses .venv, and needs nothing but Python 3.11+ and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
.DEFAULT_GOAL := help

# `make fast`: the tests that are not marked slow (tests/conftest.py marks them), with few examples for each property.
FAST := --quiet --numprocesses=auto -m "not slow" --hypothesis-profile=fast

# The marker is newer than the project file for as long as what is installed fits it.
$(VENV)/.base: pyproject.toml
	@test -x $(BIN)/python || { echo "Making $(VENV)"; $(PYTHON) -m venv --upgrade-deps $(VENV); }
	@$(BIN)/python .ci/install.py --editable .
	@$(BIN)/python -m compileall -q connector  # as pip does with what it installs otherwise: a third of a start
	@touch $@

$(VENV)/.test: $(VENV)/.base
	@$(BIN)/python .ci/install.py --editable ".[test]"
	@touch $@

$(VENV)/.bench: $(VENV)/.base
	$(PIP) --editable ".[bench]"
	@touch $@

.venv-lowest/.test: pyproject.toml tests/lowest.py
	@test -x .venv-lowest/bin/python || $(PYTHON) -m venv --upgrade-deps .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[test]"
	.venv-lowest/bin/python -m tests.lowest > .venv-lowest/lowest.txt
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check --requirement .venv-lowest/lowest.txt
	@touch $@

BUILDER ?= $(shell command -v docker || command -v podman || command -v buildah)
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' connector/base/version.py)
LOCK := .venv-lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
  --custom-compile-command "make lock"

.PHONY: help demo fast test check format lint types drift spec picture lowest pythons bench profile image lock build clean

help:  ## list what there is to make
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 10

demo: $(VENV)/.base  ## enrich a sample table (OPENAI_BASE_URL, OPENAI_API_KEY, OPENAI_MODEL: at a real endpoint)
	@$(BIN)/python sample_configs/demo.py

fast: $(VENV)/.test  ## the tests that are not marked slow (tests/conftest.py), in under a minute
	$(BIN)/python -m pytest $(FAST)

test: $(VENV)/.test  ## all tests, a process for each core
	$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile --no-loadscope-reorder

lint: $(VENV)/.test  ## ruff, strict
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.test  ## mypy, strict
	$(BIN)/mypy

drift: $(VENV)/.test  ## are the generated files what `make spec` would write?
	$(BIN)/python -m spec.generate --check
	$(BIN)/python -m tests.pages --check

check: lint types drift test  ## lint, types, drift of generated files, all tests: what CI runs

format: $(VENV)/.test  ## format the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

spec: $(VENV)/.test  ## generate the spec, the page of options, and the parts of docs that follow from the code
	$(BIN)/python -m spec.generate
	$(BIN)/python -m tests.pages

picture: $(VENV)/.test  ## draw the README's terminal and the studio's pictures anew, from real runs
	$(BIN)/python -m tests.terminal
	$(BIN)/python -m tests.studio.browser

lowest: .venv-lowest/.test  ## the tests that use our libraries, with the lowest versions that pyproject.toml allows
	.venv-lowest/bin/python -m pytest --quiet --numprocesses=auto --hypothesis-profile=fast \
	  $(addprefix tests/,base config endpoints http ledger run tables templates) \
	  $(addprefix tests/stores/test_,conformance.py csv.py formats.py json.py json_lines.py)

pythons:  ## the quick tests on each supported Python that is installed here
	@.ci/pythons

bench: $(VENV)/.bench  ## compare with other ways to run a table (PEERS=litellm, ARGS=--quick or --list)
	$(BIN)/python -m tests.bench $(if $(PEERS),--peers $(PEERS)) $(ARGS)

profile: $(VENV)/.bench  ## what each stage of a row costs, and whether it keeps within its budget
	$(BIN)/python -m tests.bench --only stages
	$(BIN)/python -m pytest tests/bench/budgets.py --quiet --benchmark-columns=min,median,rounds

image:  ## build Airbyte's images with docker, podman or buildah (BASE=image, BUILDER=program, IMAGE_ARGS=--options)
	@for role in source destination; do \
	  $(BUILDER) build $(IMAGE_ARGS) $(if $(BASE),--build-arg BASE=$(BASE)) --build-arg VERSION=$(VERSION) \
	    --target $$role --tag $$role-openai-compatible:$(VERSION) . || exit; \
	done

lock:  ## pin the libraries of the images anew, each with its hashes
	@test -x .venv-lock/bin/uv || { $(PYTHON) -m venv .venv-lock && .venv-lock/bin/pip install --quiet uv; }
	$(LOCK) pyproject.toml $(addprefix --extra=,prices postgresql mariadb duckdb) --output-file image/requirements.lock
	echo "setuptools>=77" | $(LOCK) - --output-file image/build.lock

build: $(VENV)/.base  ## build the wheel and the source archive into dist/
	$(PIP) build
	$(BIN)/python -m build --outdir dist

clean:  ## remove what was made
	rm -rf .venv .venv-* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis demo
