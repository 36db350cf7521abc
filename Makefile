# Everything a fresh Debian 12 or 13 needs: `make demo` to see ramfw work, `make test` to test it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
SUITE ?= trixie
TARGET ?= test

.PHONY: help packages venv lint unit lab kernel machine test bench fuzz demo install uninstall lock fresh-root clean root

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

packages: ## Install the Debian packages that are missing (root)
	@tests/setup/packages.sh

venv: ## Make .venv, with a runnable .venv/bin/ramfw
	@tests/setup/venv.sh

lint: venv ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: venv ## Run the unit tests (seconds, no root)
	$(BIN)/python -m pytest tests/unit --numprocesses 2

# Most of what these three do is waiting, so two run at a time: modules, kernels, Debians. Debian's
# own systems that they need (1.3 GB) are fetched once, into build.
lab: root venv ## Run the lab tests: real engines and registries in namespaces (root)
	@tests/setup/machine.sh trixie
	$(BIN)/python -m pytest tests/lab --numprocesses 2 --dist loadfile

kernel: root venv ## Test on Debian's own Linux 6.1 and 6.12, emulated by QEMU (root, minutes)
	@tests/setup/kernel.sh bookworm trixie
	$(BIN)/python -m pytest tests/kernel --numprocesses 2 --dist loadgroup

machine: root venv ## Test on whole Debian 12 and 13 systems with systemd (root, minutes)
	@tests/setup/machine.sh bookworm trixie
	@tests/machine/side_by_side.sh

test: root ## Install what is needed and run all checks and tests (root)
	@for step in packages venv lint unit lab kernel machine; do \
	    echo "=== $$step"; \
	    $(MAKE) $$step; \
	done
	@echo "=== all passed"

demo: root ## Install what is needed and show ramfw at work (root)
	@$(MAKE) packages venv
	@$(BIN)/python -m tests.lab.demo

fuzz: venv ## Fuzz every decoder with atheris, SECONDS_EACH=60 (minutes, x86_64)
	@tests/fuzz/fuzz.sh

# BENCH_ROWS: names of rows, separated by spaces; PAIRS: interleaved pairs of each.
bench: root ## Measure ramfw and its peers side by side, into build/bench.json (root, minutes)
	@tests/setup/packages.sh bench
	@tests/setup/venv.sh
	@tests/setup/machine.sh trixie
	@$(BIN)/python -m tests.bench $(BENCH_ROWS) $(if $(PAIRS),--pairs $(PAIRS))

install: root ## Install ramfw as a service of this machine, or a new version of it (root)
	@tests/setup/packages.sh runtime
	@install/install.sh

uninstall: root ## Take the service, its rules, its user and its policy off this machine (root)
	@install/uninstall.sh

lock: ## Lock the newest versions of the requirements again (needs uv)
	for name in requirements requirements-build requirements-dev; do \
	    uv pip compile --no-config --quiet --upgrade --universal --python-version 3.11 \
	        --generate-hashes --custom-compile-command 'make lock' $$name.in -o $$name.txt; \
	done

fresh-root: root ## Run TARGET in a fresh Debian of SUITE, without touching this one (root, minutes)
	tests/setup/fresh-root.sh $(SUITE) $(TARGET)

clean: ## Remove what make made
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find ramfw tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The lab makes network namespaces, mounts and cgroups; packages are root's anyway.
root:
	@if (( EUID != 0 )); then \
	    echo "This needs root: run: sudo make $(firstword $(MAKECMDGOALS))" >&2; \
	    exit 1; \
	fi
