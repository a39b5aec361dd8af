# AI-DOS: `make demo` and `make test` are all that a fresh machine needs.
# Each target first brings .venv to what requirements/ says; a second run finds it done.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# Empty: requirements/install.sh takes python3.11 where there is one, else python3.
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
# Test processes of the plain and postgres tiers.
WORKERS ?= 2
PYTEST_ARGS ?=
# Container images set it; every process of the platform and each test file would be compiled anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test up down status check bench docs lock format install clean

help:
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

install:  ## make .venv from the lock (all other targets call this)
	@PYTHON="$(PYTHON)" VENV="$(VENV)" bash requirements/install.sh

demo: install  ## set up, start the platform, run the whole workflow on real data
	@$(BIN)/python -m examples.digits.demo

up: install  ## start the platform
	@$(BIN)/aidos up

down: install  ## stop the platform
	@$(BIN)/aidos down

status: install  ## what runs, where, how healthy
	@$(BIN)/aidos status

check: install  ## ruff, types, import contracts and the plain tests: under a minute
	@BIN="$(BIN)" WORKERS="$(WORKERS)" bash tests/check.sh

test: check  ## every test, all tiers
	@# The plain tier has just run inside `check`. One Ray cluster is shared by a session, so those tiers stay in one process.
	$(BIN)/python -m pytest -q -m postgres -n $(WORKERS) --dist worksteal --durations 15 $(PYTEST_ARGS)
	$(BIN)/python -m pytest -q -m "ray or e2e" --durations 15 $(PYTEST_ARGS)

bench: install  ## every benchmark, quick form
	@for file in benchmarks/*.py; do
	  name=$$(basename "$$file" .py)
	  case "$$name" in _*) continue ;; esac
	  echo "== $$name"
	  $(BIN)/python -m "benchmarks.$$name" --quick
	done

format: install  ## format and sort imports
	@$(BIN)/ruff check --fix-only --quiet . && $(BIN)/ruff format --quiet .

docs: install  ## write the pages that are made from the code
	@$(BIN)/python -m tests.architecture.reference

lock:  ## resolve requirements/lock.txt again; UPGRADE=1 takes newer versions
	@PYTHON="$(PYTHON)" UPGRADE="$(UPGRADE)" bash requirements/lock.sh

clean:  ## remove .venv and caches
	@rm -rf "$(VENV)" build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
