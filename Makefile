# Two commands on a fresh machine: `make demo` and `make test`. Everything goes into .venv and runs/.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint format clean

help:
	@echo "make demo       install, train on the embedded corpus, print the word error rate, transcribe a clip"
	@echo "make test       install, lint, check types, run the tests"
	@echo "make test-slow  the tests that take longer"
	@echo "make format     put the code into the project's form"
	@echo "make clean      remove .venv and runs"

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: $(VENV)/installed
	$(BIN)/asr run spoken_commands
	$(BIN)/asr transcribe data/spoken_commands/clip.opus --model runs/spoken_commands

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/pytest

test-slow: $(VENV)/installed-dev
	$(BIN)/pytest -m slow

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) runs build dist
