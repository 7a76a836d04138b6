# `make` lists the targets. Everything runs from a fresh clone on Debian 12 with Rust installed.
.DEFAULT_GOAL := help
.PHONY: help setup demo up test chaos simulated sim saboteurs fuzz volume storm check bench profile schemas clean-data

# As `smartpos` itself chooses it.
DATA_DIR := $(or $(SMARTPOS_DATA_DIR),$(if $(filter 0,$(shell id -u)),/var/lib/smartpos,$(or $(XDG_DATA_HOME),$(HOME)/.local/share)/smartpos))

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

setup: ## install what is missing: PostgreSQL, nats-server, a C compiler, pkg-config; for the tests redis-server, Python's venv, Node.js, npm
	@./scripts/setup.sh

demo: setup ## build, start everything and run the demonstration
	cargo build --release --bins
	./target/release/smartpos demo

up: setup ## build and run the whole platform until Ctrl-C
	cargo build --release --bins
	./target/release/smartpos up

# Tests wait for a third of their time: for servers, for deadlines, for each other.
TEST_THREADS := $(or $(RUST_TEST_THREADS),$(shell echo $$(( 1 + $$(nproc) ))))

test: setup ## build the programs and run every test, on real servers; then the simulator's share
	cargo build --workspace --bins
	RUST_TEST_THREADS=$(TEST_THREADS) cargo test --workspace --exclude sim
	@$(MAKE) --no-print-directory simulated

# make chaos; make chaos MINUTES=45 SEED=7; make chaos RELEASE=1 for figures (without the faults at fail points, which only debug builds have)
chaos: setup ## break real processes under load for MINUTES=30 by a random SEED, and check every promise (`make test` has three minutes)
	cargo build $(if $(RELEASE),--release) -p api -p replay-tool -p tests --bins --example chaos
	./target/$(if $(RELEASE),release,debug)/examples/chaos --minutes $(or $(MINUTES),30) $(if $(SEED),--seed $(SEED))

# The simulator is built by itself: only it has a clock that can be paused, and a runtime whose own chance has a seed.
SIM_CARGO := RUSTFLAGS='--cfg tokio_unstable' cargo
SIM_BUILD := --profile sim --target-dir target/sim -p sim
SIM := ./target/sim/sim/examples/sim

# As `make test` builds the rest, so that nothing is built twice.
simulated: setup ## the simulator's share of `make test`: held to real servers, mended bugs, 10,000 schedules, the saboteurs
	cargo test --workspace --exclude sim --test conformance -- --test-threads 8
	$(SIM_CARGO) test $(SIM_BUILD)
	$(SIM) --seeds 10000 --payments 12
	$(SIM) --saboteurs --payments 12

sim: setup ## simulate SEEDS=n schedules of about PAYMENTS=100, or replay SEED=x, print it and shrink it if it fails
	$(SIM_CARGO) build $(SIM_BUILD) --example sim
	$(SIM) $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),1000)) --payments $(or $(PAYMENTS),100)

saboteurs: setup ## break each promise in turn: every saboteur but `WipesCheckpointOnly` must be caught within 2,000 schedules
	$(SIM_CARGO) build $(SIM_BUILD) --example sim
	$(SIM) --saboteurs --payments 12

fuzz: setup ## fuzz every parser of outside bytes, a minute each (FUZZ_SECONDS=600 for ten)
	FUZZ_SECONDS=$(or $(FUZZ_SECONDS),60) cargo test -p tests --test fuzz -- --nocapture

volume: setup ## import both large data sets whole, killed at the positions of a SEED and resumed, compare every total, run `replay` on the logs (data in ../shared)
	cargo build --release --bin smartpos --bin replay
	PROGRAM_UNDER_TEST='$(CURDIR)/target/release/smartpos' REPLAY_UNDER_TEST='$(CURDIR)/target/release/replay' VOLUME=full \
	$(if $(SEED),VOLUME_SEED=$(SEED)) \
	cargo test -p tests --test e2e volume:: -- --nocapture --test-threads 1

storm: setup ## ten thousand payments told of by call-backs in one storm (`make test` has a smaller one)
	STORM=full cargo test -p tests --test e2e webhook_storm:: -- --nocapture

check: ## formatting, lints without warnings, licences and advisories
	cargo fmt --all --check
	cargo clippy --workspace --exclude sim --all-targets -- -D warnings
	$(SIM_CARGO) clippy $(SIM_BUILD) --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny check; \
	else echo 'cargo deny: not installed, skipped (cargo install cargo-deny --locked)'; fi

# make bench QUICK=1; make bench SECTIONS='append edge'; make bench RECORD=1 (a full run only) writes the table into docs/performance.md
bench: setup ## measure the platform: one table of ratios within one run (QUICK=1 for three minutes)
	cargo build --release -p api -p replay-tool -p tests --bins --example bench --example allocations
	cargo build --release --locked --manifest-path tests/bench-peer/Cargo.toml --target-dir target/bench-peer
	./target/release/examples/bench $(if $(QUICK),--quick) $(if $(RECORD),--record docs/performance.md) $(SECTIONS)

# make profile SECTIONS=payments; make profile FULL=1 as long as `make bench`; TOP=80 functions instead of 40
profile: setup ## sample `smartpos` with perf while SECTIONS=peak of the bench runs: the functions with most processor time
	@command -v perf >/dev/null || { echo 'perf is not installed: apt-get install linux-perf (Debian) or linux-tools-generic (Ubuntu)' >&2; exit 1; }
	cargo build --release -p api -p tests --bins --example bench
	FULL='$(FULL)' TOP='$(TOP)' ./scripts/profile.sh $(or $(SECTIONS),peak)

schemas: ## write the generated event schemas and OpenAPI into schemas/
	cargo run -p api --bin smartpos -- schemas write

clean-data: ## delete the data directory of `up` and `demo` (asks first; nothing may run on it)
	@[ -d '$(DATA_DIR)' ] || { echo 'nothing at $(DATA_DIR)'; exit 0; }; \
	[ -f '$(DATA_DIR)/connection.json' ] || { echo '$(DATA_DIR) is no data directory of smartpos' >&2; exit 1; }; \
	flock -n '$(DATA_DIR)/lock' true || { echo 'smartpos runs on $(DATA_DIR): stop it first' >&2; exit 1; }; \
	if [ '$(YES)' != 1 ]; then printf 'delete all data in %s? [y/N] ' '$(DATA_DIR)'; read answer; [ "$$answer" = y ] || exit 1; fi; \
	rm -rf -- '$(DATA_DIR)'
