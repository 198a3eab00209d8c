//! The router that is not ours: BIRD 2, its configuration and what it says.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::topology::{BEYOND4, BEYOND6, ROUTER_ASN, ROUTER_ID, Topology, full};

/// What BIRD does about a session that it could dial itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialling {
    /// Both sides dial.
    #[default]
    Both,
    /// Only the node dials.
    Passive,
}

/// Writes the configuration for a topology: one session per node for both families, the external
/// addresses as routes over the host beyond, everything into the kernel.
pub fn config(topology: &Topology, asn: u32, port: u16, dialling: Dialling) -> String {
    let mut text = format!(
        "log stderr all;\nrouter id {ROUTER_ID};\nprotocol device {{ scan time 5; }}\n\
         protocol kernel kernel4 {{ ipv4 {{ import none; export all; }}; merge paths on; }}\n\
         protocol kernel kernel6 {{ ipv6 {{ import none; export all; }}; merge paths on; }}\n",
    );
    for (family, host) in [
        ("ipv4", IpAddr::from(BEYOND4.1)),
        ("ipv6", IpAddr::from(BEYOND6.1)),
    ] {
        let _ = writeln!(text, "protocol static external_{family} {{\n  {family};");
        for address in topology
            .externals
            .iter()
            .filter(|address| address.is_ipv4() == host.is_ipv4())
        {
            let _ = writeln!(text, "  route {address}/{} via {host};", full(*address));
        }
        text.push_str("}\n");
    }
    for (node, number) in topology.nodes.iter().zip(1..) {
        let Some((session, local)) = node
            .addresses
            .first()
            .and_then(|a| Some((a, topology.router_for(*a)?)))
        else {
            continue;
        };
        let passive = if dialling == Dialling::Passive {
            "  passive on;\n"
        } else {
            ""
        };
        let _ = writeln!(
            text,
            "protocol bgp node{number} {{\n  description \"{}\";\n  local {local} as {ROUTER_ASN};\n  \
             neighbor {session} port {port} as {asn};\n{passive}  connect delay time 1;\n  connect retry time 2;\n  \
             error wait time 1, 2;\n  error forget time 1;\n  hold time 9;",
            node.name
        );
        for (family, of_family) in [
            ("ipv4", IpAddr::is_ipv4 as fn(&IpAddr) -> bool),
            ("ipv6", IpAddr::is_ipv6),
        ] {
            if let Some(hop) = node
                .addresses
                .iter()
                .find(|a| of_family(a))
                .and_then(|a| topology.router_for(*a))
            {
                let _ = writeln!(
                    text,
                    "  {family} {{ import all; export where source = RTS_STATIC; next hop address {hop}; }};"
                );
            }
        }
        text.push_str("}\n");
    }
    text
}

/// The command that runs BIRD in the foreground with its files in `folder`.
pub fn command(folder: &Path) -> Command {
    let mut command = Command::new("/usr/sbin/bird");
    command
        .arg("-f")
        .arg("-c")
        .arg(folder.join("bird.conf"))
        .arg("-s")
        .arg(folder.join("bird.ctl"));
    command
}

/// Asks the BIRD whose socket is in `folder`.
///
/// # Errors
/// If it does not answer.
pub fn ask(folder: &Path, command: &str) -> Result<String> {
    let output = Command::new("/usr/sbin/birdc")
        .arg("-s")
        .arg(folder.join("bird.ctl"))
        .args(command.split(' '))
        .output()
        .context("no birdc: install the package bird2")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // To ask for a route that is not there is no failure.
    if !output.status.success() && !text.contains("Network not found") {
        bail!(
            "birdc {command}: {}{text}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(text)
}
