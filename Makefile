# Every target does its own set-up in .venv; python3.11 and make are all it needs.
#
#   make demo         the main job, shown on a model of our own
#   make native       build the native transport, which takes cargo, and install it into .venv
#   make test         everything: units, laws, integration, real servers (make test-fast: units, laws, stored fuzzing inputs)
#   make check        ruff, mypy --strict, import-linter, generated-code drift; with cargo, rustfmt and clippy;
#                     with cargo-deny, the licences, doubled versions and sources of crates
#   make coverage     branch coverage of the trusted rooms; fails below 100 %
#   make fuzz         every reader of outside bytes fuzzed, FUZZ_SECONDS=300 each, FUZZ_TARGETS="request bundle" or all
#   make fuzz-native  the laws of the Rust crate that decides, under cargo-fuzz, FUZZ_SECONDS=60 each
#   make conformance  every conformance case on real Triton, MLServer, KServe and TorchServe; CONFORMANCE="triton kserve"
#   make bench-proxy  what the sidecar costs beside nginx, haproxy and Envoy, in one interleaved run; BENCH_PROXY="--rounds 9"
#   make bench-fairness  what a client feels beside one that sends only counterexamples in full batches
#   make bench-compile  verdicts, coverage against time and the larger public sets; BENCH_COMPILE="--only bundles"
#   make bench-coverage  what a coverage map costs: bytes, microseconds a labelled row in Python and Rust, seconds to check
#   make drill        faults against a real Triton under load, on both transports: no violating answer, no crash, nothing
#                     uncounted; DRILL="--transport native --only 'kill -9' slow"
#   make soak         half an hour at the machine's limit on each transport: memory, descriptors and p99 stay as they were;
#                     SOAK_MINUTES=10 SOAK="--transport native"
#   make bench-swap   bundles swapped by the thousand under load: no failed or mixed answer, and what it costs

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
export GATE_DATA ?= ../shared/data
# Two workers on two cores: a BLAS that takes every core for each only slows them.
TESTS = OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

# The rooms in which a mistake gives a false guarantee.
TRUSTED = gates numerics tensors bundle certificate network properties protocols.open_inference protocols.torchserve \
	protocols.wire protocols.map_entries

GENERATE = PYTHON=$(CURDIR)/$(BIN)/python sh protos/generate.sh
PIP_COMPILE = $(BIN)/pip-compile --quiet --generate-hashes --no-strip-extras --allow-unsafe --no-header \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host

.PHONY: help demo native native-for-tests native-required test test-fast fuzz fuzz-native conformance coverage check format
.PHONY: generate lock attack bench-proxy bench-fairness bench-compile bench-coverage bench-swap drill soak clean

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

# The demonstration never compiles it: it takes what is there, and says what that is.
native: $(VENV)/run.stamp
	@sh sidecar/native/build.sh $(VENV) release

# 3: it cannot be built here, as was said; its tests are counted as not run. Anything else is a failure.
native-for-tests: $(VENV)/run.stamp
	@sh sidecar/native/build.sh $(VENV) fast || [ $$? -eq 3 ]

native-required: $(VENV)/run.stamp
	@sh sidecar/native/build.sh $(VENV) fast

test: $(VENV)/dev.stamp native-for-tests
	$(TESTS)

test-fast: $(VENV)/dev.stamp
	$(TESTS) -m "not slow and not e2e" tests/unit tests/laws tests/fuzz

fuzz: $(VENV)/dev.stamp
	$(BIN)/python -m tests.fuzz.campaign --seconds $(or $(FUZZ_SECONDS),300) $(if $(FUZZ_KEEP),--keep) $(FUZZ_TARGETS)

fuzz-native: $(VENV)/dev.stamp
	$(BIN)/python -m tests.fuzz.native --seconds $(or $(FUZZ_SECONDS),60)

conformance: $(VENV)/dev.stamp
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.e2e.conformance $(CONFORMANCE)

coverage: $(VENV)/dev.stamp
	$(TESTS) -q -m "not e2e" --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=100 $(TRUSTED:%=--cov=sidecar.%)

bench-proxy: $(VENV)/dev.stamp
	@sh sidecar/native/build.sh $(VENV) release || [ $$? -eq 3 ]  # the lanes that it misses are NOT RUN
	$(BIN)/python tests/benchmarks/bench_proxy.py $(BENCH_PROXY)

bench-fairness: $(VENV)/dev.stamp
	$(BIN)/python tests/benchmarks/bench_fairness.py

bench-compile: $(VENV)/dev.stamp
	$(BIN)/python tests/benchmarks/bench_compile.py $(BENCH_COMPILE)

bench-coverage: $(VENV)/dev.stamp
	@sh sidecar/native/build.sh $(VENV) release || [ $$? -eq 3 ]  # the column that it misses is NOT RUN
	$(BIN)/python tests/benchmarks/bench_coverage.py

ATTACK_SAMPLES ?= 1000000

attack: $(VENV)/dev.stamp
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.attack --samples $(ATTACK_SAMPLES) $(ATTACK)

bench-swap: $(VENV)/dev.stamp
	$(BIN)/python tests/benchmarks/swap_under_load.py

# The clients' own gRPC would write a line for each connection that a fault breaks.
UNDER_LOAD = GRPC_VERBOSITY=NONE OPENBLAS_NUM_THREADS=1 $(BIN)/python -m
SOAK_MINUTES ?= 30

drill: $(VENV)/dev.stamp native-for-tests
	$(UNDER_LOAD) tests.drill $(DRILL)

soak: $(VENV)/dev.stamp native-for-tests
	$(UNDER_LOAD) tests.drill.soak --minutes $(SOAK_MINUTES) $(SOAK)

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
	@if command -v cargo >/dev/null; then cd sidecar/native && cargo fmt --all --check \
		&& cargo fmt --manifest-path gate/fuzz/Cargo.toml --check \
		&& cargo clippy --quiet --locked --workspace --all-targets -- -D warnings && echo "rustfmt and clippy are content"; \
		else echo "NOT CHECKED: the native transport; cargo is not installed" >&2; fi
	@if command -v cargo-deny >/dev/null; then cd sidecar/native \
		&& cargo deny --locked --log-level error check bans licenses sources; \
		else echo "NOT CHECKED: licences, versions and sources of crates; cargo-deny is not installed" >&2; fi

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

generate: $(VENV)/dev.stamp
	$(GENERATE)

lock: $(BIN)/python
	$(BIN)/pip install --quiet pip-tools==7.6.2
	$(PIP_COMPILE) --extra compile --extra dev --output-file requirements-dev.lock pyproject.toml
	sed -i 's/^atheris==[^ ]*/& ; sys_platform == "linux" and platform_machine == "x86_64"/' requirements-dev.lock  # pip-compile drops it
	@mkdir -p .cache && sed 's/^\([A-Za-z0-9_.-]*\)\[[^]]*\]==/\1==/' requirements-dev.lock > .cache/constraints.txt  # which know no extras
	$(PIP_COMPILE) --extra compile --constraint .cache/constraints.txt --output-file requirements.lock pyproject.toml
	cd sidecar/native && $(PIP_COMPILE:$(BIN)/%=$(CURDIR)/$(BIN)/%) --output-file requirements.lock requirements.in

clean:
	rm -rf $(VENV) .cache build dist sidecar/native/target
