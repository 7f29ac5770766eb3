# `make figures` and `make test` set up everything they need in .venv and leave nothing elsewhere.
PYTHON ?= python3
CORES ?= all
CONFIG ?= config/config.yaml
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help figures test docs unlock format pins schema clean

help:
	@echo "make figures   the embedded default: Figures 1 to 5 of the digits experiment, in results/digits/figures"
	@echo "make test      the tests"
	@echo "make docs      the documentation, in site/index.html"
	@echo "make format    format and lint the sources and the workflow"
	@echo "make pins      after requirements.lock has changed: copy its pins to the conda environments and pre-commit"
	@echo "make schema    after the config models have changed: write config/schema.json"
	@echo "make unlock    after Snakemake was killed: lets it start again; nothing is lost"
	@echo "make clean     remove the environment; results stay"
	@echo "Variables: PYTHON (3.11 or newer), CORES (default all), CONFIG (default config/config.yaml)"

figures: .venv/complete
	snakemake --cores $(CORES) --configfile $(CONFIG) --quiet rules host
	@echo "Figures 1 to 5 are in results/$$(sed -n 's/^experiment: *//p' $(CONFIG))/figures"

# Three processes for two cores, as some tests wait for SLURM, locks and other processes.
test: .venv/complete
	python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

docs: .venv/complete
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict

unlock: .venv/complete
	snakemake --cores 1 --configfile $(CONFIG) --unlock

format: .venv/complete
	ruff check --fix .
	ruff format .
	snakefmt Snakefile workflow
	snakemake --lint

pins: .venv/complete
	python envs/pin.py

schema: .venv/complete
	python -m lipscale.config.schema > config/schema.json

clean:
	rm -rf .venv

.venv/complete: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "lipscale needs Python 3.11 or newer; name one with make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
