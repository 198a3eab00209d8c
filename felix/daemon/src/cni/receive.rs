//! Reading a call and its descriptors.

use std::io::{IoSliceMut, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use margay_cni::Refusal;
use margay_cni::error::Code;
use margay_cni::wire::{Call, LONGEST_CALL};
use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use crate::sys;

/// How long a caller may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(5);

/// What comes with ADD and CHECK. Closed when dropped: no namespace is held longer than its call.
#[derive(Debug)]
pub(crate) struct Descriptors {
    /// The sandbox's network namespace.
    pub(crate) namespace: OwnedFd,
    /// A route-netlink socket opened inside it.
    pub(crate) netlink: OwnedFd,
}

/// Reads until the caller closes its direction.
pub(crate) fn receive(stream: &mut UnixStream) -> Result<(Call, Option<Descriptors>), Refusal> {
    let failed = |error: std::io::Error| {
        Refusal::new(Code::Io, "the call cannot be read").with(error.to_string())
    };
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
    let mut octets = vec![0; 16 * 1024];
    let (length, descriptors) = first(stream, &mut octets).map_err(failed)?;
    octets.truncate(length);
    if length > 0 {
        let left = LONGEST_CALL.saturating_sub(length) as u64 + 1;
        stream.take(left).read_to_end(&mut octets).map_err(failed)?;
    }
    if octets.len() > LONGEST_CALL {
        let what = format!("the call is longer than {LONGEST_CALL} octets");
        return Err(Refusal::new(Code::Decode, what));
    }
    let call = serde_json::from_slice(&octets).map_err(|error| {
        Refusal::new(Code::Decode, "the call is not understood").with(format!(
            "{error}; are plugin and felix of the same version?"
        ))
    })?;
    let mut descriptors = descriptors.into_iter();
    let descriptors = descriptors.next().zip(descriptors.next());
    let descriptors = descriptors.map(|(namespace, netlink)| Descriptors { namespace, netlink });
    Ok((call, descriptors))
}

fn first(stream: &UnixStream, octets: &mut [u8]) -> std::io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = cmsg_space!([RawFd; 2]);
    let mut parts = [IoSliceMut::new(octets)];
    let message = recvmsg::<()>(
        stream.as_raw_fd(),
        &mut parts,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    let mut descriptors = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = control {
            descriptors.extend(sys::received(received));
        }
    }
    Ok((message.bytes, descriptors))
}
