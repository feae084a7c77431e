# `make demo` and `make test` do everything on a fresh machine: create .venv, install with constraints.txt, run.
PYTHON ?= python3
JOBS ?= 2
PYTEST_ARGS ?=
BENCH_ARGS ?=
# PyPI's torch for Linux brings gigabytes of CUDA along, so the CPU index is asked first; where it cannot be reached,
# pip takes torch from wherever else it is configured to look. TORCH_INDEX= (empty) leaves the CPU index out.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

BIN := .venv/bin
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install -qq -c constraints.txt

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test slow lint bench mutants clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14
	@echo "variables: PYTHON=python3.11  JOBS=2 (test processes)  PYTEST_ARGS='-k rank'  BENCH_ARGS=--quick  TORCH_INDEX=url"

demo: .venv/.demo ## simulate the infinite-width limit of a network trained on real data
	@$(BIN)/tpsim run

test: lint ## lint, then run the tests (slow ones left out)
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(PYTEST_ARGS)

slow: .venv/.test ## run the slow tests
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m slow $(PYTEST_ARGS)

lint: .venv/.test ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/mypy

bench: .venv/.test ## measure speed, accuracy and memory, and write docs/performance.md (wants an idle machine)
	@$(BIN)/python -m benchmarks $(BENCH_ARGS)

mutants: .venv/.test ## plant bugs one by one and see that the tests find each, then write docs/reliability.md
	@$(BIN)/python -m tests.mutants

clean: ## remove .venv and every cache (results are kept)
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps are written last: an installation that was interrupted is taken up again.
.venv/.created:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=...")'
	@$(PYTHON) -m venv --clear .venv
	@touch $@

.venv/.demo: .venv/.created pyproject.toml constraints.txt
	@echo "installing tpsim into .venv"
	@$(PIP) -e .
	@touch $@

.venv/.test: .venv/.created pyproject.toml constraints.txt
	@echo "installing tpsim, torch and the test tools into .venv"
	@$(PIP) --no-deps --retries 0 $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	@$(PIP) -e '.[dev,finite]'
	@touch .venv/.demo $@
