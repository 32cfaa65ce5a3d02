# make run       raw photographs to a registered recognizer, on the built-in sample set
# make test      everything that tests need, then pytest (minutes; no real faces, no whole graph)
# make test-realdata, test-servers, test-pipeline, test-browser   real faces where they are; DVC and
#                the registry against real servers; the whole graph on both engines; the report in Chromium
# make servers   MLflow on PostgreSQL and S3 on this machine, in .servers/; make servers-stop
# make lint      ruff and mypy
# make kfp-local the Kubeflow pipeline on this machine, without containers
# make images    the components' images and MLflow's, with TAG=0.1.0, DOCKER=docker and
#                BUILD_ARGS="--secret id=pip,src=…"
# make test-containers   these images, and the whole pipeline in them, with a Docker daemon of its own;
#                make test-graph: this and test-pipeline
# make k8s-validate  both overlays of k8s/ against schemas and the project's rules; into build/k8s
# make k8s-check OVERLAY=k8s/overlays/prod   an overlay as it is, before it is applied
# make bench-X   benchmarks/X.py; the last line is one JSON object

PYTHON ?= python3
BIN := .venv/bin
# DVC, Great Expectations, MLflow and ONNX Runtime do not report to their makers from here.
export DO_NOT_TRACK := true
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export GX_ANALYTICS_ENABLED := false
export ORT_DISABLE_TELEMETRY := 1
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: run data test test-realdata test-servers test-pipeline test-browser test-graph lint kfp-local \
    servers servers-stop images test-containers k8s-validate k8s-check
run: .venv/run data
	dvc repro
	facewright report

# The sample set, unless data/ holds datasets already.
data: .venv/run
	for half in train verify; do \
	    ls data/$$half/*/dataset.yaml >/dev/null 2>&1 \
	    || facewright dataset import sample:$$half data/$$half/sample || exit; \
	done
	dvc add --quiet data

test: .venv/dev
	pytest -n 2 --dist worksteal -m "not realdata and not servers and not pipeline and not browser and not containers"

test-realdata: .venv/dev
	pytest -m realdata

test-servers: .venv/dev
	pytest -m servers

test-pipeline: .venv/dev data
	pytest -m pipeline

test-browser: .venv/dev
	pytest -m browser

lint: .venv/dev
	ruff check
	ruff format --check
	mypy

servers: .venv/dev
	@python -m tests.servers start

servers-stop:
	@python -m tests.servers stop

kfp-local: .venv/dev data
	python -m pipelines.local

# The index of PyTorch's builds for CPUs, named on its site; else CUDA's libraries come with it.
TORCH_CPU ?=
DOCKER ?= docker
# Of the components' images; each state of the code needs its own, see docs/guides/kubeflow.md.
TAG ?= 0.1.0
# As registry/lineage.py has it.
commit = $(or $(shell git rev-parse --verify --quiet HEAD 2>/dev/null),unknown)
dirty = $(if $(shell git status --porcelain -- . ':!dvc.lock' ':!mlflow/ledger-keys' 2>/dev/null),-dirty)
# MLflow's image has the version that constraints.txt pins.
mlflow = $(shell sed -n 's/^mlflow==//p' constraints.txt)
build = $(DOCKER) build $(BUILD_ARGS) --build-arg GIT_COMMIT=$(commit)$(dirty)
images:
	$(build) -f components/Dockerfile --target cpu -t facewright:$(TAG) --build-arg TORCH_INDEX=$(TORCH_CPU) .
	$(build) -f components/Dockerfile --target cuda -t facewright-cuda:$(TAG) .
	$(build) -f components/Dockerfile --target tensorrt -t facewright-tensorrt:$(TAG) .
	$(build) -f mlflow/Dockerfile -t facewright-mlflow:$(mlflow) .

test-containers: .venv/dev data
	pytest -m containers

# Both in one go, so that `dvc repro` of the sample set runs once.
test-graph: .venv/dev data
	pytest -m "pipeline or containers"

k8s-validate: .venv/dev
	python -m tests.k8s render build/k8s
	pytest tests/k8s

k8s-check: .venv/dev
	@python -m tests.k8s check $(OVERLAY)

bench-%: .venv/dev
	python -m benchmarks.$(subst -,_,$*)

.venv/run .venv/dev: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing packages into .venv: some minutes the first time"
	pip install --quiet --constraint constraints.txt --editable ".[$(if $(filter dev,$(@F)),dev,tensorrt-rtx)]"
	touch $@
