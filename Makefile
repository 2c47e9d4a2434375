# Two commands: `make fit` and `make test`. `make test-slow` runs the tests that take long.
VENV ?= .venv
BIN = $(VENV)/bin
PYTHON ?= python3

.PHONY: fit test test-slow test-fuzz check docs bench clean

fit: $(VENV)/.installed
	@$(BIN)/danlu fit digits

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not fuzz"

test-fuzz: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -m fuzz -rP

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed-dev
	$(BIN)/python docs/build.py

bench: $(VENV)/.installed-dev
	$(BIN)/pip install -q -c constraints.txt -e '.[bench]'
	for what in fit cost population population_cost search convnets sequences language cifar gpu; do $(BIN)/python benchmarks/$$what.py || exit 1; done

$(VENV)/bin/python:
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing danlu into $(VENV) (once)…"
	@$(BIN)/pip install -q -c constraints.txt -e .
	@touch $@

# All of the above and what tests need, in one go: every install resolves anew.
$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing danlu and its tests' tools into $(VENV) (once)…"
	@$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	@touch $(VENV)/.installed $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
