# One command per purpose; `make help` lists them. Everything is installed into .venv, once: again only
# when pyproject.toml or setup.py change. Needs Python 3.11 or newer, make, and nothing else.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check

COMPILED := build/compiled
COMPILED_TESTS := tests/http tests/split tests/observing tests/latch \
	tests/processes/test_emergency.py tests/processes/test_signals.py

# As many at once as there are processors, each file's tests in one process, in their order. Four at most:
# tests of processes that react in time are no tests of a crowd.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help demo test test-unit test-sockets test-processes test-compiled lint format bench clean

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/installed  ## see it work; DEMO_ARGS="--duration 30s" ends it by itself
	@$(BIN)/gateway demo $(DEMO_ARGS)

# Some hundred processes are started: their bytecode is kept, also where the environment says otherwise.
test test-unit test-sockets test-processes test-compiled: export PYTHONDONTWRITEBYTECODE :=

test: $(VENV)/installed-dev $(VENV)/installed-programs  ## run all tests: the three parts below, every property thoroughly; TEST_ARGS="-k latch" for some, "-n 0" for one at a time
	@$(PYTEST) $(TEST_ARGS)

test-unit: $(VENV)/installed-dev  ## at every save: what needs no socket, no program, no patience; under 30 s
	@$(PYTEST) -m 'not socket and not process and not slow' --hypothesis-profile quick $(TEST_ARGS)

test-sockets: $(VENV)/installed-dev  ## real sockets and small programs, in the test's own process
	@$(PYTEST) -m 'socket and not process and not slow' $(TEST_ARGS)

test-processes: $(VENV)/installed-dev $(VENV)/installed-programs  ## real gateways, browsers, peers; and what takes its time
	@$(PYTEST) -m 'process or slow' $(TEST_ARGS)

test-compiled: $(VENV)/installed-dev  ## compile a copy as GATEWAY_COMPILE=1 does, and run what is served by it
	@rm -rf $(COMPILED) && mkdir -p $(COMPILED)
	@cp -r pyproject.toml setup.py README.md LICENSE config gateway tests $(COMPILED)
	@cd $(COMPILED) && GATEWAY_COMPILE=1 $(CURDIR)/$(BIN)/python setup.py --quiet build_ext --inplace
	@cd $(COMPILED) && $(CURDIR)/$(PYTEST) $(COMPILED_TESTS) $(TEST_ARGS)

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
	find . -maxdepth 4 -name '*.so' -not -path './.*' -delete

$(VENV)/installed: pyproject.toml setup.py $(BIN)/python
	@echo "installing into $(VENV) ..."
	@$(PIP) --editable .
	@touch $@

$(VENV)/installed-dev: pyproject.toml setup.py $(BIN)/python
	@echo "installing into $(VENV), with what the tests need ..."
	@$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/installed

$(VENV)/installed-programs: tests/support/programs.py $(VENV)/installed-dev
	@echo "looking for the programs that some tests talk to ..."
	@$(BIN)/python -m tests.support.programs
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11'; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); echo 'Debian and Ubuntu: apt-get install python3-venv'; exit 1; }
