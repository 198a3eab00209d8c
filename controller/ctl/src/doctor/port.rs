//! The port of BGP: who listens on it, and whether peers can be dialled.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use margay_sync::status::{NodeStatus, PeerStatus};

use super::finding::{Finding, failure, warning};
use super::proc;

/// How long a peer may take to answer a dial.
const PATIENCE: Duration = Duration::from_secs(2);
/// Peers that are dialled at most; with more down than that, the first tell enough.
const DIALS: usize = 8;

/// Who listens on the port.
#[derive(Debug)]
enum Listener {
    Nobody,
    /// A process by name and number.
    Process(String, u32),
    /// Somebody whom only root can see.
    Hidden,
}

pub(super) fn examine(status: Option<&NodeStatus>, port: u16) -> Vec<Finding> {
    let mut inodes = listening(&proc::net("tcp"), port);
    inodes.extend(listening(&proc::net("tcp6"), port));
    let mut findings: Vec<Finding> = judge(
        &owner(&inodes),
        status.is_some_and(|status| !status.peers.is_empty()),
        port,
    )
    .into_iter()
    .collect();
    let down = status
        .iter()
        .flat_map(|status| &status.peers)
        .filter(|(_, peer)| peer.state != "Established");
    for (name, peer) in down.take(DIALS) {
        let dialled = dial(SocketAddr::new(peer.address, port));
        findings.push(judge_peer(name, peer, port, dialled));
    }
    findings
}

fn judge(listener: &Listener, has_peers: bool, port: u16) -> Option<Finding> {
    match listener {
        // The kernel cuts names to 15 letters; ours are shorter.
        Listener::Process(name, _) if name.starts_with("margay-") => None,
        Listener::Process(name, pid) => Some(failure(
            "MGY-D020",
            format!("{name} (pid {pid}) listens on port {port}"),
            "two BGP speakers cannot share a port: felix can dial peers, but peers that dial reach the other one",
            format!("stop {name}, or set `bgp.port` in NetworkConfig to another port"),
        )),
        Listener::Hidden => Some(warning(
            "MGY-D021",
            format!("a process that cannot be seen listens on port {port}"),
            "if it is another BGP speaker than felix, peers that dial reach that one",
            "run `sudo margayctl doctor` on the node",
        )),
        Listener::Nobody if has_peers => Some(failure(
            "MGY-D022",
            format!("nobody listens on port {port}, although felix has peers"),
            "peers that dial are refused",
            format!(
                "look at felix' log: it says why it cannot listen; it needs CAP_NET_BIND_SERVICE for port {port}"
            ),
        )),
        Listener::Nobody => None,
    }
}

fn judge_peer(name: &str, peer: &PeerStatus, port: u16, dialled: Result<(), ErrorKind>) -> Finding {
    let PeerStatus {
        address,
        state,
        reason,
        hint,
        ..
    } = peer;
    let what = |dialled: &str| format!("peer {name} ({address}) is {state}, and {dialled}");
    let why = if reason.is_empty() {
        "no routes are exchanged with it".to_owned()
    } else {
        reason.clone()
    };
    let fix = |fix: String| {
        if hint.is_empty() {
            fix
        } else {
            format!("{fix}; {hint}")
        }
    };
    match dialled {
        Ok(()) => warning(
            "MGY-D023",
            what(&format!("port {port} of it can be reached")),
            why,
            fix(
                "compare AS numbers and addresses on both sides: the network is not to blame"
                    .into(),
            ),
        ),
        Err(ErrorKind::ConnectionRefused) => failure(
            "MGY-D024",
            what(&format!("it refuses port {port}")),
            why,
            fix(format!(
                "start its BGP speaker, or let it listen on {address} port {port}"
            )),
        ),
        Err(ErrorKind::TimedOut | ErrorKind::WouldBlock) => failure(
            "MGY-D025",
            what(&format!("port {port} does not answer")),
            why,
            fix(format!(
                "a firewall between or on one of both drops TCP port {port}, or {address} is away: try ping {address}"
            )),
        ),
        Err(ErrorKind::PermissionDenied) => failure(
            "MGY-D026",
            what("this node's own firewall forbids to dial it"),
            why,
            fix(format!(
                "allow TCP port {port} in the output chain of this node"
            )),
        ),
        Err(other) => failure(
            "MGY-D027",
            what(&format!("cannot be dialled: {other}")),
            why,
            fix(format!(
                "this node needs a route to it: ip route get {address}"
            )),
        ),
    }
}

fn dial(address: SocketAddr) -> Result<(), ErrorKind> {
    TcpStream::connect_timeout(&address, PATIENCE)
        .map(drop)
        .map_err(|error| error.kind())
}

/// Inodes of sockets in state LISTEN (0A) on the port, from `/proc/net/tcp` or `tcp6`.
fn listening(table: &str, port: u16) -> Vec<u64> {
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let local = u16::from_str_radix(fields.get(1)?.rsplit_once(':')?.1, 16).ok()?;
        let listens = *fields.get(3)? == "0A" && local == port;
        listens.then_some(fields.get(9)?.parse().ok()?)
    };
    table.lines().skip(1).filter_map(parse).collect()
}

fn owner(inodes: &[u64]) -> Listener {
    if inodes.is_empty() {
        return Listener::Nobody;
    }
    let names: Vec<String> = inodes
        .iter()
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    for (pid, name) in proc::processes() {
        let files = fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten()
            .flatten();
        let mut links = files.filter_map(|file| fs::read_link(file.path()).ok());
        if links.any(|link| {
            link.to_str()
                .is_some_and(|link| names.iter().any(|name| name == link))
        }) {
            return Listener::Process(name, pid);
        }
    }
    Listener::Hidden
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_on_the_port_are_found() {
        let table = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:00B3 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0
   1: 0100007F:00B3 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0
   2: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0 100 0 0 10 0
";
        assert_eq!(listening(table, 179), [4711]);
        assert_eq!(listening(table, 22), [4713]);
        assert_eq!(listening("", 179), [0; 0]);
    }

    #[test]
    fn only_another_speaker_or_a_deaf_felix_is_a_finding() {
        let id = |listener, peers| judge(&listener, peers, 179).map(|finding| finding.id);
        assert_eq!(id(Listener::Process("margay-felix".into(), 1), true), None);
        assert_eq!(
            id(Listener::Process("bird".into(), 1), true),
            Some("MGY-D020")
        );
        assert_eq!(id(Listener::Hidden, true), Some("MGY-D021"));
        assert_eq!(id(Listener::Nobody, true), Some("MGY-D022"));
        assert_eq!(id(Listener::Nobody, false), None);
    }
}
