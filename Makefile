# make repro: everything, from nothing to the comparison. make test / test-fast / bench: see README.md.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
PEERS := .venv-bench
BIN := $(VENV)/bin
RUN := PATH="$(CURDIR)/$(BIN):$$PATH"

.PHONY: repro test test-fast lint bench lock clean

repro: $(VENV)/.installed
	$(RUN) dvc pull -q data.dvc
	$(RUN) dvc repro
	$(RUN) advalign publish
	$(RUN) advalign registry promote test_resnet.harmonized --to champion || test $$? = 1  # 1: a gate does not hold
	$(RUN) advalign registry promote test_resnet_l2_eps2 --to champion || test $$? = 1
	@$(RUN) advalign compare --show

test: $(VENV)/.installed $(PEERS)/.installed lint
	$(RUN) PYTHONPATH=$(PEERS) OMP_NUM_THREADS=1 pytest -n 2 --dist loadgroup tests advalign

test-fast: $(VENV)/.installed
	$(RUN) OMP_NUM_THREADS=1 pytest -n 2 -m "not slow" tests advalign

lint: $(VENV)/.installed
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(RUN) lint-imports

bench: $(VENV)/.installed $(PEERS)/.installed
	$(RUN) PYTHONPATH=$(PEERS) python -m benchmarks.run

# The lock pins every package; the stamp is written last, so that an interrupted installation starts again.
$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || \
		{ echo "advalign needs Python 3.11: install it, or name it: make PYTHON=/path/to/python3.11 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# The libraries that we are measured against, in a folder of their own beside .venv (pyproject.toml: bench).
$(PEERS)/.installed: $(VENV)/.installed
	rm -rf $(PEERS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(PEERS) $$($(BIN)/python -c \
		'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["bench"])')
	touch $@

# After changing pins in pyproject.toml and installing them: freeze what is there (names and versions, no addresses).
lock:
	$(BIN)/python -m pip freeze --exclude advalign > requirements.lock

clean:
	rm -rf $(VENV) $(PEERS) outputs mlflow.db mlartifacts .mlflow*.lock
