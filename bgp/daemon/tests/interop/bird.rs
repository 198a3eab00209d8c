//! BIRD 2.

use std::fmt::Write as _;

use crate::session::Session;
use crate::world::World;

pub(crate) const START: &str = r"
router id 192.0.2.2;
protocol device {}
protocol direct { ipv4; ipv6; }
protocol static s4 { ipv4; route 198.51.100.0/24 blackhole; }
protocol static s6 { ipv6; route 2001:db8:beef::/48 blackhole; }
template bgp timers {
  connect delay time 1;
  connect retry time 1;
  error wait time 1, 2;
}
";

pub(crate) const CHANNELS: &str = r"
  ipv4 { import all; export where source = RTS_STATIC; next hop self; };
  ipv6 { import all; export where source = RTS_STATIC; next hop address 2001:db8::2; };
";

pub(crate) const ENDS: &str = "local 192.0.2.2 as 65000; neighbor 192.0.2.1 as 64512;";

/// Starts one for a session.
pub(crate) fn start(world: &mut World, session: &Session) {
    let Session {
        over_v6: _,
        ipv4,
        ipv6,
        our_asn,
        asn,
        password,
        ttl_security,
        multihop,
        bfd,
        graceful,
    } = *session;
    let (ours, own) = session.ends();
    let mut text = START.to_owned();
    if bfd {
        text.push_str("protocol bfd { interface \"*\" { interval 50 ms; multiplier 3; }; }\n");
    }
    write!(
        text,
        "protocol bgp margay from timers {{\n local {own} as {asn}; neighbor {ours} as {our_asn}; hold time 9;\n"
    )
    .unwrap();
    let distance = if multihop { "multihop 2" } else { "direct" };
    writeln!(text, " {distance};").unwrap();
    for (on, line) in [
        (ttl_security, " ttl security on;\n"),
        (bfd, " bfd on;\n"),
        (graceful, " graceful restart yes;\n"),
        (
            ipv4,
            " ipv4 { import all; export where source = RTS_STATIC; next hop address 192.0.2.2; };\n",
        ),
        (
            ipv6,
            " ipv6 { import all; export where source = RTS_STATIC; next hop address 2001:db8::2; };\n",
        ),
    ] {
        text.push_str(if on { line } else { "" });
    }
    if let Some(password) = password {
        writeln!(text, " password \"{password}\";").unwrap();
    }
    text.push_str("}\n");
    world.start_bird("bird", &text);
}
