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
        link_local,
        ipv4,
        ipv6,
        our_asn,
        asn,
        password,
        ttl_security,
        multihop,
        bfd,
        graceful,
        notification: _,
        communities,
        extended_messages,
        extended_next_hop,
        add_path,
        reflector,
        many,
    } = *session;
    let (ours, own) = session.ends();
    let link = if link_local { " % 'eth0'" } else { "" };
    let mut text = format!("log stderr all;\n{START}");
    if bfd {
        text.push_str("protocol bfd { interface \"*\" { interval 50 ms; multiplier 3; }; }\n");
    }
    write!(
        text,
        "protocol bgp margay from timers {{\n local {own} as {asn}; neighbor {ours}{link} as {our_asn}; hold time 9;\n debug {{ packets }};\n"
    )
    .unwrap();
    let distance = if multihop { "multihop 2" } else { "direct" };
    writeln!(text, " {distance};").unwrap();
    let paths = if add_path { "add paths on;" } else { "" };
    let next_hop = if extended_next_hop {
        "extended next hop on; next hop address 2001:db8::2"
    } else {
        "next hop address 192.0.2.2"
    };
    let export = if communities {
        "export filter { bgp_community.add((65000,1)); bgp_large_community.add((65000,1,2)); \
         if source = RTS_STATIC then accept; reject; }"
    } else if add_path || reflector {
        "export all"
    } else {
        "export where source = RTS_STATIC"
    };
    for (on, line) in [
        (ttl_security, " ttl security on;\n".to_owned()),
        (bfd, " bfd on;\n".to_owned()),
        (graceful, " graceful restart yes;\n".to_owned()),
        (reflector, " rr client;\n".to_owned()),
        (
            extended_messages,
            " enable extended messages on;\n".to_owned(),
        ),
        (
            ipv4,
            format!(" ipv4 {{ import all; {export}; {next_hop}; {paths} }};\n"),
        ),
        (
            ipv6,
            format!(" ipv6 {{ import all; {export}; next hop address 2001:db8::2; {paths} }};\n"),
        ),
    ] {
        if on {
            text.push_str(&line);
        }
    }
    if let Some(password) = password {
        writeln!(text, " password \"{password}\";").unwrap();
    }
    text.push_str("}\n");
    if add_path {
        for host in [5, 6] {
            writeln!(
                text,
                "protocol bgp other{host} from timers {{ local 192.0.2.2 as {asn}; \
                 neighbor 192.0.2.{host} as 6500{host}; ipv4 {{ import all; export none; }}; }}"
            )
            .unwrap();
        }
    }
    if reflector {
        writeln!(
            text,
            "protocol bgp other5 from timers {{ local 192.0.2.2 as {asn}; neighbor 192.0.2.5 as {asn}; direct; \
             rr client; ipv4 {{ import all; export all; }}; }}"
        )
        .unwrap();
    }
    if many {
        // All at once when it is enabled: what comes bit by bit is not told in one message.
        text.push_str("protocol static many { disabled; ipv4;\n");
        for prefix in crate::session::many() {
            writeln!(text, " route {prefix} blackhole;").unwrap();
        }
        text.push_str("}\n");
    }
    world.start_bird("bird", &text);
}
