# Thin on purpose: each target is the command you could type yourself. `scripts/setup` makes and repairs the environment.
#
#   make demo                 everything, from nothing to a tuned answer
#   make demo TORCH_INDEX=…   take torch from this index (see README: without a GPU, the CPU build saves gigabytes)

SHELL := bash
VENV := $(or $(VIRTUAL_ENV),.venv)
BIN := $(VENV)/bin
TESTERS := 3
export TORCH_INDEX

.PHONY: help demo serve test test-failed test-whole test-cluster test-cluster-ray rolling-restart power-cuts kills-ray fuzz wheel lint format docs families coverage-api client-trials trial-vllm setup clean

help:
	@echo "make demo    set up, train a small model on examples/weather-jokes.jsonl, compare it with its base"
	@echo "make serve   the API and one worker on http://127.0.0.1:8000/v1"
	@echo "make test    all tests, in three processes (TESTERS=2: in two)          make lint    ruff, mypy, import-linter"
	@echo "make test-whole       the same, with all cases of the long lists that make test takes a part of, others each day"
	@echo "make test-cluster     contract and acceptance tests over two servers, two workers, PostgreSQL and S3"
	@echo "make test-cluster-ray   the same, with jobs that train on the nodes of a Ray cluster"
	@echo "make rolling-restart  1,000 operations while two servers behind a proxy restart in turn"
	@echo "make power-cuts   100 power cuts during training, on a disk that loses what was not synced"
	@echo "make kills-ray    30 kills on a Ray cluster of two nodes, and a job on both (docs/scaling.md)"
	@echo "make fuzz    schemathesis at length: about 13,000 requests by two OpenAPI documents, and hypothesis's properties"
	@echo "make wheel   build the wheel, and run the demo from it in an empty environment"
	@echo "make docs    rewrite docs/cli.md, docs/settings.md, docs/dataset-format.md and the README's tree of folders"
	@echo "make families   train and serve a tiny model of each family, rewrite docs/families.md"
	@echo "make coverage-api   rewrite docs/api-coverage.md by asking the application"
	@echo "make client-trials  LangChain, LlamaIndex, LiteLLM and llm ask a tuned model (docs/clients.md)"
	@echo "make trial-vllm     two vLLM servers (CPU build, 3.5 GB) answer through serve_remote (docs/serving.md)"
	@echo "make setup   environment only   make clean   remove .venv and caches"

setup:
	@scripts/setup $(VENV)

demo: setup
	@$(BIN)/tunesmith demo

serve: setup
	@$(BIN)/tunesmith serve

test: setup
	$(BIN)/python -m pytest -n $(TESTERS) --no-loadscope-reorder

test-failed: setup
	$(BIN)/python -m pytest --last-failed --last-failed-no-failures none --maxfail 1

test-whole: setup
	ALL_CASES=1 $(BIN)/python -m pytest -n $(TESTERS) --no-loadscope-reorder

test-cluster: setup
	TUNESMITH_TEST_CLUSTER=1 $(BIN)/python -m pytest tests/cluster tests/contract tests/acceptance

test-cluster-ray: setup
	TUNESMITH_TEST_CLUSTER=1 TUNESMITH_TEST_RAY=1 $(BIN)/python -m pytest tests/cluster/test_main_path.py tests/contract tests/acceptance

rolling-restart: setup
	ROLLING_REQUESTS=1000 $(BIN)/python -m pytest -s tests/cluster/test_rolling_restart.py

power-cuts: setup
	POWER_CUTS=100 $(BIN)/python -m pytest -s tests/acceptance/power_cut/test_power_cut.py

kills-ray: setup
	OMP_NUM_THREADS=1 RAY_KILLS=30 $(BIN)/python -m pytest -s tests/acceptance/ray

fuzz: setup
	TUNESMITH_FUZZ_EXAMPLES=100 $(BIN)/python -m pytest tests/fuzz
	PROPERTIES=20 $(BIN)/python -m pytest tests/check/test_properties.py tests/api/test_hostile.py

wheel: setup
	TUNESMITH_WHEEL_TEST=1 $(BIN)/python -m pytest tests/wheel

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	scripts/commit_subjects

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup
	$(BIN)/python scripts/cli_reference.py
	$(BIN)/python scripts/settings_reference.py
	$(BIN)/python scripts/dataset_codes.py
	$(BIN)/python scripts/readme_tree.py

families: setup
	OMP_NUM_THREADS=1 $(BIN)/python scripts/families_page.py

coverage-api: setup
	$(BIN)/python scripts/api_coverage.py

client-trials: setup
	$(BIN)/python scripts/client_trials.py

trial-vllm: setup
	OMP_NUM_THREADS=1 $(BIN)/python bench/remote/trial.py

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
