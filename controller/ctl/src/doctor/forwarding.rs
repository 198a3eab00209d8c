//! Forwarding and reverse path filters.

use super::finding::{Finding, failure, warning};
use super::proc::{self, Uplink, sysctl, sysctl_number};
use crate::output::list;

struct Facts {
    /// `ip_forward`, and the links among uplinks and pods' that have it off.
    forwarding4: Option<bool>,
    off4: Vec<String>,
    forwarding6: Option<bool>,
    disabled6: bool,
    /// Uplinks whose effective `rp_filter` is strict.
    strict: Vec<String>,
    uplinks: usize,
}

pub(super) fn examine(uplinks: &[Uplink]) -> Vec<Finding> {
    let on = |name: &str| sysctl(name).map(|value| value != "0");
    let conf4 = |link: &str, what: &str| sysctl_number(&format!("net/ipv4/conf/{link}/{what}"));
    let for_pods = proc::links()
        .into_iter()
        .filter(|link| link.starts_with("mgy"));
    let all_filter = conf4("all", "rp_filter").unwrap_or(0);
    judge(&Facts {
        forwarding4: on("net/ipv4/ip_forward"),
        off4: uplinks
            .iter()
            .map(|link| link.name.clone())
            .chain(for_pods)
            .filter(|link| conf4(link, "forwarding") == Some(0))
            .collect(),
        forwarding6: on("net/ipv6/conf/all/forwarding"),
        disabled6: on("net/ipv6/conf/all/disable_ipv6") == Some(true),
        // The kernel takes the larger of `all` and the link's own value; 1 is strict, 2 loose.
        strict: uplinks
            .iter()
            .map(|link| link.name.clone())
            .filter(|link| conf4(link, "rp_filter").is_some_and(|own| own.max(all_filter) == 1))
            .collect(),
        uplinks: uplinks.len(),
    })
}

fn judge(facts: &Facts) -> Vec<Finding> {
    let Facts {
        forwarding4,
        off4,
        forwarding6,
        disabled6,
        strict,
        uplinks,
    } = facts;
    let mut findings = Vec::new();
    if *forwarding4 == Some(false) {
        findings.push(failure(
            "MGY-D010",
            "IPv4 forwarding is off",
            "the node is a router for its pods: their packets would be dropped without a word",
            "sysctl -w net.ipv4.ip_forward=1, and put it into /etc/sysctl.d/ so that it stays",
        ));
    } else if !off4.is_empty() {
        findings.push(failure(
            "MGY-D011",
            format!("IPv4 forwarding is off on {}", list(off4, ", ")),
            "packets that come in by such a link are not forwarded",
            format!(
                "sysctl -w {}",
                list(
                    off4.iter()
                        .map(|link| format!("net.ipv4.conf.{link}.forwarding=1")),
                    " "
                )
            ),
        ));
    }
    if *disabled6 || forwarding6.is_none() {
        findings.push(warning(
            "MGY-D013",
            "IPv6 is off",
            "pods get no IPv6 address that works on this node",
            "sysctl -w net.ipv6.conf.all.disable_ipv6=0, or leave IPv6 pools away",
        ));
    } else if *forwarding6 == Some(false) {
        findings.push(failure(
            "MGY-D012",
            "IPv6 forwarding is off",
            "the node is a router for its pods: their packets would be dropped without a word",
            "sysctl -w net.ipv6.conf.all.forwarding=1, and put it into /etc/sysctl.d/ so that it stays \
             (a link that takes its own address from router advertisements also needs accept_ra=2)",
        ));
    }
    if !strict.is_empty() && *uplinks > 1 {
        findings.push(warning(
            "MGY-D014",
            format!("strict reverse path filtering on {}", list(strict, ", ")),
            "with several uplinks a packet may come back by another one than its reply would take, and is dropped",
            format!("sysctl -w {} (2 is loose)", list(strict.iter().map(|link| format!("net.ipv4.conf.{link}.rp_filter=2")), " ")),
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn healthy() -> Facts {
        Facts {
            forwarding4: Some(true),
            off4: Vec::new(),
            forwarding6: Some(true),
            disabled6: false,
            strict: Vec::new(),
            uplinks: 2,
        }
    }

    fn ids(facts: &Facts) -> Vec<&'static str> {
        judge(facts).iter().map(|finding| finding.id).collect()
    }

    #[test]
    fn a_router_has_no_finding() {
        assert_eq!(ids(&healthy()), [""; 0]);
    }

    #[test]
    fn each_lack_has_its_id() {
        assert_eq!(
            ids(&Facts {
                forwarding4: Some(false),
                ..healthy()
            }),
            ["MGY-D010"]
        );
        assert_eq!(
            ids(&Facts {
                off4: vec!["eth1".into()],
                ..healthy()
            }),
            ["MGY-D011"]
        );
        assert_eq!(
            ids(&Facts {
                forwarding6: Some(false),
                ..healthy()
            }),
            ["MGY-D012"]
        );
        assert_eq!(
            ids(&Facts {
                disabled6: true,
                forwarding6: Some(false),
                ..healthy()
            }),
            ["MGY-D013"]
        );
        assert_eq!(
            ids(&Facts {
                strict: vec!["eth1".into()],
                ..healthy()
            }),
            ["MGY-D014"]
        );
    }

    #[test]
    fn a_strict_filter_does_no_harm_where_there_is_one_way_only() {
        assert_eq!(
            ids(&Facts {
                strict: vec!["eth0".into()],
                uplinks: 1,
                ..healthy()
            }),
            [""; 0]
        );
    }
}
