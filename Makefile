# Each target does all of its own set-up: `make demo` and `make test` work in a fresh clone.
PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= dev,local,server,postgres,otel
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed-$(subst $(comma),-,$(EXTRAS))
comma := ,

.PHONY: demo train-demo retention-before retention-after test test-oldest test-newest test-slow test-clients test-chaos test-cluster mutate check docs dist format install clean

demo: install
	$(BIN)/stairstream pull
	$(BIN)/stairstream demo

RUN := runs/aggregator
TRAIN := examples/train_aggregator.yaml
PROBE := --data $(RUN)/held_out.jsonl --limit 60 --policy first_chunk=16 --policy first_chunk=16,slope=0.25 --layout rounds --layout insert

HALF := $(shell echo $$(( ($$(getconf _NPROCESSORS_ONLN) + 1) / 2 )))

# both evaluations at a time, on half of the cores each: threads of one process wait for each other more;
# TTY_COMPATIBLE (of rich): lines, where two bars would write over each other
train-demo:
	$(MAKE) install EXTRAS=dev,train,eval
	$(BIN)/stairstream pull
	$(BIN)/stairstream train $(TRAIN)
	TTY_COMPATIBLE=0 $(MAKE) -j2 retention-before retention-after
	$(BIN)/python -m bench.training --run $(RUN) --before $(RUN)/before --after $(RUN)/after

retention-before:
	$(BIN)/stairstream eval retention $(PROBE) --threads $(HALF) --out $(RUN)/before

retention-after:
	$(BIN)/stairstream eval retention $(PROBE) --threads $(HALF) --model $(RUN)/model --out $(RUN)/after

test: install
	$(BIN)/pytest -m "not slow" -n auto --dist loadfile

# the tests of training with the oldest transformers that pyproject.toml allows, laid over the newest; torch stays
OLDEST := $(shell sed -n 's/.*"transformers>=\([0-9.]*\)".*/\1/p' pyproject.toml | head -1)

test-oldest: install
	$(BIN)/python -m pip install --quiet --upgrade --target $(VENV)/oldest 'transformers==$(OLDEST).*'
	PYTHONPATH=$(abspath $(VENV)/oldest) $(BIN)/pytest tests/train -m "not slow"
	PYTHONPATH=$(abspath $(VENV)/oldest) $(BIN)/pytest tests/train/test_run.py -k learns_and_leaves

# the tests with the newest version of everything that pyproject.toml allows; what its bounds hold back is listed
test-newest:
	$(MAKE) install VENV=$(VENV)-newest
	$(VENV)-newest/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager --editable '.[$(EXTRAS)]'
	$(VENV)-newest/bin/python -m pip list --outdated
	$(VENV)-newest/bin/pytest -m "not slow"

test-slow: install
	$(BIN)/stairstream pull
	$(BIN)/pytest -m slow

# a thousand durable answers while their processes are killed
test-chaos: install
	CHAOS_ANSWERS=1000 $(BIN)/pytest tests/chaos -m slow -s

# a Ray cluster of three nodes on this machine, parts of which are killed; Ray has an environment of its own
test-cluster:
	$(MAKE) install VENV=$(VENV)-ray EXTRAS=dev,local,server,postgres,ray,ray-train,train
	$(VENV)-ray/bin/pytest tests/cluster

# which changes of a file no test notices: make mutate FILES="core/policy.py core/decisions.py"
mutate: install
	$(BIN)/python -m pip install --quiet 'cosmic-ray>=8.7'
	$(BIN)/python -m bench.mutation $(FILES)

# clients that people use, as they are: Python packages of the extra `clients`, and for Node in node_modules
NODE_CLIENTS := openai@6 @anthropic-ai/sdk@1 ai@6 @ai-sdk/openai@3

test-clients:
	$(MAKE) install EXTRAS=dev,local,server,postgres,otel,clients
	npm install --no-save --no-package-lock --prefix . $(NODE_CLIENTS)
	$(BIN)/pytest tests/test_apps.py tests/server/test_clients.py tests/server/test_node_clients.py tests/server/messages tests/server/responses

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# the site, into build/site; a link, an anchor or an image that leads nowhere fails
docs:
	$(MAKE) install EXTRAS=docs,local,server
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

# what is uploaded to PyPI, into dist: built, checked, and installed into an environment of its own
dist:
	rm -rf dist build/dist
	$(PYTHON) -m venv build/dist
	build/dist/bin/python -m pip install --quiet build twine
	build/dist/bin/python -m build
	build/dist/bin/twine check --strict dist/*
	build/dist/bin/python -m pip install --quiet "$$(ls dist/*.whl)[server]"
	build/dist/bin/stairstream demo --simulated

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

install: $(INSTALLED)

$(INSTALLED): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]'
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-newest $(VENV)-ray build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
