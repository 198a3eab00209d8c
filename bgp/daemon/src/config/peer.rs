//! Peers of the file.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU8;
use std::path::PathBuf;
use std::time::Duration;

use margay_bgp::settings::{
    AddPath, LimitAction, LocalAs, NextHopMode, OldAs, OwnAs, PrefixLimit, PrivateAs, Reflection,
    RestartSettings,
};
use serde::Deserialize;
use toml::Spanned;

use super::fields::{AsnField, HoldTimeField, HopsField, PortField, SwitchField, Text};
use super::{Reader, Wrong, switch};
use crate::{
    AoAlgorithm, AoKey, Asn, BfdSettings, Dial, Export, Family, Password, PeerSettings, Transport,
    Ttl,
};

/// A `[peers.NAME]`, or what all peers of a range have.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct PeerTable {
    pub(super) address: Option<Spanned<Text<IpAddr>>>,
    pub(super) asn: Option<AsnField>,
    port: Option<PortField>,
    hold_time: HoldTimeField,
    source: Option<Text<IpAddr>>,
    passive: bool,
    families: Option<Spanned<BTreeSet<Family>>>,
    export: ExportField,
    import_filter: Option<Spanned<String>>,
    export_filter: Option<Spanned<String>>,
    shutdown: Option<String>,
    delay_open: Option<u16>,
    graceful_restart: RestartTable,
    extended_messages: Option<SwitchField>,
    enhanced_refresh: Option<SwitchField>,
    extended_next_hop: Option<SwitchField>,
    add_path: AddPathTable,
    reflector_client: bool,
    next_hop: NextHopField,
    allow_own_as: u8,
    local_as: Option<LocalAsTable>,
    as_override: bool,
    private_as: PrivateAsField,
    prefix_limits: BTreeMap<Family, LimitTable>,
    keep_received: Option<SwitchField>,
    graceful_shutdown: Option<SwitchField>,
    password: Option<Spanned<String>>,
    password_file: Option<Spanned<PathBuf>>,
    tcp_ao: Option<AoTable>,
    multihop: Option<HopsField>,
    ttl_security: Option<Spanned<HopsField>>,
    pub(super) interface: Option<String>,
    bfd: Option<BfdTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct BfdTable {
    /// Milliseconds.
    #[serde(default = "bfd_interval")]
    interval: Spanned<u32>,
    #[serde(default = "bfd_multiplier")]
    multiplier: NonZeroU8,
}

fn bfd_interval() -> Spanned<u32> {
    Spanned::new(0..0, 300)
}

fn bfd_multiplier() -> NonZeroU8 {
    const USUAL: NonZeroU8 = NonZeroU8::new(3).expect("3 is not 0");
    USUAL
}

impl BfdTable {
    fn read(&self) -> Result<BfdSettings, Wrong> {
        if !(10..=60_000).contains(self.interval.get_ref()) {
            let reason = "10 to 60000 milliseconds are allowed";
            return Err(Wrong::new(self.interval.span().start, reason));
        }
        Ok(BfdSettings {
            interval: Duration::from_millis((*self.interval.get_ref()).into()),
            multiplier: self.multiplier,
        })
    }
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ExportField {
    #[default]
    Own,
    All,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct RestartTable {
    enabled: Option<SwitchField>,
    time: Option<Spanned<u16>>,
    notification: Option<SwitchField>,
    long_lived: Option<Spanned<u32>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct AddPathTable {
    receive: SwitchField,
    send: u8,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum NextHopField {
    #[default]
    Auto,
    #[serde(rename = "self")]
    Own,
    Unchanged,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct LocalAsTable {
    asn: AsnField,
    #[serde(default)]
    hide_real: bool,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PrivateAsField {
    #[default]
    Keep,
    Remove,
    Replace,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct LimitTable {
    max: u32,
    #[serde(default = "most")]
    warn_percent: Spanned<u8>,
    #[serde(default)]
    action: LimitField,
    restart_after: Option<u32>,
}

fn most() -> Spanned<u8> {
    Spanned::new(0..0, 75)
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum LimitField {
    Warn,
    Block,
    #[default]
    TearDown,
}

impl PeerTable {
    pub(super) fn read(
        self,
        reader: &mut Reader<'_>,
        at: usize,
        address: IpAddr,
        asn: Asn,
    ) -> Result<(PeerSettings, Transport), Wrong> {
        let usual = PeerSettings::new(address, asn);
        let transport = self.transport(reader, at, address)?;
        let Self {
            address: _,
            asn: _,
            port,
            hold_time,
            source,
            passive,
            families,
            export,
            import_filter,
            export_filter,
            shutdown,
            delay_open,
            graceful_restart,
            extended_messages,
            enhanced_refresh,
            extended_next_hop,
            add_path,
            reflector_client,
            next_hop,
            allow_own_as,
            local_as,
            as_override,
            private_as,
            prefix_limits,
            keep_received,
            graceful_shutdown,
            password: _,
            password_file: _,
            tcp_ao: _,
            multihop: _,
            ttl_security: _,
            interface: _,
            bfd: _,
        } = self;
        let source = source.map(|source| source.0);
        if let Some(source) = source.filter(|source| source.is_ipv4() != address.is_ipv4()) {
            let reason = format!("{address} cannot be dialled from {source} of the other family");
            return Err(Wrong::new(at, reason));
        }
        let families = match families {
            None => usual.families.clone(),
            Some(families) if families.get_ref().is_empty() => {
                let reason = "no family to speak; IPv4 and IPv6 are allowed";
                return Err(Wrong::new(families.span().start, reason));
            }
            Some(families) => families.into_inner(),
        };
        let settings = PeerSettings {
            port: port.map_or(usual.port, |port| port.0.get()),
            hold_time: hold_time.0,
            source,
            dial: if passive { Dial::Passive } else { Dial::Active },
            families,
            export: export.read(),
            import_filter: reader.filter(import_filter)?,
            export_filter: reader.filter(export_filter)?,
            shut_down: shutdown,
            delay_open: delay_open.map(|seconds| Duration::from_secs(seconds.into())),
            restart: graceful_restart.read(usual.restart)?,
            extended_messages: switch(extended_messages, usual.extended_messages),
            enhanced_refresh: switch(enhanced_refresh, usual.enhanced_refresh),
            extended_next_hop: switch(extended_next_hop, usual.extended_next_hop),
            add_path: AddPath {
                receive: add_path.receive.0,
                send: add_path.send,
            },
            reflection: if reflector_client {
                Reflection::Client
            } else {
                Reflection::Ordinary
            },
            next_hop: next_hop.read(),
            allow_own_as,
            local_as: local_as.map(LocalAsTable::read),
            own_as: if as_override {
                OwnAs::Override
            } else {
                OwnAs::Keep
            },
            private_as: private_as.read(),
            prefix_limits: prefix_limits
                .into_iter()
                .map(|(family, table)| Ok((family, table.read()?)))
                .collect::<Result<_, Wrong>>()?,
            keep_received: switch(keep_received, usual.keep_received),
            graceful_shutdown: switch(graceful_shutdown, usual.graceful_shutdown),
            ..usual
        };
        Ok((settings, transport))
    }

    fn transport(
        &self,
        reader: &mut Reader<'_>,
        at: usize,
        address: IpAddr,
    ) -> Result<Transport, Wrong> {
        let ttl = match (self.multihop, &self.ttl_security) {
            (None, None) => Ttl::Any,
            (Some(hops), None) => Ttl::Hops(hops.0),
            (None, Some(hops)) => Ttl::Security(hops.get_ref().0),
            (Some(_), Some(security)) => {
                let reason =
                    "ttl-security says how many hops are allowed already: leave multihop out";
                return Err(Wrong::new(security.span().start, reason));
            }
        };
        let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        if link_local && self.interface.is_none() {
            let reason = format!("{address} is a link-local address and needs `interface`");
            return Err(Wrong::new(at, reason));
        }
        let password = match (&self.password, &self.password_file) {
            (Some(_), Some(path)) => {
                let reason = "password and password-file: only one is allowed";
                return Err(Wrong::new(path.span().start, reason));
            }
            (text, path) => reader.secret(text.as_ref(), path.as_ref())?,
        };
        if let (Some(_), Some(ao)) = (&password, &self.tcp_ao) {
            let reason = "password and tcp-ao: only one is allowed";
            return Err(Wrong::new(ao.id.span().start, reason));
        }
        let ao = self.tcp_ao.as_ref();
        let ao = ao.map(|ao| ao.read(reader)).transpose()?;
        Ok(Transport {
            password,
            ao,
            ttl,
            interface: self.interface.clone(),
            bfd: self.bfd.as_ref().map(BfdTable::read).transpose()?,
        })
    }
}

/// `tcp-ao = { … }`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct AoTable {
    key: Option<Spanned<String>>,
    key_file: Option<Spanned<PathBuf>>,
    /// `SendID`, and `RecvID` unless that is another one.
    id: Spanned<u8>,
    receive_id: Option<u8>,
    #[serde(default)]
    algorithm: AoAlgorithmField,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum AoAlgorithmField {
    #[default]
    HmacSha1,
    #[serde(rename = "aes-128-cmac")]
    Aes128Cmac,
}

impl AoTable {
    fn read(&self, reader: &mut Reader<'_>) -> Result<AoKey, Wrong> {
        let key = match (&self.key, &self.key_file) {
            (Some(_), Some(path)) => {
                let reason = "key and key-file: only one is allowed";
                return Err(Wrong::new(path.span().start, reason));
            }
            (text, path) => reader.secret(text.as_ref(), path.as_ref())?,
        };
        let at = self.id.span().start;
        let key = key.ok_or_else(|| Wrong::new(at, "missing field `key` (or `key-file`)"))?;
        let id = *self.id.get_ref();
        Ok(AoKey {
            key,
            send_id: id,
            receive_id: self.receive_id.unwrap_or(id),
            algorithm: match self.algorithm {
                AoAlgorithmField::HmacSha1 => AoAlgorithm::HmacSha1,
                AoAlgorithmField::Aes128Cmac => AoAlgorithm::Aes128Cmac,
            },
        })
    }
}

impl Reader<'_> {
    /// What is written there, or in the file that is named there.
    fn secret(
        &mut self,
        text: Option<&Spanned<String>>,
        path: Option<&Spanned<PathBuf>>,
    ) -> Result<Option<Password>, Wrong> {
        let (at, secret) = match (text, path) {
            (None, None) => return Ok(None),
            (Some(text), _) => (text.span().start, text.get_ref().clone()),
            (None, Some(path)) => (path.span().start, self.password(path)?),
        };
        let secret = Password::try_from(secret);
        secret
            .map(Some)
            .map_err(|error| Wrong::new(at, error.to_string()))
    }

    /// Reads a password file; its path is relative to the folder of the configuration.
    fn password(&mut self, path: &Spanned<PathBuf>) -> Result<String, Wrong> {
        let folder = self.file.parent().unwrap_or(self.file);
        let file = folder.join(path.get_ref());
        let text = std::fs::read_to_string(&file).map_err(|error| {
            let reason = format!("cannot read {}: {error}", file.display());
            Wrong::new(path.span().start, reason)
        })?;
        self.files.insert(file);
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    }
}

impl ExportField {
    fn read(self) -> Export {
        match self {
            Self::Own => Export::Own,
            Self::All => Export::All,
        }
    }
}

impl NextHopField {
    fn read(self) -> NextHopMode {
        match self {
            Self::Auto => NextHopMode::Auto,
            Self::Own => NextHopMode::Own,
            Self::Unchanged => NextHopMode::Unchanged,
        }
    }
}

impl PrivateAsField {
    fn read(self) -> PrivateAs {
        match self {
            Self::Keep => PrivateAs::Keep,
            Self::Remove => PrivateAs::Remove,
            Self::Replace => PrivateAs::Replace,
        }
    }
}

impl LocalAsTable {
    fn read(self) -> LocalAs {
        let Self { asn, hide_real } = self;
        let real = if hide_real {
            OldAs::Hidden
        } else {
            OldAs::Shown
        };
        LocalAs { asn: asn.0, real }
    }
}

impl RestartTable {
    fn read(self, usual: RestartSettings) -> Result<RestartSettings, Wrong> {
        let Self {
            enabled,
            time,
            notification,
            long_lived,
        } = self;
        if let Some(time) = &time
            && !(1..=4095).contains(time.get_ref())
        {
            let reason = "a restart time is 1 to 4095 seconds";
            return Err(Wrong::new(time.span().start, reason));
        }
        if let Some(long) = &long_lived
            && *long.get_ref() >= 1 << 24
        {
            let reason = "stale routes are kept for at most 16777215 seconds";
            return Err(Wrong::new(long.span().start, reason));
        }
        Ok(RestartSettings {
            graceful: switch(enabled, usual.graceful),
            time: time.map_or(usual.time, Spanned::into_inner),
            notification: switch(notification, usual.notification),
            long_lived: long_lived.map(|seconds| Duration::from_secs(seconds.into_inner().into())),
        })
    }
}

impl LimitTable {
    fn read(self) -> Result<PrefixLimit, Wrong> {
        let Self {
            max,
            warn_percent,
            action,
            restart_after,
        } = self;
        if !(1..=100).contains(warn_percent.get_ref()) {
            let reason = "1 to 100 percent are allowed";
            return Err(Wrong::new(warn_percent.span().start, reason));
        }
        let restart = restart_after.map(|seconds| Duration::from_secs(seconds.into()));
        Ok(PrefixLimit {
            max,
            warn_percent: warn_percent.into_inner(),
            action: match action {
                LimitField::Warn => LimitAction::Warn,
                LimitField::Block => LimitAction::Block,
                LimitField::TearDown => LimitAction::TearDown { restart },
            },
        })
    }
}
