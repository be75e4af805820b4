# make demo: the main job on a bare machine.  make test: every check and test.  make docs: the pages and the API reference.
PYTHON ?= python3
BIN := .venv/bin
# Processes that run tests; each needs some 2 GB.
WORKERS ?= 2

.PHONY: demo test docs lint clean

demo: .venv/runtime
	$(BIN)/vps-ros demo -o demo --force

test: .venv/tests
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
	$(BIN)/mkdocs build --strict
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

# site/index.html; a broken link or reference is an error.
docs: .venv/tests
	$(BIN)/mkdocs build --strict

lint: .venv/tests
	$(BIN)/ruff check --fix . && $(BIN)/ruff format . && $(BIN)/mypy

.venv/runtime: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -e ".[demo]"
	@touch $@

# torch is pinned: every machine tests the same one.
.venv/tests: pyproject.toml .venv/runtime
	$(BIN)/pip install -q torch==2.13.0
	$(BIN)/pip install -q -e ".[test,train,evaluate,live,fleet,view,foxglove,docs]" ruff mypy
	$(BIN)/pip install -q --no-deps "trackeval>=1.3"
	@touch $@

clean:
	rm -rf .venv demo site
