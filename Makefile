# Everything a fresh machine needs is Python >= 3.11 and make.
PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
DOCS   := data/documents

.PHONY: help setup demo test lab notebooks bench conformance lint lock clean

help:  ## what each command does
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*## /\t/'

# The stamp is touched last: a set-up that was cut off starts again.
$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"Python 3.11 or newer is needed, this is {v[0]}.{v[1]}. Try: make PYTHON=python3.12")'
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --disable-pip-version-check --progress-bar off -q -r requirements.lock
	$(PY) -m pip install --disable-pip-version-check -q --no-deps -e .
	@touch $@

setup: $(VENV)/.ready  ## create .venv and install the lock (once)

demo: setup  ## documents to dataset, a better prompt, preference pairs and what they are worth, people on a map, offline: tables, report.html, exports
	$(PY) -m workbench generate $(DOCS) --out data/demo --model offline --personas 12 --rows 200
	$(PY) -m workbench optimize $(DOCS) --out data/demo/optimized --model offline/weak --examples 60
	$(PY) -m workbench prefer data/pairs/written.jsonl --out data/demo/preferences
	$(PY) -m workbench train data/demo/preferences/preference.preference_chat.jsonl --out data/demo/worth --held-out-share 0.5
	$(PY) -m workbench personas $(DOCS) --out data/demo/people --rows 150
	$(PY) -m workbench map data/demo/people/personas.parquet --out data/demo/map

test: setup  ## every test, notebooks included
	$(PY) -m pytest

lab: setup  ## the notebooks, in JupyterLab
	$(VENV)/bin/jupyter lab --ip 127.0.0.1 --notebook-dir notebooks $(if $(filter 0,$(shell id -u)),--allow-root)

notebooks: setup  ## run every notebook top to bottom and keep its outputs
	$(PY) -m tests.notebooks

bench: setup  ## one table of speed and memory, against other tools (makes venvs of their own)
	$(PY) -m tests.bench.vectors
	$(PY) -m tests.bench.dedup
	$(PY) -m tests.bench.clusters
	$(PY) -m tests.bench.map
	$(PY) -m tests.bench.argilla
	$(PY) -m tests.bench.training speed
	$(PY) -m tests.bench

conformance: setup  ## Argilla's own tests against our search and our server (downloads them once)
	sh tests/conformance/argilla.sh

lint: setup  ## ruff over code and notebooks
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .

lock:  ## resolve requirements.lock again from pyproject.toml (needs uv)
	echo "# Every package of every extra, pinned; made by 'make lock'. torch takes a CPU build of this version where one is offered." > requirements.lock
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --no-annotate --no-header -q \
		| sed -E '/^(nvidia-|cuda-|triton)/d; s/\+cpu//' >> requirements.lock

clean:  ## remove .venv and everything that the demo made
	rm -rf $(VENV) data/demo data/runs
