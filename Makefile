# Every habit of this project is a target; `make help` lists them.

VENV ?= .venv
# The first interpreter that fits; name another with `make setup PYTHON=/path/to/python3`.
PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11,$(shell \
	$(name) -c 'import sys; (3, 11) <= sys.version_info < (3, 14) and print("$(name)")' 2>/dev/null)) python3)
# make serve MODEL=file.gguf ARGS='--port 9000'; make test TESTS='tests/ops -k attention'
MODEL =
ARGS =
TESTS =
# Neighbours share what is set up for them, so each process takes a run of them. One process more
# than processors: a fifth of the time tests wait for servers and files.
PARALLEL = -n $(shell echo $$(( $$(nproc) + 1 ))) --dist worksteal

BIN := $(VENV)/bin
# A second environment, with the newest plain onnxruntime in the place of onnxruntime-rocm.
CURRENT = .venv-current
# The versions that the tests ran with.
PIP_INSTALL = $(BIN)/python -m pip install --constraint requirements.lock
# What builds images, for which device, and the base of those for AMD GPUs.
BUILDER = docker build
DEVICE = cpu
ROCM_BASE = docker.io/rocm/dev-ubuntu-24.04:7.2.4@sha256:bdc8e61026cbb844ede93d44d2c50055f51ebb2041906b60182bf3bee3139054
LIBRARY := runtime/ops/librocmforge_ops.so
NATIVE_SOURCES := $(shell find runtime/ops/native -name '*.cc' -o -name '*.h')
PACKAGES := api pipelines rocmforge runtime

.DEFAULT_GOAL := help
.PHONY: help setup format check docs test test-fast test-long test-current tokenizer-cases templates schema-suite exactness fuzz fuzz-requests openapi-check soak \
	clients kill-preparations sanitize serve bench dagster \
	gpu-kernels gpu-check emulate lock helm wheel image sbom clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

# A stamp stands in the environment it describes, so that removing the environment starts afresh.
$(VENV)/created:
	@$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info < (3, 14) or sys.exit(\
	"ROCmForge needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is " + sys.version.split()[0] + \
	". Name another: make setup PYTHON=/path/to/python3")'
	@echo "== creating $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV) || { echo "No environment could be made; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@touch $@

$(VENV)/installed: pyproject.toml requirements.lock | $(VENV)/created
	@echo "== installing ROCmForge and what it needs (about 1 GB the first time)"
	$(PIP_INSTALL) --editable '.[pipelines,build,fleet,otlp]'
	@touch $@

$(VENV)/installed-dev: pyproject.toml requirements.lock | $(VENV)/installed
	@echo "== installing the tools of development"
	$(PIP_INSTALL) --editable '.[dev]'
	@touch $@

$(LIBRARY): CMakeLists.txt $(NATIVE_SOURCES) | $(VENV)/installed
	@echo "== building the native operators"
	@command -v $${CXX:-c++} >/dev/null || { echo "A C++ compiler is needed; on Debian and Ubuntu: apt install g++" >&2; exit 1; }
	$(BIN)/cmake -S . -B build/native -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN)/ninja)
	$(BIN)/cmake --build build/native
	@touch $@

setup: $(VENV)/installed $(LIBRARY) ## make .venv, install everything, build the native operators

format: $(VENV)/installed-dev ## format the sources, and redraw the picture of the modules
	$(BIN)/ruff check --fix-only --quiet $(PACKAGES) tests
	$(BIN)/ruff format $(PACKAGES) tests
	$(BIN)/clang-format -i $(NATIVE_SOURCES)
	$(BIN)/python -m tests.module_map

check: $(VENV)/installed-dev $(LIBRARY) docs ## format, lint, types, import contracts and docs, changing no source
	$(BIN)/ruff check $(PACKAGES) tests
	$(BIN)/ruff format --check $(PACKAGES) tests
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run -Werror $(NATIVE_SOURCES)

docs: $(VENV)/installed-dev ## build the site of docs in build/docs; fails on a dead link
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

test: check ## check, then all tests except the long ones
	$(BIN)/python -m pytest $(PARALLEL) -m 'not long' $(TESTS)

test-long: $(VENV)/installed-dev $(LIBRARY) ## the tests that take ten seconds or more: every GPU, real schedules, full disks
	$(BIN)/python -m pytest $(PARALLEL) -m long $(TESTS)

test-fast: $(VENV)/installed-dev $(LIBRARY) ## the tests of a few seconds that need no download
	$(BIN)/python -m pytest $(PARALLEL) -m 'not slow and not sample and not long' $(TESTS)

$(CURRENT)/installed: pyproject.toml requirements.lock
	@echo "== creating $(CURRENT) with the newest onnxruntime"
	@$(PYTHON) -m venv $(CURRENT)
	@$(CURRENT)/bin/python -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
	extra = project["optional-dependencies"]; \
	wanted = project["dependencies"] + extra["dev"] + extra["gpu-build"] + extra["pipelines"] + \
	extra["scale"] + extra["storage"] + ["onnxruntime"]; \
	print(*(each for each in wanted if not each.startswith(("onnxruntime-rocm", "rocmforge"))), sep="\n")' \
	> $(CURRENT)/requirements.txt
	$(CURRENT)/bin/python -m pip install --constraint requirements.lock --requirement $(CURRENT)/requirements.txt
	$(CURRENT)/bin/python -m pip install --no-deps --editable .
	@touch $@

test-current: $(LIBRARY) $(CURRENT)/installed ## run the tests of models and GPUs on a plain onnxruntime, with our execution provider
	$(CURRENT)/bin/python -m pytest $(PARALLEL) -m 'not long and not sample' $(or $(TESTS),tests/rocm tests/runtime tests/ops)

tokenizer-cases: $(VENV)/installed $(LIBRARY) ## run llama.cpp's own cases of tokenizers (downloads 73 MB once)
	@PYTHONPATH=. $(BIN)/python tests/runtime/llama_cpp_cases.py

templates: $(VENV)/installed $(LIBRARY) ## compare llama.cpp's 70 chat templates with transformers' rendering (downloads 73 MB once)
	@PYTHONPATH=. $(BIN)/python -m tests.runtime.template_cases $(ARGS)

schema-suite: $(VENV)/installed-dev ## try our grammars of JSON schemas on JSON-Schema-Test-Suite; ARGS=CHECKOUT of it
	@$(BIN)/python -m tests.runtime.schema_suite $(ARGS)

serve: setup ## serve the sample model, or MODEL=file.gguf; ARGS='--port 9000' is handed on
	@exec $(BIN)/rocmforge serve "$(or $(MODEL),$$($(BIN)/rocmforge sample))" $(ARGS)

bench: setup ## measure the sample model, or MODEL=file.gguf; ARGS='--quick --peers --plot bench.png'
	@case " $(ARGS) " in *" --peers "*) command -v llama-server >/dev/null || \
	$(BIN)/python -c 'import xllamacpp' 2>/dev/null || $(PIP_INSTALL) --editable '.[peers]';; esac
	@exec $(BIN)/rocmforge bench "$(or $(MODEL),$$($(BIN)/rocmforge sample))" $(ARGS)

exactness: $(VENV)/installed-dev $(LIBRARY) ## compare the exactness of logits with llama.cpp (ten minutes)
	@$(BIN)/python -c 'import llama_cpp' 2>/dev/null || $(PIP_INSTALL) --editable '.[oracle]'
	$(BIN)/python -m tests.golden.exactness --document docs/exactness.md \
	--golden tests/golden/exactness.json $(ARGS)

fuzz: $(VENV)/installed-dev $(LIBRARY) ## examine 12,000 broken GGUF files; ARGS='--files 50000 --first 12000'
	$(BIN)/python -m tests.fuzz.run $(ARGS)

fuzz-requests: $(VENV)/installed-dev $(LIBRARY) ## send 20,000 unusual requests to one server; ARGS='--requests 2000 --seed 7'
	$(BIN)/python -m tests.fuzz.run_requests $(ARGS)

openapi-check: $(VENV)/installed-dev $(LIBRARY) ## try /openapi.json with schemathesis on a served tiny model; ARGS='--max-examples 200'
	$(BIN)/python -m tests.api.openapi_check $(or $(ARGS),--max-examples 50)

kill-preparations: $(VENV)/installed-dev $(LIBRARY) ## kill 50 preparations at random moments; ARGS='--rounds 10 --seed 7'
	$(BIN)/python -m tests.pipelines.kill_preparations $(ARGS)

soak: $(VENV)/installed-dev $(LIBRARY) ## 20 minutes of mixed traffic to one server; ARGS='--minutes 5'
	$(BIN)/python -m tests.soak.run $(ARGS)

clients: $(VENV)/installed-dev $(LIBRARY) ## the quick starts of OpenAI's clients (downloads 1 GB once); ARGS='--only openai'
	$(BIN)/python -m tests.clients.run $(ARGS)

sanitize: $(VENV)/installed-dev $(LIBRARY) ## native operators and broken GGUFs under ASan and UBSan; ARGS=--short
	$(BIN)/python -m tests.sanitize.run $(ARGS)

dagster: setup ## open the pipelines in Dagster's own UI, on this machine only
	@home="$$($(BIN)/python -c 'from runtime.settings import Settings; print(Settings.from_environment().home)')/dagster" && \
	mkdir -p "$$home" && exec 9>"$$home/running.lock" && { flock --nonblock 9 || { \
	echo "Dagster runs over $$home already: open it in the browser, or end it first" >&2; exit 1; }; } && \
	cp deploy/dagster.yaml "$$home/dagster.yaml" && export DAGSTER_HOME="$$home" && \
	$(BIN)/python -m pipelines.lost_runs && exec $(BIN)/dagster dev --workspace workspace.yaml --host 127.0.0.1 $(ARGS)

$(VENV)/installed-gpu-build: pyproject.toml requirements.lock | $(VENV)/installed
	@echo "== installing the GPU kernels' compiler (Triton, 200 MB)"
	$(PIP_INSTALL) --editable '.[gpu-build]'
	@touch $@

gpu-kernels: $(VENV)/installed-gpu-build ## compile the GPU kernels for AMD's architectures; needs no GPU
	$(BIN)/python -m runtime.ops.gpu.build $(ARGS)

gpu-check: $(VENV)/installed-gpu-build ## check and time the GPU kernels on an NVIDIA GPU
	$(BIN)/python -m tests.ops.gpu.nvidia $(ARGS)

emulate: $(VENV)/installed-gpu-build ## run the GPU kernels' code objects in an instruction emulator; TINYGRAD=a checkout of it
	@TINYGRAD=$(if $(TINYGRAD),$(abspath $(TINYGRAD))) $(BIN)/python -m tests.emulator.emulate $(ARGS)

lock: $(VENV)/created ## renew requirements.lock, the versions that setup and CI install
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra dev --extra peers --extra oracle --universal --upgrade \
	--python-version 3.11 --no-annotate --custom-compile-command 'make lock' --quiet --output-file requirements.lock

helm: $(VENV)/installed-dev ## fetch helm into build/helm, for the tests of the chart in deploy/helm (39 MB once)
	@$(BIN)/python -m tests.deploy.helm

wheel: $(VENV)/installed ## build a wheel into dist: native operators, and GPU kernels where compiled
	$(BIN)/python -m pip wheel --no-deps --wheel-dir dist .

image: ## build rocmforge:cpu, an image of a server; DEVICE=rocm for AMD GPUs, BUILDER='buildah build --format docker'
	$(BUILDER) --tag rocmforge:$(DEVICE) --build-arg DEVICE=$(DEVICE) $(if $(filter rocm,$(DEVICE)),--build-arg BASE=$(ROCM_BASE)) \
	--file deploy/container/Dockerfile $(ARGS) .

sbom: wheel ## list the packages of a server, with versions and licenses, in dist/rocmforge.cdx.json (CycloneDX)
	$(BIN)/python -m venv --clear --without-pip build/server
	$(BIN)/python -m pip --python build/server install --constraint requirements.lock "$$(ls -t dist/rocmforge-*.whl | head -1)"
	$(BIN)/python -m venv build/cyclonedx
	build/cyclonedx/bin/python -m pip install cyclonedx-bom==7.5.0
	build/cyclonedx/bin/cyclonedx-py environment --output-file dist/rocmforge.cdx.json build/server

clean: ## remove everything that was built, except the models in the home folder
	rm -rf $(VENV) $(CURRENT) build dist $(LIBRARY) runtime/ops/gpu/compiled .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find $(PACKAGES) tests -name __pycache__ -type d -exec rm -rf {} +
