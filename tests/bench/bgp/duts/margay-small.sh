# margay-bgpd as it is shipped: static and built for size (`make bgpd`).
MARGAY_BGPD=${MARGAY_SMALL:-$(dirname "${BASH_SOURCE[0]}")/../../../../target/x86_64-unknown-linux-musl/small/margay-bgpd}
. "$(dirname "${BASH_SOURCE[0]}")/margay.sh"
