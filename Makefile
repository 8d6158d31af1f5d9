.DEFAULT_GOAL := help
SHELL := bash
BIN := .venv/bin
# Any Python from 3.11 on; the newest first, so that an old `python3` does no harm.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python3.14; do \
  command -v $$p >/dev/null 2>&1 && $$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
  && { echo $$p; break; }; done)

.PHONY: help demo console test test-browser check lint format bench bench-peers nemesis planted-bugs probes trace-check generate lock clean setup

help:  ## List what can be done
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

demo: .venv/run.stamp  ## Watch requests flow through a real Kafka, started here (no Docker, no keys)
	@$(BIN)/tierline demo

console: .venv/run.stamp  ## The demo, and then its requests, cases, policy and flow in a browser, until Ctrl-C
	@$(BIN)/tierline demo --keep

#: Tests that need no broker, no browser and little time.
FAST = not kafka and not bench and not slow and not browser
#: Tests on the broker mostly wait: two files at a time, each worker with a broker of its own.
IN_TWO := -n 2 --dist loadfile --no-loadscope-reorder

test: .venv/dev.stamp  ## Run the tests, those on the real broker included; not those in the browser
	@failed=0; \
	$(BIN)/pytest -n auto -m "not kafka and not bench and not browser" || failed=1; \
	$(BIN)/pytest $(IN_TWO) -m "kafka and not bench and not browser" || failed=1; \
	exit $$failed

test-browser: .venv/dev.stamp  ## Walk through the console in Chromium as a person does (pictures in build/screenshots)
	@$(BIN)/pytest -m browser

check: lint  ## Format, lint, types, import contracts and the fast tests, in under a minute
	@$(BIN)/pytest -q -n auto -m "$(FAST)"

lint: .venv/dev.stamp  ## Format, lint, types and import contracts alone
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: .venv/dev.stamp  ## Format the code and mend what the linter can
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: .venv/dev.stamp  ## Measure speed and memory on the real broker, each as a ratio in one run
	@$(BIN)/python -m tests.bench

bench-peers: .venv/dev.stamp  ## Measure against Quix Streams, Parallel Consumer and LiteLLM, each in its own environment
	@$(BIN)/python -m tests.bench quix parallel litellm

SEEDS ?= 3
MINUTES ?= 5

nemesis: .venv/dev.stamp  ## Break everything around a running flow and count: SEEDS=3 MINUTES=5
	@$(BIN)/python -m tests.nemesis --seeds $(SEEDS) --minutes $(MINUTES)

planted-bugs: .venv/dev.stamp  ## Plant known bugs in a copy, one by one, and see the harness catch each
	@$(BIN)/python -m tests.nemesis.planted

probes: .venv/dev.stamp  ## Attack everything that reads foreign input, and count what was tried and blocked
	@$(BIN)/python -m tests.probes

trace-check: .venv/dev.stamp  ## Read three journeys back from a real tracing backend (installs Phoenix into build, once)
	@$(BIN)/python -m tests.telemetry.trace_check

generate: .venv/run.stamp  ## Write the published schemas and the AsyncAPI document anew
	@$(BIN)/python -m consumers.cli.publish

setup: .venv/dev.stamp  ## Install everything into .venv

.venv/bin/python:
	@if [ -z "$(PYTHON)" ]; then \
	  echo "Python 3.11 or newer with its venv module is needed, and PATH has none." >&2; \
	  echo "Debian and Ubuntu: apt install python3-venv. Or name one: make PYTHON=/path/to/python3.12 ..." >&2; \
	  exit 1; fi
	@$(PYTHON) -m venv .venv

.venv/run.stamp: requirements.lock pyproject.toml | .venv/bin/python
	@echo "installing (once) ..."
	@$(BIN)/pip -q install --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip -q install --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.venv/dev.stamp: requirements-dev.lock .venv/run.stamp
	@echo "installing what tests need (once) ..."
	@$(BIN)/pip -q install --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

EXTRAS := --extra console --extra local --extra otlp --extra postgres --extra prices --extra prometheus --extra signing --extra speed
COMPILE := build/lock/bin/uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-annotate --no-header --python-version 3.11

lock:  ## Resolve the dependencies anew and pin them with hashes, those of tests and peers too
	@rm -rf build/lock && $(PYTHON) -m venv build/lock
	@build/lock/bin/pip -q install --disable-pip-version-check --require-hashes -r requirements-uv.lock
	@echo "editables" > build/lock/build.in && echo "hatchling" >> build/lock/build.in
	@$(COMPILE) $(EXTRAS) pyproject.toml build/lock/build.in -o requirements.lock
	@$(COMPILE) $(EXTRAS) --group dev pyproject.toml build/lock/build.in -c requirements.lock -o requirements-dev.lock
	@$(COMPILE) requirements-uv.in -o requirements-uv.lock
	@$(COMPILE) tests/bench/litellm.in -o tests/bench/litellm.lock
	@$(COMPILE) pyproject.toml tests/bench/quix.in -o tests/bench/quix.lock
	@$(COMPILE) tests/telemetry/phoenix.in -o tests/telemetry/phoenix.lock
	@rm -rf build/lock

clean:  ## Remove what was built and installed here
	@rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
