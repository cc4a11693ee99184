# The front door. `make run` and `make test` need only Python 3.11+, make and git: they set up .venv by themselves.

PROFILE ?= laptop
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready-$(shell cat requirements.txt scripts/setup.sh 2>/dev/null | cksum | cut -d' ' -f1)

# The Trainium code runs in an environment of its own: torch-xla is tied to one torch, and ends at Python 3.11 here.
REHEARSAL := .venv-rehearsal
REHEARSAL_REQUIREMENTS := tests/rehearsal/requirements.txt
REHEARSAL_READY := $(REHEARSAL)/.ready-$(shell cat $(REHEARSAL_REQUIREMENTS) scripts/setup.sh | cksum | cut -d' ' -f1)

# The newest releases of the libraries: where tomorrow's user comes from.
NEWEST := .venv-newest
NEWEST_READY := $(NEWEST)/.ready-$(shell cat requirements-newest.txt scripts/setup.sh | cksum | cut -d' ' -f1)
NEWEST_TESTS := tests/objective tests/data tests/evaluation $(addprefix tests/training/test_,base_model.py orpo.py)

.DEFAULT_GOAL := help
.PHONY: help setup run lab test rehearse newest lint format figures bench techniques record clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

setup: $(READY) ## make .venv (PYTHON=python3.12 chooses the interpreter, PIP_ARGS adds to pip install)

$(READY):
	@bash scripts/setup.sh $(VENV) $(READY)

run: $(READY) ## the workshop, headless (PROFILE=smoke|laptop, NOTEBOOKS="00 01", SEED=0, FRESH=1)
	@$(if $(SEED),WORKSHOP_SEED=$(SEED)) $(BIN)/python scripts/run_workshop.py --profile "$(PROFILE)" --notebooks "$(NOTEBOOKS)" $(if $(FRESH),--fresh)

lab: $(READY) ## JupyterLab with the kernel "ORPO workshop"
	@$(BIN)/jupyter lab --notebook-dir=. --LabApp.default_url=/lab/tree/notebooks/00_preflight.ipynb $(LAB_ARGS)

test: $(READY) ## the tests; notebooks are executed with PROFILE=smoke (TESTS="-k odds" selects)
	@$(BIN)/python -m pytest $(TESTS)

$(REHEARSAL_READY):
	@bash scripts/setup.sh $(REHEARSAL) $(REHEARSAL_READY) $(REHEARSAL_REQUIREMENTS) 3.11

rehearse: $(REHEARSAL_READY) ## the Trainium code, executed on XLA's CPU device (needs Python 3.11; no Trainium)
	@$(REHEARSAL)/bin/python -m pytest -n 2 --dist worksteal tests/rehearsal $(TESTS)

$(NEWEST_READY):
	@bash scripts/setup.sh $(NEWEST) $(NEWEST_READY) requirements-newest.txt

newest: $(NEWEST_READY) ## the trainer's tests on the newest transformers, TRL, PEFT and accelerate
	@$(NEWEST)/bin/python -m pytest $(NEWEST_TESTS) $(TESTS)

lint: $(READY) ## ruff, notebooks included
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: $(READY) ## let ruff mend what it can
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

figures: $(READY) ## docs/imgs/ and the README's table, from docs/results/
	@$(BIN)/python scripts/make_figures.py

bench: $(READY) ## our ORPO step beside TRL's, Liger-Kernel's and SFT's, into docs/results/ (a quarter of an hour)
	@$(BIN)/python -m pip install --quiet --no-deps --disable-pip-version-check $(PIP_ARGS) -r benchmarks/requirements.txt
	@$(BIN)/python -m benchmarks.bench $(BENCH_ARGS)

techniques: $(READY) ## SFT, DPO, RLHF and ORPO beside each other, three seeds, into docs/results/ (about two hours)
	@$(BIN)/python -m helpers.techniques $(TECHNIQUES_ARGS)

record: $(READY) ## copy the latest run into docs/results/ (RUN=runs/… names another)
	@$(BIN)/python scripts/record_results.py $(or $(RUN),runs/latest)

clean: ## remove .venv, cached models and runs
	@rm -rf $(VENV) $(REHEARSAL) $(NEWEST) .cache runs .pytest_cache .ruff_cache .hypothesis
