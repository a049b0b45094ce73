# Every target sets up what it needs in .venv: `make demo` on a fresh machine is enough.
PYTHON ?= python3
BIN := .venv/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help demo test lint bench

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
