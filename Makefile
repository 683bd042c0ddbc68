# make         set up .venv and make every result at the embedded scale
# make smoke   every rule, table and figure in minutes, in smoke/, with too few images for results
# make check   set up the test tools too, then check format, lint, types and units: two minutes
# make test    the same and all tests, with whole runs of a tiny project
# make status  what is done, running, failed and to do, and how long the rest takes
# make report  one page with every table and figure: results/report.html
# make CONFIG=FILE the same with an overlay on config.yaml; status and report take that of the last run
# make plan    what `make paper` would run, without running it
# make paper   the documents' full scale: ImageNet, days of a GPU; see config/paper.yaml
# make lock    resolve the packages anew, after a change to requirements*.in
# make PYTHON=python3.12 sets up with another interpreter than python3.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := results
.DELETE_ON_ERROR:
.PHONY: results smoke check test style status report plan paper lock setup clean-results moved

PYTHON ?= python3

# Nothing of an environment that the caller has active may reach ours.
unexport VIRTUAL_ENV CONDA_PREFIX PYTHONHOME PYTHONPATH
unexport MPLBACKEND PYTHONWARNINGS PYTHONOPTIMIZE
unexport PIP_TARGET PIP_PREFIX PIP_USER PIP_CONSTRAINT PIP_REQUIRE_VIRTUALENV
unexport UV_PYTHON UV_SYSTEM_PYTHON UV_TARGET UV_PREFIX UV_CONSTRAINT UV_OVERRIDE
unexport UV_EXCLUDE_NEWER UV_TORCH_BACKEND UV_NO_BINARY UV_ONLY_BINARY UV_REQUIRE_HASHES

# Snakemake starts scripts by the path of its own interpreter, without quotes. Reached over a link
# in the temporary folder, that path is plain, whatever the name of this folder.
RUN = link=$$(mktemp -d) && trap 'rm -r "$$link"' EXIT && ln -s "$$PWD/.venv" "$$link/venv" \
	&& cd "$(or $(IN),.)" && PATH="$$link/venv/bin:$$PATH" "$$link/venv/bin/python"

OVERLAY = $(if $(CONFIG),--configfile $(CONFIG))

results: setup
	@$(RUN) -m snakemake $(OVERLAY) --cores all

# A run has its results beside its code, so this one has a copy of the project. Times of files stay, so
# that a second run has nothing to do.
COPIED = CITATION.cff LICENSE README.md Snakefile bandlimit config config.yaml data envs profiles \
	requirements.lock scripts workflow

smoke: IN = smoke
smoke: setup
	@mkdir -p smoke
	@cd smoke && rm -rf $(COPIED)
	@cp -Rp $(COPIED) smoke
	@$(RUN) -m snakemake --configfile config/smoke.yaml --cores all
	@echo "A smoke test: every rule ran, on too few images for results. See smoke/results/index.html."

style: setup .venv/.test
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/snakefmt --check Snakefile workflow
	.venv/bin/mypy
	@$(RUN) -m snakemake --lint

# Tests run on two workers at least; the runs that tests share stay on one of them.
WORKERS = -n auto --no-loadscope-reorder

check: style
	@$(RUN) -m pytest -q $(WORKERS) --ignore tests/workflow --ignore tests/faults --ignore tests/cluster

test: style
	@$(RUN) -m pytest -q $(WORKERS)

status: setup
	@$(RUN) -m bandlimit status $(OVERLAY)

report: setup
	@$(RUN) -m bandlimit report $(OVERLAY)

plan: setup
	@$(RUN) -m snakemake --configfile config/paper.yaml --cores all --dry-run --quiet rules
	@$(RUN) -m bandlimit plan --configfile config/paper.yaml

paper: setup
	@$(RUN) -m snakemake --configfile config/paper.yaml --cores all

clean-results:
	rm -rf results logs smoke

# Compiled at once, also where Python may not write what it compiles, so that no job does it anew.
setup: .venv/.package
	@.venv/bin/python -m compileall -q bandlimit

# A virtual environment works only where it was made: one that was moved or copied is made anew.
HERE := $(shell [ "$$(cat .venv/.folder 2>/dev/null)" = "$$(pwd -P)" ] && echo yes)

.venv/.tools: envs/bootstrap.lock $(if $(HERE),,moved)
	@command -v "$(PYTHON)" >/dev/null || { \
		echo "bandlimit needs Python 3.11 or newer, and there is no '$(PYTHON)': name one that is there, as in 'make PYTHON=python3.12'." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.version_info >= (3, 11) or sys.exit("bandlimit needs Python 3.11 or newer, and $(PYTHON) is %d.%d: name another, as in \"make PYTHON=python3.12\"." % sys.version_info[:2])'
	"$(PYTHON)" -m venv --clear .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r envs/bootstrap.lock
	@pwd -P > .venv/.folder
	@touch $@

UV = .venv/bin/uv pip
INTO = --quiet --python .venv/bin/python

# `sync` also removes what the lock no longer names, and with it the two below.
.venv/.run: .venv/.tools requirements.lock
	$(UV) sync $(INTO) --require-hashes --compile-bytecode requirements.lock
	@touch $@

.venv/.test: .venv/.run requirements-test.lock
	$(UV) install $(INTO) --require-hashes -r requirements-test.lock
	@touch $@

.venv/.package: .venv/.run pyproject.toml
	$(UV) install $(INTO) --no-deps --no-build-isolation -e .
	@touch $@

COMPILE = $(UV) compile --quiet --generate-hashes --no-header --universal --python-version 3.11

lock: .venv/.tools
	$(COMPILE) requirements.in -o requirements.lock
	$(COMPILE) requirements-test.in -o requirements-test.lock
