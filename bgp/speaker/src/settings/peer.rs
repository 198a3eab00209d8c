//! What a speaker is told of one peer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::{Dial, Export, HoldTime, RestartSettings};
use crate::filter::Filter;
use crate::types::{Asn, Family};

/// One peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSettings {
    /// Its address; an incoming connection is known by it.
    pub address: IpAddr,
    /// The port to dial.
    pub port: u16,
    /// Its AS number; equal to ours for iBGP.
    pub asn: Asn,
    /// The hold time to propose.
    pub hold_time: HoldTime,
    /// Own address to dial from; the kernel's choice if none.
    pub source: Option<IpAddr>,
    /// Who dials.
    pub dial: Dial,
    /// Families to speak.
    pub families: BTreeSet<Family>,
    /// What to announce.
    pub export: Export,
    /// Which routes of the peer are taken, and how they are changed.
    pub import_filter: Option<Filter>,
    /// Which routes the peer is told, of those that `export` lets through, and how they are changed.
    pub export_filter: Option<Filter>,
    /// Whether the session is to be up; if not, the peer reads this text (RFC 9003).
    pub shut_down: Option<String>,
    /// How long to wait for the peer's OPEN before ours goes (`DelayOpen`, RFC 4271 §8.1.1).
    pub delay_open: Option<Duration>,
    /// How restarts of the peer and of ours are bridged.
    pub restart: RestartSettings,
    /// Messages of up to 65535 octets (RFC 8654).
    pub extended_messages: Switch,
    /// Enhanced route refresh (RFC 7313).
    pub enhanced_refresh: Switch,
    /// IPv4 routes with an IPv6 next hop (RFC 8950).
    pub extended_next_hop: Switch,
    /// Several paths to a prefix (RFC 7911).
    pub add_path: AddPath,
    /// Whether the peer is a client of ours (RFC 4456).
    pub reflection: Reflection,
    /// Which next hop the peer is told.
    pub next_hop: NextHopMode,
    /// How often our AS may stand in the `AS_PATH` of its routes.
    pub allow_own_as: u8,
    /// Another AS number to show to this peer.
    pub local_as: Option<LocalAs>,
    /// Whether the peer's own AS in `AS_PATH` is replaced by ours (for sites of one AS).
    pub own_as: OwnAs,
    /// What becomes of private AS numbers in `AS_PATH` towards this peer.
    pub private_as: PrivateAs,
    /// How many prefixes the peer may announce.
    pub prefix_limits: BTreeMap<Family, PrefixLimit>,
    /// Whether its routes are kept as received, so that a new import filter needs no ROUTE-REFRESH.
    pub keep_received: Switch,
    /// Whether the peer is asked to prefer others (RFC 8326 §4), as [`super::Settings::graceful_shutdown`].
    pub graceful_shutdown: Switch,
}

impl PeerSettings {
    /// A peer with the usual settings: port 179, hold time 90 s, both families, dialled by us too, and told
    /// only of own prefixes.
    pub fn new(address: IpAddr, asn: Asn) -> Self {
        Self {
            address,
            port: 179,
            asn,
            hold_time: HoldTime::default(),
            source: None,
            dial: Dial::Active,
            families: Family::ALL.into(),
            export: Export::Own,
            import_filter: None,
            export_filter: None,
            shut_down: None,
            delay_open: None,
            restart: RestartSettings::default(),
            extended_messages: Switch::On,
            enhanced_refresh: Switch::On,
            extended_next_hop: Switch::On,
            add_path: AddPath::default(),
            reflection: Reflection::Ordinary,
            next_hop: NextHopMode::Auto,
            allow_own_as: 0,
            local_as: None,
            own_as: OwnAs::Keep,
            private_as: PrivateAs::Keep,
            prefix_limits: BTreeMap::new(),
            keep_received: Switch::Off,
            graceful_shutdown: Switch::Off,
        }
    }
}

/// Whether something is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Switch {
    /// Yes.
    On,
    /// No.
    #[default]
    Off,
}

impl Switch {
    /// Whether it is on.
    pub fn is_on(self) -> bool {
        self == Self::On
    }
}

impl From<bool> for Switch {
    fn from(on: bool) -> Self {
        if on { Self::On } else { Self::Off }
    }
}

/// Several paths to one prefix (RFC 7911), for all families of the session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddPath {
    /// Whether to take several from the peer.
    pub receive: Switch,
    /// How many to tell the peer at most; 0 for the best alone, without path identifiers.
    pub send: u8,
}

/// Whether a peer is a client of ours as a route reflector (RFC 4456).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reflection {
    /// It is none.
    #[default]
    Ordinary,
    /// Its routes are passed on to every iBGP peer, and it is told those of every iBGP peer.
    Client,
}

/// Which next hop a peer is told (RFC 4271 §5.1.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NextHopMode {
    /// Ourselves to eBGP peers, and for what eBGP peers told us; unchanged between iBGP peers.
    #[default]
    Auto,
    /// Always ourselves.
    Own,
    /// Always what the route has, to eBGP peers too; ourselves for own prefixes.
    Unchanged,
}

/// Another AS number to show to a peer, for the time of a migration (RFC 7705).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalAs {
    /// It.
    pub asn: Asn,
    /// Whether our real one stands in `AS_PATH` behind it, and it in the peer's routes.
    pub real: OldAs,
}

/// What becomes of our real AS number beside a [`LocalAs`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OldAs {
    /// `AS_PATH` shows both; routes of the peer get the local one in front.
    #[default]
    Shown,
    /// The peer sees the local one alone, and its routes are not lengthened (RFC 7705 §3.3).
    Hidden,
}

/// What becomes of the peer's own AS number in the `AS_PATH` it is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OwnAs {
    /// It stays, and the peer refuses the route.
    #[default]
    Keep,
    /// Ours stands there instead (as-override, RFC 4364 §7).
    Override,
}

/// What becomes of private AS numbers (RFC 6996) in the `AS_PATH` an eBGP peer is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrivateAs {
    /// They stay.
    #[default]
    Keep,
    /// They are taken out.
    Remove,
    /// Ours stands there instead, so that the length stays.
    Replace,
}

/// How many prefixes of one family a peer may announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixLimit {
    /// So many; one more breaks the limit.
    pub max: u32,
    /// At how many percent of that the status warns; 1 to 100.
    pub warn_percent: u8,
    /// What happens above.
    pub action: LimitAction,
}

/// What happens when a [`PrefixLimit`] is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitAction {
    /// The status says so.
    Warn,
    /// Prefixes beyond the limit are not taken.
    Block,
    /// The session ends with Cease 1 (RFC 4486 §4), and is tried again after this time; never if none.
    TearDown {
        /// How long to stay away.
        restart: Option<Duration>,
    },
}
