# make book | test | lab | course | bench | clean. Each target sets up .venv first if need be.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup newest book test test-processors lab course bench bench-quick lint clean distclean

# The first Python that is at least 3.11; set PYTHON to choose another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	"$$p" -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
		2>/dev/null && { command -v "$$p"; break; }; done)

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
COURSE ?= $(HOME)/mdtheory-course

# A reader's machine has few cores and many kernels: one thread each.
export OMP_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1

help:
	@echo 'make book    build the book under _build/html (executes only what changed)'
	@echo 'make test    execute what changed, then run the whole test suite'
	@echo 'make test-processors  run the numerical tests with the kernels of other processors'
	@echo 'make lab     open the book as notebooks in JupyterLab'
	@echo 'make course  make a course to release and grade in COURSE (now $(COURSE))'
	@echo 'make bench   run the benchmarks'
	@echo 'make newest  install the newest versions that are allowed, and pin them'
	@echo 'make lint    ruff, codespell and the type checker'
	@echo 'make clean   forget built pages and executed notebooks; distclean also .venv'

setup: $(STAMP)

# The stamp is written last: a killed install leaves none, and the next one starts afresh.
$(STAMP): pyproject.toml constraints.txt
	@test -n '$(PYTHON)' || { echo 'No Python from 3.11 to 3.13 found; set PYTHON=...'; exit 1; }
	@if ! test -e $(STAMP); then rm -rf $(VENV); fi
	@test -x $(BIN)/python || '$(PYTHON)' -m venv $(VENV)
	@rm -f $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		"$$(grep -E '^torch(==|$$)' constraints.txt)" -c constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		-c constraints.txt -e '.[dev]'
	@$(BIN)/python -c 'import torch, mdtheory'
	@touch $(STAMP).new && mv $(STAMP).new $(STAMP)

# The newest versions that pyproject.toml allows, in a fresh .venv, and their pins.
newest:
	rm -rf $(VENV)
	sed -E 's/==.*//' constraints.txt > constraints.new && mv constraints.new constraints.txt
	@$(MAKE) --no-print-directory setup
	$(BIN)/python -m pip freeze --exclude-editable \
		| { grep -vE '^(nvidia|cuda|triton)' || true; } > constraints.new
	mv constraints.new constraints.txt && touch $(STAMP)

book: $(STAMP)
	@$(BIN)/python -m tools.build

test: $(STAMP)
	@$(BIN)/python -m tools.execute
	@$(BIN)/python -m pytest -n 2 --dist loadfile --durations=10 --cov --cov-report=term \
		$(PYTEST_ARGS)

# PROCESSORS='sse4 plain' chooses some, PROCESSORS=--today the one of the day.
test-processors: $(STAMP)
	@$(BIN)/python -m tools.processors $(PROCESSORS)

lab: $(STAMP)
	@$(BIN)/python -m tools.lab $(LAB_ARGS)

course: $(STAMP)
	@$(BIN)/python -m mdtheory course new '$(COURSE)'

bench: $(STAMP)
	@$(BIN)/python -m pytest benchmarks/bench_*.py --benchmark-only

bench-quick: $(STAMP)
	@$(BIN)/python -m pytest benchmarks/bench_*.py --benchmark-disable -q

lint: $(STAMP)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/codespell && $(BIN)/mypy

clean:
	rm -rf _build .cache dist .pytest_cache .mypy_cache .ruff_cache .coverage .coverage.*

distclean: clean
	rm -rf $(VENV)
