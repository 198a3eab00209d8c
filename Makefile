# Margay: `make demo` shows it, `make test` proves it, `make bench` measures it. All but `build` need root.

# Command that must exist, and the Debian package that has it.
NEEDS := nft:nftables bird:bird2 ip:iproute2 ping:iputils-ping conntrack:conntrack
# The same for a Kubernetes of namespaces and its images.
KUBE_NEEDS := python3:python3 containerd:containerd runc:runc buildah:buildah busybox:busybox-static curl:curl \
  nc.openbsd:netcat-openbsd openssl:openssl nsenter:util-linux mount:mount strip:binutils hostname:hostname
# Where sbin programs and Go are, if the PATH does not say.
PATH := $(PATH):/usr/sbin:/sbin:/usr/local/go/bin
# What programs that are shipped are built for.
ARCH ?= $(shell uname -m)
IMAGE_TARGET := $(ARCH)-unknown-linux-musl

.PHONY: demo test bench bench-bgp bgpd build musl packages lint

demo: build root
	target/debug/margay-lab demo

# The other ends of BGP sessions, and what a Kubernetes needs. Only here: their packages start services where there is a systemd.
# Rust's tests run beside a kube-apiserver; then the programs they tested have pods of a real cluster, with six upstream specs.
test: NEEDS += vtysh:frr gobgpd:gobgpd $(KUBE_NEEDS)
test: build root lint
	tests/kube/kube build --suite
	@status=0; \
	tests/kube/kube with-api -- cargo test --workspace --locked --no-fail-fast || status=1; \
	tests/kube/kube e2e --short --debug || status=1; \
	exit $$status

# Only what is measured; what runs on nodes as it is shipped: static.
ON_NODES := margay-felix margay-cni
bench: packages root musl
	cargo build --release --locked -p margay-tests -p margay-controller --bin margay-bench --bin margay-controller
	cargo build --release --locked --target $(IMAGE_TARGET) $(addprefix -p ,$(ON_NODES))
	cp $(addprefix target/$(IMAGE_TARGET)/release/,$(ON_NODES)) target/release/
	target/release/margay-bench

# margay-bgpd, fast and as it is shipped, beside every other BGP speaker that is installed, medians of three (about half an hour on two cores), and how
# soon BFD misses a peer. Results go below target/bench; BENCH_BGP and BENCH_BFD give other arguments.
BENCH_BGP ?= --reps 3 --retries 1 --sizes 100000,500000,1000000
bench-bgp: packages root
	-$(MAKE) bgpd  # one that is too large is measured all the same
	cargo build --release -p margay-bgpd --locked
	tests/bench/bgp/bench.py $(BENCH_BGP)
	tests/bench/bgp/bfd.py $(BENCH_BFD)

# margay-bgpd as one static program of at most 3 MB, in target/x86_64-unknown-linux-musl/small. Nothing unwinds in it. Cargo
# forgets a profile's `strip` for a package that has settings of its own there: it is said once more.
bgpd: musl
	RUSTFLAGS="-C force-unwind-tables=no" cargo rustc --profile small --locked --target $(IMAGE_TARGET) -p margay-bgpd \
	  --bin margay-bgpd -- -C strip=symbols
	@size=$$(stat -c %s target/$(IMAGE_TARGET)/small/margay-bgpd); echo "margay-bgpd: $$size octets"; [ $$size -le 3000000 ]

build: packages
	cargo build --workspace --locked

musl:
	@rustup target list --installed | grep -qx $(IMAGE_TARGET) || rustup target add $(IMAGE_TARGET)

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

# --- Kubernetes ---

# The image: static programs for ARCH, no shell, no libc. `rustup target add` and musl-tools are what it needs beyond `build`.
# Stripped by flag as `bgpd` is: cargo forgets it of felix and the plugin.
IMAGE_TAG := margay.io/margay:v0.1.0
IMAGE_DIR := target/image

.PHONY: image image-context manifests kube-up kube-down e2e e2e-short bench-kube bench-scale kind

image: image-context
	tests/kube/kube image --context $(IMAGE_DIR)/context --tag $(IMAGE_TAG) --to $(IMAGE_DIR)/margay.tar

image-context: musl
	RUSTFLAGS="-C strip=symbols" cargo build --profile image --locked --target $(IMAGE_TARGET) --target-dir $(IMAGE_DIR) -p margay-controller -p margay-felix -p margay-cni -p margayctl
	rm -rf $(IMAGE_DIR)/context && mkdir -p $(IMAGE_DIR)/context
	cp $(addprefix $(IMAGE_DIR)/$(IMAGE_TARGET)/image/,margay-controller margay-felix margay-cni margayctl) $(IMAGE_DIR)/context
	tests/kube/licences.py $(IMAGE_TARGET) > $(IMAGE_DIR)/context/LICENCES

# One file for `kubectl apply -f`, in the order of the kustomizations; tests/scenarios/manifests.rs says if it is out of date.
manifests:
	tests/kube/render.py > manifests/margay.yaml

kube-up: root
	tests/kube/kube up --margay

kube-down: root
	tests/kube/kube down

e2e: root
	tests/kube/kube e2e

e2e-short: root
	tests/kube/kube e2e --short

bench-kube: root
	tests/bench/kube/run.py

# The controller with 10,000 pods as API objects, and whether what must hold of it does (about 3 min; SCALE="--churn 100000" takes longer).
bench-scale: root image-context
	tests/kube/kube with-api -- controller/daemon/tests/scale.py --controller $(IMAGE_DIR)/context/margay-controller $(SCALE)

kind:
	tests/kind/run.py

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
