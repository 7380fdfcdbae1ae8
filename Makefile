# `make help` lists what there is. Every target sets up what it needs; nothing is installed outside .venv and ~/.cache.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
STACK ?= local
BIN := .venv/bin
TYPED := $(wildcard components stacks policies toolchain)

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1m%-14s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

## Running

.PHONY: up
up: setup ## Bring the stack up (STACK=local), then ask it for a prediction
	@$(PYTHON) toolchain/stack.py up $(STACK)
	@eval "$$($(PYTHON) toolchain/stack.py env)"; $(BIN)/python stacks/show.py $(STACK)

.PHONY: down
down: setup ## Take the stack down and remove every trace of it, but for caches
	@$(PYTHON) toolchain/stack.py down $(STACK)

.PHONY: shell
shell: setup ## Open a shell in which `pulumi` works as usual
	@eval "$$($(PYTHON) toolchain/stack.py env)"; exec "$${SHELL:-bash}"

.PHONY: env
env: ## Print what `make shell` sets, for `eval "$(make -s env)"`
	@$(PYTHON) toolchain/stack.py env

.PHONY: setup
setup: ## Make .venv from the lock, and find or make the Pulumi engine
	@$(PYTHON) toolchain/environment.py local
	@$(PYTHON) toolchain/engine.py >/dev/null

## Developing

.PHONY: setup-dev
setup-dev: ## The same, with what tests and checks need
	@$(PYTHON) toolchain/environment.py dev
	@$(PYTHON) toolchain/engine.py >/dev/null

.PHONY: lock
lock: ## Make the locks from the pyproject files (UPGRADE=1: newest versions)
	@$(PYTHON) toolchain/lock.py $(if $(UPGRADE),--upgrade)

.PHONY: clean
clean: ## Remove what was made here, but for a running stack's state
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
