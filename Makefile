# The pipeline as files: make knows what is stale, so only stale stages run again.
#
#   make distill export report                                 rendered road scenes, minutes on a CPU
#   make distill export report CONFIG=kitti DATA=/path/to/data     a data set of any format; FORMAT=yolo,
#                                                                  coco, ... where several may be meant
#   TEACHER is CONFIG's unless it is set: a checkpoint or a name of the hub

PYTHON  ?= python3
CONFIG  ?= synth
DATA    ?= data/synth
RUN     ?= runs/$(CONFIG)
FILE    := distill/configs/$(CONFIG).toml
VALUE    = $(shell sed -n 's/^$(1) *= *"\([^"]*\)".*/\1/p' $(FILE))
TEACHER ?= $(call VALUE,teacher)
FRAMES  ?= 900
FORMAT  ?= $(or $(call VALUE,format),$(if $(filter-out data/synth,$(DATA)),auto))
TRAIN   ?=
VEHICLE_BASE ?= $(if $(and $(L4T),$(REGISTRY)),$(REGISTRY)/nvidia/l4t-jetpack:$(L4T))

BIN     := .venv/bin
E       := $(BIN)/edgedetr
SET     := --data $(DATA) $(if $(filter-out auto,$(FORMAT)),--format $(FORMAT))
STUDENT := $(RUN)/student
DEMO    := CONFIG=synth RUN=$(or $(DEMO_RUN),runs/demo)
TAUGHT  := $(if $(TEACHER),$(RUN)/teacher.onnx)
GATES   := $(RUN)/verify.onnx.json $(RUN)/verify.fp16.json $(RUN)/int8.tried

# A process of its own for each: TensorRT's builder, once loaded, has crashed what ran after it. The
# longest first; docstrings runs the examples in the code.
TESTS   := distill export project runtime bench docstrings calib graph pages device
JOBS    ?= 2

.PHONY: help setup pycuda demo distill export report test lint types check clean \
        wheel-runtime docker-vehicle docker-train
.DELETE_ON_ERROR:
.PRECIOUS: $(RUN)/report.html
.SECONDARY:

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

setup: .venv/installed  ## Make .venv and install what is pinned; skipped when up to date

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

pycuda: .venv/pycuda/installed  ## Build pycuda for the tests of the GPU path; says why where it cannot be

# Pins are wheels only, and pycuda comes as source; without it these tests run on a fake of it.
.venv/pycuda/installed: tests/runtime/cuda/build_pycuda.py | .venv/installed
	@$(BIN)/python $< .venv/pycuda

demo: setup  ## Distil, export, quantize and report on rendered scenes, into runs/demo
	$(MAKE) --no-print-directory distill $(DEMO)
	$(MAKE) --no-print-directory --jobs=2 --output-sync export $(DEMO)
	$(MAKE) --no-print-directory report $(DEMO)
ifeq ($(FRAMES)$(if $(TRAIN),shortened),900)
	$(E) gate $(or $(DEMO_RUN),runs/demo)/report.json benchmarks/budgets.toml
endif

distill: $(STUDENT).safetensors  ## Train the student of CONFIG on DATA
export: $(GATES) $(TAUGHT)  ## ONNX, FP16 and INT8, checked; fails with a report where a gate does not pass
	@$(E) report $(RUN) --check || { $(MAKE) --no-print-directory report; exit 1; }
report: $(RUN)/report.html  ## Accuracy and latency beside the teacher's; fails where a gate did
	@$(E) report $(RUN) --check

data/synth/synth.json: | setup
	$(E) data synth data/synth --frames $(FRAMES) --seed 0

ifeq ($(DATA),data/synth)
$(STUDENT).safetensors: data/synth/synth.json
endif

$(STUDENT).safetensors: $(FILE) $(wildcard $(TEACHER)) | setup
	$(E) distill train $< --out $(RUN) --set data.root=$(DATA) $(if $(FORMAT),--set data.format=$(FORMAT)) --set teacher=$(TEACHER) $(TRAIN)

$(STUDENT).onnx: $(STUDENT).safetensors
	$(E) export onnx $< -o $@

$(RUN)/teacher.onnx: $(wildcard $(TEACHER)) | setup
	$(E) export onnx $(TEACHER) -o $@

$(STUDENT).calib.json: $(STUDENT).onnx
	$(E) calib collect $< $(SET) -o $@

$(STUDENT).fp16.onnx: $(STUDENT).onnx
	$(E) export fp16 $< $(SET) -o $@

# Where a gate does not pass, its record says so, and make goes on to the report, which shows it and
# fails. A command that leaves no record is an error like any other.
$(RUN)/verify.onnx.json: $(STUDENT).safetensors $(STUDENT).onnx
	@rm -f $@
	$(E) verify $^ $(SET) --json $@ || test -s $@

$(RUN)/verify.fp16.json: $(STUDENT).onnx $(STUDENT).fp16.onnx
	@rm -f $@
	$(E) verify $^ $(SET) --json $@ || test -s $@

# INT8 is made only where enough of it passes; student.int8.onnx.coverage.json says why it is not.
$(RUN)/int8.tried: $(STUDENT).onnx $(STUDENT).calib.json
	@rm -f $(STUDENT).int8.onnx* $(RUN)/verify.int8.json
	$(E) export qdq $^ --rest fp32 --gate $(SET) -o $(STUDENT).int8.onnx || test -s $(STUDENT).int8.onnx.coverage.json
	test ! -e $(STUDENT).int8.onnx || $(E) verify $< $(STUDENT).int8.onnx $(SET) --json $(RUN)/verify.int8.json || test -s $(RUN)/verify.int8.json
	@touch $@

$(RUN)/report.html: $(TAUGHT) $(GATES)
	$(E) report $(RUN) $(SET)

wheel-runtime: setup  ## Build the vehicle's wheel into dist/
	$(BIN)/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist ./runtime

docker-vehicle:  ## Image for the vehicle; see docs/deploy-jetson.md for L4T, REGISTRY, VEHICLE_BASE
	$(if $(VEHICLE_BASE),,$(error name the base image: L4T=r36.4.0 REGISTRY=<host of NVIDIA's images>, or VEHICLE_BASE=<image>))
	docker build --target vehicle --build-arg VEHICLE_BASE=$(VEHICLE_BASE) --tag edgedetr-vehicle .

docker-train:  ## Image for training on an x86 machine with a GPU
	docker build --target train --tag edgedetr-train .

test: setup  ## Run all parts of the tests, JOBS at a time, and name those that failed
	@echo "$(words $(TESTS)) parts, $(JOBS) at a time; each is printed when it has ended"
	@failed=$$(mktemp) && trap 'rm -f $$failed' EXIT && \
	$(MAKE) --no-print-directory --jobs=$(JOBS) --output-sync $(TESTS:%=part/%) FAILED=$$failed && \
	{ test ! -s $$failed || { echo "failed:" $$(sort $$failed); exit 1; }; }

part/runtime: .venv/pycuda/installed

part/%: PATHS = $(if $(filter docstrings,$*),runtime distill calib export benchmarks,tests/$*)
part/%:
	@echo '$(BIN)/pytest -q $(PATHS) $(ARGS)'
	@OMP_NUM_THREADS=1 MAKEFLAGS= $(BIN)/pytest -q $(PATHS) $(ARGS) || echo $* >> $(FAILED)

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
