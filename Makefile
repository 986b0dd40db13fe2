# Every command makes or refreshes .venv first; that takes a fraction of a second when nothing has changed.
#   PYTHON=python3.12   the Python that .venv is made with
#   ARGS=...            more arguments for the command
#   WORKERS=2           test processes; each computes with one thread

PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
ROOT_USER := $(if $(filter 0,$(shell id -u)),--allow-root)
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1
IN_VENV := PATH="$(CURDIR)/$(BIN):$$PATH"
PYTEST := $(IN_VENV) $(ONE_THREAD) python -m pytest -n $(WORKERS) --dist loadgroup

.DEFAULT_GOAL := help
.PHONY: help setup lab test test-all notebooks lint bench doctor native repair constraints

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## make .venv, install the pinned packages, build the native code
	@$(PYTHON) scripts/bootstrap.py

lab: setup ## open the book in JupyterLab (on a server: make lab ARGS=--no-browser)
	$(IN_VENV) jupyter lab $(ROOT_USER) --ServerApp.root_dir="$(CURDIR)" \
		--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb $(ARGS)

test: setup ## run all tests but the slow ones
	$(PYTEST) -m "not slow" $(ARGS)

test-all: setup ## run all tests, the long trainings too
	$(PYTEST) $(ARGS)

notebooks: setup ## build and execute the chapters from notebooks/dyhead_book
	$(IN_VENV) python -m dyhead_book.build $(ARGS)

lint: setup ## ruff, mypy and clang-format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	find csrc -name '*.cu' -o -name '*.cuh' -o -name '*.cpp' -o -name '*.h' | \
		xargs --no-run-if-empty $(BIN)/clang-format --dry-run --Werror

bench: setup ## measure the operators on this machine (ARGS=--quick for a short run)
	$(BIN)/dyhead-lab bench ops $(ARGS)

doctor: setup ## say what works on this machine and how to mend what does not
	$(BIN)/dyhead-lab doctor

native: ## build the native code anew, after a compiler was installed
	@$(PYTHON) scripts/bootstrap.py --native

repair: ## check every package and install anew what is missing or changed
	@$(PYTHON) scripts/bootstrap.py --repair

constraints: ## write constraints.txt from what .venv holds
	$(BIN)/python scripts/write_constraints.py
