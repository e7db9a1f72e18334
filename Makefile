# What contributors, pre-commit and CI run. `make` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
READY_DEV := $(VENV)/ready-dev
N ?= 500
# Tests of what submits, which import no torch.
QUICK := $(wildcard tests/test_*.py) $(addprefix tests/,cli cluster config runs track)
SHELL_FILES := slurm/devcluster $(wildcard slurm/devcluster.lib/*.sh) slurm/system_packages .ci/run
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup demo test chaos methods check quick static lint types shell format wheel clean

help:
	@echo 'make demo     set up, then fine-tune a small model on this machine, start to finish (about 3 minutes)'
	@echo 'make test     set up, Slurm included, then run every test'
	@echo 'make check    format, lint, types, shellcheck and every test'
	@echo 'make quick    the part of check that takes about a minute: static checks, and tests of what submits'
	@echo 'make chaos    break N=500 short trainings in every way there is, overnight, and write docs/chaos.md'
	@echo 'make methods  train in every way there is with three seeds and a kill, an hour, and write docs/methods.md'
	@echo 'make format   rewrite sources in the project'"'"'s format'
	@echo 'make clean    remove what these targets made'

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	slurm/system_packages
	@echo '==> virtual environment in $(VENV), with the versions in constraints.txt (about a minute)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --use-pep517 --constraint constraints.txt --editable .
	@echo '==> compiling the communication op that DeepSpeed uses on CPUs (once, up to a minute)'
	DS_ACCELERATOR=cpu PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m launcher.node.warm_up
	@echo '==> the demo'"'"'s data, from the documentation of Python itself'
	$(BIN)/python recipes/demo_data.py demo_data
	@touch $@

$(READY_DEV): $(READY)
	@echo '==> tools for tests and checks'
	$(BIN)/pip install --quiet --use-pep517 --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python recipes/demo_run.py

test: $(READY_DEV)
	slurm/devcluster install
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

chaos: $(READY_DEV)
	slurm/devcluster install
	mkdir -p docs
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.faults.chaos $(N) --table docs/chaos.md

methods: $(READY_DEV)
	slurm/devcluster install
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.methods.acceptance --table docs/methods.md

check: static test

quick: static
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pytest -n 2 -m 'not slurm and not train and not slow' $(QUICK)

static: lint types shell

lint: $(READY_DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY_DEV)
	$(BIN)/mypy

shell: $(READY_DEV)
	$(BIN)/shellcheck $(SHELL_FILES)

format: $(READY_DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: $(READY_DEV)
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .

clean:
	-slurm/devcluster down
	rm -rf $(VENV) dist build demo_data runs .mypy_cache .ruff_cache .devcluster
