# Everything runs in .venv, made on first use. TORCH names the build that pip installs first, so that no other is pulled:
# this version from the default index, or e.g. TORCH="torch==2.13.0 --index-url <index of CPU builds>".
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
JOBS ?= 2

.PHONY: demo test test-all lint bench clean

demo: $(READY)
	$(BIN)/python -m reports.demo --html build/demo.html

test: $(READY) lint
	$(BIN)/python -m pytest -n $(JOBS) -m "not slow"

test-all: $(READY) lint
	$(BIN)/python -m pytest -n $(JOBS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python -m tests.benchmarks.main --json build/bench.json

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	touch $@

clean:
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
