# One command per purpose; `make help` lists them. Everything is installed into .venv, once: again only
# when pyproject.toml changes. Needs Python 3.11 or newer, make, and nothing else.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench clean

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/installed  ## see it work; DEMO_ARGS="--duration 30s" ends it by itself
	@$(BIN)/gateway demo $(DEMO_ARGS)

test: $(VENV)/installed-dev  ## run all tests; TEST_ARGS="-k latch" or "-m 'not process'" for some
	@$(BIN)/python -m pytest $(TEST_ARGS)

lint: $(VENV)/installed-dev  ## ruff (rules and format) and mypy --strict
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

format: $(VENV)/installed-dev  ## put imports and layout in order
	@$(BIN)/ruff check --select I --fix
	@$(BIN)/ruff format

bench: $(VENV)/installed  ## compare with nginx, HAProxy, Envoy, Traefik; BENCH_ARGS=--quick for a look
	@$(BIN)/python -m bench --plot docs/bench.svg $(BENCH_ARGS)

clean:  ## remove the environment and what was built; never state
	rm -rf $(VENV) bench/.venv build dist *.egg-info .mypy_cache .ruff_cache .hypothesis
	find gateway bench tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/installed: pyproject.toml $(BIN)/python
	@echo "installing into $(VENV) ..."
	@$(PIP) --editable .
	@touch $@

$(VENV)/installed-dev: pyproject.toml $(BIN)/python
	@echo "installing into $(VENV), with what the tests need ..."
	@$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/installed

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11'; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); echo 'Debian and Ubuntu: apt-get install python3-venv'; exit 1; }
