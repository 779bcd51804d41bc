# `make` lists the targets.

# Outside the clone, so that a fresh clone does not build everything anew.
CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/sosohappy
export CARGO_TARGET_DIR ?= $(CACHE)/target
FLEET := $(CARGO_TARGET_DIR)/release/fleet
# The profile that `make run` builds: quicker to build, see Cargo.toml.
LAUNCHER := $(CARGO_TARGET_DIR)/launcher/fleet
# Passed on to what is run: make run ARGS="--data /var/lib/sosohappy"
ARGS ?=
# What `make bench-migration` imports.
POSTS ?= 100000

.DEFAULT_GOAL := help
.PHONY: help setup run demo test test-fast engines-up engines-down bench bench-migration fmt lint docs check-deps sbom figures check-api check-console check-ops build changed image images render deploy deploy-step write-back rollback rolling cluster check-cluster test-cluster cluster-down compose check-compose test-compose compose-down dockerfile cold-build clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install the missing build tools
	@scripts/setup

run: setup ## build and run the whole fleet, embedded engines
	cargo build --profile launcher --locked -p sosohappy-fleet
	@exec $(LAUNCHER) run $(ARGS)

# CLUSTER=1: the fleet of `make cluster`.
ifdef CLUSTER
demo:
	@scripts/cluster demo $(ARGS)
else
demo: ## a scripted client against the running fleet
	@test -x $(LAUNCHER) || { echo "nothing is built yet: make run, then make demo beside it"; exit 1; }
	@exec $(LAUNCHER) demo $(ARGS)
endif

test: ## everything that must hold, with real engines: what CI runs; ARGS="-- NAME" of the tests only those with NAME
	@scripts/test $(ARGS)

test-fast: ## the tests on embedded engines only
	env -u SOSOHAPPY_TEST_KAFKA -u SOSOHAPPY_TEST_MYSQL -u SOSOHAPPY_TEST_MONGODB -u SOSOHAPPY_TEST_S3_PYTHON -u SOSOHAPPY_TEST_REQUIRE_ENGINES \
		cargo test --workspace --locked $(ARGS)

engines-up: ## start Kafka, MariaDB and a MongoDB server for the tests
	@scripts/engines up $(ARGS)

engines-down: ## stop them
	@scripts/engines down $(ARGS)

bench: setup ## measure the figures side by side with their baselines
	cargo build --release --locked --workspace --bins
	@$(CARGO_TARGET_DIR)/release/bench $(ARGS)

bench-migration: setup ## measure fleet import of POSTS posts (100000), and fleet mirror; needs the engines
	cargo build --release --locked --workspace --bins
	@environment=$$(scripts/engines env) && eval "$$environment" && $(CARGO_TARGET_DIR)/release/bench import --posts $(POSTS) $(ARGS)
	@$(CARGO_TARGET_DIR)/release/bench mirror $(ARGS)

fmt: ## format the code
	cargo fmt --all

lint: ## formatting, clippy
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

docs: ## build the documentation of all crates
	RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps --locked

check-deps: ## licences, bans, duplicates and sources of the dependencies
	@scripts/check-deps

sbom: ## list what each binary is made of (CycloneDX)
	@scripts/sbom $(ARGS)

figures: setup ## coverage, duplication and complexity, into the folder figures, beside their limits; ARGS=code without the coverage
	@scripts/figures $(ARGS)

check-api: ## generated requests to every documented operation of a running fleet
	@scripts/check-api

check-console: ## two phones in Chromium on a running fleet (ARGS=an address), axe-core, types and size of the assets
	@scripts/setup console
	@scripts/check-console $(ARGS)

check-ops: ## images, manifests, monitoring and the pipeline, as far as a machine without a cluster can
	@scripts/check-ops $(ARGS)

# Targets of the Jenkinsfile, also for use by hand: REGISTRY, TAG, SERVICE, OVERLAY, IMAGES (a file of digests), DEMO (an address), STEP and STATE (of one
# roll-out), BASE (a commit), BRANCH. ARGS=--dry-run says what would be done.
REGISTRY ?= registry.example.com/sosohappy
TAG ?= $(shell git rev-parse --short HEAD)
OVERLAY ?= production
BASE ?= HEAD^
STATE ?= roll-out

build: setup ## build all binaries for release
	cargo build --release --locked --workspace --bins

changed: ## the images whose sources differ from those of the commit BASE
	@scripts/image-sources changed $(BASE)

image: ## build and push the image of SERVICE unless its sources have one, and print its digest
	@scripts/deploy image $(REGISTRY) $(TAG) $(SERVICE) $(ARGS)

images: ## all six, side by side
	@scripts/deploy images $(REGISTRY) $(TAG) $(ARGS)

render: ## print the manifests of OVERLAY, with IMAGES
	@scripts/deploy render $(OVERLAY) $(if $(IMAGES),--images $(IMAGES))

write-back: ## write IMAGES to k8s/argocd/images, which Argo CD reads from the repository; with BRANCH commit and push it
	@scripts/deploy write-back $(OVERLAY) --images $(IMAGES) $(if $(BRANCH),--push $(BRANCH)) $(ARGS)

deploy: ## roll OVERLAY out: config first, then the others; rolled back on failure
	@FLEET=$(FLEET) scripts/deploy apply $(OVERLAY) $(if $(IMAGES),--images $(IMAGES)) $(if $(DEMO),--demo $(DEMO)) $(ARGS)

deploy-step: ## one STEP of that: start, engines, config, settings, first (ARGS='--first auth,notice'), service (SERVICE=feed), smoke (DEMO), rollback
	@FLEET=$(FLEET) scripts/deploy $(STEP) $(OVERLAY) $(if $(filter service,$(STEP)),$(SERVICE)) --state $(STATE) \
		$(if $(IMAGES),--images $(IMAGES)) $(if $(DEMO),--demo $(DEMO)) $(ARGS)

rollback: ## undo the last roll-out of OVERLAY
	@scripts/deploy rollback $(OVERLAY) $(ARGS)

rolling: setup ## restart every replica under load, behind a load balancer; needs the engines
	cargo build --release --locked --workspace --bins
	@$(CARGO_TARGET_DIR)/release/bench rolling $(ARGS)

cluster: setup ## the fleet with its engines on a real Kubernetes of one node, on this machine
	cargo build --profile launcher --locked --workspace --bins
	@scripts/cluster up --binaries $(CARGO_TARGET_DIR)/launcher

check-cluster: ## what must hold on that node, under load: ARGS=NAME for one check
	@scripts/cluster check $(ARGS)

test-cluster: setup ## start that node, run the demo and all checks, and end it: ARGS=NAME for one check
	cargo build --profile launcher --locked --workspace --bins
	@scripts/cluster test --binaries $(CARGO_TARGET_DIR)/launcher $(ARGS)

cluster-down: ## end it and delete its data
	@scripts/cluster down

compose: setup ## docker/compose.yaml with images made on this machine, on an engine of its own unless docker runs
	cargo build --profile launcher --locked --workspace --bins
	@scripts/compose up --binaries $(CARGO_TARGET_DIR)/launcher

check-compose: ## what must hold there: ARGS=NAME for one check
	@scripts/compose check $(ARGS)

test-compose: setup ## start docker/compose.yaml, run all checks, and end it: ARGS=NAME for one check
	cargo build --profile launcher --locked --workspace --bins
	@scripts/compose test --binaries $(CARGO_TARGET_DIR)/launcher $(ARGS)

compose-down: ## end it and delete its data
	@scripts/compose down

dockerfile: ## build docker/Dockerfile without docker, measure the images, into docs/performance.md; ARGS="build feed" for one, ARGS=--dry-run
	@scripts/dockerfile $(ARGS)

cold-build: setup ## measure what `make run` builds in a fresh clone, into docs/performance.md
	@scripts/cold-build $(ARGS)

clean: ## delete the build output
	cargo clean
