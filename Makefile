# `make demo` and `make test` do their own set-up: a virtual environment in .venv, renewed when pyproject.toml changes.
PYTHON ?= python3
bin := .venv/bin
ready := .venv/ready
export OMP_WAIT_POLICY := PASSIVE
unexport QT_API

.PHONY: help demo test lint types docs build clean
help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-6s %s\n", $$1, $$2}' Makefile

demo: $(ready)  ## clicks → pretrain → fine-tune → masks, on phantoms or on yours: make demo DATA=folder
	@$(bin)/napari-tlseg demo $(if $(DATA),--data "$(DATA)") --out demo $(ARGS)

test: ARGS ?= -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0
test: $(ready)  ## all tests, in two processes, or some of them in one: make test ARGS="tests/data -x"
	@OMP_NUM_THREADS=1 sh scripts/on_screen.sh $(bin)/python -m pytest $(ARGS)

lint: $(ready)  ## style, and the plugin manifest
	$(bin)/ruff check
	$(bin)/ruff format --check
	$(bin)/npe2 validate napari-tlseg

types: $(ready)  ## mypy --strict
	$(bin)/mypy

docs: $(ready)  ## the pictures of docs/, in a real napari window on synthetic images (some minutes)
	@sh scripts/on_screen.sh $(bin)/python docs/pictures.py

build: $(ready)  ## the wheel and the source archive, in dist/
	$(bin)/python -m build

clean:  ## remove the environment and what was built
	rm -rf .venv dist

$(ready): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "This needs Python 3.11 or newer; name one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	{ echo "Python's venv module is missing; on Debian and Ubuntu: sudo apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv .venv
	$(bin)/python -m pip install --upgrade "pip>=25.1"
	$(bin)/python -m pip install --editable ".[all]" --group dev
	@touch $@
