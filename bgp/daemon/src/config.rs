//! The daemon's configuration file (TOML).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::Deserialize;
use toml::Spanned;

use crate::{Asn, BgpId, Dial, Export, Family, HoldTime, NextHops, PeerSettings, Settings};

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// For the driver.
    pub settings: Settings,
    /// Where to answer questions (a unix socket), if anywhere.
    pub control: Option<PathBuf>,
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    asn: AsnField,
    router_id: RouterId,
    #[serde(default = "everywhere")]
    listen: Vec<SocketAddr>,
    #[serde(default)]
    next_hop: NextHopTable,
    #[serde(default)]
    announce: BTreeSet<IpNet>,
    control: Option<PathBuf>,
    #[serde(default)]
    peers: BTreeMap<String, Peer>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct NextHopTable {
    ipv4: Option<Ipv4Addr>,
    ipv6: Option<Ipv6Addr>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Peer {
    address: Spanned<IpAddr>,
    asn: AsnField,
    #[serde(default = "bgp_port")]
    port: std::num::NonZeroU16,
    #[serde(default)]
    hold_time: HoldTimeField,
    source: Option<IpAddr>,
    #[serde(default)]
    passive: bool,
    families: Option<Spanned<BTreeSet<Family>>>,
    #[serde(default)]
    export: ExportField,
}

#[derive(Deserialize)]
#[serde(try_from = "u32")]
struct AsnField(Asn);

impl TryFrom<u32> for AsnField {
    type Error = &'static str;

    fn try_from(asn: u32) -> Result<Self, Self::Error> {
        if asn == 0 {
            return Err("AS number 0 is reserved; 1 to 4294967295 is allowed");
        }
        Ok(Self(Asn(asn)))
    }
}

#[derive(Deserialize)]
#[serde(try_from = "Ipv4Addr")]
struct RouterId(BgpId);

impl TryFrom<Ipv4Addr> for RouterId {
    type Error = &'static str;

    fn try_from(id: Ipv4Addr) -> Result<Self, Self::Error> {
        if id.is_unspecified() {
            return Err("router-id 0.0.0.0 is not allowed; take an address of this host");
        }
        Ok(Self(BgpId(id)))
    }
}

#[derive(Default, Deserialize)]
#[serde(try_from = "u16")]
struct HoldTimeField(HoldTime);

impl TryFrom<u16> for HoldTimeField {
    type Error = &'static str;

    fn try_from(seconds: u16) -> Result<Self, Self::Error> {
        let hold_time = HoldTime::from_secs(seconds);
        if hold_time.as_secs() != seconds {
            return Err("a hold time is 0 (none) or 3 to 65535 seconds");
        }
        Ok(Self(hold_time))
    }
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ExportField {
    #[default]
    Own,
    All,
}

fn everywhere() -> Vec<SocketAddr> {
    vec![
        (Ipv4Addr::UNSPECIFIED, 179).into(),
        (Ipv6Addr::UNSPECIFIED, 179).into(),
    ]
}

fn bgp_port() -> std::num::NonZeroU16 {
    const PORT: std::num::NonZeroU16 = std::num::NonZeroU16::new(179).expect("179 is not 0");
    PORT
}

/// Reads the text of `file`.
///
/// # Errors
/// The first thing wrong, with its line.
pub fn parse(file: &Path, text: &str) -> Result<Config, ConfigError> {
    let at = |offset: usize, reason: String| {
        let before = &text[..offset.min(text.len())];
        let line = before.matches('\n').count();
        ConfigError {
            file: file.to_owned(),
            line: line + 1,
            reason,
            text: text.lines().nth(line).unwrap_or_default().trim().to_owned(),
        }
    };
    let parsed: File = toml::from_str(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        at(offset, error.message().replace('\n', ", "))
    })?;
    let mut addresses: BTreeMap<IpAddr, String> = BTreeMap::new();
    let mut peers = BTreeMap::new();
    for (name, peer) in parsed.peers {
        let Peer {
            address,
            asn,
            port,
            hold_time,
            source,
            passive,
            families,
            export,
        } = peer;
        let (span, address) = (address.span().start, address.into_inner());
        if address.is_unspecified() || address.is_multicast() {
            let reason = format!("{address} is not the address of a host");
            return Err(at(span, reason));
        }
        if let Some(other) = addresses.insert(address, name.clone()) {
            return Err(at(span, format!("peer {other} has the same address")));
        }
        if let Some(source) = source.filter(|source| source.is_ipv4() != address.is_ipv4()) {
            let reason = format!("{address} cannot be dialled from {source} of the other family");
            return Err(at(span, reason));
        }
        let families = match families {
            None => Family::ALL.into(),
            Some(families) if families.get_ref().is_empty() => {
                let reason = "no family to speak; IPv4 and IPv6 are allowed".to_owned();
                return Err(at(families.span().start, reason));
            }
            Some(families) => families.into_inner(),
        };
        let settings = PeerSettings {
            address,
            port: port.get(),
            asn: asn.0,
            hold_time: hold_time.0,
            source,
            dial: if passive { Dial::Passive } else { Dial::Active },
            families,
            export: match export {
                ExportField::Own => Export::Own,
                ExportField::All => Export::All,
            },
            ..PeerSettings::new(address, asn.0)
        };
        peers.insert(name.into(), settings);
    }
    Ok(Config {
        settings: Settings {
            speaker: margay_bgp::Settings {
                asn: parsed.asn.0,
                bgp_id: parsed.router_id.0,
                next_hops: NextHops {
                    v4: parsed.next_hop.ipv4,
                    v6: parsed.next_hop.ipv6,
                },
                peers,
                announce: parsed.announce,
                ..margay_bgp::Settings::new(parsed.asn.0, parsed.router_id.0)
            },
            listen: parsed.listen,
        },
        control: parsed.control,
    })
}

#[cfg(test)]
mod tests;
