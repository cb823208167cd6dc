# Everything runs in a virtual environment of the project's own, .venv, which the first target that needs it makes.
# Needs make and Python 3.11 or newer; `make help` lists the targets.

.DEFAULT_GOAL := help
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3.13 python3.12 python3.11 python3

# Two processes, which share compiled programs on disk, took a fifth less time than one on two cores. With many cores try
# WORKERS=8. JAX_PLATFORMS=cuda make test runs the tests on another device.
PYTEST = JAX_PLATFORMS=$${JAX_PLATFORMS:-cpu} $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile
WORKERS ?= 2
TESTS ?=
BENCH ?=

.PHONY: help quickstart test lint bench parity docs clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "make %-11s %s\n", $$1, $$2 }'

quickstart: $(VENV)/.installed  ## install jaxtl and compare the ways to adapt a small network, offline, in minutes
	@$(BIN)/jaxtl quickstart

test: $(VENV)/.installed-test  ## all tests but the slow ones (TESTS="tests/data -k folder", WORKERS=8)
	@$(PYTEST) $(TESTS)

lint: $(VENV)/.installed-test  ## format, lint and types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy jaxtl

bench: $(VENV)/.installed-test  ## beside PyTorch, into benchmarks/RESULTS.md (BENCH="--full --data FOLDER --weights FILE" for all of it)
	@$(BIN)/python -m benchmarks.run $(BENCH)

parity: $(VENV)/.installed-test  ## every architecture against timm with the same weights, as a table (takes an hour or more)
	@$(BIN)/python tools/parity.py

docs: $(VENV)/.installed-docs  ## the documentation as a web site, in site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

clean:  ## remove .venv and everything else that can be made again
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist site

# The package is installed editable, so that only a change of pyproject.toml asks for another installation.
$(VENV)/.installed: pyproject.toml
	$(call install,.)
$(VENV)/.installed-test: pyproject.toml
	$(call install,.[test])
$(VENV)/.installed-docs: pyproject.toml
	$(call install,.[docs])

# An environment that was interrupted in the making still holds .unfinished, and is made anew. Where pip refuses by
# itself, without a network say, it has installed nothing, and the environment stays.
define install
@set -e; \
trap 'exit 130' HUP INT TERM; \
if [ -e $(VENV)/.unfinished ] || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	for python in $(PYTHON); do \
		"$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
		python=; \
	done; \
	if [ -z "$$python" ]; then \
		echo "error: none of '$(PYTHON)' is Python 3.11 or newer with venv; install one (on Debian also python3-venv)" \
			"or name it: make PYTHON=/path/to/python3" >&2; \
		exit 1; \
	fi; \
	echo "making $(VENV) with $$("$$python" --version) ($$(command -v "$$python"))"; \
	rm -rf $(VENV); \
	mkdir $(VENV); \
	touch $(VENV)/.unfinished; \
	"$$python" -m venv $(VENV); \
fi; \
touch $(VENV)/.unfinished; \
echo "installing $(1) into $(VENV) (takes minutes the first time)"; \
$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '$(1)' \
	|| { rm $(VENV)/.unfinished; exit 1; }; \
rm $(VENV)/.unfinished; \
touch $@
endef
