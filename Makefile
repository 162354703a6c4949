# Every target makes its own environment first; nothing else has to be installed by hand.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Tests of real processes wait a third of their time: on two cores three at once are done soonest.
JOBS   ?= 3
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test thorough lint style types contracts bench docs lock clean

$(STAMP): requirements.lock requirements-llm.lock pyproject.toml
	@$(PYTHON) scripts/bootstrap.py $(VENV)

help:  ## this list
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

install: $(STAMP)  ## the environment alone, in .venv

demo: $(STAMP)  ## five nodes on loopback, thirty real requests, a kill -9, an alert, a replay  [DEMO=--keep]
	@$(BIN)/mesh demo $(DEMO)

test: $(STAMP)  ## every test, in parallel and in random order  [TESTS=tests/unit JOBS=3]
	@$(BIN)/python -m pytest -n $(JOBS) $(TESTS)

thorough: $(STAMP)  ## the same with everything that takes minutes: long fuzzing, ten thousand connections, NATs, slow peers
	@THOROUGH=1 $(BIN)/python -m pytest -n 2 $(TESTS)

lint: style types contracts  ## the three that follow

style: $(STAMP)  ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --diff --quiet .

types: $(STAMP)  ## mypy --strict
	@$(BIN)/mypy

contracts: $(STAMP)  ## import-linter: layers, pure modules, one door for each library
	@$(BIN)/lint-imports --no-cache

bench: $(STAMP)  ## the measured claims, as ratios to a baseline of the same run  [BENCH=idle]
	@$(BIN)/python -m benchmarks $(BENCH)

docs: $(STAMP)  ## the documents checked against the code
	@$(BIN)/python -m pytest tests/docs

lock: $(STAMP)  ## pin what pyproject.toml asks for; the lock names hashes and no index  [LOCK=--upgrade]
	@$(BIN)/python scripts/lock.py $(LOCK)

clean:  ## remove what the targets made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
