# The front door. `make help` lists the doors; CMake and its presets do the work behind them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# scripts/setup.sh puts a newer cmake here where the system's is too old.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

JOBS ?= $(shell nproc)
SETUP ?= scripts/setup.sh
FUZZ_SECONDS ?= 60
BENCH_ARGS ?= --shape deepseek-v4-flash --experts 16 --tokens 1,16,256

# $(call build,PRESET[,TARGET]) configures and builds; $(call check,PRESET[,CTEST OPTIONS]) runs the tests and sums up.
build = cmake --preset $(1) >/dev/null && cmake --build build/$(1) -j $(JOBS) $(if $(2),--target $(2))
check = rm -f build/$(1)/ctest.xml; rc=0; \
  ctest --preset $(1) -j $(JOBS) --progress --no-tests=error --output-junit ctest.xml $(2) || rc=$$?; \
  python3 scripts/ctest_summary.py build/$(1)/ctest.xml || rc=$$?; exit $$rc

.PHONY: help setup build test test-isa cuda demo asan tsan fuzz mutants bench format clean

help: ## print this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "Variables: JOBS=$(JOBS)  FUZZ_SECONDS=$(FUZZ_SECONDS)  BENCH_ARGS='$(BENCH_ARGS)'"
	@echo "           SETUP=true keeps every target from installing packages"

setup: ## install the Debian or Ubuntu packages that are missing
	@$(SETUP)

build: ## configure and build; the command line is build/cpu/bin/megamoe
	@$(call build,cpu)

test: setup build ## install, build, run every test, end with one line
	@$(call check,cpu)

test-isa: setup build ## the tests labelled "isa", once for each instruction set of this machine
	@scripts/test_isa.sh $(JOBS)

cuda: ## the same with the cuda backends, after putting nvcc 13 into .venv where there is none
	@$(SETUP) build cuda
	@$(call build,cuda)
	@$(call check,cuda)

demo: setup build ## quantise and run a small trained model; prints errors, sizes, times, and the path of a picture
	@scripts/demo.sh

asan: setup ## the whole test suite under AddressSanitizer and UBSan
	@$(call build,asan)
	@$(call check,asan)

tsan: setup ## the threaded tests (label "threads") under ThreadSanitizer
	@$(call build,tsan,threaded_tests)
	@$(call check,tsan,-L '^threads$$')

fuzz: ## all libFuzzer targets, FUZZ_SECONDS altogether
	@$(SETUP) build fuzz
	@$(call build,fuzz)
	@scripts/fuzz.sh $(FUZZ_SECONDS)

mutants: setup ## break the code on purpose, one way at a time: a test must notice each
	@python3 scripts/mutants.py

bench: setup build ## time one layer on this machine
	@build/cpu/bin/megamoe bench $(BENCH_ARGS)

format: ## clang-format every C++ file
	@$(SETUP) format
	@git ls-files -z '*.h' '*.cc' | xargs -0 clang-format -i

clean: ## delete everything that was built
	@rm -rf build
