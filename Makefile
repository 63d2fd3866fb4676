# Every target does its own set-up in .venv; python3.11 and make are all it needs.
#
#   make demo         the main job, shown on a model of our own
#   make test         everything: units, laws, integration, real servers (make test-fast: units and laws)
#   make check        ruff, mypy --strict, import-linter, generated-code drift
#   make coverage     branch coverage of the trusted rooms; fails below 100 %
#   make bench-proxy  what the sidecar adds, as ratios in one interleaved run
#   make bench-compile  how long compiling takes and how much it proves
#   make bench-swap   bundles swapped by the thousand under load: no failed or mixed answer, and what it costs

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
export GATE_DATA ?= ../shared/data
# Two workers on two cores: a BLAS that takes every core for each only slows them.
TESTS = OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

# The rooms in which a mistake gives a false guarantee.
TRUSTED = gates numerics tensors bundle properties protocols.open_inference protocols.wire

GENERATE = PYTHON=$(CURDIR)/$(BIN)/python sh protos/generate.sh
PIP_COMPILE = $(BIN)/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe --no-header \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host

.PHONY: help demo test test-fast coverage check format generate lock bench-proxy bench-compile bench-swap clean

help:
	@sed -n '/^#  /s/^# *//p' Makefile

# -- set-up ------------------------------------------------------------------------------------------------

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) not found: install it or pass PYTHON=<a Python 3.11 or newer>" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: requirements.lock pyproject.toml | $(BIN)/python
	@echo "Setting up $(VENV) (once) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@echo "Compiling the search's kernels (once, half a minute of one core) ..."
	@$(BIN)/python -m sidecar.compiler.compiled
	@touch $@

$(VENV)/dev.stamp: requirements-dev.lock $(VENV)/run.stamp
	@echo "Adding the development tools to $(VENV) (once) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

# -- for people --------------------------------------------------------------------------------------------

demo: $(VENV)/run.stamp
	@$(BIN)/sidecar demo

test: $(VENV)/dev.stamp
	$(TESTS)

test-fast: $(VENV)/dev.stamp
	$(TESTS) -m "not slow and not e2e" tests/unit tests/laws

coverage: $(VENV)/dev.stamp
	$(TESTS) -q -m "not e2e" --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=100 $(TRUSTED:%=--cov=sidecar.%)

bench-proxy: $(VENV)/dev.stamp
	$(BIN)/python tests/benchmarks/bench_proxy.py

bench-compile: $(VENV)/dev.stamp
	$(BIN)/python tests/benchmarks/bench_compile.py

bench-swap: $(VENV)/dev.stamp
	$(BIN)/python tests/benchmarks/swap_under_load.py

# -- for developers ----------------------------------------------------------------------------------------

check: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@mkdir -p .cache/generated && $(GENERATE) $(CURDIR)/.cache/generated
	@for file in .cache/generated/*; do cmp "$$file" "sidecar/protocols/generated/$$(basename $$file)" \
		|| { echo "generated code has drifted: run make generate" >&2; exit 1; }; done
	@echo "generated code is current"

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

generate: $(VENV)/dev.stamp
	$(GENERATE)

lock: $(BIN)/python
	$(BIN)/pip install --quiet pip-tools==7.6.2
	$(PIP_COMPILE) --extra compile --extra dev --output-file requirements-dev.lock pyproject.toml
	$(PIP_COMPILE) --extra compile --constraint requirements-dev.lock --output-file requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) .cache build dist
