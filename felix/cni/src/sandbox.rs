//! The pod's network namespace.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use margay_cni::error::Code;
use margay_cni::{Refusal, Request};
use margay_netlink::{Batch, Connection, LinkRef};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

/// An opened namespace and a route-netlink socket inside it.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pub(crate) namespace: File,
    pub(crate) netlink: OwnedFd,
}

/// Opens the request's namespace and **enters it for good**: call this when nothing else of the host's network is
/// needed. (Paths, and so felix' socket, do not depend on the network namespace.)
pub(crate) fn enter(request: &Request) -> Result<Option<Sandbox>, Refusal> {
    match &request.namespace {
        Some(path) => open(path).map(Some),
        None => Ok(None),
    }
}

fn open(path: &Path) -> Result<Sandbox, Refusal> {
    let shown = path.display();
    let refused = |code, what: &str, why: String| {
        Refusal::new(code, format!("{what} the network namespace {shown}")).with(why)
    };
    let namespace = File::open(path).map_err(|error| {
        let code = if error.kind() == std::io::ErrorKind::NotFound {
            Code::UnknownContainer
        } else {
            Code::Io
        };
        refused(code, "cannot open", error.to_string())
    })?;
    let identity = |file: std::io::Result<std::fs::Metadata>| {
        file.map(|metadata| (metadata.dev(), metadata.ino())).ok()
    };
    let own = identity(std::fs::metadata("/proc/self/ns/net"));
    if own.is_some() && own == identity(namespace.metadata()) {
        return Err(refused(
            Code::InvalidEnvironment,
            "will not touch",
            "it is the node's own: CNI_NETNS must name the sandbox's".to_owned(),
        ));
    }
    setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(|errno| {
        let (code, why) = if errno == Errno::EINVAL {
            let why = "CNI_NETNS names something that is no network namespace";
            (Code::InvalidEnvironment, why)
        } else if errno == Errno::EPERM {
            let why = "not permitted: the plugin must run as root with CAP_SYS_ADMIN";
            (Code::Io, why)
        } else {
            (Code::Io, errno.desc())
        };
        refused(code, "cannot enter", why.to_owned())
    })?;
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )
    .map_err(|errno| refused(Code::Io, "cannot open a socket in", errno.desc().to_owned()))?;
    Ok(Sandbox { namespace, netlink })
}

impl Sandbox {
    /// Deletes the pod's end of its link, and so the whole pair.
    pub(crate) fn delete_link(&self, interface: &str) -> Result<(), String> {
        let words = |error: margay_netlink::Error| error.to_string();
        let netlink = self
            .netlink
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| error.to_string())?;
        let mut connection = Connection::adopt(netlink).map_err(words)?;
        let mut batch = Batch::new();
        batch.delete_link(&LinkRef::Name(interface.to_owned()));
        connection.run(batch).map(drop).map_err(words)
    }
}
