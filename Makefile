# `make figures` and `make test` set up everything they need in .venv and leave nothing elsewhere.
PYTHON ?= python3
CORES ?= all
CONFIG ?= config/config.yaml
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

# A folder of wheels to install from, instead of from an index: make figures WHEELHOUSE=wheelhouse
WHEELHOUSE ?=
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(WHEELHOUSE),--no-index --find-links $(WHEELHOUSE))

.PHONY: help figures test docs unlock format pins schema wheelhouse clean

help:
	@echo "make figures   the embedded default: Figures 1 to 6 of the digits experiment, in results/digits/figures"
	@echo "make test      the tests; make test SLOW=1 runs those that take minutes too"
	@echo "make docs      the documentation, in site/index.html"
	@echo "make format    format and lint the sources and the workflow"
	@echo "make pins      after requirements.lock has changed: copy its pins to the conda environments and pre-commit"
	@echo "make schema    after the config models have changed: write config/schema.json"
	@echo "make wheelhouse  every package of .venv as a wheel, for computers without internet (docs/offline.md)"
	@echo "make unlock    after Snakemake was killed: lets it start again; nothing is lost"
	@echo "make clean     remove the environment; results stay"
	@echo "Variables: PYTHON (3.11 or newer), CORES (default all), CONFIG (default config/config.yaml),"
	@echo "  WHEELHOUSE (a folder of wheels to set up .venv from, without internet), SLOW (1: all tests)"

figures: .venv/complete
	snakemake --cores $(CORES) --configfile $(CONFIG) --quiet rules host
	@echo "Figures 1 to 6 are in results/$$(sed -n 's/^experiment: *//p' $(CONFIG))/figures"

# Four processes for two cores, as many tests wait for SLURM, locks and other processes.
test: .venv/complete
	python -m pytest -n 4 --dist loadfile --no-loadscope-reorder $(if $(SLOW),,-m "not slow")
	$(if $(SLOW),,@echo "Tests that take minutes were left out; make test SLOW=1 runs them too.")

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

# An environment of two packages: .venv would be downloaded for nothing.
wheelhouse:
	$(PYTHON) -m venv .venv-wheelhouse
	grep -E '^(packaging|tqdm)==' requirements.lock | .venv-wheelhouse/bin/python -m pip install --quiet --requirement /dev/stdin
	.venv-wheelhouse/bin/python envs/wheelhouse.py --folder wheelhouse
	rm -rf .venv-wheelhouse

clean:
	rm -rf .venv

# compileall uses several processes, pip only one. Both skip files that are for other versions of Python.
.venv/complete: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "lipscale needs Python 3.11 or newer; name one with make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(PIP_INSTALL) --no-compile --requirement requirements.lock
	@$(BIN)/python -m compileall -qq -j 4 .venv/lib || true
	$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@
