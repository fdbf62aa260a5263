# mqlog. `make help` lists the targets.
#
# Everything is installed into .venv, from PyPI and crates.io; nothing has to be installed by hand
# but what tools/doctor.sh names. PYTHON=/path/to/python3 picks the interpreter.

PYTHON ?= python3
# Test processes side by side. Brokers under test want a core of their own.
JOBS ?= 2

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Crates that build against Python use the one of the venv, whoever starts cargo.
export PYO3_PYTHON := $(abspath $(BIN)/python)

SOURCES := Cargo.toml Cargo.lock pyproject.toml README.md LICENSE tools/build_cython.py \
    $(shell find rust cython python -type f ! -name '*.pyc' ! -name '*.so' ! -path '*/target/*')

.DEFAULT_GOAL := help
.PHONY: help
help: ## Lists the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-12s %s\n", $$1, $$2}'

# --- build ----------------------------------------------------------------------------------------

.PHONY: doctor
doctor: ## Checks that the tools the build needs are there
	@tools/doctor.sh "$(PYTHON)"

.PHONY: build
build: doctor $(VENV)/.installed ## Release build, installed in .venv (.venv/bin/mqlog)

$(VENV)/.created: | doctor
	@echo "make: creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade 'pip>=25.1'
	@touch $@

# One stamp per dependency group of pyproject.toml.
$(VENV)/.group-%: pyproject.toml $(VENV)/.created
	@echo "make: installing the $* tools into $(VENV)"
	@$(PIP) install --group $*
	@touch $@

$(VENV)/.installed: $(SOURCES) $(VENV)/.created | $(VENV)/.group-build
	@echo "make: building mqlog (release; the first time takes minutes)"
	@rm -rf build/wheel
	$(BIN)/maturin build --release --interpreter $(BIN)/python --out build/wheel
	@$(PIP) install --force-reinstall --no-deps build/wheel/*.whl
	@$(PIP) install build/wheel/*.whl
	@touch $@

.PHONY: wheel
wheel: build ## The wheel alone, in dist/
	@mkdir -p dist && cp build/wheel/*.whl dist/ && ls dist/*.whl

# --- demo -----------------------------------------------------------------------------------------

.PHONY: demo
demo: build $(VENV)/.group-demo ## Real data through an unmodified client, a SIGKILL, and a count
	@$(BIN)/python tools/demo.py

# --- tests ----------------------------------------------------------------------------------------

.PHONY: test
test: lint test-rust test-python ## All that must pass, under 15 minutes

.PHONY: lint
lint: build $(VENV)/.group-lint $(VENV)/.group-test ## Format, lints and types of all three languages
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --all-features -- -D warnings
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python tools/tidy.py

.PHONY: test-rust
test-rust: doctor ## Rust tests, the crash lab's short run among them; needs no Python
	cargo test --locked --no-fail-fast

.PHONY: test-python
test-python: build $(VENV)/.group-test ## Python tests against the installed build
	$(BIN)/python -m pytest -m 'not slow and not interop' -n $(JOBS) --dist loadgroup

.PHONY: test-long
test-long: build $(VENV)/.group-test ## The long runs: crash lab, fuzz, power loss (hours)
	cargo test --locked --release -- --ignored
	$(BIN)/python -m pytest -m 'slow and not interop' --timeout 0

.PHONY: interop
interop: build $(VENV)/.group-interop ## Every client, every codec; a missing tool is skipped by name
	$(BIN)/python -m pytest tests/interop --timeout 600

# --- benchmarks -----------------------------------------------------------------------------------

.PHONY: bench
bench: build $(VENV)/.group-bench ## The asv benchmarks on the installed build (numbers not saved)
	cd asv_bench && ../$(BIN)/asv machine --yes >/dev/null && \
	    ../$(BIN)/asv run --python=same --dry-run --show-stderr $(BENCH)

# --- the rest -------------------------------------------------------------------------------------

.PHONY: format
format: $(VENV)/.group-lint ## Formats all sources
	cargo fmt --all
	$(BIN)/ruff check --fix --exit-zero --quiet
	$(BIN)/ruff format

.PHONY: clean
clean: ## Removes what the build made
	rm -rf $(VENV) build dist target .asv .mypy_cache .ruff_cache .pytest_cache .hypothesis
