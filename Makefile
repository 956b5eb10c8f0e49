# Everything that is done to this repository by hand or by CI. `make help` lists it.
#
# `make dev` needs the Rust toolchain and nothing else. `make test` also needs Go, npm, Python and bash,
# with which scripts/tools.sh fetches the tools of the checks into .tools.

.DEFAULT_GOAL := help
# The steps of `test` are in the order of their cost, and cargo uses every core by itself.
.NOTPARALLEL:

CARGO ?= cargo
TOOLS := .tools/bin
BASELINE := proto/baseline.binpb

# What `make image` builds, and with what.
IMAGE ?= whatsapp-gateway:dev
IMAGE_TARGET ?= gateway
CONTAINER_TOOL ?= $(shell command -v docker || command -v buildah)
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
REVISION = $(shell git rev-parse HEAD)
COMMIT_TIME = $(shell git log -1 --format=%ct)

step = @printf '==> %s\n'

.PHONY: help
help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1#\2/p' $(firstword $(MAKEFILE_LIST)) | while IFS='#' read -r target text; do printf '  %-16s %s\n' "$$target" "$$text"; done

.PHONY: dev
dev: ## Run the gateway and a simulated Cloud API; pass flags with ARGS="--seed 1"
	$(CARGO) run --locked -- dev $(ARGS)

.PHONY: test
test: tools fmt-check proto rules deny clippy doc cargo-test chart-run ## Run every check of the code; CI runs this and ops-test
	@echo 'All checks passed.'

.PHONY: ops-test
ops-test: chart rules scripts-check ## Run every check of the chart, the rules, the scripts and the Dockerfile; needs no Rust
	@echo 'All checks of the chart passed.'

.PHONY: tools
tools: ## Fetch the tools of the checks into .tools
	$(step) 'tools'
	@scripts/tools.sh

.PHONY: fmt
fmt: ## Format the Rust sources and the protos
	@scripts/tools.sh buf
	$(CARGO) fmt --all
	$(TOOLS)/buf format proto --write

.PHONY: fmt-check
fmt-check: ## Check the formatting of the Rust sources
	$(step) 'fmt-check'
	$(CARGO) fmt --all --check

# The first run covers every target; the second is the code of the image, which has no simulator, and the benchmark.
.PHONY: clippy
clippy: ## Run clippy with all features, and without the default ones
	$(step) 'clippy'
	$(CARGO) clippy --locked --all-targets --all-features -- -D warnings
	$(CARGO) clippy --locked --workspace --no-default-features -- -D warnings

.PHONY: deny
deny: ## Check licences, sources and banned crates; needs no network
	$(step) 'deny'
	@scripts/tools.sh cargo-deny
	$(TOOLS)/cargo-deny --offline --all-features check bans licenses sources

.PHONY: advisories
advisories: ## Ask the RustSec database about the crates; needs the network
	@scripts/tools.sh cargo-deny
	$(TOOLS)/cargo-deny check advisories

.PHONY: doc
doc: ## Build the documentation of this crate, private items included
	$(step) 'doc'
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --all-features --document-private-items

.PHONY: cargo-test
cargo-test: ## Run the unit, contract, integration and grpcurl end-to-end tests; pass arguments with ARGS
	$(step) 'cargo-test'
	@scripts/tools.sh grpcurl
	$(CARGO) test --locked $(ARGS)

.PHONY: soak
soak: ## Run the long forms of the failure, kill, send, queue, stream, fan-out and attack tests; repeat a run with SEED=n
	$(step) 'soak'
	SOAK=1 $(CARGO) test --locked --test it -- --nocapture failures:: kill:: send_storm:: queue_storm:: send_stream:: streams:: fan_out:: subscription_storm:: floods:: slow_peers::
	# By itself: what arrives in a second is held against the rate.
	SOAK=1 $(CARGO) test --locked --test it -- --nocapture cluster::the_rate_of_a_number

# The gateway is the code of the image. Some minutes; close what else keeps the machine busy.
.PHONY: bench
bench: ## Measure the gateway against bare programs of the same libraries, and write docs/performance.md
	$(CARGO) build --locked --release --no-default-features
	$(CARGO) build --locked --release --package gateway-bench
	$(or $(CARGO_TARGET_DIR),target)/release/gateway-bench run --page docs/performance.md $(ARGS)

.PHONY: proto
proto: ## Lint and build the protos, check their format, and compare them with the baseline
	$(step) 'proto'
	@scripts/tools.sh buf
	$(TOOLS)/buf lint
	$(TOOLS)/buf build --output /dev/null
	$(TOOLS)/buf format proto --diff --exit-code
	@if [ -f $(BASELINE) ]; then \
	  set -x; $(TOOLS)/buf breaking proto --exclude-imports --against $(BASELINE); \
	else \
	  echo 'no $(BASELINE) yet: nothing to compare with'; \
	fi

# Until the first release the baseline may be rewritten, with a line in CHANGELOG.md; from then on it grows only.
.PHONY: proto-baseline
proto-baseline: ## Write the image of the protos that `make proto` compares with
	@scripts/tools.sh buf
	$(TOOLS)/buf build proto --exclude-source-info --output $(BASELINE)

.PHONY: chart
chart: ## Lint, render, validate, score and test the chart
	$(step) 'chart'
	@scripts/tools.sh helm helm-unittest kube-score crds venv
	scripts/chart.sh

.PHONY: chart-docs
chart-docs: ## Write what the chart repeats: the values in helm/README.md, and what the gateway accepts
	@scripts/tools.sh venv
	.tools/venv/bin/python scripts/chart_values.py

# That each alert has its tests and its runbook, and that the metrics exist, is checked by cargo-test.
.PHONY: rules
rules: ## Check and test the alert rules, and check that the dashboards are those that scripts/dashboards.py writes
	$(step) 'rules'
	@scripts/tools.sh promtool
	$(TOOLS)/promtool check rules --lint=all --lint-fatal helm/files/rules/*.yaml
	$(TOOLS)/promtool test rules tests/rules/*.yaml
	scripts/dashboards.py --check
	scripts/dashboards.py --queries | $(TOOLS)/promtool check rules --lint=none

# The tests build the binary in the course of things.
.PHONY: chart-run
chart-run: ## Start the binary that cargo-test built as the pods of the chart would, and call it
	$(step) 'chart-run'
	@scripts/tools.sh helm grpcurl nats-server venv
	.tools/venv/bin/python scripts/chart_run.py $(or $(CARGO_TARGET_DIR),target)/debug/whatsapp-gateway

# DL3008 wants versions of Debian's packages; a base by digest gives them, and old ones leave the mirrors.
.PHONY: scripts-check
scripts-check: ## Check the shell scripts and the Dockerfile
	$(step) 'scripts-check'
	@scripts/tools.sh venv
	.tools/venv/bin/shellcheck --external-sources scripts/*.sh .ci/run
	.tools/venv/bin/hadolint --ignore DL3008 Dockerfile

# Without the format, buildah drops the health check; docker takes no notice. The date is that of the commit, so that the
# same sources are the same image; docker takes it from the argument, buildah (IMAGE_FLAGS=--timestamp=…) does not.
.PHONY: image
image: ## Build the container image IMAGE with docker or buildah; IMAGE_TARGET=simulator builds the one for trying out
	BUILDAH_FORMAT=docker $(CONTAINER_TOOL) build --tag $(IMAGE) --target $(IMAGE_TARGET) \
	  --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) --build-arg SOURCE_DATE_EPOCH=$(COMMIT_TIME) $(IMAGE_FLAGS) .

# Not part of CI's `test` and `ops-test`: it compiles the release three times, takes root, and most changes do not touch it.
.PHONY: image-test
image-test: ## Build the images without Docker and run them as restricted pods; root on Debian, some 30 minutes
	$(step) 'image-test'
	scripts/image_test.sh

.PHONY: clean
clean: ## Remove what the targets above have built and fetched, and the data of `make dev`
	$(CARGO) clean
	rm -rf .tools .dev
