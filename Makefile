# `make demo` and `make test` are all a fresh machine needs; both make .venv first, and reuse it afterwards.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-all lint bench
.DEFAULT_GOAL := demo

$(READY): pyproject.toml constraints.txt tools/install_torch.sh
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"gpt2lab needs Python 3.11 or newer; $(PYTHON) is {v.major}.{v.minor}. Try: make PYTHON=python3.12")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python has no venv module. On Debian or Ubuntu: sudo apt install python3-venv"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@tools/install_torch.sh $(BIN)/python constraints.txt
	@echo "installing gpt2lab and its tools"
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt -e '.[dev,corpus]'
	@touch $@

demo: $(READY)
	$(BIN)/gpt2lab demo

# Two worker processes of one thread each: torch's threads would only get in each other's way.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m 'not slow'

test-all: $(READY)
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done
