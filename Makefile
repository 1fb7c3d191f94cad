# Everything a person needs: run, test, bench, lint. Only Python 3.11+, make and git are assumed.
# The system's own first, where it will do: others are often built without optimizations, and a fifth slower.
PYTHON ?= $(shell /usr/bin/python3 -c 'import ensurepip, sys; assert sys.version_info >= (3, 11); print(sys.executable)' \
	2>/dev/null || echo python3)
BIN := .venv/bin
WORKERS ?= 4

.PHONY: run test soak bench lint format screenshots clean

# pip comes last: without the package python3-venv, Debian's Python leaves an environment with all but that.
$(BIN)/pip:
	$(PYTHON) -m venv .venv

.venv/installed: requirements.txt constraints.txt | $(BIN)/pip
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/installed-dev: requirements.txt requirements-dev.txt constraints.txt | $(BIN)/pip
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@ .venv/installed

run: .venv/installed
	@$(BIN)/python manage.py serve

# In the order of tests/conftest.py, from both ends at once.
test: .venv/installed-dev
	$(BIN)/python -m pytest --workers $(WORKERS)

lint: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python manage.py makemigrations --check --dry-run
	DEBUG=0 PUBLIC_URL=https://board.example.com ALLOWED_HOSTS=board.example.com \
		$(BIN)/python manage.py check --deploy --fail-level WARNING

format: .venv/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

soak: .venv/installed-dev
	VIBE_SOAK=1 $(BIN)/python -m pytest

bench: .venv/installed-dev
	$(BIN)/python -m benchmarks

screenshots: .venv/installed-dev
	$(BIN)/python -m docs.make_screenshots

clean:
	rm -rf .venv var .mypy_cache .ruff_cache .pytest_cache
