//! Packet sizes: pods' links against the links to peers.

use super::finding::{Finding, failure, warning};
use super::proc::{self, Uplink, sysctl_number};
use crate::output::list;

/// A link and the largest packet it takes.
type Sized = (String, u64);

pub(super) fn examine(uplinks: &[Uplink]) -> Vec<Finding> {
    // The MTU of IPv6 is the link's, unless a router advertised less, which then counts as well.
    let size = |link: String| {
        let mtu = sysctl_number(&format!("net/ipv6/conf/{link}/mtu"))?;
        Some((link, mtu))
    };
    let uplinks: Vec<Sized> = uplinks
        .iter()
        .filter_map(|link| size(link.name.clone()))
        .collect();
    let pods: Vec<Sized> = proc::links()
        .into_iter()
        .filter(|link| link.starts_with("mgy"))
        .filter_map(size)
        .collect();
    judge(&uplinks, &pods)
}

fn judge(uplinks: &[Sized], pods: &[Sized]) -> Vec<Finding> {
    let Some((narrow, least)) = uplinks.iter().min_by_key(|(_, mtu)| *mtu) else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    let wide: Vec<&Sized> = pods.iter().filter(|(_, mtu)| mtu > least).collect();
    if let Some((_, mtu)) = wide.iter().max_by_key(|(_, mtu)| mtu) {
        findings.push(failure(
            "MGY-D030",
            format!("{} of {} pod links take packets of up to {mtu} octets, {narrow} only {least}", wide.len(), pods.len()),
            "large packets vanish wherever the ICMP message about it is filtered; small ones pass, so that it looks like a hang",
            format!("raise the MTU of {narrow}, or start the pods again so that they get the present MTU"),
        ));
    }
    let most = uplinks.iter().map(|(_, mtu)| *mtu).max().unwrap_or(*least);
    if most != *least {
        findings.push(warning(
            "MGY-D031",
            format!(
                "links to peers differ in MTU: {}",
                list(
                    uplinks.iter().map(|(link, mtu)| format!("{link} {mtu}")),
                    ", "
                )
            ),
            "all pods use the least one; the others could carry larger packets",
            "give them the same MTU if that is not meant",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(all: &[(&str, u64)]) -> Vec<Sized> {
        all.iter()
            .map(|(name, mtu)| ((*name).to_owned(), *mtu))
            .collect()
    }

    fn ids(uplinks: &[(&str, u64)], pods: &[(&str, u64)]) -> Vec<&'static str> {
        judge(&links(uplinks), &links(pods))
            .iter()
            .map(|finding| finding.id)
            .collect()
    }

    #[test]
    fn equal_sizes_have_no_finding() {
        assert_eq!(
            ids(&[("eth0", 1500)], &[("mgy1", 1500), ("mgy2", 1450)]),
            [""; 0]
        );
        assert_eq!(ids(&[], &[("mgy1", 1500)]), [""; 0]);
    }

    #[test]
    fn a_pod_link_wider_than_the_way_out_is_a_failure() {
        assert_eq!(ids(&[("eth0", 1450)], &[("mgy1", 1500)]), ["MGY-D030"]);
    }

    #[test]
    fn uplinks_that_differ_are_a_warning() {
        assert_eq!(
            ids(&[("eth0", 1500), ("eth1", 9000)], &[("mgy1", 1500)]),
            ["MGY-D031"]
        );
    }
}
