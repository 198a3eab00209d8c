# margay-bgpd.  MARGAY_BGPD: binary (default: the release build of this tree).
MARGAY_BGPD=${MARGAY_BGPD:-$(dirname "${BASH_SOURCE[0]}")/../../../../target/release/margay-bgpd}
dut_version() { "$MARGAY_BGPD" --version | sed 's/margay-bgpd/margay/'; }
dut_config() {
  echo "asn = $DUT_AS"
  echo "router-id = \"$DUT_IP\""
  echo "listen = [\"$DUT_IP:179\"]"
  local n=0 ip as kind
  while read -r ip as kind; do
    n=$((n + 1))
    echo "[peers.p$n]"
    echo "address = \"$ip\""
    echo "asn = $as"
    echo "passive = true"
    echo "families = [\"IPv4\"]"
    echo "export = \"all\""
  done <"$PEERS"
}
dut_exec() { RUST_LOG=warn exec "$MARGAY_BGPD" --config "$DUT_CONF"; }
