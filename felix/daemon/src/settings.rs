//! The command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use margay_policy::model::NodeName;

use crate::nft::Ownership;

/// The node agent of Margay: pods' links and addresses, policy, routes and BGP of one node.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "margay-felix", version)]
pub struct Args {
    /// Name of this node, as in its Node object.
    #[arg(long, env = "MARGAY_NODE")]
    pub node: String,
    /// Where the controller listens: host and port, or an address alone, with the usual port.
    #[arg(long, value_name = "ADDR[:PORT]", env = "MARGAY_CONTROLLER", value_parser = authority)]
    pub controller: String,
    /// The certificate authority of the controller (PEM).
    #[arg(long, value_name = "FILE")]
    pub ca: PathBuf,
    /// File with this node's token; read again for every connection.
    #[arg(long, value_name = "FILE")]
    pub token_file: PathBuf,
    /// Folder for what outlives a restart.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/margay")]
    pub state: PathBuf,
    /// Folder for our sockets.
    #[arg(long, value_name = "DIR", default_value = "/run/margay")]
    pub run: PathBuf,
    /// Where to serve /livez, /readyz and /metrics.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9099")]
    pub health: SocketAddr,
    /// Network configuration to write for the container runtime once we serve CNI [default: none is written].
    #[arg(long, value_name = "FILE")]
    pub cni_config: Option<PathBuf>,
    /// Whether to keep others out of the nf_tables table, or to let them change it and repair it.
    #[arg(long, value_name = "WHOSE", value_enum, default_value_t = Ownership::Exclusive)]
    pub table: Ownership,
}

/// The controller's port unless another is given.
const PORT: u16 = 9470;

/// `HOST:PORT`, as a URI has it. Kubernetes gives an IPv6 address without brackets.
fn authority(text: &str) -> Result<String, String> {
    if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, PORT).to_string());
    }
    let (host, port) = text
        .rsplit_once(':')
        .ok_or("write ADDR, ADDR:PORT or [ADDR]:PORT")?;
    if host.contains(':') && !host.starts_with('[') {
        return Err("write an IPv6 address with a port as [ADDR]:PORT".to_owned());
    }
    let _: u16 = port
        .parse()
        .map_err(|_| format!("`{port}` is no port: write a number up to 65535"))?;
    Ok(text.to_owned())
}

impl Args {
    /// The node's name as a type of its own.
    pub(crate) fn node(&self) -> NodeName {
        NodeName(self.node.clone())
    }
}

#[cfg(test)]
mod tests;
