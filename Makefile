# Every target works in a clean clone and leaves nothing outside it, but `run`, which starts the engine under
# /var/lib/rorqual and /run/rorqual, and the system packages that scripts/system-packages names.

# Empty: the newest that is there, looked for when it is needed, since the line before may just have installed it.
PYTHON  ?=
VENV    := .venv
BIN     := $(VENV)/bin
PIP     := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTEST  ?= $(BIN)/pytest

.PHONY: install install-dev run stop test lint format bench proto lock compatibility test-conformance test-crash test-mutation test-vm clean help

help:
	@echo 'make install           the commands rorqual, rq, rorquald, rorqual-containerd, rorqual-runc in $(BIN)'
	@echo 'make run               install, start the daemon, run a container and show each step (needs root)'
	@echo 'make stop              stop what make run started'
	@echo 'make test              unit, contract and integration tests (the latter need root)'
	@echo 'make lint              ruff, mypy, import-linter'
	@echo 'make test-conformance  docker-py'"'"'s own tests against this engine'
	@echo 'make test-crash        ten times the random kills that make test has'
	@echo 'make test-mutation     each protection of docs/security.md taken out: its test must fail (about 30 minutes)'
	@echo 'make test-vm           the runtime on cgroup v2, in a virtual machine (emulated: about 11 minutes)'
	@echo 'make bench             leaks over 1,000 containers, concurrency, the stages of one run'

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

$(VENV)/.installed: requirements.lock pyproject.toml
	scripts/system-packages run
	test -x $(BIN)/python || $(or $(PYTHON),$$(scripts/find-python)) -m venv $(VENV)
	$(PIP) install --require-hashes --no-deps -r requirements.lock
	$(PIP) install --no-build-isolation --no-deps --editable .
	$(BIN)/python scripts/lean-launchers rorqual rq rorqual-runc
	$(BIN)/python -m compileall -q src   # a process start costs half as much; the environment may forbid it later
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	$(PIP) install --require-hashes --no-deps -r requirements-dev.lock
	@touch $@

run: install
	scripts/first-run

stop:
	scripts/first-run --stop

test: install-dev
	scripts/system-packages test
	$(PYTEST) $(PYTEST_ARGS)

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install-dev
	$(BIN)/python tests/benchmarks/leaks.py
	$(BIN)/python tests/benchmarks/concurrency.py
	$(BIN)/python tests/benchmarks/stages.py

test-conformance: install-dev
	scripts/system-packages test
	$(BIN)/python tests/conformance/docker_py/run.py

# More of the random kills than `make test` has.
test-crash: install-dev
	RORQUAL_TEST_SEEDS=1,2,3,4,5,6,7,8,9,10 RORQUAL_TEST_ROUNDS=20 $(PYTEST) tests/failpoints

# Whether the tests of docs/security.md fail without what they prove: in a copy of the tree, one edit after the other.
test-mutation: install-dev
	scripts/system-packages test
	$(BIN)/python tests/mutation/run.py $(MUTATIONS)

# The runtime's tests on a host that has control groups of version 2 only: see scripts/vm/run.py.
test-vm: install-dev
	scripts/system-packages vm
	$(BIN)/python scripts/vm/run.py

proto: install-dev
	cd src && ../$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --mypy_out=quiet:. --grpclib_python_out=. \
	    rorqual/rpc/proto/*.proto

compatibility: install-dev
	$(BIN)/python scripts/compatibility.py

# The lock names no index: a mirror serves the same files, and their hashes prove it.
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
           --no-header --no-annotate pyproject.toml --group build
lock:
	$(COMPILE) --output-file requirements.lock
	$(COMPILE) --group dev --output-file requirements-dev.lock

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
