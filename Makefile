# `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
STAMPS := $(VENV)/.stamps
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check --quiet
COMMIT := $(shell git rev-parse HEAD 2>/dev/null)
# Tests run make themselves, which would take ARGS over, and print more if another make has started it.
PYTEST = env -u ARGS -u MAKEFLAGS -u MFLAGS -u MAKELEVEL $(VENV)/bin/python -m pytest \
  --numprocesses auto --dist loadgroup --no-loadscope-reorder --durations 20
# The versions of Python that `make test-all` tests beside the one in .venv.
PYTHONS ?= python3.11 python3.12 python3.13
UV_COMPILE = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url

.DELETE_ON_ERROR:
.PHONY: help install run test test-all test-pythons test-tools quick check format bench choices capacity fuzz lock sbom \
  pyz image publish ami ami-rehearse rehearse deploy rollback integration-test clean

help:  ## List the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 26

install: $(STAMPS)/run  ## Make .venv with the command .venv/bin/hello

run: $(STAMPS)/run  ## Serve at http://127.0.0.1:5000 on hello.db
	@HELLO_COMMIT=$${HELLO_COMMIT:-$(COMMIT)} exec $(VENV)/bin/hello serve --log text

test: test-tools check  ## Run the checks and the tests that every change must pass; ARGS='-k name' selects
	$(PYTEST) -m 'not full' $(ARGS)

test-all: test-tools check test-pythons  ## Run all tests: long rehearsals, second emulators, other Python versions
	$(PYTEST) $(ARGS)

quick: $(STAMPS)/test  ## Run the tests that need no root and no emulator of AWS, with what is installed
	env -u CI $(PYTEST) -m 'not full' tests/unit tests/stores tests/e2e tests/docs $(ARGS)

test-tools: debian $(STAMPS)/test $(STAMPS)/emulators $(STAMPS)/fuzz $(STAMPS)/checkov $(STAMPS)/pyz base

test-pythons: $(STAMPS)/test
	@this=$$($(VENV)/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	for python in $(PYTHONS); do \
	  version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || \
	    if [ "$$CI" = true ]; then echo "$$python is missing: install it, or name others by PYTHONS" >&2; exit 1; \
	    else echo "skipped: $$python is not installed"; continue; fi; \
	  [ "$$version" = "$$this" ] || $(MAKE) --no-print-directory VENV=.venv-$$version PYTHON=$$python quick || exit 1; \
	done

check: $(STAMPS)/test $(STAMPS)/kubernetes  ## Lint and type-check: ruff, mypy, zizmor, shellcheck, terraform fmt, kustomize
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/zizmor --offline --pedantic --strict-collection --no-progress --quiet .github
	$(VENV)/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(VENV)/bin/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	@tools=$$(git ls-files -z | xargs -0 grep -lE '^#!.*\b(ba)?sh\b'); \
	if command -v shellcheck >/dev/null; then shellcheck --external-sources --check-sourced $$tools; \
	elif [ "$$CI" = true ]; then echo "shellcheck is missing: install requirements/debian.txt" >&2; exit 1; \
	else echo "skipped: shellcheck is not installed"; fi
	@if command -v terraform >/dev/null; then terraform fmt -check -diff -recursive infra; \
	elif [ "$$CI" = true ]; then echo "terraform is missing: it is no package of Debian" >&2; exit 1; \
	else echo "skipped: terraform is not installed"; fi
	@for overlay in k8s/overlays/*; do .venv-kubernetes/bin/kubectl kustomize $$overlay >/dev/null || exit 1; done

format: $(STAMPS)/test  ## Format the code
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

ami: $(STAMPS)/run  ## Make the AMI of this commit by Packer; AWS_REGION says where, ARCHITECTURE=x86_64 for what
	image/ami.sh

ami-rehearse: $(STAMPS)/run $(STAMPS)/emulators  ## Provision, boot and ask the AMI's machine, without AWS (as root)
	$(VENV)/bin/python -m rehearsal.ami

bench: $(STAMPS)/run  ## Measure beside the peers; writes bench/results/
	bench/run $(ARGS)

rehearse: $(STAMPS)/run $(STAMPS)/emulators  ## Play releases on this machine, with no AWS account; ARGS=--help tells more
	@$(VENV)/bin/python -m rehearsal $(ARGS)

sbom: $(STAMPS)/test  ## List what runs, as CycloneDX: writes hello.cdx.json
	$(VENV)/bin/python requirements/sbom.py hello.cdx.json

pyz: $(STAMPS)/run $(STAMPS)/pyz  ## Pack hello into one file, hello.pyz; ARGS='--platform linux-aarch64' says what for
	@.venv-pyz/bin/python image/pyz.py $(ARGS)

choices: $(STAMPS)/choices  ## Measure what docs/decisions/ chose among; ARGS=web is one of them
	PATH=$$PATH:$$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1) PYTHONPATH=src:. \
	  .venv-choices/bin/python -m bench.choices $(ARGS)

capacity: $(STAMPS)/capacity  ## Simulate the capacity; writes docs/capacity.md's tables and plots
	.venv-capacity/bin/python -m bench.capacity

image:  ## Build the container image of this commit, as hello:<commit>
	@image/build.sh $(ARGS)

publish:  ## Build it and push it to REPOSITORY=registry/name, else to Terraform's; prints the digest
	@image/publish.sh $(ARGS)

fuzz: $(STAMPS)/test $(STAMPS)/fuzz  ## Fuzz the parsers and the API; TIME=600 says how many seconds
	$(VENV)/bin/python -m fuzz.run --time $(or $(TIME),60) $(ARGS)

deploy:  ## Release the newest image to AWS, and test it there; SHA=… chooses another
	@infra/deploy.sh $(SHA) $(ARGS)

rollback:  ## Release what ran before, or SHA=…
	@infra/deploy.sh $(or $(SHA),--previous) $(ARGS)

integration-test:  ## Ask the deployed service whether it does what it should
	@infra/integration-test.sh

lock:  ## Pin the dependencies anew, with hashes (needs uv)
	$(UV_COMPILE) requirements/build.in -o requirements/build.txt
	$(UV_COMPILE) pyproject.toml -o requirements/run.txt
	$(UV_COMPILE) requirements/emulators.in -o requirements/emulators.txt
	$(UV_COMPILE) requirements/checkov.in -o requirements/checkov.txt
	$(UV_COMPILE) requirements/kubernetes.in -o requirements/kubernetes.txt
	$(UV_COMPILE) requirements/pyz.in -o requirements/pyz.txt
	$(UV_COMPILE) requirements/fuzz.in -o requirements/fuzz.txt
	$(UV_COMPILE) bench/capacity/requirements.in -o bench/capacity/requirements.txt
	$(UV_COMPILE) bench/choices/requirements.in -o bench/choices/requirements.txt
	$(UV_COMPILE) pyproject.toml --extra otel --group test -c requirements/run.txt -o requirements/test.txt

clean:  ## Remove what was installed
	rm -rf $(VENV) .venv-3.* .venv-bench .venv-capacity .venv-checkov .venv-choices .venv-emulators .venv-fuzz .venv-kubernetes .venv-pyz .fuzz .rehearsal .terraform_cache

# Each step leaves a stamp, so that a second run does nothing and needs no network.
$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "hello needs Python 3.11 or newer; choose one: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/run: $(STAMPS)/venv requirements/build.txt requirements/run.txt pyproject.toml
	$(PIP) install --require-hashes -r requirements/build.txt -r requirements/run.txt
	$(PIP) install --no-deps --no-build-isolation --no-index --editable .
	@touch $@

$(STAMPS)/test: $(STAMPS)/run requirements/test.txt
	$(PIP) install --require-hashes -r requirements/test.txt
	@touch $@

$(STAMPS)/emulators: $(STAMPS)/venv requirements/emulators.txt tests/support/npm/package.json tests/support/npm/package-lock.json
	$(PYTHON) -m venv .venv-emulators
	.venv-emulators/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements/emulators.txt
	mkdir -p .venv-emulators/npm && cp tests/support/npm/package.json tests/support/npm/package-lock.json .venv-emulators/npm
	PATH="$(CURDIR)/.venv-emulators/bin:$$PATH" NODE_OPTIONS=--use-system-ca \
	  npm --prefix .venv-emulators/npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

$(STAMPS)/fuzz: $(STAMPS)/venv requirements/fuzz.txt requirements/run.txt
	$(PYTHON) -m venv .venv-fuzz
	.venv-fuzz/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes \
	  -r requirements/run.txt -r requirements/fuzz.txt
	@touch $@

$(STAMPS)/capacity: $(STAMPS)/venv bench/capacity/requirements.txt
	$(PYTHON) -m venv .venv-capacity
	.venv-capacity/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes \
	  -r bench/capacity/requirements.txt
	@touch $@

$(STAMPS)/choices: $(STAMPS)/venv bench/choices/requirements.txt requirements/run.txt
	$(PYTHON) -m venv .venv-choices
	.venv-choices/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes \
	  -r requirements/run.txt -r bench/choices/requirements.txt
	@touch $@

$(STAMPS)/checkov: $(STAMPS)/venv requirements/checkov.txt
	$(PYTHON) -m venv .venv-checkov
	.venv-checkov/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements/checkov.txt
	@touch $@

$(STAMPS)/kubernetes: $(STAMPS)/venv requirements/kubernetes.txt
	$(PYTHON) -m venv .venv-kubernetes
	.venv-kubernetes/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements/kubernetes.txt
	@touch $@

$(STAMPS)/pyz: $(STAMPS)/venv requirements/pyz.txt
	$(PYTHON) -m venv .venv-pyz
	.venv-pyz/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements/pyz.txt
	@touch $@

.PHONY: debian base
debian:
	@./requirements/install-debian

# The Debian that the tests boot; made once a week, if this machine can.
base: $(STAMPS)/venv debian
	@$(VENV)/bin/python -m rehearsal.machine
