# `make help` lists what there is. Every target sets up what it needs; nothing is installed outside .venv and ~/.cache.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Every run of the engine starts Python several times, and takes twice as long where no bytecode is kept: images
# of containers like to forbid it.
export PYTHONDONTWRITEBYTECODE :=

PYTHON ?= python3
STACK ?= local
BIN := .venv/bin
# Writes the stack files' schema, the package's schema and docs/reference.md; with --check it fails on drift.
SCHEMA = eval "$$($(PYTHON) toolchain/stack.py env)"; $(BIN)/python -m components.schema

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

.PHONY: cluster
cluster: setup ## Make a Kubernetes node on this host, as root, or mend it; uses the one that KUBECONFIG names
	@$(BIN)/python -m toolchain.cluster up

.PHONY: cluster-down
cluster-down: setup ## Remove every trace of that node, but for caches
	@$(BIN)/python -m toolchain.cluster down

.PHONY: setup
setup: ## Make .venv from the lock, and find or make the Pulumi engine
	@$(PYTHON) toolchain/environment.py local
	@$(PYTHON) toolchain/engine.py >/dev/null

## Developing

.PHONY: setup-dev
setup-dev: ## The same, with what tests and checks need
	@$(PYTHON) toolchain/environment.py dev
	@$(PYTHON) toolchain/engine.py >/dev/null

.PHONY: test
test: ## Run all tests: unit, engine, serving
	@.ci/run tests

.PHONY: test-unit
test-unit: setup-dev ## Run the tests that need no engine
	@$(BIN)/pytest tests/unit -n 2

.PHONY: test-engine
test-engine: setup-dev ## Run the tests with the real Pulumi engine
	@$(BIN)/pytest tests/engine -n 2

.PHONY: test-cluster
test-cluster: setup-dev ## Run the tests on a Kubernetes cluster (`make cluster` makes one)
	@$(BIN)/pytest tests/cluster -n 3 --dist loadfile --no-loadscope-reorder

.PHONY: image
image: ## Build the image of the model server with docker or buildah (NAME=model-server)
	@$(PYTHON) toolchain/image.py $(or $(NAME),model-server)

.PHONY: lint
lint: setup-dev ## Check style: ruff check, ruff format
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

.PHONY: types
types: setup-dev ## Check types: mypy --strict
	@$(BIN)/mypy components stacks policies toolchain serving_image/model_server

.PHONY: schema
schema: setup-dev ## Write the schemas that editors and other languages read
	@$(SCHEMA)

.PHONY: schema-check
schema-check: setup-dev ## Fail if a committed schema is not what the code says
	@$(SCHEMA) --check

.PHONY: lock
lock: ## Make the locks from the pyproject files (UPGRADE=1: newest versions)
	@$(PYTHON) toolchain/lock.py $(if $(UPGRADE),--upgrade)

.PHONY: lock-check
lock-check: ## Fail if a lock is older than what it is made from; needs no network
	@$(PYTHON) toolchain/lock.py --check

.PHONY: bench
bench: setup-dev ## Measure `pulumi up` of the local stack beside an empty program
	@$(BIN)/python -m benchmarks.engine

.PHONY: bench-serving
bench-serving: ## Measure the model server beside others, each in an environment of its own
	@$(PYTHON) -m benchmarks.serving

.PHONY: clean
clean: ## Remove what was made here, but for a running stack's state
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info serving_image/*.egg-info
	@find . -name __pycache__ -type d -not -path './.git/*' -exec rm -rf {} +
