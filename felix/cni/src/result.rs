//! What an attachment is, and how each version of the specification writes it.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::error::{Code, Refusal};
use crate::version::Version;

/// An attachment, in no particular version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// Links on both sides.
    pub interfaces: Vec<Interface>,
    /// Addresses.
    pub ips: Vec<Ip>,
    /// Routes in the sandbox.
    pub routes: Vec<Route>,
    /// Passed through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<Value>,
}

/// A link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its hardware address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Largest packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Path of the network namespace that it is in; empty for the host's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
}

/// An address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ip {
    /// With the prefix length that it has on the link.
    pub address: IpNet,
    /// Where packets leave through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Index in [`Attached::interfaces`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
}

/// A route in the sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Its destination.
    pub dst: IpNet,
    /// Its next hop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
}

/// Reads a result of any version.
///
/// # Errors
/// [`Code::Decode`] if it has not the form of one.
pub fn parse(value: Value) -> Result<Attached, Refusal> {
    /// A result as it is written; lists may be absent or null.
    #[derive(Deserialize)]
    struct Written {
        #[serde(default)]
        interfaces: Option<Vec<Interface>>,
        #[serde(default)]
        ips: Option<Vec<Ip>>,
        #[serde(default)]
        routes: Option<Vec<Route>>,
        #[serde(default)]
        dns: Option<Value>,
    }
    let Written {
        interfaces,
        ips,
        routes,
        dns,
    } = serde_json::from_value(value).map_err(|error| {
        Refusal::new(Code::Decode, "prevResult has not the form of a result")
            .with(error.to_string())
    })?;
    Ok(Attached {
        interfaces: interfaces.unwrap_or_default(),
        ips: ips.unwrap_or_default(),
        routes: routes.unwrap_or_default(),
        dns,
    })
}

impl Attached {
    /// This attachment after those of the plugins before in the chain.
    #[must_use]
    pub fn after(self, previous: Option<Self>) -> Self {
        let Some(mut all) = previous else {
            return self;
        };
        let offset = all.interfaces.len();
        all.interfaces.extend(self.interfaces);
        all.ips.extend(self.ips.into_iter().map(|ip| Ip {
            interface: ip.interface.map(|index| index + offset),
            ..ip
        }));
        all.routes.extend(self.routes);
        all.dns = self.dns.or(all.dns);
        all
    }

    /// The result object of a version.
    pub fn render(&self, version: Version) -> Value {
        let mut interfaces = json!(self.interfaces);
        let mut ips = json!(self.ips);
        if version < Version::V1_1_0 {
            each(&mut interfaces, |interface| {
                interface.remove("mtu");
            });
        }
        if version < Version::V1_0_0 {
            each(&mut ips, |ip| {
                let six = ip
                    .get("address")
                    .and_then(Value::as_str)
                    .is_some_and(|address| address.contains(':'));
                ip.insert("version".to_owned(), json!(if six { "6" } else { "4" }));
            });
        }
        let mut result = Map::new();
        result.insert("cniVersion".to_owned(), json!(version));
        result.insert("interfaces".to_owned(), interfaces);
        result.insert("ips".to_owned(), ips);
        result.insert("routes".to_owned(), json!(self.routes));
        result.insert(
            "dns".to_owned(),
            self.dns.clone().unwrap_or_else(|| json!({})),
        );
        Value::Object(result)
    }
}

fn each(list: &mut Value, mut change: impl FnMut(&mut Map<String, Value>)) {
    for object in list.as_array_mut().into_iter().flatten() {
        if let Some(object) = object.as_object_mut() {
            change(object);
        }
    }
}

#[cfg(test)]
mod tests;
