//! A ruleset in the words of `nft`, for people and golden tests.
//!
//! What the nft language cannot say, a constant beside a packet's fields, stands behind `#`, so that
//! `nft --check` accepts the rest.

use std::fmt::Write;
use std::net::Ipv6Addr;

use crate::ruleset::{
    Action, Chain, ChainType, CtDirection, CtState, EPOCH_MASK, Family, Field, HookPoint, KeyType,
    KeyValue, LINK_PREFIX, Match, Rule, Ruleset, Set, SetKind, Side, Test, Verdict,
};

/// The whole table as text.
pub fn render(ruleset: &Ruleset) -> String {
    let mut out = String::from("table inet margay {\n");
    for (name, set) in &ruleset.sets {
        render_set(&mut out, name, set);
    }
    // nft wants chains declared before a map or rule names them; within one table any order will do.
    for (name, chain) in &ruleset.chains {
        render_chain(&mut out, name, chain);
    }
    out.push_str("}\n");
    out
}

fn render_set(out: &mut String, name: &str, set: &Set) {
    let Set {
        key,
        kind,
        room,
        elements,
    } = set;
    let word = if *kind == SetKind::Map { "map" } else { "set" };
    line(out, 1, &format!("{word} {name} {{"));
    let key = join(" . ", key.iter().map(|key| key_type(*key).to_owned()));
    match kind {
        SetKind::Set => line(out, 2, &format!("type {key}")),
        SetKind::Map => line(out, 2, &format!("type {key} : verdict")),
        SetKind::Ranges => {
            line(out, 2, &format!("type {key}"));
            line(out, 2, "flags interval");
        }
    }
    if let Some(room) = room {
        line(out, 2, &format!("size {room}"));
    }
    if !elements.is_empty() {
        line(out, 2, "elements = {");
        for (key, value) in elements {
            let key = join(" . ", key.iter().map(key_value));
            match value {
                None => line(out, 3, &format!("{key},")),
                Some(value) => line(out, 3, &format!("{key} : {},", verdict(value))),
            }
        }
        line(out, 2, "}");
    }
    line(out, 1, "}");
}

fn render_chain(out: &mut String, name: &str, chain: &Chain) {
    line(out, 1, &format!("chain {name} {{"));
    if let Some(hook) = chain.hook {
        let chain_type = match hook.chain_type {
            ChainType::Filter => "filter",
            ChainType::Nat => "nat",
        };
        let point = match hook.point {
            HookPoint::Prerouting => "prerouting",
            HookPoint::Input => "input",
            HookPoint::Forward => "forward",
            HookPoint::Output => "output",
            HookPoint::Postrouting => "postrouting",
        };
        let priority = hook.priority;
        line(
            out,
            2,
            &format!("type {chain_type} hook {point} priority {priority}; policy accept;"),
        );
    }
    for rule in &chain.rules {
        line(out, 2, &render_rule(rule));
    }
    line(out, 1, "}");
}

/// One rule, behind `# ` if nft could not read it.
pub fn render_rule(rule: &Rule) -> String {
    let Rule {
        matches,
        action,
        comment,
    } = rule;
    let mut words: Vec<String> = matches.iter().map(render_match).collect();
    words.push(match action {
        Action::Verdict(value) => verdict(value),
        Action::Map(fields, map) => format!("{} vmap @{map}", key_fields(fields)),
        Action::Stamp(epoch) => format!(
            "ct mark set ct mark & {:#010x} | {epoch:#010x}",
            !EPOCH_MASK
        ),
        Action::Masquerade => "masquerade".to_owned(),
    });
    if !comment.is_empty() {
        // nft knows no escapes in strings.
        let printable = |c: char| {
            if c == '"' || c == '\\' || c.is_control() {
                '?'
            } else {
                c
            }
        };
        words.push(format!(
            "comment \"{}\"",
            comment.chars().map(printable).collect::<String>()
        ));
    }
    let hidden = if sayable(rule) { "" } else { "# " };
    format!("{hidden}{}", words.join(" "))
}

fn sayable(rule: &Rule) -> bool {
    let constant = |fields: &[Field]| fields.iter().any(|field| matches!(field, Field::Id(_)));
    let in_action = match &rule.action {
        Action::Map(fields, _) => constant(fields),
        Action::Verdict(_) | Action::Stamp(_) | Action::Masquerade => false,
    };
    let in_matches = rule.matches.iter().any(|matches| match matches {
        Match::In(fields, ..) => constant(fields),
        Match::OurLink(..)
        | Match::Family(_)
        | Match::Protocol(_)
        | Match::Icmp6Types(_)
        | Match::CtStates(_)
        | Match::Direction(_)
        | Match::ServerPort(..)
        | Match::Address(..) => false,
    });
    !in_action && !in_matches
}

fn render_match(matches: &Match) -> String {
    match matches {
        Match::OurLink(side, test) => {
            let side = match side {
                Side::In => "iifname",
                Side::Out => "oifname",
            };
            format!("{side} {}\"{LINK_PREFIX}*\"", not(*test))
        }
        Match::Family(Family::V4) => "meta nfproto ipv4".to_owned(),
        Match::Family(Family::V6) => "meta nfproto ipv6".to_owned(),
        Match::Protocol(number) => format!("meta l4proto {}", protocol(*number)),
        Match::Icmp6Types(types) => {
            format!(
                "icmpv6 type {{ {} }}",
                join(", ", types.iter().map(|number| icmp6_type(*number)))
            )
        }
        Match::CtStates(states) => {
            let states = states.iter().map(|state| ct_state(*state).to_owned());
            format!("ct state {}", join(",", states))
        }
        Match::Direction(CtDirection::Original) => "ct direction original".to_owned(),
        Match::Direction(CtDirection::Reply) => "ct direction reply".to_owned(),
        Match::ServerPort(first, last) if first == last => format!("ct reply proto-src {first}"),
        Match::ServerPort(first, last) => format!("ct reply proto-src {first}-{last}"),
        Match::Address(wanted, net, test) => format!("{} {}{net}", field(wanted), not(*test)),
        Match::In(fields, set, test) => format!("{} {}@{set}", key_fields(fields), not(*test)),
    }
}

fn not(test: Test) -> &'static str {
    match test {
        Test::Is => "",
        Test::IsNot => "!= ",
    }
}

fn key_fields(fields: &[Field]) -> String {
    join(" . ", fields.iter().map(field))
}

fn field(field: &Field) -> String {
    let address = |family: &Family, v4: &str, v6: &str| match family {
        Family::V4 => v4.to_owned(),
        Family::V6 => v6.to_owned(),
    };
    match field {
        Field::InLink => "iifname".to_owned(),
        Field::OutLink => "oifname".to_owned(),
        Field::Source(family) => address(family, "ip saddr", "ip6 saddr"),
        Field::Destination(family) => address(family, "ip daddr", "ip6 daddr"),
        Field::Client(family) => address(family, "ct original ip saddr", "ct original ip6 saddr"),
        Field::Server(family) => address(family, "ct reply ip saddr", "ct reply ip6 saddr"),
        Field::Protocol => "meta l4proto".to_owned(),
        Field::ServerPort => "ct reply proto-src".to_owned(),
        Field::Id(id) => Ipv6Addr::from(*id).to_string(),
        Field::Epoch => format!("(ct mark & {EPOCH_MASK:#010x})"),
    }
}

fn key_type(key: KeyType) -> &'static str {
    match key {
        KeyType::Link => "ifname",
        KeyType::Ip4 => "ipv4_addr",
        KeyType::Ip6 | KeyType::Id => "ipv6_addr",
        KeyType::Protocol => "inet_proto",
        KeyType::Port => "inet_service",
        KeyType::Mark => "mark",
    }
}

fn key_value(value: &KeyValue) -> String {
    match value {
        KeyValue::Link(name) => format!("\"{name}\""),
        KeyValue::Address(address) => address.to_string(),
        KeyValue::Prefix(net) => net.to_string(),
        KeyValue::Id(id) => Ipv6Addr::from(*id).to_string(),
        KeyValue::Protocol(number) => protocol(*number),
        KeyValue::Port(port) => port.to_string(),
        KeyValue::Mark(mark) => format!("{mark:#010x}"),
    }
}

fn ct_state(state: CtState) -> &'static str {
    match state {
        CtState::Invalid => "invalid",
        CtState::Established => "established",
        CtState::Related => "related",
        CtState::New => "new",
        CtState::Untracked => "untracked",
    }
}

fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accept => "accept".to_owned(),
        Verdict::Drop => "drop".to_owned(),
        Verdict::Return => "return".to_owned(),
        Verdict::Jump(chain) => format!("jump {chain}"),
        Verdict::Goto(chain) => format!("goto {chain}"),
    }
}

fn protocol(number: u8) -> String {
    match number {
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "ipv6-icmp".to_owned(),
        132 => "sctp".to_owned(),
        other => other.to_string(),
    }
}

fn icmp6_type(number: u8) -> String {
    match number {
        131 => "mld-listener-report".to_owned(),
        132 => "mld-listener-done".to_owned(),
        133 => "nd-router-solicit".to_owned(),
        135 => "nd-neighbor-solicit".to_owned(),
        136 => "nd-neighbor-advert".to_owned(),
        143 => "mld2-listener-report".to_owned(),
        other => other.to_string(),
    }
}

fn join(separator: &str, parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(separator)
}

fn line(out: &mut String, depth: usize, text: &str) {
    writeln!(out, "{:depth$}{text}", "", depth = depth * 2).expect("a string takes all");
}

#[cfg(test)]
mod tests;
