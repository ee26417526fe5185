# `make up` is all a newcomer needs; `make help` lists the rest.

# The cargo profile of `make up` and `make demo`. Without link-time optimization it costs about
# what the dev profile does, and the tests keep that one to themselves.
PROFILE ?= release
# Where the server listens and keeps its data.
LISTEN ?= 127.0.0.1:8420
STATE ?= .stillpoint

# cargo writes the dev profile to `debug`.
TARGET := target/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
export STILLPOINT_BIN := $(CURDIR)/$(TARGET)/stillpoint
export LISTEN STATE

.PHONY: help up down test torture bench lint demo deps build

help: ## what can be made
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

up: deps build ## install what is missing, build, start the server, say how to log in
	@scripts/up

down: ## stop the server; its data stays
	@scripts/down

test: ## every test
	@scripts/deps test
	@env -u STILLPOINT_BIN scripts/test

torture: ## the fault rows with larger figures (STILLPOINT_TORTURE=N times), one line per row
	@scripts/deps test
	@env -u STILLPOINT_BIN scripts/torture

bench: ## figures, side by side with the tools one would use instead
	@scripts/deps bench
	@cargo build --locked --release -p stillpoint -p stillpoint-bench
	@STILLPOINT_BIN=$(CURDIR)/target/release/stillpoint target/release/stillpoint-bench

lint: ## formatting, clippy, file length, shell syntax
	@cargo fmt --check
	@cargo clippy --locked --quiet --workspace --all-targets -- -D warnings
	@scripts/file-length
	@for script in scripts/* .ci/run; do bash -n $$script || exit 1; done

demo: deps build ## the main job on a real disk, narrated
	@scripts/deps test
	@scripts/demo

deps: ## install the Debian packages that are missing
	@scripts/deps up

build:
	@cargo build --locked --profile $(PROFILE) -p stillpoint
