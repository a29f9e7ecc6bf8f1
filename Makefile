# make demo [DATA=folder]   the whole job on phantom slices, or on your own
# make test                 everything that this machine can run; make test-fast: without clusters, kills and the demo
# make test-lowest          the fast tests with the lowest minor versions that setup.cfg allows, in a virtual environment of its own
#                           [LOWEST_TESTS="files"  some of them; LOWEST_MARKS="not slurm"  slow ones too]
#                           [TESTS_AT_ONCE=2  test files that run at the same time, in all of these; each wants about a core and 2 GB]
# make coverage             lines that the tests reach, without clusters, kills and the demo; fails below 90 %
# make lint                 formatting, types, import contracts

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DATA   ?=
RUNS   ?= runs
LOWEST_MARKS ?= not slow and not slurm
TESTS_AT_ONCE ?= 2
PYTEST := -m pytest -n $(TESTS_AT_ONCE) --no-loadscope-reorder
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-fast test-lowest coverage lint install install-test clean

demo: install
	mkdir -p "$(RUNS)"
	cp docs/sweeps/demo.toml "$(RUNS)/demo.toml"
ifeq ($(DATA),)
	rm -rf "$(RUNS)/demo-slices"
	$(BIN)/python -m data_tools phantom "$(RUNS)/demo-slices" --subjects 48 --slices 12 --size 64
endif
	$(BIN)/python -m data_tools pack "$(or $(DATA),$(RUNS)/demo-slices)" --output "$(RUNS)/demo.h5" --overwrite
	$(BIN)/python -m jobs submit "$(RUNS)/demo.toml" --profile local --root "$(RUNS)"
	$(BIN)/python -m jobs status demo --root "$(RUNS)"
	@echo
	@echo "report:   $(RUNS)/demo/report.html"
	@echo "runs:     $(RUNS)/demo/runs/        metrics, pictures and weights of each member"
	@echo "pipeline: $(RUNS)/demo/pipeline/    codes, prior and generated slices of the best"

test: install-test
	$(BIN)/python $(PYTEST) $(PYTEST_ARGS)

test-fast: install-test
	$(BIN)/python $(PYTEST) -m "not slow and not slurm" $(PYTEST_ARGS)

test-lowest:
	$(PYTHON) -m venv $(VENV)-lowest
	sed -n '/^install_requires/,/^\[/s/^ *\([A-Za-z0-9_-]*\)>=\([0-9.]*\).*/\1==\2.*/p' setup.cfg > $(VENV)-lowest/constraints.txt
	$(VENV)-lowest/bin/python -m pip install --quiet --constraint $(VENV)-lowest/constraints.txt --editable '.[test]'
	$(VENV)-lowest/bin/python $(PYTEST) -m "$(LOWEST_MARKS)" $(LOWEST_TESTS) $(PYTEST_ARGS)

coverage: install-test
	COVERAGE_FILE="$(CURDIR)/.coverage" $(BIN)/python $(PYTEST) tests/data_tools tests/jobs tests/vqvae_dist tests/distributed tests/end_to_end/test_nothing_executes.py tests/end_to_end/test_no_pickles.py \
	    --cov --cov-config=setup.cfg --cov-report=term-missing:skip-covered --cov-fail-under=90 $(PYTEST_ARGS)

lint: install-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --config setup.cfg

install: $(VENV)/.installed
install-test: $(VENV)/.installed-test

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "Python 3.11 to 3.13 is needed; make PYTHON=... names one")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python setup.cfg pyproject.toml constraints.txt
	# A torch that is there already is kept; setup.cfg says which versions fit.
	if $(BIN)/python -c 'import torch' 2>/dev/null; then grep -v '^torch' constraints.txt; else cat constraints.txt; fi \
	    > $(VENV)/constraints.txt
	$(BIN)/python -m pip install --quiet --constraint $(VENV)/constraints.txt --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint $(VENV)/constraints.txt --editable '.[test,workspace]'
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-lowest build dist *.egg-info
