# Everything sets itself up from a clean checkout: Python 3.11 or newer and make are enough.
.DEFAULT_GOAL := help
.PHONY: help setup quickstart test test-all check format docs lock startup clean

VENV   := .venv
BIN    := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
# The first Python of 3.11 or newer; `make PYTHON=/path/to/python ...` overrides it.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	"$$p" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo "$$p" && break; done)
# Two files that say what is installed: when neither is newer than the stamp, set-up is done.
STAMP  := $(VENV)/.nexa-installed
# Tests run in parallel on tiny tensors: one thread each is faster than threads that wait.
SINGLE := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
PARALLEL ?= --numprocesses logical --maxprocesses 8 --dist worksteal

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP)  ## Create .venv with the locked versions and nexa itself

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { \
	  echo "Nexa needs Python 3.11 or newer with its venv module; none was found."; \
	  echo "  try    apt-get install python3 python3-venv, or make PYTHON=/path/to/python3.11"; \
	  exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear $(VENV)
	$(BIN)/python -m pip install --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --requirement requirements.lock
	$(BIN)/python -m pip install --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

quickstart: $(STAMP)  ## The three commands on real data, into ./quickstart
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/quickstart.sh

test: $(STAMP)  ## All tests but the slow ones; fails under 95 % coverage
	$(SINGLE) $(PYTEST) $(PARALLEL) --cov --cov-report=term

test-all: $(STAMP)  ## Every test, those with real models too
	$(PYTEST) -m ""

check: $(STAMP)  ## Format, lint, types, architecture, dependencies, generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .
	$(BIN)/python -m nexa.cli.docs --check

format: $(STAMP)  ## Format the code and mend what the linter can
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

docs: $(STAMP)  ## Write the generated documents anew
	$(BIN)/python -m nexa.cli.docs

lock: $(STAMP)  ## Write requirements.lock from what is installed in .venv
	$(BIN)/python scripts/lock.py

startup: $(STAMP)  ## Measure how long every --help takes
	$(BIN)/python benchmarks/startup.py

clean:  ## Remove what was made, .venv included
	rm -rf $(VENV) quickstart dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -rf .import_linter_cache .coverage .coverage.* htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
