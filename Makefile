# On a fresh machine with Python 3.11 or newer, git and make, every target here does its own set-up.
#   make demo ARGS=--once           arguments for the demo
#   make unit ARGS='-k lifecycle'   arguments for pytest
#   make unit JOBS=0                no worker processes, so that a debugger finds its terminal
#   make soak SECONDS=3600          seconds for the soak, and for fuzz
#   make test PYTHON=python3.12     another interpreter: .venv is made anew when it is not this one
#   make core VENV=.venv-core PYTHON=/usr/bin/python3    the core on one more, beside it

VENV := .venv
PY := $(VENV)/bin/python
CANDIDATES := $(or $(PYTHON),python3.14 python3.13 python3.12 python3.11 python3)

# One worker process more than there are cores (see tests/conftest.py), each with whole files of tests: what these share
# is made once.
PYTEST = $(PY) -m pytest -n $(or $(JOBS),auto) --dist loadfile --no-loadscope-reorder

FUZZ := record request stream
CORE_TESTS := blocking_writer callables contract contract_bytes exchange guard h11_anyio interleavings lifecycle parking router sse tasks trace_check upkeep writer
CORE := h3ref/blocking.py,h3ref/flows.py,h3ref/lifecycle.py,h3ref/sse/*.py,h3ref/writer.py

.DEFAULT_GOAL := help
.PHONY: help demo demo-cluster test quick lint types unit core coverage model model-mutants soak fuzz peers matrix fmt notebooks bench bench-guard docs lab dist clean FORCE

help: ## print this list
	@sed -n 's/^\([a-z-]*\):.*## /\1:/p' Makefile | while IFS=: read -r name text; do \
	    printf 'make %-13s %s\n' "$$name" "$$text"; \
	done

demo: $(VENV)/.core ## see the bug and its fixes (ARGS=--once to run it once)
	@$(PY) -m h3ref demo $(ARGS)

demo-cluster: $(VENV)/.dev ## see a chat in several processes: a server is killed, Redis restarts, all is deployed anew
	@$(PY) -m h3ref demo --cluster $(ARGS)

test: lint types ## everything that must hold: lint, types, unit
	$(PYTEST) $(ARGS)

quick: $(VENV)/.dev ## the tests, but for slow ones (site, pages, browser, notebooks, pictures, bench, soak, nginx, others' clients and servers)
	$(PYTEST) -m 'not slow' --ignore notebooks $(ARGS)

lint: $(VENV)/.dev ## ruff's rules and its format
	$(PY) -m ruff check
	$(PY) -m ruff format --check

types: $(VENV)/.dev ## mypy, strict
	$(PY) -m mypy

unit: $(VENV)/.dev ## pytest alone (ARGS='-k name' to choose)
	$(PYTEST) $(ARGS)

core: $(VENV)/.core-tests ## the core's tests, with little to install, on any Python
	$(PYTEST) -o addopts='-ra --strict-markers --strict-config' $(CORE_TESTS:%=tests/test_%.py) $(ARGS)

coverage: $(VENV)/.dev ## which lines and branches the tests run, ten minutes: all of the core's, 95 % of the rest
	$(PY) -m coverage erase
	$(PY) -m coverage run -m pytest $(ARGS)
	$(PY) -m coverage combine -q
	$(PY) -m coverage report --include='$(CORE)' --fail-under=100
	$(PY) -m coverage report --fail-under=95

model: $(VENV)/.dev ## have Spin take every path of the model in spec/model, five minutes (ARGS=--small for the tests' bounds)
	$(PY) -m tests.model verify $(ARGS)

model-mutants: $(VENV)/.dev ## change the model in one place at a time: which property notices, a quarter of an hour
	$(PY) -m tests.model mutants $(ARGS)

soak: $(VENV)/.dev ## servers under every fault, for SECONDS=30 on each event loop: nothing lost, doubled, left open or grown
	$(PY) -m tests.soak --seconds $(or $(SECONDS),30) $(ARGS)

fuzz: $(VENV)/.fuzz ## atheris on each harness in tests/fuzz, for SECONDS=60 each (ARGS=FILE with FUZZ=NAME to run a find again)
	@for harness in $(FUZZ); do \
	    echo "fuzzing tests/fuzz/$$harness.py"; \
	    $(PY) -m tests.fuzz $$harness --seconds $(or $(SECONDS),60) $(ARGS) || exit 1; \
	done

peers: ## the suites of the MCP SDK and of sse-starlette on h3ref.compat (MCP=PATH, SSE_STARLETTE=PATH for checkouts)
	@$(MAKE) --no-print-directory VENV=.venv-peers .venv-peers/.peers
	@.venv-peers/bin/python -m tests.peers $(if $(MCP),--mcp '$(MCP)') $(if $(SSE_STARLETTE),--sse-starlette '$(SSE_STARLETTE)') $(ARGS)

matrix: ## judge clients and servers that people use anew, and draw docs/matrix (ARGS='--only NAME' for one; H3Z=PATH LIBXEV=PATH)
	@$(MAKE) --no-print-directory VENV=.venv-matrix .venv-matrix/.matrix
	@.venv-matrix/bin/python -m tests.matrix $(if $(H3Z),--h3z '$(H3Z)') $(if $(LIBXEV),--libxev '$(LIBXEV)') $(ARGS)

fmt: $(VENV)/.dev ## let ruff mend and format the code
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

notebooks: $(VENV)/.dev ## run the notebooks anew and write their outputs, half a minute (ARGS=FILE for one)
	$(PY) -m docs.generate.execute $(ARGS)

bench: $(VENV)/.dev ## measure all anew, half an hour: notebooks/results, notebook 09, docs/performance.md
	$(PY) -m h3ref bench --json notebooks/results/bench.json
	$(PY) -m docs.generate.profile notebooks/results/profile.json
	$(PY) -m docs.generate.history notebooks/results/history.json
	$(PY) -m docs.generate.imports notebooks/results/imports.json
	$(PY) -m tests.cluster.figures notebooks/results/cluster.json
	$(PY) -m tests.cluster.workers notebooks/results/workers.json
	$(PY) -m docs.generate.performance_tables
	$(PY) -m docs.generate.pictures
	$(PY) -m docs.generate.execute notebooks/09-latency.ipynb

bench-guard: $(VENV)/.dev ## HEAD beside its parent, some minutes: which figures moved by more than their noise (ARGS='--base REVISION')
	$(PY) -m tests.bench_guard $(ARGS)

docs: $(VENV)/.dev ## build the site into build/docs; warnings are errors
	$(PY) -m sphinx -c docs -b html -W --keep-going -n -q -d build/doctrees $(ARGS) . build/docs
	@echo 'Open build/docs/index.html'

lab: $(VENV)/.jupyter ## open the notebooks in JupyterLab, with all that they need (ARGS=--no-browser)
	@$(PY) -m nbformat.sign notebooks/*.ipynb >/dev/null  # trusted: their outputs are shown before they are run
	$(PY) -m jupyterlab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks/00-start-here.ipynb $(ARGS)

dist: $(VENV)/.dist ## build sdist and wheel, check both, try each extra in a clean environment (ARGS=--users for three of them)
	$(PY) -m tests.dist $(ARGS)

clean: ## remove .venv, caches and built files
	rm -rf $(VENV) .venv-core .venv-peers .venv-matrix build dist htmlcov .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Set-up. The demo needs the core only, so that it starts soon; all else needs the extra `dev`.
$(VENV)/.core: pyproject.toml $(VENV)/.home
	$(call install,h3ref,.)

$(VENV)/.dev: pyproject.toml $(VENV)/.core
	$(call install,h3ref and its development tools,.[dev])

$(VENV)/.core-tests: pyproject.toml $(VENV)/.core
	$(call install,h3ref and what tests its core,.[core-tests])

$(VENV)/.fuzz: $(VENV)/.dev
	$(call install,atheris,.[fuzz])

$(VENV)/.jupyter: $(VENV)/.core
	$(call install,JupyterLab and what the notebooks need,.[jupyter])

$(VENV)/.dist: $(VENV)/.core
	$(call install,what builds and checks archives,.[dist])

$(VENV)/.peers: $(VENV)/.core
	$(call install,what the suites of others need,.[peers])

$(VENV)/.matrix: $(VENV)/.core
	$(call install,what the matrix judges,.[matrix])

# pip's own output goes to a log, shown when it fails; each package that it collects is a dot.
define install
@printf 'Installing %s into $(VENV) ' '$(1)'
@{ $(PY) -m pip install --disable-pip-version-check --no-input -e '$(2)' 2>&1; echo "pip ended: $$?"; } | { \
    : >$(VENV)/pip.log; \
    while IFS= read -r line; do \
        printf '%s\n' "$$line" >>$(VENV)/pip.log; \
        case $$line in \
            Collecting*|Processing*) printf . ;; \
            'pip ended: 0') echo ' done'; exit 0 ;; \
        esac; \
    done; \
    echo ' failed'; cat $(VENV)/pip.log; exit 1; \
}
@touch $@
endef

# Looked at on every run, made anew only when .venv does not work, was copied from another folder (its editable install
# would still be the other one), or is not of the PYTHON asked for. Candidates are run, not just found: a shim may be
# on the PATH with nothing behind it.
$(VENV)/.home: FORCE
	@usable='import sys; sys.exit(sys.version_info < (3, 11))'; \
	identity='import sys; print(sys.version, sys.base_prefix)'; \
	if $(PY) -c "import pip; $$usable" 2>/dev/null && [ "$$(cat $@ 2>/dev/null)" = "$(CURDIR)" ]; then \
	    [ -n "$(PYTHON)" ] || exit 0; \
	    [ "$$("$(PYTHON)" -c "$$identity" 2>/dev/null)" != "$$($(PY) -c "$$identity")" ] || exit 0; \
	fi; \
	chosen= without_venv=; \
	for candidate in $(CANDIDATES); do \
	    "$$candidate" -c "$$usable" >/dev/null 2>&1 || continue; \
	    if "$$candidate" -c 'import ensurepip, venv' 2>/dev/null; then chosen=$$candidate; break; fi; \
	    without_venv=$${without_venv:-$$candidate}; \
	done; \
	if [ -z "$$chosen" ] && [ -n "$$without_venv" ]; then \
	    echo "$$without_venv cannot make virtual environments: apt install python3-venv" >&2; exit 1; \
	elif [ -z "$$chosen" ]; then \
	    echo "h3ref needs Python 3.11 or newer, and none of these is: $(CANDIDATES) (make PYTHON=/path/to/python)" >&2; exit 1; \
	fi; \
	echo "Making $(VENV) with $$("$$chosen" -c 'import platform; print("Python", platform.python_version())') ($$chosen)"; \
	"$$chosen" -m venv --clear $(VENV) && printf '%s\n' "$(CURDIR)" >$@
