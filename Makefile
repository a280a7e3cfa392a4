# `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
STAMPS := $(VENV)/.stamps
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check --quiet
COMMIT := $(shell git rev-parse HEAD 2>/dev/null)
UV_COMPILE = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url

.DELETE_ON_ERROR:
.PHONY: help install run test check format bench fuzz lock sbom clean

help:  ## List the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

install: $(STAMPS)/run  ## Make .venv with the command .venv/bin/hello

run: $(STAMPS)/run  ## Serve at http://127.0.0.1:5000 on hello.db
	@HELLO_COMMIT=$${HELLO_COMMIT:-$(COMMIT)} exec $(VENV)/bin/hello serve --log text

test: $(STAMPS)/test $(STAMPS)/emulators $(STAMPS)/fuzz debian base  ## Run the checks and all tests; ARGS='-k name' chooses
	@$(MAKE) --no-print-directory check
	$(VENV)/bin/python -m pytest $(ARGS)

check: $(STAMPS)/test  ## Lint and type-check: ruff, mypy, zizmor, shellcheck
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/zizmor --offline --pedantic --strict-collection --no-progress --quiet .github
	$(VENV)/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(VENV)/bin/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	@tools=$$(git ls-files -z | xargs -0 grep -lE '^#!.*\b(ba)?sh\b'); \
	if command -v shellcheck >/dev/null; then shellcheck $$tools; \
	elif [ "$$CI" = true ]; then echo "shellcheck is missing: install requirements/debian.txt" >&2; exit 1; \
	else echo "skipped: shellcheck is not installed"; fi

format: $(STAMPS)/test  ## Format the code
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

.PHONY: ami ami-rehearse
ami: $(STAMPS)/run  ## Make the AMI of this commit by Packer; AWS_REGION says where, ARCHITECTURE=x86_64 for what
	image/ami.sh

ami-rehearse: $(STAMPS)/run $(STAMPS)/emulators  ## Provision, boot and ask the AMI's machine, without AWS (as root)
	$(VENV)/bin/python -m rehearsal.ami

bench: $(STAMPS)/run  ## Measure beside the peers; writes bench/results/
	bench/run $(ARGS)

sbom: $(STAMPS)/test  ## List what runs, as CycloneDX: writes hello.cdx.json
	$(VENV)/bin/python requirements/sbom.py hello.cdx.json

fuzz: $(STAMPS)/test $(STAMPS)/fuzz  ## Fuzz the parsers and the API; TIME=600 says how many seconds
	$(VENV)/bin/python -m fuzz.run --time $(or $(TIME),60) $(ARGS)

lock:  ## Pin the dependencies anew, with hashes (needs uv)
	$(UV_COMPILE) requirements/build.in -o requirements/build.txt
	$(UV_COMPILE) pyproject.toml -o requirements/run.txt
	$(UV_COMPILE) requirements/emulators.in -o requirements/emulators.txt
	$(UV_COMPILE) requirements/fuzz.in -o requirements/fuzz.txt
	$(UV_COMPILE) pyproject.toml --extra otel --group test -c requirements/run.txt -o requirements/test.txt

clean:  ## Remove what was installed
	rm -rf $(VENV) .venv-emulators .venv-bench .venv-fuzz .fuzz .rehearsal

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

$(STAMPS)/emulators: $(STAMPS)/venv requirements/emulators.txt tests/npm/package.json tests/npm/package-lock.json
	$(PYTHON) -m venv .venv-emulators
	.venv-emulators/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements/emulators.txt
	mkdir -p .venv-emulators/npm && cp tests/npm/package.json tests/npm/package-lock.json .venv-emulators/npm
	PATH=$(CURDIR)/.venv-emulators/bin:$$PATH NODE_OPTIONS=--use-system-ca \
	  npm --prefix .venv-emulators/npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

$(STAMPS)/fuzz: $(STAMPS)/venv requirements/fuzz.txt requirements/run.txt
	$(PYTHON) -m venv .venv-fuzz
	.venv-fuzz/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes \
	  -r requirements/run.txt -r requirements/fuzz.txt
	@touch $@

.PHONY: debian base
debian:
	@./requirements/install-debian

# The Debian that the tests boot; made once a week, where it can be.
base: $(STAMPS)/venv debian
	@$(VENV)/bin/python -m rehearsal.machine
