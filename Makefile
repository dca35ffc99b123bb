# Everything starts from nothing: a target that needs the environment makes it first.
#   make demo    the whole product in two minutes     make test    the whole gate
#   make dev     the stack, kept running              make help    all targets

SHELL := /bin/sh
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
TESTS ?= tests
export PYTHONUTF8 := 1
# A process that has to compile mcsync anew takes 1.5 s more to start, and tests start many.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install dev demo test quick chaos bench lint types rules format openapi constraints wheel release clean

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

install: $(INSTALLED) ## make .venv and install mcsync with its tools into it

# The first of these that is new enough; PYTHON=... chooses another.
$(BIN)/python:
	@for python in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    $$python -c 'import ensurepip, venv' 2>/dev/null || { \
	      echo "$$python cannot make virtual environments: install its venv package" \
	           "(on Debian and Ubuntu: apt install python3-venv)."; exit 1; }; \
	    echo "Making $(VENV) with $$($$python --version)"; exec $$python -m venv $(VENV); \
	  fi; \
	done; \
	echo "mcsync needs Python 3.11 or newer; python3 is $$(python3 --version 2>&1)." \
	     "Install one, or name it: make install PYTHON=/path/to/python3.12"; exit 1

# Exactly the pinned versions, each checked against its hash; then mcsync itself, from this checkout.
$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing (once; again only when pyproject.toml or constraints.txt change)"
	@$(PIP) install --quiet --require-hashes -r constraints.txt
	@$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@

demo: $(INSTALLED) ## start everything on free ports, sync the example contacts, show what happened
	@$(BIN)/mcsync demo

dev: $(INSTALLED) ## the same stack, kept running, with its data in .mcsync/
	@$(BIN)/mcsync dev

# Half of what a test does is waiting, for processes that start or leases that run out.
WORKERS ?= $(shell $(BIN)/python -c 'import os; print(max(4, os.cpu_count() or 4))')

lint: $(INSTALLED) ## style, types, architecture, the published API
	@$(MAKE) --no-print-directory --output-sync=target -j 2 types rules

types: $(INSTALLED)
	@$(BIN)/mypy

rules: $(INSTALLED)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@$(BIN)/mcsync openapi --check

test: lint ## the whole gate: lint, then every test (with the migrations' check among them)
	@$(BIN)/pytest -q -n $(WORKERS) -m "not chaos" $(TESTS)

quick: $(INSTALLED) ## the tests that take no ten seconds and start no stack
	@$(BIN)/pytest -q -n $(WORKERS) -m "not chaos and not e2e and not slow" $(TESTS)

chaos: $(INSTALLED) ## end servers and workers on purpose while they sync
	@$(BIN)/pytest -q -m chaos $(TESTS)

bench: $(INSTALLED) ## measure, against named yardsticks
	@for script in bench/bench_*.py; do $(BIN)/python $$script || exit 1; done

format: $(INSTALLED) ## put the code into the house style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

openapi: $(INSTALLED) ## write openapi.json anew
	@$(BIN)/mcsync openapi > openapi.json.new && mv openapi.json.new openapi.json

wheel: $(INSTALLED) ## build dist/mcsync-*.whl
	@rm -f dist/mcsync-*.whl
	@$(PIP) wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

release: wheel ## dist/release/: all that a server needs (docs/production.md)
	@rm -rf dist/release && mkdir -p dist/release
	@cp dist/mcsync-*.whl requirements.txt dist/release/
	@cp -r deploy examples dist/release/

PIN := --universal --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url \
  --no-emit-find-links --quiet --custom-compile-command "make constraints"

constraints: $(BIN)/python ## pin the newest allowed versions, with hashes: all, and what runs in production
	@$(PIP) install --quiet uv
	@$(BIN)/uv pip compile pyproject.toml $(PIN) --all-extras --upgrade --output-file constraints.txt
	@$(BIN)/uv pip compile pyproject.toml $(PIN) --extra mysql --extra xlsx --constraints constraints.txt \
	  --upgrade --output-file requirements.txt

clean: ## remove what the targets made, except the data in .mcsync/
	@rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
