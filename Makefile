# Everything a fresh machine needs: Python 3.11 or newer, and make.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test test-full lint format setup

# Makes textures, renders a small labelled scene set, runs a whole pipeline over it, and says where the results are.
demo: $(READY)
	mkdir -p demo
	$(BIN)/synthaug texture synthesize method=model into=demo/textures count=32 metres=0.03
	$(BIN)/synthaug run demo

test: $(READY)
	$(BIN)/python -m pytest -n 2 -q

# All counts: every kill point, full soak runs. Up to an hour on two cores.
test-full: $(READY)
	$(BIN)/python -m pytest -n 2 -q -m "not gpu"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "synthaug needs Python 3.11 or newer on the PATH (or make PYTHON=...)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev,render,exr]"
	touch $(READY)
