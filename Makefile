# Everything a person runs. `make demo` goes from an empty machine to a served feed.
SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
RUN := $(VENV)/bin/python -m

# Packages that are installed without what they ask for; see pyproject.toml.
CONTENT = $$($(PYTHON) -c "import tomllib; \
  print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['content'])")

# Export what configs/ray.env sets, unless the environment has it already.
$(foreach setting,$(shell grep -v '^\#' configs/ray.env),\
  $(if $(filter undefined,$(origin $(firstword $(subst =, ,$(setting))))),$(eval export $(setting))))

.PHONY: install lock demo serve test services lint avx512 format bench clean

install: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps $(CONTENT)
	touch $@

# Newest versions that pyproject.toml allows, frozen. Local build tags (torch's +cpu) are left out:
# pip then picks the build that its index offers.
lock:
	rm -rf $(VENV) && $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check $$($(PYTHON) -c "import tomllib; \
	  project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
	  extras = project['optional-dependencies']; \
	  print(*project['dependencies'], *extras['services'], *extras['dev'])" | tr -d "'")
	$(VENV)/bin/pip freeze | sed 's/+.*//' | grep -Ev '^nvidia-|^triton' > requirements.lock
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps $(CONTENT)
	touch $(VENV)/.installed

demo: install
	@started=$$SECONDS; set -e; \
	$(RUN) pipelines.data configs/data/kuairand.yaml; \
	$(RUN) train configs/retrieval/tiny.yaml; \
	$(RUN) train configs/ranker/tiny.yaml; \
	$(RUN) train.bundle --retrieval artifacts/runs/retrieval-tiny --ranker artifacts/runs/ranker-tiny \
	  --data artifacts/data/kuairand --out artifacts/bundle --replace; \
	$(RUN) train.evaluate artifacts/bundle --data artifacts/data/kuairand --no-trees; \
	$(RUN) serve.demo --bundle artifacts/bundle; \
	echo "make demo: $$((SECONDS - started)) s after installation"

serve: install
	$(VENV)/bin/serve run configs/serve.yaml

test: install
	$(RUN) pytest -n auto --dist worksteal
	$(RUN) pytest -m compiler
	$(RUN) pytest -m ray
	$(RUN) pytest -m cluster
	$(RUN) pytest -m readme -s

# Needs redis-server, a Debian package; the other servers come with the Python packages.
services: install
	$(RUN) pytest -m services

lint: install
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/ruff check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

# Preloaded, it lets torch's MKL use AVX-512 on an AMD processor; see README, "AMD processors".
avx512: artifacts/avx512.so

artifacts/avx512.so:
	mkdir -p $(@D)
	echo 'int mkl_serv_intel_cpu_true(void) { return 1; }' | cc -shared -fPIC -x c -o $@ -

format: install
	$(VENV)/bin/ruff format
	$(VENV)/bin/ruff check --fix

# Empty but on an AMD processor that has AVX-512.
AMD = $(shell grep -q AuthenticAMD /proc/cpuinfo && grep -qw avx512f /proc/cpuinfo && echo avx512)

bench: install $(AMD)
	$(RUN) tests.bench.bench_data
	$(RUN) tests.bench.bench_load
	$(RUN) tests.bench.bench_page
	$(RUN) tests.bench.bench_scale
	$(RUN) tests.bench.bench_train
	$(RUN) tests.bench.bench_recent
	$(RUN) tests.bench.bench_vectors
	$(RUN) tests.bench.bench_prefix --posts 10000
	$(RUN) tests.bench.bench_fractal
	$(RUN) tests.bench.bench_ranker
	$(if $(AMD),LD_PRELOAD=$$PWD/artifacts/avx512.so \
	  $(RUN) tests.bench.bench_ranker --out tests/bench/reports/avx512)
	$(RUN) tests.bench.bench_compiled
	$(RUN) tests.bench.bench_int8 artifacts/bundle --data artifacts/data/kuairand
	$(RUN) tests.bench.bench_scores
	$(RUN) tests.bench.bench_routed
	$(RUN) tests.bench.bench_handover
	$(RUN) tests.bench.bench_tune --workers 2

clean:
	rm -rf artifacts .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
