# The front door: `make` lists the targets. Each sets up .venv first if that is missing or out of date.
# Another interpreter: make run PYTHON=/path/to/python3.12

PYTHON ?= python3
VENV ?= .venv
ARGS ?=

python := $(VENV)/bin/python
# The stamp's name is a hash of what decides the environment: the pins, and the place (a venv
# cannot be moved). Written last, so an interrupted set-up leaves none.
pins := $(shell { pwd; cat pyproject.toml constraints.txt; } | cksum | tr ' ' -)
stamp := $(VENV)/.ready-$(pins)
begun := $(VENV)/.installing
notebooks := 01_data_generation 02_teacher 03_student_distillation 06_attention_visualization
overlays := -f params/base.yaml -f params/synthetic.yaml -f params/cpu.yaml

.PHONY: help setup run lab index test lint verify-published clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' Makefile

setup: $(stamp) ## create .venv with the pinned packages (the other targets do it by themselves)

run: $(stamp) ## train teacher and student on drawn faces, print the paths of the reports
	@$(python) -m gmelib.run $(notebooks:%=notebooks/%.ipynb) $(overlays) $(ARGS)

lab: $(stamp) ## open JupyterLab; every notebook runs top to bottom as it is
	@$(python) -m jupyterlab $(ARGS)

index: $(stamp) ## write outputs/index.html: every run, its state, figures and reports on one page
	@$(python) -m gmelib.index $(ARGS)

test: $(stamp) lint ## ruff, then all tests; choose with ARGS="tests/test_model.py -k dbam"
	@$(python) -m pytest -q $(ARGS)

lint: $(stamp) ## ruff over gmelib, tests and notebooks
	@$(python) -m ruff check .

verify-published: $(stamp) ## recompute every published figure from its record; needs no data set
	@$(python) -m gmelib.published

clean: ## delete caches and half-executed notebooks; keeps .venv and every run
	rm -rf .pytest_cache .ruff_cache build gmelib.egg-info outputs/.cache outputs/.unfinished
	find . -path ./$(VENV) -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) \
		-prune -exec rm -rf {} +

$(stamp):
	@command -v "$(PYTHON)" >/dev/null 2>&1 || { \
		echo "$(PYTHON): not found; install Python 3.11 to 3.14 or name one: make PYTHON=/path/to/python3" >&2; \
		exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' || { \
		echo "$(PYTHON): is $$("$(PYTHON)" -V 2>&1); expected 3.11 to 3.14; name one: make PYTHON=/path/to/python3" >&2; \
		exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON): has no venv module; install it (Debian, Ubuntu: apt install python3-venv)" >&2; \
		exit 1; }
	@echo "Setting up $(VENV): once, takes minutes and up to 6 GB (PyTorch with CUDA on x86_64)"
	@rm -f $(VENV)/.ready-*
	@if [ -e $(begun) ] || ! $(python) -m pip --version >/dev/null 2>&1; then \
		"$(PYTHON)" -m venv --clear $(VENV); fi
	@touch $(begun)
	$(python) -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@rm $(begun)
	@touch $@
