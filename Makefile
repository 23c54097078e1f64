# make run, make test: the two commands a newcomer needs; each sets up what it uses.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := .make/setup

.PHONY: run test setup check lint types docs clean

run: setup
	$(BIN)/vivace -config.file=deploy/local.yaml

test: setup lint types prometheus nginx
	$(BIN)/python -m pytest

setup: $(STAMP)

$(STAMP): pyproject.toml setup.py $(shell find src -name '*.pyx' -o -name '*.pxd')
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	mkdir -p .make && touch $(STAMP)

# What tests run beside the server: Debian's packages, unpacked and not installed, so no service starts; one on the PATH will do.
# What they are linked with is in every Debian that has Python.
PROMETHEUS := .make/prometheus/usr/bin/prometheus
NGINX := .make/nginx/usr/sbin/nginx
.PHONY: prometheus nginx
prometheus:
	@command -v prometheus || test -x $(PROMETHEUS) || $(MAKE) $(PROMETHEUS)

nginx:
	@command -v nginx || test -x $(NGINX) || $(MAKE) $(NGINX)

$(PROMETHEUS) $(NGINX):
	mkdir -p .make
	cd .make && (apt-get download -q $(@F) || (apt-get update -q && apt-get download -q $(@F)))
	dpkg -x .make/$(@F)_*.deb .make/$(@F) && rm .make/$(@F)_*.deb

lint: setup
	$(BIN)/ruff check src tests bench setup.py
	$(BIN)/ruff format --check src tests bench setup.py

types: setup
	$(BIN)/mypy

check: test

clean:
	rm -rf $(VENV) .make build src/*.egg-info
	find src -name '*.so' -delete

# Kills, torn files and full disks for longer than CI does: a real server, ROUNDS kills, SEED as printed by a failed run.
.PHONY: faults
ROUNDS ?= 300
SEED ?= 0
faults: setup
	ROUNDS=$(ROUNDS) SEED=$(SEED) LARGE_SPANS=400000 $(BIN)/python -m pytest -s tests/faults
