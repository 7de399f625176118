# `make help` lists the targets. Everything lives in .venv inside this folder, made on first use.
#
# Settings: PYTHON=python3.12 chooses the interpreter for a new .venv; ARGS='...' is passed on to what a target runs;
# BENCH=cache, artifacts, files or scale chooses another benchmark; WORKERS is the number of processes that share the tests, each
# with a Ray and servers of its own.

PYTHON ?= python3
ARGS ?=
WORKERS ?= 2
BENCH ?= record_results

VENV := .venv
BIN := $(VENV)/bin
LOG := $(VENV)/install.log
INPUTS := pyproject.toml constraints.txt
CODE := morphml_ray tests examples benchmarks
PROSE := docs README.md CONTRIBUTING.md CHANGELOG.md Makefile pyproject.toml .ci .github

.DEFAULT_GOAL := help
.PHONY: demo test pgbouncer check fmt bench clean help
# The extras share one .venv: two pips must not write to it at once.
.NOTPARALLEL:

demo: $(VENV)/.demo ## Watch an architecture search record its results (about a minute)
	@$(BIN)/python examples/digits_evolution.py $(ARGS)

test: $(VENV)/.test pgbouncer ## Run the whole suite against real servers, with its coverage (ARGS='-k name' selects)
	@$(BIN)/python -m pytest -n $(WORKERS) --durations=10 $(or $(ARGS),--cov)

# The one server that comes in no wheel. Without root or apt-get it is up to you: CONTRIBUTING.md says how.
pgbouncer:
	@if ! PATH="$$PATH:/usr/sbin" command -v pgbouncer >/dev/null && [ "$$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; \
	then echo '==> installing PgBouncer (once)'; \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends pgbouncer; } \
	  >$(LOG).apt 2>&1 || { tail -n 5 $(LOG).apt; echo 'PgBouncer could not be installed: its tests will fail'; }; fi

check: $(VENV)/.test ## Formatting, lint, types, layers and spelling: runs all, changes nothing
	@failed=; \
	step() { name="$$1"; shift; printf '==> %s\n' "$$name"; "$$@" || failed="$$failed [$$name]"; }; \
	step 'ruff format' $(BIN)/ruff format --check . ; \
	step 'ruff check' $(BIN)/ruff check . ; \
	step 'mypy' $(BIN)/mypy ; \
	step 'lint-imports' $(BIN)/lint-imports --no-logo ; \
	step 'codespell' $(BIN)/codespell $(CODE) $(PROSE) ; \
	if [ -n "$$failed" ]; then echo "make check: failed:$$failed"; exit 1; fi; \
	echo 'make check: all passed'

fmt: $(VENV)/.test ## Format the code and apply the safe fixes of the linter
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(VENV)/.bench ## Compare with the peers: results recorded per second, or BENCH=cache, artifacts, files, scale
	@$(BIN)/python benchmarks/$(BENCH).py $(ARGS)

clean: ## Remove .venv, caches and build products; recorded results stay
	@rm -rf $(VENV) build dist *.egg-info .coverage .coverage.* htmlcov
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
	@for kept in morphml_storage devstack *.png; do \
	  if [ -e "$$kept" ]; then echo "kept: $$kept (your results: delete it yourself if you are done with it)"; fi; \
	done

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' Makefile

# pip is quiet here and complete in the log; a failure shows the end of the log.
define install
@printf '==> installing what "make %s" needs into $(VENV) (once; details: $(LOG))\n' '$(1)'
@$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable '.[$(2)]' \
  >$(LOG) 2>&1 || { tail -n 25 $(LOG); echo 'The installation failed; the whole log is $(LOG)'; exit 1; }
@touch $@
endef

$(VENV)/.demo: $(INPUTS) | $(VENV)/.made
	$(call install,demo,demo)

$(VENV)/.test: $(INPUTS) | $(VENV)/.made
	$(call install,test,test)
	@touch $(VENV)/.demo # the extra "test" contains the extra "demo"

$(VENV)/.bench: $(INPUTS) | $(VENV)/.made
	$(call install,bench,bench)

$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null \
	  || { echo 'Python is needed, 3.10 or newer, and "$(PYTHON)" was not found: make PYTHON=/path/to/python3 ...'; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "Python 3.10 or newer is needed; $(PYTHON) is $$($(PYTHON) -V 2>&1): make PYTHON=python3.12 ..."; exit 1; }
	@printf '==> making $(VENV) with %s\n' "$$($(PYTHON) -V)"
	@$(PYTHON) -m venv $(VENV) \
	  || { echo '"$(PYTHON) -m venv" failed; on Debian and Ubuntu: apt-get install python3-venv'; exit 1; }
	@touch $@
