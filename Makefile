# make help lists the targets.
PYTHON ?= python3
PORT ?= 8000
JSON ?=
ROUNDS ?= 2
SEED ?= 0
BENCH_DEVICE ?= cpu
BENCH_STEPS ?= 4
BENCH_THREADS ?= 1
EXPERTS ?= 8
JUDGEMENTS ?= 1000 1000000
BENCH_SECONDS ?= 20
BIN := .venv/bin

.PHONY: help demo install install-dev test loop bench-dpo bench-judging check messages clean-loop

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: .venv/installed ## Run everything on this machine: http://127.0.0.1:8000 (PORT=8001 for another)
	@STORYLOOP_DEMO=true $(BIN)/python manage.py demo --port $(PORT)

test: .venv/installed-dev ## Run the whole test suite
	@$(BIN)/python -m pytest $(ARGS)

loop: .venv/installed clean-loop ## The loop without a browser: simulated experts, ROUNDS=2, a table; JSON=path for the figures
	@DATABASE_URL= CELERY_BROKER_URL= STORYLOOP_VAR=var/loop $(BIN)/python manage.py loop --rounds $(ROUNDS) --seed $(SEED) $(if $(JSON),--json $(JSON))

install: .venv/installed ## Make .venv with the pinned dependencies

install-dev: .venv/installed-dev ## The same, with what tests and checks need

bench-dpo: .venv/installed-dev ## Our trainer against TRL's: CPU seconds, wall clock, memory; BENCH_STEPS=64, BENCH_DEVICE=cuda, JSON=path
	@$(BIN)/python -m training.bench --device $(BENCH_DEVICE) --steps $(BENCH_STEPS) --threads $(BENCH_THREADS) $(if $(JSON),--json $(JSON)) $(ARGS)

bench-judging: .venv/installed ## EXPERTS=8 judge without pause with JUDGEMENTS="1000 1000000" stored: how long they wait; BENCH_SECONDS=20, JSON=path
	@rm -rf var/bench-judging
	@DATABASE_URL= CELERY_BROKER_URL= STORYLOOP_VAR=var/bench-judging $(BIN)/python manage.py bench_judging --experts $(EXPERTS) --judgements $(JUDGEMENTS) --seconds $(BENCH_SECONDS) --seed $(SEED) $(if $(JSON),--json $(JSON))

check: .venv/installed-dev ## Lint, types, import rules, migrations
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@$(BIN)/mypy config generation annotate training
	@$(BIN)/python manage.py makemigrations --check --dry-run

messages: .venv/installed-dev ## Compile the Chinese catalogue
	@$(BIN)/pybabel compile --directory locale --domain django

clean-loop:
	@rm -rf var/loop

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
