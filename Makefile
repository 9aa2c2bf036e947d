# What a developer types. `make setup` needs Python 3.11 or newer and nothing else; the others do it first.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help setup demo test torture collected lint bench screenshots lock audit sbom clean image-test

# The newest Python that the project is tested with; some names are shims that fail, so each is tried.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --no-input
READY := .venv/ready
# What pip says of each package, counted: redrawn on a terminal, a line for every twenty packages elsewhere.
PROGRESS = awk -v all="$$(grep -c == requirements/dev.txt)" -v tty="$$(test -t 1 && echo 1)" ' \
	/^Collecting/ { n++; if (tty) printf "\rsetup: package %d of %d", n, all; \
	                else if (n % 20 == 0) printf "setup: package %d of %d\n", n, all; fflush() } \
	/^Installing/ { if (tty) printf "\r"; print "setup: installing " n " packages"; fflush() }'
COMPILE := build/lock/bin/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras \
	--no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options
LOCK_ARGS ?=

help: ## Say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

setup: $(READY) ## Make .venv with everything pinned, and .venv/bin/stockrelay

$(READY): requirements/dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "setup: no Python 3.11 or newer found; install one, or say make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "setup: $(PYTHON) cannot make virtual environments: its ensurepip is missing."; \
	  echo "       On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "setup: making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip --disable-pip-version-check --no-input install --root-user-action=ignore --progress-bar off \
	  --require-hashes --only-binary :all: -r requirements/dev.txt | $(PROGRESS)
	@$(PIP) install --root-user-action=ignore --no-deps --no-build-isolation --editable .
	@touch $@
	@echo "setup: done; $$($(BIN)/stockrelay --version) is at $(BIN)/stockrelay"

demo: $(READY) ## Watch stock changes arrive at both marketplaces
	@$(BIN)/stockrelay demo

lint: $(READY) ## Style, format, import contracts, dead code, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/vulture
	$(BIN)/mypy

# The tests start the program a few hundred times. Loading it takes 0.3 s of processor time with bytecode and 1.4 s
# without, so bytecode is kept even where the environment says otherwise.
test: export PYTHONDONTWRITEBYTECODE =
test: $(READY) ## The gate: lint, then every test
	@$(MAKE) --no-print-directory --jobs 2 --output-sync lint collected
	$(BIN)/python -m pytest --numprocesses 4 --dist worksteal

# mypy uses one core for most of a minute. Meanwhile the other one compiles all tests, which each worker would otherwise do.
collected: $(READY)
	@collected=$$($(BIN)/python -m pytest --collect-only -qq 2>&1) || { echo "$$collected"; exit 1; }

# More words for it, as --faults 9 11: make torture TORTURE_ARGS=...
MINUTES ?= 5
SERVER ?= 18
torture: export PYTHONDONTWRITEBYTECODE =
torture: $(READY) ## Real daemons in a world of faults: make torture MINUTES=60 SEED=7
	@$(BIN)/python -m tests.torture --minutes $(MINUTES) --server $(SERVER) $(if $(SEED),--seed $(SEED)) \
	  $(if $(BESIDE),--beside $(BESIDE)) $(TORTURE_ARGS)

bench: $(READY) ## Measure, with the bare loops beside it
	@$(BIN)/python -m bench

screenshots: $(READY) ## Take the pictures of docs/screenshots again; needs Chromium
	@$(BIN)/python -m tests.page.screenshots

# An image that buildah knows, in root's storage: `buildah bud -t localhost/stockrelay .` makes it.
IMAGE ?= localhost/stockrelay

image-test: $(READY) ## Run an image confined (root, buildah, crun): make image-test IMAGE=...
	STOCKRELAY_TEST_IMAGE=$(IMAGE) $(BIN)/python -m pytest -rs tests/image

# The locks hold for every Python from 3.11 on: made with another one, they name the same releases.
lock: build/lock/bin/pip-compile ## Pin the dependencies again; newest: make lock LOCK_ARGS=--upgrade
	$(COMPILE) $(LOCK_ARGS) --output-file requirements/run.txt pyproject.toml
	$(COMPILE) $(LOCK_ARGS) --all-extras --output-file requirements/dev.txt pyproject.toml
	$(COMPILE) $(LOCK_ARGS) --output-file requirements/build.txt requirements/build.in

build/lock/bin/pip-compile:
	@$(PYTHON) -m venv --clear build/lock
	@build/lock/bin/python -m pip --disable-pip-version-check --quiet install --root-user-action=ignore 'pip-tools>=7.5'

# What a release installs is looked up among the known vulnerabilities. --strict: what could not be looked up is a failure.
audit: build/audit/bin/pip-audit ## Look the locked dependencies up among known vulnerabilities; asks a service
	@build/audit/bin/pip-audit --strict --disable-pip --require-hashes --progress-spinner off -r requirements/run.txt || { \
	  echo "audit: FAILED. If vulnerabilities are named above, raise those packages: make lock LOCK_ARGS='-P NAME'."; \
	  echo "       If not, the advisory service could not be asked from here, and nothing is known: run it where it can."; \
	  exit 1; }

build/audit/bin/pip-audit:
	@$(PYTHON) -m venv --clear build/audit
	@build/audit/bin/python -m pip --disable-pip-version-check --quiet install --root-user-action=ignore 'pip-audit>=2.9'

# An environment with what the image installs, and nothing else, is described: its licences and who needs whom stand in it.
sbom: build/sbom/bin/cyclonedx-py requirements/run.txt ## Write build/stockrelay.cdx.json: what a release consists of (CycloneDX)
	@$(PYTHON) -m venv --clear --without-pip build/image
	@build/sbom/bin/python -m pip --disable-pip-version-check --quiet --python build/image/bin/python install \
	  --root-user-action=ignore --require-hashes --only-binary :all: -r requirements/run.txt
	@build/sbom/bin/cyclonedx-py environment build/image/bin/python --pyproject pyproject.toml --mc-type application \
	  --output-reproducible --of JSON --sv 1.6 --validate -o build/stockrelay.cdx.json
	@build/sbom/bin/python -c 'import json, re, sys; \
	  parts = {(re.sub("[-_.]+", "-", p["name"].lower()), p["version"]) for p in json.load(open("build/stockrelay.cdx.json"))["components"]}; \
	  locked = set(re.findall(r"^([\w.-]+)==([^ ;]+)", open("requirements/run.txt").read(), re.M)); \
	  print("sbom:", len(parts), "components in build/stockrelay.cdx.json"); \
	  sys.exit(None if parts and parts <= locked else f"sbom: FAILED: not in the lock: {parts - locked}")'

build/sbom/bin/cyclonedx-py:
	@$(PYTHON) -m venv --clear build/sbom
	@build/sbom/bin/python -m pip --disable-pip-version-check --quiet install --root-user-action=ignore 'cyclonedx-bom>=7'

clean: ## Remove what was made here
	rm -rf .venv build dist bench/results .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
