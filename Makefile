# Every target works on a fresh clone with Python 3.11 or newer, gcc, git and make; `make` alone explains.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
S3 := tools/s3dev.sh
S3_DIR ?= build/s3
S3_PORT ?= 9200
# Arguments for pytest; with any the coverage floor does not apply.
ARGS ?=

# $(call step,TITLE,COMMAND) prints the title, runs the command and prints how long it took.
step = @printf '\n== %s\n' '$(1)'; begin=$$SECONDS; $(2); printf -- '-- %s: %d s\n' '$(1)' $$((SECONDS - begin))

.PHONY: help setup demo test nightly check lint bench s3 s3-stop s3-server fmt wheel clean

help: ## show this list
	@grep -hE '^[a-z0-9-]+:.* ## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.* ## (.*)/make \1\t\2/' | expand -t 16

setup: $(READY) ## make the virtual environment in .venv (every target does it by itself)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with: make PYTHON=python3.11 (this is " + sys.version.split()[0] + ")")'
	@printf '\n== setting up %s (about a minute, once)\n' $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY) ## run the demo on real images, offline, in a temporary folder
	@$(BIN)/lakehouse demo

test: $(READY) s3-server ## run the tests with coverage, or some of them with ARGS="tests/lakehouse -k merge"
	$(call step,tests,$(BIN)/python -m pytest -n 2 $(or $(ARGS),--cov --cov-report=term))

nightly: $(READY) s3-server ## run the long tests, which `make test` leaves out
	$(call step,long tests,HYPOTHESIS_PROFILE=nightly $(BIN)/python -m pytest -n 2 -m nightly $(ARGS))

lint: $(READY) ## ruff, mypy and the import contracts
	$(call step,ruff check,$(BIN)/ruff check .)
	$(call step,ruff format,$(BIN)/ruff format --check .)
	$(call step,mypy,$(BIN)/mypy)
	$(call step,import contracts,$(BIN)/lint-imports)

wheel: $(READY) ## build the wheel, install it elsewhere and smoke-test it
	$(call step,wheel,$(BIN)/python tools/wheel_smoke.py)

check: lint wheel test ## everything that CI runs

bench: $(READY) ## run the benchmarks
	@for script in benchmarks/bench_*.py; do printf '\n== %s\n' "$$script"; $(BIN)/python "$$script"; done

s3: ## start an S3 server on this machine for play and print the environment to use
	@$(S3) up $(S3_DIR) $(S3_PORT)
	@$(S3) env $(S3_DIR)
	@echo '# In your shell: eval "$$($(S3) env $(S3_DIR))" and then use s3://lakehouse/...; stop it with: make s3-stop' >&2

s3-stop: ## stop the S3 server that `make s3` started
	@$(S3) down $(S3_DIR)

# CI must test against S3; a laptop without the server skips those tests and says so.
s3-server:
	@if [ -n "$${CI:-}" ]; then $(S3) install; fi

fmt: $(READY) ## format the code and mend what ruff can mend
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

clean: ## remove what the targets made
	@if [ -d $(S3_DIR) ]; then $(S3) down $(S3_DIR); fi
	@rm -rf $(VENV) build *.egg-info .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
