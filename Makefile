# The pipeline as files: make knows what is stale, so only stale stages run again.
#
#   make distill export report                                 rendered road scenes, minutes on a CPU
#   make distill export report CONFIG=kitti DATA=/path/to/kitti    a KITTI folder

PYTHON  ?= python3
CONFIG  ?= synth
DATA    ?= data/synth
RUN     ?= runs/$(CONFIG)
TEACHER ?= distill/checkpoints/synth_teacher.safetensors
FRAMES  ?= 900
TRAIN   ?=
VEHICLE_BASE ?= $(if $(and $(L4T),$(REGISTRY)),$(REGISTRY)/nvidia/l4t-jetpack:$(L4T))

BIN    := .venv/bin
E      := $(BIN)/edgedetr
IMAGES := $(DATA)/training/image_2
STUDENT = $(RUN)/student

# A process of its own for each: TensorRT's builder, once loaded, has crashed what ran after it.
TESTS := tests/bench tests/calib tests/distill tests/export tests/runtime tests/device tests/project

.PHONY: help setup demo distill export report test lint types check clean \
        wheel-runtime docker-vehicle docker-train
.DELETE_ON_ERROR:
.SECONDARY:

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

setup: .venv/installed  ## Make .venv and install what is pinned; skipped when up to date

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

demo: setup  ## Distil, export, quantize and report on rendered scenes, into runs/demo
	$(MAKE) --no-print-directory distill export report CONFIG=synth RUN=$(or $(DEMO_RUN),runs/demo)

distill: $(STUDENT).safetensors  ## Train the student of CONFIG on DATA
export: $(STUDENT).int8.onnx $(RUN)/verify.onnx.json $(RUN)/verify.int8.json  ## ONNX, INT8, checks
report: $(RUN)/report.html  ## Accuracy and latency beside the teacher's

data/synth/synth.json: | setup
	$(E) data synth data/synth --frames $(FRAMES) --seed 0

ifeq ($(DATA),data/synth)
$(STUDENT).safetensors: data/synth/synth.json
endif

$(STUDENT).safetensors: distill/configs/$(CONFIG).toml $(TEACHER) | setup
	$(E) distill train $< --out $(RUN) --set data.root=$(DATA) --set teacher=$(TEACHER) $(TRAIN)

$(STUDENT).onnx: $(STUDENT).safetensors
	$(E) export onnx $< -o $@

$(RUN)/teacher.onnx: $(TEACHER) | setup
	$(E) export onnx $< -o $@

$(STUDENT).calib.json: $(STUDENT).onnx
	$(E) calib collect $< --data $(DATA) -o $@

$(STUDENT).int8.onnx: $(STUDENT).onnx $(STUDENT).calib.json
	$(E) export qdq $^ --rest fp32 -o $@

$(RUN)/verify.onnx.json: $(STUDENT).safetensors $(STUDENT).onnx
	$(E) verify $^ --images $(IMAGES) --frames 40 --json $@

$(RUN)/verify.int8.json: $(STUDENT).onnx $(STUDENT).int8.onnx
	$(E) verify $^ --images $(IMAGES) --frames 40 --json $@

$(RUN)/report.html: $(RUN)/teacher.onnx $(STUDENT).int8.onnx $(RUN)/verify.onnx.json $(RUN)/verify.int8.json
	$(E) report $(RUN) --data $(DATA)

wheel-runtime: setup  ## Build the vehicle's wheel into dist/
	$(BIN)/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist ./runtime

docker-vehicle:  ## Image for the vehicle; see docs/deploy-jetson.md for L4T, REGISTRY, VEHICLE_BASE
	$(if $(VEHICLE_BASE),,$(error name the base image: L4T=r36.4.0 REGISTRY=<host of NVIDIA's images>, or VEHICLE_BASE=<image>))
	docker build --target vehicle --build-arg VEHICLE_BASE=$(VEHICLE_BASE) --tag edgedetr-vehicle .

docker-train:  ## Image for training on an x86 machine with a GPU
	docker build --target train --tag edgedetr-train .

test: setup  ## Run the tests
	for part in $(TESTS); do $(BIN)/pytest -q $$part || exit 1; done

lint: setup  ## Check style and who imports whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile

types: setup  ## Check types
	$(BIN)/mypy

check: lint types test  ## Everything that needs no GPU

clean:  ## Remove runs and rendered scenes; keep .venv
	rm -rf runs data
