//! The kernel: version, conntrack, rights.

use super::finding::{Finding, failure, warning};
use super::proc::{sysctl, sysctl_number};

/// What the ruleset and its netlink messages need (`NFT_MSG_DESTROY…`).
const OLDEST: (u32, u32) = (6, 3);

struct Facts {
    root: bool,
    release: String,
    conntrack: Option<Conntrack>,
}

struct Conntrack {
    count: u64,
    max: u64,
}

pub(super) fn examine() -> Vec<Finding> {
    let conntrack = sysctl_number("net/netfilter/nf_conntrack_max").map(|max| Conntrack {
        count: sysctl_number("net/netfilter/nf_conntrack_count").unwrap_or(0),
        max,
    });
    judge(&Facts {
        root: nix::unistd::geteuid().is_root(),
        release: sysctl("kernel/osrelease").unwrap_or_default(),
        conntrack,
    })
}

fn judge(
    Facts {
        root,
        release,
        conntrack,
    }: &Facts,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !root {
        findings.push(warning(
            "MGY-D001",
            "not run as root",
            "other firewalls' rules and other users' processes cannot be seen, so findings may be missing",
            "run it again with sudo",
        ));
    }
    if version(release).is_none_or(|version| version < OLDEST) {
        findings.push(failure(
            "MGY-D002",
            format!("the kernel is {release}"),
            format!(
                "felix programs nf_tables with messages that Linux has since {}.{}",
                OLDEST.0, OLDEST.1
            ),
            format!("upgrade to Linux {}.{} or newer", OLDEST.0, OLDEST.1),
        ));
    }
    match conntrack {
        None => findings.push(failure(
            "MGY-D004",
            "connection tracking is not in the kernel",
            "policy is about connections: without nf_conntrack no rule can tell a reply from a request",
            "load it (modprobe nf_conntrack), or build the kernel with CONFIG_NF_CONNTRACK",
        )),
        Some(Conntrack { count, max }) if *max > 0 && count * 10 >= max * 9 => findings.push(warning(
            "MGY-D005",
            format!("the connection tracking table is full to {} % ({count} of {max})", count * 100 / max),
            "new connections are dropped when it is full, with `nf_conntrack: table full` in the kernel log",
            format!("raise it: sysctl -w net.netfilter.nf_conntrack_max={}", max * 2),
        )),
        Some(Conntrack { .. }) => {}
    }
    findings
}

/// `6.18.0-rc1-cloud` is (6, 18).
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(facts: &Facts) -> Vec<&'static str> {
        judge(facts).iter().map(|finding| finding.id).collect()
    }

    fn healthy() -> Facts {
        Facts {
            root: true,
            release: "6.18.2-1-amd64".into(),
            conntrack: Some(Conntrack {
                count: 10,
                max: 65536,
            }),
        }
    }

    #[test]
    fn a_healthy_kernel_has_no_finding() {
        assert_eq!(ids(&healthy()), [""; 0]);
    }

    #[test]
    fn each_lack_has_its_id() {
        assert_eq!(
            ids(&Facts {
                root: false,
                ..healthy()
            }),
            ["MGY-D001"]
        );
        assert_eq!(
            ids(&Facts {
                release: "6.1.0-37-amd64".into(),
                ..healthy()
            }),
            ["MGY-D002"]
        );
        assert_eq!(
            ids(&Facts {
                release: "unknown".into(),
                ..healthy()
            }),
            ["MGY-D002"]
        );
        assert_eq!(
            ids(&Facts {
                conntrack: None,
                ..healthy()
            }),
            ["MGY-D004"]
        );
        let full = Some(Conntrack {
            count: 900,
            max: 1000,
        });
        assert_eq!(
            ids(&Facts {
                conntrack: full,
                ..healthy()
            }),
            ["MGY-D005"]
        );
    }
}
