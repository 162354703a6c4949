# Every target makes its own environment first; nothing else has to be installed by hand.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test lint types bench docs check lock clean

$(STAMP): requirements.lock requirements-llm.lock pyproject.toml
	@$(PYTHON) scripts/bootstrap.py $(VENV)

demo: $(STAMP)  ## five nodes on loopback, thirty real requests, a kill -9, an alert, a replay
	@$(BIN)/mesh demo $(DEMO)

test: $(STAMP)  ## every test, in parallel and in random order
	@$(BIN)/python -m pytest -n 2 $(TESTS)

lint: $(STAMP)  ## style, types, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

bench: $(STAMP)  ## the measured claims, as ratios to a baseline of the same run
	@$(BIN)/python -m benchmarks $(BENCH)

docs: $(STAMP)  ## the documents checked against the code
	@$(BIN)/python -m pytest tests/docs

lock: $(STAMP)  ## renew the pins; the lock names packages and hashes, no index
	@$(BIN)/python scripts/lock.py

clean:
	rm -rf $(VENV) build dist *.egg-info
