# nvgen_aug: `make demo` and `make test` start from a bare clone. `make help` lists the rest.

# Any Python from 3.11 on; for another one: make PYTHON=python3.12 demo
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Written last, so that an install which was cut short is done again.
STAMP := $(VENV)/.installed

# Where `make demo` writes its report, and what else it is told, such as
# make demo DEMO='--data /scans/Task01 --labels tumour=4'
OUT ?= demo-report
DEMO ?=

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow benchmarks lint format clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## The package and its tools in .venv, if they are not there yet

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, this is " + sys.version.split()[0] + "; try: make PYTHON=python3.12")'
	@echo "Installing into $(VENV): some minutes, and only this once."
	@rm -f $(STAMP)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@# nnU-Net brings a torchvision that a CPU build of torch cannot load, and then Lightning neither.
	@$(BIN)/python -c 'import torchvision' 2>/dev/null || $(BIN)/python -m pip uninstall --quiet --yes torchvision
	@touch $(STAMP)

demo: $(STAMP) ## Train a segmenter on real and synthetic volumes, and write demo-report/report.html
	$(BIN)/nvgen-aug demo --out $(OUT) $(DEMO)

test: lint ## Style, types and the quick tests: some minutes
	@# A thread each: networks of two processes with a thread for every core wait for each other.
	OMP_NUM_THREADS=1 $(BIN)/pytest -m 'not slow' -n 2 --dist loadfile

test-slow: $(STAMP) ## The slow tests, and every benchmark once with --quick
	$(BIN)/pytest -m slow
	$(MAKE) --no-print-directory benchmarks QUICK=--quick

benchmarks: $(STAMP) ## Every benchmark in full, its record, and docs/benchmarks.md from all records
	$(BIN)/nvgen-aug bench $(QUICK)
	$(if $(QUICK),,$(BIN)/python -m benchmarks.tables)

lint: $(STAMP) ## Style and types alone
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(STAMP) ## Mend the style where a tool can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## Everything that make or a test has made, .venv too
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis demo-report
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
