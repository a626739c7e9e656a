# The commands of this project. `make help` lists them. Everything lives in .venv, .dagster and .llama-assets here.
PYTHON ?= python3
BIN := .venv/bin
GIVEN_IMAGE := $(IMAGE)
IMAGE ?= llama-assets:latest
KIT ?= ../shared/cluster/cluster
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
.DEFAULT_GOAL := help

help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-17s %s\n", $$1, $$2}'

demo: .venv/demo ## the whole graph on generated models, in under a minute: Hub to verdict
	@$(BIN)/python -m llama_assets.demo

ui: .venv/demo ## the Dagster UI on the same instance, http://127.0.0.1:3000
	@echo "The demo's runs are here. What you materialize here follows your own settings: the Hub's real files, your photos."
	$(BIN)/dagster dev -w workspace.yaml

# KUBECONFIG names the cluster; the test kit beside the checkout is used where it is not set. IMAGE=registry/name:tag
# for a cluster that only a registry reaches; LLAMA_SWAP_IMAGE for a real llama-swap; DRY_RUN=1 only says what it would make.
cluster-demo: .venv/demo ## the same on a Kubernetes cluster: Jobs, llama-swap, a tenant's card leased and given back
	@$(BIN)/python -m llama_assets.demo.cluster up --kit "$(KIT)" --image "$(GIVEN_IMAGE)" $(if $(DRY_RUN),--dry-run)

cluster-demo-down: .venv/demo ## remove every trace of it from the cluster
	@$(BIN)/python -m llama_assets.demo.cluster down --kit "$(KIT)" --image "$(GIVEN_IMAGE)"

test: ahead .venv/dev ## lint, types, import contract, and every test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory chromium
	$(BIN)/pytest --numprocesses 5

# docker where there is one, else the builder of the test cluster, which puts the image on its node at once.
image: ## build the image that tasks, Dagster and the reaper run in (IMAGE=name:tag)
	@if docker info >/dev/null 2>&1; then \
	  docker build --tag $(IMAGE) . && docker image inspect --format '$(IMAGE) has {{.Size}} bytes' $(IMAGE); \
	elif [ -x $(KIT) ]; then flock /tmp/llama-assets-image.lock $(KIT) build $(IMAGE) .; \
	else echo "make image needs docker, or the test cluster's kit at $(KIT)"; exit 2; fi

figures: .venv/dev ## measure ourselves beside the rivals; prints JSON lines
	@$(BIN)/python -m figures

faults: .venv/dev ## strike the GPU lease on a real cluster, every step times every fault; the long run (SEED=n), an hour
	$(BIN)/python -m tests.faults.lease --times 5 --side-by-side 6 --seed $(or $(SEED),1)
	$(BIN)/pytest -s --long -k "run_pod or tainted" tests/manifests/test_installation.py tests/end_to_end/test_cluster.py tests/faults/test_lease_of_jobs.py
	$(BIN)/pytest --long tests/gpu/test_model.py tests/store/test_histories.py
	$(BIN)/pytest --long -m long

golden: .venv/dev ## rewrite the golden texts; read the diff before you commit it
	$(BIN)/pytest -q tests/golden tests/docs --rewrite-golden -k "golden or tables"

constraints: .venv/dev ## renew constraints.txt from what is installed
	{ head -1 constraints.txt; $(BIN)/python -m pip freeze --exclude-editable | grep -v '@ '; } > constraints.new
	mv constraints.new constraints.txt

clean: ## remove what the commands made here, the environment included
	rm -rf .venv .dagster .llama-assets dist build

.venv/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "llama-assets needs Python 3.11 to 3.13, and $(PYTHON) is $$($(PYTHON) -V 2>&1). Say: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv .venv
	@touch $@

.venv/demo: pyproject.toml constraints.txt | .venv/python
	@echo "installing what the demo needs into .venv (once; some minutes without a package cache)"
	@$(PIP_INSTALL) --editable '.[demo]'
	@touch $@

.venv/dev: pyproject.toml constraints.txt | .venv/python
	@echo "installing what the tests need into .venv (once)"
	@$(PIP_INSTALL) --editable '.[dev]'
	@touch $@ .venv/demo

# What a bare machine takes minutes to get comes in the background, one after the other since both use apt. The tests
# wait for the cluster where they want it, by the same lock (tests/cluster.py).
ahead:
	@{ $(MAKE) chromium; [ "$$KUBECONFIG" ] || [ "$$(id -u)" != 0 ] || [ ! -x $(KIT) ] || \
	  flock --close /tmp/llama-assets-cluster.lock $(KIT) up; } >/dev/null 2>&1 &

# The UI test needs a browser. Where we may install Debian's we do; elsewhere the test says why it skips.
chromium:
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  flock /tmp/llama-assets-chromium.lock sh -c 'command -v chromium >/dev/null || { \
	  echo "installing chromium for the UI test"; apt-get -qq update && \
	  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y chromium >/dev/null; }'; } || true

.PHONY: help demo ui cluster-demo cluster-demo-down test ahead image figures faults golden constraints clean chromium
