# One checkout, one environment: every target sets up .venv first if it is missing or out of date.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt

# One thread per process: two-thread OpenMP collapses when the cores are shared.
export OMP_NUM_THREADS ?= 1
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test lint bench clean

help:
	@echo "make demo   search examples/presence.toml, a small study (the result goes to runs/presence)"
	@echo "make test   the tests, without those marked slow"
	@echo "make lint   ruff, pyright and the import contracts"
	@echo "make bench  the benchmarks"
	@echo "make clean  remove what was built; .venv and runs stay"

setup: $(READY)

# torch comes first and by its pinned version, so that no later step can replace a CPU build.
# pytorchcv comes last and alone: its torchvision is not needed and has no build for this torch.
$(READY): pyproject.toml constraints.txt
	@if [ ! -x $(BIN)/python ]; then echo "setup 1/4: environment in .venv ($(PYTHON))"; $(PYTHON) -m venv .venv; fi
	@echo "setup 2/4: torch (about a minute)"
	@$(PIP) torch
	@echo "setup 3/4: chipfit and its libraries (about a minute)"
	@$(PIP) --editable '.[dev]'
	@echo "setup 4/4: pytorchcv, without its dependencies"
	@$(PIP) --no-deps pytorchcv
	@touch $@

demo: $(READY)
	$(BIN)/chipfit search examples/presence.toml

test: $(READY)
	$(BIN)/pytest -n 2 --dist loadfile

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo

bench: $(READY)
	@set -e; for script in benchmarks/*.py; do echo "$$script"; $(BIN)/python "$$script"; done

clean:
	rm -rf build dist .hypothesis .import_linter_cache .pytest_cache .ruff_cache
	find src tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
