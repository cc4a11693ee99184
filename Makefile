# The front door. `make run` and `make test` need only Python 3.11+, make and git: they set up .venv by themselves.

PROFILE ?= laptop
VENV := .venv
BIN := $(VENV)/bin
# How long a thread of PyTorch's waits awake for another. By GNU OpenMP's own number, 300,000, two threads that share two
# processors with other work train 12 times slower than alone; by this one 4 times, and alone they are as fast.
export GOMP_SPINCOUNT ?= 20000
# Stamps of what is installed. They change with the requirements and with the clone's place, to which helpers/ is linked.
SETUP := scripts/setup.sh scripts/install/*.py pyproject.toml
stamp = .ready-$(shell (pwd; cat $(1) $(SETUP)) 2>/dev/null | cksum | cut -d' ' -f1)
READY := $(VENV)/$(call stamp,requirements.txt)
DEV := $(VENV)/$(call stamp,requirements.txt requirements-dev.txt)
# A stamp counts only while the interpreter under it runs: an update of the system or of a Studio image may take it away.
alive = $(if $(shell $(1)/bin/python -c 'print(1)' 2>/dev/null),,gone)

# Some images put their own packages on PYTHONPATH, where they would win over those of .venv. PYTHONOPTIMIZE takes away
# the notebooks' checks, PYTHONDONTWRITEBYTECODE 15 seconds of every start, the others break libraries.
unexport PYTHONPATH PYTHONHOME PYTHONOPTIMIZE PYTHONSAFEPATH PYTHONWARNINGS PYTHONDONTWRITEBYTECODE

# The Trainium code runs in an environment of its own: torch-xla is tied to one torch, and ends at Python 3.11 here.
REHEARSAL := .venv-rehearsal
REHEARSAL_REQUIREMENTS := tests/rehearsal/requirements.txt
REHEARSAL_READY := $(REHEARSAL)/$(call stamp,$(REHEARSAL_REQUIREMENTS))

# The newest releases of the libraries: where tomorrow's user comes from.
NEWEST := .venv-newest
NEWEST_READY := $(NEWEST)/$(call stamp,requirements-newest.txt)
NEWEST_TESTS := tests/objective tests/data tests/evaluation $(addprefix tests/training/test_,base_model.py orpo.py autocast.py door.py dpo.py layout_check.py models.py model_options.py policy.py recipe.py several_processes.py sft.py stages.py trainer_evaluation.py trl_arguments.py trls_own_orpo_tests.py updates.py) tests/runs/test_damaged_checkpoints.py tests/test_drift.py
# Not 00: it refuses what is not at the workshop's pins. Not 09: it takes the server of transformers 4.57
NEWEST_NOTEBOOKS := 01 02 03 04 05 06 07 08

.DEFAULT_GOAL := help
.PHONY: gone help setup run lab demo test rehearse newest lint format exercises figures bench techniques record notebooks clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

setup: $(READY) ## make .venv and the kernel "ORPO workshop" (PYTHON=python3.12 chooses the interpreter, PIP_ARGS adds to pip install)
	@$(BIN)/python scripts/kernel.py register

$(READY): $(call alive,$(VENV))
	@bash scripts/setup.sh $(VENV) $@
	@$(BIN)/python scripts/kernel.py offer

$(DEV): $(READY)
	@$(BIN)/python -m scripts.install requirements-dev.txt && touch $@

run: $(READY) ## the workshop, headless (PROFILE=smoke|laptop, NOTEBOOKS="00 01", SOURCE=mine.jsonl, SEED=0, FRESH=1)
	@$(if $(SEED),WORKSHOP_SEED=$(SEED)) $(BIN)/python scripts/run_workshop.py --profile "$(PROFILE)" --notebooks "$(NOTEBOOKS)" --source "$(SOURCE)" $(if $(FRESH),--fresh)

lab: $(READY) ## JupyterLab with the kernel "ORPO workshop"
	@$(BIN)/python -m jupyterlab --notebook-dir=. --LabApp.default_url=/lab/tree/notebooks/00_preflight.ipynb $(LAB_ARGS)

demo: $(READY) ## JupyterLab with notebooks/demo.ipynb: a recorded run through the same views, with no model and no network
	@$(BIN)/python -m jupyterlab --notebook-dir=. --LabApp.default_url=/lab/tree/notebooks/demo.ipynb $(LAB_ARGS)

test: $(DEV) ## the tests; notebooks are executed with PROFILE=smoke (TESTS="-k odds" selects)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 15 $(TESTS)

$(REHEARSAL_READY): $(call alive,$(REHEARSAL))
	@bash scripts/setup.sh $(REHEARSAL) $@ $(REHEARSAL_REQUIREMENTS) 3.11

rehearse: $(REHEARSAL_READY) ## the Trainium code, executed on XLA's CPU device (Python 3.11, which uv or conda fetches; no Trainium)
	@OMP_NUM_THREADS=1 TORCHINDUCTOR_COMPILE_THREADS=1 $(REHEARSAL)/bin/python -m pytest -n 2 --dist worksteal tests/rehearsal $(TESTS)

$(NEWEST_READY): $(call alive,$(NEWEST))
	@bash scripts/setup.sh $(NEWEST) $@ requirements-newest.txt

newest: $(NEWEST_READY) ## the trainers' tests, and every notebook, on the newest transformers, TRL, PEFT and accelerate
	@$(NEWEST)/bin/python -m pytest $(NEWEST_TESTS) $(TESTS)
	@$(if $(TESTS),,$(NEWEST)/bin/python scripts/run_workshop.py --profile smoke --fresh --runs-dir $(NEWEST)/runs --notebooks "$(NEWEST_NOTEBOOKS)")

lint: $(DEV) ## ruff, notebooks included
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: $(DEV) ## let ruff fix what it can
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

exercises: $(READY) ## run notebooks/solutions/ and make notebooks/exercises/ from them
	@$(BIN)/python -m scripts.make_exercises

figures: $(READY) ## docs/imgs/, the tables of the pages and the times in the notebooks, from docs/results/
	@$(BIN)/python -m scripts.make_figures

bench: $(READY) ## our ORPO step beside TRL's, Liger-Kernel's and SFT's, into docs/results/ (a quarter of an hour)
	@$(BIN)/python -m pip install --quiet --no-deps --disable-pip-version-check $(PIP_ARGS) -r benchmarks/requirements.txt
	@$(BIN)/python -m benchmarks.bench $(BENCH_ARGS)

techniques: $(READY) ## SFT, DPO, RLHF and ORPO beside each other, three seeds, into docs/results/ (about two hours)
	@$(BIN)/python -m helpers.techniques $(TECHNIQUES_ARGS)

record: $(READY) ## copy the latest run into docs/results/ (RUN=runs/… names another)
	@$(BIN)/python scripts/record_results.py $(or $(RUN),runs/latest)

notebooks: $(READY) ## put the outputs of the latest run into notebooks/ (RUN=runs/… names another), and those of the recorded hour
	@$(BIN)/python -m scripts.publish_notebooks $(or $(RUN),runs/latest)
	@$(BIN)/python -m scripts.publish_demo

clean: ## remove the environments, the kernel, cached models; runs/ stays
	@[ ! -x $(BIN)/python ] || $(BIN)/python scripts/kernel.py remove
	@rm -rf $(VENV) $(REHEARSAL) $(REHEARSAL)-python $(NEWEST) .cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	@[ ! -d runs ] || echo "runs/ is kept: your results. rm -r runs deletes them."
