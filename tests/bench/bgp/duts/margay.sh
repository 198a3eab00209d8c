# margay-bgpd.  MARGAY_BGPD: binary (default: the release build of this tree).
MARGAY_BGPD=${MARGAY_BGPD:-$(dirname "${BASH_SOURCE[0]}")/../../../../target/release/margay-bgpd}
dut_version() { "$MARGAY_BGPD" --version | sed 's/margay-bgpd/margay/'; }
dut_config() {
  echo "asn = $DUT_AS"
  echo "router-id = \"$DUT_IP\""
  echo "cluster-id = \"$DUT_IP\""
  echo "listen = [\"$DUT_IP:179\"]"
  echo "[filters.probe]"
  echo "rules = [{ when = { prefixes = [\"198.18.0.0/16 ge 24 le 24\"] }, then = \"accept\" }]"
  echo "default = \"reject\""
  local n=0 ip as kind
  while read -r ip as kind; do
    n=$((n + 1))
    echo "[peers.p$n]"
    echo "address = \"$ip\""
    echo "asn = $as"
    echo "passive = true"
    echo "families = [\"IPv4\"]"
    echo "export = \"all\""
    [ "$kind" = probe ] && echo "export-filter = \"probe\""
    [ "$kind" = client ] && echo "reflector-client = true"
  done <"$PEERS"
  return 0
}
dut_exec() { RUST_LOG=warn exec "$MARGAY_BGPD" --config "$DUT_CONF"; }
