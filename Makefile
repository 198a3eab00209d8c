# Margay: `make demo` shows it, `make test` proves it, `make bench` measures it. All but `build` need root.

# Command that must exist, and the Debian package that has it.
NEEDS := nft:nftables bird:bird2 ip:iproute2 ping:iputils-ping conntrack:conntrack vtysh:frr gobgpd:gobgpd
PATH := $(PATH):/usr/sbin:/sbin

.PHONY: demo test bench bench-bgp build packages lint

demo: build root
	target/debug/margay-lab demo

test: build root lint
	cargo test --workspace --locked --no-fail-fast

bench: packages root
	cargo build --release --workspace --locked
	target/release/margay-bench

# margay-bgpd beside every other BGP speaker that is installed; BENCH_BGP gives bench.py arguments.
bench-bgp: packages root
	cargo build --release -p margay-bgpd --locked
	tests/bench/bgp/bench.py $(BENCH_BGP)

build: packages
	cargo build --workspace --locked

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

# Installs what is missing where that is possible, else says what to install.
packages:
	@command -v cargo >/dev/null || { echo "no cargo: install Rust (https://rustup.rs), 1.95 or newer" >&2; exit 1; }
	@missing=; for need in $(NEEDS); do \
	  command -v "$${need%%:*}" >/dev/null || missing="$$missing $${need##*:}"; \
	done; \
	[ -z "$$missing" ] && exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing:$$missing"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
	else \
	  echo "missing packages (Debian names):$$missing" >&2; exit 1; \
	fi

.PHONY: root
root:
	@[ "$$(id -u)" = 0 ] || { echo "this makes network namespaces: run it as root (sudo -E make …)" >&2; exit 1; }
