# Thin names over scripts/. `make help` says what there is.
# A variable on the command line (`make run SMP=1`) reaches the scripts through the environment.

SCENARIO ?= demo
MAKEFLAGS += --no-print-directory
.PHONY: help setup build new run shell fvp linux trace test test-linux check bench fuzz model mutants soak clean distclean
.DEFAULT_GOAL := help

help: ## this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@cat scripts/help.txt

setup: ## get what is missing: tools, the Rust target, TF-A (the others do this too)
	@scripts/setup.sh

build: setup ## build the SPMC, the partitions and the normal world
	@scripts/build.sh

# Only the command line may name it: some systems have a variable NAME in the environment.
new: ## make a partition NAME and a scenario that boots it
	@$(if $(filter command,$(firstword $(origin NAME))),,unset NAME; )scripts/new.py

run: build ## boot SCENARIO (demo) on QEMU; ends by itself
	@scripts/$(if $(filter-out spmd,$(SPD)),linux.sh test,run.sh $(SCENARIO) $(QEMU_ARGS))

shell: build ## boot SCENARIO (demo) to a shell, to try FF-A calls by hand; SCRIPT=file is typed instead
	@scripts/shell.sh $(SCENARIO) $(QEMU_ARGS)

fvp: build ## make what Arm's FVP boots: BL1 and a FIP with SCENARIO of manifests/fvp (demo), and how to run it
	@scripts/fvp.sh $(SCENARIO)

linux: build ## boot Debian's Linux with OP-TEE and partitions of ours, to a shell on this terminal
	@scripts/linux.sh

test-linux: build ## the same unattended: what the kernel finds, OP-TEE's test suite (XTEST), cores off and on
	@scripts/linux.sh test

trace: build ## follow a client's calls of a trusted application across every boundary, and count their instructions
	@scripts/trace.py

test: setup ## everything: checks, host tests, tests on the target
	@scripts/test.sh

check: setup ## format, lints, documentation, rules of the workspace
	@scripts/check.sh

bench: setup ## measure, compare, write target/bench.json
	@scripts/bench.sh

fuzz: setup ## fuzz each target of spmc/fuzz for FUZZ_SECONDS (60)
	@scripts/fuzz.sh

model: setup ## visit all states of small machines, for MINUTES (10) each at most
	@scripts/model.sh

mutants: setup ## change one thing at a time in the modules of .cargo/mutants.toml (or FILE): a test must fail; hours
	@scripts/mutants.sh

soak: build ## random calls and interrupts on four cores, for SOAK_SECONDS (600)
	@scripts/soak.sh

clean: ## remove what was built here
	cargo clean

distclean: clean ## remove the cache too: tools, TF-A, sources
	@scripts/distclean.sh
