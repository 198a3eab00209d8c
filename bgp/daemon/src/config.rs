//! The daemon's configuration file (TOML).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use margay_bgp::settings::{
    Aggregate, Announcement, BestPath, Deferral, Details, MedComparison, PeerRange,
};
use margay_bgp::{Filter, PeerName};
use serde::Deserialize;
use toml::Spanned;

use crate::{Asn, NextHops, Settings};

mod fields;
mod filter;
mod peer;

use fields::{
    AsnField, CommunityField, ExtendedCommunityField, LargeCommunityField, RouterId, SwitchField,
    Text,
};
use filter::FilterTable;
use peer::PeerTable;

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// For the driver.
    pub settings: Settings,
    /// Where to answer questions (a unix socket), if anywhere.
    pub control: Option<PathBuf>,
    /// Where Prometheus finds metrics, if anywhere.
    pub metrics: Option<SocketAddr>,
    /// Files that were read beside this one (passwords): a change of theirs is one of the configuration.
    pub files: BTreeSet<PathBuf>,
}

/// A file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}: {reason}, in `{text}`", file.display())]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub reason: String,
    /// The line as it stands.
    pub text: String,
}

/// Something wrong, and at which octet of the text.
struct Wrong {
    at: usize,
    reason: String,
}

impl Wrong {
    fn new(at: usize, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { at, reason }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    asn: AsnField,
    router_id: RouterId,
    listen: Option<Vec<Text<SocketAddr>>>,
    #[serde(default)]
    next_hop: NextHopTable,
    #[serde(default)]
    announce: BTreeSet<Text<IpNet>>,
    #[serde(default)]
    announcements: BTreeMap<Text<IpNet>, DetailsTable>,
    #[serde(default)]
    aggregates: BTreeMap<Text<IpNet>, AggregateTable>,
    control: Option<PathBuf>,
    metrics: Option<Text<SocketAddr>>,
    cluster_id: Option<RouterId>,
    #[serde(default)]
    best_path: BestPathTable,
    ebgp_requires_policy: Option<SwitchField>,
    graceful_shutdown: Option<SwitchField>,
    honour_graceful_shutdown: Option<SwitchField>,
    track_next_hops: Option<SwitchField>,
    selection_deferral: Option<DeferralTable>,
    #[serde(default)]
    filters: BTreeMap<String, FilterTable>,
    #[serde(default)]
    peers: BTreeMap<String, Spanned<PeerTable>>,
    #[serde(default)]
    ranges: BTreeMap<String, Spanned<RangeTable>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct NextHopTable {
    ipv4: Option<Text<Ipv4Addr>>,
    ipv6: Option<Text<Ipv6Addr>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct DetailsTable {
    #[serde(default)]
    communities: Vec<CommunityField>,
    #[serde(default)]
    large_communities: Vec<LargeCommunityField>,
    #[serde(default)]
    extended_communities: Vec<ExtendedCommunityField>,
    med: Option<u32>,
    local_pref: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct AggregateTable {
    #[serde(default)]
    suppress: SwitchField,
    #[serde(default)]
    with: DetailsTable,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct BestPathTable {
    #[serde(default)]
    med: MedField,
    multipath_ebgp: Option<std::num::NonZeroU8>,
    multipath_ibgp: Option<std::num::NonZeroU8>,
}

/// Seconds.
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeferralTable {
    most: Option<std::num::NonZeroU16>,
    absent: Option<u16>,
}

impl DeferralTable {
    fn read(self) -> Deferral {
        let Self { most, absent } = self;
        let seconds = |seconds: u16| Duration::from_secs(seconds.into());
        Deferral {
            most: most.map_or(Deferral::USUAL.most, |most| seconds(most.get())),
            absent: absent.map_or(Deferral::USUAL.absent, seconds),
        }
    }
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum MedField {
    #[default]
    SameNeighbour,
    Always,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RangeTable {
    prefix: Text<IpNet>,
    #[serde(default)]
    asns: Vec<AsnField>,
    #[serde(default = "many")]
    limit: u32,
    #[serde(default)]
    peer: PeerTable,
}

fn many() -> u32 {
    1000
}

fn everywhere() -> Vec<SocketAddr> {
    vec![
        (Ipv4Addr::UNSPECIFIED, 179).into(),
        (Ipv6Addr::UNSPECIFIED, 179).into(),
    ]
}

impl DetailsTable {
    fn read(self) -> Details {
        let Self {
            communities,
            large_communities,
            extended_communities,
            med,
            local_pref,
        } = self;
        Details {
            communities: communities.into_iter().map(|field| field.0).collect(),
            large_communities: large_communities.into_iter().map(|field| field.0).collect(),
            extended_communities: extended_communities
                .into_iter()
                .map(|field| field.0)
                .collect(),
            med,
            local_pref,
        }
    }
}

/// Reads the text of `file`, and the password files that it names.
///
/// # Errors
/// The first thing wrong, with its line.
pub fn parse(file: &Path, text: &str) -> Result<Config, ConfigError> {
    let parsed = toml::from_str(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        Wrong::new(offset, error.message().replace('\n', ", "))
    });
    parsed
        .and_then(|parsed| read(file, parsed))
        .map_err(|Wrong { at, reason }| {
            let before = text.get(..at).unwrap_or(text);
            let line = before.matches('\n').count();
            ConfigError {
                file: file.to_owned(),
                line: line + 1,
                reason,
                text: text.lines().nth(line).unwrap_or_default().trim().to_owned(),
            }
        })
}

fn read(file: &Path, parsed: File) -> Result<Config, Wrong> {
    let File {
        asn,
        router_id,
        listen,
        next_hop,
        announce,
        announcements,
        aggregates,
        control,
        metrics,
        cluster_id,
        best_path,
        ebgp_requires_policy,
        graceful_shutdown,
        honour_graceful_shutdown,
        track_next_hops,
        selection_deferral,
        filters,
        peers,
        ranges,
    } = parsed;
    let usual = margay_bgp::Settings::new(asn.0, router_id.0);
    let filters = filters
        .into_iter()
        .map(|(name, table)| Ok((name, table.read()?)))
        .collect::<Result<BTreeMap<_, _>, Wrong>>()?;
    let announcements: BTreeMap<_, _> = announcements
        .into_iter()
        .map(|(Text(prefix), table)| {
            let details = table.read();
            (prefix, Announcement { details })
        })
        .collect();
    let speaker = margay_bgp::Settings {
        next_hops: NextHops {
            v4: next_hop.ipv4.map(|address| address.0),
            v6: next_hop.ipv6.map(|address| address.0),
        },
        // What has attributes is announced, without being named twice.
        announce: announcements
            .keys()
            .copied()
            .chain(announce.into_iter().map(|prefix| prefix.0))
            .collect(),
        announcements,
        aggregates: aggregates
            .into_iter()
            .map(|(Text(prefix), table)| {
                let suppress = table.suppress.0;
                let details = table.with.read();
                (prefix, Aggregate { suppress, details })
            })
            .collect(),
        cluster_id: cluster_id.map(|id| id.0),
        best_path: best_path.read(usual.best_path),
        ebgp_requires_policy: switch(ebgp_requires_policy, usual.ebgp_requires_policy),
        graceful_shutdown: switch(graceful_shutdown, usual.graceful_shutdown),
        honour_graceful_shutdown: switch(honour_graceful_shutdown, usual.honour_graceful_shutdown),
        track_next_hops: switch(track_next_hops, usual.track_next_hops),
        deferral: selection_deferral.map(DeferralTable::read),
        // This daemon sets no routes.
        tell_routes: margay_bgp::Switch::Off,
        ..usual
    };
    let listen = listen.map_or_else(everywhere, |places| {
        places.into_iter().map(|place| place.0).collect()
    });
    let mut reader = Reader {
        file,
        filters,
        settings: Settings::new(speaker, listen),
        files: BTreeSet::new(),
    };
    reader.peers(peers)?;
    reader.ranges(ranges)?;
    Ok(Config {
        settings: reader.settings,
        control,
        metrics: metrics.map(|place| place.0),
        files: reader.files,
    })
}

impl BestPathTable {
    fn read(self, usual: BestPath) -> BestPath {
        let Self {
            med,
            multipath_ebgp,
            multipath_ibgp,
        } = self;
        BestPath {
            med: match med {
                MedField::SameNeighbour => MedComparison::SameNeighbour,
                MedField::Always => MedComparison::Always,
            },
            multipath_external: multipath_ebgp.map_or(usual.multipath_external, Into::into),
            multipath_internal: multipath_ibgp.map_or(usual.multipath_internal, Into::into),
        }
    }
}

fn switch(field: Option<SwitchField>, usual: margay_bgp::Switch) -> margay_bgp::Switch {
    field.map_or(usual, |field| field.0)
}

/// Turns tables into settings.
struct Reader<'a> {
    file: &'a Path,
    filters: BTreeMap<String, Filter>,
    settings: Settings,
    files: BTreeSet<PathBuf>,
}

impl Reader<'_> {
    fn peers(&mut self, peers: BTreeMap<String, Spanned<PeerTable>>) -> Result<(), Wrong> {
        let mut addresses: BTreeMap<IpAddr, String> = BTreeMap::new();
        for (name, table) in peers {
            let span = table.span().start;
            let mut table = table.into_inner();
            let Some(asn) = table.asn.take() else {
                return Err(Wrong::new(span, "missing field `asn`"));
            };
            let (at, address) = match (table.address.take(), &table.interface) {
                (Some(address), _) => {
                    let (at, address) = (address.span().start, address.into_inner().0);
                    if address.is_unspecified() || address.is_multicast() {
                        let reason = format!("{address} is not the address of a host");
                        return Err(Wrong::new(at, reason));
                    }
                    if let Some(other) = addresses.insert(address, name.clone()) {
                        return Err(Wrong::new(at, format!("peer {other} has the same address")));
                    }
                    (at, address)
                }
                // Whoever is the router there.
                (None, Some(_)) => (span, Ipv6Addr::UNSPECIFIED.into()),
                (None, None) => {
                    let reason =
                        "missing field `address` (or `interface`, for whoever is the router there)";
                    return Err(Wrong::new(span, reason));
                }
            };
            let (settings, transport) = table.read(self, at, address, asn.0)?;
            let name = PeerName::from(name);
            self.settings.transport.insert(name.clone(), transport);
            self.settings.speaker.peers.insert(name, settings);
        }
        Ok(())
    }

    fn ranges(&mut self, ranges: BTreeMap<String, Spanned<RangeTable>>) -> Result<(), Wrong> {
        for (name, table) in ranges {
            let span = table.span().start;
            let RangeTable {
                prefix: Text(prefix),
                asns,
                limit,
                mut peer,
            } = table.into_inner();
            if let Some(address) = peer.address.take() {
                let reason = "a range's peers have the addresses of its `prefix`";
                return Err(Wrong::new(address.span().start, reason));
            }
            let asns: BTreeSet<Asn> = asns.into_iter().map(|field| field.0).collect();
            let asn = peer.asn.take().map(|field| field.0);
            let Some(asn) = asn.or_else(|| asns.first().copied()) else {
                let reason = "a range needs `asns`, or `peer.asn`";
                return Err(Wrong::new(span, reason));
            };
            let (template, transport) = peer.read(self, span, prefix.network(), asn)?;
            let range = PeerRange {
                prefix,
                asns,
                template,
                limit,
            };
            self.settings
                .range_transport
                .insert(name.clone(), transport);
            self.settings.speaker.ranges.insert(name, range);
        }
        Ok(())
    }

    /// The filter of that name.
    fn filter(&self, name: Option<Spanned<String>>) -> Result<Option<Filter>, Wrong> {
        let Some(name) = name else {
            return Ok(None);
        };
        if let Some(filter) = self.filters.get(name.get_ref()) {
            return Ok(Some(filter.clone()));
        }
        let known: Vec<_> = self.filters.keys().map(String::as_str).collect();
        let known = if known.is_empty() {
            "none".to_owned()
        } else {
            known.join(", ")
        };
        let reason = format!(
            "there is no filter `{}`; filters here: {known}",
            name.get_ref()
        );
        Err(Wrong::new(name.span().start, reason))
    }
}

#[cfg(test)]
mod tests;
