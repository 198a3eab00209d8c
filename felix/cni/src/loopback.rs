//! The `loopback` plugin: what containerd before 2.0 calls for every sandbox beside the network's own plugin.
//!
//! It is installed where nobody else has put one; by that name this program does just this.

use std::ffi::OsStr;
use std::path::Path;

use margay_cni::error::Code;
use margay_cni::result::{Attached, Interface, Ip};
use margay_cni::{Refusal, Request, Verb, Version};
use margay_netlink::{Batch, Connection, LinkRef};
use serde_json::{Value, json};

use crate::sandbox;

/// The name that it is called by.
pub(crate) const NAME: &str = "loopback";
const LINK: &str = "lo";

/// Whether the program was called as this plugin.
pub(crate) fn is_meant(program: Option<&OsStr>) -> bool {
    program.is_some_and(|program| Path::new(program).file_name() == Some(OsStr::new(NAME)))
}

/// Serves one request; the object to print, if there is one.
pub(crate) fn serve(
    environment: impl Fn(&str) -> Option<String>,
    config: &[u8],
) -> Result<Option<Value>, Refusal> {
    // Which pod it is does not matter here, and the link is always the same.
    let environment = |name: &str| match name {
        "CNI_ARGS" => Some("K8S_POD_NAMESPACE=any;K8S_POD_NAME=any".to_owned()),
        "CNI_IFNAME" => Some("any".to_owned()),
        _ => environment(name),
    };
    let request = Request::parse(environment, config)?;
    match request.verb {
        Verb::Add => {
            let sandbox = request
                .namespace
                .as_deref()
                .map(|path| path.display().to_string());
            up(&request)?;
            Ok(Some(
                result(sandbox.unwrap_or_default())
                    .after(request.previous)
                    .render(request.version),
            ))
        }
        Verb::Version => Ok(Some(json!({
            "cniVersion": request.version,
            "supportedVersions": Version::ALL,
        }))),
        // It goes with its namespace, and nobody else touches it.
        Verb::Del | Verb::Check | Verb::Status | Verb::Gc => Ok(None),
    }
}

fn up(request: &Request) -> Result<(), Refusal> {
    let Some(sandbox) = sandbox::enter(request)? else {
        return Ok(());
    };
    let work = || {
        let mut connection = Connection::adopt(sandbox.netlink)?;
        let mut batch = Batch::new();
        batch.set_up(&LinkRef::Name(LINK.to_owned()));
        connection.run(batch).map(drop)
    };
    work().map_err(|error: margay_netlink::Error| {
        Refusal::new(Code::Io, "cannot set the loopback link up").with(error.to_string())
    })
}

/// What the kernel does once the link is up.
fn result(sandbox: String) -> Attached {
    let on_link = |address: &str| Ip {
        address: address.parse().expect("written in full here"),
        gateway: None,
        interface: Some(0),
    };
    Attached {
        interfaces: vec![Interface {
            name: LINK.to_owned(),
            mac: "00:00:00:00:00:00".to_owned(),
            mtu: None,
            sandbox,
        }],
        ips: vec![on_link("127.0.0.1/8"), on_link("::1/128")],
        ..Attached::default()
    }
}

#[cfg(test)]
mod tests;
