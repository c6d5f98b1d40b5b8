# The few commands of this checkout: people and CI run the same ones.

VENV := .venv
BIN := $(VENV)/bin
PACKAGES := core $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml conformance/pyproject.toml))
SOURCES := $(addsuffix /src,$(PACKAGES))
# The parallel run of the tests; `make test TESTS="tests/test_cli.py -x"` runs what you name.
TESTS := -n 2 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help demo test lint types servers tests mutants crowd bench format clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' Makefile | while IFS='|' read -r name text; do \
		printf '  %-12s %s\n' "$$name" "$$text"; done

demo: $(VENV)/demo-installed ## Hash and count every file in this checkout through a queue of its own
	@$(BIN)/python -m examples.demo

test: lint types tests ## Run everything that CI runs: lint, types, tests

lint: $(VENV)/installed ## Check style and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/installed ## Check types
	MYPYPATH=$$(echo $(SOURCES) | tr ' ' ':') $(BIN)/mypy $(SOURCES) examples benchmarks

servers: $(VENV)/installed ## Install the database servers that the tests use, where this machine allows it
	@$(BIN)/python tests/install_servers.py

tests: servers ## Run only the tests
	$(BIN)/pytest $(TESTS)
	@$(BIN)/python tests/install_servers.py --say

mutants: servers ## Break the SQL of the plugins in 200 places, and see that the suite notices (20 minutes)
	$(BIN)/python tests/conformance/sql_mutants.py

crowd: servers ## Sixteen processes for a minute, and while connections and servers die, on MariaDB and MySQL
	MINION_CROWD_SECONDS=60 $(BIN)/pytest plugins/minion_mysql/tests/test_crowd.py -rA

bench: $(VENV)/installed ## Measure a backend beside its raw driver: make bench URL=sqlite:///bench.db
	$(BIN)/python benchmarks/backend.py $(or $(URL),sqlite:///bench.db)

format: $(VENV)/installed ## Put the code into its format
	$(BIN)/ruff check --fix --exit-zero
	$(BIN)/ruff format

clean: ## Remove what these commands made, the virtual environment too
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis demo.db demo.db-* demo.log bench.db bench.db-*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# -- The virtual environment -----------------------------------------------------------------------------

$(BIN)/python:
	@$(call find-python); "$$python" -m venv $(VENV)

$(VENV)/demo-installed: $(BIN)/python core/pyproject.toml plugins/minion_sqlite/pyproject.toml
	@echo "Installing from this checkout into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ./core -e ./plugins/minion_sqlite
	@touch $@

# --group came with pip 25.1: the list of development tools is in pyproject.toml, and only there.
$(VENV)/installed: $(BIN)/python pyproject.toml $(addsuffix /pyproject.toml,$(PACKAGES))
	@echo "Installing $(PACKAGES) and the development tools into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --group dev $(addprefix -e ./,$(PACKAGES))
	@touch $@ $(VENV)/demo-installed

# The first of these that is 3.11 or newer and can make virtual environments; PYTHON=... names another.
PYTHONS := python3 python3.14 python3.13 python3.12 python3.11 python

define find-python
python=; \
for candidate in $(or $(PYTHON),$(PYTHONS)); do \
	if "$$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; \
	then python=$$candidate; break; fi; \
done; \
if [ -z "$$python" ]; then \
	echo 'make: found no Python 3.11 or newer with its venv module (tried: $(or $(PYTHON),$(PYTHONS))).' >&2; \
	echo 'make: install one (Debian, Ubuntu: apt install python3 python3-venv), or name one: make PYTHON=/path/to/python' >&2; \
	exit 1; \
fi
endef
