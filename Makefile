# Every target sets up what it needs in .venv: `make demo` on a fresh machine is enough.
PYTHON ?= python3
BIN := .venv/bin
MUTANTS := .venv/mutants
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help demo test lint bench mutation

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile

demo: .venv/.run ## train every model family on real digits and show the gallery (about ten minutes)
	$(BIN)/python -m demos gallery

test: .venv/.dev ## run the test suite
	$(BIN)/python -m pytest

lint: .venv/.dev ## check style, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: .venv/.bench ## compare speed with PyTorch and JAX
	$(BIN)/python -m benchmarks

mutation: $(MUTANTS)/session.sqlite ## break the mathematics in one place at a time, and list what no test notices (hours)
	cd $(MUTANTS) && git checkout --quiet tinygen && python -m tests.mutation test
	cd $(MUTANTS) && cosmic-ray exec tests/mutation.toml session.sqlite
	cd $(MUTANTS) && python -m tests.mutation report session.sqlite

# Mutants are written into the sources, so into those of a clone of the last commit. Delete it to start anew.
$(MUTANTS)/session.sqlite: | .venv/.dev
	@$(INSTALL) cosmic-ray
	rm -rf $(MUTANTS) && git clone --quiet . $(MUTANTS)
	cd $(MUTANTS) && cosmic-ray init tests/mutation.toml new.sqlite
	cd $(MUTANTS) && cr-filter-operators new.sqlite tests/mutation.toml
	cd $(MUTANTS) && python -m tests.mutation plan new.sqlite $(if $(SAMPLE),--sample $(SAMPLE)) && mv new.sqlite session.sqlite

mutation $(MUTANTS)/session.sqlite: export PATH := $(CURDIR)/$(BIN):$(PATH)

# One stamp for each set of packages; it is made anew when the metadata changes.
.venv/.run: setup.cfg pyproject.toml | $(BIN)/python
	@echo "installing tinygen into .venv"
	@$(INSTALL) -e .
	@touch $@

.venv/.dev .venv/.bench: .venv/.%: setup.cfg pyproject.toml | $(BIN)/python
	@echo "installing tinygen[$*] into .venv"
	@$(INSTALL) -e '.[$*]'
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tinygen needs Python 3.11 or newer; choose one with: make PYTHON=python3.12")'
	@$(PYTHON) -m venv .venv
