# Every command makes or refreshes .venv first; that takes a fraction of a second when nothing has changed.
#   PYTHON=python3.12   the Python that .venv is made with
#   TORCH=cpu           builds of torch without CUDA, remembered in .venv; TORCH=default goes back
#   TORCH_INDEX=...     where they lie, if not where uv finds them
#   ARGS=...            more arguments for the command
#   WORKERS=2           test processes; each computes with one thread

PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
BOOTSTRAP := $(PYTHON) scripts/bootstrap.py
TORCH_OPTIONS := $(if $(TORCH),--torch $(TORCH)) $(if $(TORCH_INDEX),--torch-index $(TORCH_INDEX))
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1
IN_VENV := PATH="$(CURDIR)/$(BIN):$$PATH"
PYTEST := $(IN_VENV) $(ONE_THREAD) python -m pytest -n $(WORKERS) --dist loadgroup

.DEFAULT_GOAL := help
.PHONY: help setup lab test test-all test-versions notebooks docs lint bench doctor native repair constraints

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## make .venv, install the pinned packages, build the native code
	@$(BOOTSTRAP) $(TORCH_OPTIONS)

lab: ## open the book in JupyterLab (on a server: make lab ARGS=--no-browser)
	@$(BOOTSTRAP) lab $(TORCH_OPTIONS) $(ARGS)

test: setup ## run all tests but the slow ones
	$(PYTEST) -m "not slow" $(ARGS)

test-all: setup ## run all tests, the long trainings too
	$(PYTEST) $(ARGS)

test-versions: ## try each supported Python in an environment of its own (ARGS="--full", "--newest")
	$(PYTHON) scripts/versions.py $(ARGS)

notebooks: setup ## build and execute the chapters from notebooks/dyhead_book
	$(IN_VENV) python -m dyhead_book.build $(ARGS)

docs: setup ## build the reference of the library and the book around it into build/docs
	$(IN_VENV) python -m sphinx --fail-on-warning --keep-going --quiet docs build/docs/reference
	$(IN_VENV) dyhead-lab book --out build/docs
	@echo "open build/docs/index.html"

lint: setup ## ruff, mypy and clang-format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	find csrc -name '*.cu' -o -name '*.cuh' -o -name '*.cpp' -o -name '*.h' | \
		xargs --no-run-if-empty $(BIN)/clang-format --dry-run --Werror

bench: setup ## measure the operators on this machine (ARGS=--quick for a short run)
	$(BIN)/dyhead-lab bench ops $(ARGS)

doctor: ## say what works on this machine and how to mend what does not
	@$(BOOTSTRAP) doctor

native: ## build the native code anew, after a compiler was installed
	@$(BOOTSTRAP) native

repair: ## check every package and install anew what is missing or changed
	@$(BOOTSTRAP) repair $(TORCH_OPTIONS)

constraints: ## write constraints.txt from what .venv holds
	$(BIN)/python scripts/write_constraints.py
