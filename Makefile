.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Use it
demo: $(INSTALLED) ## Play a recorded incident from signal to verified rollback (no cluster needed)
	@$(BIN)/mcp-devops demo $(ARGS)

install: $(INSTALLED) ## Make .venv with the locked dependencies

##@ Work on it
test: $(INSTALLED) ## All tests that need no cluster
	$(BIN)/python -m pytest -n auto -m "not cluster and not client" $(ARGS)

test-cluster: $(INSTALLED) ## Tests against a real cluster (TEST_CLUSTER and KUBECONFIG set)
	$(BIN)/python -m pytest -n 5 --dist worksteal -m cluster $(ARGS)

test-clients: $(INSTALLED) ## Conformance suite, MCP Inspector and Claude Code from npm, where reachable
	$(BIN)/python -m pytest -m client tests/clients $(ARGS)

coverage: $(INSTALLED) ## Branch coverage of mcp_devops without cluster tests
	$(BIN)/python -m pytest -n auto -m "not cluster and not client" --cov --cov-report=term $(ARGS)

bench: $(INSTALLED) ## Ratios against named others, in one run each
	$(BIN)/python -m tests.benchmarks $(ARGS)

bench-response: $(INSTALLED) ## The unattended server against 28 incidents on a real cluster (about 20 minutes)
	$(BIN)/python -m tests.benchmarks.response $(ARGS)

lint: $(INSTALLED) ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED) ## Let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

generate: $(INSTALLED) ## Write what is derived from the code: README tool table, tool snapshots, the chart's rules
	UPDATE_SNAPSHOTS=1 $(BIN)/python -m pytest -q -m "not cluster and not client" \
	  tests/contract tests/rooms/deploy/test_chart.py

COMPILE := uv pip compile --universal --python-version 3.11 --no-header --generate-hashes \
  --no-emit-index-url -q
lock: ## Write requirements.lock and the image's part of it anew (needs uv)
	$(COMPILE) pyproject.toml --group dev --all-extras -o requirements.lock
	echo 'hatchling>=1.27' | $(COMPILE) pyproject.toml - --extra response --extra postgres \
	  -c requirements.lock --no-annotate -o deploy/requirements.lock

$(INSTALLED): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) ..."
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -r requirements.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -e .
	@touch $(INSTALLED)

.PHONY: help demo install test test-cluster test-clients coverage bench bench-response lint format generate lock
